"""Operations that are stored together, and told of when that is certain."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bzz.delivery.commit import deferring
from bzz.resource.operation import Operation, Outcome
from bzz.resource.resource import Resource
from bzz.storage import Store

__all__ = ["Unit", "can_join"]

T = TypeVar("T")


def can_join(resource: Resource) -> bool:
    """Tell whether MongoDB writes to the collection of a resource in a transaction at all."""
    meta = resource.model._meta  # type: ignore[attr-defined]
    return not (meta.get("max_documents") or meta.get("max_size") or meta.get("timeseries"))


class Unit:
    """The operations of one piece of work.

    The work runs again from its start when another writer got in the way of its transaction. Each operation
    is announced once all the same, and begins each time with the data that its prerun left. ``session`` is
    that of the present attempt, None outside of a transaction.
    """

    def __init__(self) -> None:
        self.session: Any = None
        self._started: list[tuple[Resource, Operation, Any]] = []
        self._outcomes: list[Outcome] = []

    async def run(self, resource: Resource, operation: Operation) -> Outcome:
        """Run an operation as a part of the work, up to what is told of it; that comes after the commit."""
        position = len(self._outcomes)
        if position < len(self._started):
            _resource, operation, data = self._started[position]
            operation.data = copy.deepcopy(data)
        else:
            operation.session = self.session
            self._started.append((resource, operation, None))
            await resource.start(operation)
            self._started[position] = resource, operation, copy.deepcopy(operation.data)
        operation.session = self.session
        outcome = await resource.perform(operation)
        self._outcomes.append(outcome)
        return outcome

    async def transact(self, store: Store, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Do the work in one transaction, commit, and return what the work returned."""

        async def attempt(session: Any) -> T:
            self.session = session
            self._outcomes.clear()
            with deferring() as sent:
                result = await work()
                await sent.flush()
            return result

        with deferring() as deferred:
            try:
                result = await store.run_in_transaction(attempt, seconds)
            except BaseException:
                await self._fail()
                raise
            await deferred.flush()
        return result

    async def alone(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work without a transaction; each write is on its own."""
        self.session = None
        self._outcomes.clear()
        try:
            result = await work()
        except BaseException:
            await self._fail()
            raise
        return result

    async def complete(self) -> None:
        """Tell of all that was done; everybody is told, then the first error is raised."""
        first: Exception | None = None
        for (resource, operation, _data), outcome in zip(self._started, self._outcomes, strict=True):
            try:
                await resource.complete(operation, outcome)
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    async def _fail(self) -> None:
        for resource, operation, _data in self._started:
            await resource.fail(operation)
