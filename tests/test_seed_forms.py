"""The forms that the documents of five systems print, on real parts: HTTP, MongoDB, Redis, a worker.

``test_seed_signatures`` holds how a receiver is called; here the receivers are connected as printed, and what
makes them hear is a request, a batch, a message on a queue or the life of a server.
"""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import celery._state
import celery.signals
import mongoengine as me
import pytest
import redis
import tornado.web
from celery.contrib.testing.worker import start_worker

import bzz
from bzz import async_signals, signals
from bzz.async_signals import AsyncSignal, receiver, request_finished
from bzz.batch import Batch, PlannedOperation
from bzz.dispatcher import Signal
from bzz.embedded import EmbeddedRedis
from bzz.errors import MissingDocumentError, ValidationError
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.resource import Operation
from bzz.worker import configure
from tests.program import free_port, running
from tests.serving import Client, serving

heard: list[tuple[str, dict[str, Any]]] = []
"""What receivers were called with, in order."""


class User(me.Document):
    __collection__ = "GettingStartedUser"
    name = me.StringField()
    number = me.IntField(min_value=0)


class Team(me.Document):
    name = me.StringField()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    before = {signal: signal.receivers for signal in signals.ALL}
    heard.clear()
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers
    for each in (my_signal, request_started, routed_signal, request_finished, async_signals.request_started):
        each.reset()


def note(name: str, values: dict[str, Any]) -> None:
    heard.append((name, values))


def names() -> list[str]:
    return [name for name, _ in heard]


# Kuyruk: decorators of the application and of one task ------------------------------------------------------


@pytest.mark.parametrize("where", ["api", "resource", "routes_for"])
async def test_prerun_and_postrun_of_kuyruk(database: str, where: str) -> None:
    api = bzz.Api()
    users = api.add(User)
    kuyruk: Any = {"api": api, "resource": users, "routes_for": MongoEngineRestHandler.routes_for(User)}[
        where
    ]

    @kuyruk.on_prerun
    def new_session(task, args, kwargs):
        note("new_session", locals())

    @kuyruk.on_postrun
    def commit_session(task, args, kwargs):
        note("commit_session", locals())

    assert new_session.__name__ == "new_session", "the decorator returns the function"
    async with serving(kuyruk if where == "routes_for" else api) as client:
        key = (await client.post("/user", json={"name": "a"})).json["id"]
        await client.put(f"/user/{key}", form="name=b")
        await client.get("/user?name=b&page=1")
        await client.get("/user/nobody")
    assert names() == ["new_session", "commit_session"] * 4
    seen = [(each["task"].action, each["args"], each["kwargs"]) for _, each in heard[::2]]
    assert seen == [
        ("create_instance", ({"name": "a"},), {}),
        ("update_instance", (key, [("name", "b")]), {}),
        ("get_list", (), {"name": ["b"], "page": ["1"]}),
        ("get_instance", ("nobody",), {}),
    ]
    for (_, before), (_, after) in zip(heard[::2], heard[1::2], strict=True):
        assert before["task"] is after["task"]
        assert isinstance(before["task"], Operation)


@pytest.mark.parametrize("where", ["api", "resource"])
async def test_success_and_failure_of_kuyruk(database: str, where: str) -> None:
    api = bzz.Api()
    users = api.add(User)
    kuyruk: Any = {"api": api, "resource": users}[where]

    @kuyruk.on_success
    def success(sender, task, args, kwargs):
        note("success", locals())

    @kuyruk.on_failure
    def failure(sender, task, args, kwargs, exc_info):
        note("failure", {**locals(), "is_live": exc_info[2] is exc_info[1].__traceback__})

    async with serving(api) as client:
        await client.post("/user", json={"name": "a"})
        await client.get("/user/nobody")
    assert names() == ["success", "failure"]
    assert all(values["sender"] is kuyruk for _, values in heard)
    kind, error, traceback = heard[1][1]["exc_info"]
    assert issubclass(kind, MissingDocumentError)
    assert isinstance(error, kind)
    assert traceback is not None
    assert heard[1][1]["is_live"]
    assert heard[1][1]["args"] == ("nobody",)


async def test_a_decorator_of_one_task_hears_nothing_of_others(database: str) -> None:
    api = bzz.Api()
    users, _ = api.add(User), api.add(Team)

    @users.on_prerun
    def new_session(task, args, kwargs):
        note("new_session", locals())

    async with serving(api) as client:
        await client.get("/team")
        assert not heard
        await client.get("/user")
    assert names() == ["new_session"]


