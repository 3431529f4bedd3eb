"""MongoDB goes away in the middle of the work, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import mongoengine
import psutil
import pytest

from bzz.embedded import EmbeddedMongo
from bzz.errors import StorageError, StorageTimeoutError, StorageUnavailableError
from bzz.storage import Store, close_clients
from tests.storage_drivers import DRIVERS, explicit_client

# A driver whose server is killed may leave a socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LIMIT = 0.8
#: Seconds that a busy machine may add to a limit; without one it would be 30.
SLACK = 15.0
#: Seconds until a server that came back has to be used again, by who waits for so long.
BACK_WITHIN = 90.0


class Entry(mongoengine.Document):
    code = mongoengine.IntField(unique=True, sparse=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo(data=tmp_path_factory.mktemp("mongod")) as server:
        yield server


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, server: EmbeddedMongo) -> AsyncIterator[Store]:
    name = f"bzz-{uuid.uuid4().hex}"
    url = f"mongodb://127.0.0.1:{server.port}"
    blocking = mongoengine.connect(name, host=url, uuidRepresentation="standard", heartbeatFrequencyMS=500)
    async with explicit_client(request.param, url, heartbeatFrequencyMS=500) as client:
        yield Store(Entry, client=client, timeout=LIMIT)
        await close_clients()
    # A frozen server carries out later what it was sent, a transaction that nobody knows of among it: MongoDB
    # would keep its locks for a minute and a half, and the database could not be dropped.
    blocking.admin.command("killAllSessions", [])
    blocking.drop_database(name)
    mongoengine.disconnect_all()


def calls(store: Store) -> list[Any]:
    return [
        *(store.find_by_id(n) for n in range(20)),
        *(store.insert({"n": n}) for n in range(20)),
        store.find({}, limit=5),
        store.count({}),
        store.insert({"_id": uuid.uuid4().hex}),
        store.update({"_id": 1}, {"$set": {"n": 1}}),
        store.delete({"_id": 2}),
        store.ping(),
        store.run_in_transaction(lambda session: store.insert({"x": 1}, session=session), LIMIT),
    ]


async def outcomes(store: Store) -> tuple[list[Any], float]:
    started = time.monotonic()
    results = await asyncio.gather(*calls(store), return_exceptions=True)
    return results, time.monotonic() - started


class Pulse:
    """Measures the longest time for which the event loop did nothing else."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Pulse:
        self.task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def _beat(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now


async def until_served(store: Store) -> None:
    patient = Store(store.model, client=store._client, timeout=10)
    ends = time.monotonic() + BACK_WITHIN
    while True:
        results, _ = await outcomes(patient)
        if not any(isinstance(each, BaseException) for each in results):
            return
        assert time.monotonic() < ends, f"it was not served again: {results}"


async def test_a_server_that_hangs(store: Store, server: EmbeddedMongo) -> None:
    await until_served(store)
    threads = threading.active_count()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        while psutil.Process(server.pid).status() != psutil.STATUS_STOPPED:
            await asyncio.sleep(0.001)
        async with Pulse() as pulse:
            for _ in range(2):
                results, seconds = await outcomes(store)
                kinds = {type(each) for each in results}
                assert kinds <= {StorageTimeoutError, StorageUnavailableError}, results
                assert seconds < LIMIT + SLACK
        assert pulse.longest < SLACK
        assert threading.active_count() <= threads + 10  # Motor's own pool, at most
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until_served(store)


async def test_a_server_that_is_killed(store: Store, server: EmbeddedMongo) -> None:
    await until_served(store)
    under_way = asyncio.gather(*(outcomes(store) for _ in range(5)))
    await asyncio.sleep(0)
    server.requested_port = server.port
    os.kill(server.pid, signal.SIGKILL)
    try:
        async with Pulse() as pulse:
            for results, seconds in await under_way:
                failures = {type(each) for each in results if isinstance(each, BaseException)}
                assert failures <= {StorageTimeoutError, StorageUnavailableError}, results
                assert seconds < LIMIT + SLACK
            results, seconds = await outcomes(store)
            assert {type(each) for each in results} == {StorageUnavailableError}
            assert seconds < LIMIT + SLACK
        assert pulse.longest < SLACK
    finally:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
    assert server.port == server.requested_port
    await until_served(store)


@pytest.mark.parametrize("ask", ["ping", "count", "change"])
async def test_hundreds_who_ask_while_it_is_away_find_it_again(server: EmbeddedMongo, ask: str) -> None:
    """Those whose time is over at once must not be cut off where the driver waits: it would wait for ever."""
    mongoengine.connect("away", host=server.url, uuidRepresentation="standard")
    try:
        patient = Store(Entry, timeout=30)
        await patient.prepare()
        store = Store(Entry, timeout=1.0)
        server.requested_port = server.port
        await asyncio.to_thread(server.stop)
        asked = {
            "ping": store.ping,
            "count": lambda: store.count({}),
            "change": lambda: store.run_in_transaction(lambda session: store.count({}, session=session), 1.0),
        }[ask]
        results = await asyncio.gather(*(asked() for _ in range(500)), return_exceptions=True)
        assert {type(each) for each in results} <= {StorageTimeoutError, StorageUnavailableError}
        await asyncio.to_thread(server.start)
        assert await patient.count({"code": 1}) == 0
    finally:
        await asyncio.to_thread(server.start)
        await close_clients()
        mongoengine.disconnect_all()


async def test_a_client_of_a_dead_server_is_closed_within_seconds(tmp_path: Path) -> None:
    class Brief(mongoengine.Document):
        meta = {"db_alias": "brief"}

    with EmbeddedMongo(data=tmp_path) as server:
        mongoengine.register_connection("brief", "x", host=server.url, uuidRepresentation="standard")
        await Store(Brief, timeout=30).ping()
        store = Store(Brief, timeout=LIMIT)
        os.kill(server.pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(StorageUnavailableError):
            await store.ping()
        await close_clients()
        assert time.monotonic() - started < LIMIT + 2 + SLACK
        with pytest.raises(StorageError):
            await store.find_one({})  # a new client, which is closed as quickly
        await close_clients()
    mongoengine.disconnect_all()


async def test_preparing_while_nobody_answers_starts_no_thread() -> None:
    url = "mongodb://127.0.0.1:9/?connectTimeoutMS=200"
    mongoengine.register_connection("away", "x", host=url, uuidRepresentation="standard")

    class Away(mongoengine.Document):
        meta = {"db_alias": "away"}

    store = Store(Away, timeout=0.3)
    for _ in range(3):
        with pytest.raises(StorageUnavailableError):
            await store.prepare()
        with pytest.raises(StorageError):
            await store.insert({"_id": 1})
    assert [each for each in threading.enumerate() if each.name.startswith("bzz-prepare")] == []
    await close_clients()
    mongoengine.disconnect_all()


async def test_a_name_that_nobody_knows_does_not_block_the_loop() -> None:
    mongoengine.register_connection(
        "unknown", "x", host="mongodb://nobody.invalid", uuidRepresentation="standard"
    )

    class Unknown(mongoengine.Document):
        meta = {"db_alias": "unknown"}

    async with Pulse() as pulse:
        with pytest.raises(StorageUnavailableError):
            await Store(Unknown, timeout=LIMIT).ping()
    assert pulse.longest < SLACK
    await close_clients()
