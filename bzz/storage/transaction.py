"""Several writes as one: MongoDB transactions with the retries that MongoDB asks its drivers for.

Source: https://www.mongodb.com/docs/manual/core/transactions-in-applications/ (the two error labels).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pymongo
from pymongo.errors import PyMongoError

from bzz.errors import BzzError, StorageError, StorageTimeoutError, TransactionsUnsupportedError
from bzz.storage.driver import Driver
from bzz.storage.errors import has_label, too_late, translate
from bzz.storage.limit import TimeLimit

__all__ = ["run_in_transaction", "transaction"]

T = TypeVar("T")

# Seconds for rolling back when the time of the transaction itself is over. Many: nobody waits for it, and
# without it the locks stay for a minute and a half.
_ROLLBACK_SECONDS = 10.0
_rollbacks: set[asyncio.Task[None]] = set()


async def run_in_transaction(
    driver: Driver, callback: Callable[[Any], Awaitable[T]], deadline_seconds: float
) -> T:
    """Run ``callback(session)`` in a transaction, commit, and return what it returned.

    The callback runs again from its start when another writer got in its way, so what it does besides
    MongoDB must bear repetition. Nothing is stored when it raises; its error comes out unchanged. All of it
    ends within ``deadline_seconds``: then the last conflict with another writer is raised, or
    :class:`~bzz.errors.StorageTimeoutError`. If time runs out in the middle of the commit, it is not known
    whether it took place. A standalone server is a :class:`~bzz.errors.TransactionsUnsupportedError`.
    """
    ends = time.monotonic() + deadline_seconds
    conflict: BzzError | PyMongoError | None = None
    pause = 0.002
    while True:
        try:
            async with transaction(driver, ends - time.monotonic()) as session:
                return await callback(session)
        except (BzzError, PyMongoError) as error:
            if conflict is not None and isinstance(error, StorageTimeoutError) and time.monotonic() >= ends:
                raise _named(conflict) from error
            if not has_label(error, "TransientTransactionError"):
                raise
            conflict = error
        jitter = random.uniform(0.5, 1) * pause  # noqa: S311 - no secret
        if time.monotonic() + jitter >= ends:
            raise _named(conflict)
        await asyncio.sleep(jitter)
        pause = min(0.1, 2 * pause)


def _named(last: BzzError | PyMongoError) -> BzzError | PyMongoError:
    """Return why there is no time to start over: MongoDB also asks for that where nobody else wrote."""
    return StorageTimeoutError("The transaction did not end in time.") if type(last) is StorageError else last


@asynccontextmanager
async def transaction(driver: Driver, deadline_seconds: float) -> AsyncIterator[Any]:
    """Give a session in a transaction: committed at the end of the block, rolled back if it raises.

    The block itself is not run again; :func:`run_in_transaction` does that. A commit whose result is not
    known is repeated, which MongoDB makes safe.
    """
    ends = time.monotonic() + deadline_seconds
    limit = TimeLimit(deadline_seconds, driver.sees_none)
    try:
        async with limit:
            await _require_transactions(driver, deadline_seconds)
            session = await driver.start_session()
            in_doubt = False
            try:
                await driver.start_transaction(session)
                yield session
                in_doubt = True
                await _commit(session, ends)
                in_doubt = False
            finally:
                await _give_back(driver, session, in_doubt, ends)
    except TimeoutError as error:
        if not limit.expired:
            raise
        raise too_late(driver.sees_a_server, "The transaction did not end in time.") from error


async def _require_transactions(driver: Driver, seconds: float) -> None:
    try:
        with pymongo.timeout(max(0.001, seconds)):
            supported = await driver.supports_transactions()
    except PyMongoError as error:
        raise translate(error) from error
    if not supported:
        raise TransactionsUnsupportedError(
            "This MongoDB server has no transactions: it must run as a replica set (one member is enough)."
        )


async def _commit(session: Any, ends: float) -> None:
    while True:
        try:
            with pymongo.timeout(max(0.001, ends - time.monotonic())):
                await session.commit_transaction()
        except PyMongoError as error:
            unknown = error.has_error_label("UnknownTransactionCommitResult")
            if unknown and time.monotonic() < ends - 0.01:
                await asyncio.sleep(0.005)
                continue
            raise translate(error) from error
        else:
            return


async def _give_back(driver: Driver, session: Any, in_doubt: bool, ends: float) -> None:
    if not in_doubt and not session.in_transaction:
        await driver.end_session(session)  # committed: there is nothing to tell the server
        return
    # A rollback must reach the server although the caller was cancelled or its time is over: locks would
    # stay for a minute. So it has a task, a context (with no deadline in it) and a bound of its own, and the
    # caller waits for it only as long as it has time.
    task = asyncio.create_task(_end(driver, session, in_doubt), context=contextvars.Context())
    _rollbacks.add(task)
    task.add_done_callback(_rollbacks.discard)
    await asyncio.wait({task}, timeout=max(0.0, ends - time.monotonic()))


async def _end(driver: Driver, session: Any, in_doubt: bool) -> None:
    # Out of reach: the server rolls back by itself when the time of a transaction is over.
    with pymongo.timeout(_ROLLBACK_SECONDS), contextlib.suppress(PyMongoError):
        if in_doubt:
            # A driver does not abort what it has begun to commit; if the commit never arrived, this does.
            await driver.kill_session(session)
        await driver.end_session(session)