@pytest.mark.parametrize("where", ["api", "resource"])
async def test_presend_and_postsend_of_kuyruk(database: str, broker: redis.Redis, where: str) -> None:
    api = bzz.Api()
    users = api.add(User)
    kuyruk: Any = {"api": api, "resource": users}[where]

    @kuyruk.on_presend
    def presend(sender, task, args, kwargs):
        note("presend", {**locals(), "waiting": broker.llen("high_priority")})

    @kuyruk.on_postsend
    def postsend(sender, task, args, kwargs):
        note("postsend", {**locals(), "waiting": broker.llen("high_priority")})

    @users.on_post_create_instance
    async def send(instance):
        await routed_signal.send_async(User, name=instance.name)

    async with serving(api) as client:
        await client.post("/user", json={"name": "a"})
    assert names() == ["presend", "postsend"]
    assert [values["waiting"] for _, values in heard] == [0, 1], "they surround the publishing"
    for _, values in heard:
        assert values["sender"] is kuyruk
        assert values["task"].action == "create_instance"
        assert (values["args"], values["kwargs"]) == ((User,), {"name": "a"})


# Celery: connect(f), connect(f, sender="a name") ------------------------------------------------------------


def task_sent_handler(sender=None, task_id=None, task=None, args=None, kwargs=None, **kwds):
    note("task_sent_handler", locals())


@pytest.mark.parametrize(("options", "expected"), [({}, [User, Team]), ({"sender": "User"}, [User])])
async def test_connecting_as_celery_does(
    database: str, options: dict[str, Any], expected: list[type]
) -> None:
    signals.post_create_instance.connect(task_sent_handler, **options)
    api = bzz.Api()
    api.add(User)
    api.add(Team)
    async with serving(api) as client:
        await client.post("/user", json={"name": "a"})
        await client.post("/team", json={"name": "b"})
    assert [values["sender"] for _, values in heard] == expected
    first = heard[0][1]
    assert (first["task_id"], first["task"], first["args"], first["kwargs"]) == (None,) * 4
    assert set(first["kwds"]) == {"instance", "handler", "signal"}
    assert first["kwds"]["instance"].name == "a"


async def test_the_handler_of_celery_around_an_operation(database: str) -> None:
    api = bzz.Api()
    api.add(User)
    api.on_prerun(task_sent_handler)
    async with serving(api) as client:
        await client.get("/user?page=1")
    values = heard[0][1]
    assert values["sender"] is api
    assert values["task"].action == "get_list"
    assert (values["task_id"], values["args"], values["kwargs"]) == (None, (), {"page": ["1"]})


SERVER = """
import bzz
from bzz.signals import server_init, server_process_init, server_ready, server_shutdown

def handler(sender=None, **kwds):
    print("heard", kwds["signal"].name, type(sender).__name__, sorted(kwds))

for signal in (server_shutdown, server_ready, server_process_init, server_init):
    signal.connect(handler)

bzz.serve(bzz.Api(), port=PORT, access_log=None)
"""


def test_the_worker_signals_of_celery_around_a_server(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "program.py").write_text(SERVER.replace("PORT", str(port)))
    with running(["program.py"], tmp_path) as program:
        program.wait_for(lambda line: "heard server_ready" in line)
        program.wait_until_it_listens(port)
        assert program.stop() == 0
        program.last_words()
    assert [line for line in program.lines if line.startswith("heard")] == [
        f"heard {name} Server ['signal']"
        for name in ("server_init", "server_process_init", "server_ready", "server_shutdown")
    ]


# bzz, as it was: the example, and a handler for each signal -------------------------------------------------


async def test_the_example_of_bzz(database: str) -> None:
    signals.post_create_instance.connect(task_sent_handler)
    signals.post_create_instance.connect(task_sent_handler, sender=User)
    signals.post_create_instance.receivers = {}

    def connect() -> None:
        def handle_post_instance_created(sender, instance, handler):
            note("created", locals())
            assert instance.name == "Bernardo Heynemann"

        signals.post_create_instance.connect(handle_post_instance_created)

    connect()
    failures = signals.post_create_instance.failures
    routes = MongoEngineRestHandler.routes_for("mongoengine", User)
    application = tornado.web.Application(routes)
    async with serving(application) as client:
        answer = await client.post("/user/", form="name=Bernardo%20Heynemann")
    assert answer.status == 201
    assert names() == ["created"]
    values = heard[0][1]
    assert values["sender"] is User
    assert isinstance(values["instance"], User)
    assert str(values["instance"].id) == answer.json["id"]
    assert isinstance(values["handler"], MongoEngineRestHandler)
    assert signals.post_create_instance.failures == failures


