"""Asynchronous signals without a worker: names, connecting, and what happens if Celery is not configured."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from typing import Any

import celery
import celery._state
import pytest

import bzz
from bzz import async_signals, signals
from bzz.async_signals import AsyncSignal, receiver, request_finished, request_started
from bzz.delivery import naming
from bzz.delivery.celery import asking_blocks
from bzz.delivery.commit import deferring
from bzz.dispatcher import Signal
from bzz.errors import (
    CeleryNotConfiguredWarning,
    PublishError,
    UnknownReceiverError,
    UnknownSignalError,
    UnsendableError,
)
from tests.heartbeat import HELD_UP
from tests.program import ROOT

at_the_top = AsyncSignal(providing_args=("value",))
routed = AsyncSignal(queue="high_priority")
documented = AsyncSignal({"order": "the order that is shipped"}, doc="Sent when an order leaves the house.")


@pytest.fixture(autouse=True)
def no_celery_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Celery's current app is its default one, which nobody has configured."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    unconfigured = celery.Celery("unconfigured", set_as_current=False)
    monkeypatch.setattr(celery._state, "get_current_app", lambda: unconfigured)
    yield
    for each in (at_the_top, routed, documented, request_started, request_finished):
        each.reset()


unconfigured = pytest.mark.filterwarnings("ignore::bzz.CeleryNotConfiguredWarning")


# Names ------------------------------------------------------------------------------------------------------


def test_a_signal_is_called_after_its_module_and_variable() -> None:
    assert at_the_top.name == f"{__name__}.at_the_top"
    assert naming.find_signal(f"{__name__}.routed") is routed
    assert request_started.name == "bzz.async_signals.request_started"


def test_a_name_can_be_given_and_is_unique() -> None:
    named = AsyncSignal(name="shop.shipped")
    assert named.name == "shop.shipped"
    with pytest.raises(ValueError, match="there is an asynchronous signal 'shop.shipped' already"):
        AsyncSignal(name="shop.shipped")
    with pytest.raises(ValueError, match="already"):
        AsyncSignal(name=at_the_top.name)
    del named
    assert AsyncSignal(name="shop.shipped").name == "shop.shipped", "a name is free when its signal is gone"


def test_a_signal_without_a_name_says_what_to_do() -> None:
    local = AsyncSignal()
    with pytest.raises(ValueError, match=r"in no variable at the top of that module.*give it a name="):
        _ = local.name
    assert repr(local) == f"<AsyncSignal 'in {__name__}'>"
    assert repr(routed) == f"<AsyncSignal '{routed.name}'>"
    with pytest.raises(UnknownSignalError, match="no asynchronous signal 'nobody'"):
        naming.find_signal("nobody")


def test_two_signals_of_one_name_are_nobodys() -> None:
    module = types.ModuleType("twice")
    sys.modules["twice"] = module
    try:
        exec("from bzz.async_signals import AsyncSignal\nsignal = AsyncSignal()", module.__dict__)
        first = module.signal
        assert first.name == "twice.signal"
        exec("signal = AsyncSignal()", module.__dict__)
        assert module.signal.name == "twice.signal"
        with pytest.raises(UnknownSignalError, match="2 asynchronous signals are called 'twice.signal'"):
            naming.find_signal("twice.signal")
    finally:
        del sys.modules["twice"]


def test_a_script_that_is_run_has_the_name_that_a_worker_imports(tmp_path: Any) -> None:
    script = tmp_path / "shop.py"
    script.write_text(
        "from bzz.async_signals import AsyncSignal\n"
        "shipped = AsyncSignal(queue='mail')\n"
        "if __name__ == '__main__':\n"
        "    print(shipped.name, shipped.queue)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "shop.shipped mail\n"


def test_queues_are_known() -> None:
    assert "high_priority" in naming.queues()
    with signals.post_create_instance.connected_to(top_receiver, queue="somewhere"):
        assert "somewhere" in naming.queues()
        found = naming.find_connection("post_create_instance", f"{__name__}:top_receiver")
        assert found[0] is signals.post_create_instance
    assert "somewhere" not in naming.queues()
    with pytest.raises(UnknownReceiverError, match="top_receiver is not connected to post_create_instance"):
        naming.find_connection("post_create_instance", f"{__name__}:top_receiver")


def top_receiver(instance: Any) -> str:
    return f"got {instance}"


async def top_coroutine(instance: Any) -> str:
    return f"got {instance}"


# Connecting -------------------------------------------------------------------------------------------------


def test_it_is_a_signal_like_any_other() -> None:
    assert isinstance(at_the_top, Signal)
    assert at_the_top.providing == ("value",)
    assert documented.payload == {"order": "the order that is shipped"}
    assert documented.doc == "Sent when an order leaves the house."
    with pytest.raises(TypeError, match="needs 'nothing'"):
        at_the_top.connect(lambda sender, nothing: None)


def test_receiver_takes_one_signal_or_a_list() -> None:
    @receiver(at_the_top)
    def one(sender: Any, **kwargs: Any) -> None: ...

    @receiver([at_the_top, routed, signals.post_get_list], sender="User", dispatch_uid="all")
    def all_of_them(sender: Any, **kwargs: Any) -> None: ...

    try:
        assert [each.receiver for each in at_the_top.connections] == [one, all_of_them]
        assert [each.receiver for each in routed.connections] == [all_of_them]
        assert routed.connections[0].sender.name == "User"
        assert all_of_them in [each.receiver for each in signals.post_get_list.connections]
    finally:
        signals.post_get_list.disconnect(all_of_them)


test_receiver_takes_one_signal_or_a_list = pytest.mark.filterwarnings("ignore::bzz.UnknownSenderWarning")(
    test_receiver_takes_one_signal_or_a_list
)


def test_a_receiver_has_no_queue_of_its_own() -> None:
    with pytest.raises(TypeError, match="has no queue= of its own"):
        at_the_top.connect(top_receiver, queue="mail")


def test_a_voting_receiver_cannot_be_in_another_process() -> None:
    for each in (signals.pre_create_instance, signals.batch_failed):
        with pytest.raises(ValueError, match="a vote cannot be taken in another process"):
            each.connect(top_receiver, queue="mail")
    with pytest.raises(ValueError, match="must be a function"):
        signals.post_create_instance.connect(lambda instance: None, queue="mail")


@pytest.mark.parametrize(
    ("options", "words"), [({"policy": "drop"}, "policy="), ({"timeout": 0}, "timeout=")]
)
def test_wrong_options_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AsyncSignal(**options)


def test_the_public_names() -> None:
    assert {"AsyncSignal", "Gone", "receiver", "request_finished", "request_started"} <= set(
        async_signals.__all__
    )
    for name in async_signals.__all__:
        assert hasattr(async_signals, name)


# Celery not configured --------------------------------------------------------------------------------------


def test_without_a_broker_a_warning_and_the_receivers_at_once() -> None:
    heard: list[Any] = []

    @at_the_top.connect
    def plain(sender: Any, value: Any) -> int:
        heard.append((sender, value))
        return 1

    @at_the_top.connect
    async def coroutine(value: Any) -> int:
        await asyncio.sleep(0)
        heard.append(value)
        return 2

    with pytest.warns(CeleryNotConfiguredWarning, match=r"at_the_top.* ran at once: Celery") as caught:
        results = at_the_top.send(None, value=object)
    assert results == [(plain, 1), (coroutine, 2)]
    assert heard == [(None, object), object], "nothing has to travel, so anything can be sent"
    assert caught[0].filename == __file__
    assert bzz.CeleryNotConfiguredWarning is CeleryNotConfiguredWarning


async def test_without_a_broker_in_a_loop() -> None:
    heard: list[Any] = []

    @at_the_top.connect
    def plain(value: Any) -> int:
        heard.append(value)
        return 1

    with pytest.warns(CeleryNotConfiguredWarning):
        assert at_the_top.send(None, value=1) == [(plain, 1)]

    @at_the_top.connect
    async def coroutine(value: Any) -> int:
        await asyncio.sleep(0)
        heard.append(-value)
        return 2

    with pytest.warns(CeleryNotConfiguredWarning):
        assert at_the_top.send(None, value=2) == [], "an asynchronous receiver cannot be waited for here"
        while len(heard) < 3:
            await asyncio.sleep(0)
    with pytest.warns(CeleryNotConfiguredWarning):
        assert await at_the_top.send_async(None, value=3) == [(plain, 1), (coroutine, 2)]
    assert heard == [1, 2, -2, 3, -3]


@unconfigured
async def test_what_fails_in_the_background_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @routed.connect
    async def coroutine() -> None:
        raise LookupError("in the background")

    routed.send(None)
    while not caplog.records:
        await asyncio.sleep(0)
    assert "in the background" in str(caplog.records[0].exc_info[1])  # type: ignore[index]


@unconfigured
def test_every_receiver_runs_and_then_the_first_error_is_raised() -> None:
    heard: list[int] = []

    @routed.connect
    def one() -> None:
        heard.append(1)
        raise LookupError("one")

    @routed.connect
    async def two() -> None:
        heard.append(2)
        raise LookupError("two")

    @routed.connect
    def three() -> None:
        heard.append(3)

    with pytest.raises(LookupError, match="one"):
        routed.send(None)
    assert heard == [1, 2, 3]


@unconfigured
async def test_muted_means_nothing_is_sent() -> None:
    heard: list[Any] = []
    at_the_top.connect(heard.append)
    with at_the_top.muted():
        assert at_the_top.send(None, value=1) == []
        assert await at_the_top.send_async(None, value=1) == []
    assert heard == []
    at_the_top.send("me", value=1)
    assert heard == ["me"]


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_receiver_with_a_queue_runs_at_once_without_a_broker(blocking: bool) -> None:
    signal = signals.post_create_instance
    for each in (top_receiver, top_coroutine):
        warned = pytest.warns(CeleryNotConfiguredWarning, match=each.__name__)
        with signal.connected_to(each, queue="mail"), warned:
            if blocking:
                await asyncio.to_thread(signal.send, None, instance=1, handler=None)
            else:
                await signal.send_async(None, instance=1, handler=None)


async def test_a_plain_send_in_a_loop_reaches_receivers_with_a_queue() -> None:
    signal = signals.post_create_instance
    queued = [signal.connected_to(each, queue="mail") for each in (top_receiver, top_coroutine)]
    with queued[0], queued[1], pytest.warns(CeleryNotConfiguredWarning) as caught:
        signal.send(None, instance=1, handler=None)
        while len(caught) < 2:
            await asyncio.sleep(0)


# In a transaction -------------------------------------------------------------------------------------------


@unconfigured
async def test_a_send_in_a_transaction_waits_for_its_commit() -> None:
    heard: list[Any] = []
    routed.connect(lambda value: heard.append(value))
    with deferring() as deferred:
        assert routed.send(None, value=1) == []
        assert await routed.send_async(None, value=2) == []
        await asyncio.to_thread(routed.send, None, value=3)
        assert heard == []
        assert len(deferred) == 3
        assert await deferred.flush() == []
        assert heard == [1, 2, 3]
        routed.send(None, value=4)
        assert heard == [1, 2, 3, 4], "after the commit there is nothing to wait for"


@unconfigured
async def test_a_rollback_drops_what_was_sent() -> None:
    heard: list[Any] = []
    routed.connect(lambda value: heard.append(value))
    late = asyncio.Event()

    async def straggler() -> None:
        await late.wait()
        routed.send(None, value="late")

    with pytest.raises(ZeroDivisionError), deferring() as deferred:
        routed.send(None, value=1)
        task = asyncio.create_task(straggler())
        _ = 1 / 0
    late.set()
    await task
    assert deferred.state == "dropped"
    assert await deferred.flush() == []
    assert heard == []


@unconfigured
async def test_an_inner_transaction_waits_for_the_outer_one() -> None:
    heard: list[Any] = []
    routed.connect(lambda value: heard.append(value))
    with deferring() as outer:
        with deferring() as inner:
            routed.send(None, value=1)
            await inner.flush()
            routed.send(None, value=2)
        with deferring():
            routed.send(None, value="rolled back")
        assert heard == []
        await outer.flush()
        assert heard == [1, 2]


@unconfigured
async def test_a_flush_lets_everything_out_whatever_fails(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    @routed.connect
    def picky(value: Any) -> None:
        if value == 1:
            raise LookupError("not 1")
        heard.append(value)

    with deferring() as deferred:
        routed.send(None, value=1)
        routed.send(None, value=2)
        errors = await deferred.flush()
    assert [str(each) for each in errors] == ["not 1"]
    assert heard == [2]
    assert "waited for a commit" in caplog.text


# Celery itself ----------------------------------------------------------------------------------------------


def run(code: str, **environment: str) -> str:
    """Run Python code in a fresh process; Celery is not imported there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CELERY")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**kept, **environment}, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_bzz_does_not_import_celery() -> None:
    code = "import sys, bzz, bzz.async_signals, bzz.worker\nprint({'celery', 'kombu'} & set(sys.modules))"
    assert run(code) == "set()\n"


