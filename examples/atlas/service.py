"""The API of the atlas, and the process that serves it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mongoengine import connect
from rich.console import Console

import bzz
from bzz.embedded import EmbeddedMongo
from bzz.errors import EmbeddedServerError
from bzz.signals import server_ready
from examples.atlas.changes import print_changes
from examples.atlas.data import load
from examples.atlas.models import City, Country

__all__ = ["api", "main"]

RIO_DE_JANEIRO = 3451190

api = bzz.Api(title="Atlas")
api.add(Country, per_page=50)
# There are many: all of them can be read and sent in one go, and changed by a filter.
api.add(City, bulk={"PATCH", "DELETE"}, ndjson=True)


def main() -> None:
    """Find or start MongoDB, load the data if need be, and serve until told to stop.

    ``PORT`` is the port, 8888 unless set. ``MONGO_URL`` names a MongoDB to use; without it one is started
    here, whose data is kept in ``.bzz/atlas`` below the current folder.
    """
    console = Console(highlight=False)
    port = int(os.environ.get("PORT") or 8888)
    try:
        with mongodb(console) as url:
            connect("atlas", host=url, uuidRepresentation="standard")
            run(console, port)
    except EmbeddedServerError as error:
        sys.exit(error.detail)
    except OSError as error:
        sys.exit(f"{error.strerror or error}\nAnother port: make serve PORT={port + 1}")


@contextmanager
def mongodb(console: Console) -> Iterator[str]:
    """Give the URL of the MongoDB that was named, or of one that lives as long as the block."""
    if url := os.environ.get("MONGO_URL"):
        yield url
        return
    with console.status("Starting MongoDB ..."):
        server = EmbeddedMongo(data=Path(".bzz/atlas"))
        server.start()
    with server:
        yield server.url


def run(console: Console, port: int) -> None:
    """Load what is missing, connect the receivers and serve."""
    if load(console):
        console.print(f"Loaded {Country.objects.count()} countries and {City.objects.count()} cities.")
    print_changes(console)

    @server_ready.connect
    def say_what_to_try() -> None:
        console.print(invitation(port), markup=False, soft_wrap=True)

    bzz.serve(api, port=port)


def invitation(port: int) -> str:
    """Write three commands that work on the data as it is now."""
    here = f"http://localhost:{port}"
    cities = City.objects.as_pymongo()
    city = cities.filter(geonameid=RIO_DE_JANEIRO).first() or cities.order_by("-population").first()
    if city is None:
        return f"\nServing on {here}. There is no city left; remove .bzz to have them all again.\n"
    more = city.get("population", 0) + 1
    return f"""
Serving the atlas on {here}. Try, in another terminal:

  curl '{here}/city?country={city["country"]}&population__gte=1000000&per_page=3'
  curl -X PUT {here}/city/{city["_id"]} -H 'Content-Type: application/json' -d '{{"population": {more}}}'
  curl {here}/city/{city["_id"]}

The second one changes something: look here for the diff. All that there is: {here}/docs
Ctrl-C stops everything.
"""
