"""Models for the tests of the model room: every field type once, and every way of declaring."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Any

import mongoengine as me
from bson import DBRef, ObjectId
from hypothesis import strategies as st
from mongoengine.base import BaseField


def connect_nowhere() -> None:
    """Connect mongoengine to a dead port: whatever touches the network fails within milliseconds."""
    me.disconnect_all()
    url = "mongodb://127.0.0.1:1"
    me.connect("none", host=url, serverSelectionTimeoutMS=1, uuidRepresentation="standard")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Target(me.Document):
    name = me.StringField(db_field="n")
    rank = me.IntField()
    meta = {"collection": "mt_target"}


class CodedTarget(me.Document):
    code = me.StringField(primary_key=True)
    name = me.StringField()
    meta = {"collection": "mt_coded"}


class NumberedTarget(me.Document):
    number = me.IntField(primary_key=True)
    meta = {"collection": "mt_numbered"}


class UniversalTarget(me.Document):
    uid = me.UUIDField(primary_key=True, binary=False)
    meta = {"collection": "mt_universal"}


class AbstractTarget(me.Document):
    name = me.StringField()
    meta = {"abstract": True}


class ConcreteTarget(AbstractTarget):
    meta = {"collection": "mt_concrete"}


class Leaf(me.EmbeddedDocument):
    text = me.StringField(db_field="t", max_length=20)
    moment = me.DateTimeField(db_field="m")
    amount = me.Decimal128Field()
    coded = me.ReferenceField(CodedTarget)


class Branch(me.EmbeddedDocument):
    leaf = me.EmbeddedDocumentField(Leaf, db_field="l")
    leaves = me.EmbeddedDocumentListField(Leaf, db_field="ls")
    below = me.EmbeddedDocumentField("self")
    number = me.IntField()


class Shape(me.EmbeddedDocument):
    name = me.StringField(db_field="n")
    meta = {"allow_inheritance": True}


class Circle(Shape):
    radius = me.FloatField(db_field="r")


class Loose(me.DynamicEmbeddedDocument):
    fixed = me.IntField(db_field="f")


class Celsius(me.FloatField):
    """A user's field with conversions of its own: kept in kelvin."""

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, Degrees) else Degrees(float(value))

    def to_mongo(self, value: Any) -> Any:
        return float(self.to_python(value).value)

    def validate(self, value: Any) -> None:
        if value.value < -273:
            self.error("colder than nothing")


class Degrees:
    def __init__(self, value: float) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Degrees) and other.value == self.value

    __hash__ = None


class SpanField(BaseField):
    """A user's field that derives directly from BaseField: ``"1-5"`` in MongoDB, a range in Python."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, range):
            return value
        low, high = value.split("-")
        return range(int(low), int(high))

    def to_mongo(self, value: Any) -> Any:
        return f"{value.start}-{value.stop}"

    def validate(self, value: Any) -> None:
        if not isinstance(value, range):
            self.error("not a range")


class ShoutField(me.StringField):
    """A user's field that only validates."""

    def validate(self, value: Any) -> None:
        super().validate(value)
        if value != value.upper():
            self.error("say it louder")


