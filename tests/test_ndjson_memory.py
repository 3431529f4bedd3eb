"""The memory of a server does not grow with the length of a stream, in or out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import psutil
import pymongo
import pytest

from tests.own_process import program
from tests.streaming import count, downloading, upload

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
FEW = 20_000 if TORTURE > 1 else 2_000
MANY = 10 * FEW
#: The bytes by which the server may grow; ten times as many documents are more than this in any form.
SLACK = 12 * 2**20 if TORTURE == 1 else 30 * 2**20
TEXT = b"x" * 1000


def parts(number: int) -> Iterator[bytes]:
    for start in range(0, number, 100):
        yield b"".join(
            b'{"number": %d, "text": "%s"}\n' % (each, TEXT)
            for each in range(start, min(start + 100, number))
        )


async def highest(process: psutil.Process, work: Any) -> int:
    """Return the most memory that the process has while somebody works."""
    task, most = asyncio.ensure_future(work), 0
    while not task.done():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.02)
    await task
    return most


async def fill(port: int, number: int) -> None:
    (end,) = await upload(port, "/grain", parts(number))
    assert end["summary"]["succeeded"] == number


async def drain(port: int, number: int) -> None:
    async with downloading(port, "/grain") as answer:
        assert await count(answer.lines()) == number


@pytest.mark.timeout(120 * TORTURE)
async def test_memory_stays_flat(mongo_url: str, database: str) -> None:
    blocking: Any = pymongo.MongoClient(mongo_url)
    async with program("ndjson_server", mongo_url, database) as (started, client):
        port, process = client.port, psutil.Process(started.pid)
        few_in = await highest(process, fill(port, FEW))
        few_out = await highest(process, drain(port, FEW))
        blocking[database].grain.delete_many({})
        many_in = await highest(process, fill(port, MANY))
        many_out = await highest(process, drain(port, MANY))
    blocking.close()
    sizes = {"in": (few_in, many_in), "out": (few_out, many_out)}
    for few, many in sizes.values():
        assert many < few + SLACK, sizes
    print({way: [round(each / 2**20, 1) for each in pair] for way, pair in sizes.items()})
