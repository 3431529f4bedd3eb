"""A batch under an ``Idempotency-Key``: what it did is kept with each commit.

An atomic batch keeps its answer in its one transaction. Any other keeps the entry of each operation in the
transaction of that operation, so that a batch that was cut off goes on, when it is sent again, with the first
operation that is not done. What cannot be in a transaction runs as it always does: if it is cut off, nobody
knows how far it came, and the key stays in use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from bzz.batch.report import describe, report
from bzz.errors import DuplicateError, IdempotencyKeyInUseError, PreconditionFailedError
from bzz.http import problem
from bzz.http.problem_handler import problem_of
from bzz.resource import Outcome
from bzz.resource.idempotency import Once
from bzz.resource.unit import Unit
from bzz.storage.receipts import Answer

if TYPE_CHECKING:
    from bzz.batch.runner import Batch, Entry

__all__ = ["Journal", "answer_of"]


class Journal:
    """What is kept of one batch. ``together`` tells whether its operations can be in transactions."""

    def __init__(self, once: Once, *, together: bool) -> None:
        self.once = once
        self.together = together
        self.answer: Answer | None = None

    async def run(self, batch: Batch) -> Answer:
        """Run the batch, or what is left of it, and return the answer that was kept.

        Raises what ended the batch, unless that is an answer to keep: a refusal after something was done.
        """
        await self.once.begin()
        if self.together and not batch.atomic:
            await self._restore(batch)
        try:
            await batch.run()
        except IdempotencyKeyInUseError:
            raise
        except Exception as error:
            if batch.atomic or not batch.has_written or problem_of(error)[0] >= 500:
                raise
            status, body = problem_of(error, **await report(batch))
            headers = [("Content-Type", problem.CONTENT_TYPE)]
            if isinstance(error, PreconditionFailedError):
                headers.append(("ETag", error.etag))
            await self._finish(Answer(status, tuple(headers), body))
        else:
            if self.answer is None:
                await self._finish(await answer_of(batch))
        assert self.answer is not None
        return self.answer

    # An atomic batch ----------------------------------------------------------------------------------------

    async def begin(self, session: Any) -> None:
        """See at the beginning of a transaction that nobody else is at work."""
        await self.once.begin(session)

    async def keep(self, batch: Batch, session: Any) -> None:
        """Keep the answer of all that was done, in its transaction."""
        self.answer = await answer_of(batch)
        await self.once.keep(self.answer, session)

    # One after another --------------------------------------------------------------------------------------

    async def perform(self, batch: Batch, index: int, seconds: float) -> None:
        """Run one operation up to what is told of it, and keep its entry in the same transaction."""
        entry = batch.entries[index]
        resource, operation = entry.planned.resource, entry.planned.operation(batch.handler)
        store = batch.plan[0].resource.store
        unit = Unit()

        async def work() -> Outcome:
            await self.once.begin(unit.session)
            outcome = await unit.run(resource, operation)
            entry.done(outcome)
            await self._record(index, entry, unit.session)
            return outcome

        try:
            await unit.transact(store, work, seconds)
        except BaseException as error:
            if entry.state == "done":
                entry.undone()
            entry.failed(error)
            raise
        await unit.complete()

    async def note_failure(self, batch: Batch, index: int, seconds: float) -> None:
        """Keep the entry of an operation that failed, when the plan goes on without it."""

        async def work(session: Any) -> None:
            await self.once.begin(session)
            await self._record(index, batch.entries[index], session)

        await batch.plan[0].resource.store.run_in_transaction(work, seconds)

    async def _record(self, index: int, entry: Entry, session: Any) -> None:
        told = orjson.dumps(await describe(index, entry))
        await self.once.hold(session)
        try:
            await self.once.receipts.record(self.once.parts, index, told, session)
        except DuplicateError as error:
            # A commit that nobody knew of: what is kept is what is stored. The next request sees it.
            raise IdempotencyKeyInUseError("The batch broke off; send it again.", 1.0) from error
        entry.told = told
        self.once.partial = True

    async def _restore(self, batch: Batch) -> None:
        for index, told in (await self.once.receipts.recorded(self.once.parts)).items():
            batch.restore(index, told, orjson.loads(told)["state"])
            self.once.partial = True

    async def _finish(self, answer: Answer) -> None:
        await self.once.keep(answer)
        self.answer = answer
        if self.once.partial:
            await self.once.receipts.forget_parts(self.once.parts)


async def answer_of(batch: Batch) -> Answer:
    """Return the answer to a batch that came to its end."""
    return Answer(200, (("Content-Type", "application/json"),), orjson.dumps(await report(batch)))
