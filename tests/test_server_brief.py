"""Nobody can tell a request that goes past Tornado's coroutine from one that does not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import itertools
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import tornado.web
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado import httputil

from bzz.server import Limits, Server, brief, front
from bzz.server.brief import Brief
from bzz.server.stream import READ_BYTES

EXAMPLES = 40 * int(os.environ.get("BZZ_TORTURE", "1"))
LIMITS = Limits(max_body_size=3_000, max_header_size=2_000, idle_timeout=20, body_timeout=20)
seen: list[tuple[str, Any]] = []
current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="")


class Echo(tornado.web.RequestHandler):
    """Says what it got."""

    async def get(self) -> None:
        request = self.request
        seen.append((str(request.uri), type(request.connection)))
        self.set_header("Content-Type", "text/plain")
        self.write(f"{request.method} {request.uri} {sorted(request.arguments.items())} {request.host_name} ")
        self.write(f"{sorted(request.headers.get_all())} {request.body!r} {request.remote_ip}")

    post = put = delete = patch = head = options = get


class Wait(tornado.web.RequestHandler):
    """Answers when the test lets it."""

    opened: asyncio.Event
    left: asyncio.Event

    def on_connection_close(self) -> None:
        Wait.left.set()

    async def get(self) -> None:
        await Wait.opened.wait()
        self.write("at last")


class Kinds(tornado.web.RequestHandler):
    """Answers that are not whole, or not usual."""

    async def get(self, kind: str) -> None:
        connection: Any = self.request.connection
        if kind == "parts":
            for _ in range(3):
                self.write("part ")
                await self.flush()
        elif kind == "nothing":
            self.set_status(204)
        elif kind == "same":
            self.set_status(304)
        elif kind == "close":
            self.set_header("Connection", "close")
        elif kind == "short":
            self.set_header("Content-Length", "10")
            self.write("short")
        elif kind == "long":
            self.set_header("Content-Length", "1")
            self.write("long")
        elif kind == "flood":
            self.write("x" * 10_000_000)
        elif kind == "early":
            connection.write_headers(
                httputil.ResponseStartLine("", 103, "Early Hints"), httputil.HTTPHeaders()
            )
            self.write("late")
        elif kind == "latin":
            self.set_header("X-Latin", "caf\xe9")
        elif kind == "wide":
            self._headers["X-Wide"] = "\u20ac"
        elif kind == "split":
            self._headers["X-Split"] = "a\r\nSet-Cookie: b"
        elif kind == "bytes":
            self._headers["X-Bytes"] = b"c"  # type: ignore[assignment]
        elif kind == "whole":
            line, body = httputil.ResponseStartLine("", 200, "OK"), b"ok"
            connection.write_headers(line, httputil.HTTPHeaders({"Content-Length": "2"}), body)
            connection.write(b"")
            with pytest.raises(httputil.HTTPOutputError):
                connection.write(b"more")
            connection.finish()
            self._finished = True
        elif kind == "asked":
            self.write(f"{connection.no_keep_alive} {connection.exchange.request_id} ")
            self.write(f"{hasattr(connection, '__nothing__')} {hasattr(connection, 'nothing')}")
        elif kind == "gone":
            connection.close()


class Fails(tornado.web.RequestHandler):
    def initialize(self) -> None:
        if "gone" in str(self.request.uri):
            self.request.connection.close()  # type: ignore[union-attr]
        raise httputil.HTTPInputError("no") if "input" in str(self.request.uri) else LookupError("no")


class Set(tornado.web.RequestHandler):
    """Leaves something in its context."""

    async def get(self) -> None:
        before = current.get()
        current.set(str(self.request.uri))
        await asyncio.sleep(0)
        self.write(f"before: {before!r}")


@tornado.web.stream_request_body
class Streamed(tornado.web.RequestHandler):
    async def prepare(self) -> None:
        self.size = 0
        await asyncio.sleep(0)

    def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)

    async def post(self) -> None:
        self.write(str(self.size))


class Detached(tornado.web.RequestHandler):
    """Speaks something else on its socket."""

    async def get(self) -> None:
        connection: Any = self.request.connection
        stream = connection.detach()
        await stream.write(b"HTTP/1.1 200 OK\r\n\r\nname? ")
        name = await stream.read_until_regex(b"\n", max_bytes=100)
        await stream.write(b"hello " + name)
        stream.close()
        self._auto_finish = False


RULES: list[Any] = [
    ("/wait", Wait),
    ("/kinds/(.*)", Kinds),
    ("/fails/.*", Fails),
    ("/set/.*", Set),
    ("/streamed", Streamed),
    ("/detached", Detached),
    ("/.*", Echo),
]


@contextlib.asynccontextmanager
async def served(*, usual: bool = False, **options: Any) -> AsyncIterator[Server]:
    """Serve, ``usual`` Tornado's own way."""
    Wait.opened, Wait.left = asyncio.Event(), asyncio.Event()
    options = {"limits": LIMITS, "access_log": None, **options}
    application = tornado.web.Application(RULES, log_function=lambda handler: None)
    async with Server(application, port=0, address="127.0.0.1", **options) as server:
        assert server._front is not None
        if usual:
            server._front._fits = False
        yield server
        Wait.opened.set()


