"""Several writes as one: all or none, tried again when others were faster, ended in time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine
import pymongo
import pytest
from pymongo.errors import OperationFailure

from bzz.embedded import EmbeddedMongo
from bzz.errors import (
    ConflictError,
    DuplicateError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
    TransactionsUnsupportedError,
    ValidationError,
)
from bzz.storage import Store, close_clients, run_in_transaction
from bzz.storage.errors import translate
from tests.storage_drivers import DRIVERS, KINDS, Commands, explicit_client


class Account(mongoengine.Document):
    owner = mongoengine.StringField(unique=True, sparse=True)
    money = mongoengine.IntField()


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Store]:
    async with explicit_client(request.param, mongo_url) as client:
        store = Store(Account, client=client)
        await store.prepare()
        await store.insert({"_id": 1, "money": 100})
        await store.insert({"_id": 2, "money": 0})
        yield store


async def money(store: Store) -> list[int]:
    return [each["money"] for each in await store.find({"_id": {"$in": [1, 2]}}, limit=2, sort=[("_id", 1)])]


async def move(store: Store, session: Any, amount: int) -> str:
    await store.update({"_id": 1}, {"$inc": {"money": -amount}}, session=session)
    await store.update({"_id": 2}, {"$inc": {"money": amount}}, session=session)
    return "moved"


async def test_all_of_it_is_stored(store: Store) -> None:
    assert await store.run_in_transaction(lambda session: move(store, session, 30), 5) == "moved"
    assert await money(store) == [70, 30]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, KeyError])
async def test_nothing_is_stored_when_it_raises(store: Store, error: type[BaseException]) -> None:
    async def broken(session: Any) -> None:
        await move(store, session, 30)
        assert await store.find_one({"_id": 1}, session=session) == {"_id": 1, "money": 70}
        raise error

    with pytest.raises(error):
        await store.run_in_transaction(broken, 5)
    assert await money(store) == [100, 0]
    # The locks are gone at once.
    assert await store.update({"_id": 1}, {"$inc": {"money": 1}}) == {"_id": 1, "money": 100}


async def test_a_refused_write_comes_out_as_what_it_is(store: Store) -> None:
    await store.insert({"_id": 3, "owner": "x"})
    calls = 0

    async def refused(session: Any) -> None:
        nonlocal calls
        calls += 1
        await move(store, session, 1)
        await store.insert({"_id": 4, "owner": "x"}, session=session)

    with pytest.raises(DuplicateError) as caught:
        await store.run_in_transaction(refused, 5)
    assert caught.value.fields == ("owner",)
    assert calls == 1
    with pytest.raises(ValidationError):
        await store.run_in_transaction(lambda session: store.insert({"v": 2**70}, session=session), 5)
    assert await money(store) == [100, 0]


async def test_the_faster_one_wins_and_the_other_runs_again(store: Store) -> None:
    runs = 0

    async def slow(session: Any) -> None:
        nonlocal runs
        runs += 1
        await store.find_one({"_id": 2}, session=session)  # its snapshot is from before the other's write
        if runs < 3:
            await store.update({"_id": 1}, {"$inc": {"money": 1}})
        await move(store, session, 10)

    await store.run_in_transaction(slow, 10)
    assert runs == 3
    assert await money(store) == [92, 10]


async def test_many_at_once_lose_nothing(store: Store) -> None:
    transfers = [store.run_in_transaction(lambda session: move(store, session, 2), 20) for _ in range(12)]
    assert await asyncio.gather(*transfers) == ["moved"] * 12
    assert await money(store) == [76, 24]


async def test_who_never_wins_is_told_so_in_time(store: Store) -> None:
    async def hopeless(session: Any) -> None:
        await store.find_one({"_id": 2}, session=session)
        await store.update({"_id": 1}, {"$inc": {"money": 1}})
        await move(store, session, 10)

    started = asyncio.get_running_loop().time()
    with pytest.raises(ConflictError):
        await store.run_in_transaction(hopeless, 0.7)
    assert asyncio.get_running_loop().time() - started < 2.5
    assert (await money(store))[1] == 0


async def test_a_conflict_is_told_although_time_ran_out_later(store: Store) -> None:
    runs = 0

    async def slower(session: Any) -> None:
        nonlocal runs
        runs += 1
        await store.find_one({"_id": 2}, session=session)
        if runs == 2:
            await asyncio.Event().wait()
        await store.update({"_id": 1}, {"$inc": {"money": 1}})
        await move(store, session, 10)

    with pytest.raises(ConflictError):
        await store.run_in_transaction(slower, 0.8)
    assert runs == 2


async def test_a_transaction_ends_in_time(store: Store) -> None:
    async def endless(session: Any) -> None:
        await move(store, session, 10)
        await asyncio.Event().wait()

    with pytest.raises(StorageTimeoutError):
        await store.run_in_transaction(endless, 0.3)
    assert await store.update({"_id": 1}, {"$inc": {"money": 1}}) == {"_id": 1, "money": 100}


async def test_a_time_limit_of_the_block_itself_stays_its_own(store: Store) -> None:
    async def impatient(session: Any) -> None:
        await move(store, session, 10)
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await store.run_in_transaction(impatient, 5)


async def test_who_is_cancelled_leaves_no_locks(store: Store) -> None:
    reached = asyncio.Event()

    async def endless(session: Any) -> None:
        await move(store, session, 10)
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(store.run_in_transaction(endless, 5))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.update({"_id": 1}, {"$inc": {"money": 1}}) == {"_id": 1, "money": 100}


async def test_the_block_form_commits_and_rolls_back(store: Store) -> None:
    async with store.transaction(5) as session:
        await move(store, session, 5)
    with pytest.raises(ZeroDivisionError):
        async with store.transaction(5) as session:
            await move(store, session, 5)
            raise ZeroDivisionError
    assert await money(store) == [95, 5]


async def test_an_empty_transaction_does_no_harm(store: Store) -> None:
    async def nothing(session: Any) -> int:
        return 7

    assert await store.run_in_transaction(nothing, 5) == 7


async def test_errors_of_the_driver_itself_are_looked_at_too(store: Store) -> None:
    runs = 0

    async def direct(session: Any) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OperationFailure("", 112, {"errorLabels": ["TransientTransactionError"]})
        return "done"

    assert await store.run_in_transaction(direct, 5) == "done"
    with pytest.raises(OperationFailure):
        await store.run_in_transaction(_refuse, 5)


async def _refuse(session: Any) -> None:
    raise OperationFailure("", 2)


async def fail(client: Any, application: str, commands: list[str], times: int, **how: Any) -> None:
    data = {"failCommands": commands, "appName": application, **how}
    await client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("commitTransaction", {"closeConnection": True}),
        ("commitTransaction", {"errorCode": 11602}),
        (
            "commitTransaction",
            {"writeConcernError": {"code": 64, "errmsg": "", "errInfo": {"wtimeout": True}}},
        ),
        ("commitTransaction", {"errorCode": 251, "errorLabels": ["TransientTransactionError"]}),
        ("commitTransaction", {"errorCode": 50, "errorLabels": ["UnknownTransactionCommitResult"]}),
        ("findAndModify", {"closeConnection": True}),
        ("findAndModify", {"errorCode": 112, "errorLabels": ["TransientTransactionError"]}),
    ],
)
async def test_labelled_faults_are_not_seen(
    kind: str, command: str, how: dict[str, Any], database: str, mongo_url: str
) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, appname=name) as client:
        store = Store(Account, client=client)
        await store.insert({"_id": 1, "money": 100})
        await store.insert({"_id": 2, "money": 0})
        await fail(client, name, [command], 1, **how)
        await store.run_in_transaction(lambda session: move(store, session, 10), 10)
        assert await money(store) == [90, 10]


@pytest.mark.parametrize(
    ("code", "error"), [(112, ConflictError), (246, StorageTimeoutError), (251, StorageTimeoutError)]
)
async def test_what_never_stops_starting_over_has_a_name(
    code: int, error: type[Exception], database: str
) -> None:
    """246 is that there is no snapshot to read from yet, 251 that the server knows no such transaction."""

    async def restless(_session: Any) -> None:
        refusal = OperationFailure("", code, {"errorLabels": ["TransientTransactionError"]})
        raise translate(refusal) from refusal

    with pytest.raises(error):
        await Store(Account).run_in_transaction(restless, 0.3)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_commit_that_fails_for_good_is_told(kind: str, database: str, mongo_url: str) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, appname=name) as client:
        store = Store(Account, client=client)
        await store.insert({"_id": 1, "money": 100})
        await fail(client, name, ["commitTransaction"], 1, blockConnection=True, blockTimeMS=900)
        with pytest.raises(StorageTimeoutError):
            await store.run_in_transaction(lambda session: move(store, session, 10), 0.4)
        # The commit never arrived; the locks are gone all the same, and the session can be used again.
        await store.update({"_id": 1}, {"$inc": {"money": -10}})
        await store.run_in_transaction(lambda session: store.count({}, session=session), 5)
        await fail(client, name, ["commitTransaction"], 1, errorCode=13)
        with pytest.raises(StorageError, match="Unauthorized"):
            await store.run_in_transaction(lambda session: store.count({}, session=session), 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_rollback_keeps_nobody_waiting(kind: str, database: str, mongo_url: str) -> None:
    name = f"bzz-{uuid.uuid4().hex}"
    async with explicit_client(kind, mongo_url, appname=name) as client:
        store = Store(Account, client=client)
        await store.insert({"_id": 1, "money": 100})
        await fail(client, name, ["abortTransaction"], 1, blockConnection=True, blockTimeMS=4000)

        async def endless(session: Any) -> None:
            await move(store, session, 10)
            await asyncio.Event().wait()

        started = asyncio.get_running_loop().time()
        # A deadline of the driver's own around it must not keep the rollback from being sent.
        with pytest.raises(StorageTimeoutError), pymongo.timeout(0.25):
            await store.run_in_transaction(endless, 0.3)
        assert asyncio.get_running_loop().time() - started < 3.5
        # The rollback arrives all the same.
        assert await store.update({"_id": 1}, {"$inc": {"money": 1}}) == {"_id": 1, "money": 100}


async def test_support_is_asked_for_once(database: str, mongo_url: str) -> None:
    commands = Commands()
    async with explicit_client("pymongo", mongo_url, event_listeners=[commands]) as client:
        store = Store(Account, client=client)
        for _ in range(3):
            await run_in_transaction(store.driver(), lambda session: store.count({}, session=session), 5)
    assert [name for name, _ in commands.take()].count("hello") == 1


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with EmbeddedMongo(replica_set=None) as server:
        yield server.url


@pytest.mark.parametrize("kind", DRIVERS)
async def test_a_standalone_server_has_no_transactions(kind: str, standalone: str) -> None:
    mongoengine.connect("alone", host=standalone, uuidRepresentation="standard")
    async with explicit_client(kind, standalone) as client:
        store = Store(Account, client=client)
        with pytest.raises(TransactionsUnsupportedError, match="replica set"):
            await store.run_in_transaction(lambda session: move(store, session, 10), 5)
        await store.ping()
        await close_clients()
    mongoengine.disconnect_all()


async def test_nobody_answers() -> None:
    mongoengine.register_connection("away", "x", host="mongodb://127.0.0.1:9", uuidRepresentation="standard")

    class Away(mongoengine.Document):
        meta = {"db_alias": "away"}

    for limit in (0.2, 1.2):
        with pytest.raises(StorageUnavailableError):
            await Store(Away).run_in_transaction(_refuse, limit)
    await close_clients()
    mongoengine.disconnect_all()
