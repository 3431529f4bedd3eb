"""Many operations of one kind as one request: all or nothing, or each as far as it goes.

::

    strict   prerun, pre signal and validation of every item → one transaction → post signals of every item
    lenient  the same for each piece of at most 1000 items, and what fails is left out

Every item is an operation like any other, with the same steps (:class:`bzz.resource.Resource`), signals and
diffs; only its write goes out together with those of others. What cannot be written that way, because the
model has a ``save()`` or ``delete()`` of its own, is written one by one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bzz.delivery.commit import deferring
from bzz.errors import (
    BulkError,
    BulkItemsError,
    BzzError,
    StorageTimeoutError,
    StorageUnavailableError,
    TransactionsUnsupportedError,
)
from bzz.resource import overridden
from bzz.resource.bulk_item import Breath, Item
from bzz.resource.operation import Action, DataKind, Operation
from bzz.resource.resource import Resource
from bzz.storage.bulk import PIECE, insert_all, insert_each

__all__ = ["Bulk", "BulkRequest", "Creation", "Handling"]

Handling = Literal["strict", "lenient"]


@dataclass(frozen=True, kw_only=True)
class BulkRequest:
    """What is asked for: ``strict`` is all or nothing, ``lenient`` is what can be done.

    A creation has ``bodies``, the data of one document each; an exception in place of one is an item that
    could not be read. A change has ``arguments``, a filter in the form of a query, ``max_affected``, and,
    unless it deletes, ``data`` of a kind. ``first`` is the index of the first item.
    """

    action: Action
    handling: Handling = "strict"
    bodies: Sequence[Any] = ()
    data: Any = None
    data_kind: DataKind = "fields"
    arguments: Mapping[str, list[str]] = field(default_factory=dict)
    max_affected: int = 0
    handler: Any = None
    dry_run: bool = False
    first: int = 0


class Bulk:
    """One bulk, and its ``items`` in order; see :class:`Creation` and :mod:`bzz.resource.bulk_change`."""

    def __init__(self, resource: Resource, request: BulkRequest) -> None:
        self.resource = resource
        self.request = request
        self.items: list[Item] = []
        self.breath = Breath()
        self._ends = time.monotonic() + resource.options.bulk_timeout
        #: Why nothing more is tried.
        self._over: Exception | None = None
        self._is_prepared = False

    @property
    def outage(self) -> Exception | None:
        """Why nothing more was tried, if MongoDB is out of reach."""
        return self._over if isinstance(self._over, StorageUnavailableError) else None

    @property
    def left(self) -> float:
        """The seconds that are left for all of it."""
        return self._ends - time.monotonic()

    async def run(self) -> None:
        """Carry it out; ``items`` then say what became of each.

        Raises BulkError where it cannot be done as asked, of which BulkItemsError is for items of a strict
        one that failed; nothing is stored then. Any other error concerns the whole, too.
        """
        await self._begin()
        if self.request.handling == "strict":
            await self._strict()
        else:
            await self._lenient()

    async def _begin(self) -> None:
        if not self.request.dry_run:
            await self.resource.store.prepare()

    def operation(self, **given: Any) -> Operation:
        """Make the operation of one item."""
        request = self.request
        return Operation(
            request.action,
            arguments=request.arguments,
            handler=request.handler,
            dry_run=request.dry_run,
            **given,
        )

    # All or nothing -----------------------------------------------------------------------------------------

    async def _strict(self) -> None:
        await self._require_transactions()
        try:
            with deferring() as deferred:
                await self._prepare()
                if self.request.dry_run:
                    await self._try_out()
                else:
                    await self.resource.store.run_in_transaction(self._attempt, self.left)
                await deferred.flush()
        except BaseException:
            await self.fail()
            raise
        await self.complete()

    async def within(self, session: Any) -> None:
        """Do it as a part of a transaction of somebody else's, who then calls ``complete`` or ``fail``.

        That may start over, and call this again. Without a session there is no transaction, and no bulk that
        is all or nothing.
        """
        if self.request.handling != "strict":
            raise BulkError("Only what is all or nothing can be done once: ask for handling=strict.")
        if not self._is_prepared:
            await self._begin()
            await self._require_transactions()
            if session is None:
                raise BulkError("It cannot be all or nothing: it is done without a transaction.")
            await self._prepare()
            self._is_prepared = True
        await self._write(session)
        for item in self.items:
            item.stored = True

    async def complete(self) -> None:
        """Tell of all that is done, once it is certain."""
        await self._complete(self.items)

    async def fail(self) -> None:
        """Tell that nothing is done; call it while the reason is being handled."""
        for item in self.items:
            item.stored = False
            if item.error is None:
                await item.tell_failure()

    async def _attempt(self, session: Any) -> None:
        with deferring() as sent:
            await self._write(session)
            await sent.flush()

    async def _prepare(self) -> None:
        """Do what comes before the transaction."""

    async def _try_out(self) -> None:
        """Do what a transaction would, without writing."""

    async def _write(self, session: Any) -> None:
        """Do what belongs into the transaction, which starts over if another writer got in its way."""
        raise NotImplementedError

    def _refuse_failed(self) -> None:
        failures = {item.index: item.error for item in self.items if item.error is not None}
        if failures:
            raise BulkItemsError(failures, len(self.items))

    async def _refuse(self, item: Item, error: BzzError) -> None:
        await item.fail(self.resource.named(error))
        self._refuse_failed()

    async def _require_transactions(self) -> None:
        why = self._obstacle()
        if why is None:
            try:
                async with self.resource.store.transaction(self.left):
                    return
            except TransactionsUnsupportedError as error:
                why = error.detail.rstrip(".")
        raise BulkError(f"It cannot be all or nothing: {why}. Ask for handling=lenient.")

    def _obstacle(self) -> str | None:
        meta = self.resource.model._meta  # type: ignore[attr-defined]
        if meta.get("max_documents") or meta.get("max_size") or meta.get("timeseries"):
            return "MongoDB does not write to a capped or time series collection in a transaction"
        return None

    # Each as far as it goes ---------------------------------------------------------------------------------

    async def _lenient(self) -> None:
        raise NotImplementedError

    async def _is_over(self, item: Item) -> bool:
        """Tell whether there is no sense in trying an item, and say so of it."""
        if self._over is None and self.left <= 0:
            self._over = StorageTimeoutError("The bulk ran out of time.")
        if self._over is not None:
            await item.fail(self._over)
        return self._over is not None

    def note_outage(self, error: Exception | None) -> None:
        """Try nothing more when MongoDB is out of reach: each attempt would only wait for it again."""
        if isinstance(error, StorageUnavailableError):
            self._over = error

    async def _complete(self, items: Sequence[Item]) -> None:
        for item in items:
            await item.complete()
            await self.breath()


class Creation(Bulk):
    """Create the documents of ``bodies``."""

    def __init__(self, resource: Resource, request: BulkRequest) -> None:
        super().__init__(resource, request)
        self._alone = overridden.saves_itself(resource.schema) and not request.dry_run
        for index, body in enumerate(request.bodies, request.first):
            item = Item(index, resource, self.operation(data=None if isinstance(body, Exception) else body))
            item.error = body if isinstance(body, Exception) else None
            self.items.append(item)

    async def _prepare(self) -> None:
        if not self._alone:
            await self._plan(self.items)
        self._refuse_failed()

    async def _plan(self, items: Sequence[Item]) -> None:
        for item in items:
            if item.error is None:
                await item.plan()
                await self.breath()

    async def _write(self, session: Any) -> None:
        if not self._alone:
            documents = [item.outcome.after for item in self.items if item.outcome and item.outcome.after]
            refused = await insert_all(self.resource.store, documents, session)
            if refused is not None:
                await self._refuse(self.items[refused.position], refused.error)
            return
        for item in self.items:
            item.operation.session = session
            if not await item.perform():
                self._refuse_failed()

    async def _lenient(self) -> None:
        for start in range(0, len(self.items), PIECE):
            piece = [item for item in self.items[start : start + PIECE] if item.error is None]
            if self._alone:
                await self._one_by_one(piece)
            else:
                await self._together(piece)

    async def _one_by_one(self, items: Sequence[Item]) -> None:
        for item in items:
            if await self._is_over(item):
                continue
            if await item.perform():
                await item.complete()
            else:
                self.note_outage(item.error)
            await self.breath()

    async def _together(self, items: Sequence[Item]) -> None:
        items = [item for item in items if not await self._is_over(item)]
        await self._plan(items)
        planned = [item for item in items if item.error is None]
        if not self.request.dry_run:
            await self._insert(planned)
        await self._complete([item for item in planned if item.error is None])

    async def _insert(self, items: Sequence[Item]) -> None:
        documents = [item.outcome.after for item in items if item.outcome and item.outcome.after]
        for item, error in zip(items, await insert_each(self.resource.store, documents), strict=True):
            if error is not None:
                await item.fail(self.resource.named(error))
                self.note_outage(error)
