"""Entity tags: equal for what bzz takes as the same document, and never for two that differ."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

import bson
import pymongo
import pytest
from bson import Binary, DBRef, Decimal128, Int64, ObjectId, Regex
from bson.codec_options import CodecOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bzz.resource.etag import etag_of, is_if_match, matches

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5)
)
names = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=4)
values = st.recursive(
    scalars.filter(
        lambda each: not isinstance(each, str) or not any(0xD800 <= ord(c) < 0xE000 for c in each)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
# Without a key of their own: it is moved to the front, wherever it stands.
documents = st.dictionaries(names.filter(lambda name: name != "_id"), values, max_size=4)


def reversed_everywhere(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_everywhere(value[name]) for name in reversed(list(value))}
    return [reversed_everywhere(each) for each in value] if isinstance(value, list) else value


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_the_order_of_fields_counts_but_for_the_key(document: dict[str, Any]) -> None:
    assert etag_of({"_id": 1, **document}) == etag_of({**document, "_id": 1})
    other = reversed_everywhere(document)
    assert (etag_of(document) == etag_of(other)) == (bson.encode(document) == bson.encode(other))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, documents)
def test_another_document_has_another_tag(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (etag_of(one) == etag_of(other)) == (bson.encode(one) == bson.encode(other))


EVERYTHING = {
    "_id": ObjectId("6b014e223bc5028a628fbecf"),
    "z": [1, 2.5, True, None, "é"],
    "a": {"y": Int64(3), "b": Decimal128(Decimal("1.20"))},
    "when": datetime.datetime(2026, 11, 21, 7, 30, 1, 123000),
    "uuid": uuid.UUID(int=7),
    "bytes": Binary(b"\0x", 5),
    "ref": DBRef("user", 3),
    "re": Regex("a.*", "i"),
}


def test_what_comes_back_from_mongodb_has_the_tag_of_what_was_sent(mongo_url: str, database: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongo_url, uuidRepresentation="standard") as client:
        collection = client[database].thing
        collection.insert_one(dict(EVERYTHING))
        found = collection.find_one()
        aware = collection.with_options(
            CodecOptions(tz_aware=True, uuid_representation=bson.binary.UuidRepresentation.STANDARD)
        ).find_one()
    assert found is not None
    assert aware is not None
    assert etag_of(EVERYTHING) == etag_of(found) == etag_of(aware)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("*", True),
        ('"a"', True),
        ('  "a"\t', True),
        ('""', True),
        ('W/"a", "b" ,"c,d"', True),
        ('"é"', True),
        ("", False),
        ("a", False),
        ('"a', False),
        ('"a" "b"', False),
        ('"a",', True),
        ('*, "a"', False),
        ('w/"a"', False),
        ('"a b"', False),
        ('"a\n"', False),
    ],
)
def test_what_if_match_looks_like(text: str, is_one: bool) -> None:
    assert is_if_match(text) is is_one


def test_what_matches() -> None:
    tag = etag_of(EVERYTHING)
    assert tag == f'"{tag[1:-1]}"'
    assert len(tag) == 34
    assert matches(" * ", EVERYTHING)
    assert matches(tag, EVERYTHING)
    assert matches(f'"a,b", {tag}', EVERYTHING)
    assert not matches(f"W/{tag}", EVERYTHING)
    assert not matches('"a"', EVERYTHING)
