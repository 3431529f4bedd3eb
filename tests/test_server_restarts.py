"""A server that is replaced under load, with processes as in production: no request is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

import pytest

from tests.program import free_port

RESTARTS = 20 if "BZZ_TORTURE" in os.environ else 5
REPOSITORY = Path(__file__).parent.parent

SCRIPT = """
import asyncio, os, sys
import tornado.web
import bzz.server
from bzz.health import HealthHandler, ReadyHandler
from bzz.signals import server_ready

class Slow(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(0.02)
        self.write("x" * 1000)

server_ready.connect(lambda: os.write(1, b"ready\\n"), weak=False)
bzz.server.serve([("/", Slow)], port=int(sys.argv[1]), address="127.0.0.1", processes=int(sys.argv[2]),
                 access_log=None, reuse_port=True)
"""


async def start(port: int, processes: int) -> asyncio.subprocess.Process:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT,
        str(port),
        str(processes),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert server.stdout is not None
    for _ in range(processes):
        assert await asyncio.wait_for(server.stdout.readline(), 90) == b"ready\n"
    return server


class Load:
    """Clients that never stop: some with a connection for each request, some that keep theirs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.going = True

    async def fresh(self) -> None:
        while self.going:
            await self.counted(self.connection(requests=1, say="close"))

    async def kept(self) -> None:
        while self.going:
            await self.counted(self.connection(requests=10**9, say="keep-alive"))

    async def counted(self, connection: Awaitable[None]) -> None:
        try:
            await connection
        except Exception as error:
            self.outcomes[f"failed {type(error).__name__} {error}"] += 1

    async def connection(self, requests: int, say: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for _ in range(requests):
                if not self.going:
                    return
                before = time.monotonic()
                writer.write(f"GET / HTTP/1.1\r\nHost: test\r\nConnection: {say}\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                body = await reader.readexactly(1000)
                self.slowest = max(self.slowest, time.monotonic() - before)
                ok = head.startswith("http/1.1 200 ") and body == b"x" * 1000
                self.outcomes[f"{say} ok" if ok else f"failed {head}"] += 1
                if "connection: close" in head:
                    return
        finally:
            writer.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [1, 2])
async def test_no_request_is_lost_while_servers_replace_each_other(processes: int) -> None:
    port = free_port()
    servers = [await start(port, processes)]
    load = Load(port)
    clients = [asyncio.create_task(kind()) for kind in [load.fresh] * 8 + [load.kept] * 8]
    try:
        for _ in range(RESTARTS):
            done = load.outcomes.total()
            servers.append(await start(port, processes))
            servers[-2].send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(servers[-2].wait(), 60) == 0
            assert load.outcomes.total() > done + 50, "there was no load"
    finally:
        load.going = False
        # First, as the last server has no successor: who is just connecting would find nobody.
        await asyncio.wait({asyncio.gather(*clients)}, timeout=60)
        for server in servers:
            if server.returncode is None:
                server.terminate()
            await asyncio.wait_for(server.wait(), 60)
    failed = {outcome: count for outcome, count in load.outcomes.items() if outcome.startswith("failed")}
    assert not failed, load.outcomes
    print(load.outcomes, round(load.slowest, 3))
    assert load.outcomes["close ok"] and load.outcomes["keep-alive ok"]
