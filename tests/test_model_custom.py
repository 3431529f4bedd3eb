"""Field classes that users derive from the containers and references of mongoengine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest
from bson import DBRef, ObjectId
from mongoengine.base import GeoJsonBaseField

from bzz import model
from bzz.errors import ValidationError
from bzz.model import Schema
from tests import model_documents as docs

HEX = "5f" * 12


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


class UniqueList(me.ListField):
    """Drops repetitions when read and sorts when written."""

    def to_python(self, value: Any) -> Any:
        return list(dict.fromkeys(super().to_python(value)))

    def to_mongo(self, value: Any, use_db_field: bool = True, fields: Any = None) -> Any:
        return sorted(super().to_mongo(value, use_db_field, fields), key=str)


class ReversedMap(me.MapField):
    def to_mongo(self, value: Any, use_db_field: bool = True, fields: Any = None) -> Any:
        return {key[::-1]: item for key, item in super().to_mongo(value, use_db_field, fields).items()}

    def to_python(self, value: Any) -> Any:
        return {key[::-1]: item for key, item in super().to_python(value).items()}


class UpperLeaf(me.EmbeddedDocumentField):
    def to_mongo(self, value: Any, use_db_field: bool = True, fields: Any = None) -> Any:
        return {**super().to_mongo(value, use_db_field, fields), "t": value.text.upper()}


class StrictReference(me.ReferenceField):
    def to_python(self, value: Any) -> Any:
        if str(getattr(value, "id", value)) == "0" * 24:
            raise ValueError("nobody")
        return super().to_python(value)


class FreshCached(me.CachedReferenceField):
    def to_python(self, value: Any) -> Any:
        return value


class CurveField(GeoJsonBaseField):
    _type = "Curve"

    def _validate_curve(self, value: Any) -> str | None:
        return None if len(value) == 3 else "a curve has three parts"


class YearField(me.DateField):
    """A day that is only stored differently."""

    def to_mongo(self, value: Any) -> Any:
        return None if value is None else value.year


class Loud(me.EmbeddedDocument):
    number = me.SequenceField()

    def clean(self) -> None:
        """Anything."""


class Custom(me.Document):
    words = UniqueList(me.StringField())
    days = UniqueList(me.DateTimeField())
    friends = UniqueList(me.ReferenceField(docs.Target))
    mapping = ReversedMap(me.IntField())
    leaf = UpperLeaf(docs.Leaf)
    boss = StrictReference(docs.Target)
    cached = FreshCached(docs.CodedTarget, fields=["name"])
    curve = CurveField()
    year = YearField()
    loud = me.EmbeddedDocumentField(Loud)
    louds = UniqueList(me.EmbeddedDocumentField(Loud))
    meta = {"collection": "mt_custom"}


def test_values_go_through_the_users_methods_both_ways() -> None:
    schema = Schema.of(Custom)
    body = {
        "words": ["b", "a", "b"],
        "days": ["2020-01-01", "2019-01-01"],
        "friends": [HEX, HEX],
        "mapping": {"ab": 1},
        "leaf": {"text": "x"},
        "boss": HEX,
        "curve": {"type": "Curve", "coordinates": [1, 2, 3]},
    }
    document = model.new_document(schema, model.decode_object(schema, body, creating=True))
    assert document._data["words"] == ["b", "a"]
    assert len(document._data["friends"]) == 1
    model.validate(document)
    stored = model.to_stored(document)
    assert stored["words"] == ["a", "b"]
    assert stored["days"] == [dt.datetime(2019, 1, 1), dt.datetime(2020, 1, 1)]
    assert stored["friends"] == [ObjectId(HEX)]
    assert stored["leaf"] == {"t": "X"}
    assert stored["boss"] == ObjectId(HEX)
    json = model.encode(schema, stored)
    assert json["days"] == ["2019-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000Z"]
    assert json["friends"] == [HEX]
    assert json["leaf"]["text"] == "X"
    stored = {"_id": ObjectId(HEX), **stored}
    loaded = model.load(schema, stored)
    assert loaded["friends"] == [ObjectId(HEX)]
    assert loaded["leaf"]["text"] == "X"
    assert loaded["boss"] == ObjectId(HEX)
    revived = model.from_stored(schema, stored)
    assert revived._data["friends"] == [DBRef("mt_target", ObjectId(HEX))]
    assert model.same(model.to_stored(revived), stored)
    after = {**stored, "friends": [], "leaf": {"t": "Y"}}
    assert model.encode_diff(schema, model.diff(schema, stored, after)) == {
        "friends": {"from": [HEX], "to": []},
        "leaf": {
            "from": {"text": "X", "moment": None, "amount": None, "coded": None},
            "to": {"text": "Y", "moment": None, "amount": None, "coded": None},
        },
    }


def test_the_users_methods_may_refuse() -> None:
    schema = Schema.of(Custom)
    with pytest.raises(ValidationError) as caught:
        model.decode_object(schema, {"boss": "0" * 24, "friends": ["x"]}, creating=True)
    assert dict(caught.value.errors) == {
        "/boss": "nobody",
        "/friends/0": "expected an ObjectId: 24 hexadecimal digits",
    }
    with pytest.raises(ValidationError) as caught:
        model.validate(Custom(curve=[1, 2]))
    assert caught.value.errors == (("/curve", "a curve has three parts"),)
    assert model.decode_form(schema, [("boss", "")], creating=True) == {("boss",): None}


def test_a_field_that_only_stores_differently_reads_as_its_class() -> None:
    spec = Schema.of(Custom).fields["year"]
    assert spec.store(spec.decode("2020-05-01", "")) == 2020
    assert spec.load(2020) == 2020
    assert spec.revive(2020) == 2020


def test_cached_references_of_the_users_own_are_not_read_either() -> None:
    schema = Schema.of(Custom)
    stored = {"_id": ObjectId(HEX), "cached": {"_id": "a", "name": "A"}}
    revived = model.from_stored(schema, stored)
    assert revived._data["cached"].name == "A"
    assert model.to_stored(revived) == stored


def test_what_stands_below_a_users_field_counts() -> None:
    schema = Schema.of(Custom)
    assert schema.overrides >= {"clean", "sequences"}
    assert not schema.self_contained
    assert Schema.of(docs.Person).self_contained


class Stamped(me.Document):
    name = me.StringField()

    def to_mongo(self, *args: Any, **kwargs: Any) -> Any:
        return {**super().to_mongo(*args, **kwargs), "stamp": 1}


def test_a_to_mongo_of_the_model_keeps_what_it_does_not_know() -> None:
    document = model.from_stored(Schema.of(Stamped), {"_id": ObjectId(HEX), "name": "a", "old": 1})
    assert model.to_stored(document) == {"_id": ObjectId(HEX), "name": "a", "stamp": 1, "old": 1}


def test_errors_are_limited() -> None:
    schema = Schema.of(docs.Person)
    for body in (
        {"tags": [1] * 5000},
        {"leaves": [{"text": 1, "moment": 1}] * 5000},
        {"extra": {f"${number}": 1 for number in range(5000)}},
        {f"field{number}": 1 for number in range(5000)},
        {"address": {f"field{number}": 1 for number in range(5000)}},
    ):
        with pytest.raises(ValidationError) as caught:
            model.decode_object(schema, body, creating=True)
        assert len(caught.value.errors) == 100
    with pytest.raises(ValidationError) as caught:
        model.decode_form(schema, [(f"field{number}", "1") for number in range(1000)], creating=True)
    assert len(caught.value.errors) == 100
    typed: Any
    for typed in ({("leaves",): [docs.Leaf(text="x" * 30)] * 5000}, {("tags",): ["toolong"] * 5000}):
        with pytest.raises(ValidationError) as caught:
            model.validate(model.new_document(schema, typed))
        assert len(caught.value.errors) == 100


def test_receivers_may_put_typed_values_into_a_body() -> None:
    schema = Schema.of(docs.Person)
    now = dt.datetime(2020, 1, 1, 0, 0, 0, 123456, tzinfo=dt.UTC)
    body = {
        "name": "a",
        "created": now,
        "address": docs.Leaf(text="x"),
        "branch": {"leaf": {"moment": now}},
        "boss": DBRef("mt_person", ObjectId(HEX)),
        "friends": [ObjectId(HEX), HEX],
        "extra": {"when": now, "who": ObjectId(HEX)},
    }
    document = model.new_document(schema, model.decode_object(schema, body, creating=True))
    model.validate(document)
    stored = model.to_stored(document)
    then = dt.datetime(2020, 1, 1, 0, 0, 0, 123000)
    assert stored["created"] == then
    assert stored["branch"] == {"l": {"m": then}, "ls": []}
    assert stored["friends"] == [ObjectId(HEX)] * 2
    assert stored["extra"] == {"when": then, "who": ObjectId(HEX)}
    with pytest.raises(ValidationError) as caught:
        model.validate(model.new_document(schema, model.decode_object(schema, {"name": now}, creating=True)))
    assert [error.pointer for error in caught.value.errors] == ["/name"]


def test_queries_look_through_a_users_field() -> None:
    schema = Schema.of(Custom)
    assert model.compile_query(schema, {"words": ["a"]}).filter == {"words": {"$eq": "a"}}
    assert model.compile_query(schema, {"cached": ["a"]}).filter == {"cached._id": {"$eq": "a"}}
    assert schema.fields["cached"].target is docs.CodedTarget
