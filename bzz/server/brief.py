"""A request that arrived as a whole, and its answer, past the greater part of Tornado's connection.

Tornado reads a message with a coroutine, which wakes several times, each time in another turn of the event
loop. A plain request that is complete when its bytes arrive needs none of this: it goes to the application
at once, and an answer that is complete goes to the socket at once. Meanwhile Tornado's coroutine waits for a
message of which it has seen nothing, and goes on when one comes that is not so simple. An answer that is not
either, in parts for example, is written by a connection of Tornado's, made when it is needed.

The promise is that nobody can tell the difference, but for the time that it takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.log import app_log, gen_log

from bzz.server.access import Entry
from bzz.server.heads import Message

if TYPE_CHECKING:
    from bzz.server.exchange import Exchange

__all__ = ["Brief", "Request", "fits"]

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"
_BODILESS = frozenset({204, 304})

# What is relied on of Tornado's inside, here and in bzz.server.stream.
_OF_STREAM = (
    "_add_io_state",
    "_closed",
    "_find_read_pos",
    "_handle_read",
    "_read_buffer",
    "_read_buffer_size",
    "_read_from_buffer",
    "_read_future",
    "_read_max_bytes",
    "_read_regex",
    "_state",
    "_try_inline_read",
    "_write_buffer",
)
_OF_CONNECTION = (
    "_finish_future",
    "_on_connection_close",
    "_read_finished",
    "_request_headers",
    "_request_start_line",
)


def fits(stream: object, connection: object) -> bool:
    """Whether this Tornado is made as those that are known; with another one, all requests go its own way."""
    inside = ((stream, _OF_STREAM), (connection, _OF_CONNECTION))
    return all(hasattr(each, name) for each, names in inside for name in names)


class Request(httputil.HTTPServerRequest):
    """Tornado's request, made of what is known already."""

    def __init__(self, brief: Brief, message: Message, arguments: dict[str, list[bytes]]) -> None:
        self.method, self.uri, self.version = message.start_line
        self.headers = brief.request_headers
        self.body = message.body
        context = brief.context
        self.remote_ip = context.remote_ip
        self.protocol = context.protocol
        head = message.head
        self.host = head.host
        self.host_name = head.host_name
        self.files = {}
        self.connection = brief
        self.server_connection = brief.server_conn
        self._start_time = time.time()
        self._finish_time = None
        self.path, _, self.query = self.uri.partition("?")
        self.arguments = arguments
        self.query_arguments = {name: values[:] for name, values in arguments.items()} if arguments else {}
        self.body_arguments = {}


