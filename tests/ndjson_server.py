"""A server whose memory is looked at: ``python -m tests.ndjson_server MONGO_URL DATABASE`` prints a port."""

from __future__ import annotations

import asyncio
import sys

import mongoengine as me

import bzz
from bzz.server import Limits, Server
from tests.own_process import connect


class Grain(me.Document):
    number = me.IntField(required=True)
    text = me.StringField()


def make_api() -> bzz.Api:
    """An Api with grains, which are streamed."""
    api = bzz.Api()
    api.add(Grain, ndjson=True)
    return api


async def serve(url: str, database: str) -> None:
    """Serve until killed, with a limit of bodies that no stream is bound by."""
    connect(url, database)
    limits = Limits(max_body_size=100_000)
    async with Server(make_api(), port=0, address="127.0.0.1", limits=limits, access_log=None) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
