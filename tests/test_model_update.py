"""Updates: what MongoDB is told, against what a real MongoDB makes of it."""

from __future__ import annotations

import copy
import os
import uuid
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pymongo
import pytest
from bson import DBRef, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.collection import Collection

from bzz import model
from bzz.errors import ValidationError
from bzz.model import Schema, Update
from tests import model_documents as docs

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))
HEX = "5f" * 12
PERSON = Schema.of(docs.Person)


@pytest.fixture(autouse=True, scope="module")
def dead_port() -> Iterator[None]:
    docs.connect_nowhere()
    yield
    me.disconnect_all()


@pytest.fixture(scope="module")
def collection(mongo_url: str) -> Iterator[Collection[Any]]:
    with pymongo.MongoClient[Any](mongo_url, uuidRepresentation="standard") as client:
        name = f"bzz-{uuid.uuid4().hex}"
        yield client[name]["updates"]
        client.drop_database(name)


def on_server(collection: Collection[Any], before: dict[str, Any], update: Update) -> dict[str, Any] | None:
    collection.delete_many({})
    collection.insert_one(before)
    found: dict[str, Any] | None = collection.find_one_and_update(
        {"_id": before["_id"], **update.guard}, update.command(), return_document=True
    )
    return found


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, ordered(item)) for key, item in value.items()]
    return [ordered(item) for item in value] if isinstance(value, list) else value


names = st.sampled_from(["a", "b", "c", "0", "1", "10", "Z", "_x", "ä"])
values = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.dictionaries(names, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)
stored = st.dictionaries(names, values, max_size=4).map(lambda fields: {"_id": 1, **fields})
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=150 * EXAMPLES, deadline=None, suppress_health_check=SLOW)
@given(
    before=stored,
    sets=st.dictionaries(paths, values, max_size=4),
    unsets=st.lists(paths, max_size=3, unique=True),
)
def test_apply_says_what_mongodb_stores(
    collection: Collection[Any], before: dict[str, Any], sets: dict[str, Any], unsets: list[str]
) -> None:
    update = Update(sets, tuple(path for path in unsets if path not in sets))
    every = [*update.set, *update.unset]
    if not every or any(one != other and other.startswith(f"{one}.") for one in every for other in every):
        return
    original = copy.deepcopy(before)
    try:
        expected = on_server(collection, before, update)
    except pymongo.errors.OperationFailure:
        return
    try:
        after = update.apply(before)
    except ValueError:
        # Only arrays can be filled up by MongoDB where apply() does not follow.
        assert any(part.isdigit() for path in update.set for part in path.split("."))
        return
    assert before == original
    assert ordered(after) == ordered(expected)


@settings(max_examples=150 * EXAMPLES, deadline=None, suppress_health_check=SLOW)
@given(before=stored, after=stored)
def test_changes_lead_from_one_to_the_other(
    collection: Collection[Any], before: dict[str, Any], after: dict[str, Any]
) -> None:
    update = model.changes(before, after)
    assert update.apply(before) == after
    assert bool(update) == (not model.same(before, after))
    assert bool(update) == bool(update.command())
    if update:
        assert on_server(collection, before, update) == after


def test_changes_are_small() -> None:
    before = {"_id": 1, "a": {"b": {"c": 1, "d": 2}, "e": [1]}, "gone": 1, "same": {"x": 1}}
    after = {"_id": 1, "a": {"b": {"c": 1, "d": 3}, "e": [1, 2]}, "same": {"x": 1}, "new": None}
    update = model.changes(before, after)
    assert update.set == {"a.b.d": 3, "a.e": [1, 2], "new": None}
    assert update.unset == ("gone",)
    assert set(update.guard) == {"a", "a.b"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a.b": 1, "c": 1}, {"a.b": 2, "c": 1}),
        ({"$a": 1, "c": 1}, {"$a": 2, "c": 1}),
        ({"": 1, "c": 1}, {"": 2, "c": 1}),
        ({"_cls": "A", "c": 1}, {"_cls": "B", "c": 1}),
        ({"a": 1}, {"b": 1}),
    ],
)
def test_objects_that_paths_cannot_reach_are_set_whole(old: dict[str, Any], new: dict[str, Any]) -> None:
    update = model.changes({"v": old}, {"v": new})
    assert update.set == {"v": new}
    assert update.guard == {}
    update.set["v"]["more"] = 1
    assert "more" not in new


