"""``serve``: an application, an operating system, and nothing else to configure."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Literal

from bzz.server.limits import Limits
from bzz.server.listener import hush
from bzz.server.server import Server
from bzz.signals import server_init
from bzz.storage.connection import forget_after_fork

__all__ = ["serve"]


def serve(
    app: Any,
    *,
    port: int = 8888,
    address: str = "",
    processes: int = 1,
    max_body_size: int = Limits.max_body_size,
    max_header_size: int = Limits.max_header_size,
    idle_timeout: float = Limits.idle_timeout,
    body_timeout: float = Limits.body_timeout,
    max_in_flight: int = Limits.max_in_flight,
    access_log: Literal["text", "json"] | None = "text",
    grace: float = 30.0,
    reuse_port: bool = False,
    xheaders: bool = False,
    trusted_downstream: list[str] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is under way and return.

    ``app`` is a :class:`bzz.Api`, a :class:`tornado.web.Application` or a list of Tornado rules. ``address``
    empty means every interface. ``processes`` is the number of worker processes, 0 one for each processor; a
    worker that crashes is replaced, until that happens too often. The limits are described at
    :class:`~bzz.server.limits.Limits`. ``access_log`` is ``"text"``, ``"json"`` or None.

    ``grace`` is how many seconds requests under way may take after the first signal; a second signal cuts
    them off. With ``reuse_port`` another server of the same user may listen on the port at the same time:
    start the new one, wait until its ``/ready`` answers 200, stop the old one, and no request is lost in
    between. ``xheaders`` believes ``X-Forwarded-For`` and its kind; switch it on behind a proxy that sets
    them, and only there.

    Process signals, each with the :class:`~bzz.server.server.Server` as sender: ``server_init`` once, in the
    calling process, built and nothing started; then in each process that serves (one, or each worker)
    ``server_process_init`` first, ``server_ready`` when it accepts, ``server_shutdown`` before anything
    stops.

    Raises OSError when the port is taken, RuntimeError inside a running event loop (use
    :class:`~bzz.server.server.Server` there) and when the workers crashed again and again.
    """
    _refuse_running_loop()
    server = Server(
        app,
        port=port,
        address=address,
        limits=Limits(max_body_size, max_header_size, idle_timeout, body_timeout, max_in_flight),
        access_log=access_log,
        grace=grace,
        reuse_port=reuse_port,
        xheaders=xheaders,
        trusted_downstream=trusted_downstream,
    )
    try:
        asyncio.run(_announce(server))
        if processes == 1:
            asyncio.run(_live(server))
        else:
            _supervise(server, processes or len(os.sched_getaffinity(0)))
    finally:
        server.listener.abandon()


def _supervise(server: Server, processes: int) -> None:
    from bzz.server.processes import Supervisor  # noqa: PLC0415 - one process does without

    def work(number: int, lifeline: int) -> None:
        forget_after_fork()
        server.worker = number
        server.owns_listener = False  # who sheds new connections for all is the supervisor
        asyncio.run(_live(server, lifeline))

    def stopping() -> None:
        hush(server.listener)
        server.listener.abandon()

    Supervisor(processes, work, stopping=stopping, grace=server.grace).run()


async def _announce(server: Server) -> None:
    await server_init.send_async(server)


async def _live(server: Server, lifeline: int | None = None) -> None:
    """Start, wait for the end, stop."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def end() -> None:
        if over.is_set():
            server.force()
        over.set()

    def orphaned() -> None:
        assert lifeline is not None
        loop.remove_reader(lifeline)
        server.owns_listener = True
        over.set()

    numbers = [signal.SIGTERM] if lifeline is not None else [signal.SIGTERM, signal.SIGINT]
    for number in numbers:
        loop.add_signal_handler(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGCHLD])
    if lifeline is not None:
        loop.add_reader(lifeline, orphaned)
    try:
        await server.start()
        await over.wait()
    finally:
        await server.stop()
        for number in numbers:
            loop.remove_signal_handler(number)


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "serve() runs an event loop of its own and cannot be called inside one: use bzz.server.Server there."
    )
