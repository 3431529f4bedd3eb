"""What a country and a city are.

Plain mongoengine: nothing here knows bzz.
"""

from __future__ import annotations

from mongoengine import (
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    PointField,
    ReferenceField,
    StringField,
)

__all__ = ["City", "Country", "Currency", "Dataset"]

CONTINENTS = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")


class Currency(EmbeddedDocument):
    """The money of a country, as ISO 4217 names it."""

    code = StringField(required=True, regex=r"^[A-Z]{3}$")
    name = StringField(max_length=50)


class Country(Document):
    """A country; its key is its ISO 3166-1 code of two letters: ``/country/BR``."""

    iso = StringField(primary_key=True, regex=r"^[A-Z]{2}$")
    iso3 = StringField(required=True, unique=True, regex=r"^[A-Z]{3}$")
    name = StringField(required=True, max_length=100)
    continent = StringField(required=True, choices=CONTINENTS)
    capital = StringField(max_length=100)
    area_km2 = IntField(min_value=0)
    population = IntField(min_value=0)
    currency = EmbeddedDocumentField(Currency)
    languages = ListField(StringField(max_length=10))
    neighbours = ListField(ReferenceField("self"))

    meta = {"collection": "countries", "indexes": ["name", "continent", "-population"]}

    def __str__(self) -> str:
        return f"{self.name} ({self.iso})"


class City(Document):
    """A city of more than 15 000 people; its key is GeoNames' number: ``/city/3451190``."""

    geonameid = IntField(primary_key=True, min_value=1)
    name = StringField(required=True, max_length=200)
    country = ReferenceField(Country, required=True)
    admin1_code = StringField(max_length=20)
    location = PointField(required=True)
    population = IntField(min_value=0)
    timezone = StringField(max_length=40)
    alternate_names = ListField(StringField(max_length=400))

    # A PointField makes its own 2dsphere index.
    meta = {
        "collection": "cities",
        "indexes": ["name", ("country", "-population"), "-population", "alternate_names"],
    }

    def __str__(self) -> str:
        return f"{self.name} ({self.geonameid})"


class Dataset(Document):
    """A data set that has been loaded to its end, so that it is not loaded again."""

    name = StringField(primary_key=True)
    loaded_at = DateTimeField(required=True)

    meta = {"collection": "datasets"}
