"""Every field type of mongoengine in the model room, without a single byte of network."""

from __future__ import annotations

import datetime as dt
import enum
import os
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import bson
import mongoengine as me
import orjson
import pytest
from bson import DBRef, Decimal128, Int64, ObjectId
from bson.binary import Binary, UuidRepresentation
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from mongoengine import fields as shipped
from mongoengine.base import BaseField, LazyReference

from bzz import model
from bzz.errors import ValidationError
from bzz.model.field import known_class, spec_for
from bzz.model.instances import Origin
from tests import model_documents as docs
from tests.model_documents import Everything

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))
SCHEMA = model.Schema.of(Everything)
OPTIONS = bson.CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
HEX = "5f" * 12


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    """Whatever would touch the network fails within milliseconds."""
    docs.connect_nowhere()
    yield
    me.disconnect_all()


def through_bson(stored: dict[str, Any]) -> dict[str, Any]:
    return bson.decode(bson.encode(stored, codec_options=OPTIONS), codec_options=OPTIONS)


def stored_from(body: dict[str, Any]) -> dict[str, Any]:
    document = model.new_document(SCHEMA, model.decode_object(SCHEMA, body, creating=True))
    model.validate(document)
    return model.to_stored(document)


def every_field(owner: Any) -> Iterator[BaseField]:
    for each in owner._fields.values():
        while each is not None:
            yield each
            each = getattr(each, "field", None)


def test_every_field_type_of_the_package_is_described_and_tested() -> None:
    exported = {getattr(shipped, name) for name in shipped.__all__}
    types = {each for each in exported if isinstance(each, type) and issubclass(each, BaseField)}
    used = {type(each) for each in every_field(Everything)}
    assert types - used <= {shipped.GeoJsonBaseField}
    assert set(docs.JSON) == set(SCHEMA.fields) - {"id"}
    for field in every_field(Everything):
        if type(field) in types:
            assert known_class(field) is type(field)


@pytest.mark.parametrize("name", sorted(docs.JSON))
def test_a_value_of_each_type_travels_there_and_back(name: str) -> None:
    spec = SCHEMA.fields[name]

    @settings(max_examples=25 * EXAMPLES, deadline=None, database=None)
    @given(docs.JSON[name])
    def travels(value: Any) -> None:
        typed = spec.decode(value, "")
        stored = spec.store(typed)
        assert model.same(through_bson({"v": stored})["v"], stored), "the driver gives back what is stored"
        json = spec.encode(stored)
        assert orjson.loads(orjson.dumps(json)) == json or isinstance(value, float)
        again = spec.store(spec.decode(model.parse_json(orjson.dumps(json)), ""))
        assert model.same(again, stored)
        assert model.same(spec.store(spec.revive(stored)), stored)
        loaded = spec.load(stored)
        assert not isinstance(loaded, (me.Document, me.EmbeddedDocument, DBRef))
        assert orjson.loads(orjson.dumps(spec.encode_loaded(loaded))) == orjson.loads(orjson.dumps(json))

    travels()


@settings(max_examples=60 * EXAMPLES, deadline=None)
@given(docs.bodies)
def test_whole_documents_travel_there_and_back(body: dict[str, Any]) -> None:
    stored = stored_from(body)
    # The copies of a cached reference are still to be read; a place may come in as bare coordinates.
    json = model.encode(SCHEMA, stored)
    assert list(json) == list(SCHEMA.fields)
    assert orjson.loads(model.encode_bytes(SCHEMA, stored)) == json
    back = {name: value for name, value in json.items() if value is not None}
    assert model.same(stored_from(back), stored)
    revived = model.from_stored(SCHEMA, through_bson(stored))
    assert not revived._created
    assert revived._changed_fields == []
    assert model.same(model.to_stored(revived), stored)
    assert model.to_stored(revived).keys() == stored.keys()


