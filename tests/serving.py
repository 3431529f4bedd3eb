"""A real server on a real port, inside the test's event loop, and a client that speaks to it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import tornado.web
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.simple_httpclient import SimpleAsyncHTTPClient


class Answer:
    """What came back: ``status``, ``headers``, ``body``, and its JSON."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.code
        self.headers = response.headers
        self.body: bytes = response.body or b""

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.body[:300]!r}>"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int) -> Any:
        """Check that this is a problem with that status, and return it."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/problem+json", self
        body = self.json
        assert body["status"] == status
        assert body["title"]
        assert body["type"]
        return body


class Client:
    """Requests to one server; ``json``, ``form`` or a raw ``body`` with its ``content_type``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base = f"http://127.0.0.1:{port}"
        self._client: AsyncHTTPClient = SimpleAsyncHTTPClient(force_instance=True, max_clients=1000)

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        form: Any = None,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        headers = dict(headers or {})
        if json is not None:
            body, content_type = _dump(json), content_type or "application/json"
        if form is not None:
            encoded = form if isinstance(form, str) else urlencode(form, doseq=True)
            body, content_type = encoded.encode(), content_type or "application/x-www-form-urlencoded"
        if content_type is not None:
            headers["Content-Type"] = content_type
        request = HTTPRequest(
            self.base + path,
            method=method,
            headers=headers,
            body=body,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            # Hundreds at once wait for each other, from the moment at which they want to connect.
            connect_timeout=150,
            request_timeout=150,
        )
        return Answer(await self._client.fetch(request, raise_error=False))

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Answer:
        return await self.request("PUT", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        return await self.request("DELETE", path, **options)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes as they are on a connection of their own, and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    def close(self) -> None:
        self._client.close()


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[Client]:
    """Serve an application, a list of rules or an Api on a free port."""
    if hasattr(app, "application"):
        app = app.application()
    if not isinstance(app, tornado.web.Application):
        app = tornado.web.Application(app)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    server = HTTPServer(app)
    server.add_sockets([listener])
    client = Client(listener.getsockname()[1])
    try:
        yield client
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()
