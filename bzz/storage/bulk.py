"""Many writes in few commands: of one transaction, or each for itself.

They go in pieces of at most 1000, so that no command takes long. MongoDB gives a transaction up at the first
write that it refuses: nothing is sent after that, and only that one is told of. A write conflict is no such
refusal, it comes out as the error of the whole call, and the transaction starts over.
"""

# ruff: noqa: A002 - "filter" is MongoDB's own word for it
from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from bzz.errors import BzzError, FieldError, ValidationError
from bzz.storage.errors import ENCODING_ERRORS, translate, translate_write
from bzz.storage.store import Store, Stored

__all__ = ["PIECE", "Refusal", "delete_all", "find_all", "insert_all", "insert_each", "update_all"]

#: The most documents that one command writes.
PIECE = 1000

_MAX_DOCUMENT_BYTES = 16 * 2**20

Item = TypeVar("Item")
Filter = Mapping[str, Any]


class Refusal(NamedTuple):
    """The write that ended a transaction: its position among all, and why it was refused."""

    position: int
    error: BzzError


async def find_all(store: Store, filter: Filter, limit: int, session: Any = None) -> list[Stored]:
    """Read what matches, at most ``limit`` documents, a piece at a time, so that none is long to decode."""

    async def call(collection: Any) -> list[Stored]:
        cursor = collection.find(
            filter, limit=limit, batch_size=min(limit, PIECE), session=session, max_time_ms=store._max_time_ms
        )
        return await store.driver().to_list(cursor, limit)

    return await store._run(call, session, reads=True)


async def insert_each(store: Store, documents: Sequence[Stored]) -> list[BzzError | None]:
    """Store new documents without a transaction, each as far as that goes; return the error of each, or None.

    An ``_id`` is added to each that has none. A time series gets them one by one: it knows no unique key by
    which one could tell what of a command that failed is stored.
    """
    await store._ready(None)
    results: list[BzzError | None] = []
    for start in range(0, len(documents), PIECE):
        piece = documents[start : start + PIECE]
        if store._may_gather:
            results += await store._current().inserts.insert_many(piece)
        else:
            results += [await _insert_one(store, each) for each in piece]
    return results


async def _insert_one(store: Store, stored: Stored) -> BzzError | None:
    try:
        await store.insert(stored)
    except BzzError as error:
        return error
    return None


async def insert_all(store: Store, documents: Sequence[Stored], session: Any) -> Refusal | None:
    """Store new documents; an ``_id`` is added to each that has none. Return what was refused, if any was."""

    async def insert(collection: Any, piece: Sequence[RawBSONDocument]) -> None:
        await collection.insert_many(piece, ordered=False, session=session)

    options = store._current().collection.codec_options
    for start in range(0, len(documents), PIECE):
        piece = []
        for position, stored in enumerate(documents[start : start + PIECE], start):
            key = stored.setdefault("_id", ObjectId())
            try:
                raw = bson.encode({"_id": key, **stored}, codec_options=options)
            except ENCODING_ERRORS as error:
                return Refusal(position, translate(error))
            if len(raw) > _MAX_DOCUMENT_BYTES:
                return Refusal(position, ValidationError([FieldError("", "The document is too large.")]))
            piece.append(RawBSONDocument(raw))
        refused = await _write(store, start, piece, insert, session)
        if refused is not None:
            return refused
    return None


async def update_all(
    store: Store, updates: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], session: Any
) -> Refusal | None:
    """Carry out updates, each ``(filter, update document)`` of one document; return what was refused.

    A filter by the key of a document that was read in the same transaction matches it as it was read, or the
    call fails with a write conflict: what was read is what the update replaces.
    """

    async def update(collection: Any, piece: Sequence[tuple[Any, Any]]) -> None:
        writes: list[Any] = [UpdateOne(each, command) for each, command in piece]
        await collection.bulk_write(writes, ordered=False, session=session)

    for start in range(0, len(updates), PIECE):
        refused = await _write(store, start, updates[start : start + PIECE], update, session)
        if refused is not None:
            return refused
    return None


async def delete_all(store: Store, keys: Sequence[Any], session: Any) -> None:
    """Delete the documents with these keys; as with updates, what was read is what is deleted."""

    async def delete(collection: Any, piece: Sequence[Any]) -> None:
        await collection.delete_many({"_id": {"$in": list(piece)}}, session=session)

    for start in range(0, len(keys), PIECE):
        await _write(store, start, keys[start : start + PIECE], delete, session)


async def _write(
    store: Store,
    start: int,
    piece: Sequence[Item],
    write: Callable[[Any, Sequence[Item]], Awaitable[None]],
    session: Any,
) -> Refusal | None:
    async def call(collection: Any) -> Mapping[str, Any] | None:
        try:
            await write(collection, piece)
        except BulkWriteError as error:
            found = (error.details or {}).get("writeErrors")
            if not found:
                raise
            first: Mapping[str, Any] = found[0]
            return first
        return None

    refused = await store._run(call, session)
    return None if refused is None else Refusal(start + refused["index"], translate_write(refused))
