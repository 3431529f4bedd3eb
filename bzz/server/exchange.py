"""One request and its answer, between Tornado's connection and the application.

Tornado answers what breaks its own limits with a bare 400 or by hanging up. So its limits are out of reach
here, and ours are held one level above, by a message delegate that can still speak: every refusal is a
problem (RFC 9457) and ends the connection, because the rest of the request is not read.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import TYPE_CHECKING, Any, cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection

from bzz.http import problem
from bzz.http.ndjson import NDJSON
from bzz.server.access import Entry
from bzz.server.stream import ClientStream

if TYPE_CHECKING:
    from bzz.server.front import Front

__all__ = ["Exchange", "raw_refusal"]

_DIGITS = re.compile(r"[0-9]+")
_LONGEST_STREAM = 10**17


class Exchange(httputil.HTTPMessageDelegate):
    """The delegate of one request: counts it, holds its limits, passes it on."""

    def __init__(self, front: Front, server_conn: object, connection: HTTP1Connection) -> None:
        self.front = front
        self.server_conn = server_conn
        self.connection = connection
        self.stream = cast(ClientStream, connection.stream)
        self.answer = Answer(self, connection)
        self.inner: httputil.HTTPMessageDelegate | None = None
        self.start_line: httputil.RequestStartLine | None = None
        self.request_id = ""
        self.remote = ""
        self.received = 0
        self.counted = False
        self.streams = False
        self.started = time.monotonic()
        self.late: asyncio.TimerHandle | None = None

    # Tornado's calls, in the order in which they come

    def headers_received(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
    ) -> Awaitable[None] | None:
        """Look at the headers, then either refuse the request or let the application have it."""
        self.start_line = cast(httputil.RequestStartLine, start_line)
        self.started = time.monotonic()
        self.stream.overflow = _BAD_CHUNK
        front = self.front
        self.request_id = front.request_id(headers.get("X-Request-Id"))
        if front.log is not None:
            self.remote = str(self.connection.context)
        front.waiting.pop(self.server_conn, None)
        has_body = "Content-Length" in headers or "Transfer-Encoding" in headers
        if refusal := (self._framing(headers) if has_body else None) or self._overload():
            refusal()
            return None
        front.in_flight += 1
        self.counted = True
        if has_body:
            self._start_clock()
        self.inner = front.hand_on(self.server_conn, self.answer)
        result = self.inner.headers_received(start_line, headers)
        # Behind a trusted proxy the application's side has just put in the client's address.
        self.remote = getattr(self.connection.context, "remote_ip", self.remote)
        return result

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Pass a part of the body on, while the whole is within its limit."""
        self.received += len(chunk)
        if self.streams:
            return self._pass_on(chunk)
        if self.received > self.front.limits.max_body_size:
            self._body_too_large()
            return None
        assert self.inner is not None
        return self.inner.data_received(chunk)

    def accept_stream(self) -> None:
        """Let the body be as long as it is, for an application that keeps none of it; only keep it coming."""
        self.streams = True
        self._start_clock()

    async def _pass_on(self, chunk: bytes) -> None:
        assert self.inner is not None
        self._stop_clock()  # the time that the application takes is not the client's
        taken = self.inner.data_received(chunk)
        if taken is not None:
            await taken
        if not self.stream.closed():
            self._start_clock()

    def finish(self) -> None:
        """The request is complete."""
        self._stop_clock()
        assert self.inner is not None
        try:
            self.inner.finish()
        except Exception:
            self.done(aborted=True)  # Tornado before 6.6 tells nobody
            raise

    def on_connection_close(self) -> None:
        """The client is gone before its request was complete, or it was refused."""
        self._stop_clock()
        if self.inner is not None:
            self.inner.on_connection_close()
        self.done(aborted=True)

    # how it ends

    def done(self, *, aborted: bool = False) -> None:
        """Stop counting the request and log it, once."""
        self.stream.overflow = b""
        if self.counted:
            self.counted = False
            self.front.in_flight -= 1
        if self.start_line is None or self.front.log is None:
            return
        method, path, _ = self.start_line
        self.start_line = None
        seconds = time.monotonic() - self.started
        status = 0 if aborted else self.answer.status
        entry = Entry(
            method, path, self.remote, self.request_id, status, self.answer.size, seconds, aborted=aborted
        )
        self.front.log(entry)

    def __del__(self) -> None:
        # A handler that never answers a client who has left must not count for ever.
        if self.counted:
            self.front.in_flight -= 1

    # why it may be refused

    def _framing(self, headers: httputil.HTTPHeaders) -> Callable[[], None] | None:
        """Refuse a body whose end is unclear, before Tornado does it without a word, or is too far."""
        coding, length = headers.get("Transfer-Encoding"), headers.get("Content-Length")
        if coding is not None and (length is not None or coding.lower() != "chunked"):
            detail = "Transfer-Encoding must be 'chunked' and alone, without Content-Length."
        elif length is not None and (sizes := set(re.split(r",[ \t]*", length))) and not _one_size(sizes):
            detail = "Content-Length must be one number."
        elif length is not None and _over(size := sizes.pop(), self.front.limits.max_body_size):
            if not _over(size, _LONGEST_STREAM) and _is_stream(headers):
                return None  # without an application that takes it as one, it is refused when it arrives
            detail = ""
        else:
            return None
        for name in ("Transfer-Encoding", "Content-Length", "Expect"):
            headers.pop(name, None)  # nothing of the body is read, and no 100 Continue asks for it
        if not detail:
            return self._body_too_large
        return lambda: self._refuse(400, detail, "framing")

    def _overload(self) -> Callable[[], None] | None:
        front = self.front
        assert self.start_line is not None
        if front.in_flight < front.limits.max_in_flight or front.is_probe(self.start_line.path):
            return None
        detail = "The server has as many requests to work on as it can bear."
        return lambda: self._refuse(503, detail, "overload", {"Retry-After": "1"})

    def _body_too_large(self) -> None:
        limit = self.front.limits.max_body_size
        self._refuse(413, f"The body is larger than {limit} bytes.", "body-too-large", limit=limit)

    def _body_is_late(self) -> None:
        seconds = self.front.limits.body_timeout
        self._refuse(408, f"The body did not arrive within {seconds:g} seconds.", "body-timeout")

    def _refuse(
        self, status: int, detail: str, kind: str, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        """Answer and close; when an answer has begun already, only close."""
        self._stop_clock()
        self.stream.linger = True
        if self.answer.status:
            self.connection.close()
            return
        assert self.start_line is not None
        body = problem.problem(status, detail, kind=kind, **members)
        fields = httputil.HTTPHeaders({**_refusal_headers(body), **(headers or {})})
        line = httputil.ResponseStartLine("HTTP/1.1", status, responses[status])
        self.answer.write_headers(line, fields, b"" if self.start_line.method == "HEAD" else body)
        self.answer.finish()

    def _start_clock(self) -> None:
        self._stop_clock()
        timeout = self.front.limits.body_timeout
        self.late = asyncio.get_running_loop().call_later(timeout, self._body_is_late)

    def _stop_clock(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None


class Answer(httputil.HTTPConnection):
    """The connection as the application sees it: Tornado's own, with an eye on what is answered.

    ``status`` is 0 until an answer begins; ``size`` counts the bytes of its body.
    """

    def __init__(self, exchange: Exchange, connection: HTTP1Connection) -> None:
        self.exchange = exchange
        self.connection = connection
        # What Tornado asks for with each request, so that it need not be looked for.
        self.context = connection.context
        self.set_close_callback = connection.set_close_callback
        self.status = 0
        self.size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def accept_stream(self) -> None:
        """Tell the server that the application takes the body as a stream; see :class:`bzz.server.Limits`."""
        self.exchange.accept_stream()

    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Any:
        """Begin the answer."""
        exchange = self.exchange
        self.status = cast(httputil.ResponseStartLine, start_line).code
        self.size += len(chunk or b"")
        exchange.stream.overflow = b""
        headers["X-Request-Id"] = exchange.request_id
        if exchange.front.draining:
            headers["Connection"] = "close"
            exchange.stream.last = True
        return self.connection.write_headers(start_line, headers, chunk)

    def write(self, chunk: bytes) -> Any:
        """Go on with it."""
        self.size += len(chunk)
        return self.connection.write(chunk)

    def finish(self) -> None:
        """End it."""
        gone = self.connection.stream.closed()  # asked before: finish() may close it, when all is written
        try:
            self.connection.finish()
        finally:
            self.exchange.done(aborted=gone)

    def detach(self) -> Any:
        """Give the socket away, to a WebSocket for example; this request is over for us."""
        self.status = 101
        self.exchange.done()
        self.exchange.stream.take = None
        return self.connection.detach()


def raw_refusal(status: int, detail: str, kind: str) -> bytes:
    """Build a whole answer for a client whose request Tornado cannot read."""
    body = problem.problem(status, detail, kind=kind)
    lines = [f"HTTP/1.1 {status} {responses[status]}"]
    lines += [f"{name}: {value}" for name, value in _refusal_headers(body).items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _refusal_headers(body: bytes) -> dict[str, str]:
    return {"Content-Type": problem.CONTENT_TYPE, "Content-Length": str(len(body)), "Connection": "close"}


def _one_size(sizes: set[str]) -> bool:
    return len(sizes) == 1 and all(_DIGITS.fullmatch(size) for size in sizes)


def _is_stream(headers: httputil.HTTPHeaders) -> bool:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == NDJSON


def _over(size: str, limit: int) -> bool:
    size = size.lstrip("0")
    return len(size) > 18 or int(size or "0") > limit  # int() refuses thousands of digits


_BAD_CHUNK = raw_refusal(400, "A chunk of the body is malformed.", "framing")
