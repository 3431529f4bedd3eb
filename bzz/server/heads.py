"""The heads of requests, read once for all clients that say the same.

A client on an open connection sends the same header fields again and again, and many clients send the same.
So a block of fields is parsed when it is seen first, by Tornado's own parser, and remembered by its bytes.
Only what is plain is understood here: anything that could be read in two ways, or asks for anything but one
answer on an open connection, is left to Tornado, byte for byte as it came.
"""

from __future__ import annotations

import re
from typing import Any

from tornado import httputil

from bzz.http.ndjson import NDJSON

__all__ = ["Head", "Heads", "Message"]

# Origin form only; no byte that Tornado would refuse or strip (RFC 9112, section 3).
_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[\x21-\x7e]*) HTTP/1\.1\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_END = b"\r\n\r\n"
#: Fields that ask for more than one plain answer.
_UNUSUAL = ("Transfer-Encoding", "Expect", "Upgrade")

MAX_REMEMBERED = 256
MAX_BLOCK = 4096
MAX_QUERY = 256


class Head:
    """What a block of header fields says.

    ``size`` is the length of the body; ``host_name`` is the host without its port, in lower case.
    """

    __slots__ = ("_headers", "_lists", "host", "host_name", "request_id", "size")

    def __init__(self, headers: httputil.HTTPHeaders, host: str, host_name: str) -> None:
        self._headers = headers
        self._lists = _lists(headers)
        self.host = host
        self.host_name = host_name
        self.size = int(headers.get("Content-Length", "0"))
        self.request_id = headers.get("X-Request-Id")

    def headers(self) -> httputil.HTTPHeaders:
        """Return the fields, to be changed at will."""
        if self._lists is None:
            return self._headers.copy()
        copied: Any = _new(httputil.HTTPHeaders)
        copied._as_list = {name: values[:] for name, values in self._lists.items()}
        copied._combined_cache = {}
        return copied  # type: ignore[no-any-return]


_new = object.__new__


def _lists(headers: Any) -> dict[str, list[str]] | None:
    """Return the inside of Tornado's headers, if it is what is copied above."""
    if vars(headers).keys() == {"_as_list", "_combined_cache"}:
        return headers._as_list  # type: ignore[no-any-return]
    return None


class Message:
    """A request that is there as a whole; ``rest`` is what the client has sent beyond it."""

    __slots__ = ("body", "head", "rest", "start_line")

    def __init__(self, start_line: httputil.RequestStartLine, head: Head, body: bytes, rest: bytes) -> None:
        self.start_line = start_line
        self.head = head
        self.body = body
        self.rest = rest


class Heads:
    """Reads plain requests; a head has at most ``max_header_size`` bytes, a body ``max_body_size``."""

    def __init__(self, max_header_size: int, max_body_size: int) -> None:
        self._max_header_size = max_header_size
        self._max_body_size = max_body_size
        self._known: dict[bytes, Head | None] = {}
        self._hosts: dict[str, str] = {}
        self._queries: dict[str, dict[str, list[bytes]]] = {}

    def read(self, data: bytes) -> Message | None:
        """Read the first request of ``data``; None when it is not plain or not complete."""
        line = _LINE.match(data)
        if line is None:
            return None
        begin = line.end()
        end = data.find(_END, begin - 2) + 4
        if not 4 <= end <= self._max_header_size:
            return None
        block = data[begin:end]
        try:
            head = self._known[block]
        except KeyError:
            head = self._learn(block)
        if head is None or head.size > self._max_body_size or len(data) < end + head.size:
            return None
        method, target = line.groups()
        start_line = httputil.RequestStartLine(method.decode(), target.decode(), "HTTP/1.1")
        after = end + head.size
        return Message(start_line, head, data[end:after], data[after:])

    def arguments(self, query: str) -> dict[str, list[bytes]]:
        """Return the arguments of a query, to be changed at will; raise what Tornado raises for a bad one."""
        if not query:
            return {}
        known = self._queries.get(query)
        if known is None:
            line = httputil.RequestStartLine("GET", f"/?{query}", "HTTP/1.1")
            known = httputil.HTTPServerRequest(start_line=line, headers=_ANYWHERE).arguments
            if len(query) <= MAX_QUERY:
                if len(self._queries) >= MAX_REMEMBERED:
                    self._queries.clear()
                self._queries[query] = known
        return {name: values[:] for name, values in known.items()}

    def _learn(self, block: bytes) -> Head | None:
        if len(block) > MAX_BLOCK:
            return None
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        head = self._known[block] = self._parse(block.decode("latin1"))
        return head

    def _parse(self, text: str) -> Head | None:
        lines = text.count("\r\n")
        if text.count("\n") != lines or text.count("\r") != lines:
            return None  # Tornado may see its end earlier
        try:
            headers = httputil.HTTPHeaders.parse(text)
            host_name = self._host_name(headers)
        except httputil.HTTPInputError:
            return None
        if any(name in headers for name in _UNUSUAL) or not _is_plain(headers):
            return None
        return Head(headers, headers["Host"], host_name)

    def _host_name(self, headers: httputil.HTTPHeaders) -> str:
        """Return the name of the host as Tornado understands it, with all its checks."""
        host = headers.get("Host", "")
        known = self._hosts.get(host)
        if known is None:
            line = httputil.RequestStartLine("GET", "/", "HTTP/1.1")
            known = httputil.HTTPServerRequest(start_line=line, headers=headers).host_name
            if len(self._hosts) >= MAX_REMEMBERED:
                self._hosts.clear()
            self._hosts[host] = known
        return known


_ANYWHERE = httputil.HTTPHeaders({"Host": "x"})


def _is_plain(headers: httputil.HTTPHeaders) -> bool:
    length = headers.get("Content-Length")
    return (
        len(headers.get_list("Host")) == 1
        and headers.get("Connection", "keep-alive").lower() == "keep-alive"
        and (length is None or _LENGTH.fullmatch(length) is not None)
        # A stream of lines may be longer than other bodies, and is worked on while it arrives.
        and headers.get("Content-Type", "").partition(";")[0].strip().lower() != NDJSON
    )
