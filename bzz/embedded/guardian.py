"""Run one server and stop it when the process that asked for it is gone.

A script of its own (only the standard library, ``python -I -S guardian.py FOLDER TIMEOUT COMMAND…``), because
only another process can clean up after one that died by SIGKILL. Its standard input is a pipe that nobody
ever writes to: the end of file is the parent's death or its wish to stop. Then the server gets SIGTERM,
and SIGKILL when ``TIMEOUT`` seconds were not enough. A temporary ``FOLDER`` is removed, and a server whose
data is thrown away anyway gets SIGKILL at once; ``-`` is for data that is kept.

What it tells on its standard output, one line each: ``started PID``, ``exited STATUS``, ``failed WHY``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def tell(line: str) -> None:
    """Write a line to the parent, who may be gone already."""
    with contextlib.suppress(OSError):
        os.write(1, (line + "\n").encode())


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start the server so that it ends with this guardian, should somebody kill it."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    guardian = os.getpid()

    def tie() -> None:  # pragma: no cover - in the child, until it becomes the server
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != guardian:  # it died before the line above could tie us to it
                os._exit(1)

    # The signal follows the THREAD that forks: this must run in the main thread, which lives to the end.
    return subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=2,
        preexec_fn=tie,  # noqa: PLW1509
    )


def stop(server: subprocess.Popen[bytes], timeout: float) -> None:
    """End the server: politely, then not."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        if timeout:
            server.terminate()
            server.wait(timeout)
    server.kill()
    server.wait()


def guard(folder: str, timeout: float, command: list[str]) -> None:
    """Stay until standard input ends."""
    try:
        server = start(command)
    except OSError as error:
        tell(f"failed {error}")
        os.read(0, 1)
    else:
        tell(f"started {server.pid}")
        threading.Thread(target=lambda: tell(f"exited {server.wait()}"), daemon=True).start()
        while os.read(0, 1):
            pass
        stop(server, timeout if folder == "-" else 0)
    if folder != "-":
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever stops all must not take the guardian first. Not SIG_IGN: the server would inherit that.
        signal.signal(number, lambda *_: None)
    guard(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
