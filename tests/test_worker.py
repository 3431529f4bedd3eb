"""What a worker is set up with, which app it takes, and what the command says when something is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import celery._state
import mongoengine as me
import pytest
from bson import ObjectId
from click.testing import CliRunner

import bzz
from bzz import model as typed
from bzz.cli import main
from bzz.delivery import arrival, wire
from bzz.delivery.celery import RECEIVER_TASK, SIGNAL_TASK, register
from bzz.delivery.reading import UnreadableError, read_stored
from bzz.delivery.wire import Message
from bzz.embedded import EmbeddedMongo, EmbeddedRedis
from bzz.errors import DeliveryError
from bzz.model import Schema
from bzz.worker import celery_app, configure
from tests.heartbeat import Heartbeat, HeldUpError
from tests.program import free_port
from tests.queued_app import Account, seen, unheard, urgent
from tests.queueing import Notes, working


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "MONGO_URL"):
        monkeypatch.delenv(name, raising=False)


def new_app(broker: str | None) -> celery.Celery:
    return celery.Celery("app", broker=broker, set_as_current=False)


def test_an_app_on_redis_gives_the_messages_of_the_dead_to_others() -> None:
    app = new_app("redis://localhost/3")
    app.conf.broker_transport_options = {"socket_keepalive": True, "visibility_timeout": 3600}
    assert configure(app, visibility_timeout=20) is app
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options == {
        "socket_keepalive": True,
        "visibility_timeout": 20,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_mutex_expire": 10,
    }
    configure(app, visibility_timeout=0.5)
    assert app.conf.broker_transport_options["unacked_restore_interval"] == 1
    with pytest.raises(ValueError, match="visibility_timeout"):
        configure(app, visibility_timeout=0)


def test_an_app_on_amqp_keeps_its_transport_options() -> None:
    app = configure(new_app("amqp://localhost"))
    assert app.conf.broker_transport_options == {}


def test_the_tasks_are_acknowledged_late_whatever_the_app_says() -> None:
    app = new_app("memory://")
    app.conf.update(task_acks_late=False, task_ignore_result=False, task_serializer="pickle")
    tasks = register(app)
    assert set(tasks) == {SIGNAL_TASK, RECEIVER_TASK}
    for task in tasks.values():
        assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (True, True, True)
        assert task.serializer == "json"
    assert register(app)[SIGNAL_TASK] is tasks[SIGNAL_TASK]


def test_the_app_is_that_of_the_api_or_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own, current = new_app("memory://own"), new_app("memory://current")
    monkeypatch.setattr(celery._state, "get_current_app", lambda: current)
    assert celery_app(bzz.Api(celery=own)) is own
    assert celery_app(own) is own
    assert celery_app(bzz.Api()) is current
    assert celery_app([]) is current
    with pytest.raises(DeliveryError, match="Celery has no broker"):
        celery_app(bzz.Api(celery=new_app(None)))


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "brokerless.py").write_text(
        "import bzz, celery\napi = bzz.Api(celery=celery.Celery(broker=None))"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(celery._state, "get_current_app", lambda: new_app(None))
    result = CliRunner().invoke(main, ["worker", "brokerless:api"])
    assert result.exit_code == 1
    assert "Celery has no broker: set CELERY_BROKER_URL" in result.output
    result = CliRunner().invoke(main, ["worker", "no_such_module:api"])
    assert result.exit_code == 2
    assert "no_such_module" in result.output


# What arrives, without a worker -----------------------------------------------------------------------------


def test_a_time_limit_ends_everything_at_once() -> None:
    ran: list[int] = []

    def first() -> None:
        ran.append(1)
        raise KeyError("time is up")

    def second() -> None:
        ran.append(2)

    text = wire.dumps(Message(None, {}))
    with unheard.connected_to(first), unheard.connected_to(second):
        with pytest.raises(KeyError):
            arrival.deliver_signal(unheard.name, text, ends=(KeyError,))
        assert ran == [1]
        with pytest.raises(KeyError):
            arrival.deliver_signal(unheard.name, text)
        assert ran == [1, 1, 2]


def test_a_receiver_that_is_gone_is_not_run() -> None:
    class Listener:
        def hear(self) -> None:
            raise AssertionError("gone")

    listener = Listener()
    unheard.connect(listener.hear)
    (connection,) = unheard.connections
    del listener
    assert arrival.run_receiver(unheard, connection, None, {}) is None
    unheard.reset()


async def test_the_heartbeat_notices_what_blocks() -> None:
    with pytest.raises(HeldUpError, match="held up for"):
        async with Heartbeat():
            time.sleep(0.3)


# MongoDB away -----------------------------------------------------------------------------------------------


@pytest.fixture
def mongo_port() -> Iterator[int]:
    port = free_port()
    me.connect("late", host=url_of(port), uuidRepresentation="standard")
    yield port
    me.disconnect_all()


def url_of(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=300"


def test_documents_that_cannot_be_read_now_are_an_error_of_its_own(mongo_port: int) -> None:
    with pytest.raises(UnreadableError, match="MongoDB is out of reach: ServerSelectionTimeoutError"):
        read_stored(Account, [ObjectId()])


def test_a_message_waits_for_mongodb(
    mongo_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = ObjectId()
    with EmbeddedMongo(mongo_port, tmp_path / "data"):
        Account._get_db()["queued_account"].insert_one({"_id": key, "name": "now it is there"})
    account: Any = typed.from_stored(Schema.of(Account), {"_id": key, "name": "late"})
    with EmbeddedRedis() as server:
        monkeypatch.setenv("CELERY_BROKER_URL", server.url)
        notes = Notes(server.url)
        with working(server.url, url_of(mongo_port), "late", "--pool", "solo") as worker:
            seen.send(None, value=account)
            urgent.send(None, order="nothing to read")
            assert notes.wait_for("postrun")[0]["state"] == "RETRY"
            assert notes.wait_for("first")[0]["order"] == "nothing to read"
            assert notes.all("see") == []
            with EmbeddedMongo(mongo_port, tmp_path / "data"):
                found = notes.wait_for("see")
                assert found[0]["value"].name == "now it is there"
            assert worker.stop() == 0
        notes.store.close()
