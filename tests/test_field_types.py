"""Every field type of mongoengine, there and back: stored by mongoengine, read as JSON, posted, stored the
same.

Hypothesis makes the values; the way is real HTTP and a real MongoDB.
"""

from __future__ import annotations

import asyncio
import enum
import math
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
from bson import DBRef, Decimal128, ObjectId
from bson.int64 import Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongoengine import fields as shipped
from PIL import Image

from bzz import signals
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.testing import capture
from tests.serving import Client, serving

EXAMPLES = 30 * int(os.environ.get("BZZ_TORTURE", "1"))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Target(me.Document):
    name = me.StringField()


class CodedTarget(me.Document):
    code = me.StringField(primary_key=True)
    name = me.StringField()


class Leaf(me.EmbeddedDocument):
    text = me.StringField(db_field="t")
    moment = me.DateTimeField()
    ref = me.ReferenceField(CodedTarget)
    amount = me.Decimal128Field()


class Shape(me.EmbeddedDocument):
    name = me.StringField()
    meta = {"allow_inheritance": True}


class Circle(Shape):
    radius = me.FloatField()


class Everything(me.Document):
    binary = me.BinaryField()
    boolean = me.BooleanField()
    cached = me.CachedReferenceField(CodedTarget, fields=["name"])
    complex_moment = me.ComplexDateTimeField()
    day = me.DateField()
    moment = me.DateTimeField(db_field="mo")
    decimal128 = me.Decimal128Field()
    decimal = me.DecimalField(force_string=True, precision=4)
    mapping = me.DictField()
    dynamic = me.DynamicField()
    email = me.EmailField()
    leaf = me.EmbeddedDocumentField(Leaf, db_field="lf")
    shape = me.EmbeddedDocumentField(Shape)
    leaves = me.EmbeddedDocumentListField(Leaf)
    colour = me.EnumField(Colour)
    level = me.EnumField(Level)
    number = me.FloatField()
    any_shape = me.GenericEmbeddedDocumentField(choices=[Leaf, Circle])
    any_lazy = me.GenericLazyReferenceField()
    any_ref = me.GenericReferenceField()
    point_pair = me.GeoPointField()
    count = me.IntField()
    lazy = me.LazyReferenceField(Target)
    lazy_dbref = me.LazyReferenceField(CodedTarget, dbref=True)
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
    ref = me.ReferenceField(Target)
    ref_dbref = me.ReferenceField(CodedTarget, dbref=True)
    refs = me.ListField(me.ReferenceField(Target))
    sequence = me.SequenceField()
    sorted_words = me.SortedListField(me.StringField())
    string = me.StringField()
    uid = me.UUIDField()
    uid_text = me.UUIDField(binary=False)
    url = me.URLField()
    file = me.FileField()
    image = me.ImageField()


#: The names of mongoengine.fields that are not field types, or are only the ground on which others stand.
NOT_STORED = {"BaseField", "ComplexBaseField", "ObjectIdField", "GeoJsonBaseField"}


def test_every_type_that_mongoengine_ships_is_here() -> None:
    exported = {getattr(shipped, name) for name in shipped.__all__ if name.endswith("Field")}
    used = {type(each) for each in _every_field(Everything)}
    assert {each.__name__ for each in exported - used} <= NOT_STORED


def _every_field(owner: Any) -> Iterator[Any]:
    for declared in owner._fields.values():
        field = declared
        while field is not None:
            yield field
            field = getattr(field, "field", None)


