"""Changes of different documents that arrive together are committed together.

A ``findAndModify`` costs the driver some 350 µs of Python, and each waits for the journal by itself. So
updates and deletions by key that wait at the same time become one short transaction: one ``find`` for what
they replace, one ``update`` and one ``delete``, one commit. Snapshot isolation makes what was read exactly
what is replaced: a document that anybody else changes in between is a write conflict, which ends the
transaction before anything is stored.

Who asks cannot tell the difference. Whatever does not go through as a whole (a conflict, a duplicate, a
filter that does not match) is done again one by one, each in a command of its own, which knows how to answer.
Only a commit whose result nobody knows is not repeated: the change may be stored already.

Source: https://www.mongodb.com/docs/manual/core/transactions/ and its page on production considerations.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pymongo
from bson.codec_options import CodecOptions
from pymongo import ReturnDocument
from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from bzz.errors import BzzError
from bzz.storage.coalesce import KEY_TYPES
from bzz.storage.driver import Driver
from bzz.storage.errors import ENCODING_ERRORS, has_label, too_late, translate
from bzz.storage.lanes import Lanes, Waiting, fail_all
from bzz.storage.limit import TimeLimit
from bzz.storage.transaction import transaction

__all__ = ["WriteGrouper"]

Stored = dict[str, Any]
# Runs call(collection) within the time limit of the store and raises errors of bzz only.
Run = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]

# A transaction is three commands: for fewer changes they are not worth it.
_FEWEST = 4
# What the server says of a collection that knows no transactions (a capped one).
_NEVER = frozenset({20, 263})
# After a transaction that failed, so many groups go one by one; twice as many after each further one.
_MOST_PAUSED = 64
# How many single commands are under way at most, and how many of them for one document. PyMongo's pool has
# room for 100, and a crowd that waits there and is cancelled can leave its lock taken for good; and of many
# commands that change one document, MongoDB spends most of its time on their conflicts.
_MOST_ALONE = 64
_MOST_OF_ONE = 8


class _Write(NamedTuple):
    """One change; without a ``command`` the document is deleted."""

    key: Any
    filter: Mapping[str, Any]
    command: Mapping[str, Any] | None


class _Found(NamedTuple):
    """The documents that a transaction read, by key; ``strangers`` if it read some under no key of these."""

    by_key: Mapping[Any, Stored]
    strangers: bool


class _ApartError(Exception):
    """The changes do not go through together; nothing is stored."""


class _Writers:
    """Who changes one document now: several alone, or one together with other documents; and who waits.

    ``coming`` are those who were told that it is their turn and did not run since.
    """

    __slots__ = ("alone", "coming", "together", "waiting")

    def __init__(self) -> None:
        self.alone = 0
        self.coming = 0
        self.together = False
        self.waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether nobody changes it or is about to."""
        return not (self.together or self.alone or self.coming)

    @property
    def may_come(self) -> bool:
        """Whether one more may change it now."""
        return not self.together and self.alone + self.coming < _MOST_OF_ONE

    @property
    def has_room(self) -> bool:
        """Whether one more may change it now without overtaking anybody."""
        return not self.waiting and self.may_come


