"""The life of a batch: started, one operation after another, failed or finished.

::

    batch_started → operation 0 → operation 1 → … → batch_finished
                        └ raises → batch_failed: a vote to go on, or the exception ends the batch
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from bzz import signals
from bzz.batch.plan import BatchRequest, PlannedOperation
from bzz.batch.transaction import Transaction, check_atomic
from bzz.batch.trial import Trial, check_trial
from bzz.dispatcher import Signal
from bzz.errors import ExitEarly, IdempotencyKeyInUseError, StorageTimeoutError
from bzz.resource import Outcome

if TYPE_CHECKING:
    from bzz.batch.journal import Journal

__all__ = ["Batch", "Entry"]

logger = logging.getLogger("bzz.batch")

State = Literal["not_run", "done", "failed", "rolled_back", "unknown"]


@dataclass(slots=True, eq=False)
class Entry:
    """What became of one operation of the plan.

    ``done``: it is stored, and ``outcome`` says what; with an ``error`` it is stored all the same, and a
    receiver that is allowed to complained afterwards. ``failed``: ``error`` says why. ``rolled_back``: it
    was done, and is not any more. ``unknown``: MongoDB was lost while it was asked to commit. ``not_run``:
    its turn did not come. ``told`` is the entry as JSON, of an operation under an ``Idempotency-Key``; if
    an earlier request did it, that is all there is.
    """

    planned: PlannedOperation
    state: State = "not_run"
    outcome: Outcome | None = None
    told: bytes | None = field(default=None, repr=False)
    error: Exception | None = None

    def done(self, outcome: Outcome) -> None:
        self.state, self.outcome = "done", outcome

    def undone(self) -> None:
        self.state, self.outcome = "not_run", None

    def failed(self, error: BaseException) -> None:
        """Keep the error; what is stored stays done. Leaving early, or being stopped, is no failure."""
        if isinstance(error, Exception) and not isinstance(error, ExitEarly):
            self.error = error
            if self.state != "done":
                self.state = "failed"


class Batch:
    """One running batch; the sender of ``batch_started``, ``batch_failed`` and ``batch_finished``.

    ``plan`` has the operations by index, ``entries`` what became of each so far. ``position`` is the index
    of the one that is running; None before the first and while a transaction is committed. ``handler`` is
    the HTTP handler that asked for the batch, None on the command line. ``progress`` is called with the
    number of operations that are behind it; a transaction that starts over starts over there, too. With
    ``dry_run`` nothing is stored, see :mod:`bzz.batch.trial`. ``journal`` keeps what was done under an
    ``Idempotency-Key``.
    """

    def __init__(
        self,
        request: BatchRequest,
        *,
        handler: Any = None,
        dry_run: bool = False,
        journal: Journal | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.request = request
        self.name = request.name
        self.plan = request.plan
        self.atomic = request.atomic
        self.continue_on_error = request.continue_on_error
        self.handler = handler
        self.dry_run = dry_run
        self.journal = journal
        self.entries = [Entry(planned) for planned in request.plan]
        self.position: int | None = None
        self.early_exit = False
        self.exit_operation: int | None = None
        self.failed_operation: int | None = None
        self.ends = 0.0
        self._progress = progress or (lambda _count: None)

    def __repr__(self) -> str:
        return f"<Batch {self.name!r} of {len(self.plan)} operations>"

    @property
    def last_operation(self) -> int | None:
        """The index of the last operation that succeeded, None if none did."""
        done = (i for i in reversed(range(len(self.entries))) if self.entries[i].state == "done")
        return next((i for i in done if self.entries[i].error is None), None)

    @property
    def has_written(self) -> bool:
        """Whether an operation that writes is done."""
        reading = {"get_list", "get_instance"}
        return any(each.state == "done" and each.planned.action not in reading for each in self.entries)

    def restore(self, index: int, told: bytes, state: State) -> None:
        """Take over what an earlier request did of this batch: its entry as JSON."""
        self.entries[index].told, self.entries[index].state = told, state
        if state == "failed":
            self.failed_operation = index

    async def run(self) -> None:
        """Run the plan to its end.

        Raises what ended it, unchanged; ``entries`` then say what was done before. An atomic batch that
        cannot be one is refused with :class:`bzz.errors.ValidationError` before anything is sent or run. A
        batch runs once.
        """
        self.ends = time.monotonic() + self.request.timeout
        if self.dry_run:
            await check_trial(self.plan, self.request.timeout)
        elif self.atomic:
            await check_atomic(self.plan, self.request.timeout)
        try:
            await self._send(signals.batch_started)
            if self.dry_run:
                await Trial(self).run()
            elif self.atomic:
                await Transaction(self).run()
            else:
                await self._run_each()
            if not self.early_exit:
                self._progress(len(self.plan))
        except ExitEarly:
            self.leave()
        if self.dry_run:
            return
        last = self.last_operation
        await self._send(
            signals.batch_finished,
            early_exit=self.early_exit,
            exit_operation=self.exit_operation,
            last_operation=last,
            last_command=last,
        )

    def leave(self) -> None:
        """Note that the batch ends gracefully at the operation that is running."""
        if not self.early_exit:
            self.early_exit, self.exit_operation = True, self.position

    def advance(self, index: int) -> None:
        """Note that the turn of an operation has come."""
        self.position = index
        self._progress(index)

    async def goes_on(self, error: Exception) -> bool:
        """Send ``batch_failed`` for the operation that is running; tell whether the plan goes on.

        Every receiver runs, and one truthy answer is enough. Raises ExitEarly if a receiver did.
        """
        self.failed_operation = self.position
        try:
            votes = await self._send(
                signals.batch_failed,
                failed_operation=self.position,
                failed_command=self.position,
                exception=error,
            )
        except ExitEarly:
            raise
        except Exception:
            logger.exception("a receiver of batch_failed raised: %r ends with its first error", self)
            return self.continue_on_error
        return self.continue_on_error or any(vote for _receiver, vote in votes)

    async def _run_each(self) -> None:
        for index, entry in enumerate(self.entries):
            if entry.told is not None:
                continue
            self.advance(index)
            try:
                await self._run_one(index, entry)
            except (ExitEarly, IdempotencyKeyInUseError):
                raise
            except Exception as error:
                entry.failed(error)
                if not await self.goes_on(error):
                    raise
                if self.journal is not None and self.journal.together and entry.told is None:
                    await self.journal.note_failure(self, index, max(1.0, self.ends - time.monotonic()))

    async def _run_one(self, index: int, entry: Entry) -> None:
        left = self.ends - time.monotonic()
        if left <= 0:
            raise StorageTimeoutError("The batch ran out of time.")
        if self.journal is not None and self.journal.together:
            await self.journal.perform(self, index, left)
            return
        resource, operation = entry.planned.resource, entry.planned.operation(self.handler)
        try:
            await resource.start(operation)
            outcome = await resource.perform(operation)
        except BaseException as error:
            entry.failed(error)
            await resource.fail(operation)
            raise
        entry.done(outcome)
        await resource.complete(operation, outcome)

    async def _send(self, signal: Signal, **payload: Any) -> list[tuple[Any, Any]]:
        return await signal.send_async(
            self,
            **self.request.options,
            batch=self.name,
            routine=self.name,
            handler=self.handler,
            atomic=self.atomic,
            continue_on_error=self.continue_on_error,
            dry_run=self.dry_run,
            switches=self.request.switches,
            **payload,
        )