# Values -----------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$._"), min_size=1, max_size=6
)
moments = st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1)).map(
    lambda each: each.replace(microsecond=each.microsecond // 1000 * 1000)
)
oids = st.binary(min_size=12, max_size=12).map(ObjectId)
floats = st.floats(allow_nan=False, allow_infinity=False)
int64 = st.integers(-(2**63), 2**63 - 1)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
lon_lat = st.tuples(st.floats(-179, 179), st.floats(-89, 89)).map(list)
plain = st.none() | st.booleans() | int64 | floats | text
free = st.recursive(
    plain | moments | oids | st.uuids() | decimals.map(Decimal128) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
ring = lon_lat.map(lambda p: [p, [p[0], p[1] + 0.5], [p[0] + 0.5, p[1]], p])
# MongoDB refuses a line whose points are all the same.
lines = lon_lat.map(lambda p: [p, [p[0] / 2 + 1, p[1] / 2], [p[0], p[1] / 3 + 1]])
codes = st.sampled_from(["a", "b/c", "ü"])
leaves = st.builds(
    Leaf, text=text, moment=moments, amount=decimals, ref=codes.map(lambda code: DBRef("coded_target", code))
)
circles = st.builds(Circle, name=text, radius=floats)
shapes = circles | st.builds(Shape, name=text)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "binary": st.binary(max_size=20),
    "boolean": st.booleans(),
    "cached": codes.map(lambda code: CodedTarget(code=code, name="n")),
    "complex_moment": st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1)),
    "day": st.dates(date(1970, 1, 2), date(9000, 1, 1)),
    "moment": moments,
    "decimal128": decimals,
    "decimal": decimals,
    "mapping": st.dictionaries(keys, free, max_size=3),
    "dynamic": free,
    "email": st.sampled_from(["ana@example.org", "b.c+d@example.com"]),
    "leaf": leaves,
    "shape": shapes,
    "leaves": st.lists(leaves, max_size=2),
    "colour": st.sampled_from(Colour),
    "level": st.sampled_from(Level),
    "number": floats,
    "any_shape": leaves | circles,
    "any_lazy": oids.map(lambda key: Target(id=key)),
    "any_ref": codes.map(lambda code: CodedTarget(code=code)),
    "point_pair": lon_lat,
    "count": int64,
    "lazy": oids.map(lambda key: Target(id=key)),
    "lazy_dbref": codes.map(lambda code: CodedTarget(code=code)),
    "line": lines,
    "words": st.lists(text, max_size=3),
    "untyped": st.lists(free, max_size=3),
    "nested": st.lists(st.lists(moments, max_size=2), max_size=2),
    "big": int64.map(Int64),
    "scores": st.dictionaries(keys, decimals, max_size=2),
    "leaf_map": st.dictionaries(keys, leaves, max_size=2),
    "lines": st.lists(lines, min_size=1, max_size=2),
    "points": st.lists(lon_lat, min_size=1, max_size=3),
    "polygons": st.lists(ring.map(lambda each: [each]), min_size=1, max_size=2),
    "oid": oids,
    "point": lon_lat,
    "polygon": ring.map(lambda each: [each]),
    "ref": oids.map(lambda key: Target(id=key)),
    "ref_dbref": codes.map(lambda code: CodedTarget(code=code)),
    "refs": st.lists(oids.map(lambda key: Target(id=key)), max_size=2),
    "sorted_words": st.lists(text, max_size=3),
    "string": text,
    "uid": st.uuids(),
    "uid_text": st.uuids(),
    "url": st.sampled_from(["https://example.org/a?b=c", "http://example.com"]),
}

#: Filled by the database itself, each with a test of its own below.
ELSEWHERE = {"sequence", "file", "image"}


def test_every_field_has_values() -> None:
    assert VALUES.keys() | ELSEWHERE == set(Everything._fields) - {"id"}


class Loop:
    """A running server and its client, usable from Hypothesis' plain functions."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.client = self.run(self._start)

    async def _start(self) -> Client:
        return await self.stack.enter_async_context(serving(MongoEngineRestHandler.routes_for(Everything)))

    def run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self.runner.run(function(*arguments, **options))

    def close(self) -> None:
        from bzz.storage.connection import close_clients  # noqa: PLC0415

        self.run(self.stack.aclose)
        self.run(close_clients)
        self.runner.close()


@pytest.fixture(scope="module")
def loop(mongo_url: str) -> Iterator[Loop]:
    name = f"bzz-{uuid.uuid4().hex}"
    connection = me.connect(name, host=mongo_url, uuidRepresentation="standard")
    for code in ("a", "b/c", "ü"):
        CodedTarget(code=code, name="n").save()
    loop = Loop()
    yield loop
    loop.close()
    connection.drop_database(name)
    me.disconnect_all()


def stored(key: Any) -> dict[str, Any]:
    found = Everything._get_collection().find_one({"_id": ObjectId(key)})
    return {name: value for name, value in found.items() if name not in {"_id", "sequence"}}


def same(one: Any, other: Any) -> bool:
    """Compare stored values, types included: 1, 1.0 and True are three different values."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[each], other[each]) for each in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.copysign(1, one) == math.copysign(1, other) and one == other
    if isinstance(one, int) and not isinstance(one, bool):
        return isinstance(other, int) and not isinstance(other, bool) and one == other
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", VALUES)
def test_there_and_back(loop: Loop, name: str) -> None:
    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    @given(VALUES[name])
    def check(value: Any) -> None:
        original = Everything(**{name: value}).save()
        found = loop.run(loop.client.get, f"/everything/{original.id}")
        assert found.status == 200, found
        body = found.json
        assert body.pop("id") == str(original.id)
        assert body.pop("sequence") == original.sequence
        created = loop.run(loop.client.post, "/everything", json=body)
        assert created.status == 201, (created, body)
        assert same(stored(created.json["id"]), stored(original.id))
        with capture(signals.post_update_instance) as captured:
            again = loop.run(loop.client.put, f"/everything/{original.id}", json=body)
        assert again.status == 200, again
        assert captured.events == []

    check()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_all_together(loop: Loop, values: dict[str, Any]) -> None:
    original = Everything(**values).save()
    body = loop.run(loop.client.get, f"/everything/{original.id}").json
    del body["id"], body["sequence"]
    created = loop.run(loop.client.post, "/everything", json=body)
    assert created.status == 201, created
    assert same(stored(created.json["id"]), stored(original.id))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(st.fixed_dictionaries({}, optional=VALUES), st.fixed_dictionaries({}, optional=VALUES))
