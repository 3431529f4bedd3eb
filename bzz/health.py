"""Two URLs for those who watch a server: is the process alive, and may it get requests?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bzz.http import problem
from bzz.http.problem_handler import ProblemHandler

__all__ = ["DRAINING", "HealthHandler", "ReadyHandler"]

logger = logging.getLogger("bzz.health")

#: The application setting that a server turns on when it begins to stop.
DRAINING = "bzz.draining"


class _ProbeHandler(ProblemHandler):
    """What both have in common: JSON, never cached, errors as problems."""

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of this URL."""
        return ("GET", "HEAD")

    def set_default_headers(self) -> None:
        """Keep proxies from answering in our place."""
        self.set_header("Cache-Control", "no-store")

    def answer(self, status: str) -> None:
        """Answer 200."""
        self.set_header("Content-Type", "application/json")
        self.finish(b'{"status":"%s"}' % status.encode())

    def refuse(self, status: int, detail: str, kind: str) -> None:
        """Answer with a problem that has these members."""
        self.set_status(status)
        self.set_header("Content-Type", problem.CONTENT_TYPE)
        self.finish(problem.problem(status, detail, kind=kind))


class HealthHandler(_ProbeHandler):
    """Answer 200 as long as the process serves anything at all; it looks at nothing else."""

    async def get(self) -> None:
        """Say that the process is alive."""
        self.answer("alive")

    head = get


class ReadyHandler(_ProbeHandler):
    """Answer 200 when requests may be sent here, 503 with ``Retry-After`` otherwise.

    ``check`` is awaited at each request; what it raises, or that it takes longer than ``timeout`` seconds,
    means "not ready". So does a server that has begun to stop, whatever the check says.
    """

    def initialize(self, check: Callable[[], Awaitable[object]] | None = None, timeout: float = 2.0) -> None:
        """Take the check."""
        self.check = check
        self.timeout = timeout

    async def get(self) -> None:
        """Say whether requests are welcome."""
        if self.settings.get(DRAINING):
            self._not_ready("The server is about to stop.", "stopping")
            return
        try:
            if self.check is not None:
                async with asyncio.timeout(self.timeout):
                    await self.check()
        except Exception as error:
            logger.warning("not ready: %s: %s", type(error).__name__, error)
            self._not_ready("What the server depends on does not answer.", "not-ready")
        else:
            self.answer("ready")

    head = get

    def _not_ready(self, detail: str, kind: str) -> None:
        self.set_header("Retry-After", "1")
        self.refuse(503, detail, kind)
