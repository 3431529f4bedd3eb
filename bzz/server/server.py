"""One process that serves an application, from its first request to its last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self

import tornado.web
from tornado.routing import PathMatches

from bzz.application import Application, unlogged
from bzz.health import DRAINING, HealthHandler, ReadyHandler
from bzz.mongoengine_handler import ProblemHandler
from bzz.server.access import AccessLog
from bzz.server.front import Front
from bzz.server.limits import Limits
from bzz.server.listener import Listener, hush
from bzz.signals import server_process_init, server_ready, server_shutdown
from bzz.storage.connection import close_clients

__all__ = ["Server", "application_of"]

logger = logging.getLogger("bzz.server")

# A client that uses its connection at all uses it within this time; who does not, is between two bursts.
IDLE_GRACE = 1.0
POLL_SECONDS = 0.02


class Server:
    """Serve an application inside a running event loop: ``await start()``, later ``await stop()``.

    :func:`bzz.serve` does this with processes and operating system signals around it, and says what the
    options mean. This class is what the process signals have as sender; ``port`` is the real port,
    ``worker`` the number of the process among its siblings, from 0.

    >>> import asyncio
    >>> async def one_request():
    ...     async with Server([], port=0, address="127.0.0.1", access_log=None) as server:
    ...         return server.url
    >>> asyncio.run(one_request())
    'http://127.0.0.1:...'
    """

    def __init__(
        self,
        app: Any,
        *,
        port: int = 8888,
        address: str = "",
        limits: Limits | None = None,
        access_log: Literal["text", "json"] | None = "text",
        grace: float = 30.0,
        reuse_port: bool = False,
        xheaders: bool = False,
        trusted_downstream: list[str] | None = None,
    ) -> None:
        self.application = application_of(app)
        self.limits = limits or Limits()
        self.grace = grace
        self.worker = 0
        self.address = address
        self.owns_listener = True
        self._log = AccessLog(access_log) if access_log else None
        if self._log is not None:
            self.application.settings.setdefault("log_function", unlogged)  # not twice
        self._proxies = {"xheaders": xheaders, "trusted_downstream": trusted_downstream}
        self._forced = False
        self._front: Front | None = None
        self._watch: asyncio.Task[None] | None = None
        self.listener = Listener(port, address, reuse_port=reuse_port)
        self.port = self.listener.port

    def __repr__(self) -> str:
        return f"<Server {self.url} worker {self.worker}>"

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.address, self.address)  # noqa: S104
        return f"http://{host}:{self.port}"

    @property
    def in_flight(self) -> int:
        """The number of requests that it works on."""
        return self._front.in_flight if self._front else 0

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._front.clients) if self._front else 0

    async def start(self) -> None:
        """Send ``server_process_init``, accept connections, send ``server_ready``."""
        await server_process_init.send_async(self)
        self.application.settings[DRAINING] = False
        front = self._front = Front(
            self.application,
            limits=self.limits,
            log=self._log,
            probes=_probes(self.application),
            **self._proxies,
        )
        self._watch = asyncio.create_task(front.watch_stalled())
        self.listener.accept(front.receive)
        logger.info("serving on %s (worker %d)", self.url, self.worker)
        await server_ready.send_async(self)

    async def stop(self) -> None:
        """Finish what is under way, then leave, within ``grace`` seconds or until :meth:`force` is called.

        In this order: ``/ready`` turns 503, ``server_shutdown`` is sent, no further connection is accepted,
        each answer is the last on its connection, idle connections are closed, what then remains is cut off.

        The trap: HTTP has no way to take back an idle connection. A client that sends a request at the very
        moment when its idle connection is closed sees it closed, and has to repeat the request (RFC 9112,
        9.3.1). Idle connections are therefore left open for another second, in which most are used once more
        and end with an answer.
        """
        front, watch = self._front, self._watch
        if front is None or watch is None:
            self.listener.abandon()
            return
        self._watch = None
        deadline = time.monotonic() + self.grace
        self.application.settings[DRAINING] = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.grace):
                await self._tell_shutdown()
        front.drain()
        if self.owns_listener:
            hush(self.listener)
        await self.listener.close(wait=not self._forced)
        await self._until(lambda: not front.clients, min(deadline, time.monotonic() + IDLE_GRACE))
        while not await self._until(lambda: not (front.clients or front.in_flight), time.monotonic() + 0.1):
            front.close_idle()
            if self._forced or time.monotonic() >= deadline:
                logger.warning("cut off %d requests under way", front.in_flight)
                break
        watch.cancel()
        await front.close_all_connections()
        await _close_meters()
        await close_clients()

    def force(self) -> None:
        """Make :meth:`stop` leave at once."""
        self._forced = True

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _tell_shutdown(self) -> None:
        try:
            await server_shutdown.send_async(self)
        except Exception:
            logger.exception("a receiver of server_shutdown failed")

    async def _until(self, done: Callable[[], bool], deadline: float) -> bool:
        while not done():
            if self._forced or time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True


def application_of(app: Any) -> tornado.web.Application:
    """Make a Tornado application of what can be served; a TypeError says why something cannot."""
    if isinstance(app, tornado.web.Application):
        return app
    # A module may have a part of this name.
    if callable(getattr(app, "application", None)):
        return application_of(app.application())
    if isinstance(app, (list, tuple)):
        return Application(list(app), default_handler_class=ProblemHandler)
    raise TypeError(
        f"Cannot serve {app!r}: it is neither a tornado.web.Application, nor a list of Tornado rules, nor "
        "has it an application() method, as bzz.Api has."
    )


async def _close_meters() -> None:
    from bzz.http.rate_limit_redis import close_meters  # noqa: PLC0415 - who counts nothing does without

    await close_meters()


def _probes(application: tornado.web.Application) -> Iterator[re.Pattern[str]]:
    for rule in application.wildcard_router.rules:
        target, matcher = rule.target, rule.matcher
        if isinstance(target, type) and issubclass(target, (HealthHandler, ReadyHandler)):
            assert isinstance(matcher, PathMatches)
            yield matcher.regex
