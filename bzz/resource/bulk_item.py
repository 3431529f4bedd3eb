"""One item of a bulk: an operation like any other, whose write goes out together with those of others."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from typing import Any

from bzz.errors import ExitEarly
from bzz.model import Stored, Update
from bzz.resource.operation import Operation, Outcome
from bzz.resource.resource import Resource
from bzz.storage.errors import has_label

__all__ = ["Breath", "Item"]

logger = logging.getLogger("bzz.bulk")

# Seconds that a bulk may have the event loop for itself.
_BREATH = 0.005


class Breath:
    """Between two items, ``await breath()`` lets everybody else have the event loop now and then."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def __call__(self) -> None:
        if time.monotonic() - self._since > _BREATH:
            await asyncio.sleep(0)
            self._since = time.monotonic()


class Item:
    """An operation of a bulk, and what became of it.

    ``outcome`` is what it did, or would do, ``update`` what an update has to write for that; ``stored`` says
    that it is done. ``error`` is why it is not; with ``stored``, what a receiver complained of afterwards.
    ``index`` is its position, from 0. ``found`` is the document that is changed or deleted, as last read.
    """

    __slots__ = (
        "_data",
        "error",
        "found",
        "index",
        "operation",
        "outcome",
        "resource",
        "started",
        "stored",
        "update",
    )

    def __init__(
        self, index: int, resource: Resource, operation: Operation, found: Stored | None = None
    ) -> None:
        self.index = index
        self.resource = resource
        self.operation = operation
        self.found = found
        self.started = False
        self.stored = False
        self.outcome: Outcome | None = None
        self.update = Update()
        self.error: Exception | None = None
        self._data: Any = None

    async def plan(self, scope: Any = None) -> bool:
        """Do the work up to the write; tell whether that went well. See :meth:`Resource.plan`."""
        try:
            await self.start()
            self.outcome, self.update = await self.resource.plan(self.operation, self.found, scope)
        except Exception as error:
            await self.fail(error)
            return False
        return True

    async def perform(self, *, raising: type[Exception] | tuple[()] = ()) -> bool:
        """Do all the work, one command after another; tell whether that went well.

        What makes a transaction start over is raised, and what is ``raising``: it is tried again.
        """
        try:
            await self.start()
            self.outcome = await self.resource.perform(self.operation)
        except Exception as error:
            if isinstance(error, raising) or has_label(error, "TransientTransactionError"):
                raise
            await self.fail(error)
            return False
        return True

    async def start(self) -> None:
        """Announce the operation, once; for a further attempt, give it its data back as it was then."""
        if self.started:
            self.operation.data = copy.deepcopy(self._data)
            return
        self.started = True
        if self.found is not None:
            # One patch is meant for many documents, and a receiver may change it for one of them.
            self.operation.data = copy.deepcopy(self.operation.data)
        await self.resource.start(self.operation)
        if self.found is not None or self.operation.session is not None:
            self._data = copy.deepcopy(self.operation.data)

    async def fail(self, error: Exception) -> None:
        """Note why the operation is not done, and tell of it if it had been announced."""
        self.error, self.outcome = error, None
        try:
            raise error  # noqa: TRY301 - who is told sees it as the exception that is being handled
        except Exception:
            await self.tell_failure()

    async def tell_failure(self) -> None:
        """Tell that the operation failed, with the exception that is being handled."""
        if self.started:
            try:
                await self.resource.fail(self.operation)
            except Exception:
                logger.exception("a receiver of failure or postrun raised")

    async def complete(self) -> None:
        """Tell of what is done; whatever receivers say, it stays."""
        assert self.outcome is not None
        self.stored = True
        try:
            await self.resource.complete(self.operation, self.outcome)
        except ExitEarly:
            pass  # there is no batch to end
        except Exception as error:
            logger.exception("a receiver complained of what %r did", self.operation.action)
            self.error = error
