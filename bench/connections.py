"""What an idle connection costs a server in memory."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from bench.documents import key
from bench.scenarios import message
from bench.servers import Server

__all__ = ["bytes_per_connection", "many_files"]


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process and those that it starts have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def bytes_per_connection(server: Server, count: int = 1000) -> float:
    """The memory that ``count`` connections take which have asked once and are kept open, for each of them.

    As many have come and gone before, so that what the server only makes once does not count.
    """
    open_and_ask(server.port, count, keep=False)
    before = server.memory()
    lines = open_and_ask(server.port, count, keep=True)
    taken = server.memory() - before
    for line in lines:
        line.close()
    return taken / count


def open_and_ask(port: int, count: int, *, keep: bool) -> list[socket.socket]:
    request = message("GET", f"/user/{key(0)}")
    lines = []
    for _ in range(count):
        line = socket.create_connection(("127.0.0.1", port), timeout=20)
        line.sendall(request)
        if not line.recv(65536).startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{port} does not answer a GET")
        if keep:
            lines.append(line)
        else:
            line.close()
    return lines
