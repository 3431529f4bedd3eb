"""Start a server program, wait until it answers, stop it; and see to it that it never outlives us."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO, ClassVar, Self

from bzz.embedded import guardian as guardian_script
from bzz.errors import EmbeddedServerError

__all__ = ["EmbeddedServer"]

HOST = "127.0.0.1"
PORT_ATTEMPTS = 10
ATTEMPT_SECONDS = 2.0  # then a look at whether it is alive: on a port of somebody else nobody may answer
LOG_LINES = 8
LOG_WIDTH = 400

# Strong references: `url = EmbeddedMongo().start()` must not end the server when the object is collected.
_running: set[EmbeddedServer] = set()


class _PortTakenError(Exception):
    """Somebody else took the port between our looking and the server's binding."""


class EmbeddedServer(ABC):
    """One server program under a guardian process.

    ``port`` 0 picks a free one; a port given that is taken is an error. ``data`` None is a temporary folder
    that is removed when the server stops; a folder given is created, kept, and used again by the next start.
    ``binary`` is the program, searched for when None. ``start_timeout`` and ``stop_timeout`` are bounds in
    seconds.

    The server ends when :meth:`stop` is called, when this process ends (SIGKILL included), never before:
    dropping the object does not stop it. A process forked from this one neither holds nor stops it.
    """

    name: ClassVar[str]

    def __init__(
        self,
        port: int = 0,
        data: str | Path | None = None,
        *,
        binary: str | Path | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 20.0,
    ) -> None:
        self.requested_port = port
        self.data = Path(data).resolve() if data is not None else None
        self.binary = binary
        self.start_timeout = start_timeout
        self.stop_timeout = stop_timeout
        self.pid = 0
        self._port = 0
        self.folder: Path | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._lifeline: IO[bytes] | None = None

    # what a kind of server says about itself

    @abstractmethod
    def find(self) -> Path:
        """Find the program."""

    @abstractmethod
    def command(self, binary: Path, folder: Path, port: int) -> list[str]:
        """Build the command line that serves ``folder`` on ``port``."""

    @abstractmethod
    def prepare(self, deadline: float) -> None:
        """Wait for the first sensible answer, until ``deadline`` (monotonic seconds).

        Must compare the process id that the server reports with :attr:`pid`: on a port lost to somebody else
        it is the other one who answers. Errors of the connection are raised as they come; they mean "not
        yet".
        """

    def telling(self, lines: list[str]) -> list[str]:
        """Choose the lines of its log that tell why it died."""
        return lines

    @property
    @abstractmethod
    def url(self) -> str:
        """What a client connects to."""

    # its life

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._guardian is None:
            raise EmbeddedServerError(f"This embedded {self.name} is not running: start it first.")
        return self._port

    @property
    def running(self) -> bool:
        """Whether the server was started by this process and is still alive."""
        return self._guardian is not None and not self._heard(0)

    def start(self) -> str:
        """Start it, unless it runs already, and wait until it can be used; return its URL."""
        if self._guardian is None:
            binary = self.find()
            attempts = 1 if self.requested_port else PORT_ATTEMPTS
            while not self._launched(binary, last=attempts == 1):
                attempts -= 1
        return self.url

    def stop(self) -> None:
        """Stop it and wait until it is gone, its temporary folder included; twice does no harm."""
        guardian, lifeline = self._guardian, self._lifeline
        if guardian is None or lifeline is None:
            return
        _running.discard(self)
        self._guardian = self._lifeline = None
        lifeline.close()
        try:
            guardian.wait(self.stop_timeout + 10)
        except subprocess.TimeoutExpired:  # pragma: no cover - the kernel does not let it die
            guardian.kill()
            guardian.wait()
        assert guardian.stdout is not None
        guardian.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # inside

    def _launched(self, binary: Path, *, last: bool) -> bool:
        try:
            self._launch(binary)
        except _PortTakenError as taken:
            if last:
                raise EmbeddedServerError(str(taken)) from None
            return False
        return True

    def _launch(self, binary: Path) -> None:
        self._port = self.requested_port or _free_port()
        self._heard_lines = b""
        folder = self.folder = self.data or Path(tempfile.mkdtemp(prefix=f"bzz-{self.name}-"))
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "bzz.lock").open("wb") as lock, self._log_path.open("wb") as log:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EmbeddedServerError(
                    f"The data folder {folder} is in use by another embedded {self.name}. Stop that one, or "
                    "give this one a folder of its own."
                ) from None
            self._spawn([*self.command(binary, folder, self._port)], folder, lock, log)
        try:
            self._wait(time.monotonic() + self.start_timeout)
        except BaseException:
            self.stop()
            raise

    def _spawn(self, command: Sequence[str], folder: Path, lock: IO[bytes], log: IO[bytes]) -> None:
        reader, writer = os.pipe()
        removed = "-" if self.data else str(folder)
        script = str(Path(guardian_script.__file__))
        with open(reader, "rb") as stdin:  # noqa: PTH123 - a descriptor, not a path
            self._guardian = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", script, removed, str(self.stop_timeout), *command],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                pass_fds=[
                    lock.fileno()
                ],  # the lock belongs to the open file: it is free when the guardian is gone
                start_new_session=True,
            )
        self._lifeline = open(writer, "wb", buffering=0)  # noqa: PTH123, SIM115
        _running.add(self)

    def _wait(self, deadline: float) -> None:
        last = "it never listened on its port"
        while time.monotonic() < deadline:
            if news := self._heard(0.02):
                raise self._dead(news)
            if not self.pid:
                continue
            try:
                socket.create_connection((HOST, self._port), timeout=1).close()
                self.prepare(min(deadline, time.monotonic() + ATTEMPT_SECONDS))
            except Exception as error:  # whatever a client says about a server that starts up
                last = f"{type(error).__name__}: {error}"
            else:
                return
        raise EmbeddedServerError(
            f"The embedded {self.name} did not become ready within {self.start_timeout:g} seconds "
            f"({last}).{self._log()}"
        )

    def _heard(self, seconds: float) -> str:
        """Read what the guardian said within ``seconds``; return the bad news, or an empty string."""
        assert self._guardian is not None and self._guardian.stdout is not None
        stdout = self._guardian.stdout
        while select.select([stdout], [], [], seconds)[0]:
            chunk = os.read(stdout.fileno(), 4096)
            if not chunk:
                self._heard_lines += b"failed its guardian died\n"
                break
            self._heard_lines += chunk
            seconds = 0
        for line in self._heard_lines.decode().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "started":
                self.pid = int(rest)
            else:
                return line
        return ""

    def _dead(self, news: str) -> Exception:
        log = self._log()
        if re.search("address already in use", log, re.IGNORECASE):
            return _PortTakenError(
                f"Port {self._port} is already in use, so the embedded {self.name} cannot listen on it. "
                "Stop who uses it, or choose another port (0 picks a free one)."
            )
        return EmbeddedServerError(
            f"The embedded {self.name} did not start ({news}).{_advice(news, log)}{log}"
        )

    @property
    def _log_path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"bzz-{self.name}.log"

    def _log(self) -> str:
        lines = self._log_path.read_text("utf-8", errors="replace").splitlines()
        last = (self.telling(lines) or lines)[-LOG_LINES:]
        return "\n".join([" Its own last words:", *(line[:LOG_WIDTH] for line in last)]) if last else ""


def _advice(news: str, log: str) -> str:
    """Say what a person can do about a server that died, as far as that can be known."""
    if missing := re.search(r"error while loading shared libraries: (\S+):", log):
        return (
            f" The system lacks the library {missing[1]}: install the package that has it (Debian, Ubuntu: "
            "`apt-get install libcurl4 libssl3`), or name another program: BZZ_MONGOD, BZZ_REDIS."
        )
    if news in {"exited -4", "exited 132"}:
        return " The processor lacks instructions that it was built for (MongoDB 5 and later need AVX)."
    if re.search(
        r"DBPathInUse|Unable to (?:create/open|lock) the lock file|\(IMMEDIATELY\) exit code: 100\b", log
    ):
        return " Its data folder is in use by another server, or belongs to another user."
    if "no space left" in log.lower():
        return " The disk is full."
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _forget_in_child() -> None:
    """Let go of the pipes in a forked process, or the servers would live as long as the last worker."""
    for server in _running:
        assert server._lifeline is not None and server._guardian is not None
        server._lifeline.close()
        server._guardian.returncode = 0  # not our child any more: nobody here may wait for it
        server._guardian = server._lifeline = None
    _running.clear()


os.register_at_fork(after_in_child=_forget_in_child)
