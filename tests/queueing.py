"""A real worker as its own process, and the notes that its receivers write."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import redis

from bzz.delivery import wire
from tests.program import ROOT, Program, running

#: Seconds for a worker to do anything, many times what it needs.
PATIENCE = 90.0 * min(int(os.environ.get("BZZ_TORTURE", "1")), 4)


class Notes:
    """What the receivers in the worker have seen, in order; ``what`` is the name of a kind of note."""

    def __init__(self, url: str) -> None:
        self.store = redis.Redis.from_url(url)

    def all(self, what: str) -> list[dict[str, Any]]:
        texts = [each.decode() for each in self.store.lrange("notes", 0, -1)]
        messages = [wire.loads(text, lambda model, keys: [None] * len(keys)) for text in texts]
        return [message.payload for message in messages if message.sender == what]

    def wait_for(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for that many notes of a kind."""
        return self.wait_until(what, lambda found: len(found) >= count)

    def wait_until(self, what: str, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE
        while not enough(found := self.all(what)):
            assert time.monotonic() < deadline, f"of {what}, only these: {found}"
            time.sleep(0.02)
        return found

    def clear(self) -> None:
        self.store.delete("notes", "go on")


@contextmanager
def working(broker: str, mongo: str, database: str, *options: str) -> Iterator[Program]:
    """Run ``bzz worker`` for the application of the tests until the block ends."""
    arguments = ["-m", "bzz", "worker", "tests.queued_app:api", "--visibility-timeout", "2", *options]
    settings = {"CELERY_BROKER_URL": broker, "MONGO_URL": mongo, "BZZ_TEST_DATABASE": database}
    with running(arguments, ROOT, **settings) as program:
        try:
            program.wait_for(lambda line: " ready." in line)
            yield program
        finally:
            if program.process.poll() is None:
                program.stop()


def end(program: Program) -> None:
    """Kill the worker and the processes that it started, at once, as the kernel does."""
    processes = family(program)
    for each in processes:
        with_luck(each)
    psutil.wait_procs(processes, timeout=PATIENCE)


def family(program: Program) -> list[psutil.Process]:
    parent = psutil.Process(program.process.pid)
    return [parent, *parent.children(recursive=True)]


def with_luck(process: psutil.Process) -> None:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
