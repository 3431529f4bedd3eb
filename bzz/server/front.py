"""Tornado's HTTP server with limits that answer, and with an end."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import cast

from tornado import httputil
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.iostream import UnsatisfiableReadError

from bzz.server.access import AccessLog, Entry
from bzz.server.exchange import Exchange, raw_refusal
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
            stream.close()  # the client knows: its last answer said so
        else:
            self.waiting[server_conn] = exchange
        return exchange

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
