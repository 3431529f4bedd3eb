"""The compiled encoders against a slow one that asks each field: the same bytes, whatever is stored."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import bson
import mongoengine as me
import pytest
from bson import SON, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary, UuidRepresentation
from bson.codec_options import DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from hypothesis import given, settings
from hypothesis import strategies as st

from bzz import model
from bzz.model import Schema
from bzz.model.embedding import EmbeddedSpec, GenericEmbeddedSpec
from bzz.model.field import CustomSpec, FieldSpec
from bzz.model.untyped import encode_value
from tests import model_documents as docs

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))
OPTIONS = bson.CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
READERS = [
    OPTIONS,
    OPTIONS.with_options(tz_aware=True),
    OPTIONS.with_options(document_class=SON),
    bson.CodecOptions(),
    OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO),
]
HEX = "5f" * 12
MOMENT = dt.datetime(2020, 1, 31, 12, 30)


class Door(me.EmbeddedDocument):
    code = me.StringField(db_field="c")
    opened = me.DateTimeField()
    keeper = me.ReferenceField(docs.Target)


class House(me.EmbeddedDocument):
    name = me.StringField()
    front = me.EmbeddedDocumentField(Door, db_field="f")
    doors = me.EmbeddedDocumentListField(Door)
    next = me.EmbeddedDocumentField("self")


class Street(me.Document):
    """Embedded documents in each other, in lists and in maps; keys of every kind in lists."""

    name = me.StringField()
    opened = me.DateTimeField()
    house = me.EmbeddedDocumentField(House)
    houses = me.ListField(me.EmbeddedDocumentField(House), db_field="hs")
    rows = me.ListField(me.ListField(me.EmbeddedDocumentField(Door)))
    plan = me.MapField(me.EmbeddedDocumentField(House))
    moments = me.MapField(me.ListField(me.DateTimeField()))
    owners = me.ListField(me.ReferenceField(docs.Target))
    codes = me.ListField(me.ReferenceField(docs.CodedTarget))
    numbers = me.ListField(me.LazyReferenceField(docs.NumberedTarget))
    uids = me.ListField(me.UUIDField())
    sums = me.ListField(me.Decimal128Field())
    counters = me.ListField(me.SequenceField())
    colours = me.ListField(me.EnumField(docs.Colour))
    loose = me.ListField(me.EmbeddedDocumentField(docs.Loose))
    shapes = me.MapField(me.EmbeddedDocumentField(docs.Shape))
    meta = {"collection": "te_street"}


class Mapped(me.Document):
    """A key that is an object."""

    key = me.MapField(me.FloatField(), primary_key=True)
    meta = {"collection": "te_mapped"}


class Pointing(me.Document):
    mapped = me.ReferenceField(Mapped)
    cached = me.CachedReferenceField(Mapped)
    lazy = me.LazyReferenceField(Mapped)
    meta = {"collection": "te_pointing"}


MODELS = [
    docs.Everything,
    docs.Person,
    docs.Free,
    docs.Animal,
    docs.Dog,
    docs.Puppy,
    docs.CodedTarget,
    docs.UniversalTarget,
    Street,
    Pointing,
]


# The slow encoder -------------------------------------------------------------------------------------------


def slow(schema: Schema, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Encode a document field by field, each by its own ``encode``."""
    schema = schema.of_stored(dict(stored))
    result: dict[str, Any] = {"_cls": schema.class_name} if schema.polymorphic else {}
    for name, spec in schema.fields.items():
        result[name] = slow_value(spec, stored.get(spec.db_name))
    if schema.dynamic:
        known = {*schema.by_db_name, *schema.fields}
        for key, value in stored.items():
            if key not in known and key[:1] != "_":
                result[key] = encode_value(value)
    return result


