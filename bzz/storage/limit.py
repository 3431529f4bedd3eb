"""A limit on time that holds although a library loses a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

__all__ = ["TimeLimit"]

_AGAIN_SECONDS = 1.0
_SPARED_SECONDS = 3.0


class TimeLimit:
    """``async with TimeLimit(seconds)``: the block is cut off when they are over, with :class:`TimeoutError`.

    Like :func:`asyncio.timeout`, which cancels once. ``asyncio.wait_for`` of Python 3.11 loses a cancellation
    that comes together with its own timeout (https://github.com/python/cpython/issues/86296), and PyMongo
    waits for servers with it, half a minute if nobody stops it: so here the cancellation is repeated every
    second until the block has ended. Not sooner: a cancellation that comes while ``wait_for`` still carries
    out another leaves the lock of PyMongo's topology taken for good. For the same reason only the innermost
    of several limits in a task is at work; it takes over the time of those around it, if that is shorter.

    If ``spared`` says so when the time is over, the block has three seconds more to end by itself: a driver
    that waits for a server has a limit of its own, and is late with it when hundreds wait. Cut off all at
    once they would leave that lock taken.
    """

    __slots__ = ("_cancellations", "_ends", "_handle", "_outer", "_seconds", "_spared", "_task", "_token")

    def __init__(self, seconds: float, spared: Callable[[], bool] | None = None) -> None:
        self._seconds = seconds
        self._spared = spared
        self._cancellations = 0

    @property
    def expired(self) -> bool:
        """Whether the time was over before the block was."""
        return self._cancellations > 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        loop = asyncio.get_running_loop()
        self._ends = loop.time() + self._seconds
        outer = _innermost.get()
        # A task that was started within a limit has the limit in its context, but is not cut off by it.
        self._outer = outer if outer is not None and outer._task is task else None
        if self._outer is not None:
            self._outer._handle.cancel()
            self._ends = min(self._ends, self._outer._ends)
        self._token = _innermost.set(self)
        self._handle: asyncio.TimerHandle = loop.call_at(self._ends, self._cut)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        _innermost.reset(self._token)
        if self._outer is not None:
            self._outer._handle = asyncio.get_running_loop().call_at(self._outer._ends, self._outer._cut)
        if not self._cancellations:
            return
        others = 0
        for _ in range(self._cancellations):
            others = self._task.uncancel()
        # Who was cancelled from outside as well stays cancelled.
        if kind is asyncio.CancelledError and not others:
            raise TimeoutError from error

    def _cut(self) -> None:
        loop = asyncio.get_running_loop()
        spared, self._spared = self._spared, None
        if spared is not None and spared():
            self._handle = loop.call_later(_SPARED_SECONDS, self._cut)
            return
        self._cancellations += 1
        self._task.cancel()
        self._handle = loop.call_later(_AGAIN_SECONDS, self._cut)


_innermost: ContextVar[TimeLimit | None] = ContextVar("bzz_time_limit", default=None)
