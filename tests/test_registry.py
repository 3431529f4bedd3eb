"""Connecting and disconnecting: what stays, what goes, and that Blinker's meaning is kept."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import blinker
import pytest

from bzz.dispatcher import ANY, Signal
from bzz.errors import UnknownSenderWarning


class A: ...


class B(A): ...


def first(sender: Any, **kw: Any) -> str:
    return "first"


def second(sender: Any, **kw: Any) -> str:
    return "second"


def third(sender: Any, **kw: Any) -> str:
    return "third"


class Owner:
    def method(self, sender: Any, **kw: Any) -> str:
        return "method"

    def __call__(self, sender: Any, **kw: Any) -> str:
        return "object"


def heard(signal: Any, sender: Any = None) -> list[Any]:
    """Send, and return what the receivers returned, in order."""
    return [result for _, result in signal.send(sender)]


# Blinker's meaning: each of these runs on Blinker itself too.


def blinker_connect(signal: Any) -> None:
    assert signal.connect(first) is first
    assert signal.connect(second, A) is second
    assert heard(signal, B) == ["first"]
    assert sorted(heard(signal, A)) == ["first", "second"]
    assert signal.send(B) == [(first, "first")]


def blinker_weak_method(signal: Any) -> None:
    owner = Owner()
    signal.connect(owner.method)
    assert heard(signal) == ["method"]
    del owner
    gc.collect()
    assert heard(signal) == [] and not signal.receivers


def blinker_strong_method(signal: Any) -> None:
    signal.connect(Owner().method, weak=False)
    gc.collect()
    assert heard(signal) == ["method"]


def blinker_weak_function(signal: Any) -> None:
    def local(sender: Any) -> None: ...

    signal.connect(local, weak=True)
    del local
    gc.collect()
    assert heard(signal) == [] and not signal.receivers


def blinker_any_and_sender_is_one_call(signal: Any) -> None:
    signal.connect(first)
    signal.connect(first, A)
    assert heard(signal, A) == ["first"]


def blinker_several_senders(signal: Any) -> None:
    signal.connect(first, A)
    signal.connect(first, B)
    assert (heard(signal, A), heard(signal, B), heard(signal)) == (["first"], ["first"], [])


def blinker_connect_via(signal: Any) -> None:
    @signal.connect_via(A)
    def local(sender: Any) -> str:
        return "local"

    del local
    gc.collect()
    assert (heard(signal, A), heard(signal, B)) == (["local"], [])


def blinker_connected_to(signal: Any) -> None:
    with signal.connected_to(first, sender=A):
        assert heard(signal, A) == ["first"]
    assert heard(signal, A) == []


def blinker_connected_to_undone_by_error(signal: Any) -> None:
    with pytest.raises(KeyError), signal.connected_to(first):
        raise KeyError
    assert not signal.receivers


def blinker_muted(signal: Any) -> None:
    signal.connect(first)
    with signal.muted():
        assert signal.is_muted and heard(signal) == [] and signal.has_receivers_for(A)
    assert not signal.is_muted and heard(signal) == ["first"]


def blinker_is_muted_can_be_set(signal: Any) -> None:
    signal.connect(first)
    signal.is_muted = True
    assert heard(signal) == []
    signal.is_muted = False
    assert heard(signal) == ["first"]


def blinker_disconnect(signal: Any) -> None:
    signal.connect(first)
    signal.connect(first, A)
    signal.disconnect(first)
    assert heard(signal, A) == [] and not signal.receivers


def blinker_disconnect_one_sender(signal: Any) -> None:
    signal.connect(first, A)
    signal.connect(first, B)
    signal.disconnect(first, A)
    assert (heard(signal, A), heard(signal, B)) == ([], ["first"])


def blinker_disconnect_sender_keeps_any(signal: Any) -> None:
    signal.connect(first)
    signal.connect(first, A)
    signal.disconnect(first, A)
    assert heard(signal, A) == ["first"]


def blinker_disconnect_twice(signal: Any) -> None:
    signal.connect(first)
    signal.disconnect(second)
    signal.disconnect(first)
    signal.disconnect(first)
    assert not signal.receivers


def blinker_disconnect_method(signal: Any) -> None:
    owner = Owner()
    signal.connect(owner.method)
    signal.disconnect(owner.method)
    assert heard(signal) == []


def blinker_has_receivers_for(signal: Any) -> None:
    assert not signal.has_receivers_for(A) and not signal.has_receivers_for(ANY)
    signal.connect(first, A)
    assert signal.has_receivers_for(A)
    assert not signal.has_receivers_for(B) and not signal.has_receivers_for(ANY)
    signal.connect(second)
    assert signal.has_receivers_for(B) and signal.has_receivers_for(ANY)


def blinker_receivers_for(signal: Any) -> None:
    owner = Owner()
    signal.connect(owner, A)
    signal.connect(first)
    assert set(signal.receivers_for(A)) == {first, owner}
    assert list(signal.receivers_for(B)) == list(signal.receivers_for(ANY)) == [first]
    del owner
    gc.collect()
    assert list(signal.receivers_for(A)) == [first]


def blinker_receivers_truth(signal: Any) -> None:
    assert not signal.receivers
    signal.connect(first, A)
    assert signal.receivers and len(signal.receivers) == 1
    signal._clear_state()
    assert not signal.receivers and heard(signal, A) == []


def blinker_receiver_connected(signal: Any) -> None:
    told: list[Any] = []
    signal.receiver_connected.connect(lambda origin, **kw: told.append((origin, kw)), weak=False)
    signal.connect(first, A, weak=False)
    assert told == [(signal, {"receiver": first, "sender": A, "weak": False})]


def blinker_receiver_connected_can_refuse(signal: Any) -> None:
    def refuse(sender: Any, receiver: Any) -> None: ...

    signal.receiver_connected.connect(refuse)
    with pytest.raises(TypeError):
        signal.connect(first)
    assert heard(signal) == []


def blinker_receiver_disconnected(signal: Any) -> None:
    told: list[Any] = []
    signal.receiver_disconnected.connect(lambda origin, **kw: told.append((origin, kw)), weak=False)
    signal.connect(first, A)
    signal.disconnect(first, A)
    signal.disconnect(second)
    assert told == [
        (signal, {"receiver": first, "sender": A}),
        (signal, {"receiver": second, "sender": ANY}),
    ]


def blinker_dead_sender(signal: Any) -> None:
    sender = Owner()
    signal.connect(first, sender)
    del sender
    gc.collect()
    assert not any(signal.has_receivers_for(Owner()) for _ in range(100))


def blinker_names_by_value(signal: Any) -> None:
    signal.connect(first, "import")
    signal.connect(second, 7)
    assert heard(signal, "".join(["im", "port"])) == ["first"]
    assert heard(signal, 7) == ["second"] and heard(signal, "7") == []


def blinker_payload(signal: Any) -> None:
    signal.connect(lambda sender, **kw: (sender, kw["a"]), weak=False)
    assert [result for _, result in signal.send("s", a=1)] == [("s", 1)]
    assert [result for _, result in signal.send(a=1)] == [(None, 1)]


BLINKER = {name: case for name, case in globals().items() if name.startswith("blinker_")}


@pytest.mark.parametrize("make", [blinker.NamedSignal, Signal])
@pytest.mark.parametrize("name", BLINKER)
def test_keeps_the_meaning_of_blinker(name: str, make: Callable[[str], blinker.NamedSignal]) -> None:
    signal = make("changed")
    assert isinstance(signal, blinker.NamedSignal) and isinstance(signal, blinker.Signal)
    BLINKER[name](signal)


# What is added


def test_decorators_hold_strongly_and_return_the_function() -> None:
    signal = Signal("changed")

    def connect_all() -> list[Any]:
        @signal.connect
        def bare(sender: Any) -> str:
            return "bare"

        @signal.connect(sender=A)
        def with_sender(sender: Any) -> str:
            return "with sender"

        @signal.connect()
        def empty(sender: Any) -> str:
            return "empty"

        @signal.connect_via(A)
        def via(sender: Any) -> str:
            return "via"

        @signal.connect(sender="B", subclasses=True)
        class Kept:
            def __init__(self, sender: Any) -> None: ...

        return [bare(None), with_sender(None), empty(None), via(None), Kept.__name__]

    assert connect_all() == ["bare", "with sender", "empty", "via", "Kept"]
    gc.collect()
    assert heard(signal, A) == ["bare", "with sender", "empty", "via"]
    assert len(heard(signal, B)) == 3


WEAK: dict[str, tuple[Callable[[], Any], bool | None, bool]] = {
    # how to make it, weak=, still there afterwards
    "function": (lambda: lambda sender: 1, None, True),
    "function held weakly": (lambda: lambda sender: 1, True, False),
    "function held strongly": (lambda: lambda sender: 1, False, True),
    "method": (lambda: Owner().method, None, False),
    "method held strongly": (lambda: Owner().method, False, True),
    "object": (Owner, None, False),
    "object held strongly": (Owner, False, True),
    "builtin": (lambda: [].append, None, True),
    "class": (lambda: type("Local", (), {"__init__": lambda self, sender: None}), None, True),
}


@pytest.mark.parametrize("decorate", [False, True])
@pytest.mark.parametrize("name", WEAK)
def test_what_is_held(name: str, decorate: bool) -> None:
    make, weak, stays = WEAK[name]
    signal = Signal("changed")
    if decorate:
        signal.connect(weak=weak)(make())
        stays = weak is not True
    else:
        signal.connect(make(), weak=weak)
    gc.collect()
    assert bool(signal.receivers) is bool(heard(signal)) is bool(signal.connections) is stays


def test_receiver_that_is_false_is_a_receiver() -> None:
    class Empty(list[Any]):
        __slots__ = ("__weakref__",)

        def __call__(self, sender: Any) -> str:
            return "empty"

    signal, receiver = Signal("changed"), Empty()
    signal.connect(receiver)
    assert heard(signal) == ["empty"] and list(signal.receivers_for(None)) == [receiver]


def test_lookup_that_began_before_a_receiver_died() -> None:
    signal, owners = Signal("changed"), [Owner(), Owner()]
    for owner in owners:
        signal.connect(owner, A)
    found = signal.receivers_for(A)
    assert next(found)(None) == "object"
    del owner
    owners.clear()
    gc.collect()
    assert list(found) == []


def test_order_is_that_of_first_connection() -> None:
    signal = Signal("changed")
    signal.connect(third, A)
    signal.connect(first)
    signal.connect(second)
    assert heard(signal, B) == ["first", "second"]
    signal.connect(third)
    assert heard(signal, B) == heard(signal, A) == ["third", "first", "second"]
    signal.connect(first, A)
    signal.disconnect(first, ANY)
    signal.connect(first)
    assert heard(signal, B) == ["third", "second", "first"]
    assert list(signal.receivers.values()) == list(signal.receivers_for(A)) == [third, second, first]


def test_connecting_again_replaces_the_options_and_keeps_the_place() -> None:
    signal = Signal("changed", providing=["updated_fields"])
    signal.connect(first, errors="log")
    signal.connect(second)
    signal.connect(first, thread=True)
    found = signal.connections
    assert [(c.name, c.errors, c.thread) for c in found] == [
        (f"{__name__}.first", None, True),
        (f"{__name__}.second", None, False),
    ]
    signal.connect(first, when={"a": ANY})
    signal.connect(first, when={"a": ANY}, thread=True)
    signal.connect(first, when={"b": ANY})
    assert len(signal.connections) == 4, "other transitions are another connection"


def test_weak_connection_does_not_loosen_a_strong_one() -> None:
    signal = Signal("changed")
    owner = Owner()
    signal.connect(owner.method, A, weak=False)
    signal.connect(owner.method, B)
    del owner
    gc.collect()
    assert heard(signal, A) == heard(signal, B) == ["method"]


UID: list[tuple[str, list[tuple[Any, Any, Any]], Any, list[str]]] = [
    # connect (receiver, sender, uid), sent by, heard
    ("same uid and sender", [(first, ANY, "u"), (second, ANY, "u")], A, ["first"]),
    ("same uid, other sender", [(first, A, "u"), (second, B, "u")], B, ["second"]),
    ("other uid", [(first, ANY, "u"), (second, ANY, "v")], A, ["first", "second"]),
    ("other uid, same receiver", [(first, ANY, "u"), (first, ANY, "v")], A, ["first"]),
    ("same name", [(first, "A", "u"), (second, "A", "u")], A, ["first"]),
    ("no uid", [(first, ANY, None), (second, ANY, None)], A, ["first", "second"]),
]


@pytest.mark.parametrize(("_name", "connects", "sender", "expected"), UID, ids=[case[0] for case in UID])
def test_dispatch_uid(_name: str, connects: list[Any], sender: Any, expected: list[str]) -> None:
    signal = Signal("changed")
    for receiver, wanted, uid in connects:
        assert signal.connect(receiver, sender=wanted, dispatch_uid=uid) is receiver
    assert heard(signal, sender) == expected


def test_uid_of_a_dead_receiver_is_free_again() -> None:
    signal = Signal("changed")
    owner = Owner()
    signal.connect(owner.method, dispatch_uid="u")
    del owner
    gc.collect()
    signal.connect(first, dispatch_uid="u")
    assert heard(signal) == ["first"]


def test_disconnect_by_uid() -> None:
    signal = Signal("changed")
    told: list[Any] = []
    signal.receiver_disconnected.connect(lambda origin, **kw: told.append(kw), weak=False)
    signal.connect(first, A, dispatch_uid="u")
    signal.connect(second, B, dispatch_uid="u")
    signal.connect(third, A)
    signal.disconnect(dispatch_uid="u", sender=A)
    assert (heard(signal, A), heard(signal, B)) == (["third"], ["second"])
    signal.disconnect(dispatch_uid="u")
    signal.disconnect(dispatch_uid="unknown")
    assert (heard(signal, A), heard(signal, B)) == (["third"], [])
    assert told == [{"receiver": first, "sender": A}, {"receiver": second, "sender": ANY}]


def test_disconnect_needs_to_know_what() -> None:
    with pytest.raises(TypeError, match="a receiver or a dispatch_uid"):
        Signal("changed").disconnect()


def test_disconnect_does_not_ask_for_subclasses() -> None:
    signal = Signal("changed")
    signal.connect(first, A, subclasses=True)
    signal.disconnect(first, A)
    assert not signal.receivers


def test_connected_to_restores_what_was() -> None:
    signal = Signal("changed")
    told: list[Any] = []
    signal.receiver_disconnected.connect(lambda origin, **kw: told.append(kw), weak=False)
    signal.connect(first, A, errors="log")
    signal.connect(second)
    before = signal.connections
    with signal.connected_to(first, A):
        assert heard(signal, A) == ["first", "second"] and signal.connections != before
        with signal.connected_to(first, B):
            assert heard(signal, B) == ["first", "second"]
        assert heard(signal, B) == ["second"] and heard(signal, A) == ["first", "second"]
    assert signal.connections == before
    assert told == [{"receiver": first, "sender": B}], "the one that was there before is still there"


def test_connected_to_same_thing_nested_and_crossed() -> None:
    signal = Signal("changed")
    outer, inner = signal.connected_to(first), signal.connected_to(first)
    with outer:
        with inner:
            assert heard(signal) == ["first"]
        assert heard(signal) == ["first"]
    assert not signal.receivers
    one, two = signal.connected_to(first), signal.connected_to(first)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert heard(signal) == ["first"]
    two.__exit__(None, None, None)
    assert not signal.receivers, "what has ended must not come back"


def test_connected_to_brings_nothing_back_that_was_disconnected_inside() -> None:
    signal = Signal("changed")
    with signal.connected_to(first):
        signal.reset()
    assert not signal.receivers
    with signal.connected_to(first):
        signal.disconnect(first)
    assert not signal.receivers


def test_connected_to_with_a_uid_that_is_taken_undoes_nothing() -> None:
    signal = Signal("changed")
    signal.connect(first, dispatch_uid="u")
    with signal.connected_to(second, dispatch_uid="u"):
        assert heard(signal) == ["first"]
    assert heard(signal) == ["first"]


def test_muted_nests() -> None:
    signal = Signal("changed")
    signal.connect(first)
    with signal.muted():
        with signal.muted():
            assert heard(signal) == []
        assert signal.is_muted and heard(signal) == []
    assert heard(signal) == ["first"]


@pytest.mark.parametrize("how", ["assign", "reset", "clear state"])
def test_full_reset(how: str) -> None:
    signal = Signal("changed")
    owner = Owner()
    signal.connect(first, A)
    signal.connect(owner.method)
    signal.connect(second, "B")
    assert signal.has_receivers_for(A)
    if how == "assign":
        signal.receivers = {}
    elif how == "reset":
        signal.reset()
    else:
        signal._clear_state()
    assert not signal.receivers and signal.connections == ()
    assert not signal.has_receivers_for(A) and not signal.has_receivers_for(B)
    signal.connect(third, B)
    assert (heard(signal, A), heard(signal, B)) == ([], ["third"]), "the index by sender was not reset"


def test_receivers_can_be_put_back() -> None:
    signal = Signal("changed")
    owner = Owner()
    signal.connect(first, A)
    signal.connect(owner.method)
    before = signal.receivers
    signal.receivers = {}
    signal.connect(second)
    del owner
    gc.collect()
    signal.receivers = before
    assert heard(signal, A) == ["first"] and list(signal.receivers.values()) == [first]


def test_receivers_are_a_snapshot() -> None:
    signal = Signal("changed")
    owner = Owner()
    key = signal.connect(owner.method) and next(iter(signal.receivers))
    before = signal.receivers
    assert before[key](None) == "method" and key in before and len(before) == 1
    signal.connect(first)
    assert len(before) == 1
    with pytest.raises(TypeError, match=r"only .* can be assigned"):
        signal.receivers = {1: first}
    with pytest.raises(AttributeError):
        before.clear()
    del owner
    gc.collect()
    with pytest.raises(KeyError):
        before[key]


def test_dead_sender_is_forgotten() -> None:
    signal = Signal("changed")
    senders = [Owner() for _ in range(20)]
    for sender in senders:
        signal.connect(first, sender)
    signal.connect(first, B)
    assert len(signal.connections) == 21
    del senders, sender
    gc.collect()
    assert len(signal.connections) == 1


def test_class_at_the_address_of_a_dead_class_is_another_sender() -> None:
    signal = Signal("changed")
    signal.connect(first, "Old")
    for name in ("Old", "New") * 5:
        model = type(name, (), {})
        assert heard(signal, model) == (["first"] if name == "Old" else [])
        del model
        gc.collect()


def test_lookup_by_class_is_bounded_and_follows_connections() -> None:
    signal = Signal("changed")
    signal.connect(first, A, subclasses=True)
    models = [type("Model", (A,), {}) for _ in range(1100)]
    assert all(signal.has_receivers_for(model) for model in models)
    assert len(signal.receivers._by_class) < 1100
    signal.disconnect(first)
    signal.connect(second)
    assert heard(signal, models[0]) == ["second"]


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no callable": (7, {}, TypeError, "must be callable"),
    "needs what nobody provides": (lambda sender, missing: None, {}, TypeError, "needs 'missing'"),
    "generator": (lambda sender: (yield), {}, TypeError, "generator function"),
    "unknown option": (first, {"wait": 1}, TypeError, "unexpected keyword argument 'wait'"),
    "unknown policy": (first, {"errors": "ignore"}, ValueError, "'raise' or 'log'"),
    "when without pairs": (first, {"when": {"status": "live"}}, TypeError, "when= needs a pair"),
    "subclasses of any": (first, {"subclasses": True}, TypeError, "needs a class"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_connections_leave_nothing(name: str) -> None:
    receiver, options, error, message = REFUSED[name]
    signal = Signal("changed", providing=["updated_fields"])
    with pytest.raises(error, match=message):
        signal.connect(receiver, **options)
    assert not signal.receivers


def test_async_receivers_need_no_thread() -> None:
    async def receiver(sender: Any) -> None: ...

    with pytest.raises(TypeError, match="cannot run in a thread"):
        Signal("changed").connect(receiver, thread=True)


def test_when_needs_updated_fields() -> None:
    for signal in (Signal("changed"), Signal("changed", providing=["instance"])):
        with pytest.raises(TypeError, match="changed does not provide"):
            signal.connect(first, when={"status": ANY})


def test_unknown_name_warns_at_the_line_that_connects() -> None:
    signal = Signal("changed", known_sender={"User"}.__contains__)
    signal.connect(first, sender="User")
    signal.connect(first, sender=A)
    with pytest.warns(UnknownSenderWarning, match=r"first is connected to 'Usr'.* of changed") as caught:
        signal.connect(first, sender="Usr")
    assert caught[0].filename == __file__
    with pytest.warns(UnknownSenderWarning) as caught:
        signal.connect_via("Usr")(second)
    assert caught[0].filename == __file__
    assert len(signal.connections) == 4


def test_warning_as_error_connects_nothing() -> None:
    signal = Signal("changed", known_sender=lambda name: False)
    with pytest.raises(UnknownSenderWarning):
        signal.connect(first, sender="Usr")
    assert not signal.receivers


def test_connecting_from_many_threads_while_sending() -> None:
    signal = Signal("changed")
    calls: list[Any] = []
    start = threading.Barrier(9)
    failed: list[BaseException] = []

    def connect(number: int) -> None:
        start.wait()
        for index in range(40):
            signal.connect(lambda sender, at=(number, index): calls.append(at), sender=A)
            signal.connect(Owner().method)

    def send() -> None:
        start.wait()
        try:
            while len(signal.send(A)) < 320:
                signal.has_receivers_for(B)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=connect, args=(n,)) for n in range(8)] + [
        threading.Thread(target=send)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads)
    calls.clear()
    assert len(signal.send(A)) == 320
    assert sorted(calls) == [(number, index) for number in range(8) for index in range(40)]
    for number in range(8):
        own = [index for at, index in calls if at == number]
        assert own == sorted(own), "one thread's connections are out of order"
