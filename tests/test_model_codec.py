"""Bodies and forms to typed values, stored documents to JSON."""

from __future__ import annotations

import datetime as dt
import enum
import re
import uuid
from decimal import Decimal
from typing import Any

import mongoengine as me
import orjson
import pytest
from bson import Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st

from bzz import model
from bzz.errors import ValidationError
from bzz.model import Schema
from tests import model_documents as docs

HEX = "5f" * 12
PERSON = Schema.of(docs.Person)


def refused(schema: Schema, body: dict[str, Any], *, creating: bool = True) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        model.decode_object(schema, body, creating=creating)
    return dict(caught.value.errors)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = refused(
        PERSON,
        {
            "name": {"$ne": None},
            "age": "3",
            "address": {"text": 1, "gone": 2, "moment": "x"},
            "leaves": [{}, {"amount": "x"}, 5],
            "extra": {"a": {"$where": "1"}},
            "unknown": 1,
            "": 1,
        },
    )
    assert set(found) == {
        "/name",
        "/age",
        "/address/text",
        "/address/gone",
        "/address/moment",
        "/leaves/1/amount",
        "/leaves/2",
        "/extra/a/$where",
        "/unknown",
        "/",
    }
    assert found["/name"] == "expected a string, not an object"


@pytest.mark.parametrize(
    "name", ["_cls", "_id", "_created", "pk", "__auto_convert", "$set", "a.b", "a\0b", "_data", "x" * 500]
)
@pytest.mark.parametrize("document", [docs.Person, docs.Free, docs.Animal])
def test_names_that_no_body_may_use(name: str, document: Any) -> None:
    if document is docs.Free and name == "x" * 500:
        return
    found = refused(Schema.of(document), {name: 1}, creating=False)
    assert len(found) == 1
    [(pointer, detail)] = found.items()
    assert len(pointer) <= 61
    assert len(detail) < 120


def test_the_automatic_key_is_the_servers() -> None:
    assert set(refused(PERSON, {"id": HEX})) == {"/id"}
    assert model.decode_object(PERSON, {"id": HEX}, creating=False) == {("id",): ObjectId(HEX)}
    coded = Schema.of(docs.CodedTarget)
    assert model.decode_object(coded, {"code": "a"}, creating=True) == {("code",): "a"}


def test_null_unsets() -> None:
    assert model.decode_object(PERSON, {"age": None, "address": None}, creating=False) == {
        ("age",): None,
        ("address",): None,
    }


def test_objects_become_embedded_documents() -> None:
    assignments = model.decode_object(
        PERSON, {"branch": {"leaf": {"text": "x"}}, "shape": {"_cls": "Circle", "radius": 1}}, creating=True
    )
    assert type(assignments[("branch",)]) is docs.Branch
    assert assignments[("branch",)].leaf.text == "x"
    assert type(assignments[("shape",)]) is docs.Circle


def test_forms_reach_into_embedded_documents() -> None:
    pairs = [
        ("name", "Ana"),
        ("age", ""),
        ("address.text", "Rio"),
        ("branch.leaf.moment", "2020-01-01"),
        ("tags[]", "a"),
        ("tags[]", "b"),
        ("friends", HEX),
    ]
    assert model.decode_form(PERSON, pairs, creating=True) == {
        ("name",): "Ana",
        ("age",): None,
        ("address", "text"): "Rio",
        ("branch", "leaf", "moment"): dt.datetime(2020, 1, 1),
        ("tags",): ["a", "b"],
        ("friends",): [DBRef("mt_person", ObjectId(HEX))],
    }
    assert model.decode_form(Schema.of(docs.Free), [("more", "x")], creating=True) == {("more",): "x"}


