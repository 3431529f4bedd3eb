"""Sending: order, plain and asynchronous receivers, errors, votes, queues."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import tornado.gen

from bzz.dispatcher import ANY, Connection, Signal, set_transport
from bzz.errors import ExitEarly


class Model: ...


class Refusal(Exception): ...


def records(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "bzz.signals"]


# Kinds of receivers: each appends its mark to `log` when it has run to its end.


def plain(log: list[Any], mark: Any) -> Any:
    return lambda sender: log.append(mark)


def coroutine(log: list[Any], mark: Any) -> Any:
    async def receiver(sender: Any) -> None:
        await asyncio.sleep(0)
        log.append(mark)

    return receiver


def returning_coroutine(log: list[Any], mark: Any) -> Any:
    return lambda sender: coroutine(log, mark)(sender)


def returning_task(log: list[Any], mark: Any) -> Any:
    return lambda sender: asyncio.ensure_future(coroutine(log, mark)(sender))


def tornado_coroutine(log: list[Any], mark: Any) -> Any:
    @tornado.gen.coroutine
    def receiver(sender: Any) -> Any:
        yield tornado.gen.moment
        log.append(mark)

    return receiver


def plain_returning_tornado(log: list[Any], mark: Any) -> Any:
    return lambda sender: tornado_coroutine(log, mark)(sender)


def object_with_async_call(log: list[Any], mark: Any) -> Any:
    class Receiver:
        async def __call__(self, sender: Any) -> None:
            await asyncio.sleep(0)
            log.append(mark)

    return Receiver()


def object_with_call(log: list[Any], mark: Any) -> Any:
    class Receiver:
        def __call__(self, sender: Any) -> None:
            log.append(mark)

    return Receiver()


def partial(log: list[Any], mark: Any) -> Any:
    return functools.partial(lambda added, sender: log.append(mark), "added")


def async_partial(log: list[Any], mark: Any) -> Any:
    async def receiver(added: str, sender: Any) -> None:
        await asyncio.sleep(0)
        log.append(mark)

    return functools.partial(receiver, "added")


def bound_method(log: list[Any], mark: Any) -> Any:
    class Owner:
        async def method(self, sender: Any) -> None:
            await asyncio.sleep(0)
            log.append(mark)

    return Owner().method


def wrapped_coroutine(log: list[Any], mark: Any) -> Any:
    inner = coroutine(log, mark)

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return wrapper


PLAIN = [plain, object_with_call, partial]
KNOWN_ASYNC = [coroutine, tornado_coroutine, object_with_async_call, async_partial, bound_method]
SEEN_LATE = [returning_coroutine, returning_task, plain_returning_tornado, wrapped_coroutine]


async def test_all_kinds_run_to_their_end_one_after_another_in_order() -> None:
    signal, log, kinds = Signal("changed"), [], [*PLAIN, *KNOWN_ASYNC, *SEEN_LATE] * 3
    expected = [(kind.__name__, index) for index, kind in enumerate(kinds)]
    receivers = [kind(log, mark) for kind, mark in zip(kinds, expected, strict=True)]
    for receiver in receivers:
        assert signal.connect(receiver) is receiver
    results = await signal.send_async(Model)
    assert log == expected
    assert results == [(receiver, None) for receiver in receivers]


async def test_next_receiver_waits_for_the_one_before() -> None:
    signal, log = Signal("changed"), []
    open_ = asyncio.Event()

    @signal.connect
    async def slow(sender: Any) -> str:
        log.append("begun")
        await open_.wait()
        log.append("done")
        return "slow"

    signal.connect(lambda sender: log.append("next"))
    sending = asyncio.create_task(signal.send_async(Model))
    while not log:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert log == ["begun"]
    open_.set()
    assert (await sending)[0] == (slow, "slow")
    assert log == ["begun", "done", "next"]


@pytest.mark.parametrize("errors", ["raise", "log", "defer"])
@pytest.mark.parametrize("kind", KNOWN_ASYNC)
def test_plain_send_refuses_before_anybody_is_called(kind: Any, errors: Any) -> None:
    signal, log = Signal("changed", errors=errors), []
    signal.connect(plain(log, "plain"))
    receiver = signal.connect(kind(log, "async"), sender=Model)
    with pytest.raises(RuntimeError, match=r"Receiver|receiver|method.*send_async\(\) of changed"):
        signal.send(Model)
    assert log == [] and receiver
    signal.send(ANY)
    assert log == ["plain"], "nobody asynchronous hears this sender"


@pytest.mark.parametrize("errors", ["raise", "log", "defer"])
@pytest.mark.parametrize("kind", [returning_coroutine, wrapped_coroutine])
def test_plain_send_refuses_what_turns_out_to_be_awaitable(kind: Any, errors: Any) -> None:
    signal, log = Signal("changed", errors=errors), []
    signal.connect(kind(log, "async"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match="returned an awaitable"):
            signal.send(Model)
        gc.collect()
    assert log == [] and not caught, "a coroutine was never awaited nor closed"


async def test_plain_send_cancels_a_task_that_nobody_would_await() -> None:
    signal, tasks = Signal("changed"), []

    @signal.connect
    def receiver(sender: Any) -> Any:
        tasks.append(asyncio.ensure_future(asyncio.sleep(60)))
        return tasks[0]

    with pytest.raises(RuntimeError, match="returned an awaitable"):
        signal.send(Model)
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


def test_plain_send_refuses_an_awaitable_that_cannot_be_ended() -> None:
    class Awaitable:
        def __await__(self) -> Iterator[None]:
            yield

    signal = Signal("changed")
    signal.connect(lambda sender: Awaitable())
    with pytest.raises(RuntimeError, match="returned an awaitable"):
        signal.send(Model)


def run(receiver: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: asyncio.run(receiver(*args, **kwargs))


@pytest.mark.parametrize("kind", [*PLAIN, *KNOWN_ASYNC, returning_coroutine, wrapped_coroutine])
def test_async_wrapper_of_blinker(kind: Any) -> None:
    signal, log = Signal("changed"), []
    receiver = kind(log, kind)
    signal.connect(receiver)
    assert signal.send(Model, _async_wrapper=run) == [(receiver, None)]
    assert log == [kind]


async def test_sync_wrapper_of_blinker() -> None:
    signal, log = Signal("changed"), []
    wrapped: list[Any] = []

    def wrapper(receiver: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            wrapped.append(receiver)
            return receiver(*args, **kwargs)

        return call

    receivers = [signal.connect(kind(log, kind)) for kind in (plain, coroutine, returning_coroutine)]
    threaded = signal.connect(lambda sender: log.append("thread"), thread=True)
    await signal.send_async(Model, _sync_wrapper=wrapper)
    assert log == [plain, coroutine, returning_coroutine, "thread"]
    assert wrapped == [receivers[0], receivers[2]] and threaded


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.mark.parametrize("thread", [False, True])
async def test_thread(thread: bool) -> None:
    signal = Signal("changed")
    variable.set("kept")
    signal.connect(lambda sender, a: (threading.get_ident(), variable.get(), sender, a), thread=thread)
    [(_, (ident, value, sender, a))] = await signal.send_async(Model, a=1)
    assert (ident == threading.get_ident()) is not thread
    assert (value, sender, a) == ("kept", Model, 1)


async def test_thread_does_not_hold_up_the_loop() -> None:
    signal, beats = Signal("changed"), []
    beaten = threading.Event()
    signal.connect(lambda sender: beaten.wait(10), thread=True)

    async def beat() -> None:
        for _ in range(5):
            beats.append(await asyncio.sleep(0))
        beaten.set()

    beating = asyncio.create_task(beat())
    [(_, was_set)] = await signal.send_async(Model)
    await beating
    assert was_set and len(beats) == 5


@pytest.mark.parametrize("error", [Refusal, StopIteration, KeyError])
async def test_errors_in_a_thread(error: type[Exception]) -> None:
    signal = Signal("changed", errors="log")

    def receiver(sender: Any) -> None:
        raise error("from the thread")

    signal.connect(receiver, thread=True)
    await asyncio.wait_for(signal.send_async(Model), 10)
    assert signal.failures == 1


async def test_awaitable_returned_in_a_thread_is_awaited_on_the_loop() -> None:
    signal = Signal("changed")

    async def later() -> int:
        return threading.get_ident()

    signal.connect(lambda sender: later(), thread=True)
    assert (await signal.send_async(Model))[0][1] == threading.get_ident()


# Errors. "x" raises, "." does not, "e" exits early; overrides: X raises, L logs.

POLICIES: list[tuple[str, str, str, str | None, int]] = [
    # policy of the signal, receivers, which of them run, which error is raised, failures
    ("raise", "...", "012", None, 0),
    ("raise", ".x.", "01", "1", 0),
    ("raise", "xx.", "0", "0", 0),
    ("raise", ".X.", "01", "1", 0),
    ("raise", "L..", "012", None, 1),
    ("raise", "LxL", "01", "1", 1),
    ("log", "...", "012", None, 0),
    ("log", "xx.", "012", None, 2),
    ("log", "X..", "012", "0", 1),
    ("log", "xX.X", "0123", "1", 3),
    ("log", "LX.", "012", "1", 2),
    ("defer", "...", "012", None, 0),
    ("defer", ".x.", "012", "1", 1),
    ("defer", "xx.", "012", "0", 2),
    ("defer", "Lx.", "012", "1", 2),
    ("defer", "L..", "012", None, 1),
    ("raise", "Le.", "01", "1", 1),
    ("log", "x.e.", "0123", "2", 1),
    ("log", "Xe.", "012", "1", 1),
    ("log", "eX.", "012", "0", 1),
    ("log", "ee.", "012", "1", 0),
    ("defer", "xe.", "012", "1", 1),
]


def failing(log: list[str], mark: str, how: str, kind: str) -> Any:
    def receiver(sender: Any) -> str:
        log.append(mark)
        if how != ".":
            raise ExitEarly(mark) if how == "e" else Refusal(mark)
        return mark

    async def async_receiver(sender: Any) -> str:
        await asyncio.sleep(0)
        return receiver(sender)

    return async_receiver if kind == "async" else receiver


@pytest.mark.parametrize("kind", ["plain", "async", "sent plain"])
@pytest.mark.parametrize(("errors", "receivers", "run", "raised", "failures"), POLICIES)
async def test_policies(
    errors: Any,
    receivers: str,
    run: str,
    raised: str | None,
    failures: int,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    signal, log = Signal("changed", errors=errors), []
    override: dict[str, Any] = {"X": "raise", "L": "log"}
    for index, how in enumerate(receivers):
        signal.connect(failing(log, str(index), how, kind), errors=override.get(how))
    results: list[Any] = []
    try:
        results = signal.send(Model) if kind == "sent plain" else await signal.send_async(Model)
    except (Refusal, ExitEarly) as error:
        assert str(error) == raised
        assert error.__traceback__ is not None
    else:
        assert raised is None
        assert [result for _, result in results] == [str(i) for i, how in enumerate(receivers) if how == "."]
    assert "".join(log) == run
    assert signal.failures == sum(connection.failures for connection in signal.connections) == failures
    put_off = raised is not None and errors != "raise" and receivers[int(raised)] != "e"
    assert len(records(caplog)) == failures - put_off
    for record in caplog.records:
        assert record.exc_info is not None and record.levelno == logging.ERROR
        assert "receiver failed on changed" in record.getMessage() and "Refusal" in caplog.text


@pytest.mark.parametrize("errors", ["raise", "log", "defer"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
async def test_what_is_no_exception_goes_through(error: type[BaseException], errors: Any) -> None:
    signal, log = Signal("changed", errors=errors), []

    def receiver(sender: Any) -> None:
        raise error

    signal.connect(receiver)
    signal.connect(plain(log, "next"))
    with pytest.raises(error):
        signal.send(Model)
    sending = signal.send_async(Model)
    with pytest.raises(error):
        sending.send(None)
    assert log == [] and signal.failures == 0


@pytest.mark.parametrize("errors", ["raise", "log", "defer"])
async def test_cancelling_ends_the_sending(errors: Any) -> None:
    signal, log = Signal("changed", errors=errors), []

    @signal.connect
    async def receiver(sender: Any) -> None:
        log.append("begun")
        await asyncio.sleep(60)

    signal.connect(plain(log, "next"))
    sending = asyncio.create_task(signal.send_async(Model))
    while not log:
        await asyncio.sleep(0)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert log == ["begun"]


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 'raise', 'log' or 'defer'"):
        Signal("changed", errors="ignore")


def test_missing_key_is_the_error_of_the_receiver(caplog: pytest.LogCaptureFixture) -> None:
    signal, log = Signal("changed", errors="log"), []
    signal.connect(lambda sender, missing: None)
    signal.connect(plain(log, "next"))
    signal.send(Model, given=1)
    assert log == ["next"] and signal.failures == 1 and "needs 'missing'" in caplog.text


async def test_names_of_the_signal_cannot_be_payload() -> None:
    signal = Signal("changed")
    signal.connect(lambda **kw: None)
    with pytest.raises(TypeError, match="'sender' or 'signal'"):
        signal.send(Model, sender=1)
    with pytest.raises(TypeError, match="'sender' or 'signal'"):
        await signal.send_async(Model, signal=1)


# What is sent to whom


async def test_nobody() -> None:
    signal = Signal("changed")
    assert signal.send(Model, a=1) == await signal.send_async(Model, a=1) == []
    signal.connect(plain([], 1), sender="Other")
    assert signal.send(Model, a=1) == await signal.send_async(Model, a=1) == []


async def test_muted() -> None:
    signal, log = Signal("changed"), []
    signal.connect(coroutine(log, 1))
    with signal.muted():
        assert signal.send(Model) == await signal.send_async(Model) == []
    assert log == []


async def test_transitions() -> None:
    signal, log = Signal("changed", providing=["instance", "updated_fields"]), []

    def receiver(sender: Any, instance: Any) -> None:
        log.append(instance)

    signal.connect(receiver, sender=Model, when={"status": ("draft", "live")})
    signal.connect(receiver, sender=Model, when={"status": (ANY, "gone")})
    for number, (before, after) in enumerate([("draft", "live"), ("live", "draft"), ("live", "gone")]):
        await signal.send_async(
            Model, instance=number, updated_fields={"status": {"from": before, "to": after}}
        )
    await signal.send_async(Model, instance="other", updated_fields={"title": {"from": "a", "to": "b"}})
    await signal.send_async(Model, instance="none")
    assert log == [0, 2]


async def test_receiver_is_called_once_by_its_first_matching_connection() -> None:
    signal, log = Signal("changed", providing=["updated_fields"]), []

    def receiver(sender: Any) -> None:
        log.append(sender)
        raise Refusal

    signal.connect(receiver, sender=Model, when={"a": ANY}, errors="log")
    signal.connect(receiver, sender="Model")
    signal.connect(receiver)
    signal.send(Model, updated_fields={"a": {"from": 1, "to": 2}})
    with pytest.raises(Refusal):
        signal.send(Model, updated_fields={})
    assert log == [Model, Model]


async def test_connecting_and_disconnecting_while_sending_counts_from_the_next_time() -> None:
    signal, log = Signal("changed"), []

    def last(sender: Any) -> None:
        log.append("last")

    def once(sender: Any) -> None:
        log.append("once")
        signal.disconnect(once)
        signal.disconnect(last)
        signal.connect(added)

    def added(sender: Any) -> None:
        log.append("added")

    signal.connect(once)
    signal.connect(last)
    signal.send(Model)
    assert log == ["once", "last"]
    signal.send(Model)
    assert log == ["once", "last", "added"]


async def test_receiver_does_not_die_while_it_is_sent_to() -> None:
    signal, log = Signal("changed"), []
    receivers = [object_with_async_call(log, "dies")]
    signal.connect(lambda sender: receivers.clear())
    signal.connect(receivers[0])
    await signal.send_async(Model)
    assert log == ["dies"]
    gc.collect()
    assert len(signal.receivers) == 1


async def test_concurrent_sendings_do_not_mix() -> None:
    signal, log = Signal("changed"), []

    def receiver(place: int) -> Any:
        async def run(sender: Any, number: int) -> None:
            await asyncio.sleep(0)
            log.append((number, place))

        return run

    for place in range(5):
        signal.connect(receiver(place))
    await asyncio.gather(*(signal.send_async(Model, number=number) for number in range(500)))
    assert len(log) == 2500
    for number in range(500):
        assert [place for at, place in log if at == number] == [0, 1, 2, 3, 4]


def test_what_a_signal_tells_about_itself() -> None:
    described = Signal("changed", "Sent after.", errors="log", providing={"a": "The a.", "**rest": "More."})
    assert (described.name, described.doc, described.__doc__) == ("changed", "Sent after.", "Sent after.")
    assert described.payload == {"a": "The a.", "**rest": "More."}
    assert described.providing == ("a", "**rest") and described.errors == "log" and not described.voting
    assert "'changed'" in repr(described)
    described.connect(lambda a, anything: None)
    assert "<lambda>" in repr(described.connections[0])


# Queues


class Recorder:
    """A transport that keeps what it is given, and fails when told to."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Signal, str | None, str | None, Any, dict[str, Any]]] = []
        self.error: Exception | None = None

    async def publish(
        self, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        await asyncio.sleep(0)
        self._keep("async", signal, connection, sender, payload)

    def publish_blocking(
        self, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        self._keep("blocking", signal, connection, sender, payload)

    def _keep(
        self, how: str, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        if self.error is not None:
            raise self.error
        self.published.append((how, signal, connection.queue, connection.wire_name, sender, dict(payload)))


@pytest.fixture
def transport() -> Iterator[Recorder]:
    before = Signal.transport
    recorder = Recorder()
    set_transport(recorder)
    yield recorder
    set_transport(before)


async def mailed(sender: Any, instance: Any) -> Any:
    return sender, instance


async def test_queue_publishes_in_order_and_calls_nobody(transport: Recorder) -> None:
    signal, log = Signal("changed"), []
    signal.connect(lambda sender, instance: log.append(len(transport.published)))
    signal.connect(mailed, queue="mail", sender=Model)
    signal.connect(lambda instance: log.append(len(transport.published)))
    assert [result for _, result in await signal.send_async(Model, instance=1)] == [None] * 3
    name = f"{__name__}:mailed"
    assert transport.published == [("async", signal, "mail", name, Model, {"instance": 1})]
    assert log == [0, 1]
    await signal.send_async(ANY, instance=1)
    assert len(transport.published) == 1, "the sender is compared before publishing"
    signal.send(Model, instance=2)
    assert transport.published[1] == ("blocking", signal, "mail", name, Model, {"instance": 2})


async def test_connection_delivers_where_it_arrives(transport: Recorder) -> None:
    signal = Signal("changed", errors="log")
    signal.connect(mailed, queue="mail")
    [connection] = signal.connections
    assert connection.wire_name == f"{__name__}:mailed"
    assert await signal.deliver(connection, Model, {"instance": 1, "handler": 2}) == (Model, 1)
    with pytest.raises(TypeError, match="needs 'instance'"):
        await signal.deliver(connection, Model, {})
    owner = object_with_async_call([], 1)
    signal.connect(owner)
    gone = signal.connections[1]
    del owner
    gc.collect()
    assert await signal.deliver(gone, Model, {}) is None


async def test_failure_to_publish_is_the_receiver_s(transport: Recorder) -> None:
    transport.error = ConnectionError("no broker")
    for errors, failures in (("log", 1), ("raise", 0)):
        signal = Signal("changed", errors=errors)
        signal.connect(mailed, queue="mail")
        if errors == "log":
            await signal.send_async(Model)
        else:
            with pytest.raises(ConnectionError):
                await signal.send_async(Model)
        assert signal.failures == failures


def test_queue_needs_a_name_that_another_process_knows(transport: Recorder) -> None:
    signal = Signal("changed")
    with pytest.raises(ValueError, match="cannot be received through a queue"):
        signal.connect(lambda sender: None, queue="mail")
    assert not signal.receivers


@pytest.mark.parametrize("errors", ["raise", "log", "defer"])
def test_vote_in_another_process_is_refused(transport: Recorder, errors: Any) -> None:
    signal = Signal("pre_change", errors=errors, voting=True)
    with pytest.raises(ValueError, match="a vote cannot be taken in another process"):
        signal.connect(mailed, queue="mail")
    assert not signal.receivers


async def test_queue_needs_a_transport(transport: Recorder) -> None:
    signal = Signal("changed")
    signal.connect(mailed, queue="mail")
    set_transport(None)
    with pytest.raises(RuntimeError, match="needs a transport"):
        signal.connect(mailed, queue="other")
    with pytest.raises(RuntimeError, match="no transport"):
        await signal.send_async(Model, instance=1)
