"""What the examples in the pages stand on: an empty database, a server, and requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading
from typing import Any

import mongoengine
import tornado.web
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from bzz import signals
from bzz.storage.connection import close_clients

__all__ = ["end", "fresh", "request", "serve"]


class _Playground:
    """A thread with an event loop, and what runs in it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server: HTTPServer | None = None
        self.port = 0

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    async def listen(self, application: tornado.web.Application) -> None:
        if self.server is not None:
            self.server.stop()
        socket, self.port = bind_unused_port()
        self.server = HTTPServer(application)
        self.server.add_socket(socket)

    async def stop(self) -> None:
        if self.server is not None:
            self.server.stop()
            await self.server.close_all_connections()
        await close_clients()

    def end(self) -> None:
        self.run(self.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


_current: _Playground | None = None


def fresh() -> None:
    """Connect to an empty database, with nobody listening to any signal."""
    client = mongoengine.connect("doctest", host="localhost", port=3334, uuidRepresentation="standard")
    client.drop_database("doctest")
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # the pages refuse things on purpose
    for signal in signals.ALL:
        signal.reset()


def serve(what: Any) -> None:
    """Serve an Api, or a list of routes, on a port of its own, in place of what was served before."""
    global _current  # noqa: PLW0603 - one server for the page, started by its first example
    _current = _current or _Playground()
    application = what.application() if hasattr(what, "application") else tornado.web.Application(what)
    _current.run(_current.listen(application))


def request(method: str, path: str, body: Any = None, **headers: str) -> None:
    """Send one request and print the answer: the status, then the body.

    A dict or a list is sent as JSON, a string as a form; a header is written with underscores:
    ``If_Match="..."``.
    """
    assert _current is not None, "serve something first"
    form = isinstance(body, str)
    data = body if form else json.dumps(body)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent.setdefault("Content-Type", "application/x-www-form-urlencoded" if form else "application/json")
    connection = http.client.HTTPConnection("localhost", _current.port, timeout=30)
    try:
        connection.request(method, path, None if body is None else data.encode(), sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        is_one = "ndjson" not in (answer.getheader("Content-Type") or "")
    finally:
        connection.close()
    print(answer.status, answer.reason)
    if text:
        whole = is_one and text[0] in "[{"
        print(json.dumps(json.loads(text), indent=2, ensure_ascii=False) if whole else text.rstrip("\n"))


def end() -> None:
    """Stop the server and leave the database."""
    global _current  # noqa: PLW0603
    if _current is not None:
        _current.end()
        _current = None
    mongoengine.disconnect_all()
