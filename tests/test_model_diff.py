"""Diffs: pure, minimal, and enough to go from either side to the other."""

from __future__ import annotations

import copy
import datetime as dt
import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.binary import Binary
from hypothesis import given, settings
from hypothesis import strategies as st

from bzz import model
from bzz.model import Schema
from tests import model_documents as docs

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))
HEX = "5f" * 12
PERSON = Schema.of(docs.Person)
EVERYTHING = Schema.of(docs.Everything)


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


def stored_of(schema: Schema, body: dict[str, Any]) -> dict[str, Any]:
    document = model.new_document(schema, model.decode_object(schema, body, creating=True))
    return {"_id": ObjectId(HEX), **model.to_stored(document)}


def check(schema: Schema, before: dict[str, Any], after: dict[str, Any]) -> None:
    originals = copy.deepcopy((before, after))
    found = model.diff(schema, before, after)
    assert (before, after) == originals
    old, new = model.load(schema, before), model.load(schema, after)
    untouched = copy.deepcopy(old)
    assert model.same(model.apply(schema, old, found, "to"), new)
    assert model.same(model.apply(schema, new, found, "from"), old)
    assert model.same(old, untouched)
    for change in found.values():
        assert not model.same(change["from"], change["to"])
    assert model.diff(schema, before, before) == {}
    backward = model.diff(schema, after, before)
    assert backward.keys() == found.keys()
    for path, change in found.items():
        assert model.same(change["from"], backward[path]["to"])
    model.encode_diff(schema, found)


@settings(max_examples=150 * EXAMPLES, deadline=None)
@given(docs.person_bodies, docs.person_bodies)
def test_a_diff_leads_from_either_side_to_the_other(one: dict[str, Any], other: dict[str, Any]) -> None:
    check(PERSON, stored_of(PERSON, one), stored_of(PERSON, other))


@settings(max_examples=80 * EXAMPLES, deadline=None)
@given(docs.bodies, docs.bodies)
def test_every_field_type_can_change(one: dict[str, Any], other: dict[str, Any]) -> None:
    check(EVERYTHING, stored_of(EVERYTHING, one), stored_of(EVERYTHING, {**one, **other}))


@settings(max_examples=100 * EXAMPLES, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["title", "a", "b"]), docs.free_values, max_size=3),
    st.dictionaries(st.sampled_from(["title", "a", "b"]), docs.free_values, max_size=3),
)
def test_dynamic_fields_can_change(one: dict[str, Any], other: dict[str, Any]) -> None:
    schema = Schema.of(docs.Free)
    for body in (one, other):
        body.pop("title", None)
    check(schema, stored_of(schema, one), stored_of(schema, other))


def test_embedded_fields_have_dotted_paths() -> None:
    before = {
        "n": "a",
        "addr": {"t": "x", "m": dt.datetime(2020, 1, 1)},
        "branch": {"l": {"t": "1"}, "number": 1},
    }
    after = {
        "n": "a",
        "addr": {"t": "y", "m": dt.datetime(2020, 1, 1)},
        "branch": {"l": {"t": "2"}, "number": 1},
    }
    assert model.diff(PERSON, before, after) == {
        "address.text": {"from": "x", "to": "y"},
        "branch.leaf.text": {"from": "1", "to": "2"},
    }


def test_embedded_documents_of_another_class_are_one_change() -> None:
    before = {"shape": {"_cls": "Shape", "n": "a"}}
    after = {"shape": {"_cls": "Circle", "n": "a", "r": 1.0}}
    assert model.diff(PERSON, before, after) == {
        "shape": {
            "from": {"_cls": "Shape", "name": "a"},
            "to": {"_cls": "Circle", "name": "a", "radius": 1.0},
        }
    }


def test_missing_is_null_and_lists_are_compared_whole() -> None:
    assert model.diff(PERSON, {"age": None}, {}) == {}
    assert model.diff(PERSON, {"tags": ["a"]}, {"tags": ["a", "b"]}) == {
        "tags": {"from": ["a"], "to": ["a", "b"]}
    }
    assert model.diff(PERSON, {"unknown": 1}, {"unknown": 2}) == {}
    assert model.diff(PERSON, {"extra": {"a": 1}}, {"extra": {"a": True}}) == {
        "extra": {"from": {"a": 1}, "to": {"a": True}}
    }


def test_the_concrete_class_decides() -> None:
    before = {"_cls": "Animal.Dog", "b": True}
    assert model.diff(Schema.of(docs.Animal), before, {"_cls": "Animal.Dog", "b": False}) == {
        "barks": {"from": True, "to": False}
    }
    assert model.encode_diff(Schema.of(docs.Animal), {"barks": {"from": True, "to": False}})


def test_loaded_values_are_plain_and_fresh() -> None:
    stored = {
        "_id": ObjectId(HEX),
        "decimal": 1.5,
        "reference": ObjectId(HEX),
        "colour": "red",
        "f_bin": b"x",
        "lf": {"m": dt.datetime(2020, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))},
        "map": {"a": [1]},
        "cached": {"_id": "a", "name": "A"},
        "day": None,
        "complex_moment": "2020,01,01,00,00,00,000001",
        "any_reference": {"_cls": "Gone", "_ref": 5},
        "big": Int64(5),
        "leaf_map": {"k": {"t": "x"}},
    }
    loaded = model.load(EVERYTHING, stored)
    assert loaded["decimal"] == Decimal("1.50")
    assert loaded["reference"] == ObjectId(HEX)
    assert loaded["colour"] is docs.Colour.RED
    assert loaded["leaf"]["moment"] == dt.datetime(2020, 1, 1)
    assert loaded["cached"] == "a"
    assert loaded["complex_moment"] == dt.datetime(2020, 1, 1, 0, 0, 0, 1)
    assert type(loaded["big"]) is int
    assert loaded["leaf_map"]["k"]["text"] == "x"
    loaded["mapping"]["a"].append(2)
    assert stored["map"] == {"a": [1]}
    found = model.diff(EVERYTHING, {}, stored)
    found["mapping"]["to"]["a"].append(3)
    assert stored["map"] == {"a": [1]}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        (1, Int64(1), True),
        (None, 0, False),
        (float("nan"), float("nan"), True),
        (Decimal("1.0"), Decimal("1.00"), False),
        (Decimal128("NaN"), Decimal128("NaN"), True),
        (Decimal128("1.0"), "1.0", False),
        (b"x", Binary(b"x", 0), True),
        (b"x", Binary(b"x", 5), False),
        ((1, [2]), [1, [2]], True),
        ([1], [1, 1], False),
        ([1], {"0": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
        ({"a": None}, {"b": None}, False),
        (dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), True),
        (dt.datetime(2020, 1, 1, 0, 0, 0, 1), dt.datetime(2020, 1, 1), True),
        (dt.datetime(2020, 1, 1), dt.date(2020, 1, 1), False),
        ("a", "b", False),
        ("a", ObjectId(HEX), False),
    ],
)
def test_what_is_the_same(one: Any, other: Any, equal: bool) -> None:
    assert model.same(one, other) is equal
    assert model.same(other, one) is equal
    assert model.same({"k": [one]}, {"k": [other]}) is equal
