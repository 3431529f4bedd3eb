"""JSON Schema of models: what the codec writes fits it, and what fits it is taken by the codec."""

from __future__ import annotations

import datetime as dt
import os
import pkgutil
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker
from mongoengine import fields as shipped

import bzz.model
from bzz import model as typed
from bzz.errors import ValidationError
from bzz.model import Schema
from bzz.model.field import _SPECS, CustomSpec, FieldSpec
from bzz.model.json_diff import diff_schema
from bzz.model.json_example import NONE, example
from bzz.model.json_forms import form
from bzz.model.json_limits import portable
from bzz.model.json_schema import DIALECT, Catalog, json_schema
from tests import model_documents as models
from tests.model_documents import (
    Animal,
    Everything,
    Free,
    Person,
    Puppy,
    bodies,
    connect_nowhere,
    person_bodies,
)

EXAMPLES = 100 * int(os.environ.get("BZZ_TORTURE", "1"))
FORMS = ["output", "create", "update", "replace"]
CLASSES = [Everything, Person, Animal, models.Dog, Puppy, Free, models.CodedTarget]

few = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture(autouse=True, scope="module")
def _nowhere() -> Iterator[None]:
    connect_nowhere()
    yield
    me.disconnect_all()


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Let no object have members that its schema does not name: an answer that has one is not described."""
    for each in schema["$defs"].values():
        if "properties" in each:
            each.setdefault("additionalProperties", False)
    return schema


def checker(model: Any, form: Any) -> Draft202012Validator:
    schema = closed(json_schema(model, form))
    return Draft202012Validator(schema, format_checker=FormatChecker())


def errors(check: Draft202012Validator, value: Any) -> list[str]:
    return [f"{each.json_path}: {each.message}" for each in check.iter_errors(value)]


# The schemas themselves


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", CLASSES)
def test_every_schema_is_one(model: Any, form: Any) -> None:
    schema = json_schema(model, form)
    assert schema["$schema"] == DIALECT
    Draft202012Validator.check_schema(schema)
    used = set(re.findall(r"#/\$defs/([^'\"]+)", str(schema)))
    assert used == set(schema["$defs"])


def test_every_way_in_which_a_field_travels_is_described() -> None:
    for info in pkgutil.walk_packages(bzz.model.__path__, "bzz.model."):
        __import__(info.name)
    ways = {*_SPECS.values(), CustomSpec}
    assert [each.__name__ for each in ways if form.dispatch(each) is form.dispatch(FieldSpec)] == []


def test_every_type_that_mongoengine_ships_is_tried_here() -> None:
    exported = {getattr(shipped, name) for name in shipped.__all__ if name.endswith("Field")}
    tried = set()
    for field in Everything._fields.values():
        while field is not None:
            tried.add(type(field))
            field = getattr(field, "field", None)
    assert {each.__name__ for each in exported - tried} == {"GeoJsonBaseField"}, "which is abstract"


# What goes out


@few
@given(bodies)
def test_every_document_fits_its_schema(body: dict[str, Any]) -> None:
    schema = Schema.of(Everything)
    document = typed.new_document(schema, typed.decode_object(schema, body, creating=True))
    typed.validate(document)
    stored = {"_id": ObjectId(), **typed.to_stored(document)}
    assert errors(OUTPUT, typed.encode(schema, stored)) == []


OUTPUT = checker(Everything, "output")
CREATE = checker(Everything, "create")
UPDATE = checker(Everything, "update")


@few
@given(bodies)
def test_what_is_taken_fits_the_schema_of_bodies(body: dict[str, Any]) -> None:
    typed.decode_object(Schema.of(Everything), body, creating=True)
    assert errors(CREATE, body) == []
    assert errors(UPDATE, body) == []


@few
@given(person_bodies, person_bodies)
def test_every_diff_fits_its_schema(one: dict[str, Any], other: dict[str, Any]) -> None:
    schema = Schema.of(Person)
    before, after = (
        typed.to_stored(typed.new_document(schema, typed.decode_object(schema, each, creating=True)))
        for each in (one, other)
    )
    changed = typed.encode_diff(schema, typed.diff(schema, before, after))
    assert errors(PERSON_DIFF, changed) == []


def _diff_checker(model: Any) -> Draft202012Validator:
    catalog = Catalog("#/$defs/")
    reference = diff_schema(Schema.of(model), catalog)
    schema = closed({**reference, "$defs": catalog.definitions})
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


PERSON_DIFF = _diff_checker(Person)


def test_a_diff_of_another_path_or_type_does_not_fit() -> None:
    assert errors(PERSON_DIFF, {"age": {"from": 1, "to": None}}) == []
    assert errors(PERSON_DIFF, {"address.amount": {"from": "1.5", "to": None}}) == []
    assert errors(PERSON_DIFF, {"shape.radius": {"from": 1.5, "to": None}}) == []
    assert errors(PERSON_DIFF, {"age": {"from": 1, "to": "2"}}) != []
    assert errors(PERSON_DIFF, {"age": {"from": 1}}) != []
    plain = _diff_checker(models.CodedTarget)
    assert errors(plain, {"nmae": {"from": None, "to": "x"}}) != []


# What a model says of its fields


class Ranged(me.Document):
    code = me.StringField(regex="[A-Z]{2}$", min_length=2, max_length=2, required=True)
    odd = me.StringField(regex=r"(?i)x")
    price = me.DecimalField(min_value=1, max_value=Decimal("9.5"))
    ratio = me.FloatField(min_value=0.5, max_value=1)
    data = me.BinaryField(max_bytes=4)
    sizes = me.ListField(me.IntField(), choices=[1, 2], required=True, max_length=2)
    words = me.DictField(required=True)
    level = me.EnumField(models.Level, default=models.Level.HIGH)
    made = me.DateTimeField(required=True, default=dt.datetime.now)
    day = me.DateField(choices=[dt.date(2024, 2, 29)])
    size = me.IntField(choices=((1, "small"), (2, "large")), default=1)
    weird = me.IntField(default="no number")
    link = me.URLField(schemes=["https"])
    mail = me.EmailField(allow_utf8_user=True)


def test_limits_choices_and_defaults_are_said() -> None:
    members = json_schema(Ranged, "create")["$defs"]["RangedCreate"]["properties"]
    assert members["code"] == {"type": "string", "pattern": "^(?:[A-Z]{2}$)", "minLength": 2, "maxLength": 2}
    assert "pattern" not in members["odd"]
    assert (members["price"]["minimum"], members["price"]["maximum"]) == (1, 9.5)
    assert (members["ratio"]["minimum"], members["ratio"]["maximum"]) == (0.5, 1)
    assert members["data"]["maxLength"] == 8
    assert members["sizes"]["items"]["enum"] == [1, 2]
    assert (members["sizes"]["minItems"], members["sizes"]["maxItems"]) == (1, 2)
    assert members["words"]["minProperties"] == 1
    assert (members["level"]["enum"], members["level"]["default"]) == ([1, 2, None], 2)
    assert (members["size"]["enum"], members["size"]["default"]) == ([1, 2, None], 1)
    assert "default" not in members["made"]
    assert "default" not in members["weird"], "the field itself would refuse it"
    assert "enum" not in members["day"], "one day can be written in several ways"
    assert members["link"]["pattern"] == "^(https)://"
    assert members["mail"]["format"] == "idn-email"
    assert json_schema(Ranged)["$defs"]["Ranged"]["properties"]["day"]["enum"] == ["2024-02-29", None]
    update = json_schema(Ranged, "update")["$defs"]["RangedUpdate"]
    assert "default" not in update["properties"]["size"]


def test_a_body_needs_what_nobody_else_fills_in() -> None:
    shown = json_schema(Ranged, "create")["$defs"]["RangedCreate"]
    assert shown["required"] == ["code", "sizes", "words"]
    assert "null" in shown["properties"]["made"]["type"]
    assert shown["properties"]["sizes"]["type"] == "array"
    assert "id" not in shown["properties"]
    assert "id" in json_schema(Ranged, "update")["$defs"]["RangedUpdate"]["properties"]


@pytest.mark.parametrize(
    "pattern", [r"(?P<x>a)", r"a++", r"\Aa", r"(?<=a)b", r"a{,3}", r"\N{BULLET}", "(?s)."]
)
def test_a_pattern_that_others_read_otherwise_is_left_out(pattern: str) -> None:
    assert portable(re.compile(pattern)) is None


@pytest.mark.parametrize("pattern", [r"a+", r"\\A", r"(?:a|b)", r"(?=a)a", r"[\w-]+\.\d{2,3}$"])
def test_a_pattern_that_all_read_alike_is_kept(pattern: str) -> None:
    assert portable(re.compile(pattern)) == f"^(?:{pattern})"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("model", [*CLASSES, Ranged])
def test_examples_fit(model: Any, form: Any) -> None:
    catalog = Catalog("#/$defs/")
    reference = catalog.document(Schema.of(model), form)
    for every in (True, False):
        made = example(reference, catalog, every=every)
        check = Draft202012Validator({**reference, "$defs": catalog.definitions})
        assert errors(check, made) == []


def test_where_no_example_can_be_made_up_there_is_none() -> None:
    class Picky(me.Document):
        name = me.StringField(regex="q{7}$", required=True)

    catalog = Catalog("#/$defs/")
    assert example(catalog.document(Schema.of(Picky), "create"), catalog) is NONE


def test_names_of_schemas_do_not_meet() -> None:
    catalog = Catalog("#/")
    assert catalog.refer("one", "Größe", {}) == {"$ref": "#/Gr__e"}
    assert catalog.refer("two", "Größe", {}) == {"$ref": "#/Gr__e2"}
    assert catalog.refer("one", "else", {}) == {"$ref": "#/Gr__e"}


# What comes in


def instances(schema: dict[str, Any], defs: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Make values out of a schema of this room, and of nothing else."""
    if schema.get("not") == {"type": "null"}:
        rest = {name: each for name, each in schema.items() if name != "not"}
        return instances(rest, defs, depth).filter(lambda each: each is not None)
    if "$ref" in schema:
        return instances(defs[schema["$ref"].rpartition("/")[2]], defs, depth + 1)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            possible = schema[choice] if depth < 8 else [schema[choice][-1]]
            return st.one_of(
                [st.deferred(lambda each=each: instances(each, defs, depth + 1)) for each in possible]
            )
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_of_kind(kind, schema, defs, depth) for kind in kinds])


