"""``capture``: what tests of applications see of the signals."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from bzz.dispatcher import Signal
from bzz.signals import ALL, post_create_instance, post_delete_instance, pre_create_instance, server_ready
from bzz.testing import Event, capture


class Base: ...


class User(Base): ...


async def create(sender: Any, name: str) -> None:
    await pre_create_instance.send_async(sender, arguments={}, handler=None, data={"name": name})
    await post_create_instance.send_async(sender, instance=name, handler=None)


async def test_events_in_order_with_senders_and_payloads() -> None:
    with capture(post_create_instance, pre_create_instance) as events:
        await create(User, "Ada")
        await create(Base, "Bob")
        await post_delete_instance.send_async(User, instance="Ada", handler=None)
    await create(User, "after")
    assert events.events == [
        (pre_create_instance, User, {"arguments": {}, "handler": None, "data": {"name": "Ada"}}),
        (post_create_instance, User, {"instance": "Ada", "handler": None}),
        (pre_create_instance, Base, {"arguments": {}, "handler": None, "data": {"name": "Bob"}}),
        (post_create_instance, Base, {"instance": "Bob", "handler": None}),
    ]
    assert (
        events.names
        == [event.signal.name for event in events]
        == ["pre_create_instance", "post_create_instance"] * 2
    )
    assert [event.payload["instance"] for event in events.of(post_create_instance)] == ["Ada", "Bob"]
    assert events.of(post_delete_instance) == [] and len(events) == 4


async def test_without_signals_it_captures_all_named_ones() -> None:
    before = [dict(signal.receivers) for signal in ALL]
    async with capture() as events:
        await create(User, "Ada")
        server_ready.send("server")
    assert events.names == ["pre_create_instance", "post_create_instance", "server_ready"]
    assert [dict(signal.receivers) for signal in ALL] == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [User, Base]),
        ({"sender": User}, [User]),
        ({"sender": Base, "subclasses": True}, [User, Base]),
        ({"sender": "tests"}, []),
    ],
)
async def test_senders(options: dict[str, Any], expected: list[Any]) -> None:
    signal = Signal("changed")
    with capture(signal, **options) as events:
        await signal.send_async(User)
        signal.send(Base)
    assert [event.sender for event in events] == expected


def test_only() -> None:
    signal, other = Signal("changed"), Signal("other")
    with capture(signal, other) as events:
        with pytest.raises(AssertionError, match=r"expected one event of changed, got 0: \[\]"):
            events.only(signal)
        signal.send(User, a=1)
        assert events.only() == events.only(signal) == Event(signal, User, {"a": 1})
        other.send(User)
        assert events.only(signal).payload == {"a": 1}
        with pytest.raises(
            AssertionError, match=r"expected one event, got 2: \[<changed from .*User'>: a>, <other"
        ):
            events.only()
        events.clear()
        assert events.events == [] and not events.names


def test_it_ends_with_the_block_also_by_an_error_and_can_be_entered_again() -> None:
    signal = Signal("changed")
    captured = capture(signal)
    with pytest.raises(KeyError), captured:
        raise KeyError
    signal.send(User)
    assert not signal.receivers and not captured.events
    for _ in range(2):
        with captured:
            signal.send(User)
    assert len(captured) == 2


def test_nested_captures_both_hear() -> None:
    signal = Signal("changed")
    with capture(signal) as outer:
        with capture(signal) as inner:
            signal.send(User)
        signal.send(User)
    assert (len(outer), len(inner)) == (2, 1)


def test_failing_to_begin_leaves_nothing_connected() -> None:
    signal = Signal("changed")
    with pytest.raises(TypeError), capture(signal, subclasses=True):
        pass
    broken = capture(signal, Signal("other", known_sender=lambda name: False), sender="Usr")
    with pytest.raises(Warning), broken:
        pass
    assert not signal.receivers


async def test_what_is_muted_or_refused_earlier_is_not_captured() -> None:
    signal = Signal("pre_change")

    @signal.connect
    def refuse(sender: Any, refused: bool = False) -> None:
        if refused:
            raise PermissionError

    with capture(signal) as events:
        with signal.muted():
            signal.send(User)
        with pytest.raises(PermissionError):
            signal.send(User, refused=True)
        signal.send(User, refused=False)
    assert events.only().payload == {"refused": False}


async def test_wait_for_what_has_come() -> None:
    signal = Signal("changed")
    with capture(signal) as events:
        signal.send(User, number=1)
        assert await events.wait() == events.events


async def test_wait_for_what_comes_from_a_task_and_a_thread() -> None:
    signal = Signal("changed")
    with capture(signal) as events:
        waiting = asyncio.create_task(events.wait(3))
        other = asyncio.create_task(events.wait(2))
        await asyncio.sleep(0)
        await signal.send_async(User, number=1)
        assert not other.done()
        thread = threading.Thread(target=lambda: [signal.send(User, number=n) for n in (2, 3)])
        thread.start()
        assert len(await waiting) == 3 and len(await other) >= 2
        thread.join()
    assert [event.payload["number"] for event in events] == [1, 2, 3]


async def test_wait_ends_with_its_time_and_says_what_came() -> None:
    signal = Signal("changed")
    with capture(signal) as events:
        signal.send(User)
        with pytest.raises(TimeoutError, match=r"1 of 2 events in 0\.01 s: \['changed'\]"):
            await events.wait(2, timeout=0.01)
        assert events._waiting == []
        signal.send(User)


async def test_wait_that_was_cancelled_hurts_nobody() -> None:
    signal = Signal("changed")
    with capture(signal) as events:
        waiting = asyncio.create_task(events.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        signal.send(User)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert len(events) == 1


def test_loop_that_has_ended_hurts_nobody() -> None:
    signal = Signal("changed")
    events = capture(signal)

    async def begin() -> None:
        loop = asyncio.get_running_loop()
        events._waiting.append((1, loop, loop.create_future()))

    asyncio.run(begin())
    with events:
        signal.send(User)
    assert len(events) == 1
