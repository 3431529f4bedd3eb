"""Atomic batches: one transaction, in which nothing is half done and nothing is told too early."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine
import pymongo
import pytest

import bzz
from bzz import signals
from bzz.batch import Batch, read_request
from bzz.delivery.commit import kept_back
from bzz.embedded import EmbeddedMongo
from bzz.errors import ConflictError, StorageError, StorageTimeoutError, ValidationError
from bzz.storage import close_clients
from tests.serving import Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Account(mongoengine.Document):
    owner = mongoengine.StringField(primary_key=True)
    balance = mongoengine.IntField(default=0, min_value=0)
    tag = mongoengine.StringField(unique=True, sparse=True)


class Keeper(mongoengine.Document):
    """Saves itself twice, and sometimes gives up in between."""

    name = mongoengine.StringField(primary_key=True)
    steps = mongoengine.IntField(default=0)

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.steps = 1
        super().save(*args, **kwargs)
        if self.name == "bad":
            raise ValueError("half way")
        self.steps = 2
        return super().save(*args, **kwargs)


class Owner(mongoengine.Document):
    name = mongoengine.StringField(primary_key=True)


class Owned(mongoengine.Document):
    owner = mongoengine.ReferenceField(Owner, reverse_delete_rule=mongoengine.CASCADE)


class Log(mongoengine.Document):
    text = mongoengine.StringField()
    meta = {"max_documents": 10, "max_size": 4096}


class Elsewhere(mongoengine.Document):
    text = mongoengine.StringField()
    meta = {"db_alias": "elsewhere"}


@pytest.fixture
def api(database: str) -> bzz.Api:
    api = bzz.Api()
    for model in (Account, Keeper, Owner, Owned, Log):
        api.add(model)
    return api


@pytest.fixture
async def client(api: bzz.Api) -> AsyncIterator[Client]:
    async with serving(api) as client:
        yield client


def open_account(owner: str, balance: int = 0) -> dict[str, Any]:
    return {"method": "POST", "path": "/account", "body": {"owner": owner, "balance": balance}}


def put(owner: str, if_match: str | None = None, **body: Any) -> dict[str, Any]:
    return {"method": "PUT", "path": f"/account/{owner}", "body": body, "if_match": if_match}


def get(owner: str) -> dict[str, Any]:
    return {"method": "GET", "path": f"/account/{owner}"}


def planned(api: bzz.Api, *operations: Any, **more: Any) -> Batch:
    return Batch(read_request({"operations": list(operations), "atomic": True, **more}, api.directory))


def states(batch: Batch) -> list[str]:
    return [each.state for each in batch.entries]


def balances() -> dict[str, int]:
    return {each.owner: each.balance for each in Account.objects}


class Events:
    """Everything that is told of operations on accounts, in order."""

    def __init__(self, api: bzz.Api) -> None:
        self.heard: list[str] = []
        for name in ("prerun", "success", "failure", "postrun"):
            api.hooks.signal(name).connect(self.run_event)
        for signal in signals.ALL:
            if signal.name.endswith(("create_instance", "update_instance")):
                signal.connect(self.change, sender=Account)

    def run_event(self, signal: Any, operation: Any) -> None:
        self.heard.append(f"{signal.name} {operation.key or operation.data['owner']}")

    def change(self, signal: Any, instance: Any = None, data: Any = None) -> None:
        self.heard.append(f"{signal.name} {instance.owner if instance else data['owner']}")


# What is told, and when -------------------------------------------------------------------------------------


async def test_everything_is_told_in_the_order_of_the_plan_after_the_commit(api: bzz.Api) -> None:
    stored: list[dict[str, int]] = []

    @signals.post_create_instance.connect
    @signals.post_update_instance.connect
    def look() -> None:
        stored.append(balances())

    @signals.pre_update_instance.connect
    def look_from_outside() -> None:
        stored.append(balances())

    events = Events(api)
    await planned(api, open_account("a", 1), put("a", balance=2), open_account("b")).run()
    assert events.heard == [
        "prerun a",
        "pre_create_instance a",
        "prerun a",
        "pre_update_instance a",
        "prerun b",
        "pre_create_instance b",
        "post_create_instance a",
        "success a",
        "postrun a",
        "post_update_instance a",
        "success a",
        "postrun a",
        "post_create_instance b",
        "success b",
        "postrun b",
    ]
    assert stored == [{}, *[{"a": 2, "b": 0}] * 3]


async def test_nothing_rolled_back_is_ever_told_as_done(api: bzz.Api) -> None:
    events = Events(api)
    batch = planned(api, open_account("a"), open_account("b"), get("nobody"), open_account("c"))
    with pytest.raises(bzz.errors.MissingDocumentError):
        await batch.run()
    assert states(batch) == ["rolled_back", "rolled_back", "failed", "not_run"]
    assert batch.last_operation is None
    assert balances() == {}
    assert [each for each in events.heard if each.startswith("pre_c")] == [
        "pre_create_instance a",
        "pre_create_instance b",
    ]
    told = [each for each in events.heard if not each.startswith("pre")]
    assert told == [
        "failure nobody",
        "postrun nobody",
        "failure a",
        "postrun a",
        "failure b",
        "postrun b",
    ]


async def test_a_failure_receiver_that_fails_keeps_nobody_from_hearing(
    api: bzz.Api, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def complain(operation: Any) -> None:
        told.append(operation.key or operation.data["owner"])
        if operation.data is not None:
            raise RuntimeError("cannot take it")

    api.hooks.signal("failure").connect(complain, errors="raise")
    with pytest.raises(bzz.errors.MissingDocumentError):
        await planned(api, open_account("a"), open_account("b"), get("nobody")).run()
    assert told == ["nobody", "a", "b"]
    assert "cannot take it" in caplog.text


async def test_operations_see_what_those_before_them_wrote(client: Client) -> None:
    body = {
        "atomic": True,
        "operations": [
            open_account("a", 1),
            put("a", balance=5),
            get("a"),
            {"method": "GET", "path": "/account?balance=5"},
            {"method": "DELETE", "path": "/account/a"},
            get("a"),
        ],
        "continue_on_error": True,
    }
    told = (await client.post("/batch", json=body)).json["operations"]
    assert told[2]["body"]["balance"] == 5
    assert [each["owner"] for each in told[3]["body"]] == ["a"]
    assert told[5]["status"] == 404
    assert balances() == {}


async def test_what_is_sent_inside_waits_for_the_commit_and_goes_out_once(api: bzz.Api) -> None:
    sent: list[str] = []
    at_once: list[bool] = []

    def send(data: Any) -> None:
        async def publish() -> None:
            sent.append(f"{data['owner']} {sorted(balances())}")

        at_once.append(not kept_back(publish))

    signals.pre_create_instance.connect(send)
    signals.post_create_instance.connect(lambda instance: send({"owner": f"post {instance.owner}"}))
    failing = planned(api, open_account("a"), open_account("b"), get("nobody"))
    with pytest.raises(bzz.errors.MissingDocumentError):
        await failing.run()
    assert (sent, at_once) == ([], [False, False])

    at_once.clear()
    # The second operation makes MongoDB give the transaction up: there are two attempts.
    await planned(api, open_account("a"), open_account("a"), open_account("b"), continue_on_error=True).run()
    assert sent == ["a ['a', 'b']", "b ['a', 'b']"]
    assert at_once == [False, False, False, False, True, True]


# Going on, starting over ------------------------------------------------------------------------------------


async def test_an_attempt_that_starts_over_announces_nothing_twice(api: bzz.Api) -> None:
    events = Events(api)
    batch = planned(api, open_account("a"), open_account("a"), open_account("b"), continue_on_error=True)
    await batch.run()
    assert states(batch) == ["done", "failed", "done"]
    assert [
        each for each in events.heard if each.startswith(("prerun", "failure", "success", "postrun"))
    ] == [
        "prerun a",
        "prerun a",
        "failure a",
        "postrun a",
        "prerun b",
        "success a",
        "postrun a",
        "success b",
        "postrun b",
    ]
    assert balances() == {"a": 0, "b": 0}


async def test_what_prerun_left_is_what_every_attempt_starts_from(api: bzz.Api) -> None:
    @api.on_prerun
    def add(operation: Any) -> None:
        operation.data["balance"] += 10

    @signals.pre_create_instance.connect
    def double(data: Any) -> None:
        data["balance"] *= 2

    await planned(api, open_account("a", 1), open_account("a", 1), continue_on_error=True).run()
    assert balances() == {"a": 22}


async def test_an_operation_that_was_half_done_by_its_own_save_leaves_nothing(api: bzz.Api) -> None:
    def keep(name: str) -> dict[str, Any]:
        return {"method": "POST", "path": "/keeper", "body": {"name": name}}

    batch = planned(api, keep("good"), keep("bad"), keep("better"), continue_on_error=True)
    await batch.run()
    assert states(batch) == ["done", "failed", "done"]
    assert {each.name: each.steps for each in Keeper.objects} == {"good": 2, "better": 2}
    assert Keeper.objects.count() == 2


# Other writers ----------------------------------------------------------------------------------------------


async def test_a_conflict_is_tried_again_and_told_once(api: bzz.Api) -> None:
    Account(owner="a", balance=1).save()
    Account(owner="b", balance=1).save()
    interfered: list[int] = []

    @signals.pre_update_instance.connect
    def interfere(instance: Account, data: Any) -> None:
        if instance.owner == "b" and len(interfered) < 3:
            interfered.append(instance.balance)
            Account.objects(owner="b").update(inc__balance=10)

    events = Events(api)
    batch = planned(api, put("a", balance=2), put("b", balance=7))
    await batch.run()
    assert interfered == [1, 11, 21]
    assert batch.entries[1].outcome is not None
    assert batch.entries[1].outcome.updated_fields == {"balance": {"from": 31, "to": 7}}
    assert balances() == {"a": 2, "b": 7}
    assert events.heard.count("prerun a") == events.heard.count("post_update_instance a") == 1
    assert [each for each in events.heard if each.startswith("failure")] == []


async def test_a_conflict_without_end_is_reported_and_nothing_is_done(api: bzz.Api) -> None:
    Account(owner="a", balance=1).save()
    failed: list[Any] = []
    tries = 0

    @signals.pre_update_instance.connect
    def interfere() -> None:
        nonlocal tries
        tries += 1
        Account.objects(owner="a").update(inc__balance=10)

    @signals.batch_failed.connect
    def go_on(failed_operation: int, exception: Exception) -> bool:
        failed.append((failed_operation, exception))
        return True

    events = Events(api)
    batch = planned(api, open_account("b"), put("a", balance=7), open_account("c"), timeout=2.5)
    with pytest.raises((ConflictError, StorageTimeoutError)) as caught:
        await batch.run()
    assert tries > 1
    # If the time of all of it is over first, what was still to come fails for that.
    assert [number for number, _error in failed] in ([1], [1, 2])
    assert states(batch)[:2] == ["rolled_back", "failed"]
    assert type(caught.value) in {type(error) for _number, error in failed} | {ConflictError}
    assert balances() == {"a": 1 + 10 * tries}
    assert [each.split()[0] for each in events.heard if "post_" in each or "success" in each] == []
    assert events.heard.count("failure a") == events.heard.count("failure b") == 1


async def test_the_deadline_ends_it_in_the_middle(api: bzz.Api) -> None:
    waiting = asyncio.Event()

    @signals.pre_create_instance.connect
    async def wait(data: Any) -> None:
        if data["owner"] == "b":
            await waiting.wait()

    batch = planned(api, open_account("a"), open_account("b"), timeout=1.5)
    with pytest.raises(StorageTimeoutError):
        await batch.run()
    assert states(batch) == ["rolled_back", "failed"]
    assert balances() == {}


async def test_no_time_is_left_to_start_over(api: bzz.Api) -> None:
    batch = planned(api, open_account("a"), open_account("a"))

    @signals.batch_failed.connect
    def go_on(sender: Batch) -> bool:
        sender.ends = 0.0
        return True

    with pytest.raises(StorageTimeoutError):
        await batch.run()
    assert balances() == {}


async def test_a_cancelled_batch_is_rolled_back_and_says_so(api: bzz.Api) -> None:
    arrived, events = asyncio.Event(), Events(api)

    @signals.pre_create_instance.connect
    async def wait(data: Any) -> None:
        if data["owner"] == "b":
            arrived.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(planned(api, open_account("a"), open_account("b")).run())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert balances() == {}
    assert [each for each in events.heard if "failure" in each] == ["failure a", "failure b"]


async def test_transfers_at_once_keep_the_sum(client: Client) -> None:
    """Each client reads two balances and moves money with If-Match; whoever was too late tries again."""
    owners = [f"o{i}" for i in range(4)]
    for owner in owners:
        Account(owner=owner, balance=100).save()
    rounds, done = 12 * TORTURE, 0
    chance = random.Random(7)

    async def transfer(source: str, target: str, amount: int) -> bool:
        body = {"operations": [get(source), get(target)], "atomic": True}
        read = (await client.post("/batch", json=body)).json["operations"]
        (has, had), (gets, got) = ((each["body"]["balance"], each["etag"]) for each in read)
        moves = [put(source, had, balance=has - amount), put(target, got, balance=gets + amount)]
        answer = await client.post("/batch", json={"operations": moves, "atomic": True})
        assert answer.status in {200, 400, 409, 412, 503}, answer
        return answer.status == 200

    async def customer() -> int:
        won = 0
        for _ in range(rounds):
            source, target = chance.sample(owners, 2)
            won += await transfer(source, target, chance.randrange(1, 60))
            assert sum((await asyncio.to_thread(balances)).values()) >= 0
        return won

    done = sum(await asyncio.gather(*(customer() for _ in range(5))))
    assert sum(balances().values()) == 400
    assert all(balance >= 0 for balance in balances().values())
    assert done > 0


async def test_batches_that_write_the_same_documents_in_another_order_all_end(api: bzz.Api) -> None:
    for owner in ("a", "b"):
        Account(owner=owner).save()
    changes: list[tuple[str, int, int]] = []

    @signals.post_update_instance.connect
    def note(instance: Account, updated_fields: Any) -> None:
        changes.append((instance.owner, updated_fields["balance"]["from"], updated_fields["balance"]["to"]))

    pairs = [("a", "b"), ("b", "a")] * 8
    batches = [
        planned(api, *(put(owner, balance=number) for owner in pair))
        for number, pair in enumerate(pairs, start=1)
    ]
    await asyncio.gather(*(each.run() for each in batches))
    final = balances()
    assert final["a"] == final["b"]
    for owner in ("a", "b"):
        chain = {before: after for name, before, after in changes if name == owner}
        assert len(chain) == len(pairs)
        value = 0
        for _ in pairs:
            value = chain[value]
        assert value == final[owner]


# The commit -------------------------------------------------------------------------------------------------


@pytest.fixture
async def own_client(mongo_url: str, database: str) -> AsyncIterator[Any]:
    async with pymongo.AsyncMongoClient(mongo_url, appname=database, uuidRepresentation="standard") as client:
        yield client


@pytest.fixture
def own_api(own_client: Any) -> bzz.Api:
    api = bzz.Api(client=own_client)
    api.add(Account)
    return api


def end_transactions(blocking: Any, app_name: str) -> None:
    """End what a lost client left open; MongoDB itself would keep its locks for a minute."""
    idle = {"$currentOp": {"allUsers": True, "idleSessions": True}}
    mine = {"$match": {"type": "idleSession", "appName": app_name}}
    for each in blocking.admin.aggregate([idle, mine]):
        blocking.admin.command("killSessions", [{"id": each["lsid"]["id"]}])


@pytest.fixture
def commits(mongo_url: str, database: str) -> Iterator[Any]:
    """Let ``commitTransaction`` fail, for the connections of ``own_client`` only."""
    blocking: Any = pymongo.MongoClient(mongo_url)

    def fail(times: int | None, **data: Any) -> None:
        mode: Any = "alwaysOn" if times is None else {"times": times}
        only = {"failCommands": ["commitTransaction"], "appName": database, **data}
        blocking.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": only})

    try:
        yield fail
    finally:
        blocking.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
        end_transactions(blocking, database)
        blocking.close()


async def test_a_commit_that_was_lost_on_the_way_is_repeated(own_api: bzz.Api, commits: Any) -> None:
    events = Events(own_api)
    await planned(own_api, open_account("a")).run()
    commits(1, closeConnection=True)
    await planned(own_api, open_account("b")).run()
    assert balances() == {"a": 0, "b": 0}
    assert events.heard.count("post_create_instance b") == 1


async def test_a_conflict_at_the_commit_makes_everything_start_over(own_api: bzz.Api, commits: Any) -> None:
    events = Events(own_api)
    commits(1, errorCode=251, errorLabels=["TransientTransactionError"])
    batch = planned(own_api, open_account("a"), open_account("b"))
    await batch.run()
    assert balances() == {"a": 0, "b": 0}
    assert events.heard.count("pre_create_instance a") == 2
    assert events.heard.count("prerun a") == events.heard.count("post_create_instance a") == 1


async def test_a_commit_that_nobody_can_tell_of_is_reported_as_unknown(
    own_api: bzz.Api, commits: Any
) -> None:
    failed: list[Any] = []

    @signals.batch_failed.connect
    def vote(failed_operation: Any) -> bool:
        failed.append(failed_operation)
        return True

    events = Events(own_api)
    commits(None, closeConnection=True)
    batch = planned(own_api, open_account("a"), open_account("b"), timeout=2.5)
    with pytest.raises(StorageError):
        await batch.run()
    assert states(batch) == ["unknown", "unknown"]
    assert failed == [None]
    assert [each for each in events.heard if "post_" in each or "success" in each] == []


async def test_a_receiver_cannot_end_gracefully_what_could_not_be_committed(
    own_api: bzz.Api, commits: Any
) -> None:
    @signals.batch_failed.connect
    def leave() -> None:
        raise bzz.ExitEarly

    commits(None, errorCode=91)
    with pytest.raises(StorageError):
        await planned(own_api, open_account("a"), timeout=2).run()


# What cannot be atomic --------------------------------------------------------------------------------------


async def refused(api: bzz.Api, *operations: Any) -> set[str]:
    heard: list[Any] = []
    for signal in (signals.batch_started, signals.batch_failed, signals.batch_finished):
        signal.connect(lambda **_kwargs: heard.append(1))
    with pytest.raises(ValidationError) as caught:
        await planned(api, *operations).run()
    assert heard == []
    return {each.pointer for each in caught.value.errors}


DELETE_OWNER = {"method": "DELETE", "path": "/owner/x"}
WRITE_LOG = {"method": "POST", "path": "/log", "body": {"text": "x"}}


@pytest.mark.parametrize(
    ("operations", "pointers"),
    [
        ([open_account("a"), DELETE_OWNER], {"/operations/1"}),
        ([WRITE_LOG, open_account("a"), WRITE_LOG], {"/operations/0", "/operations/2"}),
        ([{**open_account("a"), "switches": ["off"]}, DELETE_OWNER], {"/operations/1"}),
    ],
)
async def test_what_cannot_join_a_transaction_is_refused_before_anything_runs(
    api: bzz.Api, operations: list[Any], pointers: set[str]
) -> None:
    assert await refused(api, *operations) == pointers
    assert balances() == {}


async def test_reading_what_cannot_be_written_in_a_transaction_is_fine(api: bzz.Api) -> None:
    Log(text="x").save()
    batch = planned(api, {"method": "GET", "path": "/log"}, {"method": "GET", "path": "/owner"})
    await batch.run()
    assert states(batch) == ["done", "done"]


async def test_two_connections_cannot_be_one_transaction(api: bzz.Api, database: str, mongo_url: str) -> None:
    mongoengine.connect(
        database, alias="elsewhere", host=mongo_url, uuidRepresentation="standard", appname="other"
    )
    api.add(Elsewhere)
    there = {"method": "POST", "path": "/elsewhere", "body": {"text": "x"}}
    assert await refused(api, open_account("a"), there) == {"/operations/1"}


async def test_two_aliases_of_one_connection_can(api: bzz.Api, database: str, mongo_url: str) -> None:
    other = f"{database}-2"
    blocking = mongoengine.connect(other, alias="elsewhere", host=mongo_url, uuidRepresentation="standard")
    api.add(Elsewhere)
    there = {"method": "POST", "path": "/elsewhere", "body": {"text": "x"}}
    try:
        with pytest.raises(bzz.errors.MissingDocumentError):
            await planned(api, there, get("nobody")).run()
        assert Elsewhere.objects.count() == 0
        await planned(api, there, open_account("a")).run()
        assert Elsewhere.objects.count() == 1
    finally:
        await close_clients()
        blocking.drop_database(other)


async def test_a_server_without_transactions() -> None:
    with EmbeddedMongo(replica_set=None) as server:
        mongoengine.connect("alone", alias="elsewhere", host=server.url, uuidRepresentation="standard")
        api = bzz.Api()
        api.add(Elsewhere)
        async with serving(api) as client:
            operation = {"method": "POST", "path": "/elsewhere", "body": {"text": "x"}}
            body = {"operations": [operation], "atomic": True}
            told = (await client.post("/batch", json=body)).problem(400)
            assert told["errors"][0]["pointer"] == "/atomic"
            assert "replica set" in told["errors"][0]["detail"]
            assert Elsewhere.objects.count() == 0
            assert (await client.post("/batch", json={**body, "atomic": False})).status == 200
        await close_clients()
        mongoengine.disconnect_all()
