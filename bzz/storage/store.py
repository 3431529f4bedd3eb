"""The documents of one model in MongoDB, as MongoDB keeps them.

Every call ends within the time limit of the store, whatever happens to the server, and every command tells
the server that limit (``maxTimeMS``). What goes wrong comes out as one of :mod:`bzz.errors`.
"""

# ruff: noqa: A002 - "filter" is MongoDB's own word for it
from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeVar

import bson
import pymongo
from mongoengine import connection as registry
from mongoengine.document import InvalidCollectionError
from mongoengine.errors import MongoEngineException
from pymongo import ReturnDocument
from pymongo.errors import OperationFailure, PyMongoError

from bzz.errors import DuplicateError, StorageError
from bzz.storage import preparation
from bzz.storage.coalesce import InsertCoalescer, ReadCoalescer
from bzz.storage.connection import client_for, settings_of
from bzz.storage.driver import Driver
from bzz.storage.errors import ENCODING_ERRORS, is_transient, too_late, translate
from bzz.storage.gather import Found, ListGatherer, Question
from bzz.storage.group import WriteGrouper
from bzz.storage.guard import exactly
from bzz.storage.limit import TimeLimit
from bzz.storage.transaction import run_in_transaction, transaction

__all__ = ["Store", "Stored", "exactly"]

Stored = dict[str, Any]
Filter = Mapping[str, Any]
T = TypeVar("T")

_UNLIMITED = nullcontext()


class _Slot(NamedTuple):
    """What the last call used; good for the next one while none of it has changed."""

    loop: asyncio.AbstractEventLoop
    settings: dict[str, Any]
    driver: Driver
    collection: Any
    reads: ReadCoalescer
    lists: ListGatherer
    inserts: InsertCoalescer
    writes: WriteGrouper
    preparing: asyncio.Lock


