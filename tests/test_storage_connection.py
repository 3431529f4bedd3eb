"""The asynchronous client of an alias is the twin of mongoengine's own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from mongoengine import connection as registry
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, ReadPreference
from pymongo.read_preferences import Nearest
from pymongo.server_api import ServerApi

from bzz.errors import StorageError
from bzz.storage import Driver, Store, client_for, close_clients, connection, forget_after_fork, preparation
from tests.storage_drivers import Commands

OPTION_SETS: dict[str, dict[str, Any]] = {
    "bare": {},
    "host and port": {"host": "db.example", "port": 3334},
    "several hosts": {"host": ["a.example:1", "b.example:2"], "replicaSet": "rs1"},
    "url": {"host": "mongodb://a.example:1,b.example:2/shop?replicaSet=rs1&w=majority&journal=true"},
    "url with options": {
        "host": "mongodb://a.example/?readPreference=nearest&readPreferenceTags=dc:x&maxStalenessSeconds=120"
        "&readConcernLevel=majority&retryWrites=false&retryReads=false"
    },
    "password": {"username": "u", "password": "p@ss/word", "authentication_source": "accounts"},
    "password in the url": {"host": "mongodb://u:p%40ss@a.example/db?authSource=admin"},
    "mechanism": {
        "username": "u",
        "password": "p",
        "authentication_source": "admin",
        "authentication_mechanism": "SCRAM-SHA-256",
    },
    "x509": {
        "username": "CN=me",
        "authentication_source": "$external",
        "authentication_mechanism": "MONGODB-X509",
        "tls": True,
    },
    "aws": {
        "username": "key",
        "password": "secret",
        "authentication_source": "$external",
        "authentication_mechanism": "MONGODB-AWS",
        "authmechanismproperties": "AWS_SESSION_TOKEN:token",
    },
    "tls": {"tls": True, "tlsAllowInvalidCertificates": True, "tlsAllowInvalidHostnames": True},
    "uuid": {"uuidRepresentation": "standard"},
    "uuid in the url": {"host": "mongodb://a.example/?uuidRepresentation=javaLegacy"},
    "read preference": {"read_preference": ReadPreference.SECONDARY_PREFERRED},
    "tagged read preference": {"read_preference": Nearest(tag_sets=[{"dc": "east"}])},
    "pools": {
        "maxPoolSize": 7,
        "minPoolSize": 2,
        "maxIdleTimeMS": 9000,
        "waitQueueTimeoutMS": 800,
        "maxConnecting": 3,
    },
    "timeouts": {
        "serverSelectionTimeoutMS": 700,
        "connectTimeoutMS": 600,
        "socketTimeoutMS": 500,
        "heartbeatFrequencyMS": 4000,
        "timeoutMS": 2500,
    },
    "names and compression": {"appname": "shop", "compressors": "zlib", "zlibCompressionLevel": 3},
    "dates": {"tz_aware": True},
    "unicode": {"unicode_decode_error_handler": "replace"},
    "write concern": {"w": 2, "wTimeoutMS": 900, "journal": True},
    "direct": {"host": "a.example", "directConnection": True},
    "server api": {"server_api": ServerApi("1", strict=True)},
    "listeners": {"event_listeners": [Commands()]},
}


@pytest.fixture(autouse=True)
def no_aliases() -> Iterator[None]:
    yield
    mongoengine.disconnect_all()
    registry._connection_settings.clear()


def describe(client: Any) -> dict[str, Any]:
    """All that a client was told, without what says that one of them is asynchronous."""
    pool = client.options.pool_options
    settings = client._topology_settings
    plain = {name: _plain(getattr(pool, name)) for name in dir(type(pool)) if not name.startswith("_")}
    plain["metadata"] = json.loads(json.dumps(pool.metadata).replace("|async", "").replace("|||", "||"))
    options = dict(client.options._options)
    options.pop("event_listeners", None)
    return {
        "pool": plain,
        "options": {name: _plain(value) for name, value in options.items()},
        "codec": client.codec_options,
        "read preference": client.read_preference,
        "read concern": client.read_concern,
        "write concern": client.write_concern,
        "seeds": set(settings.seeds),
        "set": settings.replica_set_name,
        "direct": settings.direct,
        "selection": settings.server_selection_timeout,
        "heartbeat": settings.heartbeat_frequency,
        "local threshold": settings.local_threshold_ms,
        "retries": (client.options.retry_writes, client.options.retry_reads),
        "timeout": client.options.timeout,
        "credentials": client.options.pool_options._credentials,
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "verify_mode"):
        return (value.verify_mode, value.check_hostname)
    if hasattr(value, "event_listeners"):
        return value.event_listeners()
    if type(value).__module__.startswith("pymongo") and not hasattr(type(value), "__eq__"):
        return vars(value)
    if type(value).__name__ in {"CompressionSettings", "ZlibContext"}:
        return vars(value)
    return value


@pytest.mark.parametrize("options", OPTION_SETS.values(), ids=OPTION_SETS)
async def test_the_client_is_told_what_mongoengine_tells_its_own(options: dict[str, Any]) -> None:
    given = {"uuidRepresentation": "standard", **options}
    if "uuid" in str(options.get("host")):
        del given["uuidRepresentation"]
    mongoengine.register_connection("twin", "shop", connect=False, **given)
    own: MongoClient[Any] = registry.get_connection("twin")
    driver = client_for("twin")
    assert isinstance(driver.client, AsyncMongoClient)
    assert describe(driver.client) == describe(own)
    await close_clients()


async def test_the_description_would_notice_a_difference() -> None:
    mongoengine.register_connection("one", connect=False, uuidRepresentation="standard", maxPoolSize=5)
    mongoengine.register_connection("two", connect=False, uuidRepresentation="standard", maxPoolSize=6)
    one, two = client_for("one").client, registry.get_connection("two")
    assert {name for name, value in describe(one).items() if value != describe(two)[name]} >= {"pool"}
    await close_clients()


async def test_equal_settings_share_one_client_and_others_do_not() -> None:
    common = {"connect": False, "uuidRepresentation": "standard"}
    mongoengine.register_connection("a", "first", **common)
    mongoengine.register_connection("b", "second", **common)
    mongoengine.register_connection("c", "first", maxPoolSize=3, **common)
    assert client_for("a") is client_for("a") is client_for("b")
    assert client_for("c") is not client_for("a")
    await close_clients()


async def test_an_alias_connected_anew_gets_another_client() -> None:
    mongoengine.register_connection("a", connect=False, uuidRepresentation="standard")
    before = client_for("a")
    mongoengine.register_connection("a", connect=False, uuidRepresentation="standard", appname="later")
    assert client_for("a") is not before
    await close_clients()
    assert before.closed


def test_every_loop_has_its_own_client() -> None:
    mongoengine.register_connection("a", connect=False, uuidRepresentation="standard")

    async def use() -> Driver:
        return client_for("a")

    first, second = asyncio.run(use()), asyncio.run(use())
    assert first is not second


def test_loops_that_are_closed_are_let_go() -> None:
    mongoengine.register_connection("a", connect=False, uuidRepresentation="standard")

    async def use() -> Any:
        return client_for("a").client

    loops = [asyncio.new_event_loop() for _ in range(5)]
    for loop in loops:
        loop.run_until_complete(use())
        loop.close()
    assert len(connection._clients) == 1


async def test_closed_clients_are_made_again() -> None:
    mongoengine.register_connection("a", connect=False, uuidRepresentation="standard")
    before = client_for("a")
    await close_clients()
    await close_clients()
    assert client_for("a") is not before
    await close_clients()


@pytest.mark.parametrize(("alias", "call"), [("default", "connect(<database>)"), ("x", "alias='x'")])
async def test_an_unknown_alias_says_what_to_do(alias: str, call: str) -> None:
    with pytest.raises(StorageError) as caught:
        client_for(alias)
    assert call in caught.value.detail
    assert "mongoengine.connect" in caught.value.detail


async def test_another_class_of_client_is_refused() -> None:
    class Imitation:
        def __init__(self, **options: Any) -> None:
            """Takes everything, as mongomock's client does."""

    mongoengine.register_connection("a", mongo_client_class=Imitation, uuidRepresentation="standard")
    with pytest.raises(StorageError, match="mongo_client_class"):
        client_for("a")


