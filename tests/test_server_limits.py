"""The limits of a public server, over real sockets: each is an answer that the client receives."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import tornado.web
import tornado.websocket
from tornado.httpclient import AsyncHTTPClient

from bzz.health import HealthHandler
from bzz.server import Limits, Server, stream

LIMITS = Limits(
    max_body_size=10_000, max_header_size=2_000, idle_timeout=20, body_timeout=20, max_in_flight=2
)


class Echo(tornado.web.RequestHandler):
    async def get(self) -> None:
        self.write("hello")

    async def post(self) -> None:
        self.write(str(len(self.request.body)))

    put = post


class Gate(tornado.web.RequestHandler):
    """Answers when the test lets it."""

    entered: asyncio.Semaphore
    opened: asyncio.Event

    async def get(self) -> None:
        Gate.entered.release()
        await Gate.opened.wait()
        self.write("at last")


@tornado.web.stream_request_body
class Early(tornado.web.RequestHandler):
    """Begins its answer before it has the body."""

    async def prepare(self) -> None:
        self.set_header("Content-Length", "100")
        self.write("begun")
        await self.flush()

    def data_received(self, chunk: bytes) -> None: ...

    async def post(self) -> None: ...


class Flood(tornado.web.RequestHandler):
    """Answers with more than the buffers of both sides hold."""

    async def get(self) -> None:
        self.write(b"x" * 30_000_000)


class Parts(tornado.web.RequestHandler):
    async def get(self) -> None:
        for _ in range(3):
            self.write("part ")
            await self.flush()


class Forget(tornado.web.RequestHandler):
    """Never answers, and nobody holds it."""

    async def get(self) -> None:
        self._auto_finish = False


class Chat(tornado.websocket.WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message)


RULES: list[Any] = [
    ("/", Echo),
    ("/gate", Gate),
    ("/early", Early),
    ("/flood", Flood),
    ("/chat", Chat),
    ("/parts", Parts),
    ("/forget", Forget),
    ("/health", HealthHandler),
]


@asynccontextmanager
async def served(limits: Limits = LIMITS, **options: Any) -> AsyncIterator[Server]:
    Gate.entered, Gate.opened = asyncio.Semaphore(0), asyncio.Event()
    server = Server(RULES, port=0, address="127.0.0.1", limits=limits, access_log=None, **options)
    async with server:
        yield server
        Gate.opened.set()


class Peer:
    """A client that sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def problem(self, status: int) -> dict[str, Any]:
        got, headers, body = await self.answer()
        assert (got, headers["content-type"]) == (status, "application/problem+json"), body
        found: dict[str, Any] = json.loads(body)
        assert found["status"] == status
        assert found.keys() >= {"type", "title", "detail"}
        return found

    async def ended(self) -> None:
        """The server has closed its side, and sent nothing more."""
        assert await asyncio.wait_for(self.reader.read(), 60) == b""


