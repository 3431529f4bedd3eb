"""What is read of a request past Tornado is what Tornado reads, or it is left to Tornado."""

from __future__ import annotations

import os
import re
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tornado import httputil
from tornado.http1connection import HTTP1Connection, is_transfer_encoding_chunked

from bzz.server import heads
from bzz.server.brief import Request
from bzz.server.heads import Heads

MAX_HEAD, MAX_BODY = 600, 50
EXAMPLES = 600 * int(os.environ.get("BZZ_TORTURE", "1"))

GOOD = [
    b"Host: example.org",
    b"Host: Example.ORG:8888",
    b"Accept: */*",
    b"accept: text/html",
    b"Connection: keep-alive",
    b"Content-Length: 5",
    b"X-Request-Id: abc",
    b"X-Empty:",
    b"X-Latin: caf\xe9",
    b"Cookie: a=b; c=d",
]
HOSTILE = [
    b"Host: ",
    b"Host: a,b",
    b"Host: a b",
    b"Host: a\x00b",
    b"Host:[::1]:80",
    b"Host : x",
    b"Content-Length: 05",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 5,6",
    b"Content-Length: 0x5",
    b"Content-Length: 5 ",
    b"Content-Length: \xb2",
    b"Content-Length: 99999999999999999999",
    b"Content-Length : 5",
    b"content-length: 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity, chunked",
    b"transfer-encoding : chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Connection: close",
    b"Connection: Upgrade",
    b"Connection: keep-alive, close",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b" folded",
    b"\tfolded: yes",
    b": no name",
    b"no colon",
    b"Bad Name: x",
    b"Bad\x00: x",
    b"X: \x01",
    b"X: a\rb",
    b"X: a\nb",
    b"X: a\n\nGET /smuggled HTTP/1.1",
    b"X: a\n\nY: b",
    b"X: a\n\r\nContent-Length: 3",
    b"Content-Type: application/x-ndjson",
]
FINE = [b"Host:[::1]:80", b"Content-Length: 05", b"Content-Length: 5 ", b"content-length: 3"]
LONG = [b"X-Long: " + b"x" * 700]
LINES = [
    b"GET / HTTP/1.1",
    b"GET /a/b?c=d HTTP/1.1",
    b"POST /a HTTP/1.1",
    b"GET /?a=1&a=2&b= HTTP/1.1",
    b"DELETE /%2F%zz HTTP/1.1",
    b"GET //x HTTP/1.1",
    b"get / HTTP/1.1",
    b"GET http://x/ HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"CONNECT x:1 HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET / HTTP/2.0",
    b"GET  / HTTP/1.1",
    b"GET /a b HTTP/1.1",
    b"GET /\xe9 HTTP/1.1",
    b"GET /\x7f HTTP/1.1",
    b"GET /",
    b"",
    b"\r\nGET / HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET / HTTP/1.1\x0b",
]


class Context:
    remote_ip, protocol = "127.0.0.1", "http"


class Connection:
    """As much of a connection as a request looks at."""

    context = Context()
    server_conn = None
    request_headers: httputil.HTTPHeaders


def by_tornado(data: bytes) -> tuple[httputil.HTTPServerRequest, int, bytes] | None:
    """Read a request with Tornado's parts; None if it refuses it, waits for more, or it is chunked."""
    found = re.search(b"\r?\n\r?\n", data)
    if found is None or found.end() > MAX_HEAD:
        return None
    try:
        text, headers = HTTP1Connection._parse_headers(cast(Any, None), data[: found.end()])
        start_line = httputil.parse_request_start_line(text)
        request = httputil.HTTPServerRequest(
            connection=cast(Any, Connection()), start_line=start_line, headers=headers
        )
        if is_transfer_encoding_chunked(headers):
            return None
    except httputil.HTTPInputError:
        return None
    length = headers.get("Content-Length", "0")
    assert re.fullmatch("[0-9]+", length), "what Tornado would refuse only when it reads the body"
    return request, found.end(), data[found.end() : found.end() + int(length)]


@st.composite
def requests(draw: Any) -> bytes:
    line = draw(st.sampled_from(LINES[:4] * 5 + LINES) | st.binary(max_size=30))
    field = st.sampled_from(GOOD * 8 + HOSTILE + LONG) | st.binary(max_size=12).map(b"X: ".__add__)
    fields = draw(st.lists(field, max_size=6))
    if draw(st.sampled_from([True] * 5 + [False])):
        fields.insert(0, GOOD[0])
    end = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\n\n"])
    head = b"".join(each + draw(end) for each in [line, *fields])
    last = draw(st.sampled_from([b"\r\n"] * 8 + [b"\n", b""]))
    return b"".join([head, last, draw(st.sampled_from([b"", b"hello", b"hello, more"]))])


