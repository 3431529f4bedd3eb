"""What travels together comes back as if it had travelled alone."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine
import pymongo
import pytest
from bson import Decimal128, Int64, Regex, encode
from mongoengine.connection import get_db

from bzz.embedded import EmbeddedMongo
from bzz.errors import (
    DuplicateError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)
from bzz.storage import Store, close_clients
from bzz.storage.lanes import MAX_BYTES, MAX_COUNT, UNDER_WAY, Lanes, Waiting
from tests.storage_drivers import FAMILIES, Commands, explicit_client

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Ware(mongoengine.DynamicDocument):
    code = mongoengine.IntField(unique=True, sparse=True)


@pytest.fixture(params=FAMILIES)
async def store(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Store]:
    async with explicit_client(request.param, mongo_url) as client:
        store = Store(Ware, client=client)
        await store.prepare()
        yield store


class Watched:
    """A store whose commands are noted, and whose connections can be made to fail."""

    def __init__(self, store: Store, client: Any, commands: Commands, name: str) -> None:
        self.store, self.client, self.commands, self.name = store, client, commands, name

    async def fail(self, command: str, times: int = 1, **how: Any) -> None:
        data = {"failCommands": [command], "appName": self.name, **how}
        point = {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
        await self.client.admin.command(point)
        self.commands.take()

    def sent(self, name: str) -> list[dict[str, Any]]:
        return [command for each, command in self.commands.take() if each == name]


@pytest.fixture(params=["pymongo", "motor-asyncio"])
async def watched(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Watched]:
    commands, name = Commands(), f"bzz-{uuid.uuid4().hex}"
    options = {"event_listeners": [commands], "appname": name}
    async with explicit_client(request.param, mongo_url, **options) as client:
        store = Store(Ware, client=client)
        await store.prepare()
        await store.ping()
        commands.take()
        yield Watched(store, client, commands, name)


def documents(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"_id": n, "n": n, **fields} for n in range(count)]


async def fill(count: int, **fields: Any) -> None:
    await asyncio.to_thread(Ware._get_collection().insert_many, documents(count, **fields))


# Few commands, the right answers --------------------------------------------------


async def test_reads_that_wait_are_one_command(watched: Watched) -> None:
    await fill(50)
    found = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(60)))
    assert found == [*documents(50), *[None] * 10]
    commands = watched.sent("find")
    assert len(commands) <= 4
    assert all(0 < command["maxTimeMS"] <= 1000 * watched.store.timeout for command in commands)


async def test_inserts_that_wait_are_one_command(watched: Watched) -> None:
    stored: list[dict[str, Any]] = [{"n": n} for n in range(60)]
    await asyncio.gather(*(watched.store.insert(each) for each in stored))
    commands = watched.sent("insert")
    assert len(commands) <= 4
    assert all(0 < command["maxTimeMS"] <= 1000 * watched.store.timeout for command in commands)
    assert len({each["_id"] for each in stored}) == 60
    assert await watched.store.find({}, limit=100, sort=[("n", 1)]) == [
        {"_id": each["_id"], "n": each["n"]} for each in stored
    ]


async def test_alone_a_request_is_the_command_it_always_was(watched: Watched) -> None:
    await watched.store.insert({"_id": 1})
    await watched.store.find_by_id(1)
    await watched.store.find_one({"_id": 1})
    sent = watched.commands.take()
    assert [name for name, _ in sent] == ["insert", "find", "find"]
    assert all(command["filter"] == {"_id": 1} and command["limit"] == 1 for _, command in sent[1:])
    assert not watched.store._current().reads._lanes._tasks


async def test_one_read_is_under_way_at_a_time(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(100)
    monkeypatch.setattr("bzz.storage.coalesce.SLOW_READ", 60)
    store = Store(Ware, client=watched.client)
    await watched.fail("find", 1, blockConnection=True, blockTimeMS=2000)
    reads = [asyncio.create_task(store.find_by_id(n)) for n in range(100)]
    await watched.commands.until("find")
    assert not any(read.done() for read in reads)
    assert [command["filter"] for command in watched.sent("find")] == [{"_id": 0}]
    assert await asyncio.gather(*reads) == documents(100)
    # As soon as it was back, all that waited left together.
    assert [len(command["filter"]["_id"]["$in"]) for command in watched.sent("find")] == [99]


async def test_a_slow_read_makes_room(watched: Watched) -> None:
    await fill(100)
    await watched.fail("find", 1, blockConnection=True, blockTimeMS=900)
    slow, *others = [asyncio.create_task(watched.store.find_by_id(n)) for n in range(100)]
    assert await asyncio.gather(*others) == documents(100)[1:]
    assert not slow.done()
    assert await slow == {"_id": 0, "n": 0}


async def test_a_find_by_key_with_more_conditions_is_gathered_too(watched: Watched) -> None:
    await fill(20, kind="a")
    found = await asyncio.gather(*(watched.store.find_one({"kind": "a", "_id": n}) for n in range(20)))
    assert found == documents(20, kind="a")
    assert len(watched.sent("find")) <= 4


async def test_reads_with_other_conditions_are_never_mixed(watched: Watched) -> None:
    await fill(30, kind="a")
    calls = [watched.store.find_by_id(n, {"kind": "ab"[n % 2]}) for n in range(30)]
    found = await asyncio.gather(*calls)
    assert [each is not None for each in found] == [n % 2 == 0 for n in range(30)]
    assert len(watched.sent("find")) <= 5


async def test_sessions_and_projections_go_their_own_way(watched: Watched) -> None:
    await fill(20)
    found = await asyncio.gather(*(watched.store.find_one({"_id": n}, projection=["_id"]) for n in range(20)))
    assert found == [{"_id": n} for n in range(20)]
    assert len(watched.sent("find")) == 20

    async def within(session: Any) -> list[Any]:
        await watched.store.insert({"_id": 100}, session=session)
        inside = await watched.store.find_one({"_id": 100}, session=session)
        outside = await asyncio.gather(*(watched.store.find_by_id(100) for _ in range(10)))
        return [inside, outside]

    assert await watched.store.run_in_transaction(within, 5) == [{"_id": 100}, [None] * 10]


async def test_who_asks_for_the_same_document_gets_one_of_its_own(store: Store) -> None:
    stored = {"_id": 1, "list": [{"a": 1}], "key": uuid.uuid4(), "big": Int64(1)}
    await store.insert(dict(stored))
    found = await asyncio.gather(*(store.find_by_id(1) for _ in range(20)))
    assert found == [stored] * 20
    assert all(each and type(each["big"]) is Int64 for each in found)
    assert len({id(each) for each in found}) == 20
    assert len({id(each["list"][0]) for each in found if each}) == 20


@pytest.mark.parametrize(
    ("kept", "asked"),
    [(5.0, 5), (Decimal128("5"), 5), (Int64(5), 5), (5, 5.0), ("5", "5"), (True, True), (b"x", b"x")],
)
async def test_keys_are_compared_as_mongodb_compares_them(store: Store, kept: Any, asked: Any) -> None:
    await store.insert({"_id": kept})
    alone = await store.find_by_id(asked)
    assert alone is not None
    found = await asyncio.gather(*(store.find_by_id(asked) for _ in range(6)))
    assert found == [alone] * 6
    assert await asyncio.gather(*(store.find_by_id(6) for _ in range(6))) == [None] * 6


async def test_a_pattern_is_no_key_of_many(store: Store) -> None:
    await asyncio.gather(*(store.insert({"_id": key}) for key in ("abc", 1, True)))
    keys: list[Any] = ["abc", "x", Regex("a"), 1, True]
    found = await asyncio.gather(*(store.find_by_id(key) for key in keys for _ in range(4)))
    alone = [await store.find_by_id(key) for key in keys for _ in range(4)]
    assert repr(found) == repr(alone)


async def test_the_hurry_of_one_is_not_that_of_the_others(watched: Watched) -> None:
    await fill(20)
    await watched.fail("find", 3, blockConnection=True, blockTimeMS=2000)

    async def hurried(key: int) -> Any:
        with pymongo.timeout(3):
            return await watched.store.find_by_id(key)

    # What follows the hurried ones is sent when they are back, and takes longer than they had left.
    early = [asyncio.create_task(hurried(n)) for n in range(2)]
    await asyncio.sleep(0)
    found = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(20)))
    assert found == documents(20)
    assert await asyncio.gather(*early) == documents(2)


async def test_keys_under_a_collation(store: Store) -> None:
    await asyncio.to_thread(Ware.drop_collection)
    collation = {"locale": "en", "strength": 2}
    await asyncio.to_thread(get_db().create_collection, "ware", collation=collation)
    await store.insert({"_id": "Ada"})
    found = await asyncio.gather(*(store.find_by_id(key) for key in ["ada", "Ada", "ADA", "Eve"] * 3))
    assert found == [{"_id": "Ada"}, {"_id": "Ada"}, {"_id": "Ada"}, None] * 3


# Each its own error --------------------------------------------------


async def test_duplicates_concern_only_themselves(store: Store) -> None:
    codes = [n // 2 for n in range(40)]
    results = await asyncio.gather(*(store.insert({"code": code}) for code in codes), return_exceptions=True)
    assert Counter(type(each) for each in results) == {type(None): 20, DuplicateError: 20}
    assert {each.fields for each in results if isinstance(each, DuplicateError)} == {("code",)}
    assert len({id(each) for each in results if each}) == 20
    stored = await store.find({}, limit=100)
    assert sorted(each["code"] for each in stored) == list(range(20))


async def test_documents_that_cannot_be_kept_concern_only_themselves(store: Store) -> None:
    bad = [{"v": object()}, {"v": 2**63}, {"v": "\ud800"}, {"v": "x" * (16 * 2**20 + 1)}, {"_id": [1]}]
    good: list[dict[str, Any]] = [{"n": n} for n in range(20)]
    mixed = [*good[:7], *bad, *good[7:]]
    results = await asyncio.gather(*(store.insert(each) for each in mixed), return_exceptions=True)
    assert Counter(type(each) for each in results) == {type(None): 20, ValidationError: 5}
    assert await store.count({}) == 20


async def test_a_condition_that_cannot_be_encoded_concerns_only_itself(store: Store) -> None:
    await fill(20)
    calls = [store.find_by_id(n, {"v": 2**70} if n % 5 == 0 else None) for n in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    for n, each in enumerate(results):
        assert isinstance(each, ValidationError) if n % 5 == 0 else each == {"_id": n, "n": n}


async def test_a_key_that_cannot_be_encoded_concerns_only_itself(store: Store) -> None:
    await fill(20)
    keys: list[Any] = [*range(10), 2**70, "\ud800", *range(10, 20)]
    results = await asyncio.gather(*(store.find_by_id(key) for key in keys), return_exceptions=True)
    assert [type(each) for each in results[10:12]] == [ValidationError] * 2
    assert [*results[:10], *results[12:]] == documents(20)


# Order --------------------------------------------------


async def test_a_read_never_joins_a_command_that_was_sent(watched: Watched) -> None:
    await fill(10)
    # Two reads are held on their way; what comes now has to see what is acknowledged meanwhile.
    await watched.fail("find", 2, blockConnection=True, blockTimeMS=150)
    early = [asyncio.create_task(watched.store.find_by_id(1)) for _ in range(2)]
    await watched.commands.until("find", 2)
    await watched.store.update({"_id": 1}, {"$set": {"n": "new"}})
    late = await asyncio.gather(*(watched.store.find_by_id(1) for _ in range(10)))
    assert late == [{"_id": 1, "n": "new"}] * 10
    await asyncio.gather(*early)


async def test_every_request_sees_what_was_acknowledged_before_it(store: Store) -> None:
    async def customer(number: int) -> None:
        for step in range(8):
            key = f"{number}-{step}"
            await store.insert({"_id": key, "step": 0})
            assert await store.find_by_id(key) == {"_id": key, "step": 0}
            await store.update({"_id": key}, {"$set": {"step": 1}})
            assert await store.find_by_id(key) == {"_id": key, "step": 1}
            await store.delete({"_id": key})
            assert await store.find_by_id(key) is None
            await store.insert({"_id": key})

    await asyncio.gather(*(customer(number) for number in range(24)))
    assert await store.count({}) == 24 * 8


# Limits --------------------------------------------------


async def test_commands_stay_within_the_limits_of_mongodb(watched: Watched) -> None:
    assert (MAX_COUNT, MAX_BYTES) <= (1000, 48_000_000)
    count = 2300
    await asyncio.gather(*(watched.store.insert({"_id": n, "n": n}) for n in range(count)))
    sizes = [len(command["documents"]) for command in watched.sent("insert")]
    assert (sum(sizes), max(sizes)) == (count, MAX_COUNT)
    found = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(count)))
    assert found == documents(count)
    keys = [command["filter"]["_id"] for command in watched.sent("find")]
    sizes = [len(each["$in"]) if isinstance(each, dict) else 1 for each in keys]
    assert (sum(sizes), max(sizes)) == (count, MAX_COUNT)


async def test_large_documents_travel_in_several_commands(watched: Watched) -> None:
    blob = "x" * (5 * 2**20)
    await asyncio.gather(*(watched.store.insert({"_id": n, "blob": blob}) for n in range(14)))
    for command in watched.sent("insert"):
        assert sum(len(each["blob"]) for each in command["documents"]) <= MAX_BYTES
    found = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(14)))
    assert all(each and len(each["blob"]) == len(blob) for each in found)


# Cancellation --------------------------------------------------


# A connection that is being made when its request is cancelled is left by PyMongo to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_thousands_of_cancelled_requests_leave_the_others_alone(store: Store) -> None:
    await fill(200)
    dice = random.Random(1)
    count = 10_000
    reads = [asyncio.create_task(store.find_by_id(n % 200)) for n in range(count)]
    writes = [asyncio.create_task(store.insert({"_id": 1000 + n})) for n in range(500)]
    dropped: set[asyncio.Task[Any]] = set()
    for _ in range(6):
        await asyncio.sleep(0)
        for task in dice.sample([*reads, *writes], 1800):
            if task.cancel():
                dropped.add(task)
    await asyncio.gather(*reads, *writes, return_exceptions=True)
    for n, read in enumerate(reads):
        if read not in dropped:
            assert read.result() == {"_id": n % 200, "n": n % 200}
    there = {each["_id"] for each in await store.find({"_id": {"$gte": 1000}}, limit=1000)}
    for n, write in enumerate(writes):
        if not write.cancelled():
            assert write.exception() is None
            assert 1000 + n in there
    for lanes in (store._current().reads._lanes, store._current().inserts._lanes):
        await asyncio.gather(*lanes._tasks)
        assert (lanes._under_way, lanes._groups, lanes._tasks) == ({}, {}, set())
    assert await store.find_by_id(1) == {"_id": 1, "n": 1}


async def test_a_lane_is_free_again_when_its_request_is_cancelled(watched: Watched) -> None:
    await fill(10)
    await watched.fail("find", 2, blockConnection=True, blockTimeMS=400)
    stuck = [asyncio.create_task(watched.store.find_by_id(n)) for n in range(2)]
    await watched.commands.until("find", 2)
    waiting = asyncio.gather(*(watched.store.find_by_id(n) for n in range(2, 10)))
    await asyncio.sleep(0)
    for task in stuck:
        task.cancel()
    assert await waiting == documents(10)[2:]


async def test_closing_the_loop_ends_those_who_wait(database: str) -> None:
    store = Store(Ware)
    await store.ping()
    waiting = [asyncio.create_task(store.find_by_id(n)) for n in range(10)]
    await asyncio.sleep(0)
    lanes = store._current().reads._lanes
    while not lanes._tasks:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in lanes._tasks:
        task.cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(each) for each in results} <= {type(None), asyncio.CancelledError}
    assert lanes._under_way == {}


# Faults --------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {"closeConnection": True},
        {"errorCode": 10107, "errorLabels": ["RetryableWriteError"]},
        {"errorCode": 112},
        {"errorCode": 50},
    ],
    ids=["connection", "primary", "conflict", "time"],
)
async def test_a_fault_of_the_command_is_not_seen(watched: Watched, how: dict[str, Any]) -> None:
    await watched.fail("insert", 3, **how)
    results = await asyncio.gather(
        *(watched.store.insert({"_id": n, "n": n}) for n in range(50)), return_exceptions=True
    )
    lost = [n for n, each in enumerate(results) if each]
    # Who travels alone when it happens can only tell (PyMongo does not repeat a write that was
    # on its way to a connection when another one broke); the many are done again.
    assert len(lost) <= (3 if how.get("errorCode") == 50 or "closeConnection" in how else 0), results
    there = {each["_id"] for each in await watched.store.find({}, limit=100)}
    assert there == set(range(50)) - set(lost)


async def test_reads_survive_a_connection_that_breaks(watched: Watched) -> None:
    await fill(50)
    await watched.fail("find", 1, closeConnection=True)
    assert await asyncio.gather(*(watched.store.find_by_id(n) for n in range(50))) == documents(50)


async def test_what_the_server_refuses_as_a_whole_is_asked_one_by_one(watched: Watched) -> None:
    await fill(50)
    await watched.fail("find", 3, errorCode=13)
    results = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(50)), return_exceptions=True)
    # Only who was hit while travelling alone is told.
    failures = [n for n, each in enumerate(results) if isinstance(each, StorageError)]
    assert 1 <= len(failures) <= 3
    assert [each for n, each in enumerate(results) if n not in failures] == [
        each for n, each in enumerate(documents(50)) if n not in failures
    ]
    await watched.fail("find", 1000, errorCode=13)
    results = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(9)), return_exceptions=True)
    await watched.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert {type(each) for each in results} == {StorageError}


async def test_a_lack_of_time_concerns_all_of_a_command(watched: Watched) -> None:
    await fill(50)
    await watched.fail("find", 3, errorCode=50)
    results = await asyncio.gather(*(watched.store.find_by_id(n) for n in range(50)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageTimeoutError}
    assert len({id(each) for each in results}) == 50


async def test_a_write_concern_that_is_not_met_concerns_all(watched: Watched) -> None:
    concern = {"code": 64, "errmsg": "", "errInfo": {"wtimeout": True}}
    await watched.fail("insert", 3, writeConcernError=concern)
    results = await asyncio.gather(
        *(watched.store.insert({"_id": n}) for n in range(30)), return_exceptions=True
    )
    assert {type(each) for each in results} == {StorageTimeoutError}
    assert await watched.store.count({}) == 30


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_document_that_waits_for_a_lock_holds_up_nobody(
    kind: str, database: str, mongo_url: str
) -> None:
    async with explicit_client(kind, mongo_url) as client:
        store = Store(Ware, client=client, timeout=4)
        await store.prepare()
        other = Store(Ware, timeout=5)
        async with other.transaction(20) as session:
            await other.insert({"code": 5}, session=session)
            calls = [asyncio.create_task(store.insert({"code": code})) for code in range(20)]
            blocked = calls.pop(5)
            done, _ = await asyncio.wait(calls, timeout=2.5)
            assert done == set(calls)
            assert [call.exception() for call in calls] == [None] * 19
            blocked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await blocked
        await asyncio.gather(*store._current().inserts._lanes._tasks)
        assert await store.count({"code": {"$in": list(range(20))}}) == 20


async def test_what_a_lost_command_stored_is_recognised(database: str, mongo_url: str) -> None:
    commands, name = Commands(), f"bzz-{uuid.uuid4().hex}"
    options = {"event_listeners": [commands], "appname": name, "retryWrites": False}
    async with explicit_client("pymongo", mongo_url, **options) as client:
        store = Store(Ware, client=client, timeout=4)
        await store.prepare()
        await store.insert({"_id": 99, "taken": True})
        watched = Watched(store, client, commands, name)
        # The client gives up after one second; the server carries the commands out a little later.
        await watched.fail("insert", 3, blockConnection=True, blockTimeMS=1300)
        calls = [store.insert({"_id": n, "n": n}) for n in range(2)]
        calls += [store.insert({"_id": n, "n": n}) for n in range(2, 20)]
        calls += [store.insert({"_id": 99, "taken": False})]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results[:20] == [None] * 20
        assert isinstance(results[20], DuplicateError)
        assert sorted(each["_id"] for each in await store.find({}, limit=50)) == [*range(20), 99]


async def test_two_errors_of_one_answer(database: str, mongo_url: str) -> None:
    # A conflict in the answer's error list is tried again alone; everything else is told.
    store = Store(Ware)
    await store.prepare()
    inserts = store._current().inserts
    loop = asyncio.get_running_loop()
    requests = [Waiting(encode({"_id": n}), loop.create_future(), 10) for n in range(3)]
    problems = [{"index": 0, "code": 112}, {"index": 1, "code": 13, "codeName": "Unauthorized"}]
    inserts._hand_out(requests, {"writeErrors": problems})
    results = await asyncio.gather(*(each.answer for each in requests), return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], StorageError)
    assert results[2] is None
    assert await store.find_by_id(0) == {"_id": 0}
    await close_clients()


async def test_whatever_goes_wrong_is_heard_by_all_who_wait(database: str) -> None:
    async def send(requests: Any) -> None:
        raise ZeroDivisionError

    lanes: Lanes[int] = Lanes(send, Store(Ware).driver(), 5)
    busy = asyncio.gather(*(lanes.straight(asyncio.sleep(0.01)) for _ in range(UNDER_WAY)))
    await asyncio.sleep(0)
    assert not lanes.free
    results = await asyncio.gather(*(lanes.together(n % 2, n) for n in range(6)), return_exceptions=True)
    assert {type(each) for each in results} == {ZeroDivisionError}
    await busy
    assert lanes.free


async def test_who_waits_too_long_is_told_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bzz.storage.coalesce.SLOW_READ", 60)
    await store.ping()
    impatient = Store(Ware, client=store.driver().client, timeout=0.2)
    lanes = impatient._current().reads._lanes
    stuck = [asyncio.create_task(lanes.straight(asyncio.Event().wait())) for _ in range(UNDER_WAY)]
    await asyncio.sleep(0)
    results = await asyncio.gather(*(impatient.find_by_id(n) for n in range(9)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageTimeoutError}
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert lanes.free
    assert not lanes._tasks  # nobody waits any more, so nothing is sent


async def test_commands_that_take_long_hold_nobody_up(store: Store) -> None:
    await fill(9)
    lanes = store._current().reads._lanes
    stuck = [asyncio.create_task(lanes.straight(asyncio.Event().wait())) for _ in range(UNDER_WAY)]
    await asyncio.sleep(0)
    assert not lanes.free
    assert await asyncio.gather(*(store.find_by_id(n) for n in range(9))) == documents(9)
    for task in stuck:
        assert not task.done()
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    assert lanes._under_way == {}


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo(test_commands=True) as server:
        yield server


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_primary_that_steps_down_in_the_middle(kind: str, server: EmbeddedMongo) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    blocking = mongoengine.connect(name, host=server.url, uuidRepresentation="standard")
    async with explicit_client(kind, server.url) as client:
        store = Store(Ware, client=client, timeout=20)
        await store.prepare()
        down = {"replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 0, "force": True}

        async def write(number: int) -> None:
            for step in range(15 * TORTURE):
                key = f"{number}-{step}"
                await store.insert({"_id": key})
                assert await store.find_by_id(key) == {"_id": key}

        async def step_down() -> None:
            await asyncio.sleep(0.05)
            await asyncio.to_thread(blocking.admin.command, down)

        await asyncio.gather(step_down(), *(write(number) for number in range(20)))
        assert await store.count({}) == 20 * 15 * TORTURE
        await close_clients()
    blocking.drop_database(name)
    mongoengine.disconnect_all()


async def test_nobody_answers_and_many_ask() -> None:
    mongoengine.register_connection("away", "x", host="mongodb://127.0.0.1:9", uuidRepresentation="standard")

    class Away(mongoengine.Document):
        meta = {"db_alias": "away"}

    store = Store(Away, timeout=0.6)
    started = asyncio.get_running_loop().time()
    results = await asyncio.gather(*(store.find_by_id(n) for n in range(200)), return_exceptions=True)
    assert {type(each) for each in results} == {StorageUnavailableError}
    assert asyncio.get_running_loop().time() - started < 20
    await close_clients()
    mongoengine.disconnect_all()