UNCONFIGURED = """
import sys, warnings
from bzz.async_signals import AsyncSignal
signal = AsyncSignal(name="x")
signal.connect(lambda value: print("heard", value))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    {block}
    signal.send(None, value=1)
print([each.category.__name__ for each in caught], "celery" in sys.modules)
"""


def test_nobody_imports_celery_to_find_that_it_is_not_configured() -> None:
    assert run(UNCONFIGURED.format(block="")) == "heard 1\n['CeleryNotConfiguredWarning'] False\n"


def test_without_celery_installed() -> None:
    block = "sys.modules['celery'] = None"
    assert run(UNCONFIGURED.format(block=block)) == "heard 1\n['CeleryNotConfiguredWarning'] True\n"
    absent = (
        "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'celery' else f(n)"
    )
    assert run(UNCONFIGURED.format(block=absent)).startswith("heard 1\n['CeleryNotConfiguredWarning']")


IN_A_LOOP = """
import asyncio, sys
from bzz.async_signals import AsyncSignal
from tests.heartbeat import Heartbeat
import {module} as own

async def main():
    signal = AsyncSignal(name="x", timeout=1, policy="log")
    async with Heartbeat(float("inf")) as heart:
        signal.send(None, value=1)
        own.post_create_instance.send(None, instance=1, handler=None)
        while signal.failures < 1 or own.background < 1:
            await asyncio.sleep(0.01)
    print("celery" in sys.modules, heart.longest)

asyncio.run(main())
"""