@pytest.mark.parametrize(
    "pairs",
    [
        [("name", "a"), ("name", "b")],
        [("name[]", "a")],
        [("gone", "a")],
        [("address", "a")],
        [("address.gone", "a")],
        [("address.text.x", "a")],
        [("leaves.text", "a")],
        [("leaves", "a")],
        [("extra", "{}")],
        [("extra.a", "1")],
        [("tags", "a"), ("tags[]", "b")],
        [("id", HEX)],
        [("_id", HEX)],
        [("$set.name", "x")],
        [("", "x")],
        [(".", "x")],
        [("age", "x")],
        [("name", "\ud800")],
        [("branch" + ".below" * 500, "x")],
    ],
)
def test_forms_are_as_strict_as_json(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.decode_form(PERSON, pairs, creating=True)
    for pointer, detail in caught.value.errors:
        assert len(detail) < 120
        pointer.encode()


names = st.sampled_from(
    ["name", "age", "address", "address.text", "tags[]", "leaves", "id", "_cls", "extra", "é.$"]
) | st.text(max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names, st.text(max_size=5)), max_size=4), st.booleans())
def test_any_form_is_decoded_or_refused(pairs: list[tuple[str, str]], creating: bool) -> None:
    for document in (docs.Person, docs.Free):
        try:
            assignments = model.decode_form(Schema.of(document), pairs, creating=creating)
        except ValidationError:
            continue
        model.new_document(
            Schema.of(document), {path: value for path, value in assignments.items() if path != ("id",)}
        )


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(names, docs.free_values, max_size=4))
def test_any_object_is_decoded_or_refused(body: dict[str, Any]) -> None:
    for document in (docs.Person, docs.Free, docs.Animal):
        try:
            assignments = model.decode_object(Schema.of(document), body, creating=True)
        except ValidationError:
            continue
        stored = model.to_stored(model.new_document(Schema.of(document), assignments))
        _no_operators(stored)


