"""Lists that are asked for at the same time travel together.

Who asks for a list while nobody asks for one like it goes straight out. Who asks meanwhile waits until that
is back, as a document may have changed since it was sent; then one command answers all who wait (see
:mod:`bzz.storage.lanes`). The same list is read once for all who want it. Different ones are the parts of one
aggregation, each in a ``$unionWith`` of its own, gathered into one document so that their order is certain:
https://www.mongodb.com/docs/manual/reference/operator/aggregation/unionWith/

Only lists of one shape travel together, the same fields, operators and order with other values: so one that
an index serves does not wait for one that looks at every document. A shape that together took the server too
long, or that an aggregation cannot ask for, travels alone for a while.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from bzz.errors import BzzError, StorageUnavailableError
from bzz.storage.driver import Driver
from bzz.storage.errors import ENCODING_ERRORS, translate
from bzz.storage.lanes import Lanes, Waiting, fail_all

__all__ = ["Found", "ListGatherer", "Question"]

Options = CodecOptions[dict[str, Any]]
# Runs call(collection) within the time limit of the store and raises errors of bzz only.
Run = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]

# Seconds after which those who wait do not wait any longer for a command that is under way.
SLOW_LIST = 0.1
# How many lists one command asks for at most. One command at a time carries more than two would, and most of
# its cost is the same whatever is in it.
TOGETHER = 32
# Milliseconds that the server may take for lists together, and for each of them besides. It reads one after
# another: what takes longer is sooner back as so many commands.
PATIENCE_MS = 30
PATIENCE_MS_EACH = 2
# Seconds for which a shape that should not have been together travels alone, and how many such are known.
ALONE_SECONDS = 30.0
MAX_ALONE = 1000
# The server walks over what a list skips.
MAX_SKIP = 1000
# What an aggregation does not take in a part, or not in the same words as a find.
_ONLY_FIND = (b"$text", b"$where", b"$near", b"$nearSphere", b"$meta", b"$expr")

_length = struct.Struct("<i").unpack_from


class Question(NamedTuple):
    """What is asked of a collection: ``limit`` documents after the first ``skip`` that match, in order.

    ``projection`` says which fields are read, as MongoDB wants it; None: all.
    """

    filter: Mapping[str, Any]
    sort: Sequence[tuple[str, Any]]
    skip: int
    limit: int
    projection: Mapping[str, int] | None = None


class Found(list[bytes]):
    """Documents as BSON, which several may hold.

    ``memo`` is where one of them leaves what the others need as well, under a key of its own.
    """

    __slots__ = ("memo",)

    def __init__(self, documents: Sequence[bytes] = ()) -> None:
        super().__init__(documents)
        self.memo: dict[Any, Any] = {}


class _Raw(RawBSONDocument):
    """A document that is not decoded, and passes for a dict.

    PyMongo (4.20) looks into what the server says of an error only if that is a dict. Without it, it takes a
    server that has recovered for one that has not, and may not ask it for ten seconds.
    """

    __class__ = property(lambda self: dict)


class ListGatherer:
    """Ask for lists of one collection, with one read preference and no sessions.

    ``run(call)`` runs ``call(collection)`` within ``seconds`` and raises errors of bzz only.
    """

    def __init__(self, run: Run, collection: Any, driver: Driver, max_time_ms: int, seconds: float) -> None:
        self._run = run
        self._options: Options = collection.codec_options
        # Raw documents cost the driver less than decoded ones, and what they look like may be known.
        raw = self._options.with_options(document_class=_Raw)
        self._collection = collection.with_options(codec_options=raw)
        self._driver = driver
        self._max_time_ms = max_time_ms
        self._seconds = seconds
        self._lanes: dict[Hashable, Lanes[tuple[bytes, Question]]] = {}
        self._alone: dict[Hashable, float] = {}

    def begin(self, question: Question) -> Awaitable[Found]:
        """Return a future of the documents that a question asks for, or a coroutine where it takes one."""
        try:
            key = bson.encode(question._asdict(), codec_options=self._options)
        except ENCODING_ERRORS as error:
            raise translate(error) from error
        shape = self._shape(question, key)
        lanes = self._lanes.get(shape)
        if lanes is None or lanes.free:
            return self._straight(shape, key, question)
        return lanes.join(None, (key, question))

    async def _straight(self, shape: Hashable, key: bytes, question: Question) -> Found:
        lanes = self._lanes.get(shape)
        if lanes is None:
            lanes = self._lanes[shape] = Lanes(
                partial(self._send, shape),
                self._driver,
                self._seconds,
                slow=SLOW_LIST,
                max_count=TOGETHER,
                under_way=1,
                on_idle=partial(self._forget, shape),
            )
        if lanes.free:
            return await lanes.straight(self._find(question))
        found: Found = await lanes.join(None, (key, question))  # others came first after all
        return found

    def _forget(self, shape: Hashable) -> None:
        self._lanes.pop(shape, None)

    def _shape(self, question: Question, key: bytes) -> Hashable:
        """Return what the questions have in common that may travel with this one: itself, if none may."""
        if question.skip > MAX_SKIP or any(each in key for each in _ONLY_FIND):
            return key
        if self._driver.is_motor:
            return key  # its commands have the time limit of the call, and no other
        if question.projection is not None:
            return key  # after a projection, $group has been seen to push whole documents (MongoDB 6.0.5)
        shape = tuple(question.sort), _shape_of(question.filter)
        if self._alone:
            ends = self._alone.get(shape)
            if ends is not None:
                if ends > asyncio.get_running_loop().time():
                    return key
                del self._alone[shape]
        return shape

    async def _find(self, question: Question) -> Found:
        async def call(_collection: Any) -> list[Any]:
            cursor = self._collection.find(
                question.filter,
                question.projection,
                sort=question.sort or None,
                skip=question.skip,
                limit=question.limit,
                batch_size=question.limit,
                max_time_ms=self._max_time_ms,
            )
            return await self._driver.to_list(cursor, question.limit)

        return Found([bytes(each.raw) for each in await self._run(call)])

    async def _send(self, shape: Hashable, requests: Sequence[Waiting[tuple[bytes, Question]]]) -> None:
        asking: dict[bytes, list[Waiting[Any]]] = {}
        for each in requests:
            asking.setdefault(each.item[0], []).append(each)
        groups = list(asking.values())
        if len(groups) == 1:
            await self._answer(groups[0])
            return
        try:
            found = await self._find_together([each[0].item[1] for each in groups])
        except StorageUnavailableError as error:
            fail_all(requests, error)
        except BzzError:
            self._part(shape)
            await asyncio.gather(*map(self._answer, groups))
        else:
            for group, documents in zip(groups, found, strict=True):
                for each in group:
                    each.settle(documents)

    def _part(self, shape: Hashable) -> None:
        if len(self._alone) >= MAX_ALONE:
            self._alone.clear()
        self._alone[shape] = asyncio.get_running_loop().time() + ALONE_SECONDS

    async def _answer(self, requests: Sequence[Waiting[tuple[bytes, Question]]]) -> None:
        """Answer who asks the same."""
        try:
            found = await self._find(requests[0].item[1])
        except BzzError as error:
            fail_all(requests, error)
        else:
            for each in requests:
                each.settle(found)

    async def _find_together(self, questions: Sequence[Question]) -> list[Found]:
        first, *others = [_stages(number, each) for number, each in enumerate(questions)]
        patience = PATIENCE_MS + PATIENCE_MS_EACH * len(questions)
        name = self._collection.name
        pipeline = [*first, *({"$unionWith": {"coll": name, "pipeline": each}} for each in others)]

        async def call(_collection: Any) -> list[Any]:
            documents: list[Any] = await self._driver.aggregate(
                self._collection, pipeline, maxTimeMS=min(patience, self._max_time_ms)
            )
            return documents

        found = [Found() for _ in questions]
        for each in await self._run(call):
            number, documents = _gathered(bytes(each.raw))  # or each would keep all of it
            found[number].extend(documents)
        return found


def _shape_of(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple([(name, _shape_of(each)) for name, each in value.items()])
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return tuple([_shape_of(each) for each in value])
    return None


def _stages(number: int, question: Question) -> list[dict[str, Any]]:
    stages: list[dict[str, Any]] = [{"$match": question.filter}]
    if question.sort:
        stages.append({"$sort": dict(question.sort)})
    if question.skip:
        stages.append({"$skip": question.skip})
    stages.append({"$limit": question.limit})
    # $push keeps the order in which documents arrive, while that of a union is not promised.
    stages.append({"$group": {"_id": {"$literal": number}, "d": {"$push": "$$ROOT"}}})
    return stages


# {"_id": int32, "d": [document, …]} as BSON (https://bsonspec.org/spec.html): the number is at 9, after the
# size, a type and "_id\0"; the array at 16, after a type and "d\0", its first element 4 bytes later.
_NUMBER, _ARRAY, _FIRST = 9, 16, 20


def _gathered(raw: bytes) -> tuple[int, list[bytes]]:
    """Return the number of a question and its documents, without decoding them."""
    found: list[bytes] = []
    position, end = _FIRST, _ARRAY + _length(raw, _ARRAY)[0] - 1
    while position < end:
        # A type, the index as text, a zero.
        position += 2 + len(str(len(found)))
        size = _length(raw, position)[0]
        found.append(raw[position : position + size])
        position += size
    return _length(raw, _NUMBER)[0], found