class Store:
    """Read and write the documents of ``model``.

    The collection, the database and all options are those that mongoengine uses for the model; they are
    taken when the store is made, so that a later ``switch_db`` in some other thread changes nothing here.
    ``client`` moves the bytes in place of the client derived from ``mongoengine.connect()``; the alias of the
    model must be connected all the same, it names the database and makes the indexes. ``timeout``: seconds
    that one call may take, all its retries included.

    A filter goes to MongoDB as it is: build it from checked values only.
    """

    def __init__(self, model: Any, *, client: Any = None, timeout: float = 5.0) -> None:
        name = model._get_collection_name()
        if not name:
            raise TypeError(f"{model.__name__} is abstract: it has no collection")
        if timeout <= 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout}")
        self.model = model
        self.collection_name: str = name
        self.alias: str = model._meta.get("db_alias", registry.DEFAULT_CONNECTION_NAME)
        self.timeout = timeout
        self._client = client
        self._slot: _Slot | None = None
        # A time series knows no unique key, so what may be stored already cannot be recognised there.
        self._may_gather = not model._meta.get("timeseries")
        # The driver's own limit comes first, because its error says more than being cut off. Waiting for a
        # server it looks at the clock every half second only.
        self._driver_timeout = timeout - min(0.6, timeout * 0.2)
        self._max_time_ms = max(1, int(self._driver_timeout * 1000))

    def __repr__(self) -> str:
        return f"<Store of {self.model.__name__}: {self.collection_name}>"

    # Reading -----------------------------------------------------------------------------------------------

    async def find_one(self, filter: Filter, *, session: Any = None, projection: Any = None) -> Stored | None:
        """The document that matches, or None."""
        if session is None and projection is None and _names_a_key(filter):
            rest = {name: value for name, value in filter.items() if name != "_id"}
            return await self._current().reads.find(filter["_id"], rest)

        async def call(collection: Any) -> Stored | None:
            found: Stored | None = await collection.find_one(
                filter, projection, session=session, max_time_ms=self._max_time_ms
            )
            return found

        return await self._run(call, session, reads=True)

    def begin_find(self, filter: Filter) -> Awaitable[Stored | None]:
        """Find the document under the ``_id`` that ``filter`` names: a future, or a coroutine to be awaited.

        For who need not be a task to wait for what others fetch.
        """
        base = {name: value for name, value in filter.items() if name != "_id"}
        return self._current().reads.begin(filter["_id"], base)

    async def find_by_id(self, key: Any, base_filter: Filter | None = None) -> Stored | None:
        """The document whose ``_id`` is ``key``, if it matches ``base_filter`` too; None otherwise."""
        return await self._current().reads.find(key, base_filter or {})

    async def find(
        self,
        filter: Filter,
        *,
        limit: int,
        sort: Sequence[tuple[str, Any]] | None = None,
        skip: int = 0,
        session: Any = None,
        projection: Any = None,
    ) -> list[Stored]:
        """The documents that match, in order: at most ``limit``, which is at least 1."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")

        async def call(collection: Any) -> list[Stored]:
            cursor = collection.find(
                filter,
                projection,
                sort=sort,
                skip=skip,
                limit=limit,
                batch_size=limit,
                session=session,
                max_time_ms=self._max_time_ms,
            )
            return await self.driver().to_list(cursor, limit)

        return await self._run(call, session, reads=True)

    def find_raw(self, question: Question) -> Awaitable[Found]:
        """Return a future of the documents that a question asks for, as BSON, or a coroutine of them.

        See :mod:`bzz.storage.gather` for how they travel.
        """
        if question.limit < 1:
            raise ValueError(f"limit is at least 1, not {question.limit}")
        return self._current().lists.begin(question)

    def decode(self, found: Sequence[bytes]) -> list[Stored]:
        """Return documents as :meth:`find` would have; raises StorageError if one of them cannot be read."""
        try:
            return bson.decode_all(b"".join(found), self._current().collection.codec_options)
        except ENCODING_ERRORS as error:
            raise translate(error) from error

    async def count(self, filter: Filter, *, session: Any = None) -> int:
        """How many documents match, counted one by one."""

        async def call(collection: Any) -> int:
            return int(await collection.count_documents(filter, session=session))

        return await self._run(call, session)

    async def ping(self) -> None:
        """Return when MongoDB has answered."""
        await self._run(lambda collection: collection.database.command("ping"), None)

    # Writing -----------------------------------------------------------------------------------------------

    async def insert(self, stored: Stored, *, session: Any = None) -> None:
        """Store a new document; an ``_id`` is added to it if it has none."""
        await self._ready(session)
        if session is None and self._may_gather:
            await self._current().inserts.insert(stored)
        else:
            await self._run(lambda collection: collection.insert_one(stored, session=session), session)

    async def update(self, filter: Filter, command: Any, *, session: Any = None) -> Stored | None:
        """Change the document that matches and return what it was before this very change.

        ``command`` is an update document or pipeline, or a whole document to replace it. None: nothing
        matched.
        """
        await self._ready(session)
        sets = isinstance(command, Mapping) and next(iter(command), "").startswith("$")
        if session is None and sets and self._may_gather and _names_only_a_key(filter):
            return await self._current().writes.update(filter, command)
        replaces = isinstance(command, Mapping) and not sets

        async def call(collection: Any) -> Stored | None:
            write = collection.find_one_and_replace if replaces else collection.find_one_and_update
            before: Stored | None = await write(
                filter, command, return_document=ReturnDocument.BEFORE, session=session
            )
            return before

        return await self._run(call, session)

    async def delete(self, filter: Filter, *, session: Any = None) -> Stored | None:
        """Delete the document that matches and return what it was; None: nothing matched."""
        if session is None and self._may_gather and _names_only_a_key(filter):
            return await self._current().writes.delete(filter)

        async def call(collection: Any) -> Stored | None:
            before: Stored | None = await collection.find_one_and_delete(filter, session=session)
            return before

        return await self._run(call, session)

    @staticmethod
    def exactly(stored: Stored) -> dict[str, Any]:
        """See :func:`exactly`."""
        return exactly(stored)

    # Transactions ------------------------------------------------------------------------------------------

    def transaction(self, deadline_seconds: float) -> AbstractAsyncContextManager[Any]:
        """Give a session in a transaction, see :func:`bzz.storage.transaction.transaction`."""
        return transaction(self.driver(), deadline_seconds)

    async def run_in_transaction(self, callback: Callable[[Any], Awaitable[T]], deadline_seconds: float) -> T:
        """Run ``callback(session)`` as one; see :func:`bzz.storage.transaction.run_in_transaction`."""
        return await run_in_transaction(self.driver(), callback, deadline_seconds)

    # How a call runs ---------------------------------------------------------------------------------------

    @property
    def is_prepared(self) -> bool:
        """Whether :meth:`prepare` has nothing left to do."""
        return preparation.is_prepared(self.model)

    async def prepare(self) -> None:
        """Wait until the collection and the indexes of the model exist, as mongoengine makes them.

        Done once in a process; free afterwards. After a failure the next call tries again. Index builds that
        take longer than the time limit go on, while calls end with
        :class:`~bzz.errors.StorageTimeoutError`.
        """
        if preparation.is_prepared(self.model):
            return
        # One after another: hundreds of first requests would be as many commands that wait for the driver to
        # find its server. Cancelled all at once, when a loop ends, they keep it for ever: the driver loses a
        # cancellation together with the lock that the others wait for.
        turn = self._current().preparing
        try:
            async with asyncio.timeout(self.timeout):
                await turn.acquire()
        except TimeoutError as error:
            raise too_late(self.driver().sees_a_server) from error
        try:
            await self._prepare()
        finally:
            turn.release()

    async def _prepare(self) -> None:
        if preparation.is_prepared(self.model):
            return
        await self.ping()  # while nobody answers, there is no sense in a thread that waits for it
        try:
            async with asyncio.timeout(self.timeout):
                await preparation.prepare(self.model)
        except (MongoEngineException, InvalidCollectionError) as error:
            raise StorageError(
                f"mongoengine cannot prepare the collection {self.collection_name!r}."
            ) from error
        except (PyMongoError, registry.ConnectionFailure, TimeoutError) as error:
            meaning = translate(error)
            if isinstance(meaning, DuplicateError):
                paths = ", ".join(meaning.fields)
                meaning = StorageError(
                    f"A unique index cannot be made, there are duplicates already ({paths})."
                )
            raise meaning from error

    def driver(self) -> Driver:
        """The driver that the running loop uses for this store."""
        return self._current().driver

    async def _ready(self, session: Any) -> None:
        # Inside a transaction it would wait for the locks of that very transaction.
        if session is None and not preparation.is_prepared(self.model):
            await self.prepare()

    def _current(self) -> _Slot:
        slot = self._slot
        if (
            slot is None
            or slot.settings is not registry._connection_settings.get(self.alias)
            or slot.loop is not asyncio.get_running_loop()
            or slot.driver.closed
        ):
            settings = settings_of(self.alias)
            driver = client_for(self.alias, self._client)
            collection = driver.collection(settings["name"], self.collection_name)
            how = (driver, collection.codec_options, self.timeout)
            slot = _Slot(
                asyncio.get_running_loop(),
                settings,
                driver,
                collection,
                ReadCoalescer(partial(self._run, reads=True), self._max_time_ms, *how),
                ListGatherer(
                    partial(self._run, reads=True), collection, driver, self._max_time_ms, self.timeout
                ),
                InsertCoalescer(self._run, *how),
                WriteGrouper(self._run, collection, *how),
                asyncio.Lock(),
            )
            self._slot = slot
        return slot

    async def _run(
        self, call: Callable[[Any], Awaitable[T]], session: Any = None, *, reads: bool = False
    ) -> T:
        current = self._current()
        collection = current.collection
        try:
            async with TimeLimit(self.timeout, current.driver.sees_none):
                # The driver's own limit costs it 30 µs. A read carries max_time_ms itself and can be cut off,
                # unless it runs in Motor's threads; but waiting for a server is better ended by the driver.
                own = not reads or current.driver.is_motor or not current.driver.sees_a_server
                with pymongo.timeout(self._driver_timeout) if own else _UNLIMITED:
                    try:
                        return await call(collection)
                    except OperationFailure as error:
                        if session is not None or not is_transient(error):
                            raise
                    return await self._again(call, collection)
        except TimeoutError as error:
            raise too_late(current.driver.sees_a_server) from error
        except (PyMongoError, *ENCODING_ERRORS) as error:
            raise translate(error) from error

    async def _again(self, call: Callable[[Any], Awaitable[T]], collection: Any) -> T:
        # Other writers won, nothing was written: try on, less and less often, for as long as there is time.
        ends = time.monotonic() + self._driver_timeout
        pause = 0.001
        while True:
            await asyncio.sleep(random.uniform(0.5, 1) * pause)  # noqa: S311 - jitter, no secret
            pause = min(0.1, 2 * pause)
            try:
                return await call(collection)
            except OperationFailure as error:
                if not is_transient(error) or time.monotonic() + pause >= ends:
                    raise


def _names_a_key(filter: Filter) -> bool:
    key = filter.get("_id")
    return key is not None and not isinstance(key, Mapping)


def _names_only_a_key(filter: Filter) -> bool:
    # What is guarded by an expression often fails to match, and would then hold up those that it goes with.
    return _names_a_key(filter) and "$expr" not in filter and "$and" not in filter
