"""Receivers and registrations as the documents of five other systems print them, unchanged.

Kuyruk's events, Celery's signals, upstream bzz's, Django's asynchronous signals, django-routines' signals.
Each receiver is called the way its system promises, plain and asynchronously.
"""

from __future__ import annotations

import gc
import typing as t
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bzz import signals
from bzz.async_signals import receiver
from bzz.dispatcher import Signal

got: dict[str, Any] = {}
"""What the last receiver was called with."""


class Model: ...


class Handler: ...


class Operation:
    command_name = "migrate"


class Batch:
    name = "import"
    plan = (Operation(), Operation())


TASK, HANDLER, INSTANCE, BATCH, ERROR = object(), Handler(), Model(), Batch(), KeyError("key")
EXC_INFO = (KeyError, ERROR, None)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    before = {signal: signal.receivers for signal in signals.ALL}
    for signal in signals.ALL:
        signal.receivers = {}  # as the document of bzz does
    got.clear()
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers


# Kuyruk


def new_session(task, args, kwargs):
    got.update(locals())


def commit_session(task, args, kwargs):
    got.update(locals())


def kuyruk_all(sender, task, args, kwargs):
    got.update(locals())


def kuyruk_failure(sender, task, args, kwargs, exc_info):
    got.update(locals())


# Celery


def task_sent_handler(sender=None, task_id=None, task=None, args=None, kwargs=None, **kwds):
    got.update(locals())


def task_sent_all(sender, task_id, task, args, kwargs, eta, taskset):
    got.update(locals())


def task_prerun_all(sender, task_id, task, args, kwargs):
    got.update(locals())


def task_postrun_all(sender, task_id, task, args, kwargs, retval):
    got.update(locals())


def worker_handler(sender=None, **kwds):
    got.update(locals())


# bzz, as it was


def handle_post_instance_created(sender, instance, handler):
    got.update(locals())


def example_created(handler, instance):
    got.update(locals())


def example_updated(handler, instance, updated_fields):
    got.update(locals())


def all_updated(sender, instance, updated_fields, handler):
    got.update(locals())


# Async Signals


def my_callback(sender, **kwargs):
    got.update(locals())


# django-routines


def routine_started(sender, routine, **kwargs):
    got.update(locals())


def routine_failed(sender, routine, failed_command, exception, **kwargs):
    got.update(locals())
    return True


def routine_finished(sender, routine, early_exit, last_command, **kwargs):
    got.update(locals())


def handle_routine_failed(
    sender: Batch,
    routine: str,
    failed_command: int,
    exception: t.Optional[Exception],  # noqa: UP045 - as printed
    signal: Signal,
    **kwargs,
):
    got.update(locals())
    assert sender.plan[failed_command].command_name


TASK_KEYS = {"task": TASK, "args": (1, 2), "kwargs": {"a": 3}}
OPERATION = {"operation": TASK, **TASK_KEYS}
SENT = {"task_id": "7", **TASK_KEYS}
CREATED = {"instance": INSTANCE, "handler": HANDLER}
UPDATED = {**CREATED, "updated_fields": {"field": {"from": 1, "to": 2}, "field2": {"from": "a", "to": "b"}}}
OPTIONS = {"atomic": False, "continue_on_error": True}
STARTED = {"batch": "import", "routine": "import", **OPTIONS}
FAILED = {**STARTED, "failed_operation": 1, "failed_command": 1, "exception": ERROR}
FINISHED = {**STARTED, "early_exit": False, "last_operation": 1, "last_command": 1}


def kuyruk(*more: str) -> Callable[[], Signal]:
    """Make the signal of a decorator such as ``on_prerun``."""
    return lambda: Signal("prerun", providing=["operation", "task", "args", "kwargs", *more])


def named(signal: Signal) -> Callable[[], Signal]:
    return lambda: signal


def plain() -> Signal:
    return Signal("task_sent")


def rest(payload: dict[str, Any], *without: str) -> dict[str, Any]:
    """Return what a ``**kwargs`` holds of a payload: what is not named, and the signal."""
    return {"signal": ..., **{key: value for key, value in payload.items() if key not in without}}