def test_updates_are_true(loop: Loop, first: dict[str, Any], second: dict[str, Any]) -> None:
    """PUT turns one document into the other, and its diff names exactly the fields that differ in MongoDB."""
    one, other = Everything(**first).save(), Everything(**second).save()
    body = loop.run(loop.client.get, f"/everything/{other.id}").json
    del body["id"], body["sequence"]
    before = stored(one.id)
    with capture(signals.post_update_instance) as captured:
        assert loop.run(loop.client.put, f"/everything/{one.id}", json=body).status == 200
    after = stored(one.id)
    target = stored(other.id)
    assert same(
        {key: value for key, value in after.items() if value != []},
        {k: v for k, v in target.items() if v != []},
    )
    changed = {name for name in before.keys() | after.keys() if not same(before.get(name), after.get(name))}
    updated = captured.events[0].payload["updated_fields"] if captured.events else {}
    by_db_name = {Everything._fields[path.split(".")[0]].db_field for path in updated}
    assert by_db_name == changed
    for each in updated.values():
        assert each["from"] != each["to"]


def test_sequence(loop: Loop) -> None:
    numbers = [loop.run(loop.client.post, "/everything", json={}).json["sequence"] for _ in range(3)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]


def test_files(loop: Loop) -> None:
    document = Everything()
    document.file.put(b"hello", content_type="text/plain")
    image = Image.new("RGB", (4, 4))
    path_like = __import__("io").BytesIO()
    image.save(path_like, "PNG")
    path_like.seek(0)
    document.image.put(path_like)
    document.save()
    body = loop.run(loop.client.get, f"/everything/{document.id}").json
    assert body["file"] == str(document.file.grid_id)
    created = loop.run(loop.client.post, "/everything", json={"file": body["file"], "image": body["image"]})
    assert created.status == 201, created
    copy = Everything.objects.get(id=created.json["id"])
    assert copy.file.read() == b"hello"
    assert copy.image.grid_id == document.image.grid_id


def test_values_of_the_json_are_the_documented_ones(loop: Loop) -> None:
    document = Everything(
        moment=datetime(2024, 2, 29, 12, 30, 0, 123000, tzinfo=UTC),
        day=date(2024, 2, 29),
        decimal128=Decimal("1.50"),
        uid=uuid.UUID(int=1),
        binary=b"\x00\xff",
        colour=Colour.RED,
        point=[1, 2],
        any_ref=CodedTarget(code="a"),
        shape=Circle(name="c", radius=1.0),
        dynamic={"when": datetime(2024, 1, 1), "id": ObjectId(b"\0" * 12)},
    ).save()
    body = loop.run(loop.client.get, f"/everything/{document.id}").json
    assert body["moment"] == "2024-02-29T12:30:00.123Z"
    assert body["day"] == "2024-02-29"
    assert body["decimal128"] == "1.50"
    assert body["uid"] == "00000000-0000-0000-0000-000000000001"
    assert body["binary"] == "AP8="
    assert body["colour"] == "red"
    assert body["point"] == {"type": "Point", "coordinates": [1, 2]}
    assert body["any_ref"] == {"_cls": "CodedTarget", "_ref": "a"}
    assert body["shape"] == {"_cls": "Circle", "name": "c", "radius": 1.0}
    assert body["dynamic"] == {"when": {"$date": "2024-01-01T00:00:00.000Z"}, "id": {"$oid": "0" * 24}}
