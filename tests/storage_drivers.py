"""The drivers on which the storage tests run, and what they need of each."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from motor.motor_tornado import MotorClient
from pymongo import AsyncMongoClient, monitoring

from bzz.storage.driver import Driver

KINDS = {"pymongo": AsyncMongoClient, "motor-asyncio": AsyncIOMotorClient, "motor-tornado": MotorClient}
DRIVERS = ["derived", *KINDS]
# One of each family, where the third would only repeat the second.
FAMILIES = ["derived", "motor-asyncio"]


@asynccontextmanager
async def explicit_client(kind: str, url: str, **options: Any) -> AsyncIterator[Any]:
    """A client of this kind, None for the one that bzz derives; closed at the end, within seconds."""
    if kind == "derived":
        yield None
        return
    client = KINDS[kind](url, uuidRepresentation="standard", **options)
    try:
        yield client
    finally:
        await Driver(client).close()


class Commands(monitoring.CommandListener):
    """Every command that a client sent, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.command_name, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to note."""

    @property
    def names(self) -> list[str]:
        return [name for name, _command in self.sent]

    async def until(self, command: str, count: int = 1) -> None:
        """Wait until so many of a command were sent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while self.names.count(command) < count:
                    await asyncio.sleep(0.001)
        assert self.names.count(command) >= count, f"{command} was never sent, but {self.names}"

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        sent, self.sent = self.sent, []
        return sent


async def everything_arrived(client: Any, application: str) -> None:
    """Wait until the server is done with what came from connections that are closed here.

    Who cancels a command closes its connection, and the server may not have read the command by then. It
    keeps its end of the connection until it has carried out all that it was sent.
    """
    connections = [
        {"$currentOp": {"allUsers": True, "idleConnections": True}},
        {"$match": {"appName": application, "client": {"$exists": True}}},
    ]
    asked = {"aggregate": 1, "pipeline": connections, "cursor": {"batchSize": 10_000}}
    async with asyncio.timeout(60):
        while True:
            ours = _own_ports()
            found = (await client.admin.command(asked))["cursor"]["firstBatch"]
            if all(int(each["client"].rpartition(":")[2]) in ours for each in found):
                return
            await asyncio.sleep(0.01)


def _own_ports() -> set[int]:
    """The ports of this process; asking the system for connections is slow where thousands linger."""
    ports = set()
    for each in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # no socket, or the folder itself
            found = socket.socket(fileno=int(each.name))
            try:
                ports.add(found.getsockname()[1])
            except (IndexError, TypeError):  # of another family
                continue
            finally:
                found.detach()
    return ports