class WriteGrouper:
    """Change documents by ``_id`` and return what each change replaced: what waits together goes together.

    At most two commands or transactions are under way, see :mod:`bzz.storage.lanes`. Changes of one document
    never share a transaction and never meet in two: while a transaction has a document, whoever else wants to
    change it waits for its end. A few single commands may change one document at the same time, as MongoDB
    puts them in order; more than that wait for their turn here.
    """

    def __init__(
        self, run: Run, collection: Any, driver: Driver, options: CodecOptions[Any], seconds: float
    ) -> None:
        self._run = run
        self._database = collection.database
        self._name = collection.name
        self._driver = driver
        self._options = options
        self._seconds = seconds
        self._lanes: Lanes[_Write] = Lanes(self._send, driver, seconds)
        self._writers: dict[Any, _Writers] = {}
        self._gate = asyncio.Semaphore(_MOST_ALONE)
        self._possible = True
        self._paused = 0
        self._pause = 1

    async def update(self, filter: Mapping[str, Any], command: Mapping[str, Any]) -> Stored | None:  # noqa: A002
        """Change the document that matches and return what it was before this very change, or None."""
        return await self._write(_Write(filter["_id"], filter, command))

    async def delete(self, filter: Mapping[str, Any]) -> Stored | None:  # noqa: A002 - MongoDB's own word
        """Delete the document that matches and return what it was, or None."""
        return await self._write(_Write(filter["_id"], filter, None))

    async def _write(self, write: _Write) -> Stored | None:
        key = write.key
        if type(key) not in KEY_TYPES or not self._possible:
            return await self._single(write)
        writers = self._writers.get(key)
        if writers is None:
            writers = self._writers[key] = _Writers()
        elif not writers.has_room:
            return await self._in_turn(write, writers)
        return await self._go(write, writers)

    async def _in_turn(self, write: _Write, writers: _Writers) -> Stored | None:
        try:
            async with TimeLimit(self._seconds):
                turn = asyncio.get_running_loop().create_future()
                writers.waiting.append(turn)
                try:
                    await turn
                finally:
                    if turn.done() and not turn.cancelled():
                        writers.coming -= 1
                        if (task := asyncio.current_task()) is not None and task.cancelling():
                            self._pass_on(write.key, writers)
                return await self._go(write, writers)
        except TimeoutError as error:
            if isinstance(error, BzzError):
                raise
            raise too_late(self._driver.sees_a_server) from error

    async def _go(self, write: _Write, writers: _Writers) -> Stored | None:
        together = not self._lanes.free and writers.is_idle and self._driver.has_transactions
        writers.together = writers.together or together
        writers.alone += not together
        try:
            if together:
                before: Stored | None = await self._lanes.together(None, write)
                return before
            return await self._lanes.straight(self._single(write))
        finally:
            if together:
                writers.together = False
            else:
                writers.alone -= 1
            self._pass_on(write.key, writers)

    def _pass_on(self, key: Any, writers: _Writers) -> None:
        while writers.waiting and writers.may_come:
            turn = writers.waiting.popleft()
            if not turn.done():
                writers.coming += 1
                turn.set_result(None)
        if writers.is_idle and not writers.waiting and self._writers.get(key) is writers:
            del self._writers[key]

    async def _single(self, write: _Write) -> Stored | None:
        def call(collection: Any) -> Awaitable[Stored | None]:
            given = write.filter
            if write.command is None:
                deletion: Awaitable[Stored | None] = collection.find_one_and_delete(given)
                return deletion
            update: Awaitable[Stored | None] = collection.find_one_and_update(
                given, write.command, return_document=ReturnDocument.BEFORE
            )
            return update

        if not self._gate.locked():
            async with self._gate:
                return await self._called(call)
        try:
            async with TimeLimit(self._seconds), self._gate:
                return await self._called(call)
        except TimeoutError as error:
            if isinstance(error, BzzError):
                raise
            raise too_late(self._driver.sees_a_server) from error

    async def _called(self, call: Callable[[Any], Awaitable[Stored | None]]) -> Stored | None:
        before: Stored | None = await self._run(call)
        return before

    # Together -----------------------------------------------------------------------------------------------

    async def _send(self, requests: Sequence[Waiting[_Write]]) -> None:
        if len(requests) < _FEWEST or self._paused:
            self._paused = max(0, self._paused - 1)
            # They keep their lane, so that more can gather meanwhile.
            await asyncio.gather(*map(self._answer_alone, requests))
            return
        try:
            found = await self._commit(requests)
        except _ApartError as error:
            self._possible = _code(error.__cause__) not in _NEVER
            self._paused = self._pause
            self._pause = min(2 * self._pause, _MOST_PAUSED)
            self._one_by_one(requests)
        except BzzError as error:
            fail_all(requests, error)
        else:
            self._pause = 1
            self._hand_out(requests, found)

    async def _commit(self, requests: Sequence[Waiting[_Write]]) -> _Found:
        """Carry out all changes whose documents are there, and return what they replace."""
        writing = True
        try:
            async with transaction(self._driver, self._seconds) as session:
                try:
                    with pymongo.timeout(self._seconds / 4):
                        found = await self._find(requests, session)
                        await self._change(
                            [each.item for each in requests if each.item.key in found.by_key], session
                        )
                except ServerSelectionTimeoutError as error:
                    raise translate(error) from error
                except (PyMongoError, *ENCODING_ERRORS) as error:
                    raise _ApartError from error
                writing = False
        except BzzError as error:
            aborted = has_label(error, "TransientTransactionError")
            if not writing and aborted and not has_label(error, "UnknownTransactionCommitResult"):
                raise _ApartError from error
            raise
        return found

    async def _find(self, requests: Sequence[Waiting[_Write]], session: Any) -> _Found:
        keys = [each.item.key for each in requests]
        reply = await self._command(
            {"find": self._name, "filter": {"_id": {"$in": keys}}, "batchSize": len(keys) + 1}, session
        )
        if reply["cursor"]["id"]:
            raise _ApartError  # they are too large for one answer
        found = reply["cursor"]["firstBatch"]
        by_key = {each["_id"]: each for each in found if type(each["_id"]) in KEY_TYPES}
        named = sum(each.item.key in by_key for each in requests)
        return _Found(by_key, strangers=named < len(found))

    async def _change(self, writes: Sequence[_Write], session: Any) -> None:
        updates = [{"q": each.filter, "u": each.command} for each in writes if each.command is not None]
        deletes = [{"q": each.filter, "limit": 1} for each in writes if each.command is None]
        for verb, statements in (("update", updates), ("delete", deletes)):
            if statements:
                reply = await self._command({verb: self._name, f"{verb}s": statements}, session)
                if reply["n"] != len(statements):
                    raise _ApartError  # one was refused, or does not match its filter; nobody says which

    async def _command(self, command: dict[str, Any], session: Any) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = await self._database.command(
            command, codec_options=self._options, session=session
        )
        return reply

    def _hand_out(self, requests: Sequence[Waiting[_Write]], found: _Found) -> None:
        for each in requests:
            before = found.by_key.get(each.item.key)
            # MongoDB may see a document where Python does not, see ReadCoalescer.
            if before is None and (found.strangers or type(each.item.key) is str):
                self._one_by_one([each])
            else:
                each.settle(before)

    def _one_by_one(self, requests: Sequence[Waiting[_Write]]) -> None:
        for each in requests:
            self._lanes.start(self._answer_alone(each))

    async def _answer_alone(self, request: Waiting[_Write]) -> None:
        if request.answer.done():
            return
        try:
            request.settle(await self._single(request.item))
        except Exception as error:
            request.settle(error)


def _code(error: BaseException | None) -> int | None:
    return error.code if isinstance(error, OperationFailure) else None
