"""What bzz reads of a model, once."""

from __future__ import annotations

from typing import Any

import mongoengine as me
import pytest
from bson import ObjectId

from bzz import model
from bzz.errors import KeyFormatError, ValidationError
from bzz.model import Schema
from tests import model_documents as docs


def test_a_schema_is_made_once() -> None:
    schema = Schema.of(docs.Person)
    assert Schema.of(docs.Person) is schema
    assert schema.model is docs.Person
    assert schema.name == "Person"
    assert list(schema.fields)[:3] == ["id", "name", "status"]
    assert schema.by_db_name["n"] is schema.fields["name"]
    with pytest.raises(TypeError):
        schema.fields["x"] = schema.fields["name"]  # type: ignore[index]
    assert repr(schema) == "<Schema of Person>"
    assert repr(schema.fields["name"]) == "<StringSpec name: StringField>"


def test_paths_lead_through_embedded_documents() -> None:
    schema = Schema.of(docs.Person)
    assert schema.at(("branch", "leaf", "text")).db_name == "t"
    assert schema.at(("branch", "below", "below", "number")).name == "number"
    for path in ((), ("nope",), ("name", "x"), ("leaves", "text"), ("branch", "l")):
        with pytest.raises(ValidationError):
            schema.at(path)
    assert Schema.of(docs.Free).at(("whatever",)).name == "whatever"
    assert Schema.of(docs.Everything).at(("loose", "more")).db_name == "more"


def test_database_paths_are_translated() -> None:
    schema = Schema.of(docs.Person)
    assert schema.field_path("addr.m") == "address.moment"
    assert schema.field_path("leaves.0.t") == "leaves.0.text"
    assert schema.field_path("leaves.t") == "leaves.text"
    assert schema.field_path("_id") == "id"
    assert schema.field_path("gone.t") == "gone.t"


class StaticKey(me.Document):
    slug = me.StringField(db_field="s")

    @staticmethod
    def get_id_field_name() -> str:
        return "slug"


class ClassKey(me.Document):
    slug = me.StringField(db_field="s")

    @classmethod
    def get_id_field_name(cls) -> str:
        return "s"


class InstanceKey(me.Document):
    slug = me.StringField(db_field="s")

    def get_id_field_name(self) -> str:
        return "slug"


class FieldKey(me.Document):
    slug = me.StringField(db_field="s")

    def get_id_field_name() -> Any:  # type: ignore[misc]
        return FieldKey.slug


class PrimaryKey(me.Document):
    @staticmethod
    def get_id_field_name() -> str:
        return "pk"


class WrongKey(me.Document):
    @staticmethod
    def get_id_field_name() -> str:
        return "gone"


@pytest.mark.parametrize("document", [StaticKey, ClassKey, InstanceKey, FieldKey])
def test_the_model_decides_its_key(document: Any) -> None:
    schema = Schema.of(document)
    assert schema.key is schema.fields["slug"]
    assert model.key_to_text(schema, {"_id": 1, "s": "a/b"}) == "a/b"
    assert model.key_filter(schema, "a/b") == {"s": "a/b"}


def test_primary_keys() -> None:
    assert Schema.of(PrimaryKey).key.db_name == "_id"
    assert Schema.of(PrimaryKey).automatic_key
    coded = Schema.of(docs.CodedTarget)
    assert coded.key.name == "code"
    assert coded.key.db_name == "_id"
    assert not coded.automatic_key
    with pytest.raises(TypeError, match="gone"):
        _ = Schema.of(WrongKey).key
    with pytest.raises(TypeError, match="no key"):
        _ = Schema.of(docs.Leaf).key
    with pytest.raises(TypeError, match="abstract"):
        _ = Schema.of(docs.AbstractTarget).key


class Clashing(me.Document):
    id = me.StringField()


def test_a_field_called_id_leaves_the_key_its_place() -> None:
    schema = Schema.of(Clashing)
    assert schema.key.name == "auto_id_0"
    assert schema.key.db_name == "_id"


KEYS = [
    (docs.Person, "5f" * 12, ObjectId("5f" * 12)),
    (docs.CodedTarget, "ü/ b", "ü/ b"),
    (docs.NumberedTarget, "-7", -7),
    (docs.UniversalTarget, "00000000-0000-0000-0000-000000000005", "00000000-0000-0000-0000-000000000005"),
]


@pytest.mark.parametrize(("document", "text", "key"), KEYS)
def test_keys_travel_as_text(document: Any, text: str, key: Any) -> None:
    schema = Schema.of(document)
    assert model.key_from_text(schema, text) == key
    assert model.key_to_text(schema, {"_id": key}) == text
    assert model.key_filter(schema, text) == {"_id": key}


