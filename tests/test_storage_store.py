"""A store reads and writes documents the same way on every driver, and every command has its time limit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import mongoengine
import pytest
from bson import Binary, Decimal128, Int64, ObjectId
from mongoengine.connection import get_db
from mongoengine.context_managers import switch_db
from pymongo import ReadPreference, WriteConcern

from bzz.errors import ConflictError, StorageError, StorageTimeoutError
from bzz.storage import Store, close_clients, exactly, preparation
from tests.program import ROOT
from tests.storage_drivers import DRIVERS, KINDS, Commands, explicit_client


class Person(mongoengine.Document):
    name = mongoengine.StringField(unique=True)
    age = mongoengine.IntField()
    meta = {"indexes": ["age"], "strict": False}


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Store]:
    async with explicit_client(request.param, mongo_url) as client:
        store = Store(Person, client=client)
        await store.prepare()
        yield store


async def test_what_is_inserted_is_found_again(store: Store) -> None:
    stored: dict[str, Any] = {
        "_id": ObjectId(),
        "name": "Ada",
        "when": datetime(2026, 1, 2, 3, 4, 5, 678000),
        "price": Decimal128(Decimal("1.10")),
        "key": uuid.uuid4(),
        "raw": Binary(b"\0\xff", 128),
        "big": Int64(2**62),
        "list": [1, [2.5, None], {"a.b": {"$c": "d"}}],
    }
    await store.insert(dict(stored))
    assert await store.find_one({"_id": stored["_id"]}) == stored
    assert await store.find_by_id(stored["_id"]) == stored
    assert await store.find_by_id(stored["_id"], {"name": "Eve"}) is None
    assert await store.find_one({"_id": 0}) is None


async def test_a_key_is_made_when_there_is_none(store: Store) -> None:
    stored: dict[str, Any] = {"name": "Ada"}
    await store.insert(stored)
    assert isinstance(stored["_id"], ObjectId)
    assert await store.find_one({}) == stored


async def test_pages_come_in_order(store: Store) -> None:
    for age in range(7):
        await store.insert({"name": str(age), "age": age})
    page = await store.find({"age": {"$gte": 1}}, sort=[("age", -1)], skip=2, limit=3)
    assert [each["age"] for each in page] == [4, 3, 2]
    assert [each["age"] for each in await store.find({}, limit=100)] == list(range(7))
    names = await store.find({}, limit=1, sort=[("age", 1)], projection={"_id": 0, "name": 1})
    assert names == [{"name": "0"}]
    assert await store.find_one({"age": 3}, projection=["age"]) is not None
    assert await store.count({"age": {"$lt": 3}}) == 3
    with pytest.raises(ValueError, match="at least 1"):
        await store.find({}, limit=0)


async def test_more_than_a_batch_comes_whole(store: Store) -> None:
    await asyncio.to_thread(
        Person._get_collection().insert_many,
        [{"_id": n, "name": str(n), "blob": "x" * 200_000} for n in range(120)],
    )
    found = await store.find({}, limit=110, sort=[("_id", 1)])
    assert [each["_id"] for each in found] == list(range(110))


async def test_a_change_returns_what_it_replaced(store: Store) -> None:
    await store.insert({"_id": 1, "name": "Ada", "age": 1})
    assert await store.update({"_id": 1}, {"$set": {"age": 2}}) == {"_id": 1, "name": "Ada", "age": 1}
    assert await store.update({"_id": 1}, [{"$set": {"age": {"$add": ["$age", 1]}}}]) == {
        "_id": 1,
        "name": "Ada",
        "age": 2,
    }
    assert await store.update({"_id": 1}, {"name": "Eve"}) == {"_id": 1, "name": "Ada", "age": 3}
    assert await store.delete({"_id": 1}) == {"_id": 1, "name": "Eve"}
    assert await store.update({"_id": 1}, {"$set": {"age": 2}}) is None
    assert await store.delete({"_id": 1}) is None


async def test_an_aggregation_and_a_whole_cursor(store: Store) -> None:
    for age in range(5):
        await store.insert({"name": str(age), "age": age})
    driver, collection = store.driver(), store._current().collection
    pipeline = [{"$group": {"_id": None, "sum": {"$sum": "$age"}}}]
    assert await driver.aggregate(collection, pipeline) == [{"_id": None, "sum": 10}]
    assert len(await driver.to_list(collection.find())) == 5


async def test_concurrent_changes_replace_each_other_one_by_one(store: Store) -> None:
    await store.insert({"_id": 1, "name": "Ada", "age": 0})
    changes = [store.update({"_id": 1}, {"$set": {"age": new}}) for new in range(1, 51)]
    replaced = [each["age"] for each in await asyncio.gather(*changes) if each]
    last = await store.find_one({"_id": 1})
    assert last is not None
    assert sorted([*replaced, last["age"]]) == list(range(51))


async def test_a_guarded_write_loses_to_any_other_change(store: Store) -> None:
    seen: dict[str, Any] = {"name": "Ada", "age": 1}
    await store.insert(seen)
    await store.update({"_id": seen["_id"]}, {"$set": {"other": None}})
    assert await store.update(store.exactly(seen), {"$set": {"age": 2}}) is None
    assert await store.delete(exactly(seen)) is None
    now = await store.find_one({"_id": seen["_id"]})
    assert now is not None
    assert await store.update(exactly(now), {"$set": {"age": 2}}) == now


@pytest.mark.parametrize("kind", KINDS)
async def test_every_command_carries_its_time_limit(kind: str, database: str, mongo_url: str) -> None:
    commands = Commands()
    async with explicit_client(kind, mongo_url, event_listeners=[commands]) as client:
        store = Store(Person, client=client, timeout=7)
        await store.ping()
        await store.prepare()
        await store.insert({"_id": 1, "name": "a"})
        await store.find_one({"name": "a"})
        await store.find_by_id(1)
        await store.find({}, limit=5)
        await store.count({})
        await store.update({"_id": 1}, {"$set": {"age": 1}})
        await store.update({"_id": 1}, {"name": "b"})

        async def change(session: Any) -> None:
            await store.update({"_id": 1}, {"$set": {"age": 5}}, session=session)
            await store.find_one({"_id": 1}, session=session)
            await store.insert({"_id": 2, "name": "in"}, session=session)
            await store.count({}, session=session)

        await store.run_in_transaction(change, 7)
        with pytest.raises(ZeroDivisionError):
            async with store.transaction(7) as session:
                await store.delete({"_id": 1}, session=session)
                raise ZeroDivisionError
        await store.delete({"_id": 1})
        sent = commands.take()
    names = {name for name, _ in sent}
    assert names >= {
        "ping",
        "insert",
        "find",
        "aggregate",
        "findAndModify",
        "commitTransaction",
        "abortTransaction",
    }
    limits = [(name, command.get("maxTimeMS", 0)) for name, command in sent if name != "endSessions"]
    # A rollback has its own, because nobody waits for it.
    bad = [each for each in limits if not 0 < each[1] <= (10_000 if each[0] == "abortTransaction" else 7_000)]
    assert not bad


async def test_the_options_are_those_of_mongoengines_collection(database: str, mongo_url: str) -> None:
    mongoengine.connect(
        f"{database}-b",
        alias="other",
        host=mongo_url,
        uuidRepresentation="pythonLegacy",
        tz_aware=True,
        read_preference=ReadPreference.SECONDARY_PREFERRED,
        w=1,
        journal=True,
    )

    class Elsewhere(mongoengine.Document):
        meta = {"db_alias": "other", "collection": "places"}

    store = Store(Elsewhere)
    assert (store.alias, store.collection_name) == ("other", "places")
    ours, theirs = store._current().collection, Elsewhere._get_collection()
    for option in ("full_name", "codec_options", "read_preference", "write_concern", "read_concern"):
        assert getattr(ours, option) == getattr(theirs, option)
    assert ours.write_concern == WriteConcern(w=1, j=True)
    await store.insert({"_id": 1, "when": datetime(2026, 1, 1)})
    found = await store.find_one({"_id": 1})
    assert found == {"_id": 1, "when": datetime(2026, 1, 1, tzinfo=UTC)}
    assert Elsewhere._get_db().client.drop_database(f"{database}-b") is None


async def test_a_store_stays_where_it_was_made(database: str, mongo_url: str) -> None:
    mongoengine.connect(f"{database}-b", alias="other", host=mongo_url, uuidRepresentation="standard")
    store = Store(Person)
    await store.insert({"_id": 1, "name": "here"})
    with switch_db(Person, "other"):
        assert await store.find_one({"_id": 1}) is not None


async def test_a_store_follows_a_connection_made_anew(database: str, mongo_url: str) -> None:
    class Moving(mongoengine.Document):
        name = mongoengine.StringField(unique=True)
        meta = {"db_alias": "moving"}

    def connect(name: str) -> None:
        mongoengine.connect(name, alias="moving", host=mongo_url, uuidRepresentation="standard")

    connect(database)
    store = Store(Moving)
    await store.insert({"_id": 1, "name": "first"})
    mongoengine.disconnect("moving")
    with pytest.raises(StorageError, match="call mongoengine"):
        await store.find_one({})
    connect(f"{database}-b")
    assert await store.find_one({}) is None
    await store.insert({"_id": 1, "name": "second"})
    assert "name_1" in Moving._get_collection().index_information()
    get_db("moving").client.drop_database(f"{database}-b")
    mongoengine.disconnect("moving")
    connect(database)
    assert await store.find_one({}) == {"_id": 1, "name": "first"}


async def test_a_store_goes_on_after_its_clients_were_closed(database: str) -> None:
    store = Store(Person)
    await store.ping()
    await close_clients()
    await store.ping()


def test_a_model_without_a_collection_has_no_store() -> None:
    class Blueprint(mongoengine.Document):
        meta = {"abstract": True}

    with pytest.raises(TypeError, match="abstract"):
        Store(Blueprint)
    with pytest.raises(ValueError, match="above 0"):
        Store(Person, timeout=0)
    assert "person" in repr(Store(Person))


# Preparation -----------------------------------------------------------------------------------------------


async def test_the_first_write_makes_the_indexes_as_mongoengine_does(store: Store) -> None:
    async def indexes(name: str) -> set[str]:
        return set(await asyncio.to_thread(get_db()[name].index_information))

    await asyncio.to_thread(Person.drop_collection)
    assert await indexes("person") == set()
    await store.insert({"_id": 1, "name": "a"})
    assert await indexes("person") == {"_id_", "name_1", "age_1"}


async def test_capped_and_time_series_collections_are_made(database: str) -> None:
    class Ring(mongoengine.Document):
        meta = {"max_documents": 2, "max_size": 4096}

    class Measure(mongoengine.Document):
        time = mongoengine.DateTimeField()
        meta = {"timeseries": {"timeField": "time", "expireAfterSeconds": 3600}}

    ring, measure = Store(Ring), Store(Measure)
    for n in range(3):
        await ring.insert({"_id": n})
    assert [each["_id"] for each in await ring.find({}, limit=9)] == [1, 2]
    await measure.insert({"time": datetime(2026, 1, 1)})
    options = await asyncio.to_thread(get_db()["measure"].options)
    assert (options["timeseries"]["timeField"], options["expireAfterSeconds"]) == ("time", 3600)


async def test_many_who_wait_start_one_thread(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(mongoengine.Document):
        started = 0
        go = threading.Event()

        @classmethod
        def ensure_indexes(cls) -> None:
            cls.started += 1
            cls.go.wait(60)

    store = Store(Slow, timeout=1.5)
    before = threading.active_count()
    waits = await asyncio.gather(*(store.prepare() for _ in range(50)), return_exceptions=True)
    assert {type(each) for each in waits} == {StorageTimeoutError}
    assert threading.active_count() <= before + 4  # the preparation's, and what PyMongo needs for itself
    with pytest.raises(StorageTimeoutError):
        await store.insert({"_id": 1})
    waiting = asyncio.gather(*(store.prepare() for _ in range(50)))
    await asyncio.sleep(0)
    Slow.go.set()
    await waiting
    assert Slow.started == 1
    assert preparation.is_prepared(Slow)


async def test_a_failed_preparation_is_tried_again(database: str) -> None:
    class Fragile(mongoengine.Document):
        code = mongoengine.IntField(unique=True)
        time = mongoengine.DateTimeField()

    collection = get_db()["fragile"]
    await asyncio.to_thread(collection.insert_many, [{"_id": 1, "code": 1}, {"_id": 2, "code": 1}])
    store = Store(Fragile)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"duplicates already \(code\)"):
            await store.prepare()
        assert Fragile._collection is None
    await store.delete({"_id": 2})
    await store.insert({"_id": 3, "code": 3})
    assert "code_1" in await asyncio.to_thread(collection.index_information)


async def test_a_collection_that_does_not_fit_is_an_error(database: str) -> None:
    class Ring(mongoengine.Document):
        meta = {"max_documents": 2, "max_size": 4096}

    await asyncio.to_thread(get_db()["ring"].insert_one, {})
    with pytest.raises(StorageError, match="'ring'"):
        await Store(Ring).prepare()


async def test_a_time_series_keeps_its_options_through_a_failure(database: str) -> None:
    class Measure(mongoengine.Document):
        time = mongoengine.DateTimeField()
        meta = {"timeseries": {"timeField": "time", "granularity": "nonsense", "expireAfterSeconds": 3600}}

    store = Store(Measure)
    with pytest.raises(StorageError):
        await store.prepare()
    Measure._meta["timeseries"]["granularity"] = "hours"
    await store.prepare()
    assert (await asyncio.to_thread(get_db()["measure"].options))["expireAfterSeconds"] == 3600


async def test_a_collection_used_before_gets_its_indexes_too(database: str) -> None:
    class Early(mongoengine.Document):
        code = mongoengine.IntField(unique=True)

    Early._collection = get_db()["early"]
    await Store(Early).prepare()
    assert "code_1" in await asyncio.to_thread(get_db()["early"].index_information)


async def test_indexes_that_are_not_wanted_are_not_made(database: str) -> None:
    class Bare(mongoengine.Document):
        code = mongoengine.IntField(unique=True)
        meta = {"auto_create_index": False}

    store = Store(Bare)
    Bare._collection = get_db()["bare"]
    await store.insert({"code": 1})
    assert set(await asyncio.to_thread(get_db()["bare"].index_information)) == {"_id_"}


# Faults of a command ----------------------------------------------------------------------------------------


async def fail(client: Any, application: str, times: int, **how: Any) -> None:
    mode: Any = {"times": times} if times else "off"
    data = {"failCommands": ["findAndModify", "insert", "find"], "appName": application, **how}
    await client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})


@pytest.mark.parametrize("kind", KINDS)
async def test_write_conflicts_are_tried_again(kind: str, database: str, mongo_url: str) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, appname=name) as client:
        store = Store(Person, client=client, timeout=3)
        await store.insert({"_id": 1, "name": "a"})
        await fail(client, name, 5, errorCode=112)
        assert await store.update({"_id": 1}, {"$set": {"age": 2}}) == {"_id": 1, "name": "a"}
        await fail(client, name, 1_000_000, errorCode=112)
        try:
            with pytest.raises(ConflictError):
                await store.update({"_id": 1}, {"$set": {"age": 3}})
            with pytest.raises(ConflictError):
                await Store(Person, client=client, timeout=0.5).insert({"_id": 9, "name": "b"})
        finally:
            await fail(client, name, 0)
        found = await store.find_one({"_id": 1})
        assert found is not None
        assert found["age"] == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_command_ends_in_time(kind: str, database: str, mongo_url: str) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, appname=name) as client:
        store = Store(Person, client=client, timeout=1.5)
        await store.ping()
        await fail(client, name, 1, blockConnection=True, blockTimeMS=8000)
        started = asyncio.get_running_loop().time()
        with pytest.raises(StorageTimeoutError):
            await store.find_one({"_id": 1})
        assert asyncio.get_running_loop().time() - started < 7
        assert await store.find_one({"_id": 1}) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_that_breaks_is_not_noticed(kind: str, database: str, mongo_url: str) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, appname=name) as client:
        store = Store(Person, client=client)
        await store.insert({"_id": 1, "name": "a", "age": 1})
        await fail(client, name, 1, closeConnection=True)
        assert await store.find_one({"_id": 1}) is not None
        await fail(client, name, 1, closeConnection=True)
        before = await store.update({"_id": 1}, {"$inc": {"age": 1}})
        assert before == {"_id": 1, "name": "a", "age": 1}
        assert await store.find_one({"_id": 1}) == {"_id": 1, "name": "a", "age": 2}


SLEEP = {"body": "function() { sleep(500); return true; }", "args": [], "lang": "js"}


async def test_who_waits_for_a_slow_command_can_be_cancelled(store: Store) -> None:
    await store.insert({"_id": 1})
    call = asyncio.create_task(store.find_one({"$expr": {"$function": SLEEP}}))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await store.ping()


END_OF_A_LOOP = """
import asyncio, sys
import mongoengine
from bzz.storage import Store

class Cold(mongoengine.Document):
    name = mongoengine.StringField(unique=True)

async def begin(moment):
    store = Store(Cold)
    tasks = [asyncio.create_task(store.insert({"name": f"{moment}-{n}"})) for n in range(500)]
    await asyncio.sleep(moment)

for number in range(20):
    mongoengine.disconnect_all()
    mongoengine.connect(sys.argv[2], host=sys.argv[1], uuidRepresentation="standard")
    Cold._collection = None
    asyncio.run(begin(number * 0.02))
"""


def test_a_loop_ends_while_hundreds_wait_for_the_first_answer(mongo_url: str, database: str) -> None:
    """The end of a loop cancels all that is under way; what PyMongo holds on to then would keep it."""
    program = [sys.executable, "-W", "ignore", "-c", END_OF_A_LOOP, mongo_url, database]
    subprocess.run(program, cwd=ROOT, capture_output=True, check=True, timeout=120)
