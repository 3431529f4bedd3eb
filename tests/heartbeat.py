"""Measure for how long an event loop is held up, on machines that are busy with other things as well."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds that the event loop may be held up, of the 0.4 that those wait who wait for a broker in the tests.
#: Measuring coverage makes Python itself some three times slower.
HELD_UP = 0.100 if sys.gettrace() is None else 0.200


class HeldUpError(AssertionError):
    """The loop was held up for too long."""


class Heartbeat:
    """Beats every few milliseconds in the running loop; ``longest`` is for how long a beat was held up.

    What the threads of this process spent in the queue for a processor does not count (Linux tells), and the
    garbage collector is off: a full collection of all that the tests have loaded takes longer than allowed.
    """

    longest = 0.0

    def __init__(self, limit: float = HELD_UP) -> None:
        self.limit = limit

    async def __aenter__(self) -> Heartbeat:
        gc.collect()
        gc.disable()
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0.02)
        self.longest = 0.0
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await asyncio.sleep(0.02)  # one more beat, which notices what has blocked just now
        gc.enable()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if kind is None and self.longest >= self.limit:
            raise HeldUpError(f"the loop was held up for {1000 * self.longest:.0f} ms")

    async def _beat(self) -> None:
        waited = _waited()
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            held = time.perf_counter() - began - 0.005
            before, waited = waited, _waited()
            self.longest = max(self.longest, held - (waited - before))


def _waited() -> float:
    """For how many seconds the threads of this process have waited for a processor so far."""
    nanoseconds = 0
    for each in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            nanoseconds += int(each.read_text().split()[1])
    return nanoseconds / 1e9


def calmly(test: Callable[..., Any]) -> Callable[..., Any]:
    """Try a test six times if the loop was held up: what blocks does so each time, a busy machine not."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        for _ in range(5):
            with contextlib.suppress(HeldUpError):
                await test(*args, **kwargs)
                return
        await test(*args, **kwargs)

    return run