async def test_settings_that_make_no_client_are_told_without_their_values() -> None:
    mongoengine.register_connection("a", uuidRepresentation="standard", maxPoolSize="secret")
    with pytest.raises(StorageError) as caught:
        client_for("a")
    assert "secret" not in caught.value.detail


async def test_an_explicit_client_is_taken_as_it_is() -> None:
    motor = AsyncIOMotorClient(connect=False)
    assert client_for("never connected", motor).client is motor
    assert client_for("never connected", motor).is_motor
    motor.close()


async def test_a_blocking_client_is_refused() -> None:
    with MongoClient(connect=False) as blocking, pytest.raises(TypeError, match="AsyncMongoClient"):
        client_for("default", blocking)


async def test_making_a_client_asks_nobody_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: asked.append(args))
    monkeypatch.setattr(socket.socket, "connect", lambda *args: asked.append(args))
    mongoengine.register_connection("a", host="mongodb://nowhere.invalid", uuidRepresentation="standard")
    assert client_for("a").client is not None
    assert asked == []
    await close_clients()


class Note(mongoengine.Document):
    text = mongoengine.StringField(unique=True)


async def _in_the_child(database: str) -> list[Any]:
    store = Store(Note)
    await store.prepare()
    await store.insert({"text": "child"})
    found = await store.find({}, limit=10, sort=[("text", 1)])
    blocking = [note.text for note in Note.objects.order_by("text")]
    await close_clients()
    return [
        [each["text"] for each in found],
        blocking,
        registry._connection_settings["default"]["name"] == database,
    ]