async def test_the_handlers_of_bzz(database: str) -> None:
    def handle_post_instance_created(handler, instance):
        note("created", {**locals(), "config": handler.application.config})

    def handle_post_instance_updated(handler, instance, updated_fields):
        note("updated", locals())

    def handle_post_instance_deleted(handler, instance):
        note("deleted", {**locals(), "left": User.objects.count()})

    signals.post_create_instance.connect(handle_post_instance_created)
    signals.post_update_instance.connect(handle_post_instance_updated)
    signals.post_delete_instance.connect(handle_post_instance_deleted)
    application: Any = tornado.web.Application(MongoEngineRestHandler.routes_for("mongoengine", User))
    application.config = object()
    async with serving(application) as client:
        key = (await client.post("/user/", form="name=a&number=1")).json["id"]
        await client.put(f"/user/{key}/", form="name=b&number=2")
        await client.delete(f"/user/{key}")
    assert names() == ["created", "updated", "deleted"]
    created, updated, deleted = (values for _, values in heard)
    assert created["config"] is application.config
    assert updated["updated_fields"] == {"name": {"from": "a", "to": "b"}, "number": {"from": 1, "to": 2}}
    assert updated["instance"].name == "b"
    assert (deleted["instance"].name, str(deleted["instance"].id), deleted["left"]) == ("b", key, 0)
    assert [each["handler"].request.method for each in (created, updated, deleted)] == [
        "POST",
        "PUT",
        "DELETE",
    ]


# Async Signals: a signal that is a task ---------------------------------------------------------------------

my_signal = AsyncSignal()
request_started = AsyncSignal(providing_args=("host", "path"))
routed_signal = AsyncSignal(queue="high_priority")


def my_callback(sender, **kwargs):
    note("my_callback", {**locals(), "thread": threading.current_thread()})


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    app = celery.Celery("unconfigured", set_as_current=False)
    monkeypatch.setattr(celery._state, "get_current_app", lambda: app)


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
def app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> celery.Celery:
    """Celery's current app, with a broker."""
    app = configure(celery.Celery("forms", broker=redis_url, set_as_current=False))
    monkeypatch.setattr(celery._state, "get_current_app", lambda: app)
    return t.cast("celery.Celery", app)


@pytest.fixture
def broker(app: celery.Celery, redis_url: str) -> Iterator[redis.Redis]:
    store = redis.Redis.from_url(redis_url)
    store.flushall()
    yield store
    store.close()


def connect_as_printed() -> None:
    """Connect in each of the printed ways."""
    request_finished.connect(my_callback)

    @receiver(request_finished)
    def decorated(sender, **kwargs):
        note("decorated", locals())

    @receiver([my_signal, request_started, routed_signal])
    def of_several(sender, **kwargs):
        note(kwargs["signal"].name.rpartition(".")[2], locals())


def send_as_printed() -> None:
    """Send in each of the printed ways, and with arguments."""
    request_finished.send(None)
    my_signal.send(None)
    request_started.send(User, host="localhost", path="/")
    routed_signal.send(None, number=7)


IN_ORDER = ["my_callback", "decorated", "my_signal", "request_started", "routed_signal"]


@pytest.mark.usefixtures("unconfigured")
def test_async_signals_without_celery_warn_and_run_at_once() -> None:
    connect_as_printed()
    with pytest.warns(bzz.CeleryNotConfiguredWarning) as warned:
        send_as_printed()
    assert len(warned) == 4
    assert names() == IN_ORDER
    first = heard[0][1]
    assert first["sender"] is None
    assert first["thread"] is threading.current_thread()
    assert heard[3][1]["kwargs"] == {"signal": request_started, "host": "localhost", "path": "/"}


def test_async_signals_are_one_task_each_on_their_queue(broker: redis.Redis) -> None:
    connect_as_printed()
    send_as_printed()
    assert not heard, "nobody runs where it is sent"
    assert (broker.llen("celery"), broker.llen("high_priority")) == (3, 1)


def test_a_worker_runs_the_receivers_of_async_signals(app: celery.Celery, broker: redis.Redis) -> None:
    connect_as_printed()
    done = threading.Event()

    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []

    def task_prerun(sender=None, task_id=None, task=None, args=None, kwargs=None, **kwds):
        before.append(locals())

    def task_postrun(sender=None, task_id=None, task=None, args=None, kwargs=None, retval=None, **kwds):
        after.append(locals())
        if len(after) == 4:
            done.set()

    celery.signals.task_prerun.connect(task_prerun, sender=app.tasks["bzz.signal"], weak=False)
    celery.signals.task_postrun.connect(task_postrun, sender=app.tasks["bzz.signal"], weak=False)
    try:
        send_as_printed()
        with start_worker(app, pool="solo", perform_ping_check=False, queues="celery,high_priority"):
            assert done.wait(30)
    finally:
        celery.signals.task_prerun.disconnect(task_prerun, sender=app.tasks["bzz.signal"])
        celery.signals.task_postrun.disconnect(task_postrun, sender=app.tasks["bzz.signal"])
    assert sorted(names()) == sorted(IN_ORDER)
    assert names().index("decorated") == names().index("my_callback") + 1, "one task, one after another"
    by_name = dict(heard)
    assert by_name["my_callback"]["sender"] is None
    assert by_name["my_callback"]["thread"] is not threading.current_thread()
    assert by_name["request_started"]["sender"] is User
    assert by_name["request_started"]["kwargs"] == {
        "signal": request_started,
        "host": "localhost",
        "path": "/",
    }
    assert by_name["routed_signal"]["kwargs"]["number"] == 7
    assert len(before) == len(after) == 4
    for each in (*before, *after):
        assert each["task"].name == "bzz.signal"
        assert each["sender"] is each["task"]
        assert each["task_id"]
        assert each["kwargs"] == {}
    assert {each["args"][0] for each in before} == {
        signal.name for signal in (request_finished, my_signal, request_started, routed_signal)
    }


