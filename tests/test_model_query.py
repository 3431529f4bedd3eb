"""Queries: only what the model allows becomes a filter."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pymongo
import pytest
from bson import DBRef, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

from bzz import model
from bzz.errors import QueryError
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


def filter_of(schema: Schema = PERSON, **arguments: Any) -> dict[str, Any]:
    lists = {name: values if isinstance(values, list) else [values] for name, values in arguments.items()}
    return model.compile_query(schema, lists).filter


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, {}),
        ({"name": "a"}, {"n": {"$eq": "a"}}),
        ({"name": '{"$ne":null}'}, {"n": {"$eq": '{"$ne":null}'}}),
        ({"name": ""}, {"n": {"$eq": ""}}),
        ({"age": ""}, {"age": {"$eq": None}}),
        ({"age__gte": "1", "age__lt": "5"}, {"age": {"$gte": 1, "$lt": 5}}),
        ({"age__in": "1,2"}, {"age": {"$in": [1, 2]}}),
        ({"age__nin": ["1", "2,3"]}, {"age": {"$nin": [1, 2, 3]}}),
        ({"age__in": ""}, {"age": {"$in": [None]}}),
        ({"age__ne": "1", "age": "2"}, {"age": {"$ne": 1, "$eq": 2}}),
        ({"age": "1", "age__eq": "2"}, {"$and": [{"age": {"$eq": 1}}, {"age": {"$eq": 2}}]}),
        ({"age__exists": "true"}, {"age": {"$exists": True, "$ne": None}}),
        ({"age__exists": "0"}, {"age": {"$eq": None}}),
        ({"extra__exists": "1"}, {"extra": {"$exists": True, "$ne": None}}),
        ({"address.text": "x"}, {"addr.t": {"$eq": "x"}}),
        ({"branch.below.leaf.text__startswith": "a.*"}, {"branch.below.l.t": {"$regex": r"^a\.\*"}}),
        ({"leaves.text__ne": "x"}, {"leaves.t": {"$ne": "x"}}),
        ({"tags": "a"}, {"tags": {"$eq": "a"}}),
        ({"tags__startswith": "a"}, {"tags": {"$regex": "^a"}}),
        ({"boss": HEX}, {"boss": {"$eq": ObjectId(HEX)}}),
        ({"friends__in": f"{HEX},{HEX}"}, {"friends": {"$in": [ObjectId(HEX), ObjectId(HEX)]}}),
        ({"id": HEX}, {"_id": {"$eq": ObjectId(HEX)}}),
        ({"created__lte": "2020-01-01"}, {"created": {"$lte": dt.datetime(2020, 1, 1)}}),
    ],
)
def test_arguments_become_filters(arguments: dict[str, Any], found: dict[str, Any]) -> None:
    assert filter_of(**arguments) == found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"cached": "a"}, {"cached._id": {"$eq": "a"}}),
        ({"cached": ""}, {"cached._id": {"$eq": None}}),
        ({"reference_dbref": "a"}, {"reference_dbref": {"$eq": DBRef("mt_coded", "a")}}),
        (
            {"any_reference": "CodedTarget:a"},
            {"any_reference": {"$eq": {"_cls": "CodedTarget", "_ref": DBRef("mt_coded", "a")}}},
        ),
        ({"colour__in": "red,blue"}, {"colour": {"$in": ["red", "blue"]}}),
        (
            {"complex_moment__gt": "2020-01-01T00:00:00.000001Z"},
            {"complex_moment": {"$gt": "2020,01,01,00,00,00,000001"}},
        ),
        ({"span": "1-2"}, {"span": {"$eq": "1-2"}}),
        ({"boolean": "true"}, {"f_bool": {"$eq": True}}),
        ({"uid_text": "0" * 32}, {"uid_text": {"$eq": str(uuid.UUID(int=0))}}),
        ({"invoice": "INV-1"}, {"invoice": {"$eq": "INV-1"}}),
    ],
)
def test_every_kind_of_field_compares_in_its_stored_form(
    arguments: dict[str, Any], found: dict[str, Any]
) -> None:
    assert filter_of(EVERYTHING, **arguments) == found


@pytest.mark.parametrize(
    "arguments",
    [
        {"gone": "1"},
        {"name__where": "1"},
        {"name__": "1"},
        {"__eq": "1"},
        {"$where": "1"},
        {"name.$ne": "1"},
        {"n": "database name"},
        {"addr.t": "x"},
        {"_id": HEX},
        {"_cls": "Person"},
        {"": "x"},
        {"address": "x"},
        {"extra": "x"},
        {"extra.a": "x"},
        {"leaves": "x"},
        {"leaves.0.text": "x"},
        {"age": "x"},
        {"age": "1" * 40},
        {"age": ["1", "2"]},
        {"age__gt": ["1", "2"]},
        {"age__gt": ""},
        {"age__startswith": "1"},
        {"age__exists": "maybe"},
        {"age__in": ",".join(["1"] * 101)},
        {"friends__lt": HEX},
        {"boss": "x"},
        {"name": "x" * 1025},
        {"name": "ü" * 600},
        {"name": "\ud800"},
        {"name\ud800": "x"},
        {"name__startswith": "a\0"},
        {"name__startswith": "\ud800"},
        {"page": "x"},
        {"page": ""},
        {"page": "1.5"},
        {"page": "٣"},
        {"page": ["1", "2"]},
        {"per_page": "many"},
        {"page": "9" * 2000},
        {"a" * 5000: "x"},
        {".".join(["branch"] + ["below"] * 50): "x"},
        {f"field{number}": "x" for number in range(1000)},
        {"name__in": [str(number) for number in range(500)]},
        {"name": [str(number) for number in range(500)]},
    ],
)
def test_everything_else_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(QueryError) as caught:
        filter_of(**arguments)
    error = caught.value
    assert len(error.parameter) <= 60
    assert len(error.detail) < 250
    (error.parameter + error.detail).encode()


@pytest.mark.parametrize("name", ["untyped", "nested", "dynamic", "mapping", "leaf", "point", "any_shape"])
def test_of_some_fields_only_existence_can_be_asked(name: str) -> None:
    for operator in ("", "__ne", "__in", "__gt", "__startswith"):
        with pytest.raises(QueryError, match="exists"):
            filter_of(EVERYTHING, **{f"{name}{operator}": "x"})
    assert filter_of(EVERYTHING, **{f"{name}__exists": "false"})


def test_more_than_32_conditions_are_too_many() -> None:
    names = [name for name in EVERYTHING.fields if name != "id"]
    arguments = {f"{name}__exists": ["true"] for name in names}
    assert len(model.compile_query(EVERYTHING, dict(list(arguments.items())[:32])).filter) == 32
    with pytest.raises(QueryError, match="32"):
        model.compile_query(EVERYTHING, dict(list(arguments.items())[:33]))


def test_a_resource_can_narrow_what_is_filterable() -> None:
    compiled = model.compile_query(
        PERSON, {"address.text": ["x"]}, rules=model.QueryRules(PERSON, filters=["address.text"])
    )
    assert compiled.filter == {"addr.t": {"$eq": "x"}}
    with pytest.raises(QueryError):
        model.compile_query(PERSON, {"name": ["x"]}, rules=model.QueryRules(PERSON, filters=["address.text"]))
    with pytest.raises(QueryError):
        model.compile_query(Schema.of(docs.Free), {"anything": ["x"]})


def test_a_user_field_that_cannot_store_a_value_refuses_it() -> None:
    class OddField(me.StringField):
        def to_mongo(self, value: Any) -> Any:
            return {"a": 1}[value]

    class NotStorable(me.StringField):
        def to_mongo(self, value: Any) -> Any:
            return {1, 2}

    class Odd(me.Document):
        odd = OddField()
        strange = NotStorable()

    for name in ("odd", "strange"):
        with pytest.raises(QueryError):
            model.compile_query(Schema.of(Odd), {name: ["x"]})


@pytest.mark.parametrize(
    ("page", "per_page", "skip", "limit"),
    [
        (None, None, 0, 20),
        ("1", "5", 0, 5),
        ("3", "5", 10, 5),
        ("0", "0", 0, 1),
        ("-1", "-7", 0, 1),
        ("+2", "1000", 100, 100),
    ],
)
def test_pages_are_clamped(page: str | None, per_page: str | None, skip: int, limit: int) -> None:
    arguments = {name: [text] for name, text in (("page", page), ("per_page", per_page)) if text is not None}
    found = model.compile_query(PERSON, arguments)
    assert (found.skip, found.limit, found.per_page) == (skip, limit, limit)
    assert found.sort == [("_id", 1)]


def test_a_page_beyond_64_bits_is_the_last_one() -> None:
    found = model.compile_query(PERSON, {"page": [str(10**30)], "per_page": ["7"]})
    assert 2**62 < found.skip < 2**63
    assert found.skip == (found.page - 1) * 7
    assert model.compile_query(PERSON, {"per_page": []}, per_page=500, max_per_page=50).limit == 50


def test_subclasses_keep_to_themselves() -> None:
    assert filter_of(Schema.of(docs.Puppy), name="x") == {
        "n": {"$eq": "x"},
        "_cls": {"$eq": "Animal.Dog.Puppy"},
    }
    assert filter_of(Schema.of(docs.Dog))["_cls"]["$in"][:2] == ["Animal.Dog", "Animal.Dog.Puppy"]
    assert filter_of(Schema.of(docs.Animal)) == {}


OPERATORS = {"$eq", "$ne", "$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$exists", "$regex"}
DATABASE_NAMES = {spec.db_name for schema in EVERYTHING.reachable() for spec in schema.fields.values()} | {
    "_id"
}
hostile = st.sampled_from(
    [
        "$ne",
        "$where",
        '{"$gt":""}',
        "__proto__",
        "a.b",
        "[$ne]",
        "1,2",
        HEX,
        "true",
        "2020-01-01",
        "",
        "null",
        "-1",
        "\0",
        "Target:" + HEX,
    ]
) | st.text(max_size=8)
parameters = st.builds(
    lambda name, operator, below: name + below + operator,
    st.sampled_from([*EVERYTHING.fields, "page", "per_page"]) | hostile,
    st.sampled_from(["", "__ne", "__in", "__gt", "__exists", "__startswith", "__regex", "[$ne]", "__$gt"]),
    st.sampled_from(["", "", ".text", ".leaf.text", ".$ne", ".a"]),
)


@settings(max_examples=500 * EXAMPLES, deadline=None)
@given(st.dictionaries(parameters, st.lists(hostile, max_size=2), max_size=3))
def test_no_text_of_a_client_becomes_a_key_or_an_operator(arguments: dict[str, list[str]]) -> None:
    try:
        found = model.compile_query(EVERYTHING, arguments)
    except QueryError as error:
        (error.parameter + error.detail).encode()
        return
    assert 0 <= found.skip < 2**63
    for condition in found.filter.get("$and") or [found.filter]:
        for path, predicate in condition.items():
            assert set(path.split(".")) <= DATABASE_NAMES
            assert predicate.keys() <= OPERATORS
            for operator, value in predicate.items():
                assert isinstance(value, list) == (operator in {"$in", "$nin"})
                for each in value if isinstance(value, list) else [value]:
                    assert not isinstance(each, dict) or set(each) == {"_cls", "_ref"}


def test_filters_find_what_they_say(mongo_url: str) -> None:
    with pymongo.MongoClient[Any](mongo_url) as client:
        name = f"bzz-{uuid.uuid4().hex}"
        people = client[name]["people"]
        try:
            people.insert_many(
                [
                    {"_id": 1, "n": "a.b", "age": 3, "addr": {"t": "Rio"}, "tags": ["x", "y"]},
                    {"_id": 2, "n": "axb", "age": None, "leaves": [{"t": "l"}], "boss": ObjectId(HEX)},
                    {"_id": 3, "n": "Ä $", "extra": {}},
                ]
            )
            for arguments, keys in [
                ({"name__startswith": "a."}, [1]),
                ({"name__startswith": "Ä $"}, [3]),
                ({"age": ""}, [2, 3]),
                ({"age__exists": "true"}, [1]),
                ({"age__exists": "false"}, [2, 3]),
                ({"extra__exists": "true"}, [3]),
                ({"age__ne": "3"}, [2, 3]),
                ({"age__gt": "2"}, [1]),
                ({"tags": "y"}, [1]),
                ({"tags__nin": "x"}, [2, 3]),
                ({"leaves.text": "l"}, [2]),
                ({"address.text__in": "Rio,SP"}, [1]),
                ({"boss": HEX}, [2]),
            ]:
                found = people.find(filter_of(**arguments)).sort("_id", 1)
                assert [each["_id"] for each in found] == keys, arguments
        finally:
            client.drop_database(name)
