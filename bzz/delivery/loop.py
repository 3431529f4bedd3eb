"""The event loop of a worker process: one, in a thread of its own, made when first needed.

Celery's tasks are plain functions that wait. An asynchronous receiver runs here, so that what it keeps
between two signals (clients, locks) always belongs to the same loop. After a fork the child makes its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable
from typing import Any

__all__ = ["run"]

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def run(awaitable: Awaitable[Any]) -> Any:
    """Await something on the loop of this process, and return what it returns.

    Called from any thread but the loop's own. When the waiting is interrupted (a soft time limit, the end of
    the process), what is awaited is cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(_await(awaitable), _running())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _running() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603 - there is one for the process
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="bzz-receivers", daemon=True).start()
        return _loop


def _forget_in_child() -> None:
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
