"""Batches under an ``Idempotency-Key``: done once, and gone on with where they were cut off."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine as me
import pytest
from bson import ObjectId

import bzz
from bzz import signals
from bzz.embedded import EmbeddedMongo
from bzz.errors import ExitEarly, StorageUnavailableError
from bzz.resource.idempotency import Idempotency
from bzz.storage import close_clients
from tests.conftest import _forget_collections
from tests.replays import Told, is_copy, receipts
from tests.serving import Answer, Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Step(me.Document):
    name = me.StringField(primary_key=True)
    count = me.IntField(default=0, min_value=0)


class Tick(me.Document):
    """Nothing keeps two of them from being equal."""

    name = me.StringField()


class Owner(me.Document):
    name = me.StringField(primary_key=True)


class Owned(me.Document):
    owner = me.ReferenceField(Owner, reverse_delete_rule=me.CASCADE)


def make_api(**options: Any) -> bzz.Api:
    api = bzz.Api(**options)
    for model in (Step, Tick, Owner, Owned):
        api.add(model)
    return api


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving(make_api()) as client:
        yield client


def post(name: str, **body: Any) -> dict[str, Any]:
    return {"method": "POST", "path": "/step", "body": {"name": name, **body}}


def put(name: str, count: int) -> dict[str, Any]:
    return {"method": "PUT", "path": f"/step/{name}", "body": {"count": count}}


def get(name: str) -> dict[str, Any]:
    return {"method": "GET", "path": f"/step/{name}"}


async def send(client: Client, key: str, *operations: Any, **more: Any) -> Answer:
    headers = {"Idempotency-Key": key}
    return await client.post("/batch", json={"operations": operations, **more}, headers=headers)


def states(answer: Answer) -> list[str]:
    return [each["state"] for each in answer.json["operations"]]


def names() -> list[str]:
    return sorted(each.name for each in Step.objects)


@pytest.mark.parametrize("atomic", [False, True])
async def test_the_same_answer_again(client: Client, atomic: bool) -> None:
    heard = Told("batch_", "post_")
    plan = [post("a"), put("a", 3), get("a")]
    first = await send(client, "k", *plan, atomic=atomic)
    assert (first.status, states(first)) == (200, ["done"] * 3)
    assert "Idempotent-Replayed" not in first.headers
    told = ["post_create_instance", "post_update_instance", "post_get_instance"]
    assert heard.take() == ["batch_started", *told, "batch_finished"]
    is_copy(first, await send(client, "k", *plan, atomic=atomic))
    assert heard.take() == []
    other = {"operations": [post("b"), put("b", 3), get("b")], "atomic": atomic}
    plain = await client.post("/batch", json=other)
    assert plain.json["operations"][1]["diff"] == first.json["operations"][1]["diff"]
    assert [each.keys() for each in plain.json["operations"]] == [
        each.keys() for each in first.json["operations"]
    ]
    (kept,) = receipts()
    assert kept["state"] == "kept"
    assert (await send(client, "k", post("c"), atomic=atomic)).problem(422)
    assert names() == ["a", "b"]


@pytest.mark.parametrize("atomic", [False, True])
async def test_copies_that_arrive_together(client: Client, atomic: bool) -> None:
    heard = Told("batch_", "post_")
    await client.get("/step")
    for number in range(20 * TORTURE):
        plan = [post(f"n{number}"), put(f"n{number}", 1)]
        answers = await asyncio.gather(*(send(client, f"k{number}", *plan, atomic=atomic) for _ in range(3)))
        assert {each.status for each in answers} == {200}
        assert len({each.body for each in answers}) == 1
        assert heard.take().count("post_create_instance") == 1 or number == 0
    assert len(names()) == 20 * TORTURE


async def test_a_refusal_after_something_was_done_is_kept(client: Client) -> None:
    plan = [post("a"), post("a"), post("b")]
    first = await send(client, "k", *plan)
    assert first.problem(409)["failed_operation"] == 1
    assert states(first) == ["done", "failed", "not_run"]
    is_copy(first, await send(client, "k", *plan))
    assert names() == ["a"]
    stale = [post("b"), {**put("a", 1), "if_match": '"x"'}]
    second = await send(client, "k2", *stale)
    copy = await send(client, "k2", *stale)
    is_copy(second, copy)
    assert second.problem(412)["etag"] == second.headers["ETag"] == copy.headers["ETag"]


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_refusal_before_anything_was_done_is_not(client: Client, atomic: bool) -> None:
    plan = [get("a"), put("b", -1)]
    await client.post("/step", json={"name": "a"})
    for _ in range(2):
        answer = await send(client, "k", *plan, atomic=atomic)
        assert answer.problem(400)["type"] == "urn:bzz:problem:validation"
        assert "Idempotent-Replayed" not in answer.headers
    await client.post("/step", json={"name": "b"})
    assert (await send(client, "k", *plan[:1], put("b", 1), atomic=atomic)).status == (200 if atomic else 422)


async def test_what_failed_and_was_passed_is_kept(client: Client) -> None:
    plan = [post("a"), post("a"), post("b")]
    first = await send(client, "k", *plan, continue_on_error=True)
    assert (first.status, states(first)) == (200, ["done", "failed", "done"])
    is_copy(first, await send(client, "k", *plan, continue_on_error=True))


async def test_an_atomic_batch_that_is_rolled_back_leaves_the_key_free(client: Client) -> None:
    failed = await send(client, "k", post("a"), put("a", -1), atomic=True)
    assert (failed.status, states(failed), receipts()) == (400, ["rolled_back", "failed"], [])
    assert (await send(client, "k", post("a"), put("a", 1), atomic=True)).status == 200


async def test_a_batch_that_broke_off_goes_on_where_it_was(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    plan = [post("a"), post("a"), post("b"), put("b", 2), post("c")]
    heard = Told("batch_", "post_")

    def vote(exception: Exception) -> bool:
        return not isinstance(exception, StorageUnavailableError)

    def lose() -> None:
        raise StorageUnavailableError("MongoDB cannot be reached.")

    signals.batch_failed.connect(vote)
    with signals.pre_update_instance.connected_to(lose):
        broken = await send(client, "k", *plan)
    assert (broken.status, states(broken)) == (503, ["done", "failed", "done", "failed", "not_run"])
    assert heard.take().count("post_create_instance") == 2
    # Nobody else gets the key now.
    (await send(client, "k", post("x"))).problem(422)
    done = await send(client, "k", *plan)
    assert (done.status, states(done)) == (200, ["done", "failed", "done", "done", "done"])
    assert done.json["operations"][:3] == broken.json["operations"][:3]
    assert (done.json["failed_operation"], done.json["last_operation"]) == (1, 4)
    assert heard.take() == ["batch_started", "post_update_instance", "post_create_instance", "batch_finished"]
    is_copy(done, await send(client, "k", *plan))
    assert ([each["state"] for each in receipts()], names()) == (["kept"], ["a", "b", "c"])


async def test_leaving_early(client: Client) -> None:
    def leave() -> None:
        raise ExitEarly

    signals.post_create_instance.connect(leave, errors="raise")
    plan = [post("a"), post("b")]
    first = await send(client, "k", *plan)
    assert (first.json["early_exit"], first.json["exit_operation"]) == (True, 0)
    assert states(first) == ["done", "not_run"]
    is_copy(first, await send(client, "k", *plan))
    assert names() == ["a"]


async def test_errors_of_receivers_afterwards(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    def complain() -> None:
        raise bzz.Veto(418, "afterwards")

    caplog.set_level(logging.CRITICAL)
    signals.post_create_instance.connect(complain, errors="raise")
    plan = [post("a"), post("b")]
    first = await send(client, "k", *plan, continue_on_error=True)
    assert [each["error"]["detail"] for each in first.json["operations"]] == ["afterwards"] * 2
    is_copy(first, await send(client, "k", *plan, continue_on_error=True))
    together = await send(client, "k2", post("c"), atomic=True)
    assert together.status == 418
    kept = await send(client, "k2", post("c"), atomic=True)
    assert (kept.status, states(kept), kept.headers["Idempotent-Replayed"]) == (200, ["done"], "true")


@pytest.mark.parametrize("goes_on", [False, True])
async def test_only_one_of_two_does_each_operation(
    database: str, monkeypatch: pytest.MonkeyPatch, goes_on: bool
) -> None:
    """One that is slow loses the batch to another, in the middle of it."""
    reached, opened = asyncio.Event(), asyncio.Event()

    async def hold(data: Any) -> None:
        if data["name"] == "b" and not reached.is_set():
            reached.set()
            await opened.wait()

    signals.pre_create_instance.connect(hold)
    plan = [{"method": "POST", "path": "/tick", "body": {"name": name}} for name in "abc"]
    more = {"continue_on_error": goes_on}
    async with serving(make_api()) as one, serving(make_api()) as other:
        slow = asyncio.ensure_future(send(one, "k", *plan, **more))
        await reached.wait()
        # As in another process: they meet in MongoDB only.
        monkeypatch.setattr("bzz.resource.idempotency._turns", weakref.WeakValueDictionary())
        kept = Step._get_collection().database.bzz_receipts
        kept.update_one({"state": "claimed"}, {"$set": {"lease_ms": 0}})
        done = await send(other, "k", *plan, **more)
        opened.set()
        lost = await slow
        assert states(done) == ["done"] * 3
        assert lost.problem(409)["type"] == "urn:bzz:problem:idempotency-key-in-use"
        assert (await send(one, "k", *plan, **more)).body == done.body
    assert sorted(each.name for each in Tick.objects) == ["a", "b", "c"]


async def test_what_cannot_be_in_a_transaction_runs_without(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Owner(name="o").save()
    Owned(owner=owner).save()
    plan = [post("a"), {"method": "DELETE", "path": "/owner/o"}, post("b")]
    first = await send(client, "k", *plan)
    assert states(first) == ["done"] * 3
    is_copy(first, await send(client, "k", *plan))
    assert (Owned.objects.count(), names()) == (0, ["a", "b"])

    def lose() -> None:
        raise StorageUnavailableError("MongoDB cannot be reached.")

    caplog.set_level(logging.CRITICAL)
    Owner(name="o").save()
    plan[0], plan[2] = post("c"), post("d")
    with signals.pre_delete_instance.connected_to(lose):
        assert (await send(client, "k2", *plan)).status == 503
    async with serving(make_api(idempotency=Idempotency(wait=0))) as impatient:
        (await send(impatient, "k2", *plan)).problem(409)
    assert names() == ["a", "b", "c"]
    failing = [{"method": "DELETE", "path": "/owner/x"}, post("e")]
    for _ in range(2):
        assert "Idempotent-Replayed" not in (await send(client, "k3", *failing)).headers


@pytest.mark.parametrize("atomic", [False, True])
async def test_the_claim_says_in_which_session_the_work_is(client: Client, atomic: bool) -> None:
    """So that who takes it over can end the transaction that was left open."""
    sessions: list[Any] = []
    signals.pre_create_instance.connect(lambda: sessions.append(receipts()[0]["session"]))
    await send(client, "k", post("a"), post("b"), atomic=atomic)
    assert len(sessions) == 2
    assert all(each is not None for each in sessions)


async def test_without_a_plan_there_is_nothing_to_keep(client: Client) -> None:
    for _ in range(2):
        answer = await send(client, "k", {**post("a"), "switches": ["s"]})
        assert (answer.status, answer.json["operations"]) == (200, [])
    assert names() == []


async def test_a_dry_run_uses_no_key_up(client: Client) -> None:
    headers = {"Idempotency-Key": "k", "Prefer": "dry-run"}
    tried = await client.post("/batch", json={"operations": [post("a")]}, headers=headers)
    assert (tried.status, receipts()) == (200, [])
    assert (await send(client, "k", post("a"))).status == 200


async def test_it_can_be_turned_off(database: str) -> None:
    async with serving(make_api(idempotency=False)) as client:
        assert (await send(client, "k", post("a"))).status == 200
        assert (await send(client, "k", post("b"))).status == 200
        document = (await client.get("/openapi.json")).json["paths"]["/batch"]["post"]
    assert [each["name"] for each in document["parameters"]] == ["Prefer"]
    assert "422" not in document["responses"]


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with EmbeddedMongo(replica_set=None) as server:
        yield server.url


async def test_without_transactions(standalone: str, caplog: pytest.LogCaptureFixture) -> None:
    name = f"alone-{ObjectId()}"
    me.connect(name, host=standalone, uuidRepresentation="standard")
    async with serving(make_api(idempotency=Idempotency(wait=0))) as client:
        plan = [post("a"), post("b")]
        first = await send(client, "k", *plan)
        is_copy(first, await send(client, "k", *plan))
        failed = [post("c"), post("c")]
        second = await send(client, "k2", *failed)
        assert (second.status, states(second)) == (409, ["done", "failed"])
        is_copy(second, await send(client, "k2", *failed))
        atomic = await send(client, "k3", *plan, atomic=True)
        assert atomic.problem(400)["errors"][0]["pointer"] == "/atomic"
        caplog.set_level(logging.CRITICAL)

        def lose() -> None:
            raise StorageUnavailableError("MongoDB cannot be reached.")

        with signals.pre_update_instance.connected_to(lose):
            assert (await send(client, "k4", post("d"), put("d", 1))).status == 503
        (await send(client, "k4", post("d"), put("d", 1))).problem(409)
    assert names() == ["a", "b", "c", "d"]
    await close_clients()
    me.disconnect_all()
    _forget_collections(me.Document)
