"""The access log: a line for each request, and nothing in it that a client could forge."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import tornado.web
from tornado.httpclient import AsyncHTTPClient

from bzz.server import Limits, Server
from bzz.server.access import AccessLog, Entry


class Echo(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("hello")

    async def post(self) -> None:
        self.write(str(len(self.request.body)))


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger, handler = logging.getLogger("bzz.access"), Keep()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def send(server: Server, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


def serving(form: Any, **options: Any) -> Server:
    return Server([("/", Echo)], port=0, address="127.0.0.1", access_log=form, **options)


async def test_text_line(lines: list[str]) -> None:
    async with serving("text") as server:
        await send(
            server, b"GET /?page=2 HTTP/1.1\r\nHost: x\r\nX-Request-Id: abc\r\nConnection: close\r\n\r\n"
        )
    assert len(lines) == 1
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    assert re.fullmatch(time + r' 127\.0\.0\.1 "GET /\?page=2" 200 5 \d+\.\dms abc', lines[0])


async def test_json_line(lines: list[str]) -> None:
    async with serving("json") as server:
        await send(server, b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    [line] = lines
    entry = json.loads(line)
    assert entry.pop("ms") >= 0
    assert re.fullmatch("[0-9a-f]{16}", entry.pop("request_id"))
    assert entry.pop("time").endswith("+00:00")
    assert entry.pop("bytes") > 0
    assert entry == {
        "remote": "127.0.0.1",
        "method": "GET",
        "path": "/nowhere",
        "status": 404,
        "aborted": False,
    }


async def test_each_request_of_a_connection_and_each_refusal_has_a_line(lines: list[str]) -> None:
    async with serving("json", limits=Limits(max_body_size=10, max_header_size=500)) as server:
        get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        await send(server, get + get + b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890")
        await send(server, b"GET / HTTP/1.1\r\nCookie: " + b"x" * 600 + b"\r\n\r\n")
        await send(server, b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    assert [json.loads(line)["status"] for line in lines] == [200, 200, 413, 431, 400]


async def test_client_that_leaves_is_said_to_have_left(lines: list[str]) -> None:
    async with serving("json") as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1")
        while not server.in_flight:
            await asyncio.sleep(0.01)
        writer.close()
        while server.in_flight:
            await asyncio.sleep(0.01)
    [entry] = map(json.loads, lines)
    assert (entry["status"], entry["aborted"]) == (0, True)


async def test_proxy_is_believed_only_when_told(lines: list[str]) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"
    for believe in (False, True):
        async with serving("json", xheaders=believe) as server:
            await send(server, request)
    assert [json.loads(line)["remote"] for line in lines] == ["127.0.0.1", "203.0.113.9"]


async def test_without_access_log_tornados_own_stays(
    lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tornado.access")
    for form in ("text", None):
        async with serving(form) as server:
            client = AsyncHTTPClient(force_instance=True)
            await client.fetch(server.url)
            client.close()
    assert len(lines) == 1
    assert [record.name for record in caplog.records if record.name != "bzz.server"].count(
        "tornado.access"
    ) == 1


HOSTILE = '/\r\n127.0.0.1 "GET /forged" 200\x1b[2J\x00\x7f\x85\u2028\u2029\\'


@pytest.mark.parametrize("form", ["text", "json"])
def test_line_cannot_be_forged(form: Any, lines: list[str]) -> None:
    AccessLog(form)(Entry("GET", HOSTILE + "x" * 10_000, "127.0.0.1", "id", 200, 0, 0.001))
    [line] = lines
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert len(line) < 3_000
    if form == "json":
        assert json.loads(line)["path"].startswith(HOSTILE)
    else:
        assert line.count('"') - line.count('\\"') == 2


def test_log_writes_to_standard_error_when_nobody_has_configured_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("bzz.access")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)
    AccessLog("text")(Entry("GET", "/", "127.0.0.1", "id", 200, 5, 0.001))
    assert '127.0.0.1 "GET /" 200 5 1.0ms id\n' in capsys.readouterr().err
    logger.setLevel(logging.WARNING)
    AccessLog("text")(Entry("GET", "/", "127.0.0.1", "id", 200, 5, 0.001))
    assert capsys.readouterr().err == ""
    logger.setLevel(logging.NOTSET)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="xml"):
        AccessLog("xml")  # type: ignore[arg-type]
