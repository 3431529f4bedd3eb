"""``Prefer: dry-run`` for a batch: everything is tried, nothing is stored; and JSON Patches inside of one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest
from bson import ObjectId

import bzz
from bzz import signals
from bzz.batch import Batch, read_request
from bzz.embedded import EmbeddedMongo
from bzz.errors import ExitEarly
from bzz.storage import close_clients
from tests.conftest import _forget_collections
from tests.serving import Answer, Client, serving
from tests.storage_drivers import Commands, explicit_client

WRITING = {"insert", "update", "delete", "findAndModify", "create", "createIndexes", "commitTransaction"}


class Crate(me.Document):
    name = me.StringField(primary_key=True)
    code = me.StringField(unique=True, sparse=True)
    left = me.IntField(default=0, min_value=0)
    tags = me.ListField(me.StringField())


class Careful(me.Document):
    name = me.StringField(primary_key=True)
    steps = me.IntField(default=0)
    done: list[str] = []

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.done.append("save")
        return super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self.done.append("delete")
        return super().delete(*args, **kwargs)


class Ticket(me.Document):
    number = me.SequenceField(primary_key=True)
    name = me.StringField()


class Logged(me.Document):
    text = me.StringField()
    meta = {"max_documents": 100, "max_size": 65536}


class Elsewhere(me.Document):
    text = me.StringField()
    meta = {"db_alias": "elsewhere"}


MODELS = (Crate, Careful, Ticket, Logged)


@pytest.fixture(autouse=True)
def _careful() -> None:
    Careful.done.clear()


@pytest.fixture
def api(database: str) -> bzz.Api:
    api = bzz.Api()
    for model in MODELS:
        api.add(model)
    return api


@pytest.fixture
async def client(api: bzz.Api) -> AsyncIterator[Client]:
    async with serving(api) as client:
        yield client


def op(method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
    return {"method": method, "path": path, "body": body, **more}


def make(name: str, **body: Any) -> dict[str, Any]:
    return op("POST", "/crate", {"name": name, **body})


async def run(client: Client, *operations: Any, **more: Any) -> Answer:
    return await client.post("/batch", json={"operations": operations, **more})


async def attempt(client: Client, *operations: Any, **more: Any) -> Answer:
    """Try a batch, and see that nothing is different afterwards."""
    database = Crate._get_collection().database
    before = {name: list(database[name].find()) for name in database.list_collection_names()}
    headers = {"Prefer": "dry-run"}
    answer = await client.post("/batch", json={"operations": operations, **more}, headers=headers)
    assert {name: list(database[name].find()) for name in database.list_collection_names()} == before
    if answer.status == 200:
        assert answer.headers["Preference-Applied"] == "dry-run"
    assert answer.json.get("dry_run", answer.status == 400) is True, answer
    return answer


def states(answer: Answer) -> list[tuple[str, int | None]]:
    return [(each["state"], each["status"]) for each in answer.json["operations"]]


# What would be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
async def test_each_operation_sees_the_ones_before(client: Client, atomic: bool) -> None:
    await run(client, make("old", left=1))
    plan = [
        make("new", left=1),
        op("PUT", "/crate/new", {"left": 5}),
        op("PATCH", "/crate/new", [{"op": "add", "path": "/tags/-", "value": "x"}]),
        op("GET", "/crate/new"),
        op("GET", "/crate?sort=name"),
        op("DELETE", "/crate/old"),
        op("GET", "/crate"),
        op("PUT", "/crate/new", {"left": 5}),
    ]
    tried = await attempt(client, *plan, atomic=atomic)
    assert states(tried) == [("done", each) for each in (201, 200, 200, 200, 200, 204, 200, 200)]
    entries = tried.json["operations"]
    assert entries[1]["diff"] == {"left": {"from": 1, "to": 5}}
    assert entries[2]["diff"] == {"tags": {"from": [], "to": ["x"]}}
    assert entries[3]["body"]["tags"] == ["x"]
    assert [each["name"] for each in entries[4]["body"]] == ["new", "old"]
    assert [each["name"] for each in entries[6]["body"]] == ["new"]
    assert entries[7]["diff"] == {}
    assert not any(each.keys() & {"etag", "location", "unchecked"} for each in entries)
    # Doing it then comes to the same.
    done = await run(client, *plan, atomic=atomic)
    for one, other in zip(entries, done.json["operations"], strict=True):
        assert one == {name: value for name, value in other.items() if name not in {"etag", "location"}}


async def test_uniqueness_counts_here(client: Client) -> None:
    await run(client, make("a", code="1"))
    plan = [make("b", code="2"), make("c", code="2"), make("d")]
    assert states(await attempt(client, *plan)) == [("done", 201), ("failed", 409), ("not_run", None)]
    tried = await attempt(client, *plan, make("e", code="1"), continue_on_error=True)
    assert [state for state, _status in states(tried)] == ["done", "failed", "done", "failed"]


async def test_errors_are_those_of_the_batch(client: Client) -> None:
    await run(client, make("a"))
    plan = [make("b"), op("PUT", "/crate/a", {"left": -1}), make("c")]
    for atomic, first in ((False, ("done", 201)), (True, ("rolled_back", None))):
        tried = await attempt(client, *plan, atomic=atomic)
        assert tried.problem(400)["type"] == "urn:bzz:problem:validation"
        assert states(tried) == [first, ("failed", 400), ("not_run", None)]
        assert tried.json["failed_operation"] == 1
    tried = await attempt(client, op("PUT", "/crate/a", {"left": 1}, if_match='"x"'))
    assert tried.problem(412)["etag"]
    (await attempt(client, op("GET", "/nowhere"))).problem(400)


# Who hears what ---------------------------------------------------------------------------------------------


class Heard:
    def __init__(self, api: bzz.Api) -> None:
        self.names: list[str] = []
        for name in ("prerun", "success", "failure", "postrun"):
            api.hooks.signal(name).connect(self.event)
        for signal in signals.ALL:
            signal.connect(self.note)

    def event(self, signal: Any, operation: Any) -> None:
        assert operation.dry_run
        self.names.append(signal.name)

    def note(self, signal: Any, **payload: Any) -> None:
        if signal.name.startswith("batch_"):
            assert payload["dry_run"] is True
        self.names.append(signal.name)


@pytest.mark.parametrize("atomic", [False, True])
async def test_what_can_change_the_plan_is_asked_and_nothing_is_told(
    api: bzz.Api, client: Client, atomic: bool
) -> None:
    heard = Heard(api)
    await attempt(client, make("a"), op("PUT", "/crate/a", {"left": 1}), atomic=atomic)
    assert heard.names == [
        "batch_started",
        *("prerun", "pre_create_instance", "prerun", "pre_update_instance"),
        *("success", "postrun", "success", "postrun"),
    ]
    heard.names.clear()
    await attempt(client, make("a"), make("b", left=-1), atomic=atomic)
    assert heard.names == [
        "batch_started",
        *("prerun", "pre_create_instance", "prerun", "pre_create_instance", "failure", "postrun"),
        "batch_failed",
        *(("failure", "postrun") if atomic else ("success", "postrun")),
    ]


async def test_vetoes_and_votes_count(client: Client) -> None:
    def refuse(data: Any) -> None:
        if data["name"] == "bad":
            raise bzz.Veto(402, "no")

    signals.pre_create_instance.connect(refuse)
    plan = [make("a"), make("bad"), make("b")]
    assert (await attempt(client, *plan)).problem(402)["detail"] == "no"
    with signals.batch_failed.connected_to(lambda: True):
        assert states(await attempt(client, *plan)) == [("done", 201), ("failed", 402), ("done", 201)]

    def leave(data: Any) -> None:
        if data["name"] == "b":
            raise ExitEarly

    signals.pre_create_instance.connect(leave)
    early = await attempt(client, make("a"), make("b"), make("c"))
    assert (early.json["early_exit"], early.json["exit_operation"]) == (True, 1)
    assert states(early) == [("done", 201), ("not_run", None), ("not_run", None)]


# What is left out -------------------------------------------------------------------------------------------


async def test_what_a_model_does_itself_is_not_done(client: Client) -> None:
    await run(client, op("POST", "/careful", {"name": "old"}))
    assert Careful.done == ["save"]
    tried = await attempt(
        client,
        op("POST", "/careful", {"name": "new"}),
        op("PUT", "/careful/new", {"steps": 2}),
        op("DELETE", "/careful/old"),
        op("DELETE", "/careful/new"),
        op("GET", "/careful"),
    )
    entries = tried.json["operations"]
    assert [each.get("unchecked") for each in entries] == [["save"], ["save"], ["delete"], ["delete"], None]
    assert entries[1]["diff"] == {"steps": {"from": 0, "to": 2}}
    assert entries[4]["body"] == []
    assert Careful.done == ["save"]


async def test_sequences_are_not_drawn(client: Client) -> None:
    await run(client, op("POST", "/ticket", {"name": "a"}))
    tried = await attempt(client, op("POST", "/ticket", {"name": "b"}), op("POST", "/ticket", {"name": "c"}))
    assert [each["unchecked"] for each in tried.json["operations"]] == [["sequences"]] * 2
    done = await run(client, op("POST", "/ticket", {"name": "b"}))
    assert done.json["operations"][0]["body"]["number"] == 2


async def test_nothing_is_prepared(database: str, mongo_url: str) -> None:
    """Not even the indexes that a first request makes."""
    commands = Commands()
    async with explicit_client("pymongo", mongo_url, event_listeners=[commands]) as driver:
        api = bzz.Api(client=driver)
        api.add(Crate)
        async with serving(api) as client:
            answer = await client.post(
                "/batch", json={"operations": [make("a"), make("b")]}, headers={"Prefer": "dry-run"}
            )
    assert states(answer) == [("done", 201)] * 2
    sent = commands.take()
    assert {name for name, _command in sent} & WRITING == {"insert"}
    assert all(command.get("autocommit") is False for name, command in sent if name == "insert")
    assert Crate._get_db().list_collection_names() == []


async def test_what_cannot_be_tried_is_refused(database: str, mongo_url: str) -> None:
    me.connect(f"{database}-2", alias="elsewhere", host=mongo_url, uuidRepresentation="standard", appname="x")
    api = bzz.Api()
    for model in (Crate, Logged, Elsewhere):
        api.add(model)
    async with serving(api) as client:
        plan = [make("a"), op("POST", "/logged", {}), op("POST", "/elsewhere", {})]
        problem = (await attempt(client, *plan)).problem(400)
    assert [each["pointer"] for each in problem["errors"]] == ["/operations/1", "/operations/2"]


async def test_an_empty_plan(client: Client) -> None:
    assert (await attempt(client)).json["operations"] == []


@pytest.fixture
async def alone() -> AsyncIterator[Client]:
    with EmbeddedMongo(replica_set=None) as server:
        me.connect(f"alone-{ObjectId()}", host=server.url, uuidRepresentation="standard")
        api = bzz.Api()
        api.add(Crate)
        async with serving(api) as client:
            yield client
        await close_clients()
        me.disconnect_all()
        _forget_collections(me.Document)


async def test_without_transactions_it_is_refused(alone: Client) -> None:
    tried = await attempt(alone, make("a"))
    assert tried.problem(400)["header"] == "Prefer"
    assert "replica set" in tried.json["detail"]


async def test_out_of_time(api: bzz.Api) -> None:
    data = {"operations": [make("a"), make("b")], "timeout": 1e-9}
    batch = Batch(read_request(data, api.directory), dry_run=True)
    with pytest.raises(bzz.BzzError):
        await batch.run()
    assert Crate.objects.count() == 0


# JSON Patches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_patch_is_an_array(client: Client, atomic: bool) -> None:
    patch = [
        {"op": "test", "path": "/left", "value": 0},
        {"op": "replace", "path": "/left", "value": 3},
        {"op": "add", "path": "/tags/0", "value": "x"},
    ]
    seen: list[Any] = []
    signals.pre_update_instance.connect(lambda data: seen.append(data))
    plan = [make("a"), op("PATCH", "/crate/a", patch), op("PATCH", "/crate/a", [])]
    answer = await run(client, *plan, op("PATCH", "/crate/a", {"left": 4}), atomic=atomic)
    entries = answer.json["operations"]
    assert states(answer) == [("done", 201), ("done", 200), ("done", 200), ("done", 200)]
    assert entries[1]["diff"] == {"left": {"from": 0, "to": 3}, "tags": {"from": [], "to": ["x"]}}
    assert [each["diff"] for each in entries[2:]] == [{}, {"left": {"from": 3, "to": 4}}]
    assert seen == [patch, [], {"left": 4}]


async def test_a_patch_that_does_not_fit(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    patch = [{"op": "test", "path": "/left", "value": 1}]
    answer = await run(client, make("a"), op("PATCH", "/crate/a", patch))
    assert answer.problem(409)["type"] == "urn:bzz:problem:patch"
    assert answer.json["operations"][1]["error"]["operation"] == 0


async def test_what_is_no_patch_is_told_with_pointers(client: Client) -> None:
    wrong = [{"op": "add", "path": "/a"}, 1, {"op": "remove", "path": "a"}, {"op": "remove", "path": "/a"}]
    plan = [
        op("PATCH", "/crate/a", wrong),
        op("PATCH", "/crate/a", [{"op": "remove", "path": "/a"}] * 1001),
        op("PUT", "/crate/a", []),
        op("DELETE", "/crate/a", []),
        op("PATCH", "/crate/a", "x"),
    ]
    problem = (await run(client, *plan)).problem(400)
    assert [each["pointer"] for each in problem["errors"]] == [
        *(f"/operations/0/body/{position}" for position in range(3)),
        *(f"/operations/{number}/body" for number in range(1, 5)),
    ]
