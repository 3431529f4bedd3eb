"""The reference of all signals says what the code does, and whoever comes from elsewhere finds a page."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import mongoengine as me
import pytest

import bzz
from bzz import async_signals, signals
from bzz.async_signals import AsyncSignal
from bzz.delivery import wire
from bzz.delivery.hooks import RUN_EVENTS
from bzz.dispatcher import Signal
from bzz.errors import UnsendableError
from bzz.resource import Operation, Resource
from bzz.server import Server
from bzz.testing import capture
from tests.program import ROOT
from tests.serving import Client, serving

DOCS = ROOT / "docs"
ASYNCHRONOUS = {
    name: each
    for name in async_signals.__all__
    if isinstance(each := getattr(async_signals, name), AsyncSignal)
}


class Berth(me.Document):
    name = me.StringField(primary_key=True)
    length = me.IntField(min_value=1)


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("signal_reference")
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def page(generator: ModuleType) -> str:
    """The text of the page, each directive replaced by what Sphinx reads in its place."""
    writers = {
        "named-signals": generator.named,
        "operation-events": lambda _: generator.operation_events(),
        "asynchronous-signals": lambda _: generator.asynchronous(),
        "signal-policies": lambda _: generator.policies(),
    }
    return re.sub(
        r"^\.\. ([a-z-]+)::(?: (\S+))?$",
        lambda found: str(writers[found[1]](found[2])),
        (DOCS / "all-signals.rst").read_text(),
        flags=re.MULTILINE,
    )


def entry(page: str, declared: str) -> str:
    """What the page says about one signal: all that is indented below its declaration."""
    found = re.findall(rf"^\.\. {re.escape(declared)}\n\n((?:   .*\n|\n)+)", page, re.MULTILINE)
    assert len(found) == 1, f"the page describes it {len(found)} times"
    return str(found[0])


@pytest.mark.parametrize("signal", signals.ALL, ids=lambda each: each.name)
def test_the_page_describes_every_named_signal(page: str, signal: Signal) -> None:
    text = entry(page, f"py:data:: bzz.signals.{signal.name}")
    assert re.search(r"\bSent (before|after|when|once)", text)
    assert "Sender: the " in text
    assert "Raising " in text
    assert re.findall(r"^   ``(.+)``$", text, re.MULTILINE) == list(signal.payload)
    assert all(description in text for description in signal.payload.values())


@pytest.mark.parametrize("event", RUN_EVENTS)
def test_the_page_describes_every_event_of_an_operation(page: str, event: str) -> None:
    text = entry(page, f"py:method:: bzz.delivery.hooks.Hooks.on_{event}(receiver)")
    doc, errors, payload = RUN_EVENTS[event]
    assert doc in text
    assert "Sender: " in text
    first = "the Api" if event.startswith("pre") else "the resource"
    assert f"Heard by the receivers of {first} first" in text
    assert ("Raising changes nothing" in text) == (errors == "log")
    assert re.findall(r"^   ``(.+)``$", text, re.MULTILINE) == list(payload)


@pytest.mark.parametrize("name", ASYNCHRONOUS)
def test_the_page_describes_every_asynchronous_signal(page: str, name: str) -> None:
    text = entry(page, f"py:data:: bzz.async_signals.{name}")
    assert str(ASYNCHRONOUS[name].doc) in text
    assert "Sender: " in text
    assert "fails the task" in text


def test_the_table_has_a_line_for_each_of_them(page: str) -> None:
    expected = [f":data:`~bzz.signals.{each.name}`" for each in signals.ALL]
    expected += [f":meth:`~bzz.delivery.hooks.Hooks.on_{event}`" for event in RUN_EVENTS]
    expected += [f":data:`~bzz.async_signals.{name}`" for name in ASYNCHRONOUS]
    assert re.findall(r"^   \* - (:.*)$", page, re.MULTILINE) == expected


def test_a_signal_that_nobody_has_is_not_described(generator: ModuleType) -> None:
    assert generator.named("nothing_") == ""


@pytest.mark.parametrize(
    ("sender", "payload"),
    [(None, {"operation": Operation("get_list")}), (Server([], port=0, access_log=None), {})],
    ids=["operation", "server"],
)
def test_what_the_table_says_cannot_travel_cannot(sender: Any, payload: Any) -> None:
    if isinstance(sender, Server):
        sender.listener.abandon()
    with pytest.raises(UnsendableError):
        wire.dumps(wire.Message(sender, payload))


# What the page says is sent, is sent ------------------------------------------------------------------------


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    api = bzz.Api()
    api.add(Berth)
    async with serving(api) as client:
        yield client


async def everything(client: Client) -> None:
    """Do what makes every signal but those of the server go out."""
    bad = {"method": "PUT", "path": "/berth/a", "body": {"length": 0}}
    await client.post("/berth", json={"name": "a", "length": 3})
    await client.get("/berth")
    await client.get("/berth/a")
    await client.put("/berth/a", json={"length": 4})
    await client.post("/batch", json={"operations": [bad], "continue_on_error": True})
    await client.delete("/berth/a")


OF_MODELS_AND_BATCHES = [each for each in signals.ALL if not each.name.startswith("server_")]


@pytest.mark.parametrize(
    ("signal", "key"),
    [
        pytest.param(
            each,
            key,
            id=f"{each.name}-{key}",
        )
        for each in OF_MODELS_AND_BATCHES
        for key in each.payload
        if not key.startswith("**")
    ],
)
async def test_every_key_that_the_page_names_is_sent(client: Client, signal: Signal, key: str) -> None:
    with capture(signal) as events:
        await everything(client)
    assert events.events
    assert all(key in event.payload for event in events)


@pytest.mark.parametrize("signal", OF_MODELS_AND_BATCHES, ids=lambda each: each.name)
async def test_every_key_that_is_sent_is_on_the_page(client: Client, signal: Signal) -> None:
    with capture(signal) as events:
        await everything(client)
    assert {key for event in events for key in event.payload} <= signal.payload.keys()


@pytest.mark.parametrize("event", ["prerun", "postrun", "success", "failure"])
async def test_every_key_of_an_event_is_sent(database: str, event: str) -> None:
    api = bzz.Api()
    berths = api.add(Berth)
    heard: list[dict[str, Any]] = []

    def hear(sender: Any, **payload: Any) -> None:
        heard.append({"sender": sender, **payload})

    getattr(api, f"on_{event}")(hear)
    getattr(berths, f"on_{event}")(hear)
    async with serving(api) as client:
        await client.post("/berth", json={"name": "a", "length": 3 if event != "failure" else 0})
    assert [set(each) - {"sender", "signal"} for each in heard] == [set(RUN_EVENTS[event][2])] * 2
    in_order = [api, berths] if event == "prerun" else [berths, api]
    assert [each["sender"] for each in heard] == in_order
    assert not any(isinstance(each["sender"], Resource) for each in heard)


# The pages for those who come from elsewhere ----------------------------------------------------------------

FAMILIES = {
    "kuyruk": """
        @api.on_prerun @api.on_postrun @api.on_presend @api.on_postsend
        @parcels.on_success @parcels.on_failure
        @kuyruk.on_prerun @task.on_prerun f(task,args,kwargs) f(sender,task,args,kwargs)
        f(sender,task,args,kwargs,exc_info) exc_info
    """,
    "celery": """
        task_sent.connect(f) task_sent.connect(f,sender="tasks.add")
        f(sender=None,task_id=None,task=None,args=None,kwargs=None,**kwds)
        dispatch_uid task_sent task_prerun task_postrun retval worker_init worker_process_init worker_ready
        worker_shutdown server_init server_process_init server_ready server_shutdown
    """,
    "django-async-signals": """
        AsyncSignal() AsyncSignal(providing_args=("host","path")) AsyncSignal(queue="high_priority")
        request_started request_finished signal.send(None) signal.connect(my_callback)
        request_finished.connect(my_callback) @receiver(signal) @receiver([one,other]) f(sender,**kwargs)
        CeleryNotConfiguredWarning
    """,
    "django-routines": """
        routine_started routine_failed routine_finished batch_started batch_failed batch_finished
        f(sender,routine,**kwargs) f(sender,routine,failed_command,exception,**kwargs)
        f(sender,routine,early_exit,last_command,**kwargs)
        f(sender,routine,failed_command,exception,signal,**kwargs) sender.plan[failed_command] ExitEarly
    """,
    "bzz": """
        routes_for('mongoengine',User) post_create_instance.connect(f) post_create_instance.receivers={}
        f(sender,instance,handler) f(handler,instance) f(handler,instance,updated_fields) updated_fields
        post_create_instance post_update_instance post_delete_instance io_loop
    """,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_system_has_its_page(family: str) -> None:
    text = (DOCS / "coming-from" / f"{family}.rst").read_text()
    packed = re.sub(r"\s+", "", text)
    assert [form for form in FAMILIES[family].split() if form not in packed] == []
    for heading in ("What you know, and what it is here", "What differs, and why"):
        assert heading in text
    assert ".. testcode::" in text
    assert ".. doctest::" in text


def test_the_pages_are_listed() -> None:
    listed = re.search(
        r"toctree::\n(?:   :.*\n)*\n((?:   .+\n)+)", (DOCS / "coming-from/index.rst").read_text()
    )
    assert listed is not None
    assert listed[1].split() == list(FAMILIES)
    assert {each.stem for each in (DOCS / "coming-from").glob("*.rst")} == {"index", *FAMILIES}
    index = (DOCS / "index.rst").read_text()
    for page in ("receiving", "all-signals", "celery", "batches", "testing", "coming-from/index"):
        assert f"\n   {page}\n" in index
