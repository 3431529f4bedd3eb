"""Publish from one thread, in order, within a time limit, and remember for a moment that a broker is down.

Talking to a broker blocks, for seconds if it is silent. So every broker has a thread of its own; who sends
hands a job over and gets a future. A job is tried again until its time limit. When it has failed, what waits
behind it fails at once for :data:`COOLDOWN` seconds, and then each job gets a single try until one succeeds:
a broker that is down costs the first job its time limit, and those after it almost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from bzz.errors import PublishError

__all__ = ["COOLDOWN", "MAX_WAITING", "Publisher", "wait", "wait_async"]

logger = logging.getLogger("bzz.delivery")

#: How many jobs may wait for one broker.
MAX_WAITING = 10_000
#: For how many seconds after a failure nothing else is tried.
COOLDOWN = 1.0
#: Seconds between the tries of one job: the first and the longest pause.
_PAUSES = (0.05, 1.0)
#: Seconds that whoever waits gives the thread to find out by itself that time is up.
_GRACE = 0.25


class Publisher:
    """The thread of one broker.

    ``temporary`` are the errors after which trying again may help; ``reset`` is called after each of them, in
    the thread, to close what is broken.
    """

    def __init__(
        self, name: str, reset: Callable[[], None], temporary: Callable[[], tuple[type[BaseException], ...]]
    ) -> None:
        self.name = name
        self._reset = reset
        self._temporary = temporary
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bzz-publish")
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        self._failed_at: float | None = None

    def submit(self, job: Callable[[], None], timeout: float) -> Future[None]:
        """Hand a job to the thread and return at once; the future ends within about ``timeout`` seconds.

        It fails with PublishError, which says what happened last.
        """
        future: Future[None]
        if not self._waiting.acquire(blocking=False):
            future = Future()
            future.set_exception(PublishError(f"{MAX_WAITING} messages wait for {self.name} already"))
            return future
        future = self._thread.submit(self._run, job, time.monotonic() + timeout)
        future.add_done_callback(lambda _: self._waiting.release())
        return future

    def _run(self, job: Callable[[], None], deadline: float) -> None:
        began = time.monotonic()
        if self._failed_at is not None and began < self._failed_at + COOLDOWN:
            raise PublishError(f"{self.name} was out of reach a moment ago")
        only_once = self._failed_at is not None
        pause, longest = _PAUSES
        while True:
            if time.monotonic() >= deadline:
                raise PublishError(f"other messages to {self.name} took too long")
            try:
                job()
            except self._temporary() as error:
                self._reset()
                if only_once or time.monotonic() + pause >= deadline:
                    self._failed_at = time.monotonic()
                    # Not chained: a broker that is down is logged often, and printing some fifty frames of
                    # its client each time would hold up the loop.
                    raise PublishError(f"{self.name} is out of reach: {error}") from None
                time.sleep(pause)
                pause = min(2 * pause, longest)
            except Exception as error:
                self._reset()
                raise PublishError(
                    f"{self.name} takes no message: {type(error).__name__}: {error}"
                ) from error
            else:
                self._failed_at = None
                return


def wait(future: Future[None], timeout: float) -> None:
    """Wait for a job, blocking; raises PublishError, at the latest when time is up."""
    try:
        future.result(timeout + _GRACE)
    except FutureTimeoutError:
        future.cancel()
        raise _too_late(timeout) from None


async def wait_async(future: Future[None], timeout: float) -> None:  # noqa: ASYNC109 - the thread has the same limit
    """Wait for a job without blocking the loop; raises PublishError, at the latest when time is up."""
    done, _ = await asyncio.wait([asyncio.wrap_future(future)], timeout=timeout + _GRACE)
    if not done:
        future.cancel()
        raise _too_late(timeout)
    done.pop().result()


def _too_late(timeout: float) -> PublishError:
    return PublishError(f"the broker has not answered within {timeout:g} seconds")