@settings(max_examples=40 * EXAMPLES, deadline=None)
@given(docs.bodies)
def test_mongoengine_would_store_the_same(body: dict[str, Any]) -> None:
    for generated in ("cached", "sequence", "invoice", "reference_abstract"):
        body.pop(generated, None)
    document = model.new_document(SCHEMA, model.decode_object(SCHEMA, body, creating=True))
    assume("$binary" not in str(body))  # mongoengine stores bytes in untyped lists and dicts as numbers
    document._data.update(sequence=1, invoice="INV-1")
    assert model.same(through_bson(document.to_mongo()), model.to_stored(document))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("string", {"$ne": None}),
        ("string", 5),
        ("string", True),
        ("boolean", "false"),
        ("boolean", 1),
        ("count", True),
        ("count", 1.5),
        ("count", "1"),
        ("count", 2**63),
        ("count", 1e300),
        ("big", -(2**63) - 1),
        ("number", "1.5"),
        ("number", True),
        ("number", 10**400),
        ("number", float("nan")),
        ("moment", "garbage"),
        ("moment", 1577836800),
        ("moment", "2020-13-01T00:00:00Z"),
        ("moment", "2020-01-01T00:00:00+24:00"),
        ("moment", "0001-01-01T00:00:00+01:00"),
        ("moment", "2020-W01-1"),
        ("moment", "٢٠٢٠-01-01"),
        ("day", "2020-02-30"),
        ("complex_moment", ""),
        ("decimal", "1_000"),
        ("decimal", "NaN"),
        ("decimal", "1e99999"),
        ("decimal", "1e40"),
        ("decimal", "9007199254740993.25"),
        ("decimal", True),
        ("decimal", None),
        ("decimal128", "Infinity"),
        ("decimal128", "1" * 35),
        ("decimal128", "1e9999"),
        ("decimal128", []),
        ("uid", "x"),
        ("uid", "{" + "0" * 32 + "}"),
        ("uid", 5),
        ("binary", "a"),
        ("binary", "é"),
        ("binary", 5),
        ("colour", "green"),
        ("colour", ["red"]),
        ("level", True),
        ("level", "1"),
        ("oid", "x" * 24),
        ("oid", HEX[:12]),
        ("reference", {"$oid": HEX}),
        ("reference", 5),
        ("reference_number", "5"),
        ("reference_abstract", HEX),
        ("reference_abstract", {"_cls": "Target", "_ref": HEX}),
        ("any_reference", {"_cls": "Leaf", "_ref": HEX}),
        ("any_reference", {"_cls": "AbstractTarget", "_ref": HEX}),
        ("any_reference", {"_cls": "Nobody", "_ref": HEX}),
        ("any_reference", {"_cls": ["Target"], "_ref": HEX}),
        ("any_reference", {"_cls": "Target", "_ref": None}),
        ("any_reference", {"_cls": "Target"}),
        ("any_reference", HEX),
        ("chosen_reference", {"_cls": "NumberedTarget", "_ref": 1}),
        ("file", "file.txt"),
        ("leaf", [1]),
        ("leaf", {"_cls": "Leaf"}),
        ("leaf", {"t": "database name"}),
        ("shape", {"_cls": "Leaf"}),
        ("shape", {"_cls": "Everything"}),
        ("shape", {"_cls": 5}),
        ("any_shape", {"text": "no class"}),
        ("any_shape", {"_cls": "Loose"}),
        ("any_embedded", {"_cls": "Target"}),
        ("loose", {"_hidden": 1}),
        ("loose", {"validate": 1}),
        ("loose", {"a.b": 1}),
        ("words", "a"),
        ("words", [1]),
        ("words", ["a", None]),
        ("nested", [["2020"]]),
        ("mapping", []),
        ("mapping", {"$where": 1}),
        ("mapping", {"a": {"b.c": 1}}),
        ("mapping", {"a": [{"$gt": 1}]}),
        ("mapping", {"a": {"_cls": "Target"}}),
        ("mapping", {"a\0": 1}),
        ("mapping", {"_cls": "Target", "_ref": HEX}),
        ("counts", {"a": "1"}),
        ("counts", {"a": None}),
        ("counts", {"$inc": 1}),
        ("leaf_map", {"a": {"text": 5}}),
        ("dynamic", {"$ne": 1}),
        ("dynamic", {"$oid": "x"}),
        ("dynamic", {"$oid": HEX, "more": 1}),
        ("dynamic", {"$date": 5}),
        ("dynamic", {"$date": "x"}),
        ("dynamic", {"$numberLong": "9223372036854775808"}),
        ("dynamic", {"$numberDouble": "NaN"}),
        ("dynamic", {"$numberDecimal": "x"}),
        ("dynamic", {"$uuid": "x"}),
        ("dynamic", {"$binary": {"base64": "a", "subType": "00"}}),
        ("dynamic", {"$binary": {"base64": "", "subType": "999"}}),
        ("dynamic", {"$binary": {"base64": ""}}),
        ("dynamic", {"$timestamp": {"t": "1", "i": 1}}),
        ("dynamic", {"$minKey": True}),
        ("dynamic", {"$ref": "users", "$id": 1}),
        ("dynamic", {"$code": "x"}),
        ("dynamic", {"$regularExpression": {"pattern": "a", "options": ""}}),
        ("pair", [1]),
        ("pair", [1, "2"]),
        ("pair", [1, True]),
        ("pair", [1, 2**70]),
        ("pair", [1, float("inf")]),
        ("pair", {"type": "Point", "coordinates": [1, 2]}),
        ("point", {"type": "Polygon", "coordinates": [1, 2]}),
        ("point", {"type": "Point"}),
        ("point", {"type": "Point", "coordinates": [180.5, 2]}),
        ("point", [1, -91]),
        ("line", [[1, 2], [-181, 2]]),
        ("point", {"type": "Point", "coordinates": [[1, 2]]}),
        ("point", "1,2"),
        ("polygon", [[1, 2]]),
        ("sequence", "1"),
        ("invoice", True),
        ("span", "x"),
        ("celsius", "5"),
    ],
)
def test_what_does_not_fit_is_refused_at_its_place(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        SCHEMA.fields[name].decode(value, f"/{name}")
    assert all(error.pointer.startswith(f"/{name}") for error in caught.value.errors)


@settings(max_examples=300 * EXAMPLES, deadline=None)
@given(
    st.sampled_from(sorted(docs.JSON)),
    docs.free_values.filter(lambda value: value is not None) | docs.wrappers,
)
def test_any_json_is_stored_or_refused(name: str, value: Any) -> None:
    """Nothing but ValidationError comes out, and whatever passes is what MongoDB can keep."""
    try:
        stored = stored_from({name: value})
    except ValidationError as error:
        for pointer, detail in error.errors:
            assert pointer == f"/{name}" or pointer.startswith(f"/{name}/")
            assert len(detail) < 400
    else:
        assert model.same(through_bson(stored), stored)


TEXTS = [
    ("string", "", ""),
    ("string", "a", "a"),
    ("count", "", None),
    ("count", "-5", -5),
    ("number", "1e3", 1000.0),
    ("boolean", "true", True),
    ("boolean", "0", False),
    ("moment", "2020-01-01", dt.datetime(2020, 1, 1)),
    ("day", "2020-01-01", dt.date(2020, 1, 1)),
    ("decimal", "1.005", Decimal("1.01")),
    ("uid", "0" * 32, uuid.UUID(int=0)),
    ("colour", "red", docs.Colour.RED),
    ("level", "2", docs.Level.HIGH),
    ("colour", "", None),
    ("oid", HEX, ObjectId(HEX)),
    ("reference", HEX, DBRef("mt_target", ObjectId(HEX))),
    ("reference_number", "7", DBRef("mt_numbered", 7)),
    (
        "reference_abstract",
        f"ConcreteTarget:{HEX}",
        DBRef("mt_concrete", ObjectId(HEX), cls="ConcreteTarget"),
    ),
    ("any_reference", "CodedTarget:a:b", {"_cls": "CodedTarget", "_ref": DBRef("mt_coded", "a:b")}),
    ("words", "a", ["a"]),
    ("words", "", [""]),
    ("references", "", []),
    ("dynamic", "5", "5"),
    ("sequence", "5", 5),
    ("invoice", "INV-5", "INV-5"),
    ("span", "1-2", range(1, 2)),
    ("celsius", "1", docs.Degrees(1.0)),
    ("celsius", "", None),
    ("binary", "aGk=", b"hi"),
]


@pytest.mark.parametrize(("name", "text", "typed"), TEXTS)
def test_text_of_forms_and_queries(name: str, text: str, typed: Any) -> None:
    assert SCHEMA.fields[name].decode_text([text], "") == typed


def test_repeated_text_is_a_list_and_nothing_else() -> None:
    assert SCHEMA.fields["words"].decode_text(["a", "b"], "") == ["a", "b"]
    assert SCHEMA.fields["dynamic"].decode_text(["a", "b"], "") == ["a", "b"]
    with pytest.raises(ValidationError, match="1 value is not valid"):
        SCHEMA.fields["count"].decode_text(["1", "2"], "")
    with pytest.raises(ValidationError):
        SCHEMA.fields["references"].decode_text([HEX, ""], "")


@pytest.mark.parametrize("name", ["leaf", "mapping", "point", "any_shape"])
def test_objects_cannot_be_text(name: str) -> None:
    with pytest.raises(ValidationError):
        SCHEMA.fields[name].decode_text(["{}"], "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "1" * 30),
        ("count", "1.0"),
        ("count", "١"),
        ("number", "nan"),
        ("number", "1e999"),
        ("boolean", "yes"),
        ("colour", "green"),
        ("any_reference", "Target"),
        ("any_reference", "Nobody:1"),
        ("any_reference", "Target:"),
        ("span", "1"),
    ],
)
def test_malformed_text_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValidationError):
        SCHEMA.fields[name].decode_text([text], "")


