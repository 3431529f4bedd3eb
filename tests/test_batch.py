"""Batches over real HTTP: their shape, their plan, their signals, votes and early exits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import mongoengine
import pytest
import tornado.web

import bzz
from bzz import signals
from bzz.batch import Batch, Directory, Limits, read_request
from bzz.errors import MissingDocumentError, StorageTimeoutError, ValidationError
from tests.serving import Client, serving


class Ship(mongoengine.Document):
    name = mongoengine.StringField(required=True, unique=True)
    crew = mongoengine.IntField(min_value=0)
    tags = mongoengine.ListField(mongoengine.StringField())


class Secret(mongoengine.Document):
    name = mongoengine.StringField(primary_key=True)

    def to_dict(self) -> dict[str, Any]:
        raise RuntimeError("cannot be shown")


BATCH_SIGNALS = (signals.batch_started, signals.batch_failed, signals.batch_finished)


@pytest.fixture
def api() -> bzz.Api:
    api = bzz.Api(prefix="/api", batch_limits=Limits(max_operations=50, timeout=5, max_timeout=10))
    api.add(Ship)
    api.add(Secret)
    return api


@pytest.fixture
async def client(api: bzz.Api, database: str) -> AsyncIterator[Client]:
    async with serving(api) as client:
        yield client


def create(name: str, **more: Any) -> dict[str, Any]:
    return {"method": "POST", "path": "/ship", "body": {"name": name, **more}}


def get(path: str) -> dict[str, Any]:
    return {"method": "GET", "path": path}


MISSING = get("/ship/6b014e223bc5028a628fbecf")


async def run(client: Client, *operations: Any, **more: Any) -> Any:
    answer = await client.post("/api/batch", json={"operations": list(operations), **more})
    assert answer.status == 200, answer
    return answer.json


def states(told: Any) -> list[str]:
    return [each["state"] for each in told["operations"]]


def names() -> list[str]:
    return sorted(Ship.objects.scalar("name"))


# The answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
async def test_an_entry_for_every_kind_of_operation(client: Client, atomic: bool) -> None:
    made = await run(client, create("Ann", crew=3), create("Bo"))
    ann, bo = (each["body"]["id"] for each in made["operations"])
    told = await run(
        client,
        create("Cy", crew=1),
        {"method": "PUT", "path": f"/api/ship/{ann}", "body": {"crew": 4, "tags": ["x"]}},
        {"method": "PUT", "path": f"/ship/{ann}/", "body": {"crew": 4}},
        {"method": "DELETE", "path": f"/ship/{bo}"},
        get(f"/ship/{ann}"),
        get("/ship?crew__gte=2&per_page=5"),
        get(f"/ship/{bo}"),
        get("/ship/nonsense"),
        atomic=atomic,
        continue_on_error=True,
    )
    entries = told["operations"]
    assert [each["index"] for each in entries] == list(range(8))
    assert [each["status"] for each in entries] == [201, 200, 200, 204, 200, 200, 404, 404]
    assert states(told) == ["done"] * 6 + ["failed"] * 2
    created = entries[0]
    assert created["location"] == f"/api/ship/{created['body']['id']}"
    assert created["body"]["name"] == "Cy"
    assert entries[1]["diff"] == {"crew": {"from": 3, "to": 4}, "tags": {"from": [], "to": ["x"]}}
    assert entries[1]["body"] == entries[4]["body"] == entries[5]["body"][0]
    assert entries[2]["diff"] == {}
    assert entries[1]["etag"] == entries[2]["etag"] == entries[4]["etag"] != created["etag"]
    assert "body" not in entries[3]
    assert entries[6]["error"]["type"] == "urn:bzz:problem:missing"
    assert entries[6]["error"]["status"] == 404
    assert told["last_operation"] == 5
    assert names() == ["Ann", "Cy"]


async def test_an_exception_that_ends_the_plan_is_the_answer_with_the_entries(client: Client) -> None:
    answer = await client.post(
        "/api/batch", json={"name": "n", "operations": [create("Ann"), create("Ann"), create("Cy")]}
    )
    told = answer.problem(409)
    assert told["type"] == "urn:bzz:problem:duplicate"
    assert states(told) == ["done", "failed", "not_run"]
    assert [each["status"] for each in told["operations"]] == [201, 409, None]
    assert (told["name"], told["failed_operation"], told["last_operation"]) == ("n", 1, 0)
    assert names() == ["Ann"]


async def test_what_cannot_be_shown_is_stored_all_the_same(client: Client) -> None:
    told = await run(client, {"method": "POST", "path": "/secret", "body": {"name": "x"}})
    entry = told["operations"][0]
    assert (entry["state"], entry["status"], entry["error"]["status"]) == ("done", 201, 500)
    assert Secret.objects.count() == 1


async def test_an_unexpected_error_says_nothing_about_itself(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    @signals.pre_create_instance.connect
    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    answer = await client.post("/api/batch", json={"operations": [create("Ann")]})
    told = answer.problem(500)
    assert told["operations"][0]["error"]["status"] == 500
    assert b"swordfish" not in answer.body
    assert "swordfish" in caplog.text


# The shape --------------------------------------------------------------------------------------------------

BAD = [
    ([], {""}),
    ({}, {"/operations"}),
    ({"operations": {}}, {"/operations"}),
    ({"operations": [], "atomic": 1}, {"/atomic"}),
    ({"operations": [], "continue_on_error": "yes"}, {"/continue_on_error"}),
    ({"operations": [], "name": ""}, {"/name"}),
    ({"operations": [], "name": "a\nb"}, {"/name"}),
    ({"operations": [], "name": "x" * 101}, {"/name"}),
    ({"operations": [], "name": None}, {"/name"}),
    ({"operations": [], "surprise": 1, "a/b~c": 2}, {"/surprise", "/a~1b~0c"}),
    ({"operations": [], "timeout": 0}, {"/timeout"}),
    ({"operations": [], "timeout": True}, {"/timeout"}),
    ({"operations": [], "timeout": 11}, {"/timeout"}),
    ({"operations": [], "switches": "a"}, {"/switches"}),
    ({"operations": [], "switches": [1]}, {"/switches"}),
    ({"operations": [], "options": []}, {"/options"}),
    ({"operations": [], "options": {"sender": 1}}, {"/options"}),
    ({"operations": [], "options": {"_x": 1}}, {"/options"}),
    ({"operations": [], "options": {"a b": 1}}, {"/options"}),
    ({"operations": [get("/ship")] * 51}, {"/operations"}),
    ({"operations": [1, {}]}, {"/operations/0", "/operations/1/method", "/operations/1/path"}),
    ({"operations": [{"method": "get", "path": "/ship"}]}, {"/operations/0/method"}),
    ({"operations": [{"method": [], "path": 3}]}, {"/operations/0/method", "/operations/0/path"}),
    ({"operations": [get("/ship"), get("/nothing")]}, {"/operations/1/path"}),
    ({"operations": [get("ship")]}, {"/operations/0/path"}),
    ({"operations": [get("http://elsewhere/ship")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship#x")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship//x")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship//")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship/a/b")]}, {"/operations/0/path"}),
    ({"operations": [get("/")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship/%ff")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship?%ff=1")]}, {"/operations/0/path"}),
    ({"operations": [get("/ship/x?a=1")]}, {"/operations/0/path"}),
    ({"operations": [get("/" + "x" * 5000)]}, {"/operations/0/path"}),
    ({"operations": [{"method": "POST", "path": "/batch", "body": {}}]}, {"/operations/0/path"}),
    ({"operations": [{"method": "POST", "path": "/api/batch/", "body": {}}]}, {"/operations/0/path"}),
    ({"operations": [{"method": "POST", "path": "/ship/x"}]}, {"/operations/0/method"}),
    ({"operations": [{"method": "DELETE", "path": "/ship"}]}, {"/operations/0/method"}),
    ({"operations": [{"method": "PUT", "path": "/ship/x", "body": []}]}, {"/operations/0/body"}),
    ({"operations": [{**get("/ship"), "body": {}}]}, {"/operations/0/body"}),
    ({"operations": [{**get("/ship"), "if_match": "*"}]}, {"/operations/0/if_match"}),
    ({"operations": [{"method": "DELETE", "path": "/ship/x", "if_match": "a"}]}, {"/operations/0/if_match"}),
    ({"operations": [{"method": "DELETE", "path": "/ship/x", "if_match": 1}]}, {"/operations/0/if_match"}),
    ({"operations": [{**get("/ship"), "switches": "x"}]}, {"/operations/0/switches"}),
    ({"operations": [{**get("/ship"), "surprise": 1}]}, {"/operations/0/surprise"}),
]


@pytest.mark.parametrize(("body", "pointers"), BAD)
async def test_a_request_of_the_wrong_shape_is_refused_with_pointers(
    client: Client, body: Any, pointers: set[str]
) -> None:
    heard: list[Any] = []
    for signal in BATCH_SIGNALS:
        signal.connect(lambda **_kwargs: heard.append(1))
    told = (await client.post("/api/batch", json=body)).problem(400)
    assert {each["pointer"] for each in told["errors"]} == pointers
    assert not heard


async def test_nothing_runs_of_a_plan_with_one_mistake_in_it(client: Client) -> None:
    answer = await client.post("/api/batch", json={"operations": [create("Ann"), get("/nothing")]})
    answer.problem(400)
    assert names() == []


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"body": b"{", "content_type": "application/json"}, 400),
        ({"body": b'{"operations": [], "operations": []}', "content_type": "application/json"}, 400),
        ({"body": b"operations=", "content_type": "application/x-www-form-urlencoded"}, 415),
        ({"body": b'{"operations": []}', "content_type": "application/json; charset=utf-8"}, 200),
        ({"body": b'{"operations": []}', "content_type": ""}, 200),
    ],
)
async def test_bodies(client: Client, options: Any, status: int) -> None:
    assert (await client.post("/api/batch", **options)).status == status


async def test_a_body_may_be_as_deep_as_in_a_request_of_its_own(client: Client) -> None:
    async def status(depth: int) -> int:
        nested: Any = 1
        for _ in range(depth):
            nested = [nested]
        answer = await client.post("/api/batch", json={"operations": [create("x", tags=nested)]})
        kind: str = answer.json["type"]
        return answer.status if kind != "urn:bzz:problem:body" else 413

    assert await status(31) == 400
    assert await status(32) == 413


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 405), ("PUT", 405), ("DELETE", 405), ("OPTIONS", 204)]
)
async def test_other_methods(client: Client, method: str, status: int) -> None:
    answer = await client.request(method, "/api/batch", body=b"{}" if method == "PUT" else None)
    assert answer.status == status
    assert answer.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    ("where", "there", "not_there"), [("/all/at-once/", "/api/all/at-once", "/api/batch")]
)
async def test_it_can_be_moved(database: str, where: str, there: str, not_there: str) -> None:
    api = bzz.Api(prefix="api", batch=where)
    api.add(Ship)
    async with serving(api) as client:
        assert (await client.post(there, json={"operations": [get("/ship")]})).status == 200
        assert (await client.post(not_there, json={"operations": []})).status == 404
        refused = await client.post(there, json={"operations": [{"method": "POST", "path": "/all/at-once"}]})
        assert "batch" in refused.problem(400)["errors"][0]["detail"]


async def test_it_can_be_turned_off(database: str) -> None:
    api = bzz.Api(batch=None)
    api.add(Ship, resource_name="batch")
    async with serving(api) as client:
        assert (await client.post("/batch", json={"name": "Ann"})).status == 201


def test_a_resource_cannot_hide_it() -> None:
    with pytest.raises(ValueError, match="move them"):
        bzz.Api().add(Ship, resource_name="batch")


@pytest.mark.parametrize("wrong", [{"max_operations": 0}, {"timeout": 0}, {"timeout": 70}])
def test_limits_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match="max_operations"):
        Limits(**wrong)


def test_names_with_slashes_and_percent_encoded_keys() -> None:
    api = bzz.Api(prefix="api")
    api.add(Ship, resource_name="fleet/ship")
    api.add(Secret, resource_name="api")
    directory = api.directory
    found = directory.find("/api/fleet/ship/a%2Fb%20%C3%A9")
    assert (found.resource.name, found.key) == ("fleet/ship", "a/b é")
    assert directory.find("/fleet/ship/").key is None
    assert directory.find("/api/api").resource.model is Secret
    assert directory.find("/api/x").key == "x"
    assert directory.find("/api").key is None


# The plan ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "expected"),
    [([], ["c"]), (["a"], ["a", "ab", "c"]), (["b"], ["ab", "c"]), (["a", "b", "z"], ["a", "ab", "c"])],
)
async def test_switches_choose_what_is_in_the_plan(
    client: Client, switches: list[str], expected: list[str]
) -> None:
    told = await run(
        client,
        {**create("a"), "switches": ["a"]},
        {**create("ab"), "switches": ["a", "b"]},
        {**create("c"), "switches": []},
        switches=switches,
    )
    assert [each["index"] for each in told["operations"]] == list(range(len(expected)))
    assert names() == expected


async def test_an_empty_plan_starts_and_finishes(client: Client) -> None:
    heard: list[Any] = []
    for signal in BATCH_SIGNALS:
        signal.connect(lambda signal, **payload: heard.append((signal.name, payload.get("last_operation"))))
    for atomic in (False, True):
        assert (await run(client, atomic=atomic))["last_operation"] is None
    assert heard == [("batch_started", None), ("batch_finished", None)] * 2


async def test_what_receivers_do_to_data_does_not_change_the_plan(client: Client) -> None:
    seen: list[Any] = []

    @signals.pre_create_instance.connect
    def shout(data: Any) -> None:
        data["name"] = data["name"].upper()

    @signals.batch_finished.connect
    def look(sender: Batch) -> None:
        seen.append(sender.plan[0].body)

    await run(client, create("ann"))
    assert names() == ["ANN"]
    assert seen == [{"name": "ann"}]


# The signals ------------------------------------------------------------------------------------------------


async def test_what_the_three_signals_carry(client: Client) -> None:
    heard: list[tuple[str, Any, dict[str, Any]]] = []
    for signal in BATCH_SIGNALS:

        def receive(sender: Batch, signal: Any, **payload: Any) -> bool:
            payload.pop("handler")
            heard.append((signal.name, sender, payload))
            return True

        signal.connect(receive)
    await run(client, create("a"), MISSING, name="nightly", switches=["s"], options={"depth": 3})
    always = {
        "batch": "nightly",
        "routine": "nightly",
        "atomic": False,
        "dry_run": False,
        "continue_on_error": False,
        "switches": frozenset({"s"}),
        "depth": 3,
    }
    (started, first, began), (failed, second, broke), (finished, third, ended) = heard
    assert (started, failed, finished) == ("batch_started", "batch_failed", "batch_finished")
    assert first is second is third
    assert began == always
    error = broke.pop("exception")
    assert isinstance(error, MissingDocumentError)
    assert broke == {**always, "failed_operation": 1, "failed_command": 1}
    assert ended == {
        **always,
        "early_exit": False,
        "exit_operation": None,
        "last_operation": 0,
        "last_command": 0,
    }
    operation = first.plan[1]
    assert (operation.method, operation.path, operation.body) == ("GET", MISSING["path"], None)
    assert operation.resource.model is Ship


async def test_the_signatures_of_django_routines(client: Client) -> None:
    heard: list[Any] = []

    @signals.batch_started.connect
    def started(sender: Any, routine: str, **kwargs: Any) -> None:
        heard.append(routine)

    @signals.batch_failed.connect
    def failed(
        sender: Any, routine: str, failed_command: int, exception: Exception, signal: Any, **kwargs: Any
    ) -> bool:
        path = sender.plan[failed_command].path
        heard.append((routine, failed_command, path, signal is signals.batch_failed))
        return True

    @signals.batch_finished.connect
    def finished(sender: Any, routine: str, early_exit: bool, last_command: int, **kwargs: Any) -> None:
        heard.append((routine, early_exit, last_command))

    await run(client, MISSING, create("a"), name="r")
    assert heard == ["r", ("r", 0, MISSING["path"], True), ("r", False, 1)]


async def test_the_sender_can_be_chosen_by_name(client: Client) -> None:
    heard: list[str] = []
    for signal in BATCH_SIGNALS:
        signal.connect(lambda sender, **_: heard.append(sender.name), sender="nightly")
    for name in ("nightly", "daily", "night" + "ly"):
        answer = await client.post("/api/batch", json={"name": name, "operations": [MISSING]})
        answer.problem(404)
    assert heard == ["nightly"] * 4


def test_a_vote_cannot_be_taken_in_another_process() -> None:
    with pytest.raises((TypeError, ValueError)):
        signals.batch_failed.connect(test_a_vote_cannot_be_taken_in_another_process, queue="mail")


async def test_started_comes_before_anything_and_can_refuse(client: Client) -> None:
    heard: list[str] = []

    @signals.batch_started.connect
    def refuse(handler: Any) -> None:
        heard.append(handler.request.path)
        raise bzz.Veto(401, "who are you?")

    for signal in (signals.batch_failed, signals.batch_finished, signals.pre_create_instance):
        signal.connect(lambda signal, **_: heard.append(signal.name))
    told = (await client.post("/api/batch", json={"operations": [create("a")]})).problem(401)
    assert told["detail"] == "who are you?"
    assert states(told) == ["not_run"]
    assert heard == ["/api/batch"]


# Votes ------------------------------------------------------------------------------------------------------


async def _yes() -> bool:
    return True


def _raise(error: Exception) -> Any:
    def receiver(**_kwargs: Any) -> None:
        raise error

    return receiver


VOTES: list[tuple[list[Any], bool, bool]] = [
    ([], False, False),
    ([lambda: None], False, False),
    ([lambda: True], False, True),
    ([lambda: None, lambda: "go on", lambda: False], False, True),
    ([_yes], False, True),
    ([_raise(RuntimeError())], False, False),
    ([_raise(RuntimeError()), lambda: 1], False, True),
    ([lambda: 1, _raise(RuntimeError())], False, True),
    ([], True, True),
    ([lambda: False, _raise(RuntimeError())], True, True),
]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("bad", [MISSING, create("a"), create("z", crew=-1), create("z", x=1)])
@pytest.mark.parametrize(("receivers", "continues", "goes_on"), VOTES)
async def test_votes(
    client: Client, receivers: list[Any], continues: bool, goes_on: bool, atomic: bool, bad: Any
) -> None:
    heard: list[str] = []
    for receiver in receivers:
        signals.batch_failed.connect(receiver)
    for signal in BATCH_SIGNALS:
        signal.connect(lambda signal, **_: heard.append(signal.name))
    body = {
        "operations": [create("a"), bad, create("b")],
        "atomic": atomic,
        "continue_on_error": continues,
    }
    answer = await client.post("/api/batch", json=body)
    assert heard == ["batch_started", "batch_failed"] + ["batch_finished"] * goes_on
    if goes_on:
        assert answer.status == 200
        assert states(answer.json) == ["done", "failed", "done"]
        assert names() == ["a", "b"]
    else:
        assert answer.status in {400, 404, 409}
        assert states(answer.json) == ["rolled_back" if atomic else "done", "failed", "not_run"]
        assert names() == ([] if atomic else ["a"])


async def test_every_failure_is_told_when_the_plan_goes_on_anyway(client: Client) -> None:
    failed: list[int] = []

    @signals.batch_failed.connect
    def note(failed_operation: int) -> None:
        failed.append(failed_operation)

    told = await run(client, MISSING, create("a"), create("a"), MISSING, continue_on_error=True)
    assert failed == [0, 2, 3]
    assert (told["failed_operation"], told["last_operation"]) == (3, 1)


async def test_a_vote_against_by_raising_on_purpose(client: Client) -> None:
    signals.batch_failed.connect(lambda: True)
    signals.batch_failed.connect(_raise(RuntimeError("no")), errors="raise")
    (await client.post("/api/batch", json={"operations": [MISSING]})).problem(404)


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (bzz.Veto(418, "no"), 418),
        (tornado.web.HTTPError(402), 402),
        (tornado.web.Finish(), 403),
        (KeyError("x"), 500),
    ],
)
async def test_vetoes_of_operations(client: Client, error: Exception, status: int, atomic: bool) -> None:
    signals.pre_create_instance.connect(_raise(error), sender=Ship)
    body = {"operations": [get("/ship"), create("a")], "atomic": atomic}
    told = (await client.post("/api/batch", json=body)).problem(status)
    assert told["operations"][1]["status"] == status
    assert names() == []


async def test_what_receivers_write_to_the_handler_is_not_the_answer(client: Client) -> None:
    @signals.post_create_instance.connect
    def write(handler: Any) -> None:
        handler.set_status(202)
        handler.set_header("X-Seen", "yes")
        handler.write("hello")

    answer = await client.post("/api/batch", json={"operations": [create("a")]})
    assert (answer.status, answer.headers["X-Seen"]) == (200, "yes")
    assert answer.json["operations"][0]["status"] == 201


async def test_a_receiver_that_answers_by_itself_keeps_its_answer(client: Client) -> None:
    @signals.pre_create_instance.connect
    def answer_now(handler: Any) -> None:
        handler.set_status(451)
        handler.finish("gone")
        raise tornado.web.Finish

    answer = await client.post("/api/batch", json={"operations": [create("a")], "continue_on_error": True})
    assert (answer.status, answer.body) == (451, b"gone")


# Early exits ------------------------------------------------------------------------------------------------

#: Where it is raised → (what the plan then has done, exit_operation, last_operation).
EXITS: list[tuple[str, list[str], int | None, int | None]] = [
    ("batch_started", ["not_run", "not_run", "not_run"], None, None),
    ("pre_create_instance", ["done", "not_run", "not_run"], 1, 0),
    ("prerun", ["done", "not_run", "not_run"], 1, 0),
    ("post_create_instance", ["done", "done", "not_run"], 1, 1),
    ("success", ["done", "done", "not_run"], 1, 1),
    ("postrun", ["done", "done", "not_run"], 1, 1),
    ("batch_failed", ["done", "failed", "not_run"], 1, 0),
    ("failure", ["done", "failed", "not_run"], 1, 0),
]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("where", "expected", "exit_at", "last"), EXITS)
async def test_an_early_exit_ends_it_gracefully(
    api: bzz.Api,
    client: Client,
    where: str,
    expected: list[str],
    exit_at: int | None,
    last: int | None,
    atomic: bool,
) -> None:
    ended: list[Any] = []
    count = 0

    def leave(**_kwargs: Any) -> None:
        nonlocal count
        count += 1
        if where.startswith("batch_") or where == "failure" or count == 2:
            raise bzz.ExitEarly

    signal = getattr(signals, where, None) or api.hooks.signal(where)
    signal.connect(leave)
    signals.batch_failed.connect(_raise(RuntimeError()))

    @signals.batch_finished.connect
    def finished(early_exit: bool, exit_operation: Any, last_operation: Any) -> None:
        ended.append((early_exit, exit_operation, last_operation))

    second = create("a") if where in {"batch_failed", "failure"} else create("b")
    told = await run(client, create("a"), second, create("c"), atomic=atomic)
    # After the commit of an atomic batch everything is done, and everybody is told.
    after = atomic and where in {"post_create_instance", "success", "postrun"}
    wanted, last = (["done"] * 3, 2) if after else (expected, last)
    assert states(told) == wanted
    assert ended == [(True, exit_at, last)]
    assert (told["early_exit"], told["exit_operation"], told["last_operation"]) == (True, exit_at, last)
    assert len(names()) == wanted.count("done")


async def test_an_early_exit_at_the_very_first_operation(client: Client) -> None:
    signals.pre_create_instance.connect(_raise(bzz.ExitEarly()))
    for atomic in (False, True):
        told = await run(client, create("a"), create("b"), atomic=atomic)
        assert (told["exit_operation"], told["last_operation"]) == (0, None)
        assert names() == []


async def test_an_early_exit_outside_a_batch_changes_nothing_that_is_stored(client: Client) -> None:
    signals.post_create_instance.connect(_raise(bzz.ExitEarly()))
    assert (await client.post("/api/ship", json={"name": "a"})).status == 201


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_post_receiver_that_may_fail_a_request_fails_its_operation_that_stays_done(
    client: Client, atomic: bool
) -> None:
    posts: list[str] = []

    def complain(instance: Ship) -> None:
        posts.append(instance.name)
        if instance.name == "a":
            raise RuntimeError("too late")

    signals.post_create_instance.connect(complain, errors="raise")
    body = {"operations": [create("a"), create("b")], "atomic": atomic}
    told = (await client.post("/api/batch", json=body)).problem(500)
    assert told["operations"][0]["state"] == "done"
    assert told["operations"][0]["status"] == 201
    assert told["operations"][0]["error"]["status"] == 500
    assert told["failed_operation"] == 0
    assert names() == posts == (["a", "b"] if atomic else ["a"])


@pytest.mark.parametrize(("vote", "status"), [(lambda: True, 200), (_raise(bzz.ExitEarly()), 200)])
async def test_a_vote_after_the_commit(client: Client, vote: Any, status: int) -> None:
    signals.post_create_instance.connect(_raise(RuntimeError()), errors="raise")
    signals.batch_failed.connect(vote)
    answer = await client.post("/api/batch", json={"operations": [create("a")], "atomic": True})
    assert answer.status == status
    assert names() == ["a"]


# If-Match ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("if_match", "status"),
    [("{etag}", 0), ("*", 0), ('"x", {etag}', 0), ("W/{etag}", 412), ('"x"', 412), (None, 0)],
)
async def test_if_match(client: Client, method: str, if_match: str | None, status: int, atomic: bool) -> None:
    made = (await run(client, create("a", crew=1)))["operations"][0]
    operation: dict[str, Any] = {
        "method": method,
        "path": made["location"],
        "if_match": if_match and if_match.format(etag=made["etag"]),
    }
    if method == "PUT":
        operation["body"] = {"crew": 2}
    answer = await client.post("/api/batch", json={"operations": [operation], "atomic": atomic})
    if not status:
        assert states(answer.json) == ["done"]
        return
    told = answer.problem(status)
    assert told["type"] == "urn:bzz:problem:precondition"
    assert told["etag"] == made["etag"]
    assert Ship.objects.get().crew == 1


async def test_if_match_comes_before_receivers_and_a_missing_document_before_it(client: Client) -> None:
    asked: list[Any] = []
    signals.pre_update_instance.connect(lambda: asked.append(1))
    signals.pre_delete_instance.connect(lambda: asked.append(1))
    made = (await run(client, create("a")))["operations"][0]
    told = await run(
        client,
        {"method": "PUT", "path": made["location"], "body": {}, "if_match": '"old"'},
        {"method": "DELETE", "path": made["location"], "if_match": '"old"'},
        {**MISSING, "method": "DELETE", "if_match": '"old"'},
        continue_on_error=True,
    )
    assert [each["status"] for each in told["operations"]] == [412, 412, 404]
    assert asked == []


# Without HTTP -----------------------------------------------------------------------------------------------


async def test_a_batch_runs_without_a_request_too(api: bzz.Api, database: str) -> None:
    counted: list[int] = []
    request = read_request({"operations": [create("a"), create("b")]}, api.directory)
    batch = Batch(request, progress=counted.append)
    await batch.run()
    assert [each.state for each in batch.entries] == ["done", "done"]
    assert counted == [0, 1, 2]
    assert repr(batch) == "<Batch 'batch' of 2 operations>"


async def test_a_batch_out_of_time_does_not_begin_another_operation(api: bzz.Api, database: str) -> None:
    batch = Batch(read_request({"operations": [create("a"), create("b")]}, api.directory))
    signals.post_create_instance.connect(lambda: setattr(batch, "ends", 0.0))
    with pytest.raises(StorageTimeoutError):
        await batch.run()
    assert [each.state for each in batch.entries] == ["done", "failed"]
    assert names() == ["a"]


def test_a_directory_may_have_no_prefix_and_no_batch() -> None:
    directory = Directory({})
    with pytest.raises(ValueError, match="no resource"):
        directory.find("/batch")
    with pytest.raises(ValidationError):
        read_request({"operations": [get("/batch")]}, directory)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_of_two_that_name_the_same_state_one_wins(client: Client, method: str) -> None:
    for number in range(20 * int(os.environ.get("BZZ_TORTURE", "1"))):
        made = (await run(client, create(f"s{number}", crew=0)))["operations"][0]

        async def attempt(crew: int, made: Any = made) -> Any:
            operation = {"method": method, "path": made["location"], "if_match": made["etag"]}
            if method == "PUT":
                operation["body"] = {"crew": crew}
            return (await client.post("/api/batch", json={"operations": [operation]})).status

        statuses = sorted(await asyncio.gather(attempt(1), attempt(2)))
        assert statuses[0] == 200
        assert statuses[1] == 412 if method == "PUT" else statuses[1] in {404, 412}
