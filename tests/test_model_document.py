"""Documents made from bodies and stored documents, validated and stored again, without any network."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pymongo.errors
import pytest
from bson import DBRef, ObjectId

from bzz import model
from bzz.errors import FieldError, ValidationError, Veto
from bzz.model import Schema
from tests import model_documents as docs

HEX = "5f" * 12
PERSON = Schema.of(docs.Person)


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


def errors_of(document: Any) -> list[FieldError]:
    with pytest.raises(ValidationError) as caught:
        model.validate(document)
    return list(caught.value.errors)


def person(**values: Any) -> Any:
    return model.new_document(PERSON, {(name,): value for name, value in values.items()})


def test_new_documents_take_defaults_and_nested_paths() -> None:
    document = model.new_document(
        PERSON, {("name",): "a", ("address", "text"): "x", ("branch", "leaf", "text"): "y"}
    )
    assert document._created
    assert document.status == "draft"
    assert document.address.text == "x"
    assert document.branch.leaf.text == "y"
    stored = model.to_stored(document)
    assert stored["addr"] == {"t": "x"}
    assert stored["note"] is None, "mongoengine has no default for a field that may be null"
    assert "_id" not in stored
    assert "age" not in stored


def test_new_documents_are_not_taken_for_stored_ones() -> None:
    document = model.new_document(Schema.of(docs.CodedTarget), {("code",): "a"})
    assert document._created
    assert model.to_stored(document) == {"_id": "a"}


def test_null_is_stored_only_where_the_field_says_so() -> None:
    document = person(name="a", note=None, status=None)
    assert model.to_stored(document)["note"] is None
    assert model.to_stored(document)["status"] == "draft"


def test_a_stored_document_comes_back_untouched() -> None:
    stored = {
        "_id": ObjectId(HEX),
        "n": "a",
        "unknown": [1],
        "_hidden": 1,
        "addr": {"t": "x", "old": True},
        "age": None,
    }
    document = model.from_stored(PERSON, stored)
    assert not document._created
    assert document._get_changed_fields() == []
    assert model.to_stored(document) == stored
    assert list(model.to_stored(document))[0] == "_id"
    # The default is there for whoever receives the document, but nobody has set it.
    assert document.status == "draft"
    model.assign(document, {("status",): "draft", ("address", "text"): "y"})
    after = model.to_stored(document)
    assert after["status"] == "draft"
    assert after["addr"] == {"t": "y", "old": True}
    assert document._get_changed_fields() == ["addr.t"]


def test_assigning_none_unsets_or_brings_the_default_back() -> None:
    document = model.from_stored(
        PERSON, {"_id": ObjectId(HEX), "n": "a", "age": 3, "status": "live", "addr": {"t": "x"}}
    )
    model.assign(document, {("age",): None, ("status",): None, ("address", "text"): None})
    assert model.to_stored(document) == {"_id": ObjectId(HEX), "n": "a", "status": "draft", "addr": {}}


def test_values_changed_in_place_are_seen() -> None:
    stored = {"_id": ObjectId(HEX), "n": "a", "tags": ["a"], "extra": {"k": [1]}}
    document = model.from_stored(PERSON, stored)
    document.tags.append("b")
    document.extra["k"].append(2)
    assert stored["tags"] == ["a"]
    assert stored["extra"] == {"k": [1]}
    assert model.to_stored(document)["tags"] == ["a", "b"]
    assert model.to_stored(document)["extra"] == {"k": [1, 2]}


def test_assign_finds_no_way_through_plain_fields() -> None:
    for path in (("name", "x"), ("gone",), ("address", "gone")):
        with pytest.raises(ValidationError):
            model.assign(person(name="a"), {path: "x"})


class Sharded(me.Document):
    region = me.StringField()
    meta = {"shard_key": ("region",)}


def test_a_shard_key_that_would_change_is_refused() -> None:
    document = model.from_stored(Schema.of(Sharded), {"_id": ObjectId(HEX), "region": "a"})
    with pytest.raises(ValidationError):
        model.assign(document, {("region",): "b"})
    assert model.direct_update(Schema.of(Sharded), {("region",): "b"}) is None


def test_polymorphic_documents_are_of_their_class() -> None:
    schema = Schema.of(docs.Animal)
    stored = {"_id": ObjectId(HEX), "_cls": "Animal.Dog", "n": "Rex", "b": True}
    document = model.from_stored(schema, stored)
    assert type(document) is docs.Dog
    assert model.to_stored(document) == stored
    assert model.encode(schema, stored) == {"_cls": "Animal.Dog", "id": HEX, "name": "Rex", "barks": True}
    assert model.to_stored(model.new_document(schema, {("name",): "x"})) == {"_cls": "Animal", "n": "x"}


def test_dynamic_documents() -> None:
    schema = Schema.of(docs.Free)
    body = {"title": "t", "extra": {"a": [1, {"$oid": HEX}]}, "plain": 5, "nothing": None}
    document = model.new_document(schema, model.decode_object(schema, body, creating=True))
    model.validate(document)
    stored = model.to_stored(document)
    assert stored == {"t": "t", "extra": {"a": [1, ObjectId(HEX)]}, "plain": 5}
    assert document.extra["a"][0] == 1
    assert document.to_mongo().to_dict() == stored
    stored = {"_id": ObjectId(HEX), **stored, "empty": None, "_private": 1}
    assert model.encode(schema, stored) == {
        "id": HEX,
        "title": "t",
        "extra": {"a": [1, {"$oid": HEX}]},
        "plain": 5,
        "empty": None,
    }
    revived = model.from_stored(schema, stored)
    assert model.to_stored(revived) == stored
    revived.extra["a"].append(2)
    assert "extra.a" in revived._get_changed_fields()
    model.assign(revived, {("plain",): None, ("more",): "x"})
    revived.by_hand = 7
    revived.nothing = None
    after = model.to_stored(revived)
    assert after["extra"] == {"a": [1, ObjectId(HEX), 2]}
    assert "plain" not in after
    assert after["more"] == "x"
    assert after["by_hand"] == 7
    assert after["nothing"] is None, "as mongoengine stores a dynamic null"
    assert after["_private"] == 1


def test_dynamic_values_that_name_a_class_stay_values() -> None:
    stored = {
        "_id": ObjectId(HEX),
        "link": {"_cls": "Target", "_ref": DBRef("mt_target", 1)},
        "odd": {"_cls": "Gone"},
    }
    document = model.from_stored(Schema.of(docs.Free), stored)
    assert model.to_stored(document) == stored


class Strict(me.Document):
    name = me.StringField()
    STRICT = True


def test_strict_documents() -> None:
    document = model.from_stored(Schema.of(Strict), {"_id": ObjectId(HEX), "name": "a", "unknown": 1})
    model.assign(document, {("name",): "b"})
    assert model.to_stored(document) == {"_id": ObjectId(HEX), "name": "b", "unknown": 1}


class Stamped(me.Document):
    name = me.StringField()

    def to_mongo(self, *args: Any, **kwargs: Any) -> Any:
        data = super().to_mongo(*args, **kwargs)
        data["stamp"] = dt.datetime(2020, 1, 1, 0, 0, 0, 123456)
        return data


def test_a_to_mongo_of_the_model_is_used() -> None:
    document = model.new_document(Schema.of(Stamped), {("name",): "a"})
    assert model.to_stored(document) == {"name": "a", "stamp": dt.datetime(2020, 1, 1, 0, 0, 0, 123000)}


# Sequences --------------------------------------------------------------------------------------------------


class Line(me.EmbeddedDocument):
    number = me.SequenceField()
    text = me.StringField()


class Order(me.Document):
    number = me.SequenceField(primary_key=True)
    line = me.EmbeddedDocumentField(Line)
    lines = me.EmbeddedDocumentListField(Line)
    by_name = me.MapField(me.EmbeddedDocumentField(Line))
    note = me.StringField()


def test_sequences_at_any_depth_are_pending_and_never_counted() -> None:
    schema = Schema.of(Order)
    body = {"line": {}, "lines": [{}, {"number": 7}], "by_name": {"a": {}}}
    document = model.new_document(schema, model.decode_object(schema, body, creating=True))
    pending = model.pending_sequences(document)
    assert [(type(owner), field.name) for owner, field in pending] == [
        (Order, "number"),
        (Line, "number"),
        (Line, "number"),
        (Line, "number"),
    ]
    model.validate(document)
    assert model.to_stored(document) == {"line": {}, "lines": [{}, {"number": 7}], "by_name": {"a": {}}}
    for number, (owner, field) in enumerate(pending, 1):
        owner._data[field.name] = number
    assert model.pending_sequences(document) == []
    assert model.to_stored(document)["_id"] == 1
    assert model.direct_update(schema, {("line",): document._data["line"]}) is not None
    assert model.direct_update(schema, model.decode_object(schema, {"line": {}}, creating=False)) is None
    assert model.direct_update(schema, {("line", "number"): None}) is None


def test_a_sequence_set_to_null_is_counted_anew() -> None:
    document = model.from_stored(Schema.of(Order), {"_id": 1, "line": {"number": 2}})
    model.assign(document, {("line", "number"): None})
    assert [field.name for _, field in model.pending_sequences(document)] == ["number"]


# Validation -------------------------------------------------------------------------------------------------


def test_errors_point_to_their_place_at_any_depth() -> None:
    leaf = docs.Leaf(text="x" * 21)
    document = person(
        age=-1,
        kind="c",
        status="gone",
        tags=["a", "toolong", "b", "c"],
        leaves=[docs.Leaf(), leaf],
        branch=docs.Branch(below=docs.Branch(leaf=leaf), leaves=[leaf]),
        extra={"a": {"b": 2**63}, "n\0": 1},
        shape=docs.Leaf(),
        friends=[DBRef("mt_person", ObjectId(HEX)), "x"],
    )
    found = dict(errors_of(document))
    assert set(found) == {
        "/name",
        "/age",
        "/kind",
        "/status",
        "/tags",
        "/tags/1",
        "/leaves/1/text",
        "/branch/below/leaf/text",
        "/branch/leaves/0/text",
        "/extra/a/b",
        "/extra/n\0",
        "/shape",
        "/friends/1",
    }
    assert found["/name"] == "this field is required"


class Wild(me.Document):
    text = me.StringField()
    number = me.FloatField()
    count = me.IntField()
    texts = me.ListField(me.StringField())
    maps = me.MapField(me.FloatField())
    required_list = me.ListField(me.StringField(), required=True)
    big = me.DecimalField()
    exact = me.Decimal128Field()
    moment = me.ComplexDateTimeField()
    free = me.DynamicField()
    items = me.ListField()


@pytest.mark.parametrize(
    ("name", "value", "place"),
    [
        ("text", "\ud800", "/text"),
        ("text", {"$ne": None}, "/text"),
        ("number", float("nan"), "/number"),
        ("number", float("inf"), "/number"),
        ("count", 2**63, "/count"),
        ("texts", ["a", "\udfff"], "/texts/1"),
        ("texts", "abc", "/texts"),
        ("texts", ["a", None], "/texts/1"),
        ("maps", {"a": float("inf")}, "/maps/a"),
        ("maps", {"a/b~c": "x"}, "/maps/a~1b~0c"),
        ("maps", {"$a": 1.0}, "/maps/$a"),
        ("maps", {"a\ud800": 1.0}, "/maps/a?"),
        ("maps", {5: 1.0}, "/maps"),
        ("maps", [1.0], "/maps"),
        ("big", "1e500", "/big"),
        ("exact", "1" * 40, "/exact"),
        ("free", {"a": [1, {2: 3}]}, "/free/a/1/2"),
        ("free", {1, 2}, "/free"),
        ("free", {"a": float("nan")}, "/free/a"),
        ("free", docs.Leaf(text="x" * 30), "/free/text"),
        ("free", [docs.Leaf(text="x" * 30)], "/free/0/text"),
        ("free", {"a": docs.Leaf(text="\ud800")}, "/free/a/text"),
        ("items", [2**70], "/items/0"),
        ("items", [dt.date(2020, 1, 1)], "/items/0"),
        ("required_list", [], "/required_list"),
    ],
)
def test_what_mongodb_cannot_keep_is_refused(name: str, value: Any, place: str) -> None:
    document = Wild(required_list=["x"])
    document._data[name] = value
    assert [error.pointer for error in errors_of(document)] == [place]


def test_levels_are_limited() -> None:
    deep: Any = 1
    for _ in range(95):
        deep = [deep]
    document = Wild(required_list=["x"], free=deep)
    assert "levels" in errors_of(document)[0].detail


def boom(error: Exception) -> Any:
    def check(value: Any) -> None:
        raise error

    return check


class Explosive(me.Document):
    typed = me.IntField(validation=boom(TypeError("secret internals")))
    value = me.IntField(validation=boom(ValueError("not this one")))
    own = me.ListField(me.IntField(), validation=boom(me.ValidationError("not these")))
    item = me.ListField(me.IntField(validation=boom(OverflowError())))
    leaf = me.EmbeddedDocumentField(docs.Leaf, validation=boom(me.ValidationError("no leaf")))
    ours = me.IntField(validation=boom(ValidationError([FieldError("/deep", "ours")])))


def test_validators_may_fail_in_any_way() -> None:
    document = Explosive(typed=1, value=1, own=[1], item=[1], leaf=docs.Leaf())
    assert errors_of(document) == [
        ("/typed", "the value was refused (TypeError)"),
        ("/value", "not this one"),
        ("/own", "not these"),
        ("/item/0", "the value was refused (OverflowError)"),
        ("/leaf", "no leaf"),
    ]
    with pytest.raises(ValidationError):
        model.validate(Explosive(ours=1))


@pytest.mark.parametrize("error", [Veto(), pymongo.errors.AutoReconnect("gone")])
def test_vetoes_and_database_errors_go_on(error: Exception) -> None:
    class Failing(me.Document):
        number = me.IntField(validation=boom(error))
        name = me.StringField()

        def clean(self) -> None:
            if self.name:
                raise error

    for document in (Failing(number=1), Failing(name="x")):
        with pytest.raises(type(error)):
            model.validate(document)


class CleanedAddress(me.EmbeddedDocument):
    city = me.StringField()

    def clean(self) -> None:
        if self.city == "Atlantis":
            raise ValueError("sunk")


class Cleaned(me.Document):
    low = me.IntField()
    high = me.IntField()
    total = me.IntField()
    address = me.EmbeddedDocumentField(CleanedAddress)
    addresses = me.ListField(me.EmbeddedDocumentField(CleanedAddress))

    def clean(self) -> None:
        self.total = (self.low or 0) + (self.high or 0)
        if self.low is not None and self.low > self.high:
            raise me.ValidationError("low is above high")
        if self.low == 13:
            raise me.ValidationError("bad luck", errors={"low": me.ValidationError("not 13")})


def test_clean_runs_first_at_every_depth() -> None:
    document = Cleaned(low=1, high=2, address=CleanedAddress(city="Rio"))
    model.validate(document)
    assert document.total == 3
    assert errors_of(Cleaned(low=2, high=1)) == [("", "low is above high")]
    assert errors_of(Cleaned(low=13, high=14)) == [("/low", "not 13")]
    sunk = CleanedAddress(city="Atlantis")
    assert errors_of(Cleaned(address=sunk, addresses=[sunk])) == [
        ("/address", "sunk"),
        ("/addresses/0", "sunk"),
    ]
    assert model.direct_update(Schema.of(Cleaned), {("low",): 1}) is None


class OwnValidate(me.Document):
    number = me.IntField(min_value=0)
    free = me.DynamicField()
    leaf = me.EmbeddedDocumentField(docs.Leaf)

    def validate(self, clean: bool = True) -> None:
        super().validate(clean=clean)
        if self.number == 7:
            raise me.ValidationError("not 7")


def test_an_overridden_validate_is_asked() -> None:
    assert errors_of(OwnValidate(number=7)) == [("", "not 7")]
    found = errors_of(OwnValidate(number=-1, leaf=docs.Leaf(text="x" * 30)))
    assert {error.pointer for error in found} == {"/number", "/leaf/text"}
    assert errors_of(OwnValidate(free={"a": 2**64}, leaf=docs.Leaf(text="\ud800")))[0].pointer == "/free/a"


class ListOfOwn(me.ListField):
    def validate(self, value: Any) -> None:
        super().validate(value)
        if len(value) == 2:
            self.error("two is a crowd")


class EmbeddedOfOwn(me.EmbeddedDocumentField):
    def validate(self, value: Any, clean: bool = True) -> None:
        super().validate(value, clean=clean)
        if value.text == "no":
            self.error("no")


class Owned(me.Document):
    items = ListOfOwn(me.IntField(max_value=5))
    leaf = EmbeddedOfOwn(docs.Leaf)


def test_fields_with_a_validate_of_their_own() -> None:
    assert errors_of(Owned(items=[1, 2], leaf=docs.Leaf(text="no"))) == [
        ("/items", "two is a crowd"),
        ("/leaf", "no"),
    ]
    assert errors_of(Owned(items=[1, 9, 3])) == [("/items/1", "Integer value is too large")]
    model.validate(Owned(items=[1], leaf=docs.Leaf(text="yes")))


class Picky(me.Document):
    regex = me.StringField(regex="^a*$", min_length=2)
    url = me.URLField()
    email = me.EmailField()
    colour = me.EnumField(docs.Colour, choices=[docs.Colour.RED])
    any_shape = me.GenericEmbeddedDocumentField(choices=[docs.Circle])
    leaf = me.EmbeddedDocumentField(docs.Leaf, required=True)


def test_messages_echo_little_of_what_a_client_sent() -> None:
    long = "x" * 5000
    document = Picky(regex="b" * 3, url=f"http://{long}", email=f"a@{long}", any_shape=docs.Leaf())
    document._data["colour"] = docs.Colour.BLUE
    found = dict(errors_of(document))
    assert set(found) == {"/regex", "/url", "/email", "/colour", "/any_shape", "/leaf"}
    for detail in found.values():
        assert len(detail) <= 240
        assert "x" * 61 not in detail