@asynccontextmanager
async def peer(server: Server) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def request(method: str = "POST", path: str = "/", body: bytes = b"", **headers: str) -> bytes:
    fields = {"Host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def chunked(body: bytes, size: int = 1000) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


# bodies


async def test_body_at_the_limit_is_taken_and_the_connection_stays() -> None:
    async with served() as server, peer(server) as client:
        for _ in range(2):
            await client.send(request(body=b"x" * 10_000, Content_Length="10000"))
            assert (await client.answer())[2] == b"10000"
            await client.send(request(body=chunked(b"x" * 10_000), Transfer_Encoding="chunked"))
            assert (await client.answer())[2] == b"10000"


@pytest.mark.parametrize("size", [10_001, 100_000, 20_000_000])
async def test_body_over_the_limit_is_413_for_a_client_that_sends_all_of_it_first(size: int) -> None:
    async with served() as server, peer(server) as client:
        await client.send(request(body=b"x" * size, Content_Length=str(size)))
        found = await client.problem(413)
        assert found["type"] == "urn:bzz:problem:body-too-large"
        assert found["limit"] == 10_000
        await client.ended()


@pytest.mark.parametrize("size", [10_001, 500_000, 20_000_000])
async def test_chunked_body_over_the_limit_is_413(size: int) -> None:
    async with served() as server, peer(server) as client:
        await client.send(request(body=chunked(b"x" * size, 70_000), Transfer_Encoding="chunked"))
        await client.problem(413)
        await client.ended()


async def test_blocking_client_receives_the_413_although_it_reads_late() -> None:
    """What ``http.client`` does: send everything, only then read; a reset would lose the answer."""

    def blocking() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(request(body=b"x" * 5_000_000, Content_Length="5000000"))
            return client.recv(100)

    async with served() as server:
        assert (await asyncio.to_thread(blocking)).startswith(b"HTTP/1.1 413 ")


async def test_client_that_never_stops_sending_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LINGER_BYTES", 1_000_000)
    async with served() as server, peer(server) as client:
        await client.send(request(Content_Length="99999999999999999999999999"))
        await client.problem(413)
        with pytest.raises(ConnectionError):
            while True:
                await client.send(b"x" * 100_000)


async def test_expecting_client_is_told_before_it_sends() -> None:
    async with served() as server, peer(server) as client:
        await client.send(request(Content_Length="10001", Expect="100-continue"))
        await client.problem(413)
        await client.ended()


async def test_refused_head_request_has_no_body() -> None:
    async with served() as server, peer(server) as client:
        await client.send(request("HEAD", Content_Length="10001"))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        await client.ended()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Length": "5", "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "gzip, chunked"},
        {"Content_Length": "five"},
        {"Content_Length": "+5"},
        {"Content_Length": "5, 6"},
    ],
)
async def test_body_whose_end_is_unclear_is_400(headers: dict[str, str]) -> None:
    async with served() as server, peer(server) as client:
        await client.send(request(body=b"x" * 5, **headers))
        assert (await client.problem(400))["type"] == "urn:bzz:problem:framing"
        await client.ended()


async def test_same_length_twice_is_one_length() -> None:
    async with served() as server, peer(server) as client:
        await client.send(request(body=b"x" * 5, Content_Length="5, 5"))
        assert (await client.answer())[2] == b"5"


async def test_endless_chunk_size_is_400() -> None:
    async with served() as server, peer(server) as client:
        await client.send(request(body=b"0" * 100, Transfer_Encoding="chunked"))
        await client.problem(400)
        await client.ended()


async def test_late_body_is_408() -> None:
    async with served(Limits(body_timeout=0.1)) as server, peer(server) as client:
        await client.send(request(body=b"x", Content_Length="5"))
        assert (await client.problem(408))["type"] == "urn:bzz:problem:body-timeout"
        await client.ended()


async def test_late_body_of_an_answer_that_has_begun_only_ends_it() -> None:
    async with served(Limits(body_timeout=0.1)) as server, peer(server) as client:
        await client.send(request(path="/early", body=b"x", Content_Length="5"))
        assert (await client.reader.read()).endswith(b"\r\n\r\nbegun")
        await until(lambda: server.in_flight == 0)


# headers and idle connections


@pytest.mark.parametrize("size", [2_001, 60_000, 5_000_000])
async def test_headers_over_the_limit_are_431(size: int) -> None:
    async with served() as server, peer(server) as client:
        await client.send(request("GET", Cookie="x" * size))
        assert (await client.problem(431))["type"] == "urn:bzz:problem:headers-too-large"
        await client.ended()


async def test_endless_request_line_is_431() -> None:
    async with served() as server, peer(server) as client:
        await client.send(b"GET /" + b"x" * 10_000)
        await client.problem(431)


async def test_malformed_request_line_is_400() -> None:
    async with served() as server, peer(server) as client:
        await client.send(b"what is this\r\n\r\n")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: "])
async def test_client_without_a_request_is_closed(begun: bytes) -> None:
    async with served(Limits(idle_timeout=0.2)) as server, peer(server) as client:
        await client.send(begun)
        await client.ended()


async def test_client_that_does_not_read_is_closed() -> None:
    async with served(Limits(idle_timeout=0.2)) as server, peer(server) as client:
        await client.send(request("GET", "/flood"))
        assert await client.reader.read(1) == b"H", "it is served, and reads no more than its buffer holds"
        await until(lambda: server.connections == 0)
        assert server.in_flight == 0


