"""Filters find the same rows as a naive evaluator that knows neither bzz nor MongoDB."""

from __future__ import annotations

import datetime as dt
import enum
import os
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import mongoengine as me
import pymongo
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bzz import model
from bzz.model import QueryRules, Schema
from tests import model_documents as docs

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Kind(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Leaf(me.EmbeddedDocument):
    text = me.StringField(db_field="t")
    number = me.IntField(db_field="n")
    words = me.ListField(me.StringField())


class Row(me.Document):
    number = me.IntField(primary_key=True)
    text = me.StringField(db_field="tx")
    integer = me.IntField()
    long = me.LongField()
    double = me.FloatField(db_field="dbl")
    decimal = me.DecimalField(precision=2)
    decimal_text = me.DecimalField(precision=2, force_string=True)
    exact = me.Decimal128Field()
    truth = me.BooleanField()
    moment = me.DateTimeField()
    day = me.DateField()
    precise = me.ComplexDateTimeField()
    uid = me.UUIDField()
    uid_text = me.UUIDField(binary=False)
    oid = me.ObjectIdField()
    kind = me.EnumField(Kind)
    raw = me.BinaryField()
    target = me.ReferenceField(docs.CodedTarget)
    dbref = me.ReferenceField(docs.CodedTarget, dbref=True)
    lazy = me.LazyReferenceField(docs.CodedTarget)
    words = me.ListField(me.StringField(), db_field="w")
    integers = me.ListField(me.IntField())
    moments = me.ListField(me.DateTimeField())
    targets = me.ListField(me.ReferenceField(docs.CodedTarget))
    leaf = me.EmbeddedDocumentField(Leaf, db_field="lf")
    leaves = me.EmbeddedDocumentListField(Leaf, db_field="lvs")


class Type(NamedTuple):
    """The JSON of a value, what it is to be compared as, and which operators it has."""

    values: st.SearchStrategy[Any]
    read: Callable[[str], Any]
    ordered: bool = True
    textual: bool = False


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


words = st.text("abB.$*ä, ", max_size=3)
TEXT = Type(words, str, textual=True)
small = st.integers(-3, 3)
INTEGER = Type(small | docs.int64, int)
DOUBLE = Type(st.sampled_from([-1.5, 0.0, -0.0, 1.0, 2.5]) | docs.floats, float)
DECIMAL = Type(st.sampled_from(["-1.5", "0", "1.00", "10", "9"]) | docs.cents.map(str), Decimal)
DAYS = st.dates(dt.date(2020, 1, 1), dt.date(2020, 1, 4)) | st.dates(dt.date(1000, 1, 1))
MOMENT = Type(
    st.sampled_from(["2020-01-01T00:00:00.000Z", "2020-01-01T02:00:00.001+02:00"]) | docs.rfc3339, moment
)
PRECISE = Type(
    st.datetimes(dt.datetime(1000, 1, 1)).map(lambda each: each.isoformat(timespec="microseconds") + "Z"),
    moment,
)
UID = Type(st.sampled_from([str(uuid.UUID(int=number)) for number in (1, 2, 2**127)]), uuid.UUID)
CODE = Type(st.sampled_from(["a", "b", "c"]), str, ordered=False)
TYPES: dict[str, Type] = {
    "number": Type(small, int),
    "text": TEXT,
    "integer": INTEGER,
    "long": INTEGER,
    "double": DOUBLE,
    "decimal": DECIMAL,
    "decimal_text": DECIMAL._replace(ordered=False),
    "exact": Type(docs.decimals.map(str) | st.sampled_from(["1", "1.0", "1.00"]), Decimal),
    "truth": Type(st.booleans(), lambda text: text.lower() in ("true", "1"), ordered=False),
    "moment": MOMENT,
    "day": Type(DAYS.map(str), dt.date.fromisoformat),
    "precise": PRECISE,
    "uid": UID,
    "uid_text": UID,
    "oid": Type(st.sampled_from(["0" * 24, "a" * 24, "f" * 24]), str),
    "kind": Type(st.sampled_from(["small", "large"]), str, ordered=False),
    "raw": Type(st.sampled_from(["", "aGk=", "AAECAw=="]), str, ordered=False),
    "target": CODE,
    "dbref": CODE,
    "lazy": CODE,
    "words": TEXT,
    "integers": INTEGER,
    "moments": MOMENT,
    "targets": CODE,
    "leaf.text": TEXT,
    "leaf.number": INTEGER,
    "leaf.words": TEXT,
    "leaves.text": TEXT,
    "leaves.number": INTEGER,
    "leaves.words": TEXT,
}
LISTS = {"words", "integers", "moments", "targets", "leaf.words", "leaves.words"}
ROW = Schema.of(Row)
RULES = QueryRules(
    ROW,
    filters=[
        "*",
        *(
            f"{name}__{each}"
            for name, kind in TYPES.items()
            if kind.textual
            for each in ("contains", "icontains")
        ),
    ],
)

some_leaf = st.fixed_dictionaries(
    {}, optional={"text": words, "number": small, "words": st.lists(words, max_size=2)}
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        name: st.lists(kind.values, max_size=2) if name in LISTS else kind.values
        for name, kind in TYPES.items()
        if "." not in name and name != "number"
    }
    | {"leaf": some_leaf, "leaves": st.lists(some_leaf, max_size=3)},
)


