"""Instances made the short way are those that mongoengine's constructor makes."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest
from hypothesis import given, settings
from mongoengine import fields, signals

from bzz import model
from bzz.model import Schema
from bzz.model.construct import construct
from tests import model_documents as docs

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))
SLOTS = ("_created", "_initialised", "_dynamic_fields", "_fields_ordered")


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


def both(document: Any, values: dict[str, Any], *, created: bool = True) -> tuple[Any, Any]:
    long = document(**values, __auto_convert=False, _created=created)
    short = construct(Schema.of(document), values, created=created)
    return long, short


def assert_alike(long: Any, short: Any) -> None:
    assert type(short) is type(long)
    for slot in SLOTS:
        assert getattr(short, slot) == getattr(long, slot)
    assert short.__dict__.keys() == long.__dict__.keys()
    assert short._data.keys() == long._data.keys()
    for name, value in long._data.items():
        assert type(short._data[name]) is type(value), name
        assert short._data[name] == value or name in ("created",), name
    assert hasattr(short, "_changed_fields") == hasattr(long, "_changed_fields")
    if isinstance(long, me.EmbeddedDocument):
        assert short._instance is long._instance is None
        assert short._changed_fields == []


@settings(max_examples=60 * EXAMPLES, deadline=None)
@given(docs.bodies)
def test_instances_of_every_field_type_are_alike(body: dict[str, Any]) -> None:
    assignments = model.decode_object(Schema.of(docs.Everything), body, creating=True)
    values = {name: value for (name,), value in assignments.items()}
    assert_alike(*both(docs.Everything, values))


@settings(max_examples=60 * EXAMPLES, deadline=None)
@given(docs.person_bodies)
def test_instances_with_defaults_and_choices_are_alike(body: dict[str, Any]) -> None:
    assignments = model.decode_object(Schema.of(docs.Person), body, creating=True)
    values = {name: value for (name,), value in assignments.items()}
    for created in (True, False):
        long, short = both(docs.Person, values, created=created)
        assert_alike(long, short)
        assert short.get_status_display() == long.get_status_display()


def test_every_other_kind_of_class_is_alike() -> None:
    for document, values in [
        (docs.Leaf, {"text": "x"}),
        (docs.Circle, {"radius": 1.0}),
        (docs.Loose, {"fixed": 1}),
        (docs.Free, {"title": "x"}),
        (docs.Puppy, {"name": "x", "weeks": 3}),
        (docs.CodedTarget, {"code": "a"}),
    ]:
        assert_alike(*both(document, values))


def test_embedded_documents_know_their_owner() -> None:
    person = construct(
        Schema.of(docs.Person), {"address": docs.Leaf(), "leaves": [docs.Leaf(), docs.Leaf()]}, created=True
    )
    assert person.address._instance == person
    assert [leaf._instance == person for leaf in person.leaves] == [True, True]
    person.address.text = "x"
    person._changed_fields = []
    person.address.text = "y"
    assert person._get_changed_fields() == ["addr.t"]


class Owner(me.Document):
    leaf = me.EmbeddedDocumentField(docs.Leaf, default=docs.Leaf)
    colours = me.ListField(me.EnumField(docs.Colour), default=["red"])
    when = me.DateTimeField(default=lambda: dt.datetime(2020, 1, 1))


def test_defaults_are_assigned_like_values() -> None:
    long, short = both(Owner, {"colours": ["red", "blue"]})
    assert_alike(long, short)
    assert short.colours == [docs.Colour.RED, docs.Colour.BLUE]
    assert short.leaf._instance == short
    assert both(Owner, {})[1].when == dt.datetime(2020, 1, 1)


class Constructed(me.Document):
    name = me.StringField()

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.seen = True


class Watched(me.Document):
    name = me.StringField()


class Covered(me.Document):
    name = me.StringField()
    upper = property(lambda self: self.name.upper())


def test_a_constructor_of_the_models_own_runs() -> None:
    assert construct(Schema.of(Constructed), {"name": "x"}, created=True).seen
    assert construct(Schema.of(Covered), {"name": "x"}, created=True).upper == "X"


def test_listeners_to_mongoengines_signals_hear_of_instances() -> None:
    seen: list[str] = []

    def before(sender: Any, document: Any, values: Any) -> None:
        values["name"] += "!"

    def after(sender: Any, document: Any) -> None:
        seen.append(document.name)

    with (
        signals.pre_init.connected_to(before, sender=Watched),
        signals.post_init.connected_to(after, sender=Watched),
    ):
        construct(Schema.of(Watched), {"name": "x"}, created=True)
        model.from_stored(Schema.of(Watched), {"_id": 1, "name": "y"})
    assert seen == ["x!", "y!"]
    construct(Schema.of(Watched), {"name": "z"}, created=True)
    assert seen == ["x!", "y!"]


def test_every_descriptor_of_the_package_is_known() -> None:
    """A field class that gets a ``__set__`` of its own has to be looked at."""
    own = {
        cls.__name__
        for cls in vars(fields).values()
        if isinstance(cls, type) and issubclass(cls, fields.BaseField) and "__set__" in vars(cls)
    }
    assert own == {
        "BaseField",
        "BinaryField",
        "ComplexBaseField",
        "ComplexDateTimeField",
        "EnumField",
        "FileField",
        "SequenceField",
    }
