"""The same list, asked for by several at the same time, is read once, and nobody gets an old one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import mongoengine
import pytest

from bzz.errors import StorageError, StorageTimeoutError, ValidationError
from bzz.storage import Store
from bzz.storage.sharing import Shared
from tests.storage_drivers import Commands, explicit_client


class Stall(mongoengine.DynamicDocument):
    pass


class Watched:
    """A store whose commands are noted, and can be made to fail."""

    def __init__(self, store: Store, client: Any, commands: Commands, name: str) -> None:
        self.store, self.client, self.commands, self.name = store, client, commands, name

    async def fail(self, times: int = 1, **how: Any) -> None:
        data = {"failCommands": ["find"], "appName": self.name, **how}
        point = {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
        await self.client.admin.command(point)
        self.commands.take()

    def finds(self) -> list[dict[str, Any]]:
        return [command for name, command in self.commands.take() if name == "find"]

    async def ask(self, **more: Any) -> Shared:
        asked = {"filter": {}, "limit": 50, "sort": [("_id", 1)], "shared": True, **more}
        found = await self.store.find(**asked)
        assert isinstance(found, Shared)
        return found


@pytest.fixture(params=["pymongo", "motor-asyncio"])
async def watched(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Watched]:
    commands, name = Commands(), f"bzz-{uuid.uuid4().hex}"
    options = {"event_listeners": [commands], "appname": name}
    async with explicit_client(request.param, mongo_url, **options) as client:
        store = Store(Stall, client=client)
        await asyncio.to_thread(Stall._get_collection().insert_many, [{"_id": n} for n in range(10)])
        await store.prepare()
        await store.ping()
        commands.take()
        yield Watched(store, client, commands, name)


def keys(found: list[dict[str, Any]]) -> list[Any]:
    return [each["_id"] for each in found]


async def test_who_asks_the_same_gets_the_same(watched: Watched) -> None:
    found = await asyncio.gather(*(watched.ask() for _ in range(30)))
    assert [keys(each) for each in found] == [list(range(10))] * 30
    assert len(watched.finds()) == 2  # the first alone, all others together
    first, second, *others = found
    assert first is not second
    assert all(each is second for each in others)
    assert watched.store._current().lists._lanes == {}


async def test_who_asks_alone_sends_the_command_it_always_was(watched: Watched) -> None:
    await watched.ask()
    shared = watched.finds()
    await watched.store.find({}, limit=50, sort=[("_id", 1)])
    alone = watched.finds()
    for each in (*shared, *alone):
        del each["lsid"], each["$clusterTime"]
        assert each.pop("maxTimeMS") > 0  # what is left of the time, with Motor
    assert shared == alone
    assert not watched.store._current().lists._lanes


@pytest.mark.parametrize(
    "other",
    [
        {"filter": {"_id": {"$gt": 4}}},
        {"limit": 49},
        {"skip": 1},
        {"sort": [("_id", -1)]},
        {"sort": None},
        {"projection": ["_id"]},
    ],
)
async def test_who_asks_something_else_is_not_kept_waiting(watched: Watched, other: dict[str, Any]) -> None:
    await watched.fail(blockConnection=True, blockTimeMS=600)
    slow = asyncio.create_task(watched.ask())
    while not watched.commands.sent:
        await asyncio.sleep(0.001)
    await watched.ask(**other)
    assert not slow.done()
    assert len(watched.finds()) == 2
    await slow


async def test_nobody_joins_what_was_sent_already(watched: Watched) -> None:
    await watched.fail(blockConnection=True, blockTimeMS=300)
    early = asyncio.create_task(watched.ask())
    while not watched.commands.sent:
        await asyncio.sleep(0.001)
    await watched.store.insert({"_id": 10})
    late = await asyncio.gather(*(watched.ask() for _ in range(9)))
    assert [keys(each) for each in late] == [list(range(11))] * 9
    await early


async def test_a_session_shares_with_nobody(watched: Watched) -> None:
    async def within(session: Any) -> list[Any]:
        await watched.store.insert({"_id": 10}, session=session)
        inside = watched.store.find({}, limit=50, session=session, shared=True)
        return keys(await inside), *map(keys, await asyncio.gather(*(watched.ask() for _ in range(5))))

    inside, *outside = await watched.store.run_in_transaction(within, 5)
    assert sorted(inside) == list(range(11))
    assert outside == [list(range(10))] * 5


async def test_each_gets_an_error_of_its_own(watched: Watched) -> None:
    await watched.fail(2, errorCode=2)
    results = await asyncio.gather(*(watched.ask() for _ in range(9)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageError}
    assert len({id(each) for each in results}) == 9
    assert len({type(each.__cause__) for each in results if isinstance(each, StorageError)}) == 1
    assert len(await watched.ask()) == 10


async def test_what_cannot_be_sent_concerns_only_itself(watched: Watched) -> None:
    asked = [watched.ask(filter={"n": 2**70}) if n % 3 == 0 else watched.ask() for n in range(9)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(each, ValidationError) for each in results] == [True, False, False] * 3


async def test_who_is_cancelled_leaves_the_others_alone(watched: Watched) -> None:
    await watched.fail(blockConnection=True, blockTimeMS=100)
    first, *others = [asyncio.create_task(watched.ask()) for _ in range(20)]
    while not watched.commands.sent:
        await asyncio.sleep(0.001)
    first.cancel()
    for each in others[::2]:
        each.cancel()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(each) for each in results[1:]] == [asyncio.CancelledError, Shared] * 9 + [
        asyncio.CancelledError
    ]
    assert watched.store._current().lists._lanes == {}


async def test_who_waits_too_long_is_told_so(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bzz.storage.sharing.SLOW_LIST", 60)
    watched.store = Store(Stall, client=watched.client, timeout=0.3)
    await watched.fail(2, blockConnection=True, blockTimeMS=900)
    results = await asyncio.gather(*(watched.ask() for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageTimeoutError}