def as_text(value: Any) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else repr(value)
        if isinstance(value, float)
        else str(value)
    )


@st.composite
def predicates(draw: Any) -> tuple[str, str, list[str]]:
    name = draw(st.sampled_from(sorted(TYPES)))
    kind = TYPES[name]
    operators = ["eq", "ne", "in", "nin", "exists"]
    operators += ["lt", "lte", "gt", "gte"] if kind.ordered else []
    operators += ["startswith", "contains", "icontains"] if kind.textual else []
    operator = draw(st.sampled_from(operators))
    if operator == "exists":
        return name, operator, [draw(st.sampled_from(["true", "false"]))]
    values = kind.values.map(as_text)
    if operator in ("eq", "ne", "in", "nin"):
        values = values | st.just("")
    if operator in ("in", "nin"):
        texts = draw(st.lists(values, min_size=1, max_size=3))
        return name, operator, draw(st.sampled_from([texts, [",".join(texts)]]))
    return name, operator, [draw(values)]


# The evaluator ----------------------------------------------------------------------------------------------


def found_in(body: dict[str, Any], name: str) -> list[Any]:
    """All that a document has under a dotted name, read as what it is; None where there is nothing."""
    at: list[Any] = [body]
    for part in name.split("."):
        at = [each.get(part) if isinstance(each, dict) else None for each in at]
        at = [item for each in at for item in (each if isinstance(each, list) else [each])]
    return [None if each is None else TYPES[name].read(as_text(each)) for each in at]


def holds(body: dict[str, Any], name: str, operator: str, texts: list[str]) -> bool:
    if operator == "exists":
        return has_any(body, name.split(".")) == (texts == ["true"])
    values, kind = found_in(body, name), TYPES[name]
    if operator in ("ne", "nin"):
        return not holds(body, name, {"ne": "eq", "nin": "in"}[operator], texts)
    if operator == "in":
        texts = [part for text in texts for part in text.split(",")]
    wanted = [None if text == "" and not kind.textual else kind.read(text) for text in texts]
    if operator in ("eq", "in"):
        return any(value == each for value in values for each in wanted)
    (other,) = wanted
    return any(value is not None and COMPARE[operator](value, other) for value in values)


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "lt": lambda value, other: value < other,
    "lte": lambda value, other: value <= other,
    "gt": lambda value, other: value > other,
    "gte": lambda value, other: value >= other,
    "startswith": lambda value, other: value.startswith(other),
    "contains": lambda value, other: other in value,
    "icontains": lambda value, other: other.lower() in value.lower(),
}


def has_any(value: Any, parts: list[str]) -> bool:
    if not parts:
        return value is not None
    if isinstance(value, list):
        return any(has_any(each, parts) for each in value)
    return isinstance(value, dict) and has_any(value.get(parts[0]), parts[1:])


# Against MongoDB --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(mongo_url: str) -> Iterator[Any]:
    docs.connect_nowhere()
    with pymongo.MongoClient[Any](mongo_url, uuidRepresentation="standard") as client:
        name = f"bzz-{uuid.uuid4().hex}"
        yield client[name]["rows"]
        client.drop_database(name)
    me.disconnect_all()


@settings(max_examples=150 * TORTURE, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(bodies, min_size=1, max_size=7),
    st.lists(st.lists(predicates(), min_size=1, max_size=3), min_size=1, max_size=10),
)
def test_filters_find_the_rows_that_a_naive_evaluator_finds(
    rows: Any, bodies: list[dict[str, Any]], queries: list[list[tuple[str, str, list[str]]]]
) -> None:
    bodies = [{"number": number - 3, **body} for number, body in enumerate(bodies)]
    rows.delete_many({})
    rows.insert_many(
        [
            model.to_stored(model.new_document(ROW, model.decode_object(ROW, body, creating=True)))
            for body in bodies
        ]
    )
    # A list that a body does not mention is an empty list in a new document.
    complete = [
        {"words": [], "integers": [], "moments": [], "targets": [], "leaves": [], **body} for body in bodies
    ]
    for each in complete:
        for leaf in [*each["leaves"], *([each["leaf"]] if "leaf" in each else [])]:
            leaf.setdefault("words", [])
    for query in queries:
        conditions = {f"{name}__{operator}": (name, operator, texts) for name, operator, texts in query}
        arguments = {parameter: texts for parameter, (_, _, texts) in conditions.items()}
        found = rows.find(model.compile_query(ROW, arguments, rules=RULES).filter)
        assert {each["_id"] for each in found} == {
            body["number"] for body in complete if all(holds(body, *each) for each in conditions.values())
        }, arguments