def _of_kind(kind: str, schema: dict[str, Any], defs: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if kind == "object":
        return _objects(schema, defs, depth)
    if kind == "array":
        if "prefixItems" in schema:
            return st.tuples(*(instances(each, defs, depth + 1) for each in schema["prefixItems"])).map(list)
        items = st.deferred(lambda: instances(schema["items"], defs, depth + 1))
        return st.lists(
            items, min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 2), 20)
        )
    if kind == "string":
        return _strings(schema)
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        return st.floats(schema.get("minimum"), schema.get("maximum"), allow_nan=False, allow_infinity=False)
    return {"boolean": st.booleans(), "null": st.none()}[kind]


def _strings(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    checks = Draft202012Validator(schema, format_checker=FormatChecker())
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 30)
    made = {
        "date-time": st.datetimes().map(lambda each: f"{each.isoformat()}Z"),
        "date": st.dates().map(str),
        "uuid": st.uuids().map(str),
        "email": st.sampled_from(["ana@example.org", "b.c+d@example.com"]),
        "uri": st.sampled_from(["http://example.org/a?b=c", "https://localhost:8888"]),
    }.get(schema.get("format", ""))
    if made is not None:
        return made
    if "pattern" in schema:
        return st.from_regex(
            schema["pattern"].replace("$", r"\Z"), alphabet=st.characters(codec="utf-8")
        ).filter(checks.is_valid)
    return st.text(st.characters(codec="utf-8"), min_size=shortest, max_size=longest)


