"""One server of each peer, as a process of its own, and what it costs the processor and the memory."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.catalogue import Peer

__all__ = ["Server", "cpu_seconds", "running"]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0


class Server:
    """A peer that runs: on which ``port``, with which ``process``."""

    def __init__(self, peer: Peer, port: int, process: psutil.Process) -> None:
        self.peer = peer
        self.port = port
        self.process = process

    def cpu_seconds(self) -> float:
        """What the process and its children have used of the processor, for themselves and in the kernel."""
        return cpu_seconds(self.process)

    def memory(self) -> int:
        """Bytes that the process and its children hold and share with nobody."""
        return sum(each.memory_full_info().uss for each in family(self.process))


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def cpu_seconds(process: psutil.Process) -> float:
    """What a process and its children have used of the processor, for themselves and in the kernel."""
    used = 0.0
    for each in family(process):
        times = each.cpu_times()
        used += times.user + times.system
    return used


@contextmanager
def running(
    peer: Peer, mongo_url: str, database: str, *, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """Start a peer, wait until it answers, and stop it at the end."""
    port = free_port()
    command = [*peer.command(), str(port), mongo_url, database]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=os.environ | {"NODE_ENV": "production", "PYTHONUNBUFFERED": "1"} | (environment or {}),
        )
        try:
            wait_until_open(process, port)
            yield Server(peer, port, psutil.Process(process.pid))
        except BaseException as error:
            log.seek(0)
            if said := log.read().decode(errors="replace")[-2000:]:
                error.add_note(f"{peer.title} said:\n{said}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the process, or one of its children, listens on the port, and nobody else does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
            continue
        if listens(process.pid, port):
            return
    raise RuntimeError(f"the server does not listen after {START_SECONDS:g} s")


def listens(process: int, port: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in family(psutil.Process(process)):
            for line in each.net_connections("tcp"):
                if line.status == psutil.CONN_LISTEN and line.laddr.port == port:
                    return True
    return False


def free_port() -> int:
    """A port on which nobody listens, below those that the system gives to everybody else."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
