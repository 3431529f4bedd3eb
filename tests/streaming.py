"""A client for streams: requests and answers of any length, part by part, on one socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

NDJSON = "application/x-ndjson"


class Stream:
    """One request on a connection of its own; the answer is read whenever one likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def begin(self, method: str, path: str, **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: x"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send a part of the body as a chunk, as fast as the server takes it."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def read_headers(self) -> None:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The parts of the answer; raises IncompleteReadError if it breaks off."""
        if "Content-Length" in self.headers:
            yield await self.reader.readexactly(int(self.headers["Content-Length"]))
            return
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
            if not size:
                return
            yield data[:-2]

    async def lines(self) -> AsyncIterator[Any]:
        """The lines of the answer, from JSON."""
        if not self.status:
            await self.read_headers()
        rest = b""
        async for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield json.loads(line)
        if rest:
            yield json.loads(rest)

    async def all(self) -> list[Any]:
        return [line async for line in self.lines()]


@asynccontextmanager
async def streaming(port: int, **options: Any) -> AsyncIterator[Stream]:
    """Connect."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield Stream(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def uploading(port: int, path: str, **headers: str) -> AsyncIterator[Stream]:
    """Begin a POST of NDJSON."""
    async with streaming(port) as stream:
        await stream.begin("POST", path, Content_Type=NDJSON, Transfer_Encoding="chunked", **headers)
        yield stream


async def upload(port: int, path: str, parts: Iterable[bytes], **headers: str) -> list[Any]:
    """POST parts of NDJSON while reading what comes back; return its lines."""
    async with uploading(port, path, **headers) as stream:
        answer = asyncio.ensure_future(stream.all())
        for part in parts:
            await stream.send(part)
        await stream.end()
        return await answer


@asynccontextmanager
async def downloading(port: int, path: str, **headers: str) -> AsyncIterator[Stream]:
    """Begin a GET of NDJSON."""
    async with streaming(port) as stream:
        await stream.begin("GET", path, Accept=NDJSON, **headers)
        await stream.read_headers()
        yield stream


async def count(items: AsyncIterable[Any]) -> int:
    """How many items there are, without keeping them."""
    found = 0
    async for _ in items:
        found += 1
    return found