#: Stored values that do not fit their field, as an older model may have left them, and their JSON.
LEGACY = [
    ("string", 5, 5),
    ("string", ObjectId(HEX), {"$oid": HEX}),
    ("count", "five", "five"),
    ("count", Int64(2**62), 2**62),
    ("number", 3, 3),
    ("number", float("nan"), None),
    ("boolean", "yes", "yes"),
    ("decimal", "1.5", "1.50"),
    ("decimal", "x", "x"),
    ("decimal", 1e300, str(Decimal("1e300"))),
    ("decimal128", 1.5, 1.5),
    ("uid", "x", "x"),
    ("uid", Binary(uuid.UUID(int=5).bytes, 4), str(uuid.UUID(int=5))),
    ("uid_text", uuid.UUID(int=5), str(uuid.UUID(int=5))),
    ("binary", "text", "text"),
    ("binary", Binary(b"hi", 5), "aGk="),
    ("moment", "2020", "2020"),
    (
        "moment",
        dt.datetime(2020, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "2020-01-01T00:00:00.000Z",
    ),
    ("day", "x", "x"),
    ("complex_moment", "x", "x"),
    ("colour", "green", "green"),
    ("oid", "x", "x"),
    ("file", "x", "x"),
    ("reference", DBRef("mt_target", ObjectId(HEX)), HEX),
    ("reference", "x", "x"),
    ("reference_dbref", "x", "x"),
    ("reference_abstract", HEX, HEX),
    ("any_reference", DBRef("a", 1), {"$ref": "a", "$id": 1}),
    ("any_reference", {"_cls": "Gone", "_ref": DBRef("a", 1)}, {"_cls": "Gone", "_ref": 1}),
    ("cached", "x", "x"),
    ("words", "a", "a"),
    ("nested", 5, 5),
    ("scores", 5, 5),
    ("leaf", "x", "x"),
    ("leaves", [5], [5]),
    ("any_shape", {"_cls": "Gone", "a": 1}, {"_cls": "Gone", "a": 1}),
    ("any_shape", 5, 5),
    (
        "dynamic",
        {"_cls": "Target", "_ref": DBRef("mt_target", 1)},
        {"_cls": "Target", "_ref": {"$ref": "mt_target", "$id": 1}},
    ),
    ("dynamic", float("inf"), {"$numberDouble": "Infinity"}),
    ("span", 5, 5),
]


@pytest.mark.parametrize(("name", "stored", "json"), LEGACY)
def test_what_an_older_model_left_is_shown_and_kept(name: str, stored: Any, json: Any) -> None:
    document = {"_id": 1, SCHEMA.fields[name].db_name: stored}
    assert model.encode(SCHEMA, document)[name] == json
    revived = model.from_stored(SCHEMA, document)
    revived._data["string"] = revived._data.get("string")
    assert model.same(model.to_stored(revived), document)
    loaded = model.load(SCHEMA, document)[name]
    assert not isinstance(loaded, (me.Document, me.EmbeddedDocument, DBRef))


def test_lists_hold_nulls_that_are_stored() -> None:
    document = {"_id": 1, "references": [None, ObjectId(HEX)], "scores": {"a": None}}
    assert model.encode(SCHEMA, document)["references"] == [None, HEX]
    assert model.encode(SCHEMA, document)["scores"] == {"a": None}
    assert model.load(SCHEMA, document)["references"] == [None, ObjectId(HEX)]
    assert model.same(model.to_stored(model.from_stored(SCHEMA, document)), document)


def test_a_cached_reference_waits_for_its_copies() -> None:
    assignments = model.decode_object(SCHEMA, {"cached": "a"}, creating=True)
    document = model.new_document(SCHEMA, assignments)
    [(owner, spec)] = model.pending_references(document)
    assert owner is document
    assert spec.target is docs.CodedTarget
    assert model.direct_update(SCHEMA, assignments) is None
    target = model.from_stored(model.Schema.of(docs.CodedTarget), {"_id": "a", "name": "Ana"})
    model.assign(document, {(spec.name,): target})
    assert model.pending_references(document) == []
    stored = model.to_stored(document)
    assert stored["cached"] == {"_id": "a", "name": "Ana"}
    again = model.from_stored(SCHEMA, stored)
    assert again._data["cached"].name == "Ana"
    assert model.to_stored(again) == stored
    assert model.load(SCHEMA, stored)["cached"] == "a"


class Station(me.Document):
    leaf = me.EmbeddedDocumentField(docs.Leaf, db_field="lf")
    extra = me.DictField(db_field="x")
    title = me.StringField()
    meta = {"collection": "mt_station", "allow_inheritance": True}


class Stop(me.Document):
    whole = me.CachedReferenceField(Station)
    parts = me.CachedReferenceField(Station, fields=["title", "leaf.text", "extra.a"])
    meta = {"collection": "mt_stop"}


def test_cached_references_copy_what_they_name() -> None:
    station = Station(
        title="t", leaf=docs.Leaf(text="x", moment=dt.datetime(2020, 1, 1)), extra={"a": 1, "b": 2}
    )
    station._data["id"] = ObjectId(HEX)
    stored = model.to_stored(Stop(whole=station, parts=station))
    full = {"_cls": "Station", "_id": ObjectId(HEX), "lf": {"t": "x", "m": dt.datetime(2020, 1, 1)}}
    assert stored["whole"] == {**full, "x": {"a": 1, "b": 2}, "title": "t"}
    assert stored["parts"] == {
        "_id": ObjectId(HEX),
        "_cls": "Station",
        "lf": {"t": "x"},
        "x": {"a": 1},
        "title": "t",
    }


def test_references_take_every_typed_form() -> None:
    target = docs.CodedTarget(code="a")
    spec = SCHEMA.fields["reference_dbref"]
    assert (
        spec.store(target) == spec.store("a") == spec.store(DBRef("mt_coded", "a")) == DBRef("mt_coded", "a")
    )
    lazy = SCHEMA.fields["lazy_passing"]
    assert lazy.store(LazyReference(docs.CodedTarget, "a", passthrough=True)) == lazy.store(target) == "a"
    concrete = docs.ConcreteTarget(id=HEX)
    assert SCHEMA.fields["reference_abstract"].store(concrete) == DBRef(
        "mt_concrete", ObjectId(HEX), cls="ConcreteTarget"
    )
    generic = {"_cls": "CodedTarget", "_ref": DBRef("mt_coded", "a")}
    for value in (target, LazyReference(docs.CodedTarget, "a"), generic):
        assert SCHEMA.fields["any_lazy"].store(value) == generic


def test_untyped_positions_take_documents_as_mongoengine_does() -> None:
    target = docs.CodedTarget(code="a")
    document = Everything(
        dynamic={"doc": target, "leaf": docs.Leaf(text="x"), "lazy": LazyReference(docs.CodedTarget, "b")},
        sequence=1,
        invoice="i",
    )
    stored = model.to_stored(document)
    assert stored["dynamic"] == {
        "doc": {"_cls": "CodedTarget", "_ref": DBRef("mt_coded", "a")},
        "leaf": {"t": "x", "_cls": "Leaf"},
        "lazy": DBRef("mt_coded", "b"),
    }
    revived = model.from_stored(SCHEMA, stored)
    assert isinstance(revived._data["dynamic"]["leaf"], docs.Leaf)
    assert model.same(model.to_stored(revived), stored)


def test_files_are_never_opened() -> None:
    document = model.from_stored(SCHEMA, {"_id": ObjectId(HEX), "file": ObjectId(HEX)})
    assert document._data["file"].grid_id == ObjectId(HEX)
    model.validate(document)
    assert Origin.of(document) is not None
    assert model.to_stored(document)["file"] == ObjectId(HEX)
    assert SCHEMA.fields["file"].store("not a proxy") is None


def test_custom_fields_keep_their_own_ways() -> None:
    document = model.new_document(
        SCHEMA, model.decode_object(SCHEMA, {"celsius": 20.5, "span": "1-5"}, creating=True)
    )
    assert document.celsius == docs.Degrees(20.5)
    assert document.span == range(1, 5)
    assert model.to_stored(document)["span"] == "1-5"
    assert model.load(SCHEMA, {"span": "1-5", "celsius": 2.0})["celsius"] == docs.Degrees(2.0)
    cold = model.new_document(
        SCHEMA, model.decode_object(SCHEMA, {"celsius": -300, "shout": "psst"}, creating=True)
    )
    with pytest.raises(ValidationError) as caught:
        model.validate(cold)
    assert caught.value.errors == (("/celsius", "colder than nothing"), ("/shout", "say it louder"))


class BadField(me.StringField):
    def to_mongo(self, value: Any) -> Any:
        return {"set"} if value == "set" else int(value)


class Bad(me.Document):
    bad = BadField()


@pytest.mark.parametrize("value", ["x", "set"])
def test_a_custom_field_that_cannot_store_is_a_refused_value(value: str) -> None:
    with pytest.raises(ValidationError):
        model.validate(Bad(bad=value))


@example("2020-01-01T00:00:00.123456789+00:00")
@given(docs.micro_rfc3339)
def test_moments_are_cut_to_milliseconds(text: str) -> None:
    typed = SCHEMA.fields["moment"].decode(text, "")
    assert typed.microsecond % 1000 == 0
    assert typed <= SCHEMA.fields["complex_moment"].decode(text, "")


def test_offsets_are_moved_to_utc() -> None:
    decode = SCHEMA.fields["moment"].decode
    noon = dt.datetime(2020, 1, 1, 12)
    for text in (
        "2020-01-01T12:00:00Z",
        "2020-01-01T12:00:00",
        "2020-01-01t14:00:00.000+02:00",
        "2020-01-01 09:30-02:30",
    ):
        assert decode(text, "") == noon


def test_an_aware_moment_is_stored_in_utc() -> None:
    aware = dt.datetime(2020, 1, 1, 2, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    naive = dt.datetime(2020, 1, 1, 0, 0, 0, 123000)
    assert SCHEMA.fields["moment"].store(aware) == naive
    assert SCHEMA.fields["complex_moment"].store(aware) == "2020,01,01,00,00,00,123456"
    assert SCHEMA.fields["dynamic"].store([aware]) == [naive]


def test_a_decimal_from_a_number_is_exact() -> None:
    body = model.parse_json(b'{"v": 0.1234567890123456789, "w": 0.1}')
    assert isinstance(body, dict)
    assert SCHEMA.fields["decimal128"].decode(body["v"], "") == Decimal("0.1234567890123456789")
    assert SCHEMA.fields["decimal128"].decode(body["w"], "") == Decimal("0.1")
    assert type(SCHEMA.fields["number"].decode(body["v"], "")) is float
    assert type(SCHEMA.fields["dynamic"].decode(body["v"], "")) is float


class Switch(enum.Enum):
    ON = True
    OFF = False
    NONE = ""


def test_enums_of_booleans_and_empty_text() -> None:
    spec = spec_for(me.EnumField(Switch), "switch")
    assert spec.decode(True, "") is Switch.ON
    assert spec.decode_text(["false"], "") is Switch.OFF
    assert spec.decode_text([""], "") is Switch.NONE
    with pytest.raises(ValidationError):
        spec.decode(1, "")


def test_a_sequence_of_a_broken_decorator_is_text() -> None:
    spec = spec_for(me.SequenceField(value_decorator=lambda value: value["x"]), "n")
    assert spec.decode("a", "") == "a"


def test_sorted_lists_that_cannot_be_sorted_are_refused() -> None:
    body = {"sorted_leaves": [{"text": "b"}, {}]}
    with pytest.raises(ValidationError) as caught:
        stored_from(body)
    assert caught.value.errors == (("/sorted_leaves", "the items cannot be sorted"),)
    assert stored_from({"sorted_leaves": [{"text": "b"}, {"text": "a"}]})["sorted_leaves"] == [
        {"t": "a"},
        {"t": "b"},
    ]


def test_decimal128_in_untyped_places_loads_as_decimal() -> None:
    stored = {"_id": 1, "dynamic": {"a": [Decimal128("1.50"), Int64(5), DBRef("c", 1)]}}
    assert model.load(SCHEMA, stored)["dynamic"] == {"a": [Decimal("1.50"), 5, {"$ref": "c", "$id": 1}]}
