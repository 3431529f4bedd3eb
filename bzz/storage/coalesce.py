"""Work that arrives together travels together.

A command costs the driver some 350 µs of Python, however little it carries. So reads by key that wait at the
same time go out as one ``find`` with ``$in``, and inserts as one unordered ``insertMany``; see
:mod:`bzz.storage.lanes` for when. Who asks cannot tell the difference: each gets its own document or its own
error, and what fails as a whole is done again one by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import bson
import pymongo
from bson import Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, ServerSelectionTimeoutError

from bzz.errors import BzzError, DuplicateError, StorageTimeoutError, StorageUnavailableError
from bzz.storage.driver import Driver
from bzz.storage.errors import ENCODING_ERRORS, is_conflict, translate, translate_write
from bzz.storage.guard import exactly
from bzz.storage.lanes import Lanes, Waiting, fail_all

__all__ = ["KEY_TYPES", "InsertCoalescer", "ReadCoalescer"]

Stored = dict[str, Any]
Options = CodecOptions[dict[str, Any]]
# Runs call(collection) within the time limit of the store and raises errors of bzz only.
Run = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]

# Keys of which one can tell in Python to which of them a document belongs. Equal numbers of other types,
# regular expressions, objects and null mean something else in MongoDB than they do here.
KEY_TYPES = frozenset({ObjectId, str, int, Int64, UUID})
_MAX_DOCUMENT_BYTES = 16 * 2**20
# Seconds after which a read that is under way makes room for the next. Reads by key are so quick that one
# command at a time carries more than two would: each costs the driver the same, whatever is in it.
SLOW_READ = 0.05


class _Key(NamedTuple):
    key: Any
    base: Mapping[str, Any]


class ReadCoalescer:
    """Find documents by ``_id``: what waits together is one ``find``.

    Reads with different base filters are never mixed; a coalescer has one read preference, no sessions and
    no projections. A base filter must not depend on ``_id``.
    """

    def __init__(self, run: Run, max_time_ms: int, driver: Driver, options: Options, seconds: float) -> None:
        self._run = run
        self._max_time_ms = max_time_ms
        self._driver = driver
        self._options = options
        self._lanes: Lanes[_Key] = Lanes(self._send, driver, seconds, under_way=1, slow=SLOW_READ)

    async def find(self, key: Any, base: Mapping[str, Any]) -> Stored | None:
        """The document under ``key`` that matches ``base`` too, or None."""
        request = _Key(key, base)
        if self._lanes.free:
            return await self._lanes.straight(self._find(request))
        if type(key) not in KEY_TYPES:
            return await self._find(request)
        found: Stored | None = await self._lanes.join(self._group(base), request)
        return found

    def begin(self, key: Any, base: Mapping[str, Any]) -> Awaitable[Stored | None]:
        """Return a future of what :meth:`find` will return, or the coroutine where it takes one."""
        if self._lanes.free or type(key) not in KEY_TYPES:
            return self.find(key, base)
        return self._lanes.join(self._group(base), _Key(key, base))

    def _group(self, base: Mapping[str, Any]) -> bytes:
        try:
            return bson.encode(base, codec_options=self._options) if base else b""
        except ENCODING_ERRORS as error:
            raise translate(error) from error

    async def _find(self, request: _Key) -> Stored | None:
        filter = {**request.base, "_id": request.key}  # noqa: A001 - MongoDB's own word
        limit = self._max_time_ms
        found: Stored | None = await self._run(
            lambda collection: collection.find_one(filter, max_time_ms=limit)
        )
        return found

    async def _send(self, requests: Sequence[Waiting[_Key]]) -> None:
        keys = list(dict.fromkeys(each.item.key for each in requests))
        filter = {**requests[0].item.base, "_id": {"$in": keys}}  # noqa: A001 - MongoDB's own word

        async def call(collection: Any) -> list[Stored]:
            cursor = collection.find(filter, batch_size=len(keys) + 1, max_time_ms=self._max_time_ms)
            return await self._driver.to_list(cursor)

        try:
            found = await self._run(call)
        except (StorageTimeoutError, StorageUnavailableError) as error:
            fail_all(requests, error)
        except BzzError:
            # One key, or one document, that cannot be encoded or read.
            self._one_by_one(requests)
        else:
            self._hand_out(requests, found)

    def _hand_out(self, requests: Sequence[Waiting[_Key]], found: Sequence[Stored]) -> None:
        by_key = {each["_id"]: each for each in found if type(each["_id"]) in KEY_TYPES}
        missing = []
        handed: set[Any] = set()
        for each in requests:
            key = each.item.key
            if (document := by_key.get(key)) is None:
                missing.append(each)
            else:
                each.settle(self._copy(document) if key in handed else document)
                handed.add(key)
        # MongoDB may see a document where Python does not: numbers of other types are equal, texts are by the
        # collation of a collection. Such a document came and nobody here claimed it, or another text did.
        unclaimed = len(handed) < len(found)
        texts = any(type(key) is str for key in handed)
        for each in missing:
            if unclaimed or (texts and type(each.item.key) is str):
                self._one_by_one([each])
            else:
                each.settle(None)

    def _copy(self, document: Stored) -> Stored:
        # Each request owns its document. Quicker than copy.deepcopy, and exactly what a second read gives.
        return bson.decode(bson.encode(document, codec_options=self._options), codec_options=self._options)

    def _one_by_one(self, requests: Sequence[Waiting[_Key]]) -> None:
        for each in requests:
            self._lanes.start(self._alone(each))

    async def _alone(self, request: Waiting[_Key]) -> None:
        if request.answer.done():
            return
        try:
            request.settle(await self._find(request.item))
        except Exception as error:
            request.settle(error)


class InsertCoalescer:
    """Insert documents: what waits together is one ``insertMany``, and each gets its own error.

    A command of many is given a quarter of the time limit: when one of its documents has to wait for a lock,
    the others are done again one by one while they still have time.
    """

    def __init__(self, run: Run, driver: Driver, options: Options, seconds: float) -> None:
        self._run = run
        self._options = options
        self._patience = seconds / 4
        self._lanes: Lanes[bytes] = Lanes(self._send, driver, seconds)

    async def insert(self, stored: Stored) -> None:
        """Store a new document; an ``_id`` is added to it if it has none."""
        if self._lanes.free:
            await self._lanes.straight(self._insert(stored))
            return
        key = stored.setdefault("_id", ObjectId())
        try:
            raw = bson.encode({"_id": key, **stored}, codec_options=self._options)
        except ENCODING_ERRORS as error:
            raise translate(error) from error
        if len(raw) > _MAX_DOCUMENT_BYTES:
            await self._insert(stored)  # which knows how to say so
        else:
            await self._lanes.together(None, raw, len(raw))

    async def insert_many(self, documents: Sequence[Stored]) -> list[BzzError | None]:
        """Store new documents in one command; return the error of each that is not stored.

        They should be no more than go into one command (:data:`bzz.storage.lanes.MAX_COUNT`).
        """
        loop = asyncio.get_running_loop()
        results: list[Any] = [None] * len(documents)
        requests: list[Waiting[bytes]] = []
        for position, stored in enumerate(documents):
            key = stored.setdefault("_id", ObjectId())
            try:
                raw = bson.encode({"_id": key, **stored}, codec_options=self._options)
            except ENCODING_ERRORS as error:
                results[position] = translate(error)
                continue
            results[position] = loop.create_future()
            requests.append(Waiting(raw, results[position], len(raw)))
        if requests:
            await self._lanes.straight(self._send(requests))
        for position, each in enumerate(results):
            if isinstance(each, asyncio.Future):
                try:
                    results[position] = await each
                except BzzError as error:
                    results[position] = error
        return results

    async def _insert(self, stored: Any) -> None:
        await self._run(lambda collection: collection.insert_one(stored))

    async def _send(self, requests: Sequence[Waiting[bytes]]) -> None:
        documents = [RawBSONDocument(each.item) for each in requests]

        async def call(collection: Any) -> Mapping[str, Any]:
            with pymongo.timeout(self._patience):
                try:
                    await collection.insert_many(documents, ordered=False)
                except BulkWriteError as error:
                    return error.details or {}
            return {}

        try:
            details = await self._run(call)
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, ServerSelectionTimeoutError):
                fail_all(requests, error)
            else:
                self._one_by_one(requests)  # a connection broke: that says nothing of the next one
        except BzzError:
            self._one_by_one(requests)
        else:
            self._hand_out(requests, details)

    def _hand_out(self, requests: Sequence[Waiting[bytes]], details: Mapping[str, Any]) -> None:
        problems = {each["index"]: each for each in details.get("writeErrors", ())}
        # The documents are stored, but not on as many servers as was asked for: that concerns everybody.
        concern = next(iter(details.get("writeConcernErrors", ())), None)
        for index, each in enumerate(requests):
            problem = problems.get(index, concern)
            if problem is None:
                each.settle(None)
            elif is_conflict(problem):
                self._one_by_one([each])
            else:
                each.settle(translate_write(problem))

    def _one_by_one(self, requests: Sequence[Waiting[bytes]]) -> None:
        for each in requests:
            self._lanes.start(self._alone(each))

    async def _alone(self, request: Waiting[bytes]) -> None:
        if request.answer.done():
            return
        try:
            await self._insert(RawBSONDocument(request.item))
            request.settle(None)
        except DuplicateError as error:
            stored = error.fields == ("_id",) and await self._is_stored(request.item)
            request.settle(None if stored else error)
        except Exception as error:
            request.settle(error)

    async def _is_stored(self, raw: bytes) -> bool:
        # The command that failed as a whole may have stored it before.
        filter = exactly(bson.decode(raw, codec_options=self._options))  # noqa: A001 - MongoDB's own word
        return await self._run(lambda collection: collection.find_one(filter, {"_id": 1})) is not None