def _no_operators(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            assert not key.startswith("$")
            assert "." not in key
            _no_operators(item)
    elif isinstance(value, list):
        for item in value:
            _no_operators(item)


def test_lists_are_encoded_in_one_go() -> None:
    stored = [{"_id": ObjectId(HEX), "n": "a"}, {"_id": ObjectId(HEX), "n": "b", "unknown": 1}]
    answer = orjson.loads(model.encode_list_bytes(PERSON, stored))
    assert answer == [model.encode(PERSON, each) for each in stored]
    assert model.encode_list_bytes(PERSON, []) == b"[]"
    assert "unknown" not in answer[1]


class Tint(enum.Enum):
    DARK = "dark"


def test_untyped_values_that_json_does_not_know() -> None:
    moment = dt.datetime(2020, 1, 1, 12, 0, 0, 5000)
    number = uuid.UUID(int=1)
    table = [
        (ObjectId(HEX), {"$oid": HEX}, HEX),
        (moment, {"$date": "2020-01-01T12:00:00.005Z"}, "2020-01-01T12:00:00.005Z"),
        (dt.date(2020, 1, 1), {"$date": "2020-01-01"}, "2020-01-01"),
        (DatetimeMS(5), {"$date": {"$numberLong": "5"}}, {"$date": {"$numberLong": "5"}}),
        (Decimal("1.50"), {"$numberDecimal": "1.50"}, "1.50"),
        (Decimal128("1.50"), {"$numberDecimal": "1.50"}, "1.50"),
        (number, {"$uuid": str(number)}, str(number)),
        (b"hi", {"$binary": {"base64": "aGk=", "subType": "00"}}, "aGk="),
        (bytearray(b"hi"), {"$binary": {"base64": "aGk=", "subType": "00"}}, "aGk="),
        (Binary(b"hi", 128), {"$binary": {"base64": "aGk=", "subType": "80"}}, "aGk="),
        (float("nan"), {"$numberDouble": "NaN"}, None),
        (float("inf"), {"$numberDouble": "Infinity"}, None),
        (float("-inf"), {"$numberDouble": "-Infinity"}, None),
        (Int64(5), 5, 5),
        (Timestamp(1, 2), {"$timestamp": {"t": 1, "i": 2}}, {"$timestamp": {"t": 1, "i": 2}}),
        (re.compile("a", re.I), {"$regularExpression": {"pattern": "a", "options": "i"}}, ...),
        (re.compile(b"a"), {"$regularExpression": {"pattern": "a", "options": ""}}, ...),
        (Regex("a", "mx"), {"$regularExpression": {"pattern": "a", "options": "mx"}}, ...),
        (Code("x"), {"$code": "x"}, {"$code": "x"}),
        (MinKey(), {"$minKey": 1}, {"$minKey": 1}),
        (MaxKey(), {"$maxKey": 1}, {"$maxKey": 1}),
        (DBRef("c", ObjectId(HEX)), {"$ref": "c", "$id": {"$oid": HEX}}, HEX),
        (Tint.DARK, "dark", "dark"),
        (docs.Level.HIGH, 2, 2),
        ({1: (2, {3})}, {"1": [2, [3]]}, {"1": [2, [3]]}),
        (docs.CodedTarget(code="a"), "a", "a"),
        (
            docs.Leaf(text="x", coded=DBRef("mt_coded", "a")),
            {"text": "x", "moment": None, "amount": None, "coded": {"$ref": "mt_coded", "$id": "a"}},
            {"text": "x", "moment": None, "amount": None, "coded": "a"},
        ),
        (object, str(object), str(object)),
        (docs.Circle(radius=1.0), {"name": None, "radius": 1.0}, {"name": None, "radius": 1.0}),
    ]
    for value, extended, plain in table:
        assert model.encode_value(value) == extended
        assert model.encode_value({"a": [value]}) == {"a": [extended]}
        if plain is not ...:
            assert model.encode_plain(value) == plain
        orjson.dumps([model.encode_value(value), model.encode_plain(value)])


class Linked(me.Document):
    target = me.ReferenceField(docs.CodedTarget, primary_key=True)


def test_a_document_in_an_untyped_place_is_its_key_unread() -> None:
    assert model.encode_plain(Linked(target=DBRef("mt_coded", "a"))) == "a"


def test_diffs_are_written_like_documents() -> None:
    before = {
        "_id": ObjectId(HEX),
        "n": "a",
        "addr": {"t": "x"},
        "shape": {"_cls": "Circle", "r": 1.0},
        "leaves": [],
    }
    after = {
        "_id": ObjectId(HEX),
        "n": "b",
        "addr": {"t": "x", "m": dt.datetime(2020, 1, 1), "amount": Decimal128("1.0")},
        "shape": {"_cls": "Circle", "r": 2.0},
        "leaves": [{"t": "l"}],
        "branch": {"l": {"m": dt.datetime(2020, 1, 1)}},
        "created": dt.datetime(2020, 1, 1),
        "extra": {"o": ObjectId(HEX)},
    }
    written = model.encode_diff(PERSON, model.diff(PERSON, before, after))
    leaf = {"text": None, "moment": None, "amount": None, "coded": None}
    assert written == {
        "name": {"from": "a", "to": "b"},
        "address.moment": {"from": None, "to": "2020-01-01T00:00:00.000Z"},
        "address.amount": {"from": None, "to": "1.0"},
        "shape.radius": {"from": 1.0, "to": 2.0},
        "leaves": {"from": [], "to": [{**leaf, "text": "l"}]},
        "branch": {
            "from": None,
            "to": {
                "leaf": {**leaf, "moment": "2020-01-01T00:00:00.000Z"},
                "leaves": None,
                "below": None,
                "number": None,
            },
        },
        "created": {"from": None, "to": "2020-01-01T00:00:00.000Z"},
        "extra": {"from": None, "to": {"o": {"$oid": HEX}}},
    }
    free = Schema.of(docs.Free)
    found = model.diff(free, {"_id": 1}, {"_id": 1, "more": ObjectId(HEX)})
    assert model.encode_diff(free, found) == {"more": {"from": None, "to": {"$oid": HEX}}}
