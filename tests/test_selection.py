"""Choices of fields: what is in them, what they leave of JSON, and what a change touches outside."""

from __future__ import annotations

from typing import Any

import mongoengine as me
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bzz.model import ALL, NONE, Schema, Selection, changed_outside, named_outside

NAMES = ["a", "b", "a.a", "a.b", "a.b.a", "b.a", "b.b"]
names = st.lists(st.sampled_from(NAMES), max_size=4)
trees = st.recursive(
    st.none() | st.integers(0, 3),
    lambda below: st.dictionaries(st.sampled_from("ab"), below, max_size=2) | st.lists(below, max_size=2),
    max_leaves=8,
)


def chosen(path: str, only: list[str] | None, without: list[str]) -> bool:
    """Tell whether a leaf is chosen: by every name that stands for it."""
    above = [path[:end] for end in range(1, len(path) + 1) if end == len(path) or path[end] == "."]
    in_part = any(name.startswith(f"{path}.") for name in without)
    return not in_part and not set(above) & set(without) and (only is None or bool(set(above) & set(only)))


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [each for name, below in value.items() for each in leaves(below, f"{path}.{name}".strip("."))]
    if isinstance(value, list):
        return [each for below in value for each in leaves(below, path)]
    return [(path, value)]


@given(value=st.dictionaries(st.sampled_from("ab"), trees), only=st.none() | names, without=names)
def test_what_is_left_is_what_was_chosen(
    value: dict[str, Any], only: list[str] | None, without: list[str]
) -> None:
    cut = Selection(only, without).cut(value)
    expected = [each for each in leaves(value) if each[1] is not None and chosen(each[0], only, without)]
    assert [each for each in leaves(cut) if each[1] is not None] == expected


def test_everything_and_nothing() -> None:
    assert ALL.is_all
    assert NONE.is_none
    assert ALL.below("x") is ALL
    assert NONE.below("x") is NONE
    assert ALL.covers("a.b")
    assert not NONE.touches("a.b")
    assert Selection(["a", "a.b"]).covers("a.c")
    assert Selection(["a.b"]).touches("a")
    assert not Selection(["a.b"]).covers("a")
    assert repr(Selection(["b.c", "a"], ["d"])) == "<Selection a, b.c without d>"


def test_the_class_of_an_object_stays_and_what_is_no_object_does_not() -> None:
    some = Selection(["a.b"])
    assert some.cut({"_cls": "A", "a": {"_cls": "B", "b": 1, "c": 2}}) == {
        "_cls": "A",
        "a": {"_cls": "B", "b": 1},
    }
    # What is stored where an object is expected is of an older model: nobody knows what is in it.
    assert some.cut({"a": "text"}) == {"a": None}
    assert some.cut({"a": [{"b": 1, "c": 2}, None, "text"]}) == {"a": [{"b": 1}, None, None]}


def test_a_diff_loses_what_looks_the_same() -> None:
    some = Selection(without=["a.b", "c"])
    shown = some.cut_diff(
        {
            "a": {"from": {"b": 1, "d": 1}, "to": {"b": 2, "d": 2}},
            "a.b": {"from": 1, "to": 2},
            "a.d": {"from": 1, "to": 2},
            "c": {"from": 1, "to": 2},
        }
    )
    assert shown == {"a": {"from": {"d": 1}, "to": {"d": 2}}, "a.d": {"from": 1, "to": 2}}
    assert some.cut_diff({"a": {"from": [{"b": 1}], "to": [{"b": 2}]}}) == {}


def test_what_a_body_names_outside_has_its_place() -> None:
    some = Selection(["a", "b.c"])
    body = {"a": {"x": 1}, "b": {"c": 1, "d": {}, "_cls": "B"}, "e": None}
    assert [*named_outside(some, body)] == [("b", "d"), ("e",)]
    assert [*named_outside(some, {"b": [{"c": 1}, {"d": 2}]})] == [("b", 1, "d")]
    assert [*named_outside(some, "text")] == []


class Low(me.EmbeddedDocument):
    x = me.IntField()
    y = me.IntField(db_field="why")
    meta = {"allow_inheritance": True}


class Lower(Low):
    z = me.IntField()


class High(me.Document):
    one = me.IntField(db_field="uno")
    low = me.EmbeddedDocumentField(Low)
    lows = me.EmbeddedDocumentListField(Low)


class Any_(me.DynamicDocument):
    one = me.IntField()


LOW = {"_cls": "Low", "x": 1, "why": 1}


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"uno": 1}, {"uno": 1}, []),
        ({"uno": 1}, {"uno": 2}, [("one",)]),
        ({"uno": 1}, {}, [("one",)]),
        ({"low": LOW}, {"low": {**LOW, "x": 2}}, []),
        ({"low": LOW}, {"low": {**LOW, "why": 2}}, [("low", "y")]),
        ({"low": LOW}, {}, [("low",)]),
        ({"low": {"_cls": "Low", "x": 1}}, {}, [("low",)]),
        ({}, {"low": {"_cls": "Low", "x": 1}}, []),
        ({}, {"low": LOW}, [("low", "y")]),
        ({"low": LOW}, {"low": {**LOW, "_cls": Lower._class_name}}, [("low",)]),
        ({"lows": [LOW]}, {"lows": []}, []),
    ],
)
def test_changes_outside_are_found(before: Any, after: Any, paths: Any) -> None:
    some = Selection(["low.x", "lows.x"])
    assert [*changed_outside(some, Schema.of(High), before, after)] == paths


def test_changes_of_dynamic_fields_are_found() -> None:
    before, after = {"_id": 1, "one": 1, "two": 1, "_hidden": 1}, {"_id": 1, "one": 1, "two": 2, "three": 3}
    assert [*changed_outside(Selection(["one", "three"]), Schema.of(Any_), before, after)] == [("two",)]