class Everything(me.Document):
    """Every field type of mongoengine, most of them with a name of their own in MongoDB."""

    binary = me.BinaryField(db_field="f_bin")
    boolean = me.BooleanField(db_field="f_bool")
    cached = me.CachedReferenceField(CodedTarget, fields=["name"])
    complex_moment = me.ComplexDateTimeField()
    dashed_moment = me.ComplexDateTimeField(separator="-")
    day = me.DateField(db_field="d")
    moment = me.DateTimeField(db_field="mo")
    decimal128 = me.Decimal128Field()
    decimal = me.DecimalField(precision=2)
    decimal_text = me.DecimalField(force_string=True, precision=4)
    mapping = me.DictField(db_field="map")
    counts = me.DictField(me.IntField())
    dynamic = me.DynamicField()
    email = me.EmailField()
    leaf = me.EmbeddedDocumentField(Leaf, db_field="lf")
    branch = me.EmbeddedDocumentField(Branch, db_field="br")
    shape = me.EmbeddedDocumentField(Shape)
    loose = me.EmbeddedDocumentField(Loose)
    leaves = me.EmbeddedDocumentListField(Leaf)
    shapes = me.ListField(me.EmbeddedDocumentField(Shape))
    colour = me.EnumField(Colour)
    level = me.EnumField(Level)
    file = me.FileField()
    number = me.FloatField()
    any_shape = me.GenericEmbeddedDocumentField(choices=[Leaf, Circle])
    any_embedded = me.GenericEmbeddedDocumentField()
    any_lazy = me.GenericLazyReferenceField()
    any_reference = me.GenericReferenceField()
    chosen_reference = me.GenericReferenceField(choices=[CodedTarget, "Target"])
    pair = me.GeoPointField()
    image = me.ImageField()
    count = me.IntField()
    lazy = me.LazyReferenceField(Target)
    lazy_passing = me.LazyReferenceField(CodedTarget, passthrough=True)
    lazy_dbref = me.LazyReferenceField(UniversalTarget, dbref=True)
    line = me.LineStringField()
    words = me.ListField(me.StringField())
    untyped = me.ListField()
    nested = me.ListField(me.ListField(me.DateTimeField()))
    big = me.LongField()
    scores = me.MapField(me.Decimal128Field())
    leaf_map = me.MapField(me.EmbeddedDocumentField(Leaf))
    lines = me.MultiLineStringField()
    points = me.MultiPointField()
    polygons = me.MultiPolygonField()
    oid = me.ObjectIdField()
    point = me.PointField()
    polygon = me.PolygonField()
    reference = me.ReferenceField(Target)
    reference_dbref = me.ReferenceField(CodedTarget, dbref=True)
    reference_number = me.ReferenceField(NumberedTarget)
    reference_universal = me.ReferenceField(UniversalTarget)
    reference_abstract = me.ReferenceField(AbstractTarget)
    references = me.ListField(me.ReferenceField(Target))
    sequence = me.SequenceField()
    invoice = me.SequenceField(value_decorator=lambda count: f"INV-{count}")
    sorted_words = me.SortedListField(me.StringField(), reverse=True)
    sorted_leaves = me.SortedListField(me.EmbeddedDocumentField(Leaf), ordering="t")
    string = me.StringField(db_field="s")
    uid = me.UUIDField()
    uid_text = me.UUIDField(binary=False)
    url = me.URLField()
    celsius = Celsius()
    span = SpanField()
    shout = ShoutField()
    spans = me.ListField(SpanField())
    celsius_map = me.MapField(Celsius())
    meta = {"collection": "mt_everything"}


class Person(me.Document):
    """An ordinary model: defaults, choices, null, required, embedded documents."""

    name = me.StringField(required=True, max_length=40, db_field="n")
    status = me.StringField(choices=[("draft", "Draft"), ("live", "Live")], default="draft")
    kind = me.StringField(choices=["a", "b"])
    age = me.IntField(min_value=0, max_value=150)
    note = me.StringField(null=True, default="none")
    created = me.DateTimeField(default=dt.datetime.now)
    address = me.EmbeddedDocumentField(Leaf, db_field="addr")
    branch = me.EmbeddedDocumentField(Branch)
    shape = me.EmbeddedDocumentField(Shape)
    tags = me.ListField(me.StringField(max_length=5), max_length=3)
    friends = me.ListField(me.ReferenceField("self"))
    boss = me.ReferenceField("self")
    leaves = me.EmbeddedDocumentListField(Leaf)
    extra = me.DictField()
    meta = {"collection": "mt_person"}


class Free(me.DynamicDocument):
    title = me.StringField(db_field="t")
    meta = {"collection": "mt_free"}


class Animal(me.Document):
    name = me.StringField(db_field="n")
    meta = {"allow_inheritance": True, "collection": "mt_animal"}


class Dog(Animal):
    barks = me.BooleanField(db_field="b")