OWN = """
import logging
from bzz.delivery import CeleryTransport
from bzz.dispatcher import set_transport
from bzz.signals import post_create_instance

background = 0

class Counter(logging.Handler):
    def emit(self, record):
        global background
        background += "sending failed" in record.getMessage()

set_transport(CeleryTransport(timeout=1))
logging.getLogger("bzz.delivery").addHandler(Counter())

@post_create_instance.connect(queue="mail")
def received(instance): ...
"""


def test_celery_is_imported_in_a_thread_where_a_loop_runs(tmp_path: Any) -> None:
    (tmp_path / "own_app.py").write_text(OWN)
    environment = {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    held_up = []
    while not held_up or (held_up[-1] >= HELD_UP and len(held_up) < 3):
        imported, longest = run(IN_A_LOOP.format(module="own_app"), **environment).split()
        assert imported == "True"
        held_up.append(float(longest))
    assert held_up[-1] < HELD_UP, held_up


def test_asking_is_quick_where_an_app_is_given() -> None:
    assert not asking_blocks(object())
    assert not asking_blocks(None), "Celery is imported here"


def test_a_celeryconfig_module_configures_the_default_app(tmp_path: Any) -> None:
    (tmp_path / "celeryconfig.py").write_text("broker_url = 'memory://'\n")
    code = (
        "from bzz.delivery.celery import asking_blocks, current_app\n"
        "print(asking_blocks(None), current_app().conf.broker_write_url, asking_blocks(None))"
    )
    assert run(code, PYTHONPATH=f"{tmp_path}:{ROOT}") == "True memory:// False\n"
    assert (
        run(code.replace("print", "print(current_app()) if not asking_blocks(None) else print")) == "None\n"
    )
    missing = run(
        "from bzz.delivery.celery import asking_blocks as a; print(a(None))", CELERY_CONFIG_MODULE="no.such"
    )
    assert missing == "False\n"


APPS = """
import celery, os, threading
from bzz.delivery.celery import current_app
from bzz.errors import DeliveryError
one = celery.Celery("one", broker="memory://")
silent = celery.Celery("silent", broker="memory://", set_as_current=False)
seen = []

def ask():
    try:
        seen.append(current_app())
    except DeliveryError as error:
        seen.append(str(error))

def ask_in_a_thread():
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

ask()
ask_in_a_thread()
print([each.main for each in seen])
two = celery.Celery("two", broker="memory://")
seen.clear()
ask()
ask_in_a_thread()
two.set_default()
ask_in_a_thread()
print(seen[0].main, seen[1], seen[2].main)
os.environ["CELERY_BROKER_URL"] = "memory://"
two.close()
celery._state.default_app = None
seen.clear()
ask_in_a_thread()
one.close()
ask_in_a_thread()
print([each.main for each in seen])
"""


def test_the_current_app_is_found_in_every_thread() -> None:
    first, second, third = run(APPS).splitlines()
    assert first == "['one', 'one']"
    assert second.startswith(
        "two there are several Celery apps (one, two), and none is current in this thread"
    )
    assert second.endswith(" two")
    assert third == "['one', 'default']", "the fallback only when there is no other"


@unconfigured
async def test_the_sender_may_be_named() -> None:
    heard: list[Any] = []

    @routed.connect(sender="me")
    def hear(sender: Any, value: Any) -> None:
        heard.append((sender, value))

    routed.send(sender="me", value=1)
    await routed.send_async(sender="me", value=2)
    routed.send(sender="you", value=3)
    assert heard == [("me", 1), ("me", 2)]


def test_eager_apps_run_the_task_here() -> None:
    app = celery.Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    app.conf.task_eager_propagates = True
    signal = AsyncSignal(name="eager", celery=app)
    heard: list[Any] = []
    signal.connect(lambda value: heard.append(value))
    assert signal.send(None, value={"~": (1, b"x")}) == []
    assert heard == [{"~": (1, b"x")}], "as it would have travelled"
    with pytest.raises(UnsendableError, match=r"^value\[0\]: "):
        signal.send(None, value=[object()])


def test_a_broker_that_takes_nothing_is_a_publish_error() -> None:
    app = celery.Celery("nonsense", broker="nonsense://nowhere", set_as_current=False)
    signal = AsyncSignal(name="nonsense", celery=app, policy="raise")
    with pytest.raises(PublishError, match="the broker at nowhere takes no message: KeyError"):
        signal.send(None)


def test_the_current_app_is_used_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    app = celery.Celery("current", broker="memory://", set_as_current=False)
    monkeypatch.setattr(celery._state, "get_current_app", lambda: app)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert routed.send(None, value=1) == []
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("high_priority", serializer="json").get(timeout=5)
        assert message.headers["task"] == "bzz.signal"
        assert message.payload[0][0] == routed.name
        message.ack()
