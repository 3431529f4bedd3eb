"""A batch in one MongoDB transaction: all of it, or nothing, and nothing told before it is certain.

MongoDB makes the callback of a transaction start over when another writer got in its way. Here an attempt
also starts over when the plan goes on after an error that made MongoDB give the transaction up (a duplicate
key, say): the operation that failed is then left out. Each operation is announced once, however many
attempts there are.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from bzz.batch.plan import PlannedOperation
from bzz.delivery.commit import deferring
from bzz.errors import (
    ExitEarly,
    FieldError,
    StorageTimeoutError,
    TransactionsUnsupportedError,
    ValidationError,
)
from bzz.resource import Operation, Outcome, overridden
from bzz.resource.unit import can_join
from bzz.storage.errors import has_label

if TYPE_CHECKING:
    from bzz.batch.runner import Batch

__all__ = ["Transaction", "check_atomic", "obstacles"]

logger = logging.getLogger("bzz.batch")


async def check_atomic(plan: Sequence[PlannedOperation], seconds: float) -> None:
    """Refuse what cannot be one transaction, and make collections and indexes, which must exist before it.

    Raises :class:`bzz.errors.ValidationError` with a pointer to each operation that stands in the way, or to
    ``/atomic`` when the server has no transactions at all.
    """
    if not plan:
        return
    errors = obstacles(plan)
    if errors:
        raise ValidationError(errors)
    for resource in dict.fromkeys(each.resource for each in plan):
        await resource.store.prepare()
    try:
        async with plan[0].resource.store.transaction(seconds):
            pass
    except TransactionsUnsupportedError as error:
        raise ValidationError([FieldError("/atomic", error.detail)]) from error


def obstacles(plan: Sequence[PlannedOperation], *, dry_run: bool = False) -> list[FieldError]:
    """Return what keeps operations out of one transaction, with a pointer to each of them.

    A dry run does not carry out what a model does itself when it is deleted.
    """
    first = plan[0].resource.store
    return [FieldError(each.pointer, why) for each in plan if (why := _obstacle(each, first, dry_run))]


def _obstacle(planned: PlannedOperation, first: Any, dry_run: bool) -> str | None:
    writes = planned.action not in {"get_list", "get_instance"}
    if any(each.store.driver().client is not first.driver().client for each in planned.resource.parts):
        return "an atomic batch reaches one MongoDB; this is on another connection than the first operation"
    # What is taken out of a document is not deleted as a document is.
    whole = planned.resource.parts == (planned.resource,)
    deletes = planned.action == "delete_instance" and whole and not dry_run
    if deletes and overridden.deletes_itself(planned.resource.schema):
        return (
            f"deleting a {planned.resource.name} involves its own delete(), delete rules, signals or files, "
            "which cannot join a transaction"
        )
    if writes and not can_join(planned.resource):
        return "MongoDB does not write to a capped or time series collection in a transaction"
    return None


class _StartOver(Exception):  # noqa: N818 - not an error: how an attempt ends that cannot go on
    """The plan goes on, but not in this transaction."""


class Transaction:
    """The operations of one atomic batch.

    ``started`` has the operations whose prerun was sent, with the data that this left: they still have to
    be told how they ended. ``outcomes`` are those of the current attempt, ``passed`` the indexes that
    failed and were voted past.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.started: dict[int, tuple[Operation, Any]] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.passed: set[int] = set()
        self.announced: Exception | None = None

    async def run(self) -> None:
        """Run the plan and commit; then send what waited for that, and the post signals in plan order."""
        with deferring() as deferred:
            try:
                await self._commit()
            except BaseException as error:
                await self._roll_back(error)
                raise
            await deferred.flush()
            await self._complete()

    async def _commit(self) -> None:
        if not self.batch.plan:
            return
        store = self.batch.plan[0].resource.store
        while True:
            left = self.batch.ends - time.monotonic()
            if left <= 0:
                raise StorageTimeoutError("The batch ran out of time.")
            try:
                await store.run_in_transaction(self._attempt, left)
                break
            except _StartOver:
                continue

    async def _attempt(self, session: Any) -> None:
        if self.batch.journal is not None:
            await self.batch.journal.begin(session)
        for index in self.outcomes:
            self.batch.entries[index].undone()
        self.outcomes.clear()
        with deferring() as sent:
            for index in range(len(self.batch.plan)):
                if self.batch.early_exit and index >= (self.batch.exit_operation or 0):
                    break
                if index not in self.passed:
                    self.batch.advance(index)
                    await self._step(index, session)
            self.batch.position = None
            if self.batch.journal is not None:
                await self.batch.journal.keep(self.batch, session)
            await sent.flush()

    async def _step(self, index: int, session: Any) -> None:
        try:
            self.outcomes[index] = await self._perform(index, session)
            self.batch.entries[index].done(self.outcomes[index])
        except Exception as error:
            if has_label(error, "TransientTransactionError"):
                raise
            if not await self._is_passed(index, error):
                self.announced = error
                raise
            if _has_spoiled(error, self.batch.plan[index]):
                raise _StartOver from error

    async def _perform(self, index: int, session: Any) -> Outcome:
        planned = self.batch.plan[index]
        if index in self.started:
            operation, data = self.started[index]
            operation.data = copy.deepcopy(data)
        else:
            operation = planned.operation(self.batch.handler, dry_run=self.batch.dry_run)
            self.started[index] = operation, planned.body
            operation.session = session
            await planned.resource.start(operation)
            self.started[index] = operation, copy.deepcopy(operation.data)
        operation.session = session
        return await planned.resource.perform(operation)

    async def _is_passed(self, index: int, error: Exception) -> bool:
        """Tell that an operation failed; true if the batch goes on, or ends gracefully, without it."""
        batch = self.batch
        operation, _data = self.started.pop(index)
        batch.entries[index].failed(error)
        self.passed.add(index)
        try:
            await batch.plan[index].resource.fail(operation)
            if isinstance(error, ExitEarly):
                raise error
            return await batch.goes_on(error)
        except ExitEarly:
            batch.leave()
            return True

    async def _roll_back(self, error: BaseException) -> None:
        """Tell every operation that had been done that it was not, and the batch if it does not know yet."""
        batch = self.batch
        lost = batch.position is None and not has_label(error, "TransientTransactionError")
        for entry in batch.entries:
            if entry.state == "done":
                entry.state = "unknown" if lost else "rolled_back"
        for index, (operation, _data) in self.started.items():
            try:
                await batch.plan[index].resource.fail(operation)
            except Exception:
                logger.exception("a receiver of failure or postrun raised after a rollback")
        if isinstance(error, Exception) and error is not self.announced:
            if batch.position is not None:
                batch.entries[batch.position].failed(error)
            # There is nothing left that could go on or end gracefully: votes do not count.
            with contextlib.suppress(ExitEarly):
                await batch.goes_on(error)

    async def _complete(self) -> None:
        """Tell of every operation, whatever receivers say; then raise the first error not voted past."""
        batch, final = self.batch, None
        for index, outcome in self.outcomes.items():
            batch.position = index
            try:
                await batch.plan[index].resource.complete(self.started[index][0], outcome)
            except ExitEarly:
                batch.leave()
            except Exception as error:
                batch.entries[index].failed(error)
                if not await self._is_voted_past(error):
                    final = final or error
        if final is not None:
            raise final

    async def _is_voted_past(self, error: Exception) -> bool:
        try:
            return await self.batch.goes_on(error)
        except ExitEarly:
            self.batch.leave()
            return True


def _has_spoiled(error: BaseException | None, planned: PlannedOperation) -> bool:
    """Tell whether a transaction is of no use after this error.

    MongoDB gives it up at the first command that fails; and a model's own ``save()`` may have written a part.
    """
    if any(overridden.saves_itself(each.schema) for each in planned.resource.parts):
        return True
    while error is not None:
        if isinstance(error, PyMongoError):
            return True
        error = error.__cause__ or error.__context__
    return False