def test_the_guard_keeps_updates_away_from_what_they_do_not_mean(collection: Collection[Any]) -> None:
    update = model.direct_update(PERSON, {("branch", "leaf", "text"): "x"})
    assert update is not None
    assert update.set == {"branch.l.t": "x"}
    for branch in ({"l": {"t": "y"}}, {"l": {}}):
        assert on_server(collection, {"_id": 1, "branch": branch}, update) == {
            "_id": 1,
            "branch": {"l": {"t": "x"}},
        }
    for branch in (None, 5, [], [{"l": {"t": "y"}}], {"l": [{"t": "y"}]}, {"l": None}, {}):
        assert on_server(collection, {"_id": 1, "branch": branch}, update) is None
    assert on_server(collection, {"_id": 1}, update) is None


def test_apply_refuses_what_mongodb_refuses() -> None:
    for before in ({"a": 1}, {"a": [1]}, {"a": [{"b": 1}]}):
        with pytest.raises(ValueError, match="position|parent"):
            Update({"a.b": 2}).apply(before)
    assert Update(unset=("a.b", "a.9", "x.y")).apply({"a": [1]}) == {"a": [1]}
    assert Update({"a.0.b": 2}, ("a.1", "a.2.c")).apply({"a": [{"b": 1}, 5, {"c": 1}]}) == {
        "a": [{"b": 2}, None, {}]
    }
    assert not Update()


# direct_update ----------------------------------------------------------------------------------------------


def test_values_are_validated_by_their_own_fields() -> None:
    with pytest.raises(ValidationError) as caught:
        model.direct_update(
            PERSON,
            {
                ("age",): -1,
                ("name",): None,
                ("kind",): "c",
                ("tags",): ["toolong"],
                ("address", "text"): "x" * 30,
                ("branch",): docs.Branch(leaf=docs.Leaf(text="x" * 30)),
            },
        )
    assert {error.pointer for error in caught.value.errors} == {
        "/age",
        "/name",
        "/kind",
        "/tags/0",
        "/address/text",
        "/branch/leaf/text",
    }


def test_none_unsets_or_sets_the_default() -> None:
    update = model.direct_update(
        PERSON, {("age",): None, ("status",): None, ("note",): None, ("tags",): None}
    )
    assert update == Update({"status": "draft", "note": None, "tags": []}, ("age",))


def test_the_key_is_a_condition_not_a_change() -> None:
    update = model.direct_update(PERSON, {("id",): ObjectId(HEX), ("age",): 1})
    assert update == Update({"age": 1}, guard={"_id": ObjectId(HEX)})


def test_dynamic_fields_are_updated_directly() -> None:
    schema = Schema.of(docs.Free)
    assert model.direct_update(schema, {("more",): [1], ("less",): None}) == Update({"more": [1]}, ("less",))


class Vehicle(me.Document):
    name = me.StringField(db_field="n")
    meta = {"allow_inheritance": True}


class Car(Vehicle):
    pass


class Strictest(Vehicle):
    def clean(self) -> None:
        """Look at everything."""


def test_the_whole_document_is_asked_for_where_it_counts() -> None:
    assert model.direct_update(Schema.of(Vehicle), {("name",): "x"}) is None
    assert model.direct_update(Schema.of(Car), {("name",): "x"}) == Update({"n": "x"})
    assert model.direct_update(PERSON, {("address",): docs.Leaf(), ("address", "text"): "x"}) is None


@settings(max_examples=100 * EXAMPLES, deadline=None, suppress_health_check=SLOW)
@given(one=docs.person_bodies, other=docs.person_bodies)
def test_both_ways_of_updating_store_the_same(
    collection: Collection[Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    """The direct update and the way through the whole document end at the same stored document."""
    one["name"] = "a"
    document = model.new_document(PERSON, model.decode_object(PERSON, one, creating=True))
    before = {"_id": ObjectId(HEX), **model.to_stored(document)}
    direct = model.direct_update(PERSON, model.decode_object(PERSON, other, creating=False))
    assert direct is not None
    revived = model.from_stored(PERSON, before)
    model.assign(revived, model.decode_object(PERSON, other, creating=False))
    model.validate(revived)
    whole = model.to_stored(revived)
    after = direct.apply(before)
    assert model.diff(PERSON, after, whole) == {}
    if direct:
        assert model.same(on_server(collection, before, direct), after)
    update = model.changes(before, whole)
    if update:
        assert model.same(on_server(collection, before, update), whole)


def test_references_are_stored_by_key() -> None:
    update = model.direct_update(
        PERSON,
        {("boss",): DBRef("mt_person", ObjectId(HEX)), ("friends",): [DBRef("mt_person", ObjectId(HEX))]},
    )
    assert update == Update({"boss": ObjectId(HEX), "friends": [ObjectId(HEX)]})
