"""Entity tags and conditional requests (RFC 9110, 8.8.3 and 13), over real HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest

from bzz import signals
from bzz.model import Schema
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.resource.etag import etag_of, form_of, is_if_match, matches, matches_weakly
from bzz.testing import capture
from tests.serving import Client, serving

ROUNDS = int(os.environ["BZZ_TORTURE"]) * 300 if "BZZ_TORTURE" in os.environ else 50
ELSE = '"0123"'


class Site(me.EmbeddedDocument):
    city = me.StringField(required=True)


class Shop(me.Document):
    name = me.StringField(required=True)
    stock = me.IntField(default=0)
    price = me.DecimalField()
    opened = me.DateTimeField()
    key = me.UUIDField()
    site = me.EmbeddedDocumentField(Site)
    extra = me.DictField()


class Poster(me.Document):
    title = me.StringField()
    shown = 0

    def to_dict(self) -> dict[str, Any]:
        return {"title": self.title, "shown": type(self).shown}


class Strict(me.Document):
    name = me.StringField()


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    Poster.shown = 0
    routes: list[Any] = [*MongoEngineRestHandler.routes_for(Shop), *MongoEngineRestHandler.routes_for(Poster)]
    routes += MongoEngineRestHandler.routes_for(Strict, require_if_match=True)
    async with serving(routes) as client:
        yield client


async def make(client: Client, **values: Any) -> tuple[str, str]:
    answer = await client.post("/shop", json={"name": "Ana's", **values})
    assert answer.status == 201, answer
    return answer.headers["Location"], answer.headers["ETag"]


# The tag


async def test_every_answer_with_a_document_has_the_same_strong_tag(client: Client) -> None:
    values = {
        "price": "1.50",
        "opened": "2020-01-01T00:00:00.123Z",
        "key": "0e8a2ca5-8d3f-4c5b-9a6e-3f0f4e6f2b11",
        "site": {"city": "Rio"},
        "extra": {"z": 1, "a": [{"$oid": "5f" * 12}, 1.0]},
    }
    path, created = await make(client, **values)
    assert created[0] == created[-1] == '"'
    read = await client.get(path)
    head = await client.request("HEAD", path)
    assert created == read.headers["ETag"] == head.headers["ETag"]
    same = await client.put(path, json={"name": "Ana's"})
    assert same.headers["ETag"] == created
    changed = await client.put(path, json={"stock": 3, "extra": {"b": 1}})
    assert changed.headers["ETag"] != created
    assert (await client.get(path)).headers["ETag"] == changed.headers["ETag"]
    unset = await client.put(path, json={"extra": None, "price": None})
    assert (await client.get(path)).headers["ETag"] == unset.headers["ETag"] != changed.headers["ETag"]


async def test_who_writes_past_bzz_changes_the_tag(client: Client) -> None:
    path, created = await make(client)
    Shop._get_collection().update_one({}, {"$set": {"unknown to the model": 1}})
    assert (await client.get(path)).headers["ETag"] != created


async def test_lists_deletions_and_errors_have_no_tag(client: Client) -> None:
    path, _tag = await make(client)
    for answer in (
        await client.get("/shop"),
        await client.put(path, json={"stock": "many"}),
        await client.delete(path),
        await client.get(path),
    ):
        assert "ETag" not in answer.headers, answer


def test_the_form_of_a_tag_follows_the_fields() -> None:
    class Before(me.Document):
        name = me.StringField()
        meta = {"collection": "x"}

    class After(me.Document):
        name = me.StringField()
        age = me.IntField()
        meta = {"collection": "x"}

    forms = {form_of(Schema.of(each)) for each in (Before, After, Shop)}
    assert len(forms) == 3
    stored = {"_id": 1, "name": "Ana"}
    old, new = (etag_of(stored, form_of(Schema.of(each))) for each in (Before, After))
    assert not matches_weakly(old, new)
    assert matches(old, stored)
    assert matches(new, stored)


# If-None-Match


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("unless", "status"),
    [
        ("TAG", 304),
        ("W/TAG", 304),
        (f"{ELSE}, TAG", 304),
        (f'{ELSE},W/"a,b" , ,W/TAG,', 304),
        ("*", 304),
        (ELSE, 200),
        (f"W/{ELSE}", 200),
    ],
)
async def test_if_none_match_when_reading(client: Client, method: str, unless: str, status: int) -> None:
    path, tag = await make(client)
    answer = await client.request(method, path, headers={"If-None-Match": unless.replace("TAG", tag)})
    assert answer.status == status
    assert answer.headers["ETag"] == tag
    assert bool(answer.body) is (method == "GET" and status == 200)


async def test_a_missing_document_is_missing_whatever_the_condition(client: Client) -> None:
    for header in ("If-Match", "If-None-Match"):
        for method in ("GET", "PUT", "DELETE"):
            answer = await client.request(
                method, "/shop/" + "0" * 24, headers={header: "*"}, body=b"{}" if method == "PUT" else None
            )
            answer.problem(404)


async def test_to_dict_is_part_of_the_tag_of_an_answer_but_not_of_the_state(client: Client) -> None:
    created = await client.post("/poster", json={"title": "x"})
    path, tag = created.headers["Location"], created.headers["ETag"]
    assert (await client.get(path, headers={"If-None-Match": tag})).status == 304
    Poster.shown += 1
    shown = await client.get(path, headers={"If-None-Match": tag})
    assert (shown.status, shown.json["shown"]) == (200, 1)
    (await client.put(path, json={"title": "y"}, headers={"If-Match": ELSE})).problem(412)
    assert (await client.put(path, json={"title": "y"}, headers={"If-Match": tag})).status == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("unless", "status"), [("*", 412), ("TAG", 412), ("W/TAG", 412), (ELSE, 200), (f"W/{ELSE}", 200)]
)
async def test_if_none_match_when_writing(client: Client, method: str, unless: str, status: int) -> None:
    path, tag = await make(client)
    body = b'{"stock": 1}' if method == "PUT" else None
    headers = {"If-None-Match": unless.replace("TAG", tag)}
    answer = await client.request(method, path, body=body, headers=headers)
    if status == 412:
        assert answer.problem(412)["etag"] == tag
        assert (await client.get(path)).json["stock"] == 0
    else:
        assert answer.status == (204 if method == "DELETE" else 200)


# If-Match


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("condition", "holds"),
    [("TAG", True), ("*", True), (f"{ELSE} , TAG", True), ("W/TAG", False), (ELSE, False), ("STATE", True)],
)
@pytest.mark.parametrize("heard", [False, True])
async def test_if_match(client: Client, method: str, condition: str, holds: bool, heard: bool) -> None:
    path, tag = await make(client)
    headers = {"If-Match": condition.replace("TAG", tag).replace("STATE", tag.split(".")[0] + '"')}
    body = b'{"stock": 1}' if method == "PUT" else None
    with capture(*(signals.ALL if heard else ())) as captured:
        answer = await client.request(method, path, body=body, headers=headers)
    if holds:
        assert answer.status == (204 if method == "DELETE" else 200), answer
        return
    problem = answer.problem(412)
    assert problem["type"] == "urn:bzz:problem:precondition"
    assert problem["etag"] == answer.headers["ETag"] == tag
    assert (await client.get(path)).json["stock"] == 0
    assert not [event for event in captured.events if event.signal.name.startswith("post")]


async def test_the_problem_has_the_fields_that_the_request_would_have_changed(client: Client) -> None:
    path, tag = await make(client, site={"city": "Rio"}, price="1.50")
    mine = {"name": "Mine", "price": "2.00", "stock": 7, "site": {"city": "Bonn"}}
    await client.put(path, json={"stock": 7, "name": "Theirs"})
    problem = (await client.put(path, json=mine, headers={"If-Match": tag})).problem(412)
    assert problem["conflicts"] == {
        "name": {"stored": "Theirs", "requested": "Mine"},
        "price": {"stored": "1.50", "requested": "2.00"},
        "site.city": {"stored": "Rio", "requested": "Bonn"},
    }
    again = await client.put(path, json=mine, headers={"If-Match": problem["etag"]})
    assert again.json["name"] == "Mine"
    form = await client.put(path, form="name=Form", headers={"If-Match": tag})
    assert form.problem(412)["conflicts"] == {"name": {"stored": "Mine", "requested": "Form"}}
    # Deleting makes nothing of the fields, and a body that means nothing neither.
    assert "conflicts" not in (await client.delete(path, headers={"If-Match": tag})).problem(412)
    nonsense = await client.put(path, json={"nofield": 1}, headers={"If-Match": tag})
    nonsense.problem(400)
    with capture(signals.pre_update_instance):
        nonsense = await client.put(path, json={"nofield": 1}, headers={"If-Match": tag})
    assert "conflicts" not in nonsense.problem(412)


async def test_a_replacement_conflicts_in_what_it_would_reset(database: str) -> None:
    async with serving(MongoEngineRestHandler.routes_for(Shop, put="replace")) as client:
        path, _tag = await make(client, stock=4)
        problem = (await client.put(path, json={"name": "N"}, headers={"If-Match": ELSE})).problem(412)
        assert problem["conflicts"] == {
            "name": {"stored": "Ana's", "requested": "N"},
            "stock": {"stored": 4, "requested": 0},
        }


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize(
    "value", ["", ",", "abc", '"a" "b"', '"a', 'w/"a"', '*, "a"', '"a\tb"', "**", '"a",b']
)
async def test_a_malformed_header_is_refused(client: Client, header: str, value: str) -> None:
    path, _tag = await make(client)
    for method in ("GET", "PUT", "DELETE"):
        body = b'{"stock": 1}' if method == "PUT" else None
        answer = await client.request(method, path, body=body, headers={header: value})
        assert answer.problem(400)["header"] == header
    assert (await client.get(path)).json["stock"] == 0


def test_a_long_header_costs_one_pass() -> None:
    assert not is_if_match('"a",' * 100_000 + '"')
    assert is_if_match('"a",' * 100_000 + " ,\t,")


async def test_a_condition_on_a_collection_does_not_count(client: Client) -> None:
    """RFC 9110, 13.2.1: where nothing is selected there is nothing to compare."""
    answer = await client.post("/shop", json={"name": "x"}, headers={"If-Match": ELSE, "If-None-Match": "*"})
    assert answer.status == 201


# 428


async def test_a_resource_can_demand_if_match(client: Client) -> None:
    created = await client.post("/strict", json={"name": "a"})
    path = created.headers["Location"]
    for method, body in (("PUT", b'{"name": "b"}'), ("DELETE", None)):
        with capture(*signals.ALL) as captured:
            answer = await client.request(method, path, body=body, headers={"If-None-Match": ELSE})
        assert answer.problem(428)["type"] == "urn:bzz:problem:precondition-required"
        assert captured.events == []
    assert (await client.get(path)).json["name"] == "a"
    changed = await client.put(path, json={"name": "b"}, headers={"If-Match": created.headers["ETag"]})
    assert changed.status == 200
    assert (await client.delete(path, headers={"If-Match": changed.headers["ETag"]})).status == 204


# Races: two processes' worth of resources, which share nothing but the database


async def test_of_two_clients_with_one_tag_exactly_one_wins(client: Client) -> None:
    async with serving(MongoEngineRestHandler.routes_for(Shop)) as other:
        path, tag = await make(client)
        for _round in range(ROUNDS):
            answers = await asyncio.gather(
                client.put(path, json={"name": "ours"}, headers={"If-Match": tag}),
                other.put(path, json={"name": "theirs"}, headers={"If-Match": tag}),
            )
            assert sorted(each.status for each in answers) == [200, 412], answers
            [won] = [each for each in answers if each.status == 200]
            now = await client.get(path)
            assert now.json == won.json
            tag = (await client.put(path, json={"name": "again"})).headers["ETag"]


async def test_a_deletion_wins_or_loses_like_any_write(client: Client) -> None:
    async with serving(MongoEngineRestHandler.routes_for(Shop)) as other:
        for number in range(ROUNDS):
            path, tag = await make(client)
            one, two = (client, other) if number % 2 else (other, client)
            changed, deleted = await asyncio.gather(
                one.put(path, json={"stock": 1}, headers={"If-Match": tag}),
                two.delete(path, headers={"If-Match": tag}),
            )
            assert (changed.status, deleted.status) in {(200, 412), (404, 204)}
            assert (await client.get(path)).status == (200 if changed.status == 200 else 404)
