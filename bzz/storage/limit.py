"""A limit on time that holds although a library loses a cancellation."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

__all__ = ["TimeLimit"]

_AGAIN_SECONDS = 0.05


class TimeLimit:
    """``async with TimeLimit(seconds)``: the block is cut off when they are over, with :class:`TimeoutError`.

    Like :func:`asyncio.timeout`, which cancels once. ``asyncio.wait_for`` of Python 3.11 loses a cancellation
    that comes together with its own timeout (https://github.com/python/cpython/issues/86296), and PyMongo
    waits for servers with it, half a minute if nobody stops it: so here the cancellation is repeated until
    the block has ended. ``expired`` says whether it was this limit.
    """

    __slots__ = ("_cancellations", "_handle", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._cancellations = 0

    @property
    def expired(self) -> bool:
        """Whether the time was over before the block was."""
        return self._cancellations > 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[Any] = task
        self._handle = asyncio.get_running_loop().call_later(max(0.0, self._seconds), self._cut)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if not self._cancellations:
            return
        others = 0
        for _ in range(self._cancellations):
            others = self._task.uncancel()
        # Who was cancelled from outside as well stays cancelled.
        if kind is asyncio.CancelledError and not others:
            raise TimeoutError from error

    def _cut(self) -> None:
        self._cancellations += 1
        self._task.cancel()
        self._handle = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._cut)
