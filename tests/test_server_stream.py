"""A client's connection is read with few calls of the system, whenever its bytes arrive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import tornado.web
from tornado.iostream import IOStream

from bzz.server.limits import Limits
from bzz.server.server import Server
from bzz.server.stream import READ_BYTES, ClientStream


class Echo(tornado.web.RequestHandler):
    waits: asyncio.Event | None = None

    async def get(self) -> None:
        if self.waits is not None:
            await self.waits.wait()
        self.write(self.get_query_argument("n", ""))

    async def post(self) -> None:
        self.write(f"{len(self.request.body)} {self.request.body[-5:].decode()}")


@contextlib.asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[Server]:
    Echo.waits = None
    given = Limits(**limits)
    async with Server([(r"/", Echo)], port=0, address="127.0.0.1", limits=given, access_log=None) as server:
        yield server


@contextlib.asynccontextmanager
async def peer(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def stream(server: Server) -> ClientStream:
    assert server._front is not None
    (client,) = server._front.clients
    found: ClientStream = client.stream  # type: ignore[attr-defined]
    return found


async def body(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 200")
    size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return (await reader.readexactly(size)).decode()


def get(number: int) -> bytes:
    return f"GET /?n={number} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_requests_in_one_packet_are_answered_in_order() -> None:
    async with served() as server, peer(server) as (reader, writer):
        writer.write(b"".join(get(number) for number in range(200)))
        assert [await body(reader) for _ in range(200)] == [str(number) for number in range(200)]


async def test_requests_byte_by_byte_are_answered() -> None:
    async with served() as server, peer(server) as (reader, writer):
        for number in range(3):
            for byte in get(number):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert await body(reader) == str(number)


@pytest.mark.parametrize("size", [1, READ_BYTES - 200, READ_BYTES, READ_BYTES + 1, 5 * READ_BYTES, 900_000])
@pytest.mark.parametrize("piece", [0, 7_000])
async def test_bodies_of_every_size_arrive_whole(size: int, piece: int) -> None:
    async with served() as server, peer(server) as (reader, writer):
        sent = b"x" * (size - 1) + b"z"
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        for data in (
            [head + sent] if not piece else [head, *(sent[n : n + piece] for n in range(0, size, piece))]
        ):
            writer.write(data)
            await writer.drain()
        assert await body(reader) == f"{size} {sent[-5:].decode()}"
        writer.write(get(7))
        assert await body(reader) == "7"


async def test_what_comes_too_early_is_not_taken_in_for_ever() -> None:
    async with served() as server, peer(server) as (reader, writer):
        Echo.waits = asyncio.Event()
        count = 30_000
        writer.write(b"".join(get(number) for number in range(count)))
        await until(lambda: server.in_flight == 1)
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert stream(server)._read_buffer_size <= 2 * READ_BYTES
        Echo.waits.set()
        for number in range(count // 100):
            assert await body(reader) == str(number)


async def test_a_client_that_leaves_is_noticed_while_its_request_waits() -> None:
    async with served() as server:
        Echo.waits = asyncio.Event()
        async with peer(server) as (_, writer):
            writer.write(get(1))
            await until(lambda: server.in_flight == 1)
        await until(lambda: server.connections == 0)
        Echo.waits.set()


async def test_a_quick_client_is_watched_without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tornado's inside is relied on here; if it changes, this counts as many breaks as requests."""
    stopped: list[int] = []
    async with served() as server, peer(server) as (reader, writer):
        loop: Any = asyncio.get_running_loop()
        remove = loop.remove_reader
        monkeypatch.setattr(loop, "remove_reader", lambda fd: stopped.append(fd) or remove(fd))
        writer.write(get(0))
        for number in range(1, 101):
            # The next request is there as soon as the answer, before Tornado looks for one.
            early = asyncio.get_running_loop().create_task(body(reader))
            await asyncio.sleep(0)
            writer.write(get(number))
            assert await early == str(number - 1)
        assert await body(reader) == "100"
        assert len(stopped) <= 5
    assert {"_handle_events", "_handle_read", "reading"} <= set(dir(IOStream))


async def test_answers_are_not_held_back() -> None:
    async with served() as server, peer(server) as (reader, writer):
        for number in range(2):
            writer.write(get(number))
            await body(reader)
            assert stream(server).socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_who_says_nothing_and_who_is_slow_to_say_it_are_let_go() -> None:
    async with served(idle_timeout=0.3) as server:
        async with peer(server) as (reader, _):
            assert await reader.read() == b""
        async with peer(server) as (reader, writer):
            with contextlib.suppress(ConnectionError):
                for byte in get(1) * 10:
                    writer.write(bytes([byte]) if byte != 13 else b"")
                    await asyncio.sleep(0.02)
                    if reader.at_eof():
                        break
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    async with served(idle_timeout=4) as server, peer(server) as (reader, writer):
        for number in range(2):
            await asyncio.sleep(2.1)  # each wait for itself
            writer.write(get(number))
            assert await body(reader) == str(number)
