"""Changes that are committed together are answered as if each had gone alone."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine
import pytest
from bson import Decimal128, Int64

from bzz.embedded import EmbeddedMongo
from bzz.errors import (
    BzzError,
    DuplicateError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)
from bzz.storage import Store, close_clients
from bzz.storage.group import WriteGrouper
from tests.storage_drivers import FAMILIES, Commands, explicit_client

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))

# A connection that breaks, or whose request is cancelled, is left by the drivers to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


class Stock(mongoengine.DynamicDocument):
    code = mongoengine.IntField(unique=True, sparse=True)


class Watched:
    """A store whose commands are noted, and whose connections can be made to fail."""

    def __init__(self, store: Store, client: Any, commands: Commands, name: str) -> None:
        self.store, self.client, self.commands, self.name = store, client, commands, name

    async def fail(self, command: str, times: int = 1, **how: Any) -> None:
        data = {"failCommands": [command], "appName": self.name, **how}
        mode = {"times": times} if times else "alwaysOn"
        await self.client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
        self.commands.take()

    async def mend(self) -> None:
        await self.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})

    def sent(self) -> list[str]:
        return [name for name, _ in self.commands.take()]

    @property
    def writes(self) -> WriteGrouper:
        return self.store._current().writes


@pytest.fixture(params=FAMILIES)
async def watched(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Watched]:
    commands, name = Commands(), f"bzz-{uuid.uuid4().hex}"
    kind = "pymongo" if request.param == "derived" else request.param
    async with explicit_client(kind, mongo_url, event_listeners=[commands], appname=name) as client:
        store = Store(Stock, client=client)
        await store.prepare()
        await store.ping()
        commands.take()
        yield Watched(store, client, commands, name)
        nothing_is_left(store)


def nothing_is_left(store: Store) -> None:
    writes = store._current().writes
    assert writes._writers == {}
    assert not writes._lanes._under_way
    assert not writes._lanes._groups


async def fill(count: int, **fields: Any) -> None:
    documents = [{"_id": n, "n": 0, **fields} for n in range(count)]
    await asyncio.to_thread(Stock._get_collection().insert_many, documents)


def stored() -> dict[Any, Any]:
    return {each["_id"]: each for each in Stock._get_collection().find()}


def count_up(store: Store, key: Any, **more: Any) -> Any:
    return store.update({"_id": key, **more}, {"$inc": {"n": 1}})


# Few commands, the right answers --------------------------------------------------


async def test_changes_that_wait_are_one_transaction(watched: Watched) -> None:
    await fill(50)
    befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(50)))
    assert befores == [{"_id": n, "n": 0} for n in range(50)]
    assert stored() == {n: {"_id": n, "n": 1} for n in range(50)}
    sent = watched.sent()
    assert sent.count("findAndModify") <= 4
    assert sent.count("find") == sent.count("update") == sent.count("commitTransaction") <= 2


async def test_alone_a_change_is_the_command_it_always_was(watched: Watched) -> None:
    await fill(2)
    for n in range(2):
        assert await count_up(watched.store, n) == {"_id": n, "n": 0}
        assert await watched.store.delete({"_id": n}) == {"_id": n, "n": 1}
    assert watched.sent() == ["findAndModify"] * 4


async def test_deletions_and_updates_go_together(watched: Watched) -> None:
    await fill(40)
    calls = [watched.store.delete({"_id": n}) if n % 2 else count_up(watched.store, n) for n in range(40)]
    assert await asyncio.gather(*calls) == [{"_id": n, "n": 0} for n in range(40)]
    assert stored() == {n: {"_id": n, "n": 1} for n in range(0, 40, 2)}
    assert watched.sent().count("delete") <= 2


async def test_what_is_not_there_is_none(watched: Watched) -> None:
    await fill(20)
    befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(40)))
    assert befores == [{"_id": n, "n": 0} for n in range(20)] + [None] * 20
    assert "commitTransaction" in watched.sent()


async def test_what_does_not_match_its_filter_holds_nobody_up(watched: Watched) -> None:
    await fill(40, kind="a")
    calls = [count_up(watched.store, n, kind="ab"[n == 30]) for n in range(40)]
    befores = await asyncio.gather(*calls)
    assert [n for n, each in enumerate(befores) if each is None] == [30]
    assert {key: each["n"] for key, each in stored().items()} == {n: int(n != 30) for n in range(40)}


async def test_what_mongodb_refuses_is_refused_alone(watched: Watched) -> None:
    await fill(40)
    await watched.store.insert({"_id": "taken", "code": 7})
    commands: list[Any] = [{"$set": {"code": n}} for n in range(40)]
    commands[20] = {"$set": {"x": "y" * (17 * 2**20)}}
    commands[21] = {"$set": {"x": 2**70}}
    calls = (watched.store.update({"_id": n}, commands[n]) for n in range(40))
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = {n: type(each) for n, each in enumerate(results) if isinstance(each, BaseException)}
    assert refused == {7: DuplicateError, 20: ValidationError, 21: ValidationError}
    assert [each.get("code") for key, each in stored().items() if key != "taken"] == [
        None if n in refused else n for n in range(40)
    ]


async def test_documents_too_large_for_one_answer(watched: Watched) -> None:
    blob = "x" * (3 * 2**20)
    await fill(12, blob=blob)
    befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(12)))
    assert [(each["_id"], len(each["blob"])) for each in befores] == [(n, len(blob)) for n in range(12)]
    assert {each["n"] for each in stored().values()} == {1}


@pytest.mark.parametrize(
    ("kept", "asked"),
    [(5.0, 5), (Decimal128("5"), 5), (Int64(5), 5), (5, 5.0), ("5", "5"), (True, True), (b"x", b"x")],
)
async def test_keys_are_compared_as_mongodb_compares_them(watched: Watched, kept: Any, asked: Any) -> None:
    await fill(5)
    await watched.store.delete({"_id": 4})
    await watched.store.insert({"_id": kept, "n": 10})
    befores = await asyncio.gather(
        *(count_up(watched.store, n) for n in range(4)),
        *(count_up(watched.store, f"absent {n}") for n in range(4)),
        *(count_up(watched.store, asked) for _ in range(4)),
    )
    assert [each and each["n"] for each in befores[:8]] == [0] * 4 + [None] * 4
    assert sorted(each["n"] for each in befores[8:]) == [10, 11, 12, 13]


async def test_texts_are_compared_by_the_collation_of_their_collection(database: str, mongo_url: str) -> None:
    blunt = {"locale": "en", "strength": 1}
    mongoengine.connection.get_db().create_collection("stock", collation=blunt)
    store = Store(Stock)
    for n in range(4):
        await store.insert({"_id": f"key {n}", "n": 0})
    names = [f"{word} {n}" for n in range(4) for word in ("key", "KEY", "Key")]
    befores = await asyncio.gather(*(count_up(store, name) for name in names))
    assert sorted((each["_id"], each["n"]) for each in befores) == [
        (f"key {n}", count) for n in range(4) for count in range(3)
    ]
    nothing_is_left(store)


async def test_changes_of_one_document_form_a_chain(watched: Watched) -> None:
    await fill(20)
    keys = [*range(20), *[3] * 30, *[4] * 30, *range(20)]
    befores = await asyncio.gather(*(count_up(watched.store, key) for key in keys))
    for key in range(20):
        chain = sorted(each["n"] for each in befores if each["_id"] == key)
        assert chain == list(range(keys.count(key)))
    assert {key: each["n"] for key, each in stored().items()} == {key: keys.count(key) for key in range(20)}


async def test_another_writer_in_between(watched: Watched) -> None:
    await fill(40)
    await watched.fail("update", 1, blockConnection=True, blockTimeMS=300)
    tasks = [asyncio.create_task(count_up(watched.store, n)) for n in range(40)]
    await watched.commands.until("update")
    other = Stock._get_collection().find_one_and_update
    before = await asyncio.to_thread(other, {"_id": 30}, {"$inc": {"n": 100}})
    befores = await asyncio.gather(*tasks)
    assert befores[30] == {"_id": 30, "n": 101 - 1 if before["n"] == 0 else 0}
    assert [each["n"] for each in befores[:30] + befores[31:]] == [0] * 39
    assert {key: each["n"] for key, each in stored().items()} == {n: 1 + 100 * (n == 30) for n in range(40)}


# Where there are no transactions --------------------------------------------------


async def test_a_standalone_server(tmp_path: Any) -> None:
    with EmbeddedMongo(data=tmp_path, replica_set=None) as server:
        blocking = mongoengine.connect("x", host=server.url, uuidRepresentation="standard")
        commands = Commands()
        async with explicit_client("pymongo", server.url, event_listeners=[commands]) as client:
            store = Store(Stock, client=client)
            await fill(40)
            befores = await asyncio.gather(*(count_up(store, n) for n in range(40)))
            assert befores == [{"_id": n, "n": 0} for n in range(40)]
            assert {name for name, _ in commands.take()} <= {"findAndModify", "ping"}
            nothing_is_left(store)
        await close_clients()
        blocking.close()
    mongoengine.disconnect_all()


async def test_a_capped_collection(watched: Watched) -> None:
    mongoengine.connection.get_db().drop_collection("stock")
    mongoengine.connection.get_db().create_collection("stock", capped=True, size=2**20)
    await fill(40)
    for expected in range(2):
        befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(40)))
        assert befores == [{"_id": n, "n": expected} for n in range(40)]
    sent = watched.sent()
    assert sent.count("update") == 1  # tried once, and never again
    assert "commitTransaction" not in sent


async def test_after_failures_groups_are_tried_less_often(watched: Watched) -> None:
    await fill(20)
    await watched.fail("update", 3, errorCode=112)
    for _ in range(20):
        befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(20)))
        assert None not in befores
    assert {each["n"] for each in stored().values()} == {20}
    sent = watched.sent()
    # Three failed, after which 1, 2 and 4 groups went one by one.
    assert sent.count("update") == 20 - (1 + 2 + 4)
    assert sent.count("commitTransaction") == 20 - (1 + 2 + 4) - 3


# Faults --------------------------------------------------

FAULTS = [
    {"closeConnection": True},
    {"errorCode": 112},
    {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
    {"errorCode": 10107},
    {"errorCode": 11602},
]


@pytest.mark.parametrize(
    "how", FAULTS, ids=["connection", "conflict", "transaction", "primary", "interrupted"]
)
@pytest.mark.parametrize("command", ["find", "update", "delete", "commitTransaction"])
async def test_a_fault_of_a_transaction_is_not_seen(watched: Watched, command: str, how: Any) -> None:
    await fill(60)
    await watched.fail(command, 1, **how)
    calls = [watched.store.delete({"_id": n}) if n >= 40 else count_up(watched.store, n) for n in range(60)]
    befores = await asyncio.gather(*calls)
    assert befores == [{"_id": n, "n": 0} for n in range(60)]
    assert stored() == {n: {"_id": n, "n": 1} for n in range(40)}


async def test_a_commit_that_is_stored_and_not_acknowledged(watched: Watched) -> None:
    await fill(40)
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    await watched.fail("commitTransaction", 1, writeConcernError=concern)
    befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(40)))
    assert befores == [{"_id": n, "n": 0} for n in range(40)]
    assert {each["n"] for each in stored().values()} == {1}


async def test_a_commit_that_nobody_knows_of_is_not_done_again(watched: Watched) -> None:
    await fill(40)
    hurried = Store(Stock, client=watched.client, timeout=2.0)
    await watched.fail("commitTransaction", 0, closeConnection=True)
    try:
        calls = (count_up(hurried, n) for n in range(40))
        results = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        await watched.mend()
    told = [n for n, each in enumerate(results) if isinstance(each, BaseException)]
    assert len(told) >= 30
    assert all(isinstance(results[n], StorageTimeoutError | StorageUnavailableError) for n in told), results
    assert len({id(results[n]) for n in told}) == len(told)
    # The sessions were ended, so nothing is locked.
    befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(40)))
    assert [each["n"] for each in befores] == [int(n not in told) for n in range(40)]
    while hurried._current().writes._lanes._tasks:
        await asyncio.sleep(0.01)
    nothing_is_left(hurried)


async def test_a_commit_that_fails_for_a_reason_of_its_own_is_told_of(watched: Watched) -> None:
    await fill(40)
    await watched.fail("commitTransaction", 1, errorCode=13)
    results = await asyncio.gather(*(count_up(watched.store, n) for n in range(40)), return_exceptions=True)
    told = [n for n, each in enumerate(results) if isinstance(each, BaseException)]
    assert len(told) >= 30
    assert {type(results[n]) for n in told} == {StorageError}
    befores = await asyncio.gather(*(count_up(watched.store, n) for n in range(40)))
    assert [each["n"] for each in befores] == [int(n not in told) for n in range(40)]


async def test_a_connection_that_breaks_under_a_single_change(watched: Watched) -> None:
    await fill(2)
    await watched.fail("findAndModify", 1, closeConnection=True)
    assert await count_up(watched.store, 1) == {"_id": 1, "n": 0}
    assert stored()[1]["n"] == 1


async def test_who_waits_for_a_transaction_waits_within_the_time_limit(watched: Watched) -> None:
    await fill(20)
    hurried = Store(Stock, client=watched.client, timeout=2.0)
    await watched.fail("update", 1, blockConnection=True, blockTimeMS=5000)
    tasks = [asyncio.create_task(count_up(hurried, n)) for n in range(20)]
    await watched.commands.until("update")
    late = asyncio.create_task(count_up(hurried, 15))
    results = await asyncio.gather(*tasks, late, return_exceptions=True)
    for each in results:
        assert isinstance(each, dict | StorageTimeoutError | StorageUnavailableError), each
    while hurried._current().writes._lanes._tasks:
        await asyncio.sleep(0.01)
    nothing_is_left(hurried)


# Cancellation --------------------------------------------------


async def test_cancelled_changes_leave_the_others_alone(watched: Watched) -> None:
    count, keys = (500 if TORTURE == 1 else 1000 * TORTURE), 100
    await fill(keys)
    dice = random.Random(1)
    store = Store(Stock, client=watched.client, timeout=120)
    tasks = [asyncio.create_task(count_up(store, dice.randrange(keys))) for _ in range(count)]
    dropped: set[Any] = set()
    for _ in range(10):
        await asyncio.sleep(dice.choice([0, 0, 0.001]))
        dropped.update(task for task in dice.sample(tasks, count // 12) if task.cancel())
    await asyncio.gather(*tasks, return_exceptions=True)
    while store._current().writes._lanes._tasks:
        await asyncio.gather(*store._current().writes._lanes._tasks)
    counts = {key: each["n"] for key, each in stored().items()}
    befores: dict[int, list[int]] = {key: [] for key in range(keys)}
    for task in tasks:
        if not task.cancelled():
            before = task.result()
            befores[before["_id"]].append(before["n"])
    for key, seen in befores.items():
        assert len(seen) == len(set(seen))  # nobody replaced the same state twice
        assert len(seen) <= counts[key]
        assert all(n < counts[key] for n in seen)
    assert sum(map(len, befores.values())) >= count - len(dropped)
    # What was cancelled on its way to the server may be done later, and more than once it is not.
    assert counts[1] <= (await count_up(store, 1))["n"] <= counts[1] + len(dropped)
    nothing_is_left(store)


async def test_a_cancelled_wait_for_a_transaction(watched: Watched) -> None:
    await fill(20)
    await watched.fail("update", 1, blockConnection=True, blockTimeMS=2000)
    tasks = [asyncio.create_task(count_up(watched.store, n)) for n in range(20)]
    await watched.commands.until("update")
    late = [asyncio.create_task(count_up(watched.store, 15)) for _ in range(3)]
    await asyncio.sleep(0)
    late[0].cancel()
    tasks[16].cancel()
    results = await asyncio.gather(*tasks, *late, return_exceptions=True)
    assert [type(each) for each in results].count(asyncio.CancelledError) == 2
    assert sorted(each["n"] for each in results if isinstance(each, dict) and each["_id"] == 15) == [0, 1, 2]
    assert stored()[15]["n"] == 3


# A primary that steps down --------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo(test_commands=True) as server:
        yield server


@pytest.mark.parametrize("kind", FAMILIES)
async def test_a_primary_that_steps_down_in_the_middle(kind: str, server: EmbeddedMongo) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    blocking = mongoengine.connect(name, host=server.url, uuidRepresentation="standard")
    async with explicit_client(kind, server.url) as client:
        store = Store(Stock, client=client, timeout=20)
        await store.prepare()
        await fill(20)
        down = {"replSetStepDown": 1, "secondaryCatchUpPeriodSecs": 0, "force": True}
        steps, stopped = 15 * TORTURE, asyncio.Event()
        unknown = 0

        async def count(key: int) -> None:
            # The next of one document waits for the one before: the counts must never jump or repeat.
            nonlocal unknown
            known = 0
            while known < steps or not stopped.is_set():
                try:
                    before = await count_up(store, key)
                except BzzError:
                    unknown += 1
                    found = await store.find_by_id(key)
                    assert found is not None
                    assert found["n"] in (known, known + 1)
                    known = found["n"]
                else:
                    assert before["n"] == known
                    known += 1
            assert (await asyncio.to_thread(stored))[key]["n"] == known

        async def step_down() -> None:
            await asyncio.sleep(0.05)
            await asyncio.to_thread(blocking.admin.command, down)
            stopped.set()

        await asyncio.gather(step_down(), *(count(key) for key in range(20)))
        assert unknown <= 20  # each at most once, when nobody could know
        nothing_is_left(store)
        await close_clients()
    blocking.drop_database(name)
    mongoengine.disconnect_all()
