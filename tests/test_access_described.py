"""The description of an Api says of each resource what its clients can see and set, and answers fit it."""

from __future__ import annotations

import json
from typing import Any

import mongoengine as me
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import bzz
from tests.serving import serving


class Lock(me.EmbeddedDocument):
    place = me.StringField()
    code = me.StringField(required=True)


class Owner(me.Document):
    login = me.StringField(primary_key=True)
    name = me.StringField(required=True)
    password = me.StringField(required=True)
    since = me.IntField()
    credit = me.IntField(required=True, default=0)
    rank = me.StringField(required=True)
    lock = me.EmbeddedDocumentField(Lock)
    locks = me.EmbeddedDocumentListField(Lock)


class Animal(me.Document):
    name = me.StringField()
    chip = me.StringField()
    meta = {"allow_inheritance": True}


class Dog(Animal):
    bite = me.StringField()


class Loose(me.DynamicDocument):
    name = me.StringField()
    pin = me.StringField()


OPTIONS: dict[str, Any] = {
    "writable": ["login", "name", "lock", "locks"],
    "write_once": ["since"],
    "write_only": ["password", "lock.code", "locks.code"],
}


def described(**more: Any) -> Any:
    api = bzz.Api()
    api.add(Owner, **OPTIONS, **more)
    api.add(Owner, resource_name="whole")
    api.add(Animal, readable=["name", "bite"])
    api.add(Loose, write_only=["pin"], writable=["name"])
    made = api.openapi()
    validate(made)
    return made


def resolved(document: Any, schema: Any) -> Any:
    """Follow references, and of several forms take the first: one whole document."""
    while "$ref" in schema or "anyOf" in schema:
        if "anyOf" in schema:
            schema = schema["anyOf"][0]
        else:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def schema_of(document: Any, method: str, path: str, status: str | None = None) -> Any:
    operation = document["paths"][path][method]
    holder = operation["requestBody"] if status is None else operation["responses"][status]
    return resolved(document, holder["content"]["application/json"]["schema"])


def properties(document: Any, schema: Any, *path: str) -> dict[str, Any]:
    shown: dict[str, Any] = resolved(document, schema)["properties"]
    for name in path:
        below = shown[name]
        shown = resolved(document, below.get("items", below))["properties"]
    return shown


def test_answers_have_what_can_be_seen() -> None:
    document = described()
    shown = schema_of(document, "post", "/owner", "201")
    assert [*properties(document, shown)] == ["login", "name", "since", "credit", "rank", "lock", "locks"]
    assert [*properties(document, shown, "lock")] == ["place"]
    assert [*properties(document, shown, "locks")] == ["place"]
    assert [name for name, each in properties(document, shown).items() if "readOnly" in each] == [
        "credit",
        "rank",
    ]
    whole = schema_of(document, "post", "/whole", "201")
    assert "password" in properties(document, whole)
    assert [*properties(document, whole, "lock")] == ["place", "code"]


def test_bodies_have_what_can_be_set() -> None:
    document = described()
    create = schema_of(document, "post", "/owner")
    assert [*properties(document, create)] == ["login", "name", "password", "since", "lock", "locks"]
    assert create["required"] == ["login", "name", "password"]
    assert properties(document, create)["password"]["writeOnly"] is True
    assert [*properties(document, create, "lock")] == ["place", "code"]
    update = properties(document, schema_of(document, "put", "/owner/{key}"))
    assert [name for name, each in update.items() if each.get("readOnly")] == [
        "login",
        "since",
        "credit",
        "rank",
    ]
    patch = document["paths"]["/owner/{key}"]["patch"]["requestBody"]["content"]
    assert [*properties(document, patch["application/merge-patch+json"]["schema"])] == [
        "login",
        "name",
        "password",
        "lock",
        "locks",
    ]
    form = document["paths"]["/owner"]["post"]["requestBody"]["content"]
    assert [*properties(document, form["application/x-www-form-urlencoded"]["schema"])] == [
        "login",
        "name",
        "password",
        "since",
        "lock.place",
        "lock.code",
    ]


def test_a_replacement_needs_nothing_that_cannot_be_set() -> None:
    document = described(put="replace")
    assert schema_of(document, "put", "/owner/{key}")["required"] == ["name", "password"]


