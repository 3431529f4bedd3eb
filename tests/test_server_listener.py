"""Listening sockets and the streams that come out of them, where the other tests do not lead."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from bzz.server import Server, listener
from bzz.server.listener import Listener, hush
from bzz.server.stream import ClientStream


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket() as found:
        found.settimeout(60)
        yield found


async def test_every_address_gets_the_same_port() -> None:
    async with Server([], port=0, access_log=None) as server:
        assert {each.getsockname()[1] for each in server.listener.sockets} == {server.port}
        for host in {each.getsockname()[0] for each in server.listener.sockets}:
            _, writer = await asyncio.open_connection(host.replace("::", "::1"), server.port)
            writer.close()


def test_family_that_the_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return real(family, *rest)

    monkeypatch.setattr(listener.socket, "socket", without_ipv6)
    found = Listener(0)
    assert [each.family for each in found.sockets] == [socket.AF_INET]
    found.abandon()


def test_other_errors_leave_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: int) -> socket.socket:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(listener.socket, "socket", never)
    with pytest.raises(OSError, match="too many"):
        Listener(0, "127.0.0.1")


async def test_without_file_descriptors_clients_wait_and_the_loop_does_not_spin(
    client: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    async with Server([], port=0, address="127.0.0.1", access_log=None) as server:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.port))
            async with asyncio.timeout(60):
                while "cannot accept" not in caplog.text:
                    await asyncio.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caplog.text.count("cannot accept") == 1
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.get_running_loop().sock_recv(client, 100)
        assert answer.startswith(b"HTTP/1.1 404 "), "it was accepted later"


async def test_client_who_gave_up_in_the_queue_is_passed_over() -> None:
    class Gone:
        """What accept(2) says of a connection that was reset while it waited."""

        def accept(self) -> None:
            raise ConnectionAbortedError(errno.ECONNABORTED, "gone")

    found = Listener(0, "127.0.0.1")
    assert found._accept_one(Gone()) is True  # type: ignore[arg-type]
    found.abandon()


async def test_waiting_clients_are_accepted_before_the_socket_is_closed(client: socket.socket) -> None:
    accepted: list[socket.socket] = []
    found = Listener(0, "127.0.0.1")
    found.accept(lambda connection, _: accepted.append(connection))
    client.connect(("127.0.0.1", found.port))
    assert not accepted, "the loop had no time yet"
    hush(found)
    with socket.socket() as late:
        late.settimeout(0.1)
        with pytest.raises(TimeoutError):
            late.connect(("127.0.0.1", found.port))
    await found.close(wait=True)
    assert len(accepted) == 1
    accepted[0].close()


async def test_closing_without_having_accepted() -> None:
    found = Listener(0, "127.0.0.1")
    await found.close(wait=True)
    assert found.sockets == []


async def test_stopping_what_was_not_started_frees_the_port() -> None:
    server = Server([], port=0, address="127.0.0.1", access_log=None)
    assert repr(server) == f"<Server http://127.0.0.1:{server.port} worker 0>"
    assert (server.connections, server.in_flight) == (0, 0)
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


def test_stream_that_outlives_its_loop_is_closed_plainly() -> None:
    ours, theirs = socket.socketpair()

    async def make() -> ClientStream:
        return ClientStream(ours)

    stream = asyncio.run(make())
    stream.linger = True
    stream.close_fd()
    assert theirs.recv(1) == b""
    theirs.close()
