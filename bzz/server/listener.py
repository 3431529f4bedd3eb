"""The listening sockets: accept, and leave so that no client notices.

A listening socket that is closed resets the connections that the kernel has completed and nobody has
accepted, and those whose handshake is under way. Its end has therefore three steps. New handshakes are turned
away: to the newer server on the same port, if there is one; otherwise their first packet is dropped, the
client's kernel repeats it a second later, and finds whoever listens by then. Those under way get time to
arrive and are accepted. Only then is the socket closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
import sys
from collections.abc import Callable

__all__ = ["Listener", "hush"]

logger = logging.getLogger("bzz.server")

BACKLOG = 1024
ACCEPT_BATCH = 128
OUT_OF_FILES_PAUSE = 0.5
HANDSHAKE_SECONDS = 0.25

# Of the sockets that share a port the oldest comes first, so the second one is our successor; where there is
# none, the kernel ignores the choice. socket(7), SO_ATTACH_REUSEPORT_CBPF.
_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_CHOOSE_SECOND = ((0x06, 0, 0, 1),)
# Classic BPF: load the TCP flags; SYN set → drop the packet, else keep it whole. <linux/filter.h>, socket(7).
_SO_ATTACH_FILTER = 26
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


class Listener:
    """Bound sockets that hand each connection to ``receive``.

    Binding and accepting are two steps, so that a process can fork between them: the sockets are then
    shared, the connections go to whoever accepts first. ``port`` is the real one when 0 was asked for.
    """

    def __init__(self, port: int, address: str = "", *, reuse_port: bool = False) -> None:
        try:
            self.sockets = _bind(port, address, reuse_port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError(
                error.errno,
                f"Port {port} is already in use. Stop who uses it or choose another port. To replace a "
                "running server without a gap, start both with reuse_port=True (--reuse-port).",
            ) from None
        self.port = int(self.sockets[0].getsockname()[1])
        self._accepting = False

    def accept(self, receive: Callable[[socket.socket, tuple[object, ...]], None]) -> None:
        """Begin to accept in the running loop."""
        self._receive = receive
        self._accepting = True
        for listening in self.sockets:
            self._watch(listening)

    async def close(self, *, wait: bool) -> None:
        """Stop accepting after the handshakes that are under way have arrived.

        The owner of the sockets calls :func:`hush` first. Without ``wait`` they are closed at once.
        """
        if wait and self._accepting:
            await asyncio.sleep(HANDSHAKE_SECONDS)
        accepting, self._accepting = self._accepting, False
        loop = asyncio.get_running_loop()
        for listening in self.sockets:
            if accepting:
                loop.remove_reader(listening)
                while self._accept_one(listening):
                    pass
            _set(listening, _SO_DETACH_REUSEPORT_BPF, 0)  # or it would bind our successors
            listening.close()
        self.sockets = []

    def abandon(self) -> None:
        """Close this process' copies of the sockets; who shares them goes on."""
        for listening in self.sockets:
            listening.close()
        self.sockets = []

    def _watch(self, listening: socket.socket) -> None:
        if self._accepting:
            asyncio.get_running_loop().add_reader(listening, self._accept_some, listening)

    def _accept_some(self, listening: socket.socket) -> None:
        # A batch, so that a storm of connections does not starve those that are open.
        for _ in range(ACCEPT_BATCH):
            if not self._accept_one(listening):
                return

    def _accept_one(self, listening: socket.socket) -> bool:
        try:
            connection, address = listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                self._pause(listening, error)
                return False
            return True  # this one client is gone already: accept(2), "Error handling"
        connection.setblocking(False)
        self._receive(connection, address)
        return True

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Leave clients in the queue for a while: they stay readable, and the loop would spin on them."""
        logger.error("cannot accept connections for now: %s", error)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(OUT_OF_FILES_PAUSE, self._watch, listening)


def _bind(port: int, address: str, reuse_port: bool) -> list[socket.socket]:
    """Listen on every address that ``address`` stands for; all of them, or none and an OSError."""
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, where in sorted(set(found)):  # IPv4 first
            try:
                listening = socket.socket(family, kind, protocol)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT:
                    continue  # a machine without IPv6 may have names that mention it
                raise
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # Port 0 was the kernel's choice for the first address, and must be the same for the others.
            real = bound[0].getsockname()[1] if len(bound) > 1 else port
            listening.bind((where[0], real, *where[2:]))
            listening.listen(BACKLOG)
            listening.setblocking(False)
    except BaseException:
        for listening in bound:
            listening.close()
        raise
    return bound


def hush(listener: Listener) -> None:
    """Turn new handshakes away from now on, in every process that shares the sockets; there is no way back.

    Only on Linux; elsewhere nothing happens, and a client who connects in the last moment is reset.
    """
    import ctypes  # noqa: PLC0415 - for nothing but this

    for listening in listener.sockets:
        for option, program in ((_SO_ATTACH_REUSEPORT_CBPF, _CHOOSE_SECOND), (_SO_ATTACH_FILTER, _DROP_SYN)):
            code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
            _set(listening, option, struct.pack("HL", len(program), ctypes.addressof(code)))


def _set(listening: socket.socket, option: int, value: int | bytes) -> None:
    if sys.platform == "linux":  # the numbers mean something else elsewhere
        with contextlib.suppress(OSError):  # an old kernel, a sandbox, a port that is not shared
            listening.setsockopt(socket.SOL_SOCKET, option, value)