def test_parameters_and_diffs_name_what_can_be_seen() -> None:
    document = described()
    taken = {
        parameter["name"]: parameter["schema"]
        for name, parameter in document["components"]["parameters"].items()
        if name.startswith("owner_by_")
    }
    assert not {each for each in taken if each.startswith(("password", "lock.code", "locks.code"))}
    assert {"name", "lock.place"} <= taken.keys()
    assert not {"password", "lock.code"} & {*taken["fields"]["items"]["enum"]}
    diff = document["components"]["schemas"]["OwnerDiff"]
    assert not {"password", "lock.code"} & properties(document, diff).keys()
    lock = properties(document, diff)["lock"]["properties"]["from"]["anyOf"][0]
    assert [*properties(document, lock)] == ["place"]


def test_classes_and_dynamic_fields_are_cut_too() -> None:
    document = described()
    shown = schema_of(document, "get", "/animal/{key}", "200")
    text = json.dumps([shown, *(resolved(document, each) for each in shown.get("oneOf", ()))])
    assert "chip" not in text
    assert "bite" in text
    assert "pin" not in properties(document, schema_of(document, "get", "/loose/{key}", "200"))


def test_who_is_refused_is_described() -> None:
    api = bzz.Api()
    api.add(Animal, rows={"name": "a"})
    api.add(Loose, authorize=lambda operation: True)
    api.add(Owner)
    paths = api.openapi()["paths"]

    def statuses(path: str) -> dict[str, set[str]]:
        return {method: {"401", "403"} & each["responses"].keys() for method, each in paths[path].items()}

    both: set[str] = {"401", "403"}
    assert statuses("/animal") == {"get": set(), "head": set(), "post": {"403"}, "options": set()}
    assert statuses("/animal/{key}")["patch"] == {"403"}
    assert statuses("/loose") == {"get": both, "head": both, "post": both, "options": set()}
    refused = paths["/loose/{key}"]["delete"]["responses"]["401"]
    assert [*refused["headers"]] == ["WWW-Authenticate"]
    assert statuses("/owner/{key}/lock")["put"] == set()
    validate(api.openapi())


def test_dynamic_names_that_may_be_set_are_described() -> None:
    api = bzz.Api()
    api.add(Loose, writable=["name", "color"])
    document = api.openapi()
    create = schema_of(document, "post", "/loose")
    assert ([*create["properties"]], create["additionalProperties"]) == (["name", "color"], False)
    patch = document["paths"]["/loose/{key}"]["patch"]["requestBody"]["content"]
    merge = resolved(document, patch["application/merge-patch+json"]["schema"])
    assert ([*merge["properties"]], merge["additionalProperties"]) == (["name", "color"], {"type": "null"})
    whole = bzz.Api()
    whole.add(Loose, write_only=["pin"])
    assert schema_of(whole.openapi(), "post", "/loose")["additionalProperties"] is not False


async def test_answers_fit_their_schemas(database: str) -> None:
    api = bzz.Api()
    api.add(Owner, **OPTIONS)
    api.add(Loose, write_only=["pin"])
    Owner(
        login="ann", name="A", password="p", rank="x", lock=Lock(place="a", code="1"), locks=[Lock(code="2")]
    ).save()
    async with serving(api) as client:
        document = (await client.get("/openapi.json")).json
        preview = {"Prefer": "dry-run"}
        for method, answer in (
            ("get", await client.get("/owner/ann")),
            ("put", await client.put("/owner/ann", json={"name": "B", "lock": {"place": "c"}})),
            ("put", await client.put("/owner/ann", json={"lock": None}, headers=preview)),
        ):
            assert answer.status == 200, answer
            holder = document["paths"]["/owner/{key}"][method]["responses"]["200"]["content"]
            schema = {**holder["application/json"]["schema"], "components": document["components"]}
            assert [*Draft202012Validator(schema).iter_errors(answer.json)] == []


@pytest.mark.parametrize("names", [["name"], ["lock.place"]])
def test_the_key_is_always_described(names: list[str]) -> None:
    api = bzz.Api()
    api.add(Owner, readable=names)
    shown = schema_of(api.openapi(), "get", "/owner/{key}", "200")
    assert {*shown["properties"]} == {"login", names[0].partition(".")[0]}