class Switched(me.Document):
    on = me.BooleanField(primary_key=True)


class Linked(me.Document):
    person = me.ReferenceField(docs.Person, primary_key=True)


def test_unusual_keys() -> None:
    assert model.key_to_text(Schema.of(Switched), {"_id": False}) == "false"
    assert model.key_to_text(Schema.of(Switched), {"_id": True}) == "true"
    assert model.key_from_text(Schema.of(Switched), "true") is True
    assert model.key_from_text(Schema.of(Linked), "5f" * 12) == ObjectId("5f" * 12)
    assert model.key_to_text(Schema.of(StaticKey), {"_id": 1}) == ""


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (docs.Person, "x"),
        (docs.Person, ""),
        (docs.Person, "5f" * 12 + "\n"),
        (docs.NumberedTarget, "1.5"),
        (docs.NumberedTarget, "9" * 19),
        (docs.NumberedTarget, "9" * 5000),
        (docs.CodedTarget, ""),
        (docs.CodedTarget, "a" * 1025),
        (docs.CodedTarget, "\ud800"),
        (docs.UniversalTarget, "{00000000-0000-0000-0000-000000000005}"),
        (docs.Everything, "{}"),
    ],
)
def test_what_cannot_be_a_key(document: Any, text: str) -> None:
    with pytest.raises(KeyFormatError) as caught:
        model.key_from_text(Schema.of(document), text)
    assert len(caught.value.detail) < 150
    caught.value.detail.encode()


def test_inheritance() -> None:
    animal, dog = Schema.of(docs.Animal), Schema.of(docs.Dog)
    assert animal.polymorphic
    assert set(animal.subclasses) == {"Animal", "Animal.Dog", "Animal.Dog.Puppy"}
    assert animal.of_stored({"_cls": "Animal.Dog"}) is dog
    assert animal.of_stored({"_cls": "Person"}) is animal
    assert animal.of_stored({"_cls": ["Animal"]}) is animal
    assert animal.of_stored({}) is animal
    assert dog.of_stored({"_cls": "Animal"}) is dog
    assert animal.scope == {}
    assert dog.scope == {"_cls": {"$in": ["Animal.Dog", "Animal.Dog.Puppy"]}}
    assert Schema.of(docs.Puppy).scope == {"_cls": "Animal.Dog.Puppy"}
    assert model.key_filter(Schema.of(docs.Puppy), "5f" * 12)["_cls"] == "Animal.Dog.Puppy"


def test_classes_that_are_defined_later_are_found() -> None:
    class Early(me.Document):
        meta = {"allow_inheritance": True}

    schema = Schema.of(Early)
    assert schema.of_stored({"_cls": "Early.Late"}) is schema

    class Late(Early):
        pass

    assert schema.of_stored({"_cls": "Early.Late"}).model is Late


class CleanLeaf(me.EmbeddedDocument):
    def clean(self) -> None:
        """Anything."""


class Figure(me.EmbeddedDocument):
    meta = {"allow_inheritance": True}


class CleanFigure(Figure):
    def validate(self, clean: bool = True) -> None:
        super().validate(clean=clean)


class Deep(me.Document):
    leaves = me.MapField(me.ListField(me.EmbeddedDocumentField(CleanLeaf)))
    files = me.ListField(me.ImageField())

    def save(self, *args: Any, **kwargs: Any) -> Any:
        return super().save(*args, **kwargs)


class Chosen(me.Document):
    any_shape = me.GenericEmbeddedDocumentField(choices=[CleanLeaf])

    def delete(self, *args: Any, **kwargs: Any) -> None:
        super().delete(*args, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        return {}


class Numbered(me.EmbeddedDocument):
    number = me.SequenceField()


class Shaped(me.Document):
    figure = me.EmbeddedDocumentField(Figure)
    numbered = me.EmbeddedDocumentField(Numbered)


def test_overrides_count_at_any_depth() -> None:
    assert Schema.of(Deep).overrides == {"save", "clean", "files"}
    assert Schema.of(Chosen).overrides == {"delete", "to_dict", "clean"}
    assert Schema.of(Shaped).overrides == {"validate", "sequences"}
    assert Schema.of(docs.Target).overrides == frozenset()
    assert Schema.of(docs.Branch).overrides == frozenset()


def test_dynamic_classes_take_no_name_of_their_own() -> None:
    schema = Schema.of(docs.Free)
    assert schema.dynamic
    assert schema.accepts("anything")
    for name in (
        "",
        "save",
        "objects",
        "_x",
        "$x",
        "a.b",
        "a\0",
        "pk",
        "id",
        "t",
        "validate",
        "\u202e",
        "clean",
    ):
        assert not schema.accepts(name)
