"""A whole program as its own process, and the curl lines that somebody would type at it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import queue
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60


def _ports() -> Iterator[int]:
    """Those below the ports that the kernel gives away itself; each process of pytest-xdist has its own."""
    process = int("0" + os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw"))
    mine = range(15_000 + process % 16, 32_000, 16)
    first = random.randrange(len(mine))
    return itertools.cycle([*mine[first:], *mine[:first]])


_candidates = _ports()


def free_port() -> int:
    """A port that nobody listens on now, nor is likely to until whoever asks for it does."""
    for port in itertools.islice(_candidates, 1000):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("", port))
            return port
    raise OSError("no port is free")


class Program:
    """A running program and the lines that it has printed so far."""

    def __init__(self, arguments: list[str], folder: Path, settings: Mapping[str, str]) -> None:
        ours = {"MONGO_URL", "BZZ_TORTURE"}
        environment = {name: value for name, value in os.environ.items() if name not in ours}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    @property
    def printed(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, found: Callable[[str], bool]) -> str:
        """Wait until it prints a line of this kind, and return that line."""
        deadline = time.monotonic() + PATIENCE
        for line in self.lines:
            if found(line):
                return line
        while True:
            try:
                line = self._arrived.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"it never printed that line, but:\n{self.printed}") from None
            assert line is not None, f"it ended, and had printed:\n{self.printed}"
            self.lines.append(line)
            if found(line):
                return line

    def last_words(self) -> str:
        """All that it printed, once it has ended."""
        try:
            while (line := self._arrived.get(timeout=PATIENCE)) is not None:
                self.lines.append(line)
        except queue.Empty:
            raise AssertionError(f"it did not end, and had printed:\n{self.printed}") from None
        return self.printed

    def wait_until_it_listens(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("localhost", port), timeout=5).close()
            except OSError:
                assert self.process.poll() is None, f"it ended, and had printed:\n{self.last_words()}"
                assert time.monotonic() < deadline, f"it never listened, but printed:\n{self.printed}"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> int:
        """Ask it to stop, and return its exit status once it and all its children are gone."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        _gone, left = psutil.wait_procs(family, PATIENCE)
        assert not left, f"these outlived it: {left}"
        return status


@contextmanager
def running(arguments: list[str], folder: Path, **settings: str) -> Iterator[Program]:
    """Run a Python program in a folder until the block ends."""
    program = Program(arguments, folder, settings)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait(PATIENCE)


def type_at_a_terminal(line: str) -> tuple[int, str]:
    """Do what a curl line does, with curl itself where there is one; return the status and the body."""
    words = shlex.split(line)
    assert words.pop(0) == "curl", line
    if not shutil.which("curl"):
        return _like_curl(words)
    done = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code}", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def _like_curl(words: list[str]) -> tuple[int, str]:
    method, body, address = "", None, ""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(rest)
        else:
            address = word if "://" in word else f"http://{word}"
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request(method or ("POST" if body else "GET"), target, body, headers if body else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text
