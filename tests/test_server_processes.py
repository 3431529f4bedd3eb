"""``serve`` as an operating system sees it: real processes, real signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from bzz.server import Server, serve

REPOSITORY = Path(__file__).parent.parent

SCRIPT = """
import asyncio, json, os, signal, sys, time
import mongoengine, tornado.web
import bzz.server
from bzz import signals
from bzz.health import HealthHandler, ReadyHandler
from bzz.storage.store import Store

options = json.loads(sys.argv[1])

def say(**what):
    os.write(1, (json.dumps({"pid": os.getpid(), **what}) + "\\n").encode())

for name in ("server_init", "server_process_init", "server_ready", "server_shutdown"):
    async def heard(sender, signal=None, name=name):
        await asyncio.sleep(0)
        say(signal=name, worker=sender.worker, port=sender.port, in_flight=sender.in_flight)
    getattr(signals, name).connect(heard, weak=False)

class Who(tornado.web.RequestHandler):
    async def get(self):
        self.write(str(os.getpid()))

class Slow(tornado.web.RequestHandler):
    async def get(self):
        say(signal="slow")
        await asyncio.sleep(float(self.get_argument("seconds")))
        self.write("done")

class Die(tornado.web.RequestHandler):
    def get(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Stuck(tornado.web.RequestHandler):
    def get(self):
        say(signal="stuck")
        time.sleep(600)

class Count(tornado.web.RequestHandler):
    async def get(self):
        theirs, ours = await asyncio.to_thread(Thing.objects.count), await Store(Thing).count({})
        self.write(f"{theirs} {ours}")

class Thing(mongoengine.Document):
    pass

if url := options.pop("mongo", None):
    mongoengine.connect("bzz_processes", host=url, uuidRepresentation="standard")
    Thing.drop_collection()
    Thing().save()
if options.pop("broken", False):
    signals.server_process_init.connect(lambda: 1 / 0, weak=False)
if options.pop("broken_shutdown", False):
    signals.server_shutdown.connect(lambda: 1 / 0, weak=False)
if kill_after := options.pop("kill_after", None):
    import bzz.server.processes
    bzz.server.processes.KILL_SECONDS = kill_after
rules = [("/", Who), ("/slow", Slow), ("/die", Die), ("/stuck", Stuck), ("/count", Count),
         ("/ready", ReadyHandler), ("/health", HealthHandler)]
bzz.server.serve(rules, address="127.0.0.1", access_log=None, **options)
say(signal="returned")
"""


class Running:
    """The script in a process of its own, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.port = 0
        self.heard: list[dict[str, Any]] = []

    async def until(self, name: str, times: int = 1) -> list[dict[str, Any]]:
        """Read what it says until a signal was heard so many times in all."""
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while len(found := [each for each in self.heard if each["signal"] == name]) < times:
                line = await self.process.stdout.readline()
                assert line, f"it ended: {self.heard}"
                self.heard.append(json.loads(line))
                self.port = self.heard[-1].get("port", self.port)
        return found

    async def end(self, number: signal.Signals | None = None) -> int:
        """Wait until it is gone, having read all that it says."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            async for line in self.process.stdout:
                self.heard.append(json.loads(line))
            return await self.process.wait()

    def names(self, pid: int | None = None) -> list[str]:
        return [each["signal"] for each in self.heard if pid in {None, each["pid"]}]

    def workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.pid).children()]

    async def get(self, path: str = "/") -> tuple[int, str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with contextlib.closing(writer):
            return await ask(reader, writer, path, "close")


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, connection: str = "keep-alive"
) -> tuple[int, str]:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
    body = (await reader.readexactly(int(headers["content-length"]))).decode()
    return int(head.split()[1]), body


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Running]:
    processes = options.get("processes", 1)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT,
        json.dumps({"port": 0, **options}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    server = Running(process)
    try:
        if not options.get("broken"):
            await server.until("server_ready", processes)
        yield server
    finally:
        if process.returncode is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            await process.communicate()


async def test_process_signals_with_one_process() -> None:
    async with running() as server:
        assert await server.get() == (200, str(server.pid))
        assert await server.end(signal.SIGTERM) == 0
        expected = ["server_init", "server_process_init", "server_ready", "server_shutdown", "returned"]
        assert server.names(server.pid) == expected


async def test_process_signals_with_many_processes() -> None:
    async with running(processes=3) as server:
        workers = set(server.workers())
        assert len(workers) == 3
        assert await server.end(signal.SIGINT) == 0
        assert server.names(server.pid) == ["server_init", "returned"]
        for pid in workers:
            assert server.names(pid) == ["server_process_init", "server_ready", "server_shutdown"]
        assert {each["worker"] for each in server.heard if each["pid"] in workers} == {0, 1, 2}
        assert not any(psutil.pid_exists(pid) for pid in workers)


async def test_zero_processes_are_one_for_each_processor() -> None:
    async with running(processes=0) as server:
        count = len(os.sched_getaffinity(0))
        await server.until("server_ready", count)
        assert len(server.workers()) == count
        assert await server.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_request_under_way_is_finished(processes: int) -> None:
    async with running(processes=processes) as server:
        slow = asyncio.create_task(server.get("/slow?seconds=5"))
        await server.until("slow")
        server.process.send_signal(signal.SIGTERM)
        shutdown = await server.until("server_shutdown", processes)
        assert sum(each["in_flight"] for each in shutdown) == 1, "the signal comes before anything stops"
        assert await slow == (200, "done")
        assert await server.end() == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_second_signal_cuts_off(processes: int) -> None:
    async with running(processes=processes) as server:
        slow = asyncio.create_task(server.get("/slow?seconds=600"))
        await server.until("slow")
        server.process.send_signal(signal.SIGTERM)
        await server.until("server_shutdown", processes)
        assert await asyncio.wait_for(server.end(signal.SIGTERM), 60) == 0
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await slow


@pytest.mark.parametrize("processes", [1, 2])
async def test_grace_ends(processes: int) -> None:
    async with running(processes=processes, grace=1.5) as server:
        slow = asyncio.create_task(server.get("/slow?seconds=600"))
        await server.until("slow")
        assert await asyncio.wait_for(server.end(signal.SIGTERM), 60) == 0
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await slow


async def test_stuck_worker_is_killed() -> None:
    async with running(processes=2, grace=0.2, kill_after=0.3) as server:
        stuck = asyncio.create_task(server.get("/stuck"))
        await server.until("stuck")
        assert await asyncio.wait_for(server.end(signal.SIGTERM), 60) == 0
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await stuck


async def test_ready_turns_503_while_the_rest_is_finished() -> None:
    async with running() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await ask(reader, writer, "/ready") == (200, '{"status":"ready"}')
        slow = asyncio.create_task(server.get("/slow?seconds=5"))
        await server.until("slow")
        server.process.send_signal(signal.SIGTERM)
        await server.until("server_shutdown")
        status, body = await ask(reader, writer, "/ready")
        assert (status, json.loads(body)["type"]) == (503, "urn:bzz:problem:stopping")
        assert await reader.read() == b"", "the connection ends with this answer"
        writer.close()
        assert await slow == (200, "done")
        assert await server.end() == 0


async def test_idle_connection_does_not_hold_the_server() -> None:
    async with running() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await ask(reader, writer, "/")
        assert await asyncio.wait_for(server.end(signal.SIGTERM), 60) == 0
        assert await reader.read() == b""
        writer.close()


async def test_killed_worker_is_replaced() -> None:
    async with running(processes=2) as server:
        before = set(server.workers())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await server.get("/die")
        await server.until("server_ready", 3)
        after = set(server.workers())
        assert len(after) == 2
        assert len(after & before) == 1
        assert (await server.get())[0] == 200
        os.kill((after & before).pop(), signal.SIGTERM)  # somebody stops one worker by itself
        await server.until("server_ready", 4)
        assert (await server.get())[0] == 200
        assert await server.end(signal.SIGTERM) == 0


async def test_workers_that_cannot_start_are_given_up() -> None:
    async with running(processes=2, broken=True) as server:
        assert server.process.stderr is not None
        errors = (await asyncio.wait_for(server.process.stderr.read(), 60)).decode()
        assert await server.end() == 1
        assert "ZeroDivisionError" in errors
        assert "crashed again and again" in errors
        assert "server_ready" not in server.names()


async def test_failing_receiver_does_not_keep_the_server_from_stopping() -> None:
    async with running(broken_shutdown=True) as server:
        assert await server.end(signal.SIGTERM) == 0


async def test_workers_leave_when_the_supervisor_is_killed() -> None:
    async with running(processes=2) as server:
        workers = server.workers()
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while any(psutil.pid_exists(pid) for pid in workers):
                await asyncio.sleep(0.02)
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=5):
            pass


async def test_each_worker_has_its_own_database_client(mongo_url: str) -> None:
    async with running(processes=2, mongo=mongo_url) as server:
        assert [await server.get("/count") for _ in range(20)] == [(200, "1 1")] * 20
        assert await server.end(signal.SIGTERM) == 0
        assert server.process.stderr is not None
        assert b"fork" not in await server.process.stderr.read()


async def test_serve_inside_a_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"bzz\.server\.Server"):
        serve([], port=0)


def test_taken_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"Port {port} is already in use"):
            serve([], port=port, address="127.0.0.1")


def test_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(OSError, match="assign"):
        serve([], port=0, address="192.0.2.1")


@pytest.mark.parametrize("thing", [None, "api", object()])
def test_what_cannot_be_served_is_said(thing: object) -> None:
    with pytest.raises(TypeError, match="Cannot serve"):
        Server(thing)
