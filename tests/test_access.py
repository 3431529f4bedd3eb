"""Who may do what: methods, fields, authorization and rows, over real HTTP."""

from __future__ import annotations

from typing import Any

import mongoengine as me
import pytest
import tornado.web

import bzz
from bzz import signals
from bzz.resource import Operation
from tests.serving import Answer, Client, serving


class Home(me.EmbeddedDocument):
    city = me.StringField(required=True)
    zip = me.StringField()
    door = me.StringField()


class Person(me.Document):
    login = me.StringField(primary_key=True)
    name = me.StringField()
    password = me.StringField(min_length=4)
    joined = me.StringField()
    score = me.IntField(default=0)
    home = me.EmbeddedDocumentField(Home)
    homes = me.EmbeddedDocumentListField(Home)
    boss = me.ReferenceField("self")


class Note(me.Document):
    team = me.StringField()
    text = me.StringField()
    author = me.ReferenceField(Person)


@pytest.fixture(autouse=True)
def _connected(database: str) -> None:
    """Give every test a database of its own."""


async def batch(client: Client, *operations: dict[str, Any], **more: Any) -> Answer:
    return await client.post("/batch", json={"operations": list(operations), **more})


# Methods ----------------------------------------------------------------------------------------------------


async def test_a_resource_has_only_the_methods_that_were_chosen() -> None:
    api = bzz.Api()
    api.add(Note, methods=["GET", "PATCH"])
    async with serving(api) as client:
        note = Note(text="a").save()
        refused = await client.post("/note", json={"text": "b"})
        assert refused.problem(405)
        assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
        refused = await client.delete(f"/note/{note.pk}")
        assert refused.problem(405)
        assert refused.headers["Allow"] == "GET, HEAD, PATCH, OPTIONS"
        assert (await client.request("HEAD", f"/note/{note.pk}")).status == 200
        known = await client.request("OPTIONS", f"/note/{note.pk}")
        assert known.headers["Allow"] == "GET, HEAD, PATCH, OPTIONS"
        assert "merge-patch" in known.headers["Accept-Patch"]
        paths = (await client.get("/openapi.json")).json["paths"]
        assert sorted(paths["/note"]) == ["get", "head", "options"]
        assert sorted(paths["/note/{key}"]) == ["get", "head", "options", "patch"]


async def test_without_patch_there_is_no_accept_patch() -> None:
    async with serving(bzz.MongoEngineRestHandler.routes_for(Note, methods={"POST"})) as client:
        known = await client.request("OPTIONS", "/note/1")
        assert known.headers["Allow"] == "OPTIONS"
        assert "Accept-Patch" not in known.headers
        assert (await client.post("/note", json={"text": "a"})).status == 201
        assert (await client.get("/note")).problem(405)


async def test_a_batch_is_refused_at_the_operation_whose_method_does_not_exist() -> None:
    api = bzz.Api()
    api.add(Note, methods=["GET", "POST"])
    async with serving(api) as client:
        answer = await batch(
            client,
            {"method": "POST", "path": "/note", "body": {"text": "a"}},
            {"method": "DELETE", "path": "/note/5f0000000000000000000000"},
        )
        assert answer.problem(400)["errors"] == [
            {"pointer": "/operations/1/method", "detail": "DELETE is not allowed on note"}
        ]
        assert Note.objects.count() == 0


@pytest.mark.parametrize("methods", ["GET", ["TRACE"], ["get"]])
def test_methods_that_do_not_exist_are_refused_when_adding(methods: Any) -> None:
    with pytest.raises(ValueError, match="methods are some of"):
        bzz.Api().add(Note, methods=methods)
