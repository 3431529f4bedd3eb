"""A test, or a whole run, that nothing else ends: its process ends, after it has said where it stood.

pytest-timeout raises in the test, once, and that has three holes. A task that swallows its cancellation keeps
the event loop from being closed. What is raised while some other task runs is lost with that task. And once a
test has failed, its fixtures have no limit any more. pytest's own faulthandler_timeout is taken back by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import psutil

#: Whoever looks around in a debugger has all the time in the world.
debugged = False
_output: TextIO | None = sys.__stderr__


def speak_here() -> None:
    """Say what there will be to say to what is standard error now, before pytest captures it."""
    global _output
    _output = os.fdopen(os.dup(2), "w", buffering=1)


@contextmanager
def ended_after(seconds: float, what: str) -> Iterator[None]:
    """End this process if the block takes longer than so many seconds; ``what`` is said on standard error."""
    timer = end_after(seconds, what)
    try:
        yield
    finally:
        timer.cancel()


def end_after(seconds: float, what: str) -> threading.Timer:
    """End this process and those that it started after so many seconds, unless the timer is cancelled."""
    timer = threading.Timer(seconds, _end, [seconds, what])
    timer.daemon = True
    timer.start()
    return timer


def _end(seconds: float, what: str) -> None:
    if debugged:
        return
    try:
        print(f"\n{what} did not end within {seconds:g} s:", file=_output, flush=True)
        assert _output is not None
        faulthandler.dump_traceback(_output)
        _end_children()
        _print_tasks()
    finally:  # whatever the objects of the tests say when they are looked at
        os._exit(1)


def _end_children() -> None:
    """End the processes below this one: they may hold its output open, and its reader would wait for them.

    Those of pytest say first where they stand. Who has a session of its own, as the guardian of an embedded
    server, ends by itself.
    """
    session = os.getsid(0)
    ours = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(OSError):
            if os.getsid(each.pid) == session:
                ours.append(each)
                each.send_signal(signal.SIGABRT)
    for each in psutil.wait_procs(ours, timeout=5)[1]:
        each.kill()


def _print_tasks() -> None:
    for loop in gc.get_objects():
        if issubclass(type(loop), asyncio.AbstractEventLoop) and not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                task.print_stack(file=_output)
