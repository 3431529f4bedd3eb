"""The guard of a write matches if, and only if, the document is still what was read."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, decode, encode
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection

from bzz.storage import exactly

EXAMPLES = 150 * int(os.environ.get("BZZ_TORTURE", "1"))
OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=4)


@pytest.fixture(scope="module")
def collection(mongo_url: str) -> Iterator[Collection[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_url, uuidRepresentation="standard") as client:
        name = f"bzz-{uuid.uuid4().hex}"
        yield client[name]["things"]
        client.drop_database(name)


names = st.sampled_from(
    ["a", "b", "_id", "a.b", "$set", "$a", "$literal", "$eq", "0", "ü", "_cls", "", "$ref"]
)
numbers = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_subnormal=False),
    st.decimals(-(10**20), 10**20, places=2).map(Decimal128),
    st.sampled_from([Decimal128("NaN"), Decimal128("Infinity"), Decimal128("0"), Int64(1), 1, 1.0, 0, -0.0]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(max_size=3),
    st.sampled_from(["$$ROOT", "$a", "$set"]),
    st.binary(max_size=3),
    st.builds(Binary, st.binary(max_size=3), st.sampled_from([0, 5, 128])),
    st.uuids(),
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(
        lambda when: when.replace(microsecond=when.microsecond // 1000 * 1000)
    ),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.sampled_from([MinKey(), MaxKey(), Timestamp(1, 2), Regex("a", "i"), Code("x"), Code("x", {"y": 1})]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
documents = st.dictionaries(names.filter(lambda name: name != "_id"), values, max_size=5)


def comparable(value: Any) -> Any:
    """``value`` as MongoDB's comparison sees it: numbers without their type, everything else as it is."""
    if isinstance(value, dict):
        return ("object", [(name, comparable(each)) for name, each in value.items()])
    if isinstance(value, list):
        return ("array", [comparable(each) for each in value])
    if isinstance(value, Decimal128):
        return _number(value.to_decimal())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return (type(value).__name__, repr(value))


def _number(value: int | float | Decimal) -> Any:
    return ("number", "NaN") if math.isnan(value) else ("number", value)


def stored(collection: Collection[dict[str, Any]], document: dict[str, Any]) -> dict[str, Any]:
    collection.delete_many({})
    collection.insert_one({"_id": 1, **document})
    found = collection.find_one({"_id": 1})
    assert found is not None
    return found


quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@quick
@given(document=documents)
def test_it_matches_what_was_read(collection: Collection[dict[str, Any]], document: dict[str, Any]) -> None:
    assume(encodes(document))
    found = stored(collection, document)
    assert collection.count_documents(exactly(found)) == 1


@quick
@given(data=st.data(), document=documents)
def test_it_matches_nothing_else(
    collection: Collection[dict[str, Any]], data: st.DataObject, document: dict[str, Any]
) -> None:
    assume(encodes(document))
    found = stored(collection, document)
    other = data.draw(mutations(found))
    assume(encodes(other))
    same = comparable(decode(encode(other, codec_options=OPTIONS), OPTIONS)) == comparable(found)
    assert collection.count_documents(exactly(other)) == int(same)


def encodes(document: dict[str, Any]) -> bool:
    """Whether it survives the driver: an object with the keys of a DBRef becomes one."""
    again = decode(encode(document, codec_options=OPTIONS), OPTIONS)
    return repr(again) == repr(decode(encode(again, codec_options=OPTIONS), OPTIONS))


@st.composite
def mutations(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    """The document with one thing changed, somewhere: a value, a name, an order, a type, a missing field."""
    keys = [name for name in document if name != "_id"]
    change = draw(st.sampled_from(["add", "drop", "value", "order", "rename", "nest", "null"]))
    changed = dict(document)
    if change == "add" or not keys:
        changed[draw(names.filter(lambda name: name != "_id"))] = draw(values)
        return changed
    name = draw(st.sampled_from(keys))
    if change == "drop":
        del changed[name]
    elif change == "value":
        changed[name] = draw(st.one_of(values, near(document[name])))
    elif change == "null":
        changed[name] = None
    elif change == "order":
        changed = {"_id": document["_id"], **dict(reversed([(key, document[key]) for key in keys]))}
    elif change == "rename":
        changed = {("z" if key == name else key): value for key, value in changed.items()}
    elif isinstance(document[name], dict):
        changed[name] = {**document[name], "more": None}
    elif isinstance(document[name], list):
        changed[name] = [*document[name], None]
    else:
        changed[name] = [document[name]]
    return changed


def near(value: Any) -> st.SearchStrategy[Any]:
    """Values that are easily taken for this one."""
    close: list[Any] = [[value], {"a": value}, str(value), None]
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        close += [float(value), Decimal128(str(value))]
        close += [Int64(value)] if abs(value) < 2**63 and value == int(value) else []
    return st.sampled_from(close)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, Int64(1)), (1, Decimal128("1.00")), (0.0, -0.0), (Decimal128("1.0"), Decimal128("1"))],
)
def test_numbers_of_the_same_value_are_not_told_apart(
    collection: Collection[dict[str, Any]], one: Any, other: Any
) -> None:
    # The documented limit: it disappears the day MongoDB compares types too.
    found = stored(collection, {"n": one})
    assert collection.count_documents(exactly({**found, "n": other})) == 1


def test_the_key_may_stand_anywhere(collection: Collection[dict[str, Any]]) -> None:
    stored(collection, {"a": 1})
    assert collection.count_documents(exactly({"a": 1, "_id": 1})) == 1


def test_nested_order_counts(collection: Collection[dict[str, Any]]) -> None:
    stored(collection, {"a": {"x": 1, "y": 2}})
    assert collection.count_documents(exactly({"_id": 1, "a": {"x": 1, "y": 2}})) == 1
    assert collection.count_documents(exactly({"_id": 1, "a": {"y": 2, "x": 1}})) == 0


def test_a_document_of_15_megabytes_can_be_guarded(collection: Collection[dict[str, Any]]) -> None:
    found = stored(collection, {"a": "x" * (15 * 2**20)})
    assert collection.find_one_and_update(exactly(found), {"$set": {"b": 1}}, {"_id": 1}) == {"_id": 1}
