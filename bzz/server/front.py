"""Tornado's HTTP server with limits that answer, and with an end."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import cast

import tornado.routing
import tornado.web
from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import UnsatisfiableReadError

from bzz.server.access import AccessLog, Entry
from bzz.server.brief import Brief, Request, fits
from bzz.server.exchange import Exchange, raw_refusal
from bzz.server.heads import Heads, Message
from bzz.server.limits import Limits
from bzz.server.stream import ClientStream, readable

__all__ = ["Front"]


class Front(HTTPServer):
    """The open connections of one process.

    ``in_flight`` counts the requests that are worked on, ``waiting`` holds the connections between two
    requests, ``draining`` makes each answer the last one on its connection. ``probes`` are URL patterns that
    the limit of requests in flight does not concern.
    """

    def initialize(  # type: ignore[override]
        self,
        application: httputil.HTTPServerConnectionDelegate | Callable[[httputil.HTTPServerRequest], None],
        *,
        limits: Limits,
        log: AccessLog | None = None,
        probes: Iterable[re.Pattern[str]] = (),
        xheaders: bool = False,
        trusted_downstream: list[str] | None = None,
    ) -> None:
        """Build it; nothing listens."""
        super().initialize(
            application,
            xheaders=xheaders,
            trusted_downstream=trusted_downstream,
            max_header_size=limits.max_header_size,
            max_body_size=sys.maxsize,  # see bzz.server.exchange
        )
        # Tornado would start a timer for each request; here one look at all clients now and then does it.
        self.conn_params.header_timeout = None
        self.limits = limits
        self.log = log
        self.probes = tuple(probes)
        self.in_flight = 0
        self.draining = False
        self.waiting: dict[object, Exchange] = {}
        self.clients: set[object] = set()
        self.sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.set_result(None)
        self._heads = Heads(limits.max_header_size, limits.max_body_size)
        self._router = _plain(application)
        self._fits: bool | None = None
        self._ids = ""
        self._overflow = raw_refusal(
            431, f"The headers are larger than {limits.max_header_size} bytes.", "headers-too-large"
        )

    def receive(self, connection: socket.socket, address: tuple[object, ...]) -> None:
        """Serve a connection that was accepted."""
        self.handle_stream(ClientStream(connection), address)

    def start_request(
        self, server_conn: object, request_conn: httputil.HTTPConnection
    ) -> httputil.HTTPMessageDelegate:
        """Begin to wait for a request; Tornado calls this for the first and for each further one."""
        exchange = Exchange(self, server_conn, cast(HTTP1Connection, request_conn))
        self.clients.add(server_conn)
        stream = exchange.stream
        stream.overflow, stream.received = self._overflow, 0
        if stream.last:
            stream.end()  # the client knows: its last answer said so
        else:
            self.waiting[server_conn] = exchange
            if self._fits is None:
                self._fits = fits(stream, exchange.connection)
            if self._router is not None and self._fits:
                stream.take = functools.partial(self._take, exchange, self._router)
        return exchange

    def _take(self, waiting: Exchange, router: tornado.web.Application, data: bytes) -> bool:
        """Have a request answered that needs nothing of Tornado's connection; return whether it is one."""
        message = self._heads.read(data)
        if message is None or self.draining or self.in_flight >= self.limits.max_in_flight:
            return False
        brief = Brief(waiting, message)
        context = brief.context
        if self.xheaders:
            context._apply_xheaders(brief.request_headers)
        try:
            delegate = self._delegate(router, brief, message)
            if delegate is None:
                return False
            brief.run(delegate, message)
        finally:
            if self.xheaders:
                context._unapply_xheaders()
        return True

    def _delegate(
        self, router: tornado.web.Application, brief: Brief, message: Message
    ) -> httputil.HTTPMessageDelegate | None:
        try:
            query = message.start_line.path.partition("?")[2]
            request = Request(brief, message, self._heads.arguments(query))
            delegate = router.find_handler(request)
        except Exception:
            return None  # Tornado meets it too, and can say so
        brief.remote = request.remote_ip or ""
        # A body that is taken in parts is worked on while it arrives, or before.
        return None if getattr(delegate, "stream_request_body", True) else delegate

    def hand_on(self, server_conn: object, answer: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """Let the application have a request that is within the limits."""
        return super().start_request(server_conn, answer)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection; Tornado calls this when it is closed or given away."""
        super().on_close(server_conn)
        self.clients.discard(server_conn)
        exchange = self.waiting.pop(server_conn, None)
        if exchange and self.log and isinstance(exchange.stream.error, UnsatisfiableReadError):
            self.log(Entry("-", "-", str(exchange.connection.context), "-", 431, 0, 0.0))

    def request_id(self, given: str | None) -> str:
        """Return the id that a client gave its request, if it is a decent one, or a new one."""
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        if not self._ids:
            self._ids = os.urandom(256).hex()  # asking the system costs more than the bytes
        found, self._ids = self._ids[:16], self._ids[16:]
        return found

    def is_probe(self, path: str) -> bool:
        """Whether this URL is one of those who watch the server."""
        path = path.partition("?")[0]
        return any(pattern.match(path) for pattern in self.probes)

    # the end

    def drain(self) -> None:
        """From now on, let each answer be the last one on its connection."""
        self.draining = True
        self.conn_params.no_keep_alive = True

    def close_idle(self) -> None:
        """Close the connections on which nobody has begun a request."""
        for exchange in list(self.waiting.values()):
            stream = exchange.stream
            if not stream.closed() and not stream.received and not readable(stream.socket):
                stream.close()

    def close_stalled(self) -> None:
        """Close the connections whose client has kept us waiting for too long.

        It has not sent a whole header since a request could begin, or it has taken no byte of its answer.
        """
        oldest = time.monotonic() - self.limits.idle_timeout
        for exchange in list(self.waiting.values()):
            if exchange.started >= oldest:
                break  # who waits is in the order in which the waiting began
            exchange.stream.close()
        for client in list(self.clients):
            stream = cast(ClientStream, cast(HTTP1ServerConnection, client).stream)
            if stream.writing() and stream.progress < oldest:
                stream.linger = False
                stream.close()

    async def watch_stalled(self) -> None:
        """Look for stalled clients for ever."""
        while True:
            await asyncio.sleep(min(5.0, self.limits.idle_timeout / 4))
            self.close_stalled()


_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _plain(application: object) -> tornado.web.Application | None:
    """Return an application that requests reach in the way of Tornado's own."""
    if not isinstance(application, tornado.web.Application):
        return None
    usual = type(application).start_request is tornado.routing.Router.start_request
    return application if usual else None