# django-routines: the plan of a batch -----------------------------------------------------------------------


@pytest.fixture
def api() -> bzz.Api:
    api = bzz.Api()
    api.add(User)
    return api


@pytest.fixture
async def client(api: bzz.Api, database: str) -> t.AsyncIterator[Client]:
    async with serving(api) as client:
        yield client


GOOD = {"method": "POST", "path": "/user", "body": {"name": "a"}}
BAD = {"method": "POST", "path": "/user", "body": {"number": -1}}
PLAN = {"name": "deploy", "options": {"verbosity": 2}, "operations": [GOOD, BAD, GOOD]}


def connect_routines(vote: object = True) -> None:
    @signals.batch_started.connect
    def routine_started(sender, routine, **kwargs):
        note("started", locals())

    @signals.batch_failed.connect
    def routine_failed(sender, routine, failed_command, exception, **kwargs):
        note("failed", locals())
        return vote

    @signals.batch_finished.connect
    def routine_finished(sender, routine, early_exit, last_command, **kwargs):
        note("finished", locals())


async def test_the_three_signals_of_routines(client: Client) -> None:
    connect_routines()
    answer = await client.post("/batch", json=PLAN)
    assert answer.status == 200
    assert names() == ["started", "failed", "finished"]
    started, failed, finished = (values for _, values in heard)
    assert isinstance(started["sender"], Batch)
    assert started["sender"] is failed["sender"] is finished["sender"]
    assert {each["routine"] for each in (started, failed, finished)} == {"deploy"}
    assert all(each["kwargs"]["verbosity"] == 2 for each in (started, failed, finished))
    assert failed["failed_command"] == 1
    assert isinstance(failed["exception"], ValidationError)
    assert (finished["early_exit"], finished["last_command"]) == (False, 2)
    assert User.objects.count() == 2


@pytest.mark.parametrize(("vote", "status"), [(None, 400), (0, 400), ("yes", 200), (True, 200)])
async def test_the_vote_of_routines(client: Client, vote: object, status: int) -> None:
    connect_routines(vote)
    answer = await client.post("/batch", json=PLAN)
    assert answer.status == status
    assert names() == ["started", "failed", "finished"][: 3 if vote else 2]


async def test_an_early_exit_of_routines_from_a_receiver(client: Client) -> None:
    connect_routines()

    @signals.batch_failed.connect
    def leave(sender, routine, failed_command, exception, **kwargs):
        raise bzz.ExitEarly

    answer = await client.post("/batch", json=PLAN)
    assert answer.status == 200
    assert names() == ["started", "failed", "finished"]
    finished = heard[-1][1]
    assert (finished["early_exit"], finished["last_command"]) == (True, 0)
    assert User.objects.count() == 1


def handle_routine_failed(
    sender: Batch,
    routine: str,
    failed_command: int,
    exception: t.Optional[Exception],  # noqa: UP045 - as printed
    signal: Signal,
    **kwargs,
):
    note("handle_routine_failed", {**locals(), "planned": sender.plan[failed_command]})


async def test_the_typed_handler_of_routines_finds_the_operation_in_the_plan(client: Client) -> None:
    signals.batch_failed.connect(handle_routine_failed)
    answer = await client.post("/batch", json={**PLAN, "name": "typed"})
    answer.problem(400)
    values = heard[0][1]
    assert values["signal"] is signals.batch_failed
    assert values["routine"] == "typed"
    planned = values["planned"]
    assert isinstance(planned, PlannedOperation)
    assert (planned.method, planned.path, planned.body) == ("POST", "/user", BAD["body"])


async def test_the_printed_body_of_the_typed_handler(client: Client) -> None:
    @signals.batch_failed.connect
    def ask(sender, failed_command, **kwargs):
        note("asked", {"name": sender.plan[failed_command].command_name})

    await client.post("/batch", json=PLAN)
    assert names() == ["asked"]
