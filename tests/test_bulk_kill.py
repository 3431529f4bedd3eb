"""kill -9 in the middle of a strict bulk: all of it is stored or nothing, and nothing else was told."""

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
from tests.test_batch_kill import stored

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
ROUNDS = 3 if TORTURE == 1 else 20
SIZE = 2000


async def create(client: Client, run: str) -> Answer:
    bodies = [{"key": f"{run}-{number}", "run": run, "number": 0} for number in range(SIZE)]
    return await client.post("/widget", json=bodies, headers={"Prefer": "return=minimal"})


async def change(client: Client, run: str) -> Answer:
    headers = {"Prefer": f"return=minimal, max-affected={SIZE}"}
    return await client.request(
        "PATCH", f"/widget?run={run}", json={"run": run, "number": 1}, headers=headers
    )


async def remove(client: Client, run: str) -> Answer:
    headers = {"Prefer": f"return=minimal, max-affected={SIZE}"}
    return await client.request("DELETE", f"/widget?run={run}", headers=headers)


@pytest.mark.timeout(60 + 40 * ROUNDS)
@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (create, Counter(), Counter({0: SIZE})),
        (change, Counter({0: SIZE}), Counter({1: SIZE})),
        (remove, Counter({0: SIZE}), Counter()),
    ],
)
async def test_all_or_nothing_whenever_it_is_killed(
    step: Any, before: Any, after: Any, mongo_url: str, database: str, tmp_path: Path
) -> None:
    blocking: Any = pymongo.MongoClient(mongo_url)
    notes = tmp_path / "notes"
    await asyncio.to_thread(Widget.ensure_indexes)
    killed: dict[str, float] = {}

    async def prepare(client: Client, run: str) -> int:
        if before:
            assert (await create(client, run)).status == 201
        return Counter(notes.read_text().split())[run]

    try:
        async with program("batch_server", mongo_url, database, str(notes)) as (_process, client):
            await prepare(client, "warm")
            await step(client, "warm")
            await prepare(client, "whole")
            started = time.monotonic()
            assert (await step(client, "whole")).status in {200, 201}
            takes = time.monotonic() - started
        assert stored(blocking, database, "whole") == after
        for number in range(ROUNDS):
            run = f"run{number}"
            async with program("batch_server", mongo_url, database, str(notes)) as (process, client):
                known = await prepare(client, run)
                request = asyncio.ensure_future(step(client, run))
                # A moment near the beginning, then one in each part of the time it takes, and a bit later.
                part = 0.05 if number == 0 else 1.2 * (number - random.random()) / (ROUNDS - 1)
                killed[run] = takes * part
                await asyncio.wait([request], timeout=killed[run])
                process.kill()
                await asyncio.wait([request])
                assert request.exception() is None or isinstance(
                    request.exception(), (HTTPClientError, OSError)
                )
            told = Counter(notes.read_text().split())[run] - known
            found = stored(blocking, database, run)
            assert found in (before, after), (killed, found)
            assert not told or found == after, (killed, told)
        # Whatever was on its way to MongoDB when its sender died has arrived by now.
        ends = [stored(blocking, database, run) for run in killed]
        assert all(found in (before, after) for found in ends), (killed, ends)
        assert before in ends, f"no kill came in the middle of the work: {killed}"
    finally:
        end_transactions(blocking, database)
        blocking.close()