class Brief(httputil.HTTPConnection):
    """One such request: counts it, and is the connection that the application sees.

    ``waiting`` is Tornado's side, which waits. ``status`` is 0 until an answer begins; ``size`` counts the
    bytes of its body.
    """

    def __init__(self, waiting: Exchange, message: Message) -> None:
        self.front = waiting.front
        self.waiting = waiting
        self.server_conn = waiting.server_conn
        self.stream = waiting.stream
        self.context: Any = waiting.connection.context
        self.start_line = message.start_line
        self.request_headers = message.head.headers()
        self.request_id = self.front.request_id(message.head.request_id)
        self.remote = ""
        self.started = 0.0
        self.counted = False
        self.status = 0
        self.size = 0
        self._whole = False
        self._pending: asyncio.Future[None] | None = None
        self._on_close: Callable[[], None] | None = None
        self._tornado: HTTP1Connection | None = None

    @property
    def exchange(self) -> Brief:
        """What knows the id of the request."""
        return self

    def run(self, delegate: httputil.HTTPMessageDelegate, message: Message) -> None:
        """Let the application have the request."""
        front, stream = self.front, self.stream
        front.waiting.pop(self.server_conn, None)
        front.in_flight += 1
        self.counted = True
        self.started = time.monotonic()
        stream.set_aside(message.rest)
        stream.set_close_callback(self._closed)
        try:
            delegate.headers_received(self.start_line, self.request_headers)
            if message.body:
                delegate.data_received(message.body)
            delegate.finish()
        except Exception as error:
            self._break_off(delegate, error)

    def _break_off(self, delegate: httputil.HTTPMessageDelegate, error: Exception) -> None:
        """End as Tornado's connection does when the application fails where it must not."""
        if isinstance(error, httputil.HTTPInputError):
            gen_log.info("Malformed HTTP message from %s: %s", self.context, error)
            if not self.stream.closed():
                self.stream.write(_BAD_REQUEST)
        else:
            app_log.error("Uncaught exception", exc_info=error)
        try:
            delegate.on_connection_close()
        except Exception:
            app_log.exception("Uncaught exception")
        self.done(aborted=True)
        self.stream.end()

    def _closed(self) -> None:
        callback, self._on_close = self._on_close, None
        if callback is not None:
            callback()

    # what the application calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._usual(), name)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Call this when the client leaves before it has its answer."""
        self._on_close = callback

    def accept_stream(self) -> None:
        """Nothing of the body is still to come."""

    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Any:
        """Begin the answer; one that is whole is sent."""
        self.status = start_line[1]  # type: ignore[assignment]
        headers["X-Request-Id"] = self.request_id
        if self.front.draining:
            headers["Connection"] = "close"
            self.stream.last = True
        elif self._is_whole(headers, chunk) and (head := _head_bytes(start_line, headers)):
            self._whole = True
            self.size = len(chunk or b"")
            self._pending = self.stream.send(head + chunk if chunk else head)
            return self._pending or self.front.sent
        self.size += len(chunk or b"")
        return self._usual().write_headers(start_line, headers, chunk)

    def _is_whole(self, headers: httputil.HTTPHeaders, chunk: bytes | None) -> bool:
        if self._tornado is not None or self._whole or self.stream.closed() or "Transfer-Encoding" in headers:
            return False
        length = headers.get("Content-Length")
        if self.status in _BODILESS:
            return length is None and not chunk
        return (
            self.status >= 200
            and chunk is not None
            and length == str(len(chunk))
            and self.start_line.method != "HEAD"
        )

    def write(self, chunk: bytes) -> Any:
        """Go on with it."""
        if not self._whole:
            self.size += len(chunk)
            return self._usual().write(chunk)
        if chunk:
            self.stream.close()
            raise httputil.HTTPOutputError("Tried to write more data than Content-Length")
        return self._pending or self.front.sent

    def finish(self) -> None:
        """End it."""
        gone = self.stream.closed()  # asked before: finish() may close it, when all is written
        try:
            if not self._whole:
                self._usual().finish()
            elif self._pending is None:
                self._resume()
            else:
                self._pending.add_done_callback(self._resume)
        finally:
            self.done(aborted=gone)

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()

    def detach(self) -> Any:
        """Give the socket away; this request is over for us, and so is Tornado's wait for the next."""
        self.status = 101
        self.done()
        self.stream.set_close_callback(None)
        stream = self.waiting.connection.detach()
        self.stream.release()
        return stream

    # how it ends

    def _usual(self) -> HTTP1Connection:
        """Return a connection of Tornado's that has read this request, and can do everything."""
        made: Any = self._tornado
        if made is None:
            made = self._tornado = HTTP1Connection(self.stream, False, self.front.conn_params, self.context)
            made._request_start_line = self.start_line
            made._request_headers = self.request_headers
            made._read_finished = True
            made.set_close_callback(self._closed)
            self.stream.set_close_callback(made._on_connection_close)
            made._finish_future.add_done_callback(self._resume)
        return made  # type: ignore[no-any-return]

    def _resume(self, _: object = None) -> None:
        """Let the next request come."""
        stream = self.stream
        stream.set_close_callback(None)
        if stream.last:
            stream.end()
        else:
            stream.resume(self._wait)

    def _wait(self) -> None:
        self.waiting.started = time.monotonic()
        self.front.waiting[self.server_conn] = self.waiting

    def done(self, *, aborted: bool = False) -> None:
        """Stop counting the request and log it, once."""
        if not self.counted:
            return
        self.counted = False
        self.front.in_flight -= 1
        if self.front.log is not None:
            method, path, _ = self.start_line
            seconds = time.monotonic() - self.started
            status = 0 if aborted else self.status
            self.front.log(
                Entry(method, path, self.remote, self.request_id, status, self.size, seconds, aborted=aborted)
            )

    def __del__(self) -> None:
        # A handler that never answers a client who has left must not count for ever.
        if self.counted:
            self.front.in_flight -= 1


def _head_bytes(start_line: Any, headers: httputil.HTTPHeaders) -> bytes | None:
    """Write the head of an answer as Tornado does; None for one that Tornado has to look at."""
    lines = [f"HTTP/1.1 {start_line[1]} {start_line[2]}"]
    try:
        for name, value in headers.get_all():
            lines.append(name + ": " + value)
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            return None
        return (head + "\r\n\r\n").encode("latin1")
    except (TypeError, UnicodeEncodeError):
        return None
