"""``Idempotency-Key`` with several servers, and with servers that are killed: still nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError

from tests.keyed_server import Coin
from tests.own_process import program
from tests.serving import Answer, Client

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
ROUNDS = 2 * TORTURE
AT_ONCE = 25
JSON_PATCH = "application/json-patch+json"


@asynccontextmanager
async def programs(url: str, database: str, notes: Path) -> AsyncIterator[list[tuple[Any, Client]]]:
    """Two servers of one database, started at the same time."""
    async with AsyncExitStack() as stack:
        starting = [program("keyed_server", url, database, str(notes)) for _ in range(2)]
        yield list(await asyncio.gather(*map(stack.enter_async_context, starting)))


class Request:
    """One request, which is sent until it is answered."""

    def __init__(self, method: str, path: str, key: str, json: Any, content_type: str | None = None) -> None:
        self.given = (method, path)
        self.options = {
            "json": json,
            "content_type": content_type,
            "headers": {"Idempotency-Key": f'"{key}"'},
        }
        self.answers: list[Answer] = []

    async def send(self, client: Client) -> Answer | None:
        try:
            answer = await client.request(*self.given, **self.options)
        except (HTTPClientError, OSError):
            return None
        if answer.status < 400:
            self.answers.append(answer)
        return answer

    async def insist(self, client: Client) -> None:
        """Send it as a client does that follows the rules."""
        ends = time.monotonic() + 100
        while True:
            answer = await self.send(client)
            assert answer is not None
            assert time.monotonic() < ends, f"{self.given} was never done: {answer}"
            if answer.status < 400:
                return
            assert answer.status in {409, 503}, answer
            await asyncio.sleep(int(answer.headers.get("Retry-After", 1)) / 20)

    def is_consistent(self) -> None:
        assert len({(each.status, each.body) for each in self.answers}) == 1, self.answers
        heads = {(each.headers.get("Location"), each.headers.get("ETag")) for each in self.answers}
        assert len(heads) == 1, self.answers


def create(name: str) -> Request:
    return Request("POST", "/coin", name, {"name": name})


@pytest.mark.timeout(120 + 30 * TORTURE)
async def test_two_servers_at_once(mongo_url: str, database: str, tmp_path: Path) -> None:
    notes, rounds = tmp_path / "notes", 200 * TORTURE
    async with programs(mongo_url, database, notes) as ((_one, first), (_other, second)):
        for start in range(0, rounds, 5):
            requests = [create(f"n{number}") for number in range(start, start + 5)]
            await asyncio.gather(*(each.insist(client) for each in requests for client in (first, second)))
            for each in requests:
                each.is_consistent()
                # Both, if the first answer came too late, and its client was sent away.
                assert sum("Idempotent-Replayed" not in answer.headers for answer in each.answers) <= 1
    assert Counter(each.name for each in Coin.objects) == {f"n{number}": 1 for number in range(rounds)}
    assert Counter(notes.read_text().split()) == {f"n{number}": 1 for number in range(rounds)}


@pytest.mark.timeout(120 + 60 * TORTURE)
async def test_whenever_a_server_is_killed(mongo_url: str, database: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    path = f"/coin/{Coin(name='marked').save().pk}"
    cut_off = 0
    for round_ in range(ROUNDS):
        names = [f"{round_}-{number}" for number in range(AT_ONCE)]
        requests = [create(name) for name in names]
        mark = [{"op": "add", "path": "/marks/-", "value": str(round_)}]
        requests.append(Request("PATCH", path, f"mark{round_}", mark, JSON_PATCH))
        async with programs(mongo_url, database, notes) as ((process, client), (_other, next_client)):
            await client.get("/coin")
            sent = [asyncio.ensure_future(each.send(client)) for each in requests]
            await asyncio.sleep(random.uniform(0.02, 0.35))
            process.kill()
            early = [each for each in await asyncio.gather(*sent) if each is not None]
            cut_off += len(requests) - len(early)
            await asyncio.gather(*(each.insist(next_client) for each in requests))
            await asyncio.gather(*(each.insist(next_client) for each in requests))
        for each in requests:
            each.is_consistent()
        assert Counter(each.name for each in Coin.objects(name__startswith=f"{round_}-")) == Counter(names)
        told = Counter(notes.read_text().split())
        assert all(told[name] <= 1 for name in names), told
        # What a client knew of before the kill was answered after everybody had been told.
        assert all(told[each.json["name"]] == 1 for each in early if each.status == 201)
        assert Coin.objects.get(name="marked").marks == [str(each) for each in range(round_ + 1)]
    assert cut_off, "no kill came in the middle of the work"


def batch(run: str, *, atomic: bool) -> tuple[list[str], Request]:
    names = [f"{run}-{number}" for number in range(40)]
    plan = [{"method": "POST", "path": "/coin", "body": {"name": name}} for name in names]
    return names, Request("POST", "/batch", run, {"operations": plan, "atomic": atomic, "timeout": 5})


def coins(run: str) -> list[Coin]:
    return list(Coin.objects(name__startswith=f"{run}-").order_by("_id"))


@pytest.mark.timeout(120 + 60 * TORTURE)
async def test_a_batch_goes_on_where_it_was(mongo_url: str, database: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    for round_ in range(TORTURE):
        batches = {run: batch(f"{run}{round_}", atomic=run == "all") for run in ("all", "each")}
        async with programs(mongo_url, database, notes) as ((process, client), (_other, next_client)):
            await client.get("/coin")
            sent = [asyncio.ensure_future(request.send(client)) for _names, request in batches.values()]
            await asyncio.sleep(random.uniform(0.05, 0.5))
            process.kill()
            await asyncio.gather(*sent)
            # In the order of the plan, and, if it is atomic, all or none of them.
            whole, begun = ([coin.name for coin in coins(f"{run}{round_}")] for run in ("all", "each"))
            assert whole in ([], batches["all"][0])
            assert begun == batches["each"][0][: len(begun)]
            for _ in range(2):
                await asyncio.gather(*(request.insist(next_client) for _names, request in batches.values()))
        told = Counter(notes.read_text().split())
        for run, (names, request) in batches.items():
            request.is_consistent()
            entries = request.answers[0].json["operations"]
            assert [(each["state"], each["body"]["name"]) for each in entries] == [
                ("done", name) for name in names
            ]
            found = {str(each.pk): each.name for each in coins(f"{run}{round_}")}
            assert found == {each["body"]["id"]: each["body"]["name"] for each in entries}
            assert all(told[name] <= 1 for name in names), told
