"""Rows: what Python says of a document is what MongoDB finds, and no value becomes an operator."""

from __future__ import annotations

import datetime as dt
import enum
import os
import uuid
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
from bson import DBRef, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bzz.errors import Veto
from bzz.model import Schema, from_stored, to_stored
from bzz.resource import Operation, Options
from bzz.resource.rows import Rows

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(me.EmbeddedDocument):
    n = me.IntField(db_field="number")
    t = me.StringField()


class Row(me.Document):
    name = me.StringField(db_field="called")
    count = me.IntField()
    ratio = me.FloatField()
    flag = me.BooleanField()
    price = me.Decimal128Field()
    when = me.DateTimeField()
    code = me.UUIDField()
    color = me.EnumField(Color)
    tags = me.ListField(me.StringField())
    inner = me.EmbeddedDocumentField(Inner)
    inners = me.EmbeddedDocumentListField(Inner)
    peer = me.ReferenceField("self")
    linked = me.ReferenceField("self", dbref=True)
    lazy = me.LazyReferenceField("self")
    loose = me.DynamicField()
    bag = me.DictField()


KEYS = [ObjectId(f"{number:024x}") for number in range(3)]
CODES = [uuid.UUID(int=number) for number in range(3)]
TIMES = [dt.datetime(2020, 1, day) for day in (1, 2, 3)]
inner = st.builds(Inner, n=st.none() | st.integers(0, 2), t=st.sampled_from([None, "a", "b"]))
VALUES: dict[str, Any] = {
    "name": st.sampled_from(["a", "b", ""]),
    "count": st.integers(0, 2),
    "ratio": st.sampled_from([0.0, 1.0, 1.5]),
    "flag": st.booleans(),
    "price": st.sampled_from([Decimal("1"), Decimal("1.0"), Decimal("2.5")]),
    "when": st.sampled_from(TIMES),
    "code": st.sampled_from(CODES),
    "color": st.sampled_from(Color),
    "tags": st.lists(st.sampled_from("ab"), max_size=2),
    "inner": inner,
    "inners": st.lists(inner, max_size=2),
    "peer": st.sampled_from(KEYS).map(lambda key: DBRef("row", key)),
    "linked": st.sampled_from(KEYS).map(lambda key: DBRef("row", key)),
    "lazy": st.sampled_from(KEYS).map(lambda key: DBRef("row", key)),
    "loose": st.sampled_from(["a", 1, True]),
}
#: For each name what a developer may write for one value of it, with what a client may have sent.
ASKED: dict[str, Any] = {
    "name": VALUES["name"],
    "count": VALUES["count"] | st.sampled_from(["1", "2"]),
    "ratio": VALUES["ratio"] | st.sampled_from(["1", "1.5"]),
    "flag": VALUES["flag"] | st.sampled_from(["true", "false"]),
    "price": VALUES["price"] | st.just("2.5"),
    "when": VALUES["when"] | st.just("2020-01-02T00:00:00"),
    "code": VALUES["code"] | st.sampled_from(CODES).map(str),
    "color": VALUES["color"] | st.just("blue"),
    "tags": st.sampled_from("ab"),
    "inner.n": st.integers(0, 2),
    "inner.t": st.sampled_from("ab"),
    "inners.t": st.sampled_from("ab"),
    "peer": st.sampled_from(KEYS)
    | st.sampled_from(KEYS).map(str)
    | st.sampled_from(KEYS).map(lambda key: Row(id=key)),
    "linked": st.sampled_from(KEYS).map(str) | VALUES["linked"],
    "lazy": st.sampled_from(KEYS) | st.sampled_from(KEYS).map(str),
    "id": st.sampled_from(KEYS) | st.sampled_from(KEYS).map(str),
}
several = {name: each | st.lists(each, max_size=2) for name, each in ASKED.items()}
nothing = {name: st.none() for name in ("name", "count", "inner.n", "peer", "when", "code")}


@pytest.fixture
def connected(database: str) -> None:
    """Have a database of one's own."""


@settings(max_examples=60 * TORTURE, deadline=None, suppress_health_check=[*HealthCheck])
@given(
    documents=st.lists(st.fixed_dictionaries({}, optional=VALUES), min_size=1, max_size=5),
    rows=st.fixed_dictionaries({}, optional=several) | st.fixed_dictionaries({}, optional=nothing),
    is_function=st.booleans(),
)
async def test_what_python_admits_is_what_mongodb_finds(
    connected: None, documents: list[Any], rows: Any, is_function: bool
) -> None:
    options = Options(rows=(lambda operation: rows) if is_function else rows)
    scope = await Rows(Schema.of(Row), options).of(Operation("get_list"))
    collection = Row._get_collection()
    collection.delete_many({})
    admitted = set()
    for key, values in zip([*KEYS, ObjectId(), ObjectId()], documents, strict=False):
        stored = to_stored(Row(id=key, **values))
        collection.insert_one(stored)
        try:
            scope.admit(stored)
        except Veto:
            continue
        admitted.add(key)
    assert {each["_id"] for each in collection.find(dict(scope.filter))} == admitted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["$ne", "$where", "a", "\0", "1"]),
    lambda below: (
        st.dictionaries(st.sampled_from(["$ne", "$gt", "$regex", "a"]), below, max_size=2)
        | st.lists(below, max_size=2)
    ),
    max_leaves=6,
)
anything = (
    json_values | st.binary(max_size=4) | st.floats() | st.sampled_from([DBRef("x", 1), object(), KEYS[0]])
)


@settings(max_examples=200 * TORTURE, deadline=None)
@given(name=st.sampled_from([*ASKED, "loose", "bag", "inner", "inners"]), value=anything)
async def test_no_value_becomes_an_operator(name: str, value: Any) -> None:
    rows = Rows(Schema.of(Row), Options(rows=lambda operation: {name: value}))
    scope = await rows.of(Operation("get_list"))
    [(path, condition)] = scope.filter.items()
    assert not path.startswith("$")
    [(operator, operand)] = condition.items()
    assert operator in {"$eq", "$in"}
    for each in operand if operator == "$in" else [operand]:
        assert not isinstance(each, dict)


async def test_a_new_document_gets_typed_values() -> None:
    rows = Rows(
        Schema.of(Row), Options(rows={"when": "2020-01-02T00:00:00", "peer": str(KEYS[1]), "tags": "a"})
    )
    scope = await rows.of(Operation("create_instance"))
    made = scope.completed({("name",): "x"})
    assert made[("when",)] == TIMES[1]
    assert made[("name",)] == "x"
    assert ("tags",) not in made, "one of several values is nobody's to choose"
    stored = to_stored(from_stored(Schema.of(Row), {"_id": KEYS[0], "when": TIMES[1], "peer": KEYS[1]}))
    with pytest.raises(Veto, match="tags"):
        scope.admit(stored)