def _objects(schema: dict[str, Any], defs: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    members = {
        name: st.deferred(lambda each=each: instances(each, defs, depth + 1))
        for name, each in schema.get("properties", {}).items()
    }
    needed = {name: members.pop(name) for name in schema.get("required", ())}
    chosen = st.lists(st.sampled_from(sorted(members)), unique=True, max_size=4) if members else st.just([])
    fixed = chosen.flatmap(
        lambda names: st.fixed_dictionaries({**needed, **{name: members[name] for name in names}})
    )
    if not isinstance(schema.get("additionalProperties", False), dict):
        return fixed
    names = Draft202012Validator(schema.get("propertyNames", {}))
    keys = st.text(st.characters(codec="utf-8"), max_size=4).filter(names.is_valid)
    more = st.deferred(lambda: instances(schema["additionalProperties"], defs, depth + 1))
    return st.tuples(fixed, st.dictionaries(keys, more, max_size=2)).map(lambda pair: {**pair[1], **pair[0]})


#: What JSON Schema has no words for. Everything else that is refused would be a lie of the schema.
UNSAYABLE = (
    "say it louder|not a range|colder than nothing",  # validators of users
    "could not be converted|unpack|the value was refused",  # and conversions of theirs
    "invalid literal",
    "expected the name of a (document )?class",
    r"not a valid \$number",  # more than fits
    "this name cannot be a field",  # of a method, or with characters that cannot be seen
    "more digits than",
    "does not exist",  # 30 February
    "LineStrings must start and end at the same point",
    "cannot be sorted",
    "more than 34 digits",
)


@pytest.mark.parametrize("name", sorted(Everything._fields))
def test_what_fits_the_schema_is_taken_or_could_not_be_said(name: str) -> None:
    schema = Schema.of(Everything)
    if name == "id":
        return
    shown = json_schema(Everything, "create")
    member = shown["$defs"]["EverythingCreate"]["properties"][name]

    @settings(few, max_examples=EXAMPLES // 3)
    @given(instances(member, shown["$defs"]))
    def check(value: Any) -> None:
        try:
            assignments = typed.decode_object(schema, {name: value}, creating=True)
            typed.validate(typed.new_document(schema, assignments))
        except ValidationError as error:
            for each in error.errors:
                assert re.search("|".join(UNSAYABLE), each.detail), (each, value)

    check()
