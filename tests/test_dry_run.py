"""``Prefer: dry-run``: everything up to the write, and nothing from there on, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pymongo
import pymongo.monitoring
import pytest
from mongoengine import signals as model_signals

import bzz
from bzz import signals
from bzz.testing import capture
from tests.serving import Answer, Client, serving
from tests.storage_drivers import Commands

READING = {"find", "aggregate", "hello", "ping", "endSessions"}


class Spot(me.EmbeddedDocument):
    city = me.StringField(required=True)


class Stock(me.Document):
    name = me.StringField(required=True, unique=True)
    left = me.IntField(min_value=0, default=1)
    spot = me.EmbeddedDocumentField(Spot)
    meta = {"db_alias": "watched"}


class Numbered(me.Document):
    number = me.SequenceField(db_alias="watched")
    name = me.StringField()
    meta = {"db_alias": "watched"}


class Careful(me.Document):
    name = me.StringField(required=True)
    meta = {"db_alias": "watched"}
    saved: list[str] = []
    deleted: list[str] = []

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.saved.append(self.name)
        return super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self.deleted.append(self.name)
        return super().delete(*args, **kwargs)

    def clean(self) -> None:
        if self.name == "dirty":
            raise me.ValidationError("dirty")


class Shown(me.Document):
    name = me.StringField()
    meta = {"db_alias": "watched"}

    def to_dict(self) -> dict[str, Any]:
        return {"key": str(self.pk), "name": (self.name or "").upper()}


def wrote(commands: Commands) -> set[str]:
    return {*commands.names} - READING


@pytest.fixture
async def watched(database: str, mongo_url: str) -> AsyncIterator[tuple[Client, Commands]]:
    """A server whose every way to MongoDB is listened to: bzz's own, and mongoengine's."""
    Careful.saved.clear()
    Careful.deleted.clear()
    commands = Commands()
    options: Any = {"uuidRepresentation": "standard", "event_listeners": [commands]}
    me.connect(database, alias="watched", host=mongo_url, **options)
    driver: Any = pymongo.AsyncMongoClient(mongo_url, **options)
    api = bzz.Api(client=driver)
    for model in (Stock, Numbered, Careful, Shown):
        api.add(model)
    async with serving(api) as client:
        yield client, commands
    await driver.close()


async def dry(client: Client, method: str, path: str, json: Any = None, **options: Any) -> Answer:
    headers = {"Prefer": "dry-run", **options.pop("headers", {})}
    return await client.request(method, path, json=json, headers=headers, **options)


async def make(client: Client, path: str = "/stock", **values: Any) -> str:
    answer = await client.post(path, json={"name": "a", **values})
    assert answer.status == 201, answer
    return answer.headers["Location"]


def told(answer: Answer) -> Any:
    assert answer.status == 200, answer
    assert answer.headers["Preference-Applied"] == "dry-run"
    assert "ETag" not in answer.headers
    assert answer.json.pop("dry_run") is True
    return answer.json


async def test_nothing_is_written_before_anything_else_was(watched: tuple[Client, Commands]) -> None:
    """Not even the indexes that a first request makes."""
    client, commands = watched
    answer = told(await dry(client, "POST", "/stock", {"name": "x", "spot": {"city": "Rio"}}))
    assert answer == {
        "dry_run": True,
        "status": 201,
        "document": {"id": None, "name": "x", "left": 1, "spot": {"city": "Rio"}},
        "unchecked": ["uniqueness"],
    }
    assert wrote(commands) == set()
    (await dry(client, "PUT", "/stock/" + "0" * 24, {"name": "x"})).problem(404)
    assert wrote(commands) == set()
    await make(client)
    assert wrote(commands) >= {"createIndexes", "insert"}


async def test_updates_say_what_they_would_change(watched: tuple[Client, Commands]) -> None:
    client, commands = watched
    path = await make(client, spot={"city": "Rio"})
    before = await client.get(path)
    commands.take()
    operations = [{"op": "replace", "path": "/spot/city", "value": "Ur"}]
    with capture(*signals.ALL) as captured:
        answers = [
            await dry(client, "PUT", path, {"left": 3}),
            await dry(client, "PATCH", path, {"left": 3, "spot": None}),
            await dry(client, "PATCH", path, operations, content_type="application/json-patch+json"),
            await dry(client, "PUT", path, {"name": "a"}),
        ]
    assert wrote(commands) == set()
    assert [told(each)["diff"] for each in answers] == [
        {"left": {"from": 1, "to": 3}},
        {"left": {"from": 1, "to": 3}, "spot": {"from": {"city": "Rio"}, "to": None}},
        {"spot.city": {"from": "Rio", "to": "Ur"}},
        {},
    ]
    assert [each.json["document"]["left"] for each in answers] == [3, 3, 1, 1]
    assert {each.json["status"] for each in answers} == {200}
    assert {each.json["etag"] for each in answers} == {before.headers["ETag"]}
    assert (await client.get(path)).json == before.json
    assert {event.signal.name for event in captured.events} == {"pre_update_instance"}
    # The tag makes the write itself hold for the state that the preview was about.
    real = await client.put(path, json={"left": 3}, headers={"If-Match": answers[0].json["etag"]})
    assert real.json == answers[0].json["document"]


async def test_deletions(watched: tuple[Client, Commands]) -> None:
    client, commands = watched
    path = await make(client)
    commands.take()
    with capture(*signals.ALL) as captured:
        answer = told(await dry(client, "DELETE", path))
    assert wrote(commands) == set()
    assert (answer["status"], answer["document"]["name"], answer["unchecked"]) == (204, "a", [])
    assert "diff" not in answer
    assert [event.signal.name for event in captured.events] == ["pre_delete_instance"]
    assert (await client.delete(path)).status == 204


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_errors_are_those_of_the_write(watched: tuple[Client, Commands], method: str) -> None:
    client, commands = watched
    path = await make(client)
    commands.take()
    at = "/stock" if method == "POST" else path
    if method != "DELETE":
        invalid = (await dry(client, method, at, {"left": -1, "name": "x"})).problem(400)
        assert [each["pointer"] for each in invalid["errors"]] == ["/left"]
        (await dry(client, method, at, {"nofield": 1})).problem(400)
    if method != "POST":
        failed = (await dry(client, method, at, body=b"{}", headers={"If-Match": '"x"'})).problem(412)
        assert failed["etag"]
        (await dry(client, method, at, body=b"{}", headers={"If-Match": "x"})).problem(400)
    action = {"POST": "create", "DELETE": "delete"}.get(method, "update")

    def refuse(handler: Any) -> None:
        assert handler.is_dry_run
        raise bzz.Veto(402, "no")

    with getattr(signals, f"pre_{action}_instance").connected_to(refuse, sender=Stock):
        assert (await dry(client, method, at, body=b'{"name": "x"}')).problem(402)["detail"] == "no"
    assert wrote(commands) == set()


async def test_uniqueness_is_not_known(watched: tuple[Client, Commands]) -> None:
    client, _commands = watched
    await make(client)
    answer = told(await dry(client, "POST", "/stock", {"name": "a"}))
    assert answer["unchecked"] == ["uniqueness"]
    (await client.post("/stock", json={"name": "a"})).problem(409)


async def test_sequences_are_not_drawn(watched: tuple[Client, Commands]) -> None:
    client, commands = watched
    answer = told(await dry(client, "POST", "/numbered", {"name": "x"}))
    assert (answer["document"]["number"], answer["unchecked"]) == (None, ["uniqueness", "sequences"])
    assert wrote(commands) == set()
    path = await make(client, "/numbered")
    assert (await client.get(path)).json["number"] == 1
    cleared = told(await dry(client, "PUT", path, {"number": None}))
    assert cleared["diff"] == {"number": {"from": 1, "to": None}}
    assert (await client.put(path, json={"number": None})).json["number"] == 2


async def test_a_model_that_saves_itself_is_not_asked_to(watched: tuple[Client, Commands]) -> None:
    client, commands = watched
    path = await make(client, "/careful")
    commands.take()
    created = told(await dry(client, "POST", "/careful", {"name": "b"}))
    changed = told(await dry(client, "PUT", path, {"name": "b"}))
    assert created["unchecked"] == changed["unchecked"] == ["uniqueness", "save"]
    assert changed["diff"] == {"name": {"from": "a", "to": "b"}}
    assert told(await dry(client, "DELETE", path))["unchecked"] == ["delete"]
    for method, at in (("POST", "/careful"), ("PUT", path)):
        (await dry(client, method, at, {"name": "dirty"})).problem(400)
    assert (Careful.saved, Careful.deleted) == (["a"], [])
    assert wrote(commands) == set()


async def test_listeners_of_mongoengine_hear_nothing(watched: tuple[Client, Commands]) -> None:
    client, _commands = watched
    heard: list[Any] = []

    def listen(sender: Any, document: Any, **_kwargs: Any) -> None:
        heard.append(document)

    model_signals.pre_save.connect(listen, sender=Stock)
    try:
        assert told(await dry(client, "POST", "/stock", {"name": "x"}))["unchecked"] == ["uniqueness", "save"]
        assert heard == []
    finally:
        model_signals.pre_save.disconnect(listen, sender=Stock)


async def test_to_dict_says_how_it_would_be_shown(watched: tuple[Client, Commands]) -> None:
    client, _commands = watched
    answer = told(await dry(client, "POST", "/shown", {"name": "x"}))
    assert answer["document"] == {"key": "None", "name": "X"}


async def test_the_events_around_it_run_and_can_see_it(watched: tuple[Client, Commands]) -> None:
    api = bzz.Api()
    routes = api.add(Stock)
    seen: list[tuple[str, bool]] = []

    def note(name: str) -> Any:
        def receiver(operation: Any) -> None:
            seen.append((name, operation.dry_run))

        return receiver

    for name in ("prerun", "success", "failure", "postrun"):
        getattr(routes, f"on_{name}")(note(name))
    async with serving(api) as client:
        told(await dry(client, "POST", "/stock", {"name": "x"}))
        (await dry(client, "POST", "/stock", {})).problem(400)
        assert (await client.get("/stock", headers={"Prefer": "dry-run"})).json == []
    assert seen == [
        ("prerun", True),
        ("success", True),
        ("postrun", True),
        ("prerun", True),
        ("failure", True),
        ("postrun", True),
        ("prerun", False),
        ("success", False),
        ("postrun", False),
    ]


async def test_a_dry_run_is_answered_in_full(watched: tuple[Client, Commands]) -> None:
    client, _commands = watched
    answer = await dry(client, "POST", "/stock", {"name": "x"}, headers={"Prefer": "return=minimal, Dry-Run"})
    assert told(answer)["document"]["name"] == "x"
