"""A client's connection that is closed so that the client gets the last answer.

A socket closed while bytes of the client are unread answers with a reset, and a reset throws away what the
client has not read yet: the very 413 that explains it all. So where bytes are pending, or more are to be
expected, only our half is closed, and the client's is read and thrown away, within bounds (RFC 9112, section
9.6).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, UnsatisfiableReadError

__all__ = ["ClientStream", "readable"]

# A buffer of this size is made for each read: Tornado's 64 KB cost more than the read itself.
READ_BYTES = 16 * 1024

LINGER_SECONDS = 5.0
LINGER_BYTES = 64 * 1024 * 1024

# The event loop holds tasks weakly.
_lingering: set[asyncio.Task[None]] = set()


class ClientStream(IOStream):
    """A Tornado stream that lingers when it is closed.

    ``linger`` asks for it even when nothing is pending. ``last``: the client was told to expect no further
    answer. ``overflow`` is the whole answer to a client who
    sends more than a read allows (headers over their limit, a chunk size without an end), where Tornado only
    hangs up. ``received`` counts the bytes since the last request ended; ``progress`` is when bytes were
    last taken by the client's side (monotonic seconds).
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection, read_chunk_size=READ_BYTES)
        self._is_drained = False
        super().set_nodelay(True)
        self.linger = False
        self.last = False
        self.overflow = b""
        self.received = 0
        self.progress = time.monotonic()

    def set_nodelay(self, value: bool) -> None:
        """Leave it on: Tornado would turn it on and off with each answer, and writes answers in one piece."""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read, and count.

        What gives less than was asked for leaves nothing behind. Tornado asks once more nevertheless, before
        it waits; that is answered without asking the system.
        """
        if self._is_drained:
            self._is_drained = False
            return None
        size = super().read_from_fd(buf)
        if size:
            self.received += size
            self._is_drained = size < READ_BYTES
        return size

    def _handle_events(self, fd: Any, events: int) -> None:
        """Take what is there.

        A client that is quick sends its next request before Tornado has begun to wait for it. Tornado then
        stops to watch the connection and starts again at once, for each request; here it is watched as long
        as what came too early is little.
        """
        self._is_drained = False
        if (
            events == IOLoop.READ
            and self._read_buffer_size < READ_BYTES
            and not (self.reading() or self.closed())
        ):
            self._handle_read()
        else:
            super()._handle_events(fd, events)

    def write_to_fd(self, data: memoryview) -> int:
        """Write, and remember when."""
        size = super().write_to_fd(data)
        self.progress = time.monotonic()
        return size

    def close_fd(self) -> None:
        """Close the socket; politely where the client would lose an answer otherwise."""
        connection, self.socket = self.socket, None  # type: ignore[assignment]
        if self.overflow and isinstance(self.error, UnsatisfiableReadError):
            self.linger = True
            with contextlib.suppress(OSError):
                connection.send(self.overflow)  # a few hundred bytes: the kernel takes all or nothing
        if self.linger or readable(connection):
            try:
                task = asyncio.get_running_loop().create_task(_linger(connection))
            except RuntimeError:  # the loop is gone, and with it all politeness
                connection.close()
            else:
                _lingering.add(task)
                task.add_done_callback(_lingering.discard)
        else:
            connection.close()


def readable(connection: socket.socket) -> bool:
    """Whether bytes of the client wait to be read."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


async def _linger(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    left = LINGER_BYTES
    with connection, contextlib.suppress(OSError, TimeoutError):
        connection.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_SECONDS):
            while left > 0 and (chunk := await loop.sock_recv(connection, 65536)):
                left -= len(chunk)