class Puppy(Dog):
    weeks = me.IntField()


# Values -----------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$."), min_size=1, max_size=6
).filter(lambda key: key not in ("_cls", "_ref"))
moments = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31)).map(
    lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000)
)
oids = st.binary(min_size=12, max_size=12).map(ObjectId)
floats = st.floats(allow_nan=False, allow_infinity=False)
int64 = st.integers(-(2**63), 2**63 - 1)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
cents = st.integers(-(10**9), 10**9).map(lambda value: Decimal(value).scaleb(-2))
# On the globe: the index of a GeoJSON field could hold no other.
position = st.tuples(
    st.floats(-180, 180) | st.integers(-180, 180), st.floats(-90, 90) | st.integers(-90, 90)
).map(list)
json_scalars = st.none() | st.booleans() | int64 | floats | text
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
wrappers = (
    oids.map(lambda value: {"$oid": str(value)})
    | moments.map(lambda value: {"$date": f"{value.isoformat(timespec='milliseconds')}Z"})
    | decimals.map(lambda value: {"$numberDecimal": str(value)})
    | st.uuids().map(lambda value: {"$uuid": str(value)})
    | int64.map(lambda value: {"$numberLong": str(value)})
    | floats.map(lambda value: {"$numberDouble": repr(value)})
    | st.just({"$minKey": 1})
    | st.just({"$maxKey": 1})
    | st.just({"$timestamp": {"t": 7, "i": 2}})
    | st.just({"$binary": {"base64": "aGk=", "subType": "00"}})
    | st.just({"$binary": {"base64": "aGk=", "subType": "80"}})
)
free_values = st.recursive(
    json_scalars | wrappers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
hexes = oids.map(str)
codes = st.sampled_from(["a", "b/c", "ü", "x"])
rfc3339 = moments.map(lambda value: f"{value.isoformat(timespec='milliseconds')}Z")
micro_rfc3339 = st.datetimes().map(lambda value: f"{value.isoformat(timespec='microseconds')}Z")
leaf_values = st.fixed_dictionaries(
    {},
    optional={
        "text": text | st.none(),
        "moment": rfc3339,
        "amount": decimals.map(str),
        "coded": codes,
    },
)
sortable_leaves = leaf_values.map(lambda value: {**value, "text": value.get("text") or "x"})
branch_values = st.recursive(
    st.fixed_dictionaries({}, optional={"leaf": leaf_values, "number": int64}),
    lambda inner: st.fixed_dictionaries(
        {"below": inner}, optional={"leaves": st.lists(leaf_values, max_size=2)}
    ),
    max_leaves=3,
)
circles = st.fixed_dictionaries({"_cls": st.just("Circle")}, optional={"radius": floats, "name": text})
shapes = circles | st.fixed_dictionaries({"_cls": st.just("Shape")}, optional={"name": text})
lines = st.lists(position, min_size=2, max_size=3)
rings = position.map(lambda at: [[at, [1, 1], [2, 2], at]])
generic = hexes.map(lambda key: {"_cls": "Target", "_ref": key}) | codes.map(
    lambda key: {"_cls": "CodedTarget", "_ref": key}
)


def geojson(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values.map(lambda value: {"type": kind, "coordinates": value}) | values


JSON: dict[str, st.SearchStrategy[Any]] = {
    "binary": st.sampled_from(["", "aGk=", "AAECAw=="]),
    "boolean": st.booleans(),
    "cached": codes,
    "complex_moment": micro_rfc3339,
    "dashed_moment": micro_rfc3339,
    "day": st.dates().map(str),
    "moment": rfc3339,
    "decimal128": decimals.map(str) | st.just("1.100") | st.just("-1E+6000") | int64 | floats,
    "decimal": cents.map(str) | st.integers(-1000, 1000),
    "decimal_text": decimals.map(str),
    "mapping": st.dictionaries(keys, free_values, max_size=3),
    "counts": st.dictionaries(keys, int64, max_size=3),
    "dynamic": free_values.filter(lambda value: value is not None),
    "email": st.sampled_from(["ana@example.org", "b.c+d@example.com"]),
    "leaf": leaf_values,
    "branch": branch_values,
    "shape": shapes,
    "loose": st.fixed_dictionaries({}, optional={"fixed": int64, "more": free_values}),
    "leaves": st.lists(leaf_values, max_size=2),
    "shapes": st.lists(shapes, max_size=2),
    "colour": st.sampled_from(["red", "blue"]),
    "level": st.sampled_from([1, 2]),
    "file": hexes,
    "number": floats | st.integers(-(2**53), 2**53),
    "any_shape": leaf_values.map(lambda value: {"_cls": "Leaf", **value}) | circles,
    "any_embedded": shapes,
    "any_lazy": generic,
    "any_reference": generic,
    "chosen_reference": generic,
    "pair": position,
    "image": hexes,
    "count": int64 | st.sampled_from([1.0, -3.0]),
    "lazy": hexes,
    "lazy_passing": codes,
    "lazy_dbref": st.uuids().map(str),
    "line": geojson("LineString", lines),
    "words": st.lists(text, max_size=3),
    "untyped": st.lists(free_values, max_size=3),
    "nested": st.lists(st.lists(rfc3339, max_size=2), max_size=2),
    "big": int64,
    "scores": st.dictionaries(keys, decimals.map(str), max_size=2),
    "leaf_map": st.dictionaries(keys, leaf_values, max_size=2),
    "lines": geojson("MultiLineString", st.lists(lines, min_size=1, max_size=2)),
    "points": geojson("MultiPoint", st.lists(position, min_size=1, max_size=3)),
    "polygons": geojson("MultiPolygon", st.lists(rings, min_size=1, max_size=2)),
    "oid": hexes,
    "point": geojson("Point", position),
    "polygon": geojson("Polygon", rings),
    "reference": hexes,
    "reference_dbref": codes,
    "reference_number": int64,
    "reference_universal": st.uuids().map(str),
    "reference_abstract": hexes.map(lambda key: {"_cls": "ConcreteTarget", "_ref": key}),
    "references": st.lists(hexes, max_size=3),
    "sequence": st.integers(1, 10**6),
    "invoice": st.sampled_from(["INV-1", "INV-2"]),
    "sorted_words": st.lists(text, max_size=3),
    "sorted_leaves": st.lists(sortable_leaves, max_size=3),
    "string": text,
    "uid": st.uuids().map(str),
    "uid_text": st.uuids().map(str),
    "url": st.sampled_from(["http://example.org/a?b=c", "https://localhost:8888"]),
    "celsius": st.floats(-200, 200),
    "span": st.tuples(st.integers(0, 9), st.integers(10, 19)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
    "shout": st.sampled_from(["HEY", ""]),
    "spans": st.just(["1-2", "3-4"]),
    "celsius_map": st.dictionaries(keys, st.floats(-200, 200), max_size=2),
}

bodies = st.lists(st.sampled_from(sorted(JSON)), unique=True, max_size=8).flatmap(
    lambda names: st.fixed_dictionaries({name: JSON[name] for name in names})
)

PERSON: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text("abc", min_size=1, max_size=3),
    "status": st.sampled_from(["draft", "live"]),
    "age": st.integers(0, 3),
    "note": st.sampled_from([None, "x"]),
    "address": st.none() | leaf_values,
    "branch": st.none() | branch_values,
    "shape": st.none() | shapes,
    "tags": st.lists(st.sampled_from(["a", "b"]), max_size=2),
    "friends": st.lists(st.sampled_from(["a" * 24, "b" * 24]), max_size=2),
    "boss": st.none() | st.just("c" * 24),
    "leaves": st.lists(leaf_values, max_size=2),
    "extra": st.dictionaries(st.sampled_from(["k", "l"]), free_values, max_size=2),
}
person_bodies = st.fixed_dictionaries({}, optional=PERSON)


def dbref(model: Any, key: Any) -> DBRef:
    return DBRef(model._get_collection_name(), key)