def check(reader: Heads, data: bytes) -> bool:
    """Compare, and tell whether it was read."""
    message = reader.read(data)
    if message is None:
        return False
    usual = by_tornado(data)
    assert usual is not None, data
    wanted, end, body = usual
    connection = Connection()
    connection.request_headers = message.head.headers()
    arguments = reader.arguments(message.start_line.path.partition("?")[2])
    got = Request(cast(Any, connection), message, arguments)
    assert message.start_line == (wanted.method, wanted.uri, wanted.version)
    assert list(got.headers.get_all()) == list(wanted.headers.get_all())
    inside, outside = vars(got), vars(wanted)
    assert inside.keys() == outside.keys()
    for name in inside.keys() - {"connection", "headers", "body", "_start_time"}:
        assert inside[name] == outside[name], name
    assert got.body == message.body == body
    assert end + len(body) + len(message.rest) == len(data)
    assert data.endswith(message.rest)
    assert len(body) == int(wanted.headers.get("Content-Length", "0")) <= MAX_BODY
    return True


@settings(max_examples=EXAMPLES)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\n\r\nY: b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\n\nY: b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\n\nGET /b HTTP/1.1\r\nHost: b\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 3\r\n\r\nhello")
@given(requests())
def test_what_is_read_is_what_tornado_reads(data: bytes) -> None:
    reader = Heads(MAX_HEAD, MAX_BODY)
    first = check(reader, data)
    assert check(reader, data) == first  # now from memory


@pytest.mark.parametrize("line", LINES[:5])
def test_plain_requests_are_read(line: bytes) -> None:
    assert check(Heads(MAX_HEAD, MAX_BODY), b"\r\n".join([line, *GOOD[1:]]) + b"\r\n\r\nhello")


@pytest.mark.parametrize("line", LINES[6:])
def test_other_lines_are_left(line: bytes) -> None:
    assert Heads(MAX_HEAD, MAX_BODY).read(b"\r\n".join([line, *GOOD[1:]]) + b"\r\n\r\nhello") is None


@pytest.mark.parametrize("field", [each for each in HOSTILE if each not in FINE])
def test_hostile_fields_are_left(field: bytes) -> None:
    data = b"\r\n".join([LINES[0], GOOD[0], field]) + b"\r\n\r\n"
    assert Heads(2 * MAX_HEAD, MAX_BODY).read(data + b"hello") is None


@pytest.mark.parametrize("field", FINE)
def test_fields_that_only_look_hostile_are_read(field: bytes) -> None:
    fields = [field] if field.startswith(b"Host") else [GOOD[0], field]
    assert check(Heads(MAX_HEAD, MAX_BODY), b"\r\n".join([LINES[2], *fields]) + b"\r\n\r\nhello")


def test_limits_are_exact() -> None:
    data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert Heads(len(data), 5).read(data + b"12345") is not None
    assert Heads(len(data) - 1, 5).read(data + b"12345") is None
    assert Heads(len(data), 4).read(data + b"12345") is None
    assert Heads(len(data), 5).read(data + b"1234") is None
    for end in range(len(data)):
        assert Heads(len(data), 5).read(data[:end]) is None


def test_what_a_handler_does_to_its_request_concerns_no_other() -> None:
    reader = Heads(MAX_HEAD, MAX_BODY)
    data = b"GET /?a=1 HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n"
    for _ in range(2):
        message = reader.read(data)
        assert message is not None
        headers, arguments = message.head.headers(), reader.arguments("a=1")
        assert headers.get_list("X") == ["1", "2"]
        assert (headers["X"], headers["Host"], len(headers)) == ("1,2", "a", 2)
        assert arguments == {"a": [b"1"]}
        headers["Host"] = "b"
        headers.add("X", "3")
        headers.get_list("X").append("4")
        arguments["a"].append(b"2")


def test_what_is_remembered_is_bounded() -> None:
    reader = Heads(10_000, MAX_BODY)
    for number in range(3 * heads.MAX_REMEMBERED):
        assert reader.read(b"GET / HTTP/1.1\r\nHost: a%d\r\n\r\n" % number) is not None
        assert reader.arguments(f"a={number}") == {"a": [b"%d" % number]}
        assert reader.read(b"GET / HTTP/1.1\r\nHost: a%d\r\nTransfer-Encoding: x\r\n\r\n" % number) is None
    long = "x" * heads.MAX_QUERY
    assert reader.arguments(f"a={long}") == {"a": [long.encode()]}
    assert reader.read(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * heads.MAX_BLOCK + b"\r\n\r\n") is None
    for known in (reader._known, reader._queries, reader._hosts):
        assert 0 < len(cast(dict[Any, Any], known)) <= heads.MAX_REMEMBERED
    assert long not in "".join(reader._queries)


def test_too_many_arguments_are_refused_as_by_tornado() -> None:
    query = "&".join(["a=1"] * 2000)
    with pytest.raises(httputil.HTTPInputError):
        Heads(MAX_HEAD, MAX_BODY).arguments(query)


def test_headers_are_copied_whatever_is_inside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_lists", lambda _: None)
    test_what_a_handler_does_to_its_request_concerns_no_other()
