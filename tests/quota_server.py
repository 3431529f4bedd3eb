"""A server that counts in Redis, in a process of its own: ``python -m tests.quota_server URL COUNT``.

It prints the port that it serves on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import tornado.web

from bzz.http.gate import Gate
from bzz.http.problem_handler import ProblemHandler
from bzz.http.rate_limit import RateLimit
from bzz.http.rate_limit_redis import RedisMeter
from tests.own_process import serve_until_killed


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
    await serve_until_killed(make_application(limit))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