def slow_value(custom: FieldSpec, stored: Any) -> Any:
    spec = custom.origin if isinstance(custom, CustomSpec) else custom
    if stored is None or spec.encoder is None:
        return stored
    if isinstance(spec, EmbeddedSpec) and isinstance(stored, dict):
        return slow(spec.schema_of({}), stored)
    if isinstance(spec, GenericEmbeddedSpec) and isinstance(stored, dict):
        schema = spec.schema_of(stored)
        return encode_value(stored) if schema is None else {"_cls": schema.class_name, **slow(schema, stored)}
    items = getattr(spec, "items", None)
    if items is not None and spec.repeatable and isinstance(stored, list):
        return [slow_value(items, each) for each in stored]
    if items is not None and not spec.repeatable and isinstance(stored, dict):
        return {key: slow_value(items, each) for key, each in stored.items()}
    return spec.encode(stored)


def outcome(write: Any) -> Any:
    """Return what was written, or the class of what went wrong."""
    try:
        return write()
    except Exception as error:  # whatever a field's own conversion does with a value that does not fit
        return type(error)


def check(schema: Schema, stored: Any) -> None:
    expected = outcome(lambda: model.dump(slow(schema, stored)))
    before = outcome(lambda: bson.encode(stored, codec_options=OPTIONS))
    assert outcome(lambda: model.encode_bytes(schema, stored)) == expected
    assert outcome(lambda: model.dump(model.encode_parts(schema, stored))) == expected
    listed = expected if isinstance(expected, type) else b"[%b,%b]" % (expected, expected)
    assert outcome(lambda: model.encode_list_bytes(schema, [stored, stored])) == listed
    each = expected if isinstance(expected, type) else [expected, expected]
    assert outcome(lambda: model.encode_each(schema, [stored, stored])) == each
    assert outcome(lambda: bson.encode(stored, codec_options=OPTIONS)) == before, (
        "a stored document is shared"
    )


# What may be stored -----------------------------------------------------------------------------------------


ODD = [
    *(None, True, 0, -1, 2**62, Int64(5), 1.5, -0.0, 1e22, float("nan"), float("inf"), float("-inf")),
    *("", "red", "1-5", "1.5", HEX, "2020,01,31,12,30,00,000000", "2020-01-31T12:30:00", "\u2028\x00\x7f"),
    *(str(uuid.UUID(int=5)), "ABCDEF00-0000-4000-8000-00000000000A", ObjectId(HEX), uuid.UUID(int=5)),
    *(MOMENT, dt.datetime(1, 1, 1), dt.datetime(999, 12, 31, 23, 59, 59, 999000), dt.datetime.max),
    *(MOMENT.replace(tzinfo=dt.UTC), MOMENT.replace(microsecond=7000, tzinfo=dt.UTC), DatetimeMS(2**60)),
    *(Decimal128("1.50"), Decimal128("NaN"), Decimal128("-Infinity"), Decimal128("1E+6000")),
    *(b"", b"hi", Binary(b"\1" * 16, 4), Binary(b"\1" * 16, 3), Binary(b"hi", 128)),
    *(Regex("a+", "i"), Code("f()"), Code("g()", {"x": 1}), Timestamp(1, 2), MinKey(), MaxKey()),
    *(DBRef("mt_coded", "a"), DBRef("mt_target", ObjectId(HEX)), DBRef("mt_target", ObjectId(HEX), get="x")),
    *(
        [],
        {},
        SON(),
        {"_cls": "Circle"},
        {"_cls": 5, "_id": None},
        {"type": "Point", "coordinates": [1, 2.5]},
    ),
    *({"_cls": "CodedTarget", "_ref": DBRef("mt_coded", "a")}, {"_cls": "CodedTarget", "_ref": 5}),
]
scalars = (
    docs.json_scalars
    | st.sampled_from(ODD)
    | docs.oids
    | docs.moments
    | docs.moments.map(lambda each: each.replace(tzinfo=dt.UTC))
    | docs.decimals.map(Decimal128)
    | st.uuids()
    | st.binary(max_size=20)
    | st.builds(DBRef, st.just("mt_coded"), docs.codes | docs.oids | docs.int64)
)
names = st.sampled_from(["t", "m", "amount", "coded", "l", "ls", "below", "number", "n", "r", "f", "c"]) | (
    st.sampled_from(["opened", "keeper", "name", "front", "doors", "next", "_id", "id", "x"])
)
classes = st.sampled_from(
    ["Leaf", "Shape", "Shape.Circle", "Circle", "Animal", "Animal.Dog", "CodedTarget", "none"]
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(names | docs.keys, inner, max_size=4)
        | st.builds(
            lambda cls, rest: {"_cls": cls, **rest}, classes, st.dictionaries(names, inner, max_size=3)
        )
        | st.builds(lambda cls, ref: {"_cls": cls, "_ref": ref}, classes, inner)
    ),
    max_leaves=8,
)


