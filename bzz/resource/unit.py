"""Operations that are stored together, and told of when that is certain."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from bzz.delivery.commit import deferring
from bzz.resource.operation import Operation, Outcome
from bzz.resource.resource import Resource
from bzz.storage import Store

__all__ = ["Unit", "can_join"]

T = TypeVar("T")

# What mongoengine calls capped and time series collections, which MongoDB does not write in a transaction.
_UNJOINABLE = ("max_documents", "max_size", "timeseries")


def can_join(resource: Resource) -> bool:
    """Tell whether all that a resource writes can be in one transaction of one MongoDB."""
    client = resource.store.driver().client
    return all(
        each.store.driver().client is client and not any(each.model._meta.get(kind) for kind in _UNJOINABLE)  # type: ignore[attr-defined]
        for each in resource.parts
    )


class Part(Protocol):
    """Many operations that are written together: in an attempt, told of as done, told of as failed."""

    async def within(self, session: Any) -> None: ...
    async def complete(self) -> None: ...
    async def fail(self) -> None: ...


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
        self._part: Part | None = None

    async def join(self, part: Part) -> Part:
        """Let many operations, which keep their own accounts, be a part; return it, or the one of before."""
        if self._part is None:
            self._part = part
        await self._part.within(self.session)
        return self._part

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

        committed = False
        try:
            with deferring() as deferred:
                result = await store.run_in_transaction(attempt, seconds)
                committed = True
                await deferred.flush()
        except BaseException:
            if not committed:
                await self._fail()
            raise
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
        if self._part is not None:
            await self._part.complete()
        for (resource, operation, _data), outcome in zip(self._started, self._outcomes, strict=True):
            try:
                await resource.complete(operation, outcome)
            except Exception as error:
                first = first or error
        if first is not None:
            raise first

    async def _fail(self) -> None:
        if self._part is not None:
            await self._part.fail()
        for resource, operation, _data in self._started:
            await resource.fail(operation)
