"""Lists that are asked for at the same time are read together, each gets its own, and nobody an old one."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import bson
import mongoengine
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st

from bzz.errors import StorageError, StorageTimeoutError, StorageUnavailableError, ValidationError
from bzz.storage import Store
from bzz.storage.driver import Driver
from bzz.storage.gather import TOGETHER, Found, ListGatherer, Question
from tests.storage_drivers import Commands, explicit_client

T = TypeVar("T")
TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Stall(mongoengine.DynamicDocument):
    pass


class Watched:
    """A store whose commands are noted, and can be made to fail."""

    def __init__(self, store: Store, client: Any, commands: Commands, name: str) -> None:
        self.store, self.client, self.commands, self.name = store, client, commands, name

    async def fail(self, times: int = 1, commands: Sequence[str] = ("find",), **how: Any) -> None:
        data = {"failCommands": list(commands), "appName": self.name, **how}
        point = {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
        await self.client.admin.command(point)
        self.commands.take()

    def sent(self) -> list[str]:
        return [name for name, _ in self.commands.take()]

    async def ask(self, _filter: Any = None, **more: Any) -> Found:
        asked = {"filter": _filter or {}, "limit": 50, "sort": [("_id", 1)], "skip": 0, **more}
        found = await self.store.find_raw(Question(**asked))
        assert isinstance(found, Found)
        return found

    async def begun(self, asking: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Ask, and return when the command is on its way."""
        task = asyncio.create_task(asking)
        await self.commands.until("find")
        return task


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let lists travel together however busy the machine is."""
    monkeypatch.setattr("bzz.storage.gather.PATIENCE_MS", 60_000)


@asynccontextmanager
async def watching(kind: str, mongo_url: str) -> AsyncIterator[Watched]:
    commands, name = Commands(), f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, event_listeners=[commands], appname=name) as client:
        store = Store(Stall, client=client)
        await asyncio.to_thread(Stall._get_collection().insert_many, [{"_id": n} for n in range(10)])
        await store.prepare()
        await store.ping()
        commands.take()
        yield Watched(store, client, commands, name)


@pytest.fixture(params=["pymongo", "motor-asyncio"])
async def watched(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Watched]:
    async with watching(request.param, mongo_url) as found:
        yield found


@pytest.fixture
async def together(database: str, mongo_url: str) -> AsyncIterator[Watched]:
    """With the driver under which different lists travel together."""
    async with watching("pymongo", mongo_url) as found:
        yield found


def keys(found: Found) -> list[Any]:
    return [bson.decode(each)["_id"] for each in found]


def from_to(first: int, last: int) -> dict[str, Any]:
    return {"_id": {"$gte": first, "$lte": last}}


async def test_who_asks_the_same_gets_the_same(watched: Watched) -> None:
    found = await asyncio.gather(*(watched.ask() for _ in range(30)))
    assert [keys(each) for each in found] == [list(range(10))] * 30
    assert watched.sent() == ["find"] * 2  # the first alone, all others together
    first, second, *others = found
    assert first is not second
    assert all(each is second for each in others)
    assert watched.store._current().lists._lanes == {}


async def test_who_asks_for_other_values_gets_other_documents(together: Watched) -> None:
    asked = [(first, last) for first in range(10) for last in range(10)]
    found = await asyncio.gather(*(together.ask(from_to(*each)) for each in asked))
    assert [keys(each) for each in found] == [list(range(first, last + 1)) for first, last in asked]
    sent = together.sent()
    assert sent.count("find") <= 2
    assert sent.count("aggregate") <= (len(asked) - 1) // TOGETHER + 2


async def test_who_asks_for_other_values_with_any_driver_gets_other_documents(watched: Watched) -> None:
    asked = [(first, last) for first in range(5) for last in range(10)]
    found = await asyncio.gather(*(watched.ask(from_to(*each)) for each in asked))
    assert [keys(each) for each in found] == [list(range(first, last + 1)) for first, last in asked]


async def test_pages_are_read_together(together: Watched) -> None:
    pages = [(skip, limit, order) for skip in range(4) for limit in (1, 3, 50) for order in (1, -1)]
    found = await asyncio.gather(
        *(together.ask(skip=skip, limit=limit, sort=[("_id", order)]) for skip, limit, order in pages)
    )
    for (skip, limit, order), each in zip(pages, found, strict=True):
        assert keys(each) == list(range(10))[::order][skip : skip + limit]
    assert "aggregate" in together.sent()


async def test_parts_of_documents_are_shared(watched: Watched) -> None:
    await asyncio.to_thread(Stall._get_collection().insert_one, {"_id": 10, "a": {"b": 1, "c": 2}, "d": 3})
    parts = [watched.ask(from_to(10, last % 3 + 10), projection={"a.b": 1}) for last in range(12)]
    whole = [watched.ask(from_to(10, last % 3 + 10)) for last in range(12)]
    found = await asyncio.gather(*parts, *whole)
    shown = [bson.decode(each[0]) for each in found]
    assert shown[:12] == [{"_id": 10, "a": {"b": 1}}] * 12
    assert shown[12:] == [{"_id": 10, "a": {"b": 1, "c": 2}, "d": 3}] * 12
    sent = [command for name, command in watched.commands.take() if name == "find"]
    assert sum("projection" in each for each in sent) == 6  # of each three one alone, then the others


async def test_who_asks_alone_sends_a_find(watched: Watched) -> None:
    await watched.ask(from_to(2, 5))
    shared = watched.commands.take()
    await watched.store.find(from_to(2, 5), limit=50, sort=[("_id", 1)])
    alone = watched.commands.take()
    for _, each in (*shared, *alone):
        del each["lsid"], each["$clusterTime"]
        assert each.pop("maxTimeMS") > 0  # what is left of the time, with Motor
    assert shared == alone
    assert not watched.store._current().lists._lanes


@pytest.mark.parametrize(
    "other",
    [
        {"_filter": {"n": 4}},
        {"_filter": {"_id": {"$gte": 4}}},
        {"_filter": {"$and": [{"_id": 4}, {"_id": 4}]}},
        {"sort": [("_id", -1)]},
        {"sort": []},
        {"projection": {"_id": 1}},
    ],
)
async def test_who_asks_in_another_shape_is_not_kept_waiting(watched: Watched, other: dict[str, Any]) -> None:
    await watched.fail(blockConnection=True, blockTimeMS=2000)
    slow = await watched.begun(watched.ask())
    await watched.ask(**other)
    assert not slow.done()
    await slow


@pytest.mark.parametrize("condition", [{"_id": {"$near": [1, 1]}}, {"$text": {"$search": "x"}}])
async def test_what_only_a_find_can_ask_travels_alone(watched: Watched, condition: dict[str, Any]) -> None:
    found = await asyncio.gather(
        *(watched.ask({**condition, "n": n % 3}) for n in range(9)), return_exceptions=True
    )
    assert {type(each) for each in found} == {StorageError}  # there is no such index
    assert set(watched.sent()) == {"find"}


async def test_deep_pages_travel_alone(watched: Watched) -> None:
    await asyncio.gather(*(watched.ask(skip=2000 + n) for n in range(9)))
    assert watched.sent() == ["find"] * 9


async def test_nobody_joins_what_was_sent_already(watched: Watched) -> None:
    await watched.fail(blockConnection=True, blockTimeMS=50)
    early = await watched.begun(watched.ask())
    waiting = asyncio.gather(*(watched.ask(from_to(0, n)) for n in range(9)))
    await watched.store.insert({"_id": 10})
    late = await asyncio.gather(*(watched.ask() for _ in range(9)))
    assert [keys(each) for each in late] == [list(range(11))] * 9
    assert [keys(each) for each in await waiting] == [list(range(n + 1)) for n in range(9)]
    await early


async def test_what_cannot_travel_together_travels_alone(together: Watched) -> None:
    await together.fail(1, ("aggregate",), errorCode=10334)  # one of the answers is too large
    for _ in range(2):
        found = await asyncio.gather(*(together.ask(from_to(0, n)) for n in range(9)))
        assert [keys(each) for each in found] == [list(range(n + 1)) for n in range(9)]
        sent = together.sent()
        assert sent.count("find") == 9
        assert sent.count("aggregate") == (1 if _ == 0 else 0)


SLOW = {"$expr": {"$function": {"body": "function() { sleep(5); return true }", "args": [], "lang": "js"}}}


@pytest.mark.parametrize(("patience", "commands"), [(60_000, (1, 1)), (5, (1, 9))])
async def test_what_takes_the_server_long_travels_alone(
    together: Watched, monkeypatch: pytest.MonkeyPatch, patience: int, commands: tuple[int, int]
) -> None:
    monkeypatch.setattr("bzz.storage.gather.PATIENCE_MS", patience)
    monkeypatch.setattr("bzz.storage.gather.PATIENCE_MS_EACH", 0)
    monkeypatch.setattr("bzz.storage.gather.SLOW_LIST", 60)
    monkeypatch.setattr("bzz.storage.gather._ONLY_FIND", ())
    found = await asyncio.gather(*(together.ask({**SLOW, **from_to(0, n)}) for n in range(9)))
    assert [keys(each) for each in found] == [list(range(n + 1)) for n in range(9)]
    sent = together.sent()
    assert (sent.count("aggregate"), sent.count("find")) == commands


async def test_what_travelled_alone_travels_together_again(
    together: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bzz.storage.gather.ALONE_SECONDS", 0.0)
    await together.fail(1, ("aggregate",), errorCode=50)  # MaxTimeMSExpired
    for _ in range(2):
        found = await asyncio.gather(*(together.ask(from_to(0, n)) for n in range(9)))
        assert [keys(each) for each in found] == [list(range(n + 1)) for n in range(9)]
        assert together.sent().count("aggregate") == 1


async def test_not_every_shape_is_remembered_for_ever(
    together: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bzz.storage.gather.MAX_ALONE", 2)
    await together.fail(3, ("aggregate",), errorCode=50)
    for name in "abc":
        await asyncio.gather(*(together.ask({name: n}) for n in range(5)))
    assert len(together.store._current().lists._alone) == 1


async def test_a_server_that_is_gone_is_gone_for_all(
    together: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    gatherer = together.store._current().lists

    async def gone(*_: Any) -> Any:
        raise StorageUnavailableError("MongoDB cannot be reached.")

    monkeypatch.setattr(gatherer, "_find_together", gone)
    results = await asyncio.gather(*(together.ask(from_to(0, n)) for n in range(9)), return_exceptions=True)
    assert [type(each) for each in results] == [Found] + [StorageUnavailableError] * 8
    assert not gatherer._alone


async def test_each_gets_an_error_of_its_own(watched: Watched) -> None:
    await watched.fail(2, errorCode=2)
    results = await asyncio.gather(*(watched.ask() for _ in range(9)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageError}
    assert len({id(each) for each in results}) == 9
    assert len({type(each.__cause__) for each in results if isinstance(each, StorageError)}) == 1
    assert len(await watched.ask()) == 10


async def test_what_cannot_be_sent_concerns_only_itself(watched: Watched) -> None:
    async def ask(n: int) -> Found:
        return await watched.ask({"n": 2**70} if n % 3 == 0 else None)

    results = await asyncio.gather(*map(ask, range(9)), return_exceptions=True)
    assert [isinstance(each, ValidationError) for each in results] == [True, False, False] * 3


@pytest.mark.parametrize("command", ["find", "aggregate"])
async def test_who_is_interrupted_asks_again_at_once(watched: Watched, command: str) -> None:
    await watched.fail(1, (command,), errorCode=11602)  # InterruptedDueToReplStateChange
    for _ in range(3):
        found = await asyncio.gather(*(watched.ask(from_to(0, n)) for n in range(9)))
        assert [keys(each) for each in found] == [list(range(n + 1)) for n in range(9)]


async def test_who_is_cancelled_leaves_the_others_alone(watched: Watched) -> None:
    await watched.fail(blockConnection=True, blockTimeMS=1000)
    asked = [asyncio.create_task(watched.ask(from_to(0, n % 5))) for n in range(20)]
    await watched.commands.until("find")
    for each in asked[::2]:
        each.cancel()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in results] == [asyncio.CancelledError, Found] * 10
    assert [keys(each) for each in results[1::2]] == [list(range(n % 5 + 1)) for n in range(1, 20, 2)]
    assert watched.store._current().lists._lanes == {}


async def test_who_waits_too_long_is_told_so(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bzz.storage.gather.SLOW_LIST", 60)
    watched.store = Store(Stall, client=watched.client, timeout=0.3)
    await watched.fail(2, blockConnection=True, blockTimeMS=900)
    results = await asyncio.gather(*(watched.ask() for _ in range(5)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageTimeoutError}


async def test_a_document_that_cannot_be_read_harms_nobody_else(watched: Watched) -> None:
    late = b"\x09since\x00" + (2**62).to_bytes(8, "little")
    body = b"\x10_id\x00" + (10).to_bytes(4, "little") + late
    raw = RawBSONDocument((len(body) + 5).to_bytes(4, "little") + body + b"\x00")
    await asyncio.to_thread(Stall._get_collection().insert_one, raw)
    found = await asyncio.gather(*(watched.ask(from_to(0, n)) for n in range(11)))
    assert [len(each) for each in found] == list(range(1, 12))
    with pytest.raises(StorageError, match="cannot read"):
        watched.store.decode(found[10])


VALUES = st.none() | st.integers(-3, 3) | st.text("ab", max_size=2) | st.just("$_id")
FILTERS = st.dictionaries(
    st.sampled_from(["a", "b.c", "d"]),
    VALUES
    | st.builds(lambda op, value: {op: value}, st.sampled_from(["$gt", "$ne", "$lte"]), VALUES)
    | st.builds(lambda values: {"$in": values}, st.lists(VALUES, max_size=3)),
    max_size=2,
)
DOCUMENTS = st.fixed_dictionaries({"a": VALUES, "b": st.fixed_dictionaries({"c": VALUES}), "d": VALUES})


@settings(max_examples=40 * TORTURE)
@given(data=st.data())
def test_together_is_what_each_is_alone(data: st.DataObject, mongo_url: str) -> None:
    documents = data.draw(st.lists(DOCUMENTS, max_size=12))
    questions = data.draw(
        st.lists(
            st.builds(
                Question,
                FILTERS,
                st.sampled_from([[("_id", 1)], [("a", 1), ("_id", -1)], [("b.c", -1), ("_id", 1)]]),
                st.integers(0, 3),
                st.integers(1, 12),
                st.none(),
            ),
            min_size=2,
            max_size=8,
        )
    )

    async def run() -> None:
        async with explicit_client("pymongo", mongo_url) as client:
            collection = client[f"bzz-{uuid.uuid4().hex}"]["list"]
            try:
                if documents:
                    await collection.insert_many([{"_id": n, **each} for n, each in enumerate(documents)])
                gatherer = ListGatherer(lambda call: call(None), collection, Driver(client), 5000, 5.0)
                together = await gatherer._find_together(questions)
                assert together == [await gatherer._find(each) for each in questions]
            finally:
                await client.drop_database(collection.database.name)

    asyncio.run(run())