def test_a_forked_child_leaves_the_parents_connections_alone(mongo_url: str, tmp_path: Path) -> None:
    database = f"bzz-fork-{os.getpid()}"
    client = mongoengine.connect(database, host=mongo_url, uuidRepresentation="standard")
    client.drop_database(database)
    Note(text="parent").save()

    async def parent() -> None:
        store = Store(Note)
        await store.find({}, limit=1)

    async def rest() -> None:
        await parent()
        answer = tmp_path / "answer"
        pid = await asyncio.get_running_loop().run_in_executor(None, _fork, database, answer)
        _, status = await asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
        assert json.loads(answer.read_text()) == [["child", "parent"], ["child", "parent"], True]
        assert status == 0
        await parent()  # the asynchronous client still works here
        await close_clients()

    asyncio.run(rest())
    assert client.server_info()["ok"] == 1
    assert Note.objects.count() == 2
    client.drop_database(database)


async def test_forgetting_closes_nothing(database: str) -> None:
    store = Store(Note)
    await store.insert({"text": "before"})
    ours, theirs = store.driver().client, registry.get_connection()
    forget_after_fork()
    try:
        assert any(each is theirs for each in connection._left_to_the_parent)
        assert Note._collection is None
        assert not preparation.is_prepared(Note)
        assert theirs.admin.command("ping")["ok"] == 1
        assert (await ours.admin.command("ping"))["ok"] == 1
        assert registry.get_connection() is not theirs
        assert client_for("default").client is not ours
    finally:
        mongoengine.connection._connections["default"].close()
        mongoengine.connection._connections["default"] = theirs
        await ours.close()


def _fork(database: str, answer: Path) -> int:
    # In a thread, so that no loop runs in the child.
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            forget_after_fork()
            assert registry._connections == {}
            assert Note._collection is None
            answer.write_text(json.dumps(asyncio.run(_in_the_child(database))))
            status = 0
        except BaseException as error:
            answer.write_text(repr(error))
        finally:
            os._exit(status)
    return pid
