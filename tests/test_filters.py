"""Whose signals are heard, and which changes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from blinker import ANY

from bzz.dispatcher.filters import SenderFilter, Transitions


class Model: ...


class User(Model): ...


class Admin(User): ...


class Named:
    def __init__(self, name: Any) -> None:
        self.name = name


class Nameless:
    __slots__ = ()


class Owner:
    def method(self) -> None: ...


def other_user() -> type:
    return type("User", (), {})


OBJECT, OTHER, OWNER = Named("import"), Named("export"), Owner()
PLAIN, UNREFERABLE = Nameless(), (1, 2)

CASES: dict[str, tuple[Any, bool, Any, bool]] = {
    # connected to, subclasses, sent by, heard
    "any hears a class": (ANY, False, User, True),
    "any hears None": (ANY, False, None, True),
    "class hears itself": (User, False, User, True),
    "class does not hear another": (User, False, Model, False),
    "class does not hear its namesake": (User, False, other_user(), False),
    "class does not hear a subclass": (User, False, Admin, False),
    "class does not hear its instance": (User, False, User(), False),
    "class does not hear its name": (User, False, "User", False),
    "class hears a subclass": (Model, True, Admin, True),
    "class hears itself too": (Model, True, Model, True),
    "class does not hear its base": (User, True, Model, False),
    "class of subclasses does not hear an object": (User, True, OBJECT, False),
    "name hears the class": ("User", False, User, True),
    "name hears every class of that name": ("User", False, other_user(), True),
    "name does not hear a subclass": ("User", False, Admin, False),
    "name hears a subclass": ("Model", True, Admin, True),
    "name does not hear a base": ("Admin", True, Model, False),
    "name hears the same name": ("tasks.add", False, "tasks.add", True),
    "name hears an equal name": ("tasks.add", False, "".join(["tasks", ".add"]), True),
    "name does not hear another name": ("tasks.add", False, "tasks", False),
    "name hears an object called so": ("import", False, OBJECT, True),
    "name does not hear an object called otherwise": ("import", False, OTHER, False),
    "name does not hear an object without name": ("import", False, PLAIN, False),
    "name does not hear an object whose name is no text": ("1", False, Named(1), False),
    "name does not hear None": ("None", False, None, False),
    "number hears its equal": (7, False, 7, True),
    "number does not hear another": (7, False, 8, False),
    "number does not hear a text": (7, False, "7", False),
    "object hears itself": (OBJECT, False, OBJECT, True),
    "object does not hear its namesake": (OBJECT, False, Named("import"), False),
    "None hears None": (None, False, None, True),
    "None does not hear an object": (None, False, OBJECT, False),
    "object that cannot be referred to hears itself": (UNREFERABLE, False, UNREFERABLE, True),
    "object does not hear its equal": (UNREFERABLE, False, tuple(iter((1, 2))), False),
    "method hears itself": (OWNER.method, False, OWNER.method, True),
    "method does not hear another's": (OWNER.method, False, Owner().method, False),
}


@pytest.mark.parametrize("name", CASES)
def test_senders(name: str) -> None:
    connected, subclasses, sender, heard = CASES[name]
    assert SenderFilter(connected, subclasses).matches(sender) is heard


@pytest.mark.parametrize("sender", [ANY, OBJECT, 7, None])
def test_only_classes_have_subclasses(sender: Any) -> None:
    with pytest.raises(TypeError, match="subclasses=True needs a class"):
        SenderFilter(sender, True)


def test_dead_sender_is_forgotten_and_told() -> None:
    told: list[Any] = []
    sender = Named("import")
    found = SenderFilter(sender, False, told.append)
    assert not found.is_dead and found.value is sender
    reference = weakref.ref(sender)
    del sender
    gc.collect()
    assert reference() is None, "the filter held its sender"
    assert found.is_dead and found.value is None and len(told) == 1
    assert not found.matches(None) and not found.matches(Named("import"))


def test_same_address_is_not_the_same_sender() -> None:
    sender = Named("import")
    found, address = SenderFilter(sender, False), id(sender)
    del sender
    for _ in range(1000):
        successor = Named("export")
        if id(successor) == address:
            assert not found.matches(successor)
            return
        del successor
    pytest.fail("the address was not used again")


def test_address_is_no_number() -> None:
    assert SenderFilter(OBJECT, False).key != SenderFilter(id(OBJECT), False).key
    assert not SenderFilter(id(OBJECT), False).matches(OBJECT)


def test_sender_that_cannot_be_referred_to_stays() -> None:
    found = SenderFilter((object(), object()), False)
    gc.collect()
    assert not found.is_dead and found.matches(found.value)


UPDATED = {
    "status": {"from": "draft", "to": "live"},
    "count": {"from": None, "to": 1},
    "address.city": {"from": "Rio", "to": "Recife"},
    "home": {"from": None, "to": {"city": "Rio", "geo": {"x": 1}, "zip": None}},
    "tags": {"from": ["a"], "to": ["a", "b"]},
}

CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "both": ({"status": ("draft", "live")}, True),
    "as a list": ({"status": ["draft", "live"]}, True),
    "other from": ({"status": ("gone", "live")}, False),
    "other to": ({"status": ("draft", "gone")}, False),
    "backwards": ({"status": ("live", "draft")}, False),
    "any": ({"status": ANY}, True),
    "any to": ({"status": (ANY, "live")}, True),
    "any to other": ({"status": (ANY, "gone")}, False),
    "from any": ({"status": ("draft", ANY)}, True),
    "any pair": ({"status": (ANY, ANY)}, True),
    "unchanged field": ({"title": ANY}, False),
    "from None": ({"count": (None, 1)}, True),
    "all": ({"status": ANY, "count": (None, ANY)}, True),
    "not all": ({"status": ANY, "title": ANY}, False),
    "lists whole": ({"tags": (["a"], ["a", "b"])}, True),
    "dotted": ({"address.city": ("Rio", "Recife")}, True),
    "dotted other": ({"address.city": ("Rio", "Natal")}, False),
    "dotted unchanged": ({"address.zip": ANY}, False),
    "parent of dotted": ({"address": ANY}, True),
    "parent of dotted has no values of its own": ({"address": (ANY, "Recife")}, False),
    "parent is no prefix": ({"addr": ANY}, False),
    "inside of whole": ({"home.city": (None, "Rio")}, True),
    "inside of whole, deeper": ({"home.geo.x": (ANY, 1)}, True),
    "inside of whole, unchanged": ({"home.zip": ANY}, False),
    "inside of whole, other": ({"home.city": (ANY, "Natal")}, False),
    "inside of what is no document": ({"tags.city": ANY}, False),
}


@pytest.mark.parametrize("name", CHANGES)
def test_transitions(name: str) -> None:
    when, heard = CHANGES[name]
    assert Transitions(when).match(UPDATED) is heard


@pytest.mark.parametrize(
    "when",
    [
        {},
        "status",
        [("status", ANY)],
        {"status": "live"},
        {"status": ("draft",)},
        {"status": ("a", "b", "c")},
        {1: ANY},
    ],
)
def test_what_is_no_transition_is_refused(when: Any) -> None:
    with pytest.raises(TypeError, match="when= needs"):
        Transitions(when)
