"""Workers: fork them, restart those that crash, stop them all.

The listening sockets are bound before the fork and shared (ADR 4), so that a worker's death loses no
connection that another could still accept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["Supervisor"]

logger = logging.getLogger("bzz.server")

# A worker that cannot live is given up after so many deaths in so many seconds, per process.
CRASHES = 5
CRASH_SECONDS = 60.0
RESTART_PAUSE = 0.2
# Workers hold the grace themselves; one that is stuck gets so much more, then SIGKILL.
KILL_SECONDS = 5.0

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


class Supervisor:
    """Keep ``count`` processes alive that each run ``work(number, lifeline)``.

    ``lifeline`` is a file descriptor that becomes readable when the supervisor is gone, SIGKILL included: a
    worker must then leave too. ``stopping`` is called once, before the workers are told to stop; ``grace``
    is how many seconds they have. A second SIGTERM or SIGINT is handed on, for them to leave at once.
    """

    def __init__(
        self, count: int, work: Callable[[int, int], None], *, stopping: Callable[[], None], grace: float
    ) -> None:
        self.count = count
        self.work = work
        self.stopping = stopping
        self.grace = grace
        self.workers: dict[int, int] = {}
        self._crashes: deque[float] = deque(maxlen=CRASHES * count)
        self._deadline: float | None = None
        self._gave_up = False

    def run(self) -> None:
        """Fork the workers and return when all are gone; raises RuntimeError when they crashed too often."""
        with self._signals() as inbox, self._lifeline():
            for number in range(self.count):
                self._fork(number)
            while self.workers:
                self._reap()
                if self._deadline is not None and time.monotonic() > self._deadline:
                    self._send(signal.SIGKILL)
                if not self.workers:
                    break
                if select.select([inbox], [], [], 1.0)[0]:
                    self._heed(os.read(inbox, 4096))
        if self._gave_up:
            raise RuntimeError("The workers crashed again and again; the log says why.")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        # Handlers and a pipe, not sigwait(): other threads of this process have nothing blocked, and a signal
        # that reaches one of them would end the process.
        self._inbox, self._outbox = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, _noted) for number in SIGNALS}
        self._wakeup_before = signal.set_wakeup_fd(self._outbox, warn_on_full_buffer=False)
        try:
            yield self._inbox
        finally:
            self._restore_signals()

    def _restore_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._inbox)
        os.close(self._outbox)

    @contextlib.contextmanager
    def _lifeline(self) -> Iterator[None]:
        self._line, self._end = os.pipe()
        try:
            yield
        finally:
            os.close(self._line)
            os.close(self._end)

    def _fork(self, number: int) -> None:
        # Nothing may arrive before the child has handlers of its own, or it would be lost on ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                self._live(number)
            self.workers[pid] = number
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _live(self, number: int) -> NoReturn:
        status = 1
        try:
            self._restore_signals()
            os.close(self._end)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the supervisor tells us
            self.work(number, self._line)
            status = 0
        except BaseException:
            logger.exception("worker %d failed", number)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for pid in list(self.workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                number = self.workers.pop(pid)
                if self._deadline is None:
                    self._replace(number, pid, os.waitstatus_to_exitcode(status))

    def _replace(self, number: int, pid: int, status: int) -> None:
        now = time.monotonic()
        self._crashes.append(now)
        if len(self._crashes) == self._crashes.maxlen and now - self._crashes[0] < CRASH_SECONDS:
            logger.error(
                "worker %d (process %d) ended with status %d; too often, giving up", number, pid, status
            )
            self._gave_up = True
            self._stop()
            return
        logger.warning("worker %d (process %d) ended with status %d; starting another", number, pid, status)
        if len(self._crashes) > self.count:
            time.sleep(RESTART_PAUSE)  # a worker that dies at once must not eat the machine
        self._fork(number)

    def _heed(self, numbers: bytes) -> None:
        for number in numbers:
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop()

    def _stop(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self.grace + KILL_SECONDS
            self.stopping()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for pid in self.workers:
            os.kill(pid, number)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Let the wakeup pipe say it."""