def fitting(spec: FieldSpec) -> st.SearchStrategy[Any]:
    """What belongs to a field of :class:`Everything`, as it is stored."""
    json = docs.JSON.get(spec.name)
    if json is None:
        return values
    return json.map(lambda each: spec.store(spec.decode(each, "")))


def documents(schema: Schema) -> st.SearchStrategy[dict[str, Any]]:
    known = {
        spec.db_name: fitting(spec) | values if schema.model is docs.Everything else values
        for below in [schema, *(Schema.of(each) for each in schema.subclasses.values())]
        for spec in below.fields.values()
    }
    named = st.lists(st.sampled_from(sorted(known)), unique=True, max_size=10).flatmap(
        lambda chosen: st.fixed_dictionaries({name: known[name] for name in chosen})
    )
    whole = st.fixed_dictionaries(known) if len(known) < 10 else named
    cls = st.fixed_dictionaries(
        {}, optional={"_cls": st.sampled_from([*schema.subclasses, "none"]) | scalars}
    )
    unknown = st.dictionaries(docs.keys, values, max_size=2)
    return st.tuples(cls, named | whole, unknown | st.just({})).map(
        lambda all_: {**all_[2], **all_[0], **all_[1]}
    )


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


@pytest.mark.parametrize("document", MODELS, ids=lambda each: each.__name__)
def test_whatever_is_stored_is_written_as_its_fields_write_it(document: Any) -> None:
    schema = Schema.of(document)

    @settings(max_examples=40 * EXAMPLES, deadline=None, database=None)
    @given(documents(schema), st.sampled_from(READERS))
    def holds(stored: dict[str, Any], reader: Any) -> None:
        check(schema, stored)
        raw = bson.encode(stored, codec_options=OPTIONS)
        with contextlib.suppress(InvalidBSON):  # a moment that this reader cannot read
            check(schema, bson.decode(raw, codec_options=reader))

    holds()


@pytest.mark.parametrize("document", MODELS, ids=lambda each: each.__name__)
def test_a_value_that_does_not_fit_is_written_as_ever(document: Any) -> None:
    schema = Schema.of(document)
    for name in {spec.db_name for spec in schema.fields.values()}:
        for value in ODD:
            for stored in (value, [value, None], {"k": value, "t": value}, [[value]], {"c": {"f": [value]}}):
                check(schema, {name: stored})


class Root(me.Document):
    name = me.StringField()
    meta = {"allow_inheritance": True, "collection": "te_root"}


def test_a_class_that_is_declared_anew_is_written_as_it_is_now() -> None:
    for name in ("old", "new"):
        type(Root)("Kind", (Root,), {name: me.IntField(), "__module__": __name__})
        stored = {"_cls": "Root.Kind", "name": "a", name: 1}
        for _ in range(2):
            assert model.encode(Schema.of(Root), stored) == {
                "_cls": "Root.Kind",
                "id": None,
                "name": "a",
                name: 1,
            }
            check(Schema.of(Root), stored)


@settings(max_examples=300 * EXAMPLES, deadline=None)
@given(
    st.datetimes(
        timezones=st.none()
        | st.sampled_from(
            [dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)), dt.timezone(-dt.timedelta(seconds=30))]
        )
    )
)
def test_every_moment_has_one_form(moment: dt.datetime) -> None:
    check(Schema.of(docs.Person), {"created": moment, "addr": {"m": moment}, "leaves": [{"m": moment}]})


@settings(max_examples=100 * EXAMPLES, deadline=None)
@given(docs.oids)
def test_an_identifier_is_its_digits(oid: ObjectId) -> None:
    assert model.encode(Schema.of(docs.Person), {"_id": oid, "boss": oid})["id"] == str(oid)
