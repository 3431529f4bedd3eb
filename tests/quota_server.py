"""A server that counts in Redis, in a process of its own: ``python -m tests.quota_server URL COUNT``.

It prints the port that it serves on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import tornado.web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from bzz.http.gate import Gate
from bzz.http.problem_handler import ProblemHandler
from bzz.http.rate_limit import RateLimit
from bzz.http.rate_limit_redis import RedisMeter


class PingHandler(ProblemHandler):
    def allowed_methods(self) -> tuple[str, ...]:
        return ("GET",)

    def get(self) -> None:
        self.finish(b"pong")


def make_application(limit: RateLimit) -> Any:
    return tornado.web.Application([("/ping", PingHandler, {"gate": Gate(limit=limit)})])


async def serve(url: str, count: int) -> None:
    """Serve until killed."""
    limit = RateLimit(count, 86400, by=lambda handler: "everybody", meter=RedisMeter(url, timeout=60))
    server = HTTPServer(make_application(limit))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
