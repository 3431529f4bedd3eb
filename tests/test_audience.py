"""Who hears of an operation is remembered exactly as long as nobody comes or goes."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from bzz import signals
from bzz.delivery.audience import Audience
from bzz.delivery.hooks import Hooks


class Model:
    """The sender."""


class Other:
    """Somebody else."""


@pytest.fixture
def hooks() -> Hooks:
    return Hooks(owner="inner", outer=Hooks(owner="outer"))


def seen(hooks: Hooks) -> tuple[bool, bool, bool, bool]:
    found = Audience("update_instance", Model, hooks)
    assert found.is_present
    return found.decides, found.hears, found.is_quiet, found.wants_handler


def test_nobody_is_there(hooks: Hooks) -> None:
    assert seen(hooks) == (False, False, True, False)


def test_it_tells_who_is_asked_told_and_given_the_handler(hooks: Hooks) -> None:
    def takes_instance(instance: Any) -> None: ...
    def takes_handler(handler: Any) -> None: ...
    def takes_all(**payload: Any) -> None: ...

    for receiver, given in ((takes_instance, False), (takes_handler, True), (takes_all, True)):
        with signals.pre_update_instance.connected_to(receiver, sender=Model):
            assert seen(hooks) == (True, False, True, given)
        with signals.post_update_instance.connected_to(receiver, sender=Model):
            assert seen(hooks) == (False, True, True, given)
        with signals.post_update_instance.connected_to(receiver, sender=Other):
            assert seen(hooks) == (False, False, True, False)
        assert hooks.outer is not None
        with hooks.outer.signal("post_update_instance").connected_to(receiver):
            assert seen(hooks) == (False, True, True, given)
    with hooks.outer.signal("prerun").connected_to(takes_instance_of_nothing):
        assert seen(hooks) == (False, False, False, True)
    assert seen(hooks) == (False, False, True, False)


def takes_instance_of_nothing() -> None: ...


def test_whoever_comes_or_goes_is_noticed(hooks: Hooks) -> None:
    def receiver(instance: Any) -> None: ...

    def is_noticed() -> bool:
        nonlocal audience
        noticed = not audience.is_present
        audience = Audience("update_instance", Model, hooks)
        assert audience.is_present
        return noticed

    audience = Audience("update_instance", Model, hooks)
    signal = signals.post_update_instance
    signal.connect(receiver, sender=Model)
    assert is_noticed()
    assert audience.hears
    signal.disconnect(receiver, sender=Model)
    assert is_noticed()
    assert not audience.hears
    with signal.connected_to(receiver):
        assert is_noticed()
    assert is_noticed()
    signal.connect(receiver)
    assert is_noticed()
    signal.receivers = {}
    assert is_noticed()
    assert not audience.hears
    hooks.signal("prerun").connect(lambda operation: None)
    assert is_noticed()
    assert not audience.is_quiet


def test_a_receiver_that_dies_has_gone(hooks: Hooks) -> None:
    class Listener:
        def hear(self, instance: Any) -> None: ...

    listener = Listener()
    signals.post_update_instance.connect(listener.hear, sender=Model)
    audience = Audience("update_instance", Model, hooks)
    assert audience.hears
    del listener
    gc.collect()
    assert not audience.is_present
    assert not Audience("update_instance", Model, hooks).hears


async def test_it_asks_and_tells(hooks: Hooks) -> None:
    heard: list[str] = []
    signals.pre_update_instance.connect(lambda data: heard.append(f"asked {data}"), sender=Model)
    signals.post_update_instance.connect(lambda instance: heard.append(f"told {instance}"), sender=Model)
    hooks.on_post_update_instance(lambda instance: heard.append(f"first {instance}"))
    audience = Audience("update_instance", Model, hooks)
    await audience.ask(data=1)
    await audience.tell(instance=2, updated_fields={}, handler=None)
    assert heard == ["asked 1", "first 2", "told 2"]
