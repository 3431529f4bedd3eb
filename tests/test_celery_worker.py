"""Signals through a real Redis to a real worker: what arrives, where it runs, and how failing shows."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine as me
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bzz import model as typed
from bzz import signals
from bzz.async_signals import AsyncSignal, Gone, RequestSummary
from bzz.embedded import EmbeddedRedis
from bzz.model import Schema
from bzz.signals import post_create_instance
from bzz.storage.connection import close_clients
from tests import queued_app
from tests.model_documents import JSON, Everything, Level, Puppy
from tests.program import Program
from tests.queued_app import Account, api, counted, elsewhere, failing, relayed, seen, unheard, urgent
from tests.queueing import Notes, working
from tests.serving import Client, serving

QUEUES = "usual,high_priority, mail,counted,slow"
DATABASE = f"bzz-{uuid.uuid4().hex}"
# Other test modules reset the named signals, and the application connects only when it is imported.
CONNECTED = {signal: signal.receivers for signal in signals.ALL}


@pytest.fixture(autouse=True, scope="module")
def _connected() -> Iterator[None]:
    before = {signal: signal.receivers for signal in signals.ALL}
    for signal, receivers in CONNECTED.items():
        signal.receivers = receivers
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedRedis() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", server.url)
        yield server.url


@pytest.fixture(scope="module")
def worker(broker: str, mongo_url: str) -> Iterator[Any]:
    client = me.connect(DATABASE, host=mongo_url, uuidRepresentation="standard")
    with working(broker, mongo_url, DATABASE, "--concurrency", "2", "--queues", QUEUES) as program:
        yield program
    client.drop_database(DATABASE)
    me.disconnect_all()


@pytest.fixture
def notes(broker: str, worker: Any) -> Iterator[Notes]:
    notes = Notes(broker)
    notes.clear()
    yield notes
    notes.store.close()


@pytest.fixture
async def client(worker: Any) -> AsyncIterator[Client]:
    async with serving(api.application()) as client:
        yield client
    await close_clients()


def test_it_takes_from_the_queues_it_is_told(worker: Any) -> None:
    assert queues_of(worker) == {"usual", "high_priority", "mail", "counted", "slow"}
    assert "bzz.signal" in worker.printed
    assert "bzz.receiver" in worker.printed


def queues_of(worker: Program) -> set[str]:
    return {
        line.split()[1] for line in worker.lines if line.strip().startswith(".> ") and "exchange=" in line
    }


def test_one_task_runs_the_receivers_in_order(notes: Notes) -> None:
    assert urgent.send(Account, order=7) == []
    third = notes.wait_for("third")
    first, second = notes.all("first"), notes.all("second")
    assert [each[0]["order"] for each in (first, second, third)] == [7, 7, 7]
    kinds = [b'"%s"' % kind for kind in (b"first", b"second", b"third")]
    order = [text for text in notes.store.lrange("notes", 0, -1) if any(kind in text[:30] for kind in kinds)]
    assert [kind in text for kind, text in zip(kinds, order, strict=True)] == [True] * 3
    notes.wait_for("postrun")
    assert [each["task"] for each in notes.all("prerun")] == ["bzz.signal"]
    assert notes.all("postrun")[0]["state"] == "SUCCESS"


def test_the_sender_filter_counts_in_the_worker(notes: Notes) -> None:
    urgent.send("somebody else", order=8)
    notes.wait_for("postrun")
    assert notes.all("second")[0]["order"] == 8
    assert notes.all("third") == []


def test_plain_receivers_run_in_the_task_and_asynchronous_ones_on_one_loop_per_process(notes: Notes) -> None:
    for number in range(20):
        urgent.send(Account, order=number)
    notes.wait_for("postrun", 20)
    plain, coroutine, returned = notes.all("first"), notes.all("second"), notes.all("third")
    processes = {each["process"] for each in plain}
    assert os.getpid() not in processes
    assert {each["loop"] for each in plain} == {0}
    for process in processes:
        here = [each for each in [*coroutine, *returned] if each["process"] == process]
        assert len({(each["loop"], each["thread"]) for each in here}) == 1
        assert here[0]["loop"] != 0
        assert here[0]["thread"] not in {each["thread"] for each in plain if each["process"] == process}


async def test_sending_from_a_running_loop_returns_at_once(notes: Notes) -> None:
    assert seen.send(None, value=[1]) == []
    assert await seen.send_async(Account, value=(2, b"x")) == []
    found = await asyncio.to_thread(notes.wait_for, "see", 2)
    assert [each["value"] for each in sorted(found, key=str)] == [(2, b"x"), [1]]


def test_what_looks_like_a_tag_of_kombu_or_ours_arrives_as_it_is(notes: Notes) -> None:
    value = {
        "__type__": "datetime",
        "__value__": {"__type__": "no such type", "__value__": 1},
        "deeper": [{"__type__": "uuid", "__value__": "x"}, {"~": ["oid", "x"]}],
    }
    seen.send({"not": "a class"}["not"], value=value)
    assert notes.wait_for("see")[0]["value"] == value


def test_a_document_survives_for_every_field_type(notes: Notes) -> None:
    schema = Schema.of(Everything)
    sent: dict[Any, Any] = {}

    @given(st.fixed_dictionaries(JSON))
    @settings(
        max_examples=3,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    def send_one(body: dict[str, Any]) -> None:
        document = typed.new_document(schema, typed.decode_object(schema, body, creating=True))
        document.id = ObjectId()
        stored = typed.to_stored(document)
        Everything._get_db()["mt_everything"].insert_one(stored)
        sent[document.id] = stored
        seen.send(Everything, value=typed.from_stored(schema, stored))

    send_one()
    found = notes.wait_for("see", len(sent))
    assert len(sent) >= 2
    for each in found:
        assert isinstance(each["value"], Everything)
        assert typed.same(typed.to_stored(each["value"]), sent[each["value"].id])
    assert {each["value"].id for each in found} == set(sent)
    assert each["sender"] is Everything


def test_documents_that_are_gone_or_of_a_subclass(notes: Notes) -> None:
    puppy = Puppy(name="Rex", weeks=8).save()
    lost = Account(name="lost").save()
    lost.delete()
    seen.send(None, value={"pets": [puppy, puppy], "lost": lost, "level": Level.HIGH})
    value = notes.wait_for("see")[0]["value"]
    assert type(value["pets"][0]) is Puppy
    assert value["pets"][1].weeks == 8
    assert value["lost"] == Gone(Account, lost.id)
    assert value["level"] is Level.HIGH


def test_every_receiver_runs_and_then_the_task_fails_visibly(notes: Notes, worker: Any) -> None:
    failing.send(None, value="v")
    failure = notes.wait_for("failure")[0]
    assert failure == {"task": "bzz.signal", "error": "LookupError", "detail": "v is wrong"}
    assert notes.all("survive")[0]["value"] == "v"
    assert notes.wait_for("postrun")[0]["state"] == "FAILURE"
    worker.wait_for(lambda line: "only in the log" in line)


def test_an_unknown_signal_fails_visibly(notes: Notes) -> None:
    nobody_there = AsyncSignal(name="not.imported.there", celery=queued_app.app)
    nobody_there.send(None, order=1)
    failure = notes.wait_for("failure")[0]
    assert failure["error"] == "UnknownSignalError"
    assert "'not.imported.there'" in failure["detail"]


def test_an_unknown_receiver_fails_visibly(notes: Notes) -> None:
    account = Account(name="x").save()
    with post_create_instance.connected_to(only_here, sender=Account, queue="mail"):
        post_create_instance.send(Account, instance=account, handler=None)
    failure = notes.wait_for("failure")[0]
    assert failure["error"] == "UnknownReceiverError"
    assert "test_celery_worker:only_here is not connected to post_create_instance" in failure["detail"]


def only_here(instance: Any) -> None:
    raise AssertionError("this belongs into the worker")


def test_receivers_send_in_turn(notes: Notes) -> None:
    relayed.send(None, value=1)
    found = notes.wait_for("see", 3)
    assert {(each["sender"], each["value"]) for each in found} == {
        (Account, ("from a task", 1)),
        (Account, ("from the loop", 1)),
        ("the current app", None),
    }


def test_a_signal_that_nobody_hears_is_a_task_all_the_same(notes: Notes) -> None:
    unheard.send(None)
    assert notes.wait_for("postrun")[0]["state"] == "SUCCESS"


async def test_a_resource_is_received_through_a_queue(notes: Notes, client: Client) -> None:
    answer = await client.request("POST", "/api/account", json={"name": "a"}, headers={"X-Request-Id": "r7"})
    assert answer.status == 201
    key = ObjectId(answer.json["id"])
    created = (await asyncio.to_thread(notes.wait_for, "created"))[0]
    assert created["instance"].name == "a"
    assert created["instance"].id == key
    assert created["signal"] == "post_create_instance"
    handler = created["handler"]
    assert isinstance(handler, RequestSummary)
    assert (handler.method, handler.path, handler.request_id) == ("POST", "/api/account", "r7")
    here = (await asyncio.to_thread(notes.wait_for, "created_here"))[0]
    assert here["sender"] is Account
    await asyncio.to_thread(notes.wait_for, "postrun", 2)
    assert {each["task"] for each in notes.all("prerun")} == {"bzz.receiver"}

    await client.request("PUT", f"/api/account/{key}", json={"name": "b"})
    renamed = (await asyncio.to_thread(notes.wait_for, "renamed"))[0]
    assert renamed["updated_fields"] == {"name": {"from": "a", "to": "b"}}
    assert renamed["instance"].name == "b"
    await client.request("PUT", f"/api/account/{key}", json={"name": "c"})

    await client.request("DELETE", f"/api/account/{key}")
    deleted = (await asyncio.to_thread(notes.wait_for, "deleted"))[0]
    assert (deleted["instance"].id, deleted["instance"].name) == (key, "c")
    assert len(notes.all("renamed")) == 1, "the filter is looked at before anything is sent"


async def test_what_a_batch_sends_waits_for_its_commit(notes: Notes, client: Client) -> None:
    good = {"method": "POST", "path": "/account", "body": {"name": "in a batch"}}
    bad = {"method": "POST", "path": "/account", "body": {}}
    done: list[Any] = []

    @api.on_pre_create_instance
    async def send_from_inside(data: Any) -> None:
        await seen.send_async(None, value=data.get("name", "bad"))

    try:
        for operations, name in (([good, bad], "broken"), ([good, good], "nightly")):
            body = {"name": name, "operations": operations, "atomic": True}
            done.append(await client.request("POST", "/api/batch", json=body))
    finally:
        api.hooks.signal("pre_create_instance").reset()
    assert done[1].status == 200, done
    over = (await asyncio.to_thread(notes.wait_for, "batch_over"))[0]
    assert (over["sender"], over["batch"], over["last_operation"]) == ("nightly", "nightly", 1)
    found = await asyncio.to_thread(notes.wait_for, "created", 2)
    assert [each["instance"].name for each in found] == ["in a batch"] * 2
    await asyncio.to_thread(notes.wait_for, "see", 2)
    await asyncio.to_thread(counted.send, None, number=-1)
    await asyncio.to_thread(notes.wait_for, "count")
    assert [each["value"] for each in notes.all("see")] == ["in a batch"] * 2, "and nothing of the broken one"
    assert len(notes.all("created")) == 2


async def test_presend_and_postsend_surround_the_publishing(notes: Notes, client: Client) -> None:
    heard: list[Any] = []
    accounts = queued_app.accounts

    @accounts.on_presend
    def inner(operation: Any, task: Any, args: Any, kwargs: Any, event: Any) -> None:
        heard.append(("resource presend", operation.action, args, sorted(kwargs), event))
        assert task is operation

    @api.on_presend
    async def outer(event: Any) -> None:
        heard.append(("api presend", event))

    @accounts.on_postsend
    def inner_after(event: Any) -> None:
        heard.append(("resource postsend", event))

    @api.on_postsend
    def outer_after(event: Any) -> None:
        heard.append(("api postsend", event))

    @api.on_post_create_instance
    def send_more(instance: Any) -> None:
        seen.send(Account, value=1)

    try:
        answer = await client.request("POST", "/api/account", json={"name": "told"})
        assert answer.status == 201
        await asyncio.to_thread(notes.wait_for, "see")
        await asyncio.to_thread(notes.wait_for, "created")
    finally:
        for hooks in (api.hooks, accounts.resource.hooks):
            for event in ("presend", "postsend"):
                hooks.signal(event).reset()
        api.hooks.signal("post_create_instance").reset()
    of_receiver = [each for each in heard if each[-1] == "post_create_instance"]
    assert of_receiver[:4] == [
        ("api presend", "post_create_instance"),
        ("resource presend", "create_instance", (Account,), ["handler", "instance"], "post_create_instance"),
        ("resource postsend", "post_create_instance"),
        ("api postsend", "post_create_instance"),
    ]
    of_signal = [each[0] for each in heard if each[-1] == "queued.seen"]
    assert of_signal == ["api presend", "resource presend", "resource postsend", "api postsend"]


async def test_presend_and_postsend_of_what_a_thread_sends(notes: Notes, client: Client) -> None:
    heard: list[Any] = []

    async def note_presend(event: Any, kwargs: Any) -> None:
        heard.append((event, kwargs["value"]))

    @api.on_post_get_list(thread=True)
    def send_from_a_thread(items: Any) -> None:
        seen.send(Account, value=[])

    @api.on_post_get_list
    def send_without_waiting(items: Any) -> None:
        seen.send(Account, value={})

    hooks = api.hooks
    with (
        hooks.signal("presend").connected_to(note_presend),
        hooks.signal("postsend").connected_to(note_presend),
    ):
        try:
            assert (await client.request("GET", "/api/account")).status == 200
            found = await asyncio.to_thread(notes.wait_for, "see", 2)
            while len(heard) < 4:
                await asyncio.sleep(0.01)
        finally:
            hooks.signal("post_get_list").reset()
    assert sorted(str(each["value"]) for each in found) == ["[]", "{}"]
    assert heard == [("queued.seen", []), ("queued.seen", []), ("queued.seen", {}), ("queued.seen", {})]


async def test_a_plain_send_in_a_loop_publishes_to_receivers_with_a_queue(notes: Notes) -> None:
    account = await asyncio.to_thread(Account(name="plain").save)
    post_create_instance.send(Account, instance=account, handler=None)
    created = await asyncio.to_thread(notes.wait_for, "created")
    assert created[0]["instance"].name == "plain"
    assert created[0]["handler"] is None


async def test_a_presend_receiver_can_prevent_the_publishing(notes: Notes, client: Client) -> None:
    @queued_app.accounts.on_presend
    def refuse(event: Any) -> None:
        raise ValueError("not this one")

    try:
        assert (await client.request("POST", "/api/account", json={"name": "kept"})).status == 201
    finally:
        queued_app.accounts.resource.hooks.signal("presend").reset()
    await seen.send_async(None, value="after")
    await asyncio.to_thread(notes.wait_for, "see")
    assert notes.all("created") == []


async def test_tasks_stand_in_the_queue_in_the_order_of_sending(notes: Notes) -> None:
    for number in range(50):
        elsewhere.send(None, value=number)
    await elsewhere.send_async(None, value=50)
    bodies = [json.loads(each)["body"] for each in notes.store.lrange("elsewhere", 0, -1)]
    texts = [json.loads(base64.b64decode(body))[0][1] for body in reversed(bodies)]
    assert [json.loads(text)["payload"]["value"] for text in texts] == list(range(51))
    notes.store.delete("elsewhere")


def test_a_queue_that_nobody_takes_from_keeps_its_tasks(notes: Notes, broker: str, mongo_url: str) -> None:
    elsewhere.send(None, value="waiting")
    assert notes.store.llen("elsewhere") == 1
    with working(broker, mongo_url, DATABASE, "--pool", "solo") as program:
        assert notes.wait_for("see")[0]["value"] == "waiting"
        assert queues_of(program) == {"usual", "high_priority", "mail", "counted", "slow", "elsewhere"}
        assert program.stop() == 0
