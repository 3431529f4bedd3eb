"""Several writes as one: MongoDB transactions with the retries that MongoDB asks its drivers for.

Source: https://www.mongodb.com/docs/manual/core/transactions-in-applications/ (the two error labels).
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pymongo
from pymongo.errors import PyMongoError

from bzz.errors import BzzError, StorageTimeoutError, TransactionsUnsupportedError
from bzz.storage.driver import Driver
from bzz.storage.errors import has_label, translate

__all__ = ["run_in_transaction", "transaction"]

T = TypeVar("T")

# Seconds for rolling back when the time of the transaction itself is over.
_ROLLBACK_SECONDS = 2.0
_rollbacks: set[asyncio.Task[None]] = set()


async def run_in_transaction(
    driver: Driver, callback: Callable[[Any], Awaitable[T]], deadline_seconds: float
) -> T:
    """Run ``callback(session)`` in a transaction, commit, and return what it returned.

    The callback runs again from its start when another writer got in its way, so what it does besides
    MongoDB must bear repetition. Nothing is stored when it raises; its error comes out unchanged. All of it
    ends within ``deadline_seconds``: then the last conflict is raised, or
    :class:`~bzz.errors.StorageTimeoutError`. If time runs out in the middle of the commit, it is not known
    whether it took place. A standalone server is a :class:`~bzz.errors.TransactionsUnsupportedError`.
    """
    ends = time.monotonic() + deadline_seconds
    attempt = 0
    while True:
        try:
            async with transaction(driver, ends - time.monotonic()) as session:
                return await callback(session)
        except (BzzError, PyMongoError) as error:
            pause = random.uniform(0.5, 1) * min(0.1, 0.002 * 2**attempt)  # noqa: S311 - jitter, no secret
            late = time.monotonic() + pause >= ends
            if late or not has_label(error, "TransientTransactionError"):
                raise
        attempt += 1
        await asyncio.sleep(pause)


@asynccontextmanager
async def transaction(driver: Driver, deadline_seconds: float) -> AsyncIterator[Any]:
    """Give a session in a transaction: committed at the end of the block, rolled back if it raises.

    The block itself is not run again; :func:`run_in_transaction` does that. A commit whose result is not
    known is repeated, which MongoDB makes safe.
    """
    ends = time.monotonic() + deadline_seconds
    limit = asyncio.timeout(deadline_seconds)
    try:
        async with limit:
            await _require_transactions(driver, deadline_seconds)
            session = await driver.start_session()
            try:
                await driver.start_transaction(session)
                yield session
                await _commit(session, ends)
            finally:
                await _give_back(driver, session)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StorageTimeoutError("The transaction did not end in time.") from error


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


async def _give_back(driver: Driver, session: Any) -> None:
    # A rollback must reach the server although the caller was cancelled or its time is over: locks would
    # stay for a minute. So it has a task, a context (with no deadline in it) and a bound of its own.
    task = asyncio.create_task(_end(driver, session), context=contextvars.Context())
    _rollbacks.add(task)
    task.add_done_callback(_rollbacks.discard)
    await asyncio.shield(task)


async def _end(driver: Driver, session: Any) -> None:
    with pymongo.timeout(_ROLLBACK_SECONDS):
        try:
            await driver.end_session(session)
        except PyMongoError:
            # Out of reach: the server rolls back by itself when the session's connection is gone.
            return
