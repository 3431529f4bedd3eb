"""One face for PyMongo's asynchronous client and for Motor's clients.

Both have the same collections; they differ in how sessions and transactions start, how an aggregation is
asked for, and how they are closed. Nothing outside this module knows which of the two it talks to.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pymongo
from pymongo import AsyncMongoClient, ReadPreference

from bzz.storage.limit import TimeLimit

__all__ = ["Driver"]

# A client tells the server which sessions are over, and would look for one for half a minute.
_CLOSE_SECONDS = 1.0


class Driver:
    """Speak to MongoDB through ``client``, whichever of the supported kinds it is.

    Takes a :class:`pymongo.AsyncMongoClient`, a ``motor.motor_asyncio.AsyncIOMotorClient`` or a
    ``motor.motor_tornado.MotorClient``; anything else, also a blocking client, is a :class:`TypeError`. A
    driver belongs to the event loop of its client.
    """

    __slots__ = (
        "_has_transactions",
        "_topology",
        "_transactions",
        "client",
        "closed",
        "is_motor",
        "prepared",
    )

    def __init__(self, client: Any) -> None:
        self.is_motor = _is_motor(client)
        if not self.is_motor and not isinstance(client, AsyncMongoClient):
            raise TypeError(
                "a client must be pymongo.AsyncMongoClient, AsyncIOMotorClient or MotorClient, "
                f"not {type(client).__name__}"
            )
        self.client = client
        self.closed = False
        self.prepared: set[tuple[str, str]] = set()  # collections of bzz' own that have their indexes
        self._transactions = False
        self._topology: Any = None
        self._has_transactions = False

    def collection(self, database: str, name: str) -> Any:
        """The collection, with the options of the client (as mongoengine's own has them)."""
        return self.client[database][name]

    async def to_list(self, cursor: Any, length: int | None = None) -> list[dict[str, Any]]:
        """Read a cursor to its end, or ``length`` documents of it.

        A cursor that is cut off is not closed here, which could wait for a server that does not answer: the
        driver does it in the background.
        """
        documents: list[dict[str, Any]] = await cursor.to_list(length)
        return documents

    async def aggregate(self, collection: Any, pipeline: list[dict[str, Any]], **options: Any) -> Any:
        """Run an aggregation and return its documents."""
        cursor = collection.aggregate(pipeline, **options)
        return await self.to_list(cursor if self.is_motor else await cursor)

    async def start_session(self) -> Any:
        """Start a session; end it with :meth:`end_session`, never with ``async with``.

        Motor's own ``__aexit__`` ends a session, and aborts its transaction, in the event loop's thread.
        """
        session = self.client.start_session()
        return await session if self.is_motor else session

    async def start_transaction(self, session: Any) -> None:
        """Start a transaction on the primary, with the concerns of the client."""
        started = session.start_transaction(read_preference=ReadPreference.PRIMARY)
        if not self.is_motor:
            await started

    async def end_session(self, session: Any) -> None:
        """Give the session back, aborting what is still open in it."""
        await session.end_session()

    async def kill_session(self, session: Any) -> None:
        """Have the server end all that is under way in the session, a transaction too."""
        await self.client.admin.command({"killSessions": [{"id": session.session_id["id"]}]})

    async def supports_transactions(self) -> bool:
        """Whether the server is a replica set or sharded; a yes is remembered, a no is asked again."""
        if not self._transactions:
            hello = await self.client.admin.command("hello")
            self._transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
        return self._transactions

    @property
    def has_transactions(self) -> bool:
        """Whether the driver sees the primary of a replica set now; asks nobody."""
        topology = self.client.topology_description
        if topology is not self._topology:  # a new one for every change that the driver notices
            servers = topology.server_descriptions().values()
            self._has_transactions = any(each.server_type_name == "RSPrimary" for each in servers)
            self._topology = topology
        return self._has_transactions

    @property
    def sees_a_server(self) -> bool:
        """Whether any server answered the last time the driver looked; asks nobody."""
        return bool(self.client.topology_description.known_servers)

    def sees_none(self) -> bool:
        """Whether the driver waits for a server, which it should be left to end by itself."""
        return not (self.sees_a_server or self.is_motor)

    async def close(self) -> None:
        """Close the client, within seconds also when no server answers. All that still uses it fails."""
        self.closed = True
        closing = self.client.close()
        if closing is not None:
            with contextlib.suppress(TimeoutError), pymongo.timeout(_CLOSE_SECONDS):
                async with TimeLimit(2 * _CLOSE_SECONDS):
                    await closing


def _is_motor(client: Any) -> bool:
    # Who has a Motor client has imported Motor; nobody else pays for the import.
    motor = sys.modules.get("motor.core")
    return motor is not None and isinstance(client, motor.AgnosticClient)
