"""Many writes in few commands, on both drivers: what is refused is told by its position."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import mongoengine
import pymongo
import pytest
from bson import ObjectId

from bzz.errors import DuplicateError, StorageError, StorageTimeoutError, ValidationError
from bzz.storage import Store
from bzz.storage.bulk import PIECE, delete_all, insert_all, insert_each, update_all
from tests.storage_drivers import DRIVERS, KINDS, Commands, explicit_client

TOO_LARGE = "x" * (16 * 2**20)


class Coin(mongoengine.Document):
    number = mongoengine.IntField(unique=True)
    side = mongoengine.StringField()


class Reading(mongoengine.Document):
    at = mongoengine.DateTimeField()
    value = mongoengine.IntField()
    meta = {"timeseries": {"timeField": "at"}}


def coins(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"number": number, "side": "head"} for number in range(first, first + count)]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_transaction_of_many(kind: str, database: str, mongo_url: str) -> None:
    commands = Commands()
    async with explicit_client(kind, mongo_url, event_listeners=[commands]) as client:
        store = Store(Coin, client=client)
        await store.prepare()
        documents = coins(2 * PIECE + 1)
        commands.take()
        assert (
            await store.run_in_transaction(lambda session: insert_all(store, documents, session), 20) is None
        )
        assert commands.names.count("insert") == 3
        assert await store.count({}) == len(documents)
        assert all(isinstance(each["_id"], ObjectId) for each in documents)
        updates = [({"_id": each["_id"]}, {"$set": {"side": "tail"}}) for each in documents]
        assert await store.run_in_transaction(lambda session: update_all(store, updates, session), 20) is None
        assert commands.names.count("update") == 3
        assert await store.count({"side": "tail"}) == len(documents)
        keys = [each["_id"] for each in documents[1:]]
        await store.run_in_transaction(lambda session: delete_all(store, keys, session), 20)
        assert commands.names.count("delete") == 2
        assert await store.count({}) == 1


class Undone(Exception):
    pass


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"number": PIECE}, DuplicateError),
        ({"number": object()}, ValidationError),
        ({"number": 2**70}, ValidationError),
        ({"side": TOO_LARGE}, ValidationError),
    ],
)
async def test_what_is_refused_has_a_position(
    kind: str, wrong: Any, error: type[Exception], database: str, mongo_url: str
) -> None:
    async with explicit_client(kind, mongo_url) as client:
        store = Store(Coin, client=client)
        await store.prepare()
        documents = [*coins(PIECE + 2), wrong, *coins(2, PIECE + 5)]

        async def insert(session: Any) -> None:
            refused = await insert_all(store, documents, session)
            assert refused is not None
            assert refused.position == PIECE + 2
            assert isinstance(refused.error, error)
            raise Undone

        with pytest.raises(Undone):
            await store.run_in_transaction(insert, 20)
        assert await store.count({}) == 0


async def test_an_update_that_is_refused_has_a_position(database: str) -> None:
    store = Store(Coin)
    documents = coins(PIECE + 3)
    await insert_each(store, documents)
    updates = [({"_id": each["_id"]}, {"$set": {"number": -1 - each["number"]}}) for each in documents]
    updates[PIECE + 1] = ({"_id": documents[PIECE + 1]["_id"]}, {"$set": {"number": PIECE + 2}})

    async def update(session: Any) -> None:
        refused = await update_all(store, updates, session)
        assert refused is not None
        assert refused.position == PIECE + 1
        assert isinstance(refused.error, DuplicateError)
        raise Undone

    with pytest.raises(Undone):
        await store.run_in_transaction(update, 20)
    assert await store.count({"number": {"$lt": 0}}) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_each_for_itself(kind: str, database: str, mongo_url: str) -> None:
    commands = Commands()
    async with explicit_client(kind, mongo_url, event_listeners=[commands]) as client:
        store = Store(Coin, client=client)
        await store.prepare()
        commands.take()
        documents = coins(PIECE + 5)
        documents[3] = {"number": 2}
        documents[4] = {"number": 2**70}
        documents[PIECE + 1] = {"number": 0}
        errors = await insert_each(store, documents)
        assert {position for position, error in enumerate(errors) if error} == {3, 4, PIECE + 1}
        assert isinstance(errors[3], DuplicateError)
        assert isinstance(errors[4], ValidationError)
        assert commands.names.count("insert") == 2
        assert await store.count({}) == PIECE + 2
        too_large = await insert_each(store, [{"side": TOO_LARGE}, {"number": -1}])
        assert isinstance(too_large[0], ValidationError)
        assert too_large[1] is None
        assert await insert_each(store, []) == []


async def test_a_time_series_gets_them_one_by_one(database: str) -> None:
    store = Store(Reading)
    documents = [{"at": datetime.now(UTC), "value": 1}, {"value": 2}, {"at": datetime.now(UTC), "value": 3}]
    errors = await insert_each(store, documents)
    assert [error is None for error in errors] == [True, False, True]
    assert isinstance(errors[1], StorageError)


@pytest.fixture
def slow_replication(mongo_url: str, database: str) -> Iterator[None]:
    """Let an insert be stored, but not on as many servers as was asked for."""
    blocking: Any = pymongo.MongoClient(mongo_url)
    late = {"code": 64, "errmsg": "waiting for replication timed out"}
    data = {"failCommands": ["insert"], "appName": database, "writeConcernError": late}
    blocking.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    yield
    blocking.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    blocking.close()


@pytest.mark.usefixtures("slow_replication")
async def test_an_error_of_all_is_raised(database: str, mongo_url: str) -> None:
    async with explicit_client("pymongo", mongo_url, appname=database) as client:
        store = Store(Coin, client=client)
        await store.prepare()
        with pytest.raises(StorageTimeoutError):
            await store.run_in_transaction(lambda session: insert_all(store, coins(3), session), 20)
        assert await store.count({}) == 0
