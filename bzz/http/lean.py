"""A Tornado handler that begins and ends an answer in fewer steps than Tornado's own.

What it leaves out is repetition: the headers that every answer has are made once a second, and an answer that
is complete, as nearly all are, goes to the connection at once. What comes out is byte for byte what Tornado
writes. It fills the attributes that :class:`tornado.web.RequestHandler` fills, some of them private; the
tests compare all of them with Tornado's own, so that a release which changes them is noticed.
"""

from __future__ import annotations

import time
from asyncio import Future
from http.client import responses
from typing import Any

import tornado.web
from tornado import httputil

__all__ = ["LeanHandler", "common_headers"]

_SERVER = f"TornadoServer/{tornado.version}"
_OK = responses[200]

#: The second for which a date was written last, and what was written.
_dated: tuple[int, str] = (0, "")


class LeanHandler(tornado.web.RequestHandler):
    """Answer as :class:`tornado.web.RequestHandler` does, at less cost.

    ``hashes_answers``: ``compute_etag`` may make a tag of an answer that has none.
    """

    hashes_answers = True

    def clear(self) -> None:
        """Begin the answer anew, with the headers that every answer has."""
        self._headers = common_headers("text/html; charset=UTF-8")
        self.set_default_headers()
        self._write_buffer: list[bytes] = []
        self._status_code = 200
        self._reason = _OK

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> Future[None]:
        """End the answer; one that is complete and has its ETag needs nothing of what Tornado would add."""
        if (
            self._finished
            or self._headers_written
            or self._transforms
            or self._status_code not in _WITH_BODY
            or (self.hashes_answers and "Etag" not in self._headers)
            or self.request.method == "HEAD"
            or hasattr(self, "_new_cookie")
        ):
            return super().finish(chunk)
        if chunk is not None:
            self.write(chunk)
        body = b"".join(self._write_buffer)
        self._write_buffer = []
        headers = self._headers
        if "Content-Length" not in headers:
            headers["Content-Length"] = str(len(body))
        self._headers_written = True
        connection = self.request.connection
        assert connection is not None
        connection.set_close_callback(None)  # type: ignore[attr-defined]
        line = httputil.ResponseStartLine("", self._status_code, self._reason)
        future = connection.write_headers(line, headers, body)
        connection.finish()
        self._log()
        self._finished = True
        self.on_finish()
        self._break_cycles()
        return future


_WITH_BODY = frozenset({200, 201})


def common_headers(content_type: str) -> httputil.HTTPHeaders:
    """Return the headers that every answer begins with."""
    headers = httputil.HTTPHeaders()
    headers["Server"] = _SERVER
    headers["Content-Type"] = content_type
    headers["Date"] = _date()
    return headers


def _date() -> str:
    """Return the date of an answer (RFC 9110, 6.6.1), which has no fractions of a second."""
    global _dated  # noqa: PLW0603
    now = int(time.time())
    if _dated[0] != now:
        _dated = now, httputil.format_timestamp(now)
    return _dated[1]