RESET = b"<reset>"


async def talk(server: Server, pieces: Sequence[bytes], *, pause: float = 0.0) -> bytes:
    """Send, and return what comes back until the server closes, without what always differs.

    A server that is done closes while more is still on its way, and its system then resets the connection:
    the end of what it said may be lost, whatever it was.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
    got = b""
    async with asyncio.timeout(30):
        try:
            while data := await reader.read(65536):
                got += data
        except ConnectionError:
            got += RESET
    writer.close()
    return re.sub(rb"(Date|X-Request-Id): [^\r]*", rb"\1: -", got)


def message(target: str, method: str = "GET", body: bytes = b"", *fields: str, host: str = "x") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *length, *fields, "", ""]
    return "\r\n".join(lines).encode("latin1") + body


LAST = message("/last", "GET", b"", "Connection: close")
KINDS = [
    "whole",
    "parts",
    "nothing",
    "same",
    "close",
    "short",
    "long",
    "early",
    "latin",
    "wide",
    "split",
    "bytes",
    "gone",
]
MESSAGES = [
    message("/a?b=c&b=d&e="),
    message("/a", "POST", b"name=x"),
    message("/a", "POST", b"a=1&b=2", "Content-Type: application/x-www-form-urlencoded"),
    message("/a", "HEAD"),
    message("/a", "DELETE", b"", "Content-Length: 0"),
    message("/a", "PUT", b"x" * 2_999),
    message("/a", "PUT", b"x" * 3_001),
    message("/a", "GET", b"", "Connection: Keep-Alive", "X-Request-Id: mine", "x-a: 1", "X-A: 2"),
    message("/a", "GET", b"", "X-Long: " + "x" * 2_000),
    message("/a", "POST", b"", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
    message("/a", "POST", b"abc", "Expect: 100-continue"),
    message("/a", "POST", b"abc", "Content-Type: application/x-ndjson"),
    message("/a", "POST", b"abc", "Transfer-Encoding: chunked"),
    message("/a", "POST", b"abc", "Content-Length: 4"),
    message("/a", "BREW"),
    message("/nothing/here", "POST", b"abc", host="a, b"),
    message("/?" + "&".join(["a"] * 950)),
    message("/streamed", "POST", b"x" * 100),
    message("/fails/input"),
    message("/fails/lookup"),
    message("/fails/gone/lookup"),
    message("/fails/gone/input"),
    message("/kinds/asked", "GET", b"", "X-Request-Id: mine"),
    message("/set/a") + message("/set/b"),
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"\r\n\r\n" + message("/a"),
    b"GET /a HTTP/1.1\nHost: a\n\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nX: a\n\nGET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\r\n",
    b"what?\r\n\r\n",
    *(message(f"/kinds/{kind}") for kind in KINDS),
    message("/kinds/parts", "HEAD"),
]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def both(**options: Any) -> AsyncIterator[tuple[Server, Server]]:
    """Serve in both ways."""
    async with served(usual=True, **options) as usual, served(**options) as brisk:
        yield usual, brisk


async def same(servers: Sequence[Server], pieces: Sequence[bytes]) -> bytes:
    """Check that both ways answer the same, byte for byte."""
    wanted, got = await asyncio.gather(*(talk(server, pieces) for server in servers))
    if RESET in wanted + got:
        ends = sorted((wanted.removesuffix(RESET), got.removesuffix(RESET)), key=len)
        assert ends[1].startswith(ends[0])
    else:
        assert got == wanted
    gc.collect()  # an exception may hold a request
    await until(lambda: all(server.in_flight == 0 for server in servers))
    return got


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_both_ways_answer_the_same() -> None:
    async with both() as servers:
        for first in MESSAGES:
            answer = await same(servers, [message("/first") + first + message("/next") + LAST])
            assert b"GET /first" in answer
            again = await same(servers, [message("/first"), first, message("/next"), LAST])
            assert answer.startswith(again.removesuffix(RESET))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_it_makes_no_difference_where_packets_end() -> None:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        servers = runner.run(stack.enter_async_context(both()))

        @settings(max_examples=EXAMPLES)
        @given(
            st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=6),
            st.lists(st.integers(0, 6_000), max_size=6),
        )
        def check(messages: list[bytes], cuts: list[int]) -> None:
            data = b"".join([*messages, LAST])
            ends = sorted({0, *(cut % len(data) for cut in cuts), len(data)})
            runner.run(same(servers, [data[begin:end] for begin, end in itertools.pairwise(ends)]))

        check()
        runner.run(stack.aclose())


async def test_plain_requests_go_past_tornado() -> None:
    seen.clear()
    async with served() as server:
        for _ in range(3):
            await talk(server, [message("/a"), message("/b", "POST", b"x"), LAST], pause=0.01)
    assert [uri for uri, way in seen if way is Brief] == ["/a", "/b"] * 3


@pytest.mark.parametrize("part", ["_OF_STREAM", "_OF_CONNECTION"])
async def test_a_tornado_that_is_made_otherwise_goes_its_own_way(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brief, part, (*getattr(brief, part), "unknown"))
    seen.clear()
    async with served() as server:
        await talk(server, [message("/a"), LAST])
    assert Brief not in {way for _, way in seen}


async def test_nothing_of_one_request_is_in_the_context_of_another() -> None:
    async with both() as servers:
        answer = await same(servers, [message("/set/a") + message("/set/b"), message("/set/c"), LAST])
    assert answer.count(b"before: ''") == 3
    reader: asyncio.StreamReader
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        # So much that the connection is not watched for a while.
        writer.write(message("/set/x") * (5 * READ_BYTES // 40))
        for _ in range(5 * READ_BYTES // 40):
            assert b"before: ''" in await reader.readuntil(b"before: ''")
        for _ in range(2):
            writer.write(message("/set/x"))
            assert (await reader.readuntil(b"''")).endswith(b"before: ''")
        writer.close()


@pytest.mark.parametrize(("usual", "more"), [(True, b""), (False, b""), (False, message("/a")[:20])])
async def test_a_client_that_leaves_is_noticed(usual: bool, more: bytes) -> None:
    async with served(usual=usual) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(message("/wait") + more)
        await until(lambda: server.in_flight == 1)
        writer.close()
        async with asyncio.timeout(20):
            await Wait.left.wait()
        await until(lambda: server.connections == 0)
        Wait.opened.set()
        await until(lambda: server.in_flight == 0)


@pytest.mark.parametrize("usual", [True, False])
async def test_what_a_client_has_sent_before_it_left_is_done(usual: bool) -> None:
    seen.clear()
    async with served(usual=usual) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(message("/wait") + message("/done", "POST", b"x"))
        await until(lambda: server.in_flight >= 1)
        writer.close()
        Wait.opened.set()
        await until(lambda: bool(seen))
        assert seen[0][0] == "/done"


@pytest.mark.parametrize("usual", [True, False])
async def test_a_client_that_reads_slowly_gets_all_of_it(usual: bool) -> None:
    async with served(usual=usual) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(message("/kinds/flood") + message("/a") + LAST)
        got = 0
        async with asyncio.timeout(30):
            while data := await reader.read(100_000):
                got += len(data)
        assert got > 10_000_000
        writer.close()


async def test_a_client_that_is_gone_before_its_answer_is_nobodys_error(caplog: Any) -> None:
    async with served() as server:
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(message("/kinds/flood"))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await asyncio.sleep(0.01)
        connection.close()
        await until(lambda: server.connections == 0)
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("usual", [True, False])
async def test_a_socket_can_be_given_away(usual: bool) -> None:
    async with served(usual=usual) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(message("/detached"))
        await reader.readuntil(b"name? ")
        assert (server.in_flight, server.connections) == (0, 0)
        writer.write(b"you\n")
        assert await reader.read() == b"hello you\n"
        writer.close()


@pytest.mark.parametrize("usual", [True, False])
async def test_the_end_of_the_server_is_the_last_answer(usual: bool) -> None:
    async with served(usual=usual) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(message("/wait"))
        await until(lambda: server.in_flight == 1)
        stopping = asyncio.create_task(server.stop())
        await until(lambda: server._front is not None and server._front.draining)
        Wait.opened.set()
        answer = await reader.read()
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"at last")
        await stopping
        assert server.connections == 0
        writer.close()


async def test_both_ways_log_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bzz.access")
    lines = []
    for usual in (True, False):
        caplog.clear()
        async with served(usual=usual, access_log="text", xheaders=True) as server:
            forwarded = "X-Forwarded-For: 10.1.2.3", "X-Request-Id: mine", "X-Forwarded-Proto: https"
            await talk(
                server,
                [
                    message("/a", "POST", b"x", *forwarded) + message("/kinds/parts", "GET", b"", *forwarded),
                    message("/kinds/nothing", "GET", b"", *forwarded),
                    message("/b", "GET", b"", "X-Request-Id: other") + LAST,
                ],
            )
        lines.append(
            [
                re.sub(r"^\S+|[0-9.]+ms \S{16}$|[0-9.]+ms", "-", each.getMessage())
                for each in caplog.records
                if each.name == "bzz.access"
            ]
        )
    assert lines[0] == lines[1]
    assert len(lines[0]) == 5
    assert "10.1.2.3" in lines[0][0]
    assert "127.0.0.1" in lines[0][3]


async def test_the_address_that_a_proxy_tells_is_that_of_its_request_only() -> None:
    async with both(xheaders=True) as servers:
        answer = await same(servers, [message("/a", "GET", b"", "X-Real-Ip: 10.1.2.3") + message("/b"), LAST])
    assert answer.count(b"10.1.2.3") == 2  # the header, and the address
    assert answer.count(b"127.0.0.1") == 2


async def test_a_query_that_tornado_refuses_is_refused() -> None:
    async with both(limits=Limits(max_header_size=9_000)) as servers:
        answer = await same(servers, [message("/?" + "&".join(["a=1"] * 2_000))])
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("usual", [True, False])
async def test_an_idle_client_that_breaks_its_connection_is_nobodys_error(usual: bool, caplog: Any) -> None:
    async with served(usual=usual) as server:
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(message("/a"))
        await until(lambda: server.connections == 1 and server.in_flight == 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        await until(lambda: server.connections == 0)
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


class Counting(tornado.web.Application):
    """Sees its requests begin."""

    begun = 0

    def start_request(self, server_conn: object, request_conn: Any) -> Any:
        self.begun += 1
        return super().start_request(server_conn, request_conn)


async def test_an_application_that_begins_requests_itself_is_asked_for_each() -> None:
    application = Counting(RULES, log_function=lambda handler: None)
    async with Server(application, port=0, address="127.0.0.1", access_log=None) as server:
        await talk(server, [message("/a"), message("/b"), LAST])
    assert application.begun == 3


class Careless(httputil.HTTPMessageDelegate):
    """Fails, and fails again when it is told so."""

    stream_request_body = False

    def finish(self) -> None:
        raise LookupError("no")

    def on_connection_close(self) -> None:
        raise LookupError("again")


class Odd(tornado.web.Application):
    def find_handler(self, request: httputil.HTTPServerRequest, **kwargs: Any) -> Any:
        return Careless()


async def test_what_fails_twice_ends_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Server(Odd([]), port=0, address="127.0.0.1", access_log=None) as server:
        assert await talk(server, [message("/a")]) == b""
        await until(lambda: server.connections == 0)
        assert server.in_flight == 0
    assert [str(each.exc_info[1]) for each in caplog.records if each.exc_info] == ["no", "again"]


async def test_ids_are_new_for_each_request_and_those_of_clients_are_kept() -> None:
    async with served() as server:
        made = server._front
        assert isinstance(made, front.Front)
        ids = {made.request_id(None) for _ in range(200)}
        assert len(ids) == 200
        assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
        assert made.request_id("mine") == "mine"
        assert made.request_id("not\tmine") != "not\tmine"