CASES: list[tuple[Any, Callable[[], Signal], Any, dict[str, Any], dict[str, Any]]] = [
    # receiver, signal, sender, payload, what it gets
    (new_session, kuyruk(), "api", OPERATION, TASK_KEYS),
    (commit_session, kuyruk(), "api", OPERATION, TASK_KEYS),
    (kuyruk_all, kuyruk(), "api", OPERATION, {"sender": "api", **TASK_KEYS}),
    (
        kuyruk_failure,
        kuyruk("exc_info"),
        "api",
        {**OPERATION, "exc_info": EXC_INFO},
        {"sender": "api", **TASK_KEYS, "exc_info": EXC_INFO},
    ),
    (new_session, plain, "api", TASK_KEYS, TASK_KEYS),
    (
        task_sent_handler,
        plain,
        "tasks.add",
        {**SENT, "eta": None},
        {"sender": "tasks.add", **SENT, "kwds": rest({"eta": None})},
    ),
    (
        task_sent_handler,
        kuyruk(),
        Model,
        OPERATION,
        {"sender": Model, "task_id": None, **TASK_KEYS, "kwds": rest({"operation": TASK})},
    ),
    (
        task_sent_all,
        plain,
        "tasks.add",
        {**SENT, "eta": None, "taskset": None},
        {"sender": "tasks.add", **SENT, "eta": None, "taskset": None},
    ),
    (task_prerun_all, plain, TASK, SENT, {"sender": TASK, **SENT}),
    (task_postrun_all, plain, TASK, {**SENT, "retval": 9}, {"sender": TASK, **SENT, "retval": 9}),
    *(
        (worker_handler, named(signal), "server", {}, {"sender": "server", "kwds": rest({})})
        for signal in signals.ALL
        if signal.name.startswith("server_")
    ),
    *(
        (handle_post_instance_created, named(signal), Model, CREATED, {"sender": Model, **CREATED})
        for signal in (signals.post_create_instance, signals.post_delete_instance)
    ),
    *(
        (example_created, named(signal), Model, CREATED, CREATED)
        for signal in (signals.post_create_instance, signals.post_delete_instance)
    ),
    (example_created, named(signals.post_update_instance), Model, UPDATED, CREATED),
    (example_updated, named(signals.post_update_instance), Model, UPDATED, UPDATED),
    (all_updated, named(signals.post_update_instance), Model, UPDATED, {"sender": Model, **UPDATED}),
    (my_callback, plain, None, {}, {"sender": None, "kwargs": rest({})}),
    (my_callback, plain, None, {"host": "h"}, {"sender": None, "kwargs": rest({"host": "h"})}),
    (
        routine_started,
        named(signals.batch_started),
        BATCH,
        STARTED,
        {"sender": BATCH, "routine": "import", "kwargs": rest(STARTED, "routine")},
    ),
    (
        routine_failed,
        named(signals.batch_failed),
        BATCH,
        FAILED,
        {
            "sender": BATCH,
            "routine": "import",
            "failed_command": 1,
            "exception": ERROR,
            "kwargs": rest(FAILED, "routine", "failed_command", "exception"),
        },
    ),
    (
        handle_routine_failed,
        named(signals.batch_failed),
        BATCH,
        FAILED,
        {
            "sender": BATCH,
            "routine": "import",
            "failed_command": 1,
            "exception": ERROR,
            "signal": signals.batch_failed,
            "kwargs": {key: FAILED[key] for key in ("batch", "failed_operation", *OPTIONS)},
        },
    ),
    (
        routine_finished,
        named(signals.batch_finished),
        BATCH,
        FINISHED,
        {
            "sender": BATCH,
            "routine": "import",
            "early_exit": False,
            "last_command": 1,
            "kwargs": rest(FINISHED, "routine", "early_exit", "last_command"),
        },
    ),
]
IDS = [f"{case[0].__name__}-{case[1]().name}" for case in CASES]


