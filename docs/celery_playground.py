"""What the pages about Celery stand on besides: a real Redis, and a real worker in its own process."""

from __future__ import annotations

import atexit
import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import celery._state
import redis

from bzz.embedded import EmbeddedRedis

__all__ = ["end_broker", "start_broker", "waiting", "worker", "worker_says"]

HERE = Path(__file__).resolve().parent
PATIENCE = 60
#: What Celery writes before each line that a receiver prints.
PREFIX = re.compile(r"^\[[^]]*: WARNING/[^]]*\] ")


class _Playground:
    """The broker, and the worker that prints what its receivers print."""

    def __init__(self) -> None:
        self.broker = EmbeddedRedis()
        self.worker: subprocess.Popen[str] | None = None
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def start(self, target: str) -> None:
        command = [sys.executable, "-m", "bzz", "worker", target, "--pool", "solo"]
        self.worker = subprocess.Popen(
            command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )
        threading.Thread(target=self._read, daemon=True).start()
        while " ready." not in self.line():
            pass

    def _read(self) -> None:
        assert self.worker is not None
        assert self.worker.stdout is not None
        with self.worker.stdout as output:
            for line in output:
                self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self) -> str:
        line = self.lines.get(timeout=PATIENCE)
        assert line is not None, "the worker has ended"
        return line

    def end(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
        self.broker.stop()


_current: _Playground | None = None


def start_broker() -> None:
    """Start a Redis, and name it to Celery as everybody does, in the environment."""
    global _current  # noqa: PLW0603 - one for the page
    _current = _Playground()
    os.environ["CELERY_BROKER_URL"] = _current.broker.start()
    atexit.register(end_broker)


def worker(target: str) -> None:
    """Start ``bzz worker MODULE:API`` in the folder of the pages, and wait until it is ready."""
    assert _current is not None, "start the broker first"
    _current.start(target)


def worker_says(count: int = 1) -> None:
    """Print the next lines that receivers in the worker print."""
    assert _current is not None
    while count:
        line = _current.line()
        if PREFIX.match(line):
            print(PREFIX.sub("", line))
            count -= 1


def waiting(name: str, count: int) -> int:
    """Return how many messages are in a queue, as soon as there are ``count``."""
    assert _current is not None
    deadline = time.monotonic() + PATIENCE
    with redis.Redis.from_url(_current.broker.url) as store:
        while (found := int(store.llen(name))) < count and time.monotonic() < deadline:  # type: ignore[arg-type]
            time.sleep(0.01)
    return found


def end_broker() -> None:
    """Stop the worker and the broker, and let Celery forget the apps of the page."""
    global _current  # noqa: PLW0603
    if _current is not None:
        _current.end()
        _current = None
        os.environ.pop("CELERY_BROKER_URL", None)
        celery._state._set_current_app(None)
        celery._state.default_app = None
