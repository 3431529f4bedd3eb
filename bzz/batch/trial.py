"""A dry run of a batch: all of it in one transaction, which is rolled back at its end.

So every operation sees what those before it would have done, unique indexes refuse what they would refuse,
and nothing is stored. What can change how the plan goes is asked: ``batch_started``, ``pre_`` signals and the
votes of ``batch_failed``. What only tells what was done is not sent, as nothing was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bzz.batch.plan import PlannedOperation
from bzz.batch.transaction import Transaction, obstacles
from bzz.delivery.commit import deferring
from bzz.errors import HeaderError, TransactionsUnsupportedError, ValidationError

__all__ = ["Trial", "check_trial"]


async def check_trial(plan: Sequence[PlannedOperation], seconds: float) -> None:
    """Refuse what cannot be tried in a transaction.

    Raises :class:`bzz.errors.ValidationError` with a pointer to each operation that stands in the way, and
    :class:`bzz.errors.HeaderError` when the server has no transactions at all.
    """
    if not plan:
        return
    errors = obstacles(plan, dry_run=True)
    if errors:
        raise ValidationError(errors)
    try:
        async with plan[0].resource.store.transaction(seconds):
            pass
    except TransactionsUnsupportedError as error:
        detail = f"A batch cannot be tried without doing it here. {error.detail}"
        raise HeaderError("Prefer", detail) from error


class _Tried(Exception):  # noqa: N818 - not an error: how a transaction ends that is not to be committed
    """Everything was tried."""


class Trial(Transaction):
    """The operations of a batch that is only tried."""

    async def run(self) -> None:
        """Try the plan; operations end with success and postrun, or failure and postrun."""
        with deferring():  # what a receiver sends to a queue speaks of what never was
            try:
                await self._commit()
            except _Tried:
                pass
            except BaseException as error:
                if self.batch.atomic or error is not self.announced:
                    await self._roll_back(error)
                else:
                    await self._complete()
                raise
            await self._complete()

    async def _attempt(self, session: Any) -> None:
        await super()._attempt(session)
        raise _Tried
