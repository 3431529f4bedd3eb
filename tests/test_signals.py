"""The named signals: what they say about themselves holds."""

from __future__ import annotations

from typing import Any

import blinker
import mongoengine
import pytest

from bzz import signals
from bzz.dispatcher import Signal, set_transport
from bzz.errors import ExitEarly, UnknownSenderWarning, Veto
from bzz.signals import ALL

OPERATIONS = ["get_list", "get_instance", "create_instance", "update_instance", "delete_instance"]

BATCH_OPTIONS = ("handler", "atomic", "continue_on_error", "dry_run", "switches", "**options")
PAYLOADS = {
    "pre_get_list": {"arguments", "handler"},
    "post_get_list": {"items", "handler"},
    "pre_get_instance": {"arguments", "handler", "key"},
    "post_get_instance": {"instance", "handler"},
    "pre_create_instance": {"arguments", "handler", "data"},
    "post_create_instance": {"instance", "handler"},
    "pre_update_instance": {"arguments", "handler", "data", "instance"},
    "post_update_instance": {"instance", "updated_fields", "handler"},
    "pre_delete_instance": {"arguments", "handler", "instance"},
    "post_delete_instance": {"instance", "handler"},
    "batch_started": {"batch", "routine", *BATCH_OPTIONS},
    "batch_failed": {
        *("batch", "routine", *BATCH_OPTIONS, "exception"),
        *("failed_operation", "failed_command"),
    },
    "batch_finished": {
        "batch",
        "routine",
        *BATCH_OPTIONS,
        "early_exit",
        "exit_operation",
        "last_operation",
        "last_command",
    },
    "server_init": set(),
    "server_process_init": set(),
    "server_ready": set(),
    "server_shutdown": set(),
}
POLICIES = {
    "raise": {*(f"pre_{op}" for op in OPERATIONS), "batch_started", "server_init", "server_process_init"},
    "log": {
        *(f"post_{op}" for op in OPERATIONS),
        "batch_failed",
        "batch_finished",
        "server_ready",
        "server_shutdown",
    },
}
VOTING = {*(f"pre_{op}" for op in OPERATIONS), "batch_failed"}
LOCAL = {name for name in PAYLOADS if name.startswith("server_")}


@pytest.fixture(autouse=True)
def restored() -> Any:
    before = {signal: signal.receivers for signal in ALL}
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers


def test_all_are_public_under_their_names() -> None:
    assert [signal.name for signal in ALL] == list(PAYLOADS)
    for signal in ALL:
        assert getattr(signals, signal.name) is signal and signal.name in signals.__all__
        assert isinstance(signal, blinker.NamedSignal)
    named = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert named == set(PAYLOADS), "a signal is missing in ALL"
    assert signals.ANY is blinker.ANY


@pytest.mark.parametrize("signal", ALL, ids=lambda signal: signal.name)
def test_what_they_tell(signal: Signal) -> None:
    assert set(signal.payload) == set(signal.providing) == PAYLOADS[signal.name]
    assert signal.name in POLICIES[signal.errors]
    assert signal.voting is (signal.name in VOTING)
    assert all(text[0].isupper() and text.endswith(".") for text in signal.payload.values())
    assert signal.doc is not None and signal.__doc__ == signal.doc
    when, details = signal.doc.split("\n\n")
    assert when.startswith("Sent ") and when.endswith(".")
    assert details.startswith("Sender: ") and ("Raising" in details or "raised" in details)


class Ship(mongoengine.Document):
    meta = {"allow_inheritance": True}


class Tanker(Ship): ...


def test_names_of_models_are_known() -> None:
    for signal in ALL:
        signal.connect(lambda: None, sender="Ship")
        signal.connect(lambda: None, sender="Tanker")


@pytest.mark.parametrize("name", ["Shp", "ship", "Ship.Tanker"])
def test_name_of_no_model_warns(name: str) -> None:
    with pytest.warns(UnknownSenderWarning, match=name):
        signals.post_create_instance.connect(lambda: None, sender=name)


@pytest.mark.parametrize("name", ["import", "nightly"])
def test_batches_can_have_any_name(name: str) -> None:
    signals.batch_started.connect(lambda: None, sender=name)


async def test_subclasses_of_a_model_by_name() -> None:
    heard: list[Any] = []
    signals.post_create_instance.connect(heard.append, sender="Ship", subclasses=True)
    await signals.post_create_instance.send_async(Tanker, instance=None, handler=None)
    assert heard == [Tanker]


async def test_pre_receiver_vetoes_and_nobody_comes_after() -> None:
    called: list[str] = []

    @signals.pre_delete_instance.connect(sender=Ship)
    async def refuse(instance: Any) -> None:
        called.append("refuse")
        raise Veto(409, "It still sails.")

    signals.pre_delete_instance.connect(lambda instance: called.append("next"))
    with pytest.raises(Veto, match="still sails"):
        await signals.pre_delete_instance.send_async(Ship, arguments={}, handler=None, instance=1)
    assert called == ["refuse"]


async def test_every_receiver_votes_on_a_failed_batch() -> None:
    called: list[str] = []

    def vote(answer: Any) -> Any:
        def receiver(failed_operation: int) -> Any:
            called.append(answer)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return receiver

    answers = [False, ExitEarly("enough"), ValueError("a bug is no vote"), True]
    for answer in answers:
        signals.batch_failed.connect(vote(answer))
    with pytest.raises(ExitEarly, match="enough"):
        await signals.batch_failed.send_async(None, batch="import", failed_operation=3, exception=KeyError())
    assert called == answers


def test_receiver_for_what_is_never_sent_is_refused() -> None:
    with pytest.raises(TypeError, match="needs 'updated_fields'"):
        signals.post_create_instance.connect(lambda instance, updated_fields: None)
    signals.batch_started.connect(lambda batch, dry_run: None)  # options are anybody's


@pytest.mark.parametrize("signal", ALL, ids=lambda signal: signal.name)
def test_transitions_are_those_of_updates(signal: Signal) -> None:
    if signal is signals.post_update_instance:
        signal.connect(lambda: None, when={"status": ("draft", "live")})
    else:
        with pytest.raises(TypeError, match="needs updated_fields"):
            signal.connect(lambda: None, when={"status": ("draft", "live")})


def mailed() -> None: ...


class NoTransport:
    publish = publish_blocking = None


@pytest.mark.parametrize("signal", ALL, ids=lambda signal: signal.name)
def test_votes_are_not_taken_elsewhere(signal: Signal) -> None:
    before = Signal.transport
    set_transport(NoTransport())
    try:
        if signal.name in VOTING:
            with pytest.raises(ValueError, match="vote"):
                signal.connect(mailed, queue="mail")
        elif signal.name in LOCAL:
            with pytest.raises(ValueError, match="cannot leave this process"):
                signal.connect(mailed, queue="mail")
        else:
            signal.connect(mailed, queue="mail")
    finally:
        set_transport(before)