@pytest.mark.parametrize("added", [{}, {"added": "later"}], ids=["", "with a new key"])
@pytest.mark.parametrize("how", ["send", "send_async"])
@pytest.mark.parametrize(("function", "make", "sender", "payload", "expected"), CASES, ids=IDS)
async def test_receivers_as_printed(
    function: Any,
    make: Callable[[], Signal],
    sender: Any,
    payload: dict[str, Any],
    expected: dict[str, Any],
    how: str,
    added: dict[str, Any],
) -> None:
    signal = make()
    failures = signal.failures
    signal.connect(function)
    if how == "send":
        signal.send(sender, **payload, **added)
    else:
        await signal.send_async(sender, **payload, **added)
    expected = dict(expected)
    for name in ("kwargs", "kwds"):
        if name in got and name in expected and expected[name] is not TASK_KEYS["kwargs"]:
            own = {"signal": signal} if "signal" in expected[name] else {}
            expected[name] = {**expected[name], **own, **added}
    assert got == expected
    assert signal.failures == failures


# Registrations


def test_bare_decorators_of_kuyruk() -> None:
    on_prerun = kuyruk()()

    @on_prerun.connect
    def session(task, args, kwargs):
        got.update(locals())
        return "called"

    assert session(1, 2, 3) == "called", "the decorator must return the function"
    gc.collect()
    assert [result for _, result in on_prerun.send("api", **OPERATION)] == ["called"]


def test_connecting_as_celery_does() -> None:
    task_sent = plain()
    assert task_sent.connect(task_sent_handler) is task_sent_handler
    task_sent.send("tasks.add", **SENT)
    assert got["task_id"] == "7"


@pytest.mark.parametrize(("sender", "heard"), [("tasks.add", True), ("tasks.sub", False)])
def test_names_as_senders_of_celery(sender: str, heard: bool) -> None:
    task_sent = plain()
    task_sent.connect(task_sent_handler, sender="tasks.add")
    task_sent.send(".".join(sender.split(".")), **SENT)
    assert bool(got) is heard


@pytest.mark.parametrize("wanted", [Model, "Model"])
async def test_models_as_senders(wanted: Any) -> None:
    signal = Signal("post_create_instance", errors="log", providing=["instance", "handler"])
    signal.connect(handle_post_instance_created, sender=wanted)
    await signal.send_async(Handler, **CREATED)
    assert not got
    await signal.send_async(Model, **CREATED)
    assert got["sender"] is Model


async def test_reset_of_bzz() -> None:
    signals.post_create_instance.connect(handle_post_instance_created)
    signals.post_create_instance.connect(example_created, sender=Model)
    signals.post_create_instance.receivers = {}
    await signals.post_create_instance.send_async(Model, **CREATED)
    assert not got
    signals.post_create_instance.connect(handle_post_instance_created)
    await signals.post_create_instance.send_async(Model, **CREATED)
    assert got == {"sender": Model, **CREATED}


def test_local_function_of_bzz_stays_connected() -> None:
    def connect() -> None:
        def handle_post_instance_created(sender, instance, handler):
            got.update(locals())

        signals.post_create_instance.connect(handle_post_instance_created)

    connect()
    gc.collect()
    signals.post_create_instance.send(Model, **CREATED)
    assert got == {"sender": Model, **CREATED}


def test_manual_registration_of_async_signals() -> None:
    request_finished = plain()
    request_finished.connect(my_callback)
    request_finished.send(None)
    assert got["sender"] is None


@pytest.mark.parametrize("many", [False, True])
def test_receiver_decorator_of_async_signals(many: bool) -> None:
    request_finished, other = plain(), plain()

    @receiver([request_finished, other] if many else request_finished)
    def callback(sender, **kwargs):
        got.update(locals())
        return "called"

    assert callback(None) == "called"
    gc.collect()
    assert len(request_finished.send(None)) == 1 and len(other.send(None)) == many


async def test_truthy_vote_of_routines() -> None:
    signals.batch_failed.connect(routine_failed, sender="import")
    signals.batch_failed.connect(handle_routine_failed)
    votes = [vote for _, vote in await signals.batch_failed.send_async(BATCH, **FAILED)]
    assert votes == [True, None] and any(votes)
