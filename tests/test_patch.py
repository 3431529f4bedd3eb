"""PATCH with JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902), and Prefer (RFC 7240), over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import re
from collections.abc import AsyncIterator
from typing import Any

import jsonpatch
import jsonpointer
import mongoengine as me
import orjson
import pymongo.monitoring
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bzz
from bzz import model as typed
from bzz import signals
from bzz.errors import BodyError
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.testing import capture
from tests.serving import Answer, Client, serving
from tests.storage_drivers import Commands

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
MERGE = "application/merge-patch+json"
OPERATIONS = "application/json-patch+json"


class Spot(me.EmbeddedDocument):
    floor = me.IntField()
    door = me.StringField(db_field="d")


class Place(me.EmbeddedDocument):
    city = me.StringField(max_length=20)
    code = me.StringField(db_field="z")
    spot = me.EmbeddedDocumentField(Spot, db_field="s")


class Sheet(me.Document):
    name = me.StringField()
    age = me.IntField(min_value=0, db_field="a")
    ready = me.BooleanField()
    tags = me.ListField(me.StringField())
    place = me.EmbeddedDocumentField(Place, db_field="p")
    places = me.ListField(me.EmbeddedDocumentField(Place))
    notes = me.MapField(me.StringField())
    by_name = me.MapField(me.EmbeddedDocumentField(Spot))
    extra = me.DictField()
    anything = me.DynamicField()
    price = me.DecimalField()
    meta = {"strict": False}


class Item(me.Document):
    code = me.StringField(primary_key=True)
    title = me.StringField(required=True)
    rank = me.IntField(default=5)
    place = me.EmbeddedDocumentField(Place)
    email = me.StringField(unique=True, sparse=True)


class Animal(me.Document):
    name = me.StringField()
    meta = {"allow_inheritance": True}


class Dog(Animal):
    barks = me.BooleanField()


class Shape(me.EmbeddedDocument):
    size = me.IntField()
    meta = {"allow_inheritance": True}


class Circle(Shape):
    radius = me.IntField()


class Box(me.Document):
    shape = me.EmbeddedDocumentField(Shape)
    any_shape = me.GenericEmbeddedDocumentField(choices=[Place, Spot])


class Counted(me.Document):
    name = me.StringField()
    saves = 0

    def save(self, *args: Any, **kwargs: Any) -> Any:
        type(self).saves += 1
        return super().save(*args, **kwargs)


MODELS = (Sheet, Item, Animal, Box, Counted)


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    Counted.saves = 0
    api = bzz.Api()
    for model in MODELS:
        api.add(model)
    async with serving(api) as client:
        yield client


async def make(client: Client, **values: Any) -> str:
    answer = await client.post("/sheet", json=values)
    assert answer.status == 201, answer
    return answer.headers["Location"]


async def merge(client: Client, path: str, patch: Any, **headers: str) -> Answer:
    return await client.request("PATCH", path, json=patch, content_type=MERGE, headers=headers)


async def apply(client: Client, path: str, operations: Any, **headers: str) -> Answer:
    return await client.request("PATCH", path, json=operations, content_type=OPERATIONS, headers=headers)


def stored(model: Any = Sheet) -> Any:
    return model._get_collection().find_one()


# The algorithm of RFC 7396, word by word, and its table of examples


def rfc7396(target: Any, patch: Any) -> Any:
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = rfc7396(target.get(name), value)
        return target
    return patch


APPENDIX_A = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), APPENDIX_A)
def test_appendix_a(target: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(target)
    assert typed.merge(target, patch) == result == rfc7396(copy.deepcopy(target), patch)
    assert target == before


@pytest.mark.parametrize(("target", "patch", "result"), APPENDIX_A)
async def test_appendix_a_in_a_dict(client: Client, target: Any, patch: Any, result: Any) -> None:
    path = await make(client, anything={"x": target})
    answer = await merge(client, path, {"anything": {"x": patch}})
    assert answer.status == 200, answer
    expected = {} if patch is None else {"x": result}
    assert answer.json["anything"] == (await client.get(path)).json["anything"] == expected


async def test_appendix_a_on_a_whole_document(client: Client) -> None:
    path = await make(client)
    for patch in (["c"], None, "bar"):
        (await merge(client, path, patch) if patch else await raw_patch(client, path, b"null")).problem(400)


async def raw_patch(client: Client, path: str, body: bytes, kind: str = MERGE) -> Answer:
    return await client.request("PATCH", path, body=body, content_type=kind)


# Properties: HTTP against the reference algorithms

plain = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "y"])
keys = st.sampled_from(["a", "b", "c"])
trees = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
texts = st.sampled_from(["", "x", "y"])
spots = st.fixed_dictionaries(
    {}, optional={"floor": st.none() | st.integers(0, 3), "door": st.none() | texts}
)
places = st.fixed_dictionaries(
    {}, optional={"city": st.none() | texts, "code": st.none() | texts, "spot": st.none() | spots}
)
FIELDS: dict[str, Any] = {
    "name": texts,
    "age": st.integers(0, 3),
    "ready": st.booleans(),
    "tags": st.lists(texts, max_size=3),
    "place": places,
    "places": st.lists(places, max_size=3),
    "notes": st.dictionaries(keys, texts, max_size=3),
    "by_name": st.dictionaries(keys, spots, max_size=2),
    "extra": st.dictionaries(keys, trees, max_size=3),
    "anything": trees,
}
sheets = st.fixed_dictionaries({}, optional=FIELDS)
merges = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.none() | values for name, values in FIELDS.items()},
        "notes": st.none() | st.dictionaries(keys, st.none() | texts, max_size=3),
        "by_name": st.none() | st.dictionaries(keys, st.none() | spots, max_size=2),
    },
)
EMPTY = {"tags": [], "places": [], "notes": {}, "by_name": {}, "extra": {}}


def shown(form: dict[str, Any]) -> Any:
    """A JSON form as an answer shows it: declared fields that are missing are null, or their default."""
    whole = {name: form.get(name) for name in ("id", *Sheet._fields_ordered)}
    for name, empty in EMPTY.items():
        whole[name] = empty if whole[name] is None else whole[name]
    whole["place"] = shown_place(whole["place"])
    whole["places"] = [shown_place(each) for each in whole["places"]]
    whole["by_name"] = {key: shown_spot(each) for key, each in whole["by_name"].items()}
    return whole


def shown_place(place: Any) -> Any:
    if place is None:
        return None
    return {**{name: place.get(name) for name in ("city", "code")}, "spot": shown_spot(place.get("spot"))}


def shown_spot(spot: Any) -> Any:
    return None if spot is None else {name: spot.get(name) for name in ("floor", "door")}


async def check_stored(client: Client, path: str, answer: Answer, before: dict[str, Any]) -> None:
    now = (await client.get(path)).json
    assert now == (answer.json if answer.status == 200 else before)


MISFITS = (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError)
PROPERTY = settings(
    max_examples=120 * TORTURE,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROPERTY
@given(sheet=sheets, patch=merges)
async def test_a_merge_patch_makes_what_the_rfc_says(client: Client, sheet: Any, patch: Any) -> None:
    path = await make(client, **sheet)
    before = (await client.get(path)).json
    expected = shown(rfc7396(copy.deepcopy(before), patch))
    with capture(signals.post_update_instance) as captured:
        answer = await merge(client, path, patch)
    await check_stored(client, path, answer, before)
    assert answer.status == 200, answer
    assert answer.json == expected
    assert bool(captured.events) is (expected != before)


def places_in(value: Any, pointer: str = "") -> list[str]:
    found = [pointer]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places_in(item, f"{pointer}/{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += places_in(item, f"{pointer}/{index}")
        found.append(f"{pointer}/-")
    return found


@st.composite
def patches(draw: Any) -> tuple[Any, list[Any]]:
    """A sheet as it is shown, and operations on places that it has at that moment, mostly."""
    form = shown(draw(sheets))
    del form["id"]
    current: Any = copy.deepcopy(form)
    operations = []
    for _ in range(draw(st.integers(1, 4))):
        known = [each for each in places_in(current) if each not in {"", "/price"}]
        path = draw(st.sampled_from([*known, "/extra/new", "/anything/new", "/notes/new", "/tags/9"]))
        op = draw(st.sampled_from(["add", "replace", "remove", "copy", "move", "test"]))
        operation: Any = {"op": op, "path": path}
        if op in {"copy", "move"}:
            operation["from"] = draw(st.sampled_from(known))
        elif op != "remove":
            kept = jsonpointer.resolve_pointer(current, path, None)
            fitting = st.just(kept) if op == "test" and not path.endswith("-") else st.nothing()
            operation["value"] = draw(fitting | FIELDS.get(path[1:], texts | trees))
        operations.append(operation)
        try:
            current = jsonpatch.apply_patch(current, copy.deepcopy(operations[-1:]))
        except MISFITS:
            break
    return form, operations


@PROPERTY
@given(given_patch=patches())
async def test_a_json_patch_makes_what_the_library_says(client: Client, given_patch: Any) -> None:
    form, operations = given_patch
    path = await make(client, **{name: value for name, value in form.items() if value is not None})
    before = (await client.get(path)).json
    expected: Any = None
    with contextlib.suppress(*MISFITS):
        expected = jsonpatch.apply_patch(copy.deepcopy(before), copy.deepcopy(operations))
    answer = await apply(client, path, operations)
    await check_stored(client, path, answer, before)
    if answer.status == 200:
        assert expected is not None
        assert answer.json == shown(expected)
    elif answer.status == 409:
        # The library takes True for 1, and a value can be moved into itself there.
        assert expected is None or any(each["op"] == "test" for each in operations)
    else:
        answer.problem(400)


# Merge patches


async def test_a_merge_patch_goes_deep_and_null_unsets(client: Client) -> None:
    path = await make(
        client,
        name="Ana",
        age=7,
        place={"city": "Rio", "code": "1", "spot": {"floor": 2, "door": "x"}},
        extra={"a": 1, "b": {"c": 2, "d": 3}},
    )
    patch = {
        "age": None,
        "place": {"spot": {"door": "y"}, "code": None},
        "extra": {"b": {"c": None}, "n": []},
    }
    with capture(signals.pre_update_instance, signals.post_update_instance) as captured:
        answer = await merge(client, path, patch)
    assert answer.status == 200, answer
    assert answer.json["place"] == {"city": "Rio", "code": None, "spot": {"floor": 2, "door": "y"}}
    assert answer.json["extra"] == {"a": 1, "b": {"d": 3}, "n": []}
    assert stored()["p"] == {"city": "Rio", "s": {"floor": 2, "d": "y"}}
    assert "a" not in stored()
    pre, post = captured.events
    assert pre.payload["data"] == patch
    assert pre.payload["instance"].age == 7
    assert post.payload["updated_fields"] == {
        "age": {"from": 7, "to": None},
        "place.code": {"from": "1", "to": None},
        "place.spot.door": {"from": "x", "to": "y"},
        "extra": {"from": {"a": 1, "b": {"c": 2, "d": 3}}, "to": {"a": 1, "b": {"d": 3}, "n": []}},
    }


async def test_plain_json_is_a_merge_patch(client: Client) -> None:
    path = await make(client, place={"city": "Rio", "code": "1"})
    for body, kind in (
        (b'{"place": {"code": "2"}}', "application/json; charset=utf-8"),
        (b'{"age": 1}', None),
    ):
        answer = await client.request("PATCH", path, body=body, content_type=kind)
        assert answer.status == 200, answer
    assert answer.json["place"] == {"city": "Rio", "code": "2", "spot": None}
    (await raw_patch(client, path, b'[{"op": "remove", "path": "/age"}]', "application/json")).problem(400)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", f"{MERGE}; charset=latin1"]
)
async def test_another_type_is_refused_with_accept_patch(client: Client, kind: str) -> None:
    path = await make(client)
    answer = await raw_patch(client, path, b"{}", kind)
    answer.problem(415)
    assert answer.headers["Accept-Patch"] == f"{MERGE}, {OPERATIONS}, application/json"


async def test_options_say_what_patch_takes(client: Client) -> None:
    path = await make(client)
    answer = await client.request("OPTIONS", path)
    assert answer.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
    assert answer.headers["Accept-Patch"] == f"{MERGE}, {OPERATIONS}, application/json"
    assert "Accept-Patch" not in (await client.request("OPTIONS", "/sheet")).headers


@pytest.mark.parametrize(
    ("patch", "pointers"),
    [
        ({"name": 1, "age": "x"}, ["/name", "/age"]),
        ({"age": -1}, ["/age"]),
        ({"place": {"city": "x" * 21}}, ["/place/city"]),
        ({"place": {"spot": {"floor": "x"}, "nofield": 1}}, ["/place/spot/floor", "/place/nofield"]),
        ({"place": {"city": 1}, "extra": {"a": 1}}, ["/place/city"]),
        ({"nofield": 1}, ["/nofield"]),
        ({"_cls": "Sheet"}, ["/_cls"]),
        ({"id": "0" * 24}, ["/id"]),
        ({"id": None}, ["/id"]),
        ({"extra": {"$where": "1"}}, ["/extra/$where"]),
        ({"extra": {"n": 1, "a.b": 1}}, ["/extra/a.b"]),
        ({"notes": {"n": 1}}, ["/notes/n"]),
        ({"name": {"a": 1}}, ["/name"]),
        ({"places": [{"city": 1}]}, ["/places/0/city"]),
        ({"anything": {"x": {"_cls": "Place"}}}, ["/anything/x/_cls"]),
    ],
)
async def test_the_result_is_validated(client: Client, patch: Any, pointers: list[str]) -> None:
    path = await make(client, name="Ana", extra={"a": 0, "o": 1}, anything={"x": {"y": 1}})
    before = stored()
    for answer in (await merge(client, path, patch), await apply(client, path, as_operations(patch))):
        assert [each["pointer"] for each in answer.problem(400)["errors"]] == pointers, answer
    assert stored() == before


def as_operations(patch: dict[str, Any], pointer: str = "") -> list[Any]:
    operations = []
    for name, value in patch.items():
        at = f"{pointer}/{name}"
        if isinstance(value, dict) and at in {"/extra", "/notes", "/anything", "/anything/x"}:
            operations += as_operations(value, at)
        else:
            operations.append({"op": "add", "path": at, "value": value})
    return operations


async def test_the_key_that_the_document_has_is_no_change(client: Client) -> None:
    path = await make(client, name="a")
    key = path.rpartition("/")[2]
    for patch in ({"id": key}, {"id": key.upper(), "name": "b"}):
        assert (await merge(client, path, patch)).status == 200
    assert stored()["name"] == "b"


async def test_null_for_no_field_is_nothing_to_do(client: Client) -> None:
    path = await make(client, name="a")
    assert (await merge(client, path, {"nofield": None})).json["name"] == "a"
    assert (await merge(client, path, {"nofield": None, "extra": {"a": None}})).status == 200


async def test_null_brings_the_default_back_and_required_stays(client: Client) -> None:
    await client.post("/item", json={"code": "a", "title": "t", "rank": 1, "place": {"city": "Rio"}})
    assert (await merge(client, "/item/a", {"rank": None})).json["rank"] == 5
    (await merge(client, "/item/a", {"title": None})).problem(400)
    (await apply(client, "/item/a", [{"op": "remove", "path": "/title"}])).problem(400)
    await client.post("/item", json={"code": "b", "title": "t", "email": "e"})
    assert (await merge(client, "/item/a", {"email": "e"})).problem(409)["fields"] == ["email"]


async def test_put_replace_is_not_for_patch(database: str) -> None:
    async with serving(MongoEngineRestHandler.routes_for(Item, put="replace")) as client:
        await client.post("/item", json={"code": "a", "title": "t", "rank": 1})
        assert (await merge(client, "/item/a", {"title": "u"})).json["rank"] == 1


async def test_a_missing_document(client: Client) -> None:
    for patch in ({"name": "x"}, {"place": {"city": "x"}}, {"extra": {"a": 1}}, {}):
        (await merge(client, "/sheet/" + "0" * 24, patch)).problem(404)
    (await apply(client, "/sheet/" + "0" * 24, [])).problem(404)


@pytest.fixture
async def watched(database: str, mongo_url: str) -> AsyncIterator[tuple[Client, Commands]]:
    commands = Commands()
    driver: Any = pymongo.AsyncMongoClient(
        mongo_url, uuidRepresentation="standard", event_listeners=[commands]
    )
    api = bzz.Api(client=driver)
    for model in MODELS:
        api.add(model)
    async with serving(api) as client:
        await client.get("/sheet")
        yield client, commands
    await driver.close()


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"name": "x", "tags": ["y"], "extra": None}, ["findAndModify"]),
        ({"place": {"city": "x", "spot": {"door": None}}}, ["findAndModify"]),
        ({"place": {"spot": {"floor": 2}}}, ["findAndModify"]),
        ({"extra": {"a": 1}}, ["find", "findAndModify"]),
        ({"place": {"spot": {}}}, ["find"]),
        ({}, ["find"]),
    ],
)
async def test_what_needs_no_read_is_one_command(
    watched: tuple[Client, Commands], patch: Any, expected: list[str]
) -> None:
    client, commands = watched
    path = await make(client, name="a", place={"city": "c", "spot": {"floor": 1}})
    commands.take()
    answer = await merge(client, path, patch)
    assert answer.status == 200, answer
    assert commands.names == expected


async def test_a_missing_embedded_document_is_made(client: Client) -> None:
    path = await make(client)
    answer = await merge(client, path, {"place": {"spot": {"floor": 1, "door": None}}})
    assert answer.json["place"] == {"city": None, "code": None, "spot": {"floor": 1, "door": None}}
    assert stored()["p"] == {"s": {"floor": 1}}
    emptied = await merge(client, path, {"place": None})
    assert emptied.json["place"] is None
    assert "p" not in stored()


# What stays as it is


async def test_what_a_patch_does_not_touch_stays_as_it_is_stored(client: Client) -> None:
    path = await make(
        client,
        places=[{"city": "a"}, {"city": "b"}, {"city": "a"}],
        by_name={"x": {"floor": 1}, "y": {"floor": 2}},
        extra={"n": {"a": 1}, "m": 1},
    )
    hidden = {
        "unknown": 1,
        "places.0.hidden": "first",
        "places.2.hidden": "third",
        "by_name.x.hidden": 1,
        "extra.regex": {"inner": [re.compile("x")]},
        "extra.list": [0],
    }
    Sheet._get_collection().update_one({}, {"$set": hidden})
    operations = [
        {"op": "add", "path": "/places/1", "value": {"city": "new"}},
        {"op": "replace", "path": "/by_name/x/floor", "value": 9},
        {"op": "remove", "path": "/by_name/y"},
        {"op": "add", "path": "/extra/n/b", "value": 2},
    ]
    answer = await apply(client, path, operations)
    assert answer.status == 200, answer
    now = stored()
    assert now["unknown"] == 1
    assert now["places"] == [
        {"city": "a", "hidden": "first"},
        {"city": "new"},
        {"city": "b"},
        {"city": "a", "hidden": "third"},
    ]
    assert now["by_name"] == {"x": {"floor": 9, "hidden": 1}}
    assert now["extra"]["n"] == {"a": 1, "b": 2}
    assert now["extra"]["regex"]["inner"][0].pattern == "x"
    changed = await apply(client, path, [{"op": "replace", "path": "/places/3/city", "value": "c"}])
    assert changed.status == 200
    assert stored()["places"][3] == {"city": "c", "hidden": "third"}
    merged = await merge(client, path, {"extra": {"list": [1], "m": None}, "by_name": {"x": {"door": "d"}}})
    assert merged.status == 200
    assert stored()["by_name"] == {"x": {"floor": 9, "hidden": 1, "d": "d"}}
    assert set(stored()["extra"]) == {"n", "regex", "list"}


async def test_values_in_extended_json(client: Client) -> None:
    path = await make(client, extra={"when": {"$date": "2020-01-01T00:00:00Z"}, "n": {"a": 1}})
    answer = await merge(client, path, {"extra": {"when": {"$date": "2021-01-01T00:00:00Z"}}})
    assert answer.json["extra"]["when"] == {"$date": "2021-01-01T00:00:00.000Z"}
    assert stored()["extra"]["when"].year == 2021
    replaced = await apply(
        client, path, [{"op": "replace", "path": "/extra/n", "value": {"$oid": "5f" * 12}}]
    )
    assert replaced.json["extra"]["n"] == {"$oid": "5f" * 12}
    (await merge(client, path, {"extra": {"when": {"$oid": "5f" * 12}}})).problem(400)


async def test_classes_of_embedded_documents(client: Client) -> None:
    created = await client.post("/box", json={"shape": {"_cls": "Circle", "size": 1, "radius": 2}})
    path = created.headers["Location"]
    same = await merge(client, path, {"shape": {"size": 3}})
    assert same.json["shape"] == {"_cls": "Circle", "size": 3, "radius": 2}
    other = await merge(client, path, {"shape": {"_cls": "Shape", "radius": None}})
    assert other.json["shape"] == {"_cls": "Shape", "size": 3}
    generic = await merge(client, path, {"any_shape": {"_cls": "Spot", "floor": 1}})
    assert generic.json["any_shape"] == {"_cls": "Spot", "floor": 1, "door": None}
    generic = await merge(client, path, {"any_shape": {"door": "x"}})
    assert generic.json["any_shape"] == {"_cls": "Spot", "floor": 1, "door": "x"}
    (await merge(client, path, {"shape": {"_cls": "Place"}})).problem(400)


async def test_a_document_of_a_subclass(client: Client) -> None:
    dog = Dog(name="Rex").save()
    path = f"/animal/{dog.id}"
    assert (await merge(client, path, {"barks": True})).json["barks"] is True
    assert (await client.put(path, json={"barks": False})).json["barks"] is False
    assert (await apply(client, path, [{"op": "test", "path": "/_cls", "value": "Animal.Dog"}])).status == 200
    (await merge(client, path, {"_cls": "Animal"})).problem(400)


async def test_a_model_that_saves_itself(client: Client) -> None:
    path = (await client.post("/counted", json={"name": "a"})).headers["Location"]
    assert (await merge(client, path, {"name": "b"})).json["name"] == "b"
    answer = await apply(client, path, [{"op": "replace", "path": "/name", "value": "c"}])
    assert answer.json["name"] == "c"
    assert Counted.saves == 3


# JSON Patch


async def test_json_patch(client: Client) -> None:
    path = await make(client, name="Ana", age=1, tags=["a", "b"], place={"city": "Rio"})
    operations = [
        {"op": "test", "path": "/name", "value": "Ana"},
        {"op": "add", "path": "/tags/1", "value": "x"},
        {"op": "move", "from": "/tags/0", "path": "/tags/-"},
        {"op": "copy", "from": "/place/city", "path": "/place/code"},
        {"op": "replace", "path": "/age", "value": 2},
        {"op": "remove", "path": "/name", "comment": "what the RFC does not name is ignored"},
    ]
    with capture(signals.pre_update_instance, signals.post_update_instance) as captured:
        answer = await apply(client, path, operations)
    assert answer.status == 200, answer
    assert (answer.json["name"], answer.json["age"], answer.json["tags"]) == (None, 2, ["x", "b", "a"])
    pre, post = captured.events
    assert pre.payload["data"] == operations
    assert set(post.payload["updated_fields"]) == {"name", "age", "tags", "place.code"}


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "test", "path": "/name", "value": "Bea"}, "another"),
        ({"op": "test", "path": "/age", "value": True}, "another"),
        ({"op": "test", "path": "/age", "value": "1"}, "another"),
        ({"op": "test", "path": "/nofield", "value": None}, "no such place"),
        ({"op": "test", "path": "/tags/-", "value": None}, "another"),
        ({"op": "remove", "path": "/nofield"}, "no such place"),
        ({"op": "remove", "path": ""}, "no such place"),
        ({"op": "remove", "path": "/tags/-"}, "no such place"),
        ({"op": "remove", "path": "/tags/01"}, "no such place"),
        ({"op": "replace", "path": "/tags/5", "value": 1}, "no such place"),
        ({"op": "replace", "path": "/extra/x", "value": 1}, "no such place"),
        ({"op": "add", "path": "/tags/5", "value": "x"}, "no such place"),
        ({"op": "add", "path": f"/tags/{'9' * 5000}", "value": "x"}, "no such place"),
        ({"op": "add", "path": "/extra/x/y", "value": 1}, "no such place"),
        ({"op": "add", "path": "/name/x", "value": 1}, "no such place"),
        ({"op": "move", "from": "/tags/9", "path": "/name"}, "no such place"),
        ({"op": "move", "from": "/tags/-", "path": "/name"}, "no such place"),
        ({"op": "copy", "from": "/tags/-", "path": "/name"}, "no such place"),
        ({"op": "copy", "from": "/nofield", "path": "/name"}, "no such place"),
    ],
)
async def test_a_patch_that_does_not_fit_is_a_conflict(client: Client, operation: Any, expected: str) -> None:
    """RFC 5789, 2.2: 409, as the request cannot be applied given the state of the resource."""
    path = await make(client, name="Ana", age=1, tags=["a"])
    before = stored()
    problem = (await apply(client, path, [{"op": "add", "path": "/age", "value": 1}, operation])).problem(409)
    assert problem["type"] == "urn:bzz:problem:patch"
    assert problem["operation"] == 1
    assert expected in problem["detail"]
    assert len(problem["detail"]) < 200
    assert stored() == before


async def test_numbers_are_compared_by_value(client: Client) -> None:
    path = await make(client, age=1, extra={"a": [1.0, {"b": 2}]})
    tests = [("/age", 1.0), ("/extra", {"a": [1, {"b": 2.0}]}), ("/ready", None), ("/extra/a/0", 1)]
    operations = [{"op": "test", "path": each, "value": value} for each, value in tests]
    assert (await apply(client, path, operations)).status == 200


@pytest.mark.parametrize(
    "operations",
    [
        {},
        "x",
        [1],
        [{}],
        [{"op": "add"}],
        [{"op": 1, "path": ""}],
        [{"op": "spin", "path": "/name"}],
        [{"op": "add", "path": "/name"}],
        [{"op": "test", "path": "/name"}],
        [{"op": "remove", "path": "name"}],
        [{"op": "remove", "path": ["name"]}],
        [{"op": "remove", "path": None}],
        [{"op": "remove", "path": "/a~2"}],
        [{"op": "move", "path": "/name"}],
        [{"op": "copy", "path": "/name", "from": 7}],
        [{"op": "move", "from": "/place", "path": "/place/city"}],
        [{"op": "remove", "path": "/name"}] * 1001,
    ],
)
async def test_what_is_no_patch_is_refused(client: Client, operations: Any) -> None:
    path = await make(client, name="Ana", place={"city": "Rio"})
    answer = await apply(client, path, operations)
    assert answer.problem(400)["type"] == "urn:bzz:problem:body"


async def test_the_whole_document(client: Client) -> None:
    path = await make(client, name="Ana", age=1)
    key = path.rpartition("/")[2]
    whole = {"op": "replace", "path": "", "value": {"id": key, "name": "Bea"}}
    answer = await apply(client, path, [whole])
    assert (answer.json["name"], answer.json["age"]) == ("Bea", None)
    (await apply(client, path, [{**whole, "value": {"name": "Bea"}}])).problem(400)
    (await apply(client, path, [{**whole, "value": 7}])).problem(400)
    copied = [
        {"op": "add", "path": "/extra/old", "value": {}},
        {"op": "copy", "from": "", "path": "/extra/all"},
    ]
    assert (await apply(client, path, copied)).json["extra"]["all"]["name"] == "Bea"


def doubling(times: int) -> list[Any]:
    grow = [{"op": "copy", "from": "/a", "path": "/b"}, {"op": "copy", "from": "/b", "path": "/a/-"}]
    return [{"op": "add", "path": "/a", "value": [1]}, *grow * times]


@pytest.mark.parametrize(
    "operations",
    [
        doubling(40),
        [
            {"op": "add", "path": "/a", "value": [1] * 1000},
            *[{"op": "copy", "from": "/a", "path": f"/a{n}"} for n in range(200)],
        ],
        [{"op": "copy", "from": "", "path": "/a"}] * 40,
    ],
)
def test_a_small_patch_cannot_make_something_large(operations: Any) -> None:
    with pytest.raises(BodyError, match="more than"):
        typed.apply_operations({}, operations)


def test_a_patch_stays_as_it_is() -> None:
    operations = [
        {"op": "add", "path": "/a", "value": []},
        {"op": "add", "path": "/a/-", "value": {}},
        {"op": "add", "path": "/a/0/x", "value": 1},
    ]
    document: Any = {}
    before = copy.deepcopy(operations)
    for _ in range(2):
        assert typed.apply_operations(document, operations) == {"a": [{"x": 1}]}
    assert (document, operations) == ({}, before)


# Races


async def test_concurrent_patches_all_count(client: Client) -> None:
    """What is read is guarded: a lost attempt is made again, on what the winner left."""
    path = await make(client, tags=[])
    api = bzz.Api()
    api.add(Sheet)
    async with serving(api) as other:
        count = 20 * TORTURE
        with capture(signals.post_update_instance) as captured:
            answers = await asyncio.gather(
                *(
                    apply(each, path, [{"op": "add", "path": "/tags/-", "value": f"{at}-{number}"}])
                    for number in range(count)
                    for at, each in enumerate((client, other))
                ),
                *(merge(each, path, {"extra": {f"k{n}": n}}) for n in range(5) for each in (client, other)),
            )
    assert {each.status for each in answers} == {200}
    assert len(set(stored()["tags"])) == 2 * count
    assert stored()["extra"] == {f"k{n}": n for n in range(5)}
    diffs = [event.payload["updated_fields"] for event in captured.events]
    steps = {tuple(each["tags"]["from"]): tuple(each["tags"]["to"]) for each in diffs if "tags" in each}
    at: tuple[str, ...] = ()
    for _ in range(2 * count):
        at = steps.pop(at)
    assert list(at) == stored()["tags"]


async def test_test_is_made_again_when_the_write_lost(client: Client) -> None:
    path = await make(client, age=0)
    api = bzz.Api()
    api.add(Sheet)
    async with serving(api) as other:
        for number in range(20 * TORTURE):
            take = [
                {"op": "test", "path": "/age", "value": number},
                {"op": "replace", "path": "/age", "value": number + 1},
            ]
            answers = await asyncio.gather(apply(client, path, take), apply(other, path, take))
            assert sorted(each.status for each in answers) == [200, 409]


async def test_patches_under_if_match(client: Client) -> None:
    path = await make(client, name="Ana", place={"city": "Rio"})
    tag = (await client.get(path)).headers["ETag"]
    first = await merge(client, path, {"name": "Bea"}, **{"If-Match": tag})
    assert first.status == 200
    lost = await merge(client, path, {"name": "Eve", "place": {"city": "Ur"}}, **{"If-Match": tag})
    assert lost.problem(412)["conflicts"] == {
        "name": {"stored": "Bea", "requested": "Eve"},
        "place.city": {"stored": "Rio", "requested": "Ur"},
    }
    operations = [{"op": "replace", "path": "/name", "value": "Eve"}]
    lost = await apply(client, path, operations, **{"If-Match": tag})
    assert lost.problem(412)["conflicts"] == {"name": {"stored": "Bea", "requested": "Eve"}}
    failing = [{"op": "test", "path": "/name", "value": "Ana"}]
    assert "conflicts" not in (await apply(client, path, failing, **{"If-Match": tag})).problem(412)
    now = await client.get(path)
    assert first.headers["ETag"] == now.headers["ETag"]
    assert (await apply(client, path, operations, **{"If-Match": now.headers["ETag"]})).status == 200


# Receivers, batches


async def test_a_receiver_may_change_a_patch(client: Client) -> None:
    path = await make(client, name="a")

    def change(data: Any) -> None:
        if isinstance(data, dict):
            data["place"] = {"city": "added"}
        else:
            data.append({"op": "add", "path": "/age", "value": 3})

    with signals.pre_update_instance.connected_to(change, sender=Sheet):
        assert (await merge(client, path, {"name": "b"})).json["place"]["city"] == "added"
        assert (await apply(client, path, [])).json["age"] == 3


async def test_a_batch_merges(client: Client) -> None:
    path = await make(client, name="a", place={"city": "Rio", "code": "1"})
    for atomic in (False, True):
        plan = [{"method": "PATCH", "path": path, "body": {"place": {"code": str(atomic)}}}]
        answer = await client.post("/batch", json={"operations": plan, "atomic": atomic})
        [entry] = answer.json["operations"]
        assert entry["body"]["place"] == {"city": "Rio", "code": str(atomic), "spot": None}
        assert set(entry["diff"]) == {"place.code"}


# Prefer


@pytest.mark.parametrize(
    "prefer", ["return=minimal", 'foo; bar="a,b", Return = "minimal" ; x=1, return=representation']
)
async def test_return_minimal(client: Client, prefer: str) -> None:
    headers = {"Prefer": prefer}
    created = await client.post("/sheet", json={"name": "a"}, headers=headers)
    path = created.headers["Location"]
    answers = {
        201: created,
        204: await client.put(path, json={"name": "b"}, headers=headers),
    }
    answers[204] = await merge(client, path, {"name": "c"}, **headers)
    for status, answer in answers.items():
        assert (answer.status, answer.body) == (status, b""), answer
        assert answer.headers["Preference-Applied"] == "return=minimal"
        assert "Content-Type" not in answer.headers
        assert answer.headers["ETag"]
    now = await client.get(path, headers=headers)
    assert now.json["name"] == "c"
    assert now.headers["ETag"] == answers[204].headers["ETag"]
    assert "Preference-Applied" not in now.headers
    assert created.headers["X-Created-Id"] == now.json["id"]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("return=representation", "return=representation"),
        ("return=representation, return=minimal", "return=representation"),
        ("return=other", None),
        ("respond-async, wait=10", None),
        (',;="', None),
        ('x="a, return=minimal"', None),
        ('x="a\\", return=minimal', None),
        ("a" * 8000 + '"' + '","' * 2000, None),
    ],
)
async def test_other_preferences(client: Client, prefer: str, applied: str | None) -> None:
    answer = await client.post("/sheet", json={"name": "a"}, headers={"Prefer": prefer})
    assert answer.json["name"] == "a"
    assert answer.headers.get("Preference-Applied") == applied


async def test_orjson_and_the_form_of_a_document_agree(client: Client) -> None:
    """The JSON form that a patch works on is what GET shows."""
    path = await make(client, price="1.50", extra={"x": {"$oid": "5f" * 12}})
    form = (await client.get(path)).json
    operations = [{"op": "test", "path": "", "value": orjson.loads(orjson.dumps(form))}]
    assert (await apply(client, path, operations)).status == 200
