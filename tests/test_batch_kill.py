"""kill -9 in the middle of an atomic batch: all of it is stored or nothing, and nothing else was told."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pymongo
import pytest
from tornado.httpclient import HTTPClientError

from tests.batch_server import Widget
from tests.own_process import program
from tests.serving import Answer, Client
from tests.test_batch_atomic import end_transactions

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
ROUNDS = 4 if TORTURE == 1 else 20
SIZE = 1000


def batch_of(run: str) -> dict[str, Any]:
    """Half of the operations create, the other half change what those created."""
    keys = [f"{run}-{number}" for number in range(SIZE // 2)]
    creating = [{"method": "POST", "path": "/widget", "body": {"key": key, "run": run}} for key in keys]
    changing = [
        {"method": "PUT", "path": f"/widget/{key}", "body": {"run": run, "number": 1}} for key in keys
    ]
    return {"name": run, "atomic": True, "operations": creating + changing}


async def send(client: Client, run: str) -> Answer:
    return await client.post("/batch", json=batch_of(run))


def stored(blocking: Any, database: str, run: str) -> Counter[int]:
    """How many widgets have which number, all at one moment: a commit is seen as a whole or not at all."""
    with blocking.start_session(snapshot=True) as session:
        found = blocking[database].widget.find({"run": run}, session=session)
        return Counter(each["number"] for each in found)


@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_all_or_nothing_whenever_it_is_killed(mongo_url: str, database: str, tmp_path: Path) -> None:
    blocking: Any = pymongo.MongoClient(mongo_url)
    notes = tmp_path / "notes"
    await asyncio.to_thread(Widget.ensure_indexes)
    everything = Counter({1: SIZE // 2})
    killed: dict[str, float] = {}
    try:
        async with program("batch_server", mongo_url, database, str(notes)) as (_process, client):
            await send(client, "warm")
            started = time.monotonic()
            assert (await send(client, "whole")).status == 200
            takes = time.monotonic() - started
        assert stored(blocking, database, "whole") == everything
        assert Counter(notes.read_text().split())["whole"] == 2 * SIZE
        for number in range(ROUNDS):
            run = f"run{number}"
            async with program("batch_server", mongo_url, database, str(notes)) as (process, client):
                request = asyncio.ensure_future(send(client, run))
                # A moment near the beginning, then one in each part of the time it takes, and a bit later.
                part = 0.05 if number == 0 else 1.3 * (number - random.random()) / (ROUNDS - 1)
                killed[run] = takes * part
                await asyncio.wait([request], timeout=killed[run])
                process.kill()
                await asyncio.wait([request])
                assert request.exception() is None or isinstance(
                    request.exception(), (HTTPClientError, OSError)
                )
            told = Counter(notes.read_text().split())[run]
            found = stored(blocking, database, run)
            assert found in (Counter(), everything), (killed, found)
            assert not told or found == everything, (killed, told)
        # Whatever was on its way to MongoDB when its sender died has arrived by now.
        ends = [stored(blocking, database, run) for run in killed]
        assert all(found in (Counter(), everything) for found in ends), (killed, ends)
        assert Counter() in ends, f"no kill came in the middle of the work: {killed}"
    finally:
        end_transactions(blocking, database)
        blocking.close()
