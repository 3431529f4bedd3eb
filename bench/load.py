"""The load: a fixed number of connections, each of which asks again as soon as it is answered.

Plain sockets and epoll in one thread. A request costs it some 15 µs, a tenth of what the quickest peer takes;
:attr:`Load.busy` says how much of the time it was busy itself, so that a bottleneck here would be seen.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Load", "LoadError", "drive"]

PATIENCE = 20.0
RECEIVE = 1 << 18
NOTHING: Callable[[], None] = lambda: None  # noqa: E731


class LoadError(RuntimeError):
    """A peer does not answer as it should."""


@dataclass
class Load:
    """What was measured: seconds that it took, and seconds from each request to the end of its answer."""

    seconds: float
    busy: float
    latencies: list[float] = field(repr=False)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The time, in milliseconds, within which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def drive(
    port: int,
    requests: Iterator[bytes],
    *,
    status: int,
    connections: int = 1,
    seconds: float = 1.0,
    warm_up: float = 0.0,
    begin: Callable[[], None] = NOTHING,
    end: Callable[[], None] = NOTHING,
) -> Load:
    """Send ``requests`` to a local port, one after another on each connection, and time the answers.

    ``requests`` may end before the ``seconds`` do. ``begin`` and ``end`` are called where the measured time
    begins and ends, after ``warm_up`` seconds. Every answer must have the ``status``; another one, a closed
    connection or none at all within 20 s raises :class:`LoadError`.
    """
    expected = b"HTTP/1.1 %d" % status
    lines = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(connections)]
    gc.collect()
    gc.disable()
    try:
        return _Driving(lines, requests, expected).run(seconds, warm_up, begin, end)
    finally:
        gc.enable()
        for line in lines:
            line.close()


class _Driving:
    def __init__(self, lines: list[socket.socket], requests: Iterator[bytes], expected: bytes) -> None:
        self.epoll = select.epoll()
        self.lines = {line.fileno(): line for line in lines}
        self.begun = dict.fromkeys(self.lines, 0.0)
        self.parts: dict[int, bytes] = {}
        self.requests = requests
        self.expected = expected
        self.latencies: list[float] = []
        for line in lines:
            line.setblocking(False)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.epoll.register(line, select.EPOLLIN)

    def run(self, seconds: float, warm_up: float, begin: Callable[[], None], end: Callable[[], None]) -> Load:
        under_way = sum(self._ask(number) for number in self.lines)
        under_way = self._until(time.perf_counter() + warm_up, under_way)
        self.latencies.clear()
        begin()
        begun, used = time.perf_counter(), time.process_time()
        under_way = self._until(begun + seconds, under_way)
        took, used = time.perf_counter() - begun, time.process_time() - used
        end()
        found = list(self.latencies)
        # What is under way is waited for, or the next peer would pay for it.
        self.requests = iter(())
        self._until(float("inf"), under_way)
        self.epoll.close()
        if not found:
            raise LoadError("not one answer came in time")
        return Load(took, used / took, found)

    def _ask(self, number: int) -> int:
        request = next(self.requests, None)
        if request is None:
            return 0
        self.begun[number] = time.perf_counter()
        self.lines[number].send(request)
        return 1

    def _until(self, deadline: float, under_way: int) -> int:
        """Go on until the deadline or until nothing is under way; return what is."""
        clock, poll, lines, parts, begun = (
            time.perf_counter,
            self.epoll.poll,
            self.lines,
            self.parts,
            self.begun,
        )
        latencies, expected = self.latencies, self.expected
        while under_way and clock() < deadline:
            events = poll(PATIENCE)
            if not events:
                raise LoadError(f"no answer within {PATIENCE:g} s")
            for number, _ in events:
                data = lines[number].recv(RECEIVE)
                if number in parts:
                    data = parts[number] + data
                if not complete(data):
                    if not data or data == parts.get(number):
                        raise LoadError("the connection was closed")
                    parts[number] = data
                    continue
                parts.pop(number, None)
                latencies.append(clock() - begun[number])
                if not data.startswith(expected):
                    raise LoadError(f"expected {expected.decode()}, got {data[:400]!r}")
                under_way += self._ask(number) - 1
        return under_way


def complete(data: bytes) -> bool:
    """Tell whether these bytes are a whole answer."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        return len(data) >= end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])
    if b"\r\ntransfer-encoding: chunked" in head:
        return data.endswith(b"\r\n0\r\n\r\n")
    return True  # 204 has no body