# requests in flight


async def test_too_many_requests_are_503_until_others_end() -> None:
    async with served() as server, peer(server) as one, peer(server) as two, peer(server) as three:
        for client in (one, two):
            await client.send(request("GET", "/gate"))
            await Gate.entered.acquire()
        await three.send(request("GET"))
        status, headers, _ = await three.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        await three.ended()
        async with peer(server) as probe:
            await probe.send(request("GET", "/health"))
            assert (await probe.answer())[0] == 200, "whoever watches the server is told the truth"
        Gate.opened.set()
        assert (await one.answer())[2] == b"at last"
        assert (await two.answer())[2] == b"at last"
        await one.send(request("GET"))
        assert (await one.answer())[0] == 200
        assert server.in_flight == 0


async def test_refused_request_with_a_body_is_answered() -> None:
    async with served(Limits(max_in_flight=1)) as server, peer(server) as one, peer(server) as two:
        await one.send(request("GET", "/gate"))
        await Gate.entered.acquire()
        await two.send(request(body=b"x" * 500_000, Content_Length="500000"))
        await two.problem(503)
        await two.ended()


def leave(client: Peer) -> None:
    """Reset the connection, as a process that dies."""
    connection = client.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request("GET", "/gate"), id="while the handler works"),
        pytest.param(request(body=b"x", Content_Length="5"), id="in the middle of the body"),
        pytest.param(request(path="/early", body=b"x", Content_Length="5"), id="in a streamed body"),
        pytest.param(request("GET", "/flood"), id="in the middle of the answer"),
        pytest.param(request("GET", "/forget"), id="while nobody works"),
    ],
)
async def test_clients_that_leave_are_not_counted_for_ever(sent: bytes) -> None:
    async with served() as server:
        for _ in range(LIMITS.max_in_flight):
            Gate.opened.clear()
            async with peer(server) as client:
                await client.send(sent)
                await until(lambda: server.in_flight > 0 or b"flood" in sent)
                leave(client)
            Gate.opened.set()
            await until(lambda: gc.collect() >= 0 and server.in_flight == 0)


async def test_answer_in_parts_is_passed_on() -> None:
    async with served() as server, peer(server) as client:
        await client.send(request("GET", "/parts", Connection="close"))
        assert (await client.reader.read()).count(b"part ") == 3


async def test_websocket_is_not_counted() -> None:
    async with served() as server:
        chat = await tornado.websocket.websocket_connect(f"ws://127.0.0.1:{server.port}/chat")
        assert server.in_flight == 0
        await chat.write_message("hi")
        assert await chat.read_message() == "hi"
        chat.close()


# the rest


async def test_unknown_url_is_a_problem() -> None:
    async with served() as server, peer(server) as client:
        await client.send(request("GET", "/nowhere"))
        status, headers, _ = await client.answer()
        assert (status, headers["content-type"]) == (404, "application/problem+json")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with served() as server, peer(server) as client:
        await client.send(b"".join(request(body=b"x" * n, Content_Length=str(n)) for n in range(1, 20)))
        assert [(await client.answer())[2] for _ in range(1, 20)] == [str(n).encode() for n in range(1, 20)]


async def test_request_id_is_the_clients_if_it_looks_like_one() -> None:
    async with served() as server, peer(server) as client:
        for given, kept in (("abc-1.2_3", True), ("x" * 65, False), ("a b", False)):
            await client.send(request("GET", X_Request_Id=given))
            found = (await client.answer())[1]["x-request-id"]
            assert (found == given) is kept
            assert found


@pytest.mark.parametrize(
    "name", ["max_body_size", "max_header_size", "idle_timeout", "body_timeout", "max_in_flight"]
)
def test_limit_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


async def test_ordinary_client_reuses_its_connection() -> None:
    async with served() as server:
        client = AsyncHTTPClient(force_instance=True)
        answers = [await client.fetch(f"{server.url}/") for _ in range(3)]
        assert [answer.body for answer in answers] == [b"hello"] * 3
        client.close()
