"""What MongoDB refuses comes out as what it means, without a word that is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import mongoengine
import pytest
from bson import encode
from bson.raw_bson import RawBSONDocument
from mongoengine.connection import get_db
from pymongo import errors as pymongo_errors

from bzz import errors
from bzz.storage import Store
from bzz.storage.errors import has_label, is_transient, translate, translate_write
from tests.storage_drivers import FAMILIES, explicit_client

MEGABYTE = 2**20


class Thing(mongoengine.DynamicDocument):
    code = mongoengine.IntField(unique=True, sparse=True)
    place = mongoengine.PointField(auto_index=True)
    flat = mongoengine.GeoPointField()
    meta = {
        "indexes": [
            {"fields": ["one", "two"]},
            {"fields": ["parent.name", "serial"], "unique": True, "sparse": True},
            {"fields": ["$title"]},
            {"fields": ["#hashed"]},
        ]
    }


@pytest.fixture(params=FAMILIES)
async def store(request: pytest.FixtureRequest, database: str, mongo_url: str) -> AsyncIterator[Store]:
    async with explicit_client(request.param, mongo_url) as client:
        store = Store(Thing, client=client)
        await store.prepare()
        yield store


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


REFUSED: dict[str, dict[str, Any]] = {
    "larger than a message": {"v": "x" * (17 * MEGABYTE)},
    "a few bytes too large": {"v": "x" * (16 * MEGABYTE - 20)},
    "too deep for MongoDB": nested(250),
    "too deep for BSON": nested(5000),
    "integer": {"v": 2**63},
    "surrogate": {"v": "\ud800"},
    "surrogate in a key": {"\udc00": 1},
    "NUL in a key": {"a\0b": 1},
    "a key that is no text": {1: 1},
    "type": {"v": object()},
    "point": {"place": [500, 500]},
    "point on a plane": {"flat": [500, 500]},
    "half a point": {"flat": [1]},
    "no point": {"flat": ["a", "b"]},
    "language": {"title": "x", "language": "klingon"},
    "language's type": {"title": "x", "language": 3},
    "two lists in one index": {"one": [1, 2], "two": [3, 4]},
    "list in a hashed index": {"hashed": [1]},
    "key": {"_id": [1]},
    "operator in the key": {"_id": {"$a": 1}},
}


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
async def test_values_that_cannot_be_kept_are_not_valid(store: Store, document: dict[str, Any]) -> None:
    with pytest.raises(errors.ValidationError) as caught:
        await store.insert(dict(document))
    (only,) = caught.value.errors
    assert only.pointer == ""
    assert only.detail.endswith(".")
    assert await store.count({}) == 0


async def test_a_document_may_not_grow_too_large(store: Store) -> None:
    await store.insert({"_id": 1, "v": "x" * (10 * MEGABYTE)})
    for more in (7, 17):
        with pytest.raises(errors.ValidationError, match="not valid"):
            await store.update({"_id": 1}, {"$set": {"w": "x" * (more * MEGABYTE)}})


async def test_duplicates_name_the_paths_of_their_index(store: Store) -> None:
    await store.insert({"_id": 1, "code": 1, "parent": {"name": "x"}, "serial": 5})
    with pytest.raises(errors.DuplicateError) as caught:
        await store.insert({"code": 1})
    assert caught.value.fields == ("code",)
    assert caught.value.detail.count("1") == 0
    with pytest.raises(errors.DuplicateError) as caught:
        await store.insert({"parent": {"name": "x"}, "serial": 5})
    assert caught.value.fields == ("parent.name", "serial")
    with pytest.raises(errors.DuplicateError) as caught:
        await store.insert({"_id": 1})
    assert caught.value.fields == ("_id",)
    await store.insert({"_id": 2, "code": 2})
    with pytest.raises(errors.DuplicateError) as caught:
        await store.update({"_id": 2}, {"$set": {"code": 1}})
    assert caught.value.fields == ("code",)


async def test_the_collections_own_rule_counts(store: Store) -> None:
    await asyncio.to_thread(
        get_db().command, "collMod", store.collection_name, validator={"n": {"$type": "int"}}
    )
    with pytest.raises(errors.ValidationError) as caught:
        await store.insert({"n": "text"})
    assert "rule" in caught.value.errors[0].detail


@pytest.mark.parametrize(
    "command",
    [{"$set": {"_id": 2}}, {"$set": {"code.x": 1}}, {"$nonsense": 1}],
    ids=["id", "path", "operator"],
)
async def test_other_refusals_name_the_reason_only(store: Store, command: dict[str, Any]) -> None:
    await store.insert({"_id": 1, "code": 777})
    with pytest.raises(errors.StorageError) as caught:
        await store.update({"_id": 1}, command)
    assert "777" not in caught.value.detail
    assert caught.value.__cause__ is not None


async def test_a_stored_document_that_python_cannot_read(store: Store) -> None:
    # A date in the year 50 000: MongoDB keeps it, Python's datetime does not.
    raw = bytearray(encode({"_id": 1, "when": 0}))
    raw[raw.index(b"\x10when")] = 0x09
    raw[-5:-1] = (1_500_000_000_000_000).to_bytes(8, "little")
    raw[0:4] = len(raw).to_bytes(4, "little")
    collection = get_db()[store.collection_name]
    await asyncio.to_thread(collection.insert_one, RawBSONDocument(bytes(raw)))
    with pytest.raises(errors.StorageError, match="cannot read"):
        await store.find_one({"_id": 1})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pymongo_errors.ServerSelectionTimeoutError("u:secret@db.example"), errors.StorageUnavailableError),
        (pymongo_errors.AutoReconnect("u:secret@db.example"), errors.StorageUnavailableError),
        (pymongo_errors.NotPrimaryError("secret"), errors.StorageUnavailableError),
        (pymongo_errors.NetworkTimeout("secret"), errors.StorageTimeoutError),
        (pymongo_errors.WaitQueueTimeoutError("secret"), errors.StorageTimeoutError),
        (pymongo_errors.ExecutionTimeout("secret", 50), errors.StorageTimeoutError),
        (pymongo_errors.WTimeoutError("secret", 64), errors.StorageTimeoutError),
        (pymongo_errors.OperationFailure("secret", 262), errors.StorageTimeoutError),
        (pymongo_errors.OperationFailure("secret", 10107), errors.StorageUnavailableError),
        (pymongo_errors.OperationFailure("secret", 91), errors.StorageUnavailableError),
        (pymongo_errors.OperationFailure("secret", 112), errors.ConflictError),
        (pymongo_errors.OperationFailure("secret", 11000), errors.DuplicateError),
        (pymongo_errors.OperationFailure("secret", 11001), errors.DuplicateError),
        (pymongo_errors.OperationFailure("secret", 12582), errors.DuplicateError),
        (pymongo_errors.OperationFailure("secret", 18), errors.StorageError),
        (pymongo_errors.InvalidOperation("secret"), errors.StorageError),
        (pymongo_errors.ConfigurationError("secret"), errors.StorageError),
        (TimeoutError("secret"), errors.StorageTimeoutError),
    ],
)
def test_each_error_has_one_meaning(error: Exception, kind: type[errors.BzzError]) -> None:
    meaning = translate(error)
    assert type(meaning) is kind
    assert "secret" not in meaning.detail


def test_an_error_that_is_ours_already_stays() -> None:
    ours = errors.Veto()
    assert translate(ours) is ours


def test_bulk_errors_mean_their_first_problem() -> None:
    duplicate = {"index": 1, "code": 11000, "keyPattern": {"a": 1}}
    meaning = translate(pymongo_errors.BulkWriteError({"writeErrors": [duplicate]}))
    assert isinstance(meaning, errors.DuplicateError)
    assert meaning.fields == ("a",)
    waiting = translate(pymongo_errors.BulkWriteError({"writeConcernErrors": [{"code": 50}]}))
    assert isinstance(waiting, errors.StorageTimeoutError)
    assert type(translate(pymongo_errors.BulkWriteError({}))) is errors.StorageError


def test_a_refusal_is_named_by_name_or_number() -> None:
    assert "(Unauthorized)" in translate_write({"code": 13, "codeName": "Unauthorized"}).detail
    assert "(13)" in translate_write({"code": 13}).detail


def test_labels_are_found_behind_an_error() -> None:
    driver = pymongo_errors.OperationFailure("", 112, {"errorLabels": ["TransientTransactionError"]})
    ours = errors.StorageError("")
    ours.__cause__ = driver
    outer = RuntimeError()
    outer.__context__ = ours
    ours.__context__ = outer  # a circle ends
    assert has_label(outer, "TransientTransactionError")
    assert not has_label(outer, "UnknownTransactionCommitResult")
    circle = RuntimeError()
    other = RuntimeError()
    circle.__context__, other.__context__ = other, circle
    assert not has_label(circle, "TransientTransactionError")


def test_only_what_was_not_written_is_tried_again() -> None:
    assert is_transient(pymongo_errors.OperationFailure("", 112))
    labelled = pymongo_errors.OperationFailure("", 251, {"errorLabels": ["TransientTransactionError"]})
    assert is_transient(labelled)
    assert not is_transient(pymongo_errors.AutoReconnect(""))
    assert not is_transient(pymongo_errors.OperationFailure("", 11000))
