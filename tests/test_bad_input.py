"""Bad input over real HTTP: a clear error each time, never a 5xx, and nothing stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import mongoengine as me
import pytest

from bzz.mongoengine_handler import MongoEngineRestHandler
from tests.serving import Client, serving


class Inner(me.EmbeddedDocument):
    text = me.StringField()


class Thing(me.Document):
    name = me.StringField(max_length=1000)
    count = me.IntField()
    big = me.LongField()
    ratio = me.FloatField()
    when = me.DateTimeField()
    active = me.BooleanField()
    inner = me.EmbeddedDocumentField(Inner)
    free = me.DictField()
    anything = me.DynamicField()
    numbers = me.ListField(me.IntField())


class Way(me.Document):
    line = me.LineStringField()


class Loose(me.DynamicDocument):
    name = me.StringField()


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    routes = [
        *MongoEngineRestHandler.routes_for(Thing, max_bulk=0),
        *MongoEngineRestHandler.routes_for(Loose),
    ]
    async with serving(routes) as client:
        yield client
        assert Thing.objects.count() == 0
        assert Loose.objects.count() == 0


BROKEN = {
    "empty braces": b"{",
    "not JSON": b"nonsense {",
    "trailing": b'{"name": "a"} x',
    "trailing comma": b'{"name": "a",}',
    "single quotes": b"{'name': 'a'}",
    "not UTF-8": b'{"name": "\xff"}',
    "overlong UTF-8": b'{"name": "\xc0\x80"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "array": b"[]",
    "array of objects": b'[{"name": "a"}]',
    "string": b'"a"',
    "null": b"null",
    "number": b"1",
    "depth 10000 arrays": b'{"free": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "depth 10000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "depth 10000 unclosed": b"[" * 10_000,
    "depth 33": b'{"anything": ' + b"[" * 33 + b"]" * 33 + b"}",
    "duplicate keys": b'{"name": "a", "name": "b"}',
    "duplicate keys inside": b'{"free": {"a": 1, "a": 2}}',
    "duplicate keys escaped": b'{"name": "a", "\\u006eame": "b"}',
    "NaN": b'{"ratio": NaN}',
    "Infinity": b'{"ratio": Infinity}',
    "-Infinity": b'{"ratio": -Infinity}',
    "1e999": b'{"ratio": 1e999}',
    "NUL in a key": b'{"free": {"a\\u0000b": 1}}',
    "NUL in the key of a field": b'{"na\\u0000me": 1}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "lone surrogate in a key": b'{"free": {"\\udfff": 1}}',
    "lone surrogate deep": b'{"anything": [{"a": ["\\ud800x"]}]}',
    "2**63": b'{"count": 9223372036854775808}',
    "-2**63-1": b'{"big": -9223372036854775809}',
    "2**64 deep": b'{"anything": [1, {"a": 18446744073709551616}]}',
    "thousands of digits": b'{"count": ' + b"9" * 10_000 + b"}",
}

REFUSED: dict[str, tuple[Any, str]] = {
    "$ key": ({"$set": {"name": "a"}}, "/$set"),
    "$ key in a dict": ({"free": {"$where": "1"}}, "/free/$where"),
    "$ key deep": ({"anything": [{"a": {"$gt": 1}}]}, "/anything/0/a/$gt"),
    "dotted key": ({"inner.text": "x"}, "/inner.text"),
    "dotted key in a dict": ({"free": {"a.b": 1}}, "/free/a.b"),
    "empty key": ({"": 1}, "/"),
    "_cls": ({"name": "a", "_cls": "Thing"}, "/_cls"),
    "_created": ({"name": "a", "_created": False}, "/_created"),
    "pk": ({"name": "a", "pk": "000000000000000000000000"}, "/pk"),
    "_id": ({"name": "a", "_id": "000000000000000000000000"}, "/_id"),
    "id": ({"name": "a", "id": "000000000000000000000000"}, "/id"),
    "__class__": ({"__class__": "x"}, "/__class__"),
    "_data": ({"_data": {}}, "/_data"),
    "save": ({"save": 1}, "/save"),
    "unknown": ({"nmae": "a"}, "/nmae"),
    "unknown inside": ({"inner": {"txet": "a"}}, "/inner/txet"),
    "_cls inside": ({"inner": {"_cls": "Inner"}}, "/inner/_cls"),
    "operator as string": ({"name": {"$ne": None}}, "/name"),
    "number as string": ({"name": 1}, "/name"),
    "string as number": ({"count": "many"}, "/count"),
    "fraction as int": ({"count": 1.5}, "/count"),
    "bool as int": ({"count": True}, "/count"),
    "string as bool": ({"active": "false"}, "/active"),
    "garbage as date": ({"when": "garbage"}, "/when"),
    "number as date": ({"when": 1}, "/when"),
    "year 0": ({"when": "0000-01-01T00:00:00Z"}, "/when"),
    "string as embedded": ({"inner": "x"}, "/inner"),
    "list as embedded": ({"inner": []}, "/inner"),
    "string as list": ({"numbers": "1"}, "/numbers"),
    "object as list": ({"numbers": {"0": 1}}, "/numbers"),
    "list as dict": ({"free": []}, "/free"),
    "too long": ({"name": "x" * 1001}, "/name"),
}


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("name", BROKEN)
async def test_broken_bodies(client: Client, name: str, method: str) -> None:
    path = "/thing" if method == "POST" else "/thing/000000000000000000000000"
    answer = await client.request(method, path, body=BROKEN[name], content_type="application/json")
    assert answer.problem(400)["detail"]


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_values(client: Client, name: str) -> None:
    body, pointer = REFUSED[name]
    answer = await client.post("/thing", json=body)
    assert [each["pointer"] for each in answer.problem(400)["errors"]] == [pointer]


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "id"])
async def test_refused_values_of_an_update(database: str, name: str) -> None:
    body, pointer = REFUSED[name]
    async with serving(MongoEngineRestHandler.routes_for(Thing)) as client:
        thing = Thing(name="as it was").save()
        before = Thing._get_collection().find_one()
        answer = await client.put(f"/thing/{thing.id}", json=body)
        assert [each["pointer"] for each in answer.problem(400)["errors"]] == [pointer]
        assert Thing._get_collection().find_one() == before


@pytest.mark.parametrize(
    "body",
    [
        {"$set": 1},
        {"a.b": 1},
        {"_cls": "x"},
        {"_created": False},
        {"_private": 1},
        {"pk": 1},
        {"save": 1},
        {"objects": 1},
        {"a": {"$ne": 1}},
        {"a": 2**63},
        {"a\0b": 1},
    ],
    ids=str,
)
async def test_refused_names_of_a_dynamic_document(client: Client, body: Any) -> None:
    (await client.post("/loose", json=body)).problem(400)


@pytest.mark.parametrize(
    "form",
    [
        "name=%FF",
        "name=%ED%A0%80",
        "name=a&name=b",
        "$set=1",
        "inner.$set=1",
        "inner.=1",
        ".inner=1",
        "inner..text=1",
        "inner.text.more=1",
        "name.x=1",
        "_cls=Thing",
        "_id=000000000000000000000000",
        "pk=000000000000000000000000",
        "unknown=1",
        "count=many",
        "count=9223372036854775808",
        "ratio=nan",
        "ratio=inf",
        "ratio=1e999",
        "active=maybe",
        "when=garbage",
        "numbers=x",
        "free=x",
        "inner=x",
        "na%00me=1",
        "=1",
        "&".join(f"f{n}=1" for n in range(1001)),
    ],
)
async def test_refused_forms(client: Client, form: str) -> None:
    assert (await client.post("/thing", form=form)).problem(400)["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "page=x",
        "page=",
        "page=1.5",
        "page=1&page=2",
        "per_page=x",
        "per_page=%00",
        "field=" + quote('{"$ne":null}'),
        "count=" + quote('{"$ne":null}'),
        "name[$ne]=x",
        "name__where=1",
        "name__regex=.*",
        "name__$where=1",
        "$where=1",
        "_id=x",
        "pk=x",
        "_cls=Thing",
        "unknown=1",
        "inner=1",
        "inner.unknown=1",
        "inner..text=1",
        "free.$where=1",
        "count=many",
        "count=9223372036854775808",
        "ratio=nan",
        "when=garbage",
        "id=x",
        "active=maybe",
        "name=%FF",
        "name=" + "x" * 5000,
        "&".join(f"name={n}" for n in range(1000)),
        "&".join(f"f{n}=1" for n in range(1000)),
        "count__in=" + ",".join(map(str, range(1000))),
        "name__exists=perhaps",
    ],
)
async def test_refused_queries(client: Client, query: str) -> None:
    body = (await client.get(f"/thing?{query}")).problem(400)
    assert body["detail"]
    assert len(body["detail"]) < 300


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", f"page={10**30}", "per_page=0", "per_page=-5", f"per_page={10**30}"]
)
async def test_pages_are_clamped(client: Client, query: str) -> None:
    assert (await client.get(f"/thing?{query}")).json == []


async def test_a_dict_in_a_query_is_only_text(client: Client) -> None:
    """The classic injection finds the document whose name is that text, and no other."""
    answer = await client.get("/thing?name=" + quote('{"$ne":null}'))
    assert answer.json == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
async def test_query_parameters_where_none_belong(client: Client, method: str) -> None:
    path = "/thing" if method == "POST" else "/thing/000000000000000000000000"
    body = {"name": "x"} if method in {"POST", "PUT"} else None
    problem = (await client.request(method, path + "?upsert=true", json=body)).problem(400)
    assert problem["parameter"] == "upsert"


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "LineString", "coordinates": [[0, 0], [0, 0]]},
        {"type": "LineString", "coordinates": [[0, 0]]},
        {"type": "LineString", "coordinates": [[0, 0], [0, 100]]},
        {"type": "LineString", "coordinates": [["x", 0], [0, 1]]},
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "LineString"},
        {
            "type": "LineString",
            "coordinates": [[0, 0], [1, 1]],
            "crs": {"type": "name", "properties": {"name": "x"}},
        },
        [[0, 0], [0, 1e300]],
    ],
    ids=str,
)
async def test_shapes_that_mongodb_refuses(database: str, shape: Any) -> None:
    async with serving(MongoEngineRestHandler.routes_for(Way)) as client:
        (await client.post("/way", json={"line": shape})).problem(400)
        way = Way(line=[[0, 0], [1, 1]]).save()
        (await client.put(f"/way/{way.id}", json={"line": shape})).problem(400)
    assert Way.objects.count() == 1


async def test_too_large_for_mongodb(client: Client) -> None:
    """Below Tornado's own limit, above the 16 MiB of a document."""
    body = b'{"anything": "' + b"x" * (17 * 1024 * 1024) + b'"}'
    (await client.post("/thing", body=body, content_type="application/json")).problem(400)


async def test_an_error_never_echoes_much_of_the_input(client: Client) -> None:
    for body in ({"x" * 10_000: 1}, {"count": "y" * 10_000}, {"when": "z" * 10_000}):
        answer = await client.post("/thing", json=body)
        answer.problem(400)
        assert len(answer.body) < 1000
