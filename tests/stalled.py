"""A test that even its timeout did not end: its process ends, after it has said where it stood.

pytest-timeout raises in the test, once. A task that swallows its cancellation still keeps the event loop from
being closed, then, and the whole run from ending. pytest's own faulthandler_timeout is taken back at the
first failure.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_after(seconds: float, what: str) -> Iterator[None]:
    """End this process if the block takes longer than so many seconds; ``what`` is said on standard error."""
    timer = threading.Timer(seconds, _end, [seconds, what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(seconds: float, what: str) -> None:
    print(f"\n{what} did not end within {seconds:g} s:", file=sys.__stderr__)
    for loop in gc.get_objects():
        if isinstance(loop, asyncio.AbstractEventLoop) and not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                task.print_stack(file=sys.__stderr__)
    faulthandler.dump_traceback(sys.__stderr__)
    os._exit(1)
