"""What waits for a commit: sends from inside a transaction go out after it, or never.

Whoever runs a transaction opens :func:`deferring` around it and calls :meth:`Deferred.flush` after the
commit. Leaving the block without that drops what was sent inside, which is what a rollback wants::

    with deferring() as deferred:
        await transaction()          # signals that are sent to a queue in here are kept back
        await deferred.flush()       # the commit is done: out with them
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Deferred", "deferring", "kept_back"]

logger = logging.getLogger("bzz.delivery")

Send = Callable[[], Awaitable[object]]


class Deferred:
    """The sends of one transaction, in order. It is ``waiting``, ``flushed`` or ``dropped``."""

    def __init__(self, outer: Deferred | None = None) -> None:
        self.outer = outer
        self.state = "waiting"
        self._sends: list[Send] = []

    def __len__(self) -> int:
        return len(self._sends)

    def keep(self, send: Send) -> bool:
        """Take charge of a send; False when the commit is done and it can go out at once.

        After a rollback it is taken and forgotten: a task that outlived its transaction tells what never was.
        """
        if self.state == "waiting":
            self._sends.append(send)
        if self.state != "flushed":
            return True
        return self.outer is not None and self.outer.keep(send)

    async def flush(self) -> list[Exception]:
        """Let everything out, in order; return the errors, each of which is logged.

        No error ends it: what was committed stays, and the next send speaks of it too. Inside another
        :func:`deferring` everything waits on, for the outer commit.
        """
        sends, self._sends = self._sends, []
        self.state = "flushed"
        failed: list[Exception] = []
        for send in sends:
            if self.outer is not None and self.outer.keep(send):
                continue
            try:
                await send()
            except Exception as error:
                logger.exception("a signal that waited for a commit could not be sent")
                failed.append(error)
        return failed

    def drop(self) -> None:
        """Forget everything: the transaction was rolled back."""
        self._sends.clear()
        if self.state == "waiting":
            self.state = "dropped"


_current: ContextVar[Deferred | None] = ContextVar("bzz_deferred", default=None)


@contextmanager
def deferring() -> Iterator[Deferred]:
    """Keep back every send to a queue inside the block, until :meth:`Deferred.flush`."""
    deferred = Deferred(outer=_current.get())
    token = _current.set(deferred)
    try:
        yield deferred
    finally:
        _current.reset(token)
        deferred.drop()


def kept_back(send: Send) -> bool:
    """Hand a send to the surrounding :func:`deferring`; False when there is none, or it has committed."""
    deferred = _current.get()
    return deferred is not None and deferred.keep(send)
