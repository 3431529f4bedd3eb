"""A client's connection that is closed so that the client gets the last answer.

A socket closed while bytes of the client are unread answers with a reset, and a reset throws away what the
client has not read yet: the very 413 that explains it all. So where bytes are pending, or more are to be
expected, only our half is closed, and the client's is read and thrown away, within bounds (RFC 9112, section
9.6).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import time
from collections.abc import Callable
from typing import Any

from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError
from tornado.log import gen_log

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

    ``take`` is called with what has arrived while Tornado waits for a request, and returns whether it has
    taken it. Whoever takes a request calls :meth:`set_aside` first and :meth:`resume` when it is answered.
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
        self.take: Callable[[bytes], bool] | None = None
        self._is_busy = False
        self._ahead: bytes | OSError | None = None
        self._context = contextvars.copy_context()

    def set_nodelay(self, value: bool) -> None:
        """Leave it on: Tornado would turn it on and off with each answer, and writes answers in one piece."""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read, and count.

        What gives less than was asked for leaves nothing behind. Tornado asks once more nevertheless, before
        it waits; that is answered without asking the system.
        """
        if self._ahead is not None:
            size: int | None = self._give_ahead(buf)
        elif self._is_drained:
            self._is_drained = False
            return None
        else:
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
        if self._is_busy:
            self._handle_early(fd, events)
        elif (
            events == IOLoop.READ
            and self._read_buffer_size < READ_BYTES
            and not (self.reading() or self.closed())
        ):
            self._handle_read()
        elif (
            events != IOLoop.READ or self._read_buffer_size or not self._is_at_head() or not self._is_taken()
        ):
            super()._handle_events(fd, events)

    # requests that are taken, past Tornado

    def _is_at_head(self) -> bool:
        """Whether Tornado waits for a request that may be taken."""
        return self.take is not None and self._read_regex is not None and not self._closed

    def _is_taken(self) -> bool:
        """Read, and say whether Tornado need not know; else it reads the same as if nothing had happened."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            self._ahead = error
            return False
        if data and self.take is not None and self.take(data):
            return True
        self._ahead = data
        return False

    def _is_kept_taken(self) -> bool:
        """Offer what came before the last answer."""
        data = bytes(self._read_buffer)
        self._read_buffer.clear()
        self._read_buffer_size = 0
        if self.take is not None and self.take(data):
            return True
        self._read_buffer += data
        self._read_buffer_size = len(data)
        return False

    def _try_inline_read(self) -> None:
        """Take what is there already; Tornado calls this at the beginning of each read."""
        if self._is_at_head() and (self._is_kept_taken() if self._read_buffer_size else self._is_taken()):
            self._watch()
        else:
            super()._try_inline_read()

    def _watch(self) -> None:
        # What is called when bytes arrive must not run in the context of a request that is over.
        if not self._state or not self._state & IOLoop.READ:
            self._context.copy().run(self._add_io_state, IOLoop.READ)

    def _give_ahead(self, buf: bytearray | memoryview) -> int:
        data, self._ahead = self._ahead, None
        if isinstance(data, OSError):
            raise data
        assert data is not None
        buf[: len(data)] = data
        return len(data)

    def set_aside(self, rest: bytes) -> None:
        """Keep what a client sends from now on, beginning with ``rest``."""
        self._is_busy = True
        if rest:
            self._read_buffer += rest
            self._read_buffer_size += len(rest)

    def resume(self, wait: Callable[[], None]) -> None:
        """Go on with what was kept, in another turn of the loop, or call ``wait`` and wait for more."""
        if self._read_buffer_size:
            asyncio.get_running_loop().call_soon(self._go_on, wait, context=self._context.copy())
        elif not self._closed:
            self._is_busy = False
            self.received = 0
            wait()
            self._watch()

    def _go_on(self, wait: Callable[[], None]) -> None:
        if self._closed:
            return
        self._is_busy = False
        self.received = self._read_buffer_size
        wait()
        try:
            self._try_inline_read()
        except UnsatisfiableReadError as error:  # as read_until_regex does it
            gen_log.info("Unsatisfiable read, closing connection: %s", error)
            self.close(exc_info=error)
        except OSError as error:  # it is closed by then; Tornado's reading has to know
            self.close(exc_info=error)

    def _handle_early(self, fd: Any, events: int) -> None:
        """Take what comes before the answer, as Tornado does when nobody reads."""
        reading = self._read_future, self._read_regex, self._read_max_bytes
        self._read_future = self._read_regex = self._read_max_bytes = None
        try:
            if self._read_buffer_size >= READ_BYTES:
                super()._handle_events(fd, events & ~IOLoop.READ)  # which stops to watch for more
            elif events == IOLoop.READ and not self._closed:
                self._handle_read()
            else:
                super()._handle_events(fd, events)
        finally:
            self._read_future, self._read_regex, self._read_max_bytes = reading
            if self._closed:
                self._end_reading()

    def _end_reading(self) -> None:
        """Let Tornado know that the stream was closed: it works on what is complete, then it ends."""
        with contextlib.suppress(UnsatisfiableReadError):
            position = self._find_read_pos()
            if position is not None:
                self._read_from_buffer(position)
        self.close()

    def end(self) -> None:
        """Close; what was sent beyond the last request is not worked on (RFC 9112, section 9.6)."""
        self._read_buffer.clear()
        self._read_buffer_size = 0
        self.close()

    def release(self) -> None:
        """End the wait for a request: the stream belongs to somebody else."""
        self.take = None
        self._is_busy = False
        future, self._read_future, self._read_regex, self._read_max_bytes = (
            self._read_future,
            None,
            None,
            None,
        )
        if future is not None and not future.done():
            future.set_exception(StreamClosedError())

    def send(self, data: bytes) -> asyncio.Future[None] | None:
        """Write; None when the system has taken all of it, else what Tornado's ``write`` returns."""
        if self._write_buffer or self._closed:
            return self.write(data)
        try:
            size = self.socket.send(data)
        except OSError:  # Tornado meets it as well, and says so its own way
            return self.write(data)
        self.progress = time.monotonic()
        return None if size == len(data) else self.write(data[size:])

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
