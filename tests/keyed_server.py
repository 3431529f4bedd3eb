"""A server to be killed, whose requests come with an ``Idempotency-Key``: it notes what it told of.

``python -m tests.keyed_server MONGO_URL DATABASE NOTES`` prints the port that it serves on.
"""

from __future__ import annotations

import asyncio
import os
import sys

import mongoengine

import bzz
from bzz.resource.idempotency import Idempotency
from tests.own_process import serve_noting


class Coin(mongoengine.Document):
    """Nothing keeps two of them from being equal."""

    name = mongoengine.StringField()
    count = mongoengine.IntField(default=0)
    marks = mongoengine.ListField(mongoengine.StringField())


def make_api(notes: int) -> bzz.Api:
    """An Api with coins; ``notes`` is a file descriptor, written to without any buffer."""
    api = bzz.Api(idempotency=Idempotency(timeout=2.5, wait=20.0))
    coins = api.add(Coin, retry_seconds=60)

    @coins.on_pre_create_instance
    async def linger() -> None:
        await asyncio.sleep(0.002)  # so that there is a middle to be killed in

    @coins.on_post_create_instance
    @coins.on_post_update_instance
    def note(instance: Coin, signal: object) -> None:
        os.write(notes, f"{instance.name}\n".encode())

    return api


if __name__ == "__main__":
    asyncio.run(serve_noting(make_api, *sys.argv[1:]))
