"""A whole service while MongoDB misbehaves: each request has its right answer, nothing lost, none twice."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mongoengine
import psutil
import pytest
from pymongo import MongoClient

from bzz.embedded import EmbeddedMongo
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.signals import post_create_instance, post_update_instance
from bzz.storage import close_clients
from tests.serving import Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
WORKERS = 24
# A driver whose connection breaks may leave its socket to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


class Tool(mongoengine.Document):
    code = mongoengine.StringField(required=True, unique=True)
    level = mongoengine.IntField(min_value=0)
    tags = mongoengine.ListField(mongoengine.StringField())


class Member(EmbeddedMongo):
    """A server that waits to be told which set it belongs to."""

    def _form_set(self, client: Any, deadline: float) -> None:
        """Leave it to the test."""


def start_set(stack: ExitStack, folder: Path, count: int) -> str:
    """Start a replica set whose elections are quick, and return its URL."""
    members = [stack.enter_context(Member(data=folder / str(n), test_commands=True)) for n in range(count)]
    hosts = [f"127.0.0.1:{each.port}" for each in members]
    config = {
        "_id": "rs0",
        "members": [{"_id": n, "host": host} for n, host in enumerate(hosts)],
        "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200},
    }
    direct: MongoClient[Any] = MongoClient(hosts[0], directConnection=True)
    with direct:
        direct.admin.command("replSetInitiate", config)
    url = f"mongodb://{','.join(hosts)}/?replicaSet=rs0"
    client: MongoClient[Any] = MongoClient(url)
    with client:
        client.admin.command("ping")  # waits for a primary
    return url


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("set")
        for n in range(request.param):
            (folder / str(n)).mkdir()
        yield start_set(stack, folder, request.param)


class Service:
    """A served model, what its receivers heard, and a connection of its own to make things fail."""

    def __init__(self, client: Client, blocking: Any, name: str) -> None:
        self.client, self.blocking, self.name = client, blocking, name
        self.created: list[str] = []
        self.changes: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def on_create(self, instance: Tool) -> None:
        self.created.append(instance.code)

    def on_update(self, instance: Tool, updated_fields: dict[str, Any]) -> None:
        change = updated_fields["level"]
        self.changes[instance.code].append((change["from"], change["to"]))

    def fail(self, command: str, times: int, **how: Any) -> None:
        data = {"failCommands": [command], "appName": self.name, **how}
        point = {"configureFailPoint": "failCommand", "mode": {"times": times}, "data": data}
        self.blocking.admin.command(point)

    def stored(self) -> dict[str, Any]:
        return {each["code"]: each for each in Tool._get_collection().find()}


@pytest.fixture
async def service(url: str) -> AsyncIterator[Service]:
    name = f"bzz-{uuid.uuid4().hex}"
    mongoengine.connect(name, host=url, uuidRepresentation="standard", appname=name)
    blocking: MongoClient[Any] = MongoClient(url)
    routes = MongoEngineRestHandler.routes_for(Tool, timeout=20.0)
    try:
        async with serving(routes) as client:
            service = Service(client, blocking, name)
            with (
                post_create_instance.connected_to(service.on_create, sender=Tool),
                post_update_instance.connected_to(service.on_update, sender=Tool),
            ):
                assert (await client.post("/tool", json={"code": "first", "level": 0})).status == 201
                tasks, sockets = len(asyncio.all_tasks()), _sockets()
                yield service
                await _goes_on(service)
                await _nothing_leaks(routes.resource.store, tasks, sockets)
    finally:
        await close_clients()
        await asyncio.to_thread(blocking.drop_database, name)
        blocking.close()
        mongoengine.disconnect_all()


def _sockets() -> int:
    return len(psutil.Process().net_connections("tcp"))


async def _goes_on(service: Service) -> None:
    made = await service.client.post("/tool", json={"code": "last", "level": 1})
    assert made.status == 201
    place = made.headers["Location"]
    assert (await service.client.put(place, json={"level": 2})).status == 200
    assert (await service.client.get(place)).json["level"] == 2
    assert (await service.client.delete(place)).status == 204
    assert (await service.client.get(place)).status == 404


async def _nothing_leaks(store: Any, tasks: int, sockets: int) -> None:
    current = store._current()
    writes = current.writes
    waiting = (current.reads._lanes, current.inserts._lanes, writes._lanes)
    for _ in range(3000):
        idle = not any(each._under_way or each._groups or each._tasks for each in waiting)
        # Connections of the pool (of one that is gathered by the server's own clients as well) may stay.
        if idle and len(asyncio.all_tasks()) <= tasks + 3 and _sockets() <= sockets + WORKERS + 110:
            break
        await asyncio.sleep(0.02)
    else:
        names = [repr(each) for each in asyncio.all_tasks()]
        pytest.fail(f"{_sockets()} sockets after {sockets}, tasks: {names}")
    assert writes._writers == {}
    # Sessions that are in use are in nobody's pool: all came back, and no transaction is left open.
    client = current.driver.client
    operations = await client.admin.aggregate([{"$currentOp": {"idleSessions": True}}])
    open_ones = [each async for each in operations if "transaction" in each and each.get("appName")]
    assert open_ones == []


async def _work(service: Service, number: int, steps: int) -> dict[str, int]:
    """Create, read and change documents of one's own; return the levels that are known to be stored.

    What a 503 leaves unknown is looked up: both answers are right, and only what follows must fit.
    """
    known: dict[str, int] = {}
    for step in range(steps):
        code = f"{number}-{step}"
        answer = await service.client.post("/tool", json={"code": code, "level": 0, "tags": ["a"]})
        while answer.status == 503:  # a client tries again
            answer = await service.client.post("/tool", json={"code": code, "level": 0, "tags": ["a"]})
        assert answer.status in (201, 409), answer
        if answer.status == 409:
            continue  # stored by the attempt that nobody could answer for
        place = answer.headers["Location"]
        for level in range(1, 4):
            answer = await service.client.put(place, json={"level": level})
            while answer.status == 503:
                answer = await service.client.put(place, json={"level": level})
            assert (answer.status, answer.json["level"]) == (200, level), answer
            answer = await service.client.get(place)
            assert (answer.status, answer.json["level"] if answer.status == 200 else level) in {
                (200, level),
                (503, level),
            }, answer
            known[code] = level
    return known


def _judge(service: Service, known: dict[str, int]) -> None:
    stored = service.stored()
    for code, level in known.items():
        assert stored[code]["level"] == level
        heard = service.changes[code]
        # One chain, without a link twice; a link may only miss where nobody could answer for it.
        assert len(heard) == len(set(heard))
        assert set(heard) <= {(0, 1), (1, 2), (2, 3)}
        assert heard == sorted(heard)
    assert len(service.created) == len(set(service.created))
    assert set(service.created) <= stored.keys()
    assert set(known) <= set(service.created)


@pytest.mark.parametrize("url", [1], ids=["one server"], indirect=True)
async def test_connections_that_break(service: Service) -> None:
    dice = random.Random(3)
    done = asyncio.Event()

    async def disturb() -> int:
        faults = 0
        commands = ["find", "insert", "update", "findAndModify", "commitTransaction"]
        kinds: list[dict[str, Any]] = [
            {"closeConnection": True},
            {"errorCode": 189},  # PrimarySteppedDown
            {"errorCode": 11602},  # InterruptedDueToReplStateChange
            {"errorCode": 112},
        ]
        while not done.is_set():
            faults += 1
            how = dice.choice(kinds)
            await asyncio.to_thread(service.fail, dice.choice(commands), dice.choice([1, 2]), **how)
            await asyncio.sleep(0.01)
        return faults

    disturbing = asyncio.create_task(disturb())
    parts = await asyncio.gather(*(_work(service, number, 3 * TORTURE) for number in range(WORKERS)))
    done.set()
    assert await disturbing > 5
    off = {"configureFailPoint": "failCommand", "mode": "off"}
    await asyncio.to_thread(service.blocking.admin.command, off)
    _judge(service, {code: level for part in parts for code, level in part.items()})


@pytest.mark.parametrize("url", [1, 3], ids=["one server", "three servers"], indirect=True)
async def test_a_primary_that_steps_down(service: Service) -> None:
    down = {"replSetStepDown": 2, "secondaryCatchUpPeriodSecs": 1, "force": True}
    done = asyncio.Event()

    async def step_down() -> int:
        times = 0
        while not done.is_set() and times < 2 * TORTURE:
            await asyncio.sleep(0.1)
            await asyncio.to_thread(service.blocking.admin.command, down)
            times += 1
            await asyncio.to_thread(service.blocking.admin.command, "ping")
        return times

    stepping = asyncio.create_task(step_down())
    parts = await asyncio.gather(*(_work(service, number, 3 * TORTURE) for number in range(WORKERS)))
    done.set()
    assert await stepping >= 1
    _judge(service, {code: level for part in parts for code, level in part.items()})


@pytest.mark.parametrize("url", [1], ids=["one server"], indirect=True)
async def test_the_same_unique_value_many_times_at_once(service: Service) -> None:
    codes = [f"same-{n % 5}" for n in range(200)]
    answers = await asyncio.gather(*(service.client.post("/tool", json={"code": code}) for code in codes))
    assert sorted(each.status for each in answers) == [201] * 5 + [409] * 195
    for answer in answers:
        if answer.status == 409:
            assert answer.problem(409)["fields"] == ["code"]
    assert sorted(service.created[1:]) == sorted(set(codes))
    for answer, code in zip(answers, codes, strict=True):
        if answer.status == 201:
            assert answer.json["code"] == code


@pytest.mark.parametrize("url", [1], ids=["one server"], indirect=True)
async def test_clients_that_go_away(service: Service) -> None:
    count = 500 if TORTURE == 1 else 1000 * TORTURE
    dice = random.Random(4)
    kept = (await service.client.post("/tool", json={"code": "kept", "level": 0})).headers["Location"]
    dropped = 0

    async def leave(number: int) -> None:
        nonlocal dropped
        body = f'{{"level": {number + 1}}}'.encode()
        head = f"PUT {kept} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        if number % 3 == 0:
            body = f'{{"code": "left-{number}", "level": 0}}'.encode()
            request = request.replace(f"PUT {kept}".encode(), b"POST /tool").split(b"Content-Length")[0]
            request += b"Content-Length: %d\r\n\r\n" % len(body) + body
        elif number % 3 == 1:
            request = f"GET {kept} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        _, writer = await asyncio.open_connection("127.0.0.1", service.client.port)
        writer.write(request[: dice.randrange(1, len(request) + 200)])
        await asyncio.sleep(dice.choice([0, 0, 0.001, 0.01]))
        writer.transport.abort()
        dropped += 1

    async def stay(number: int) -> None:
        answer = await service.client.post("/tool", json={"code": f"stays-{number}", "level": 0})
        assert answer.status == 201, answer
        assert answer.json["code"] == f"stays-{number}"
        place = answer.headers["Location"]
        changed = await service.client.put(place, json={"level": number + 1})
        assert (changed.status, changed.json["level"]) == (200, number + 1)
        assert (await service.client.get(place)).json["code"] == f"stays-{number}"

    for start in range(0, count, 100):
        leaving = (leave(number) for number in range(start, start + 100))
        staying = (stay(number) for number in range(start, start + 10))
        await asyncio.gather(*leaving, *staying)
    assert dropped == count
    async with asyncio.timeout(60):  # those who left may still be served
        while service.stored()["kept"]["level"] not in {0, *(after for _, after in service.changes["kept"])}:
            await asyncio.sleep(0.05)
    stored = service.stored()
    assert {code for code in service.created if code.startswith("stays")} == {
        code for code in stored if code.startswith("stays")
    }
    assert set(service.created) <= stored.keys()
    # What those who left did to one document is one chain too.
    changes = service.changes["kept"]
    assert len({before for before, _ in changes}) == len(changes)
