"""The drivers on which the storage tests run, and what they need of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from motor.motor_tornado import MotorClient
from pymongo import AsyncMongoClient, monitoring

KINDS = {"pymongo": AsyncMongoClient, "motor-asyncio": AsyncIOMotorClient, "motor-tornado": MotorClient}
DRIVERS = ["derived", *KINDS]
# One of each family, where the third would only repeat the second.
FAMILIES = ["derived", "motor-asyncio"]


@asynccontextmanager
async def explicit_client(kind: str, url: str, **options: Any) -> AsyncIterator[Any]:
    """A client of this kind, None for the one that bzz derives; closed at the end."""
    if kind == "derived":
        yield None
        return
    client = KINDS[kind](url, uuidRepresentation="standard", **options)
    try:
        yield client
    finally:
        closing = client.close()
        if closing is not None:
            await closing


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

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        sent, self.sent = self.sent, []
        return sent
