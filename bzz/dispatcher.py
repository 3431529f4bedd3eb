"""A Blinker signal whose receivers run in order, plain or asynchronous, each with the arguments it names.

What is Blinker's keeps Blinker's meaning. What is added: receivers are called in the order in which they
were first connected; :meth:`Signal.send_async` calls plain and asynchronous ones alike; senders go by class
or by name; errors follow a policy.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

import blinker
from blinker import ANY

from bzz.connection import Connection, Receivers, SenderFilter, Transitions
from bzz.errors import UnknownSenderWarning
from bzz.receiver import OWN_NAMES, receiver_key

__all__ = ["ANY", "Connection", "Options", "Signal", "Transport", "set_transport"]

Receiver = Callable[..., Any]
Results = list[tuple[Receiver, Any]]
F = TypeVar("F", bound=Receiver)

_LOGGER: Final = logging.getLogger("bzz.signals")


class Options(TypedDict, total=False):
    """What ``connect`` takes besides receiver, sender and weak.

    - ``subclasses``: subclasses of the sender count too.
    - ``when``: only these changes, see :class:`~bzz.connection.Transitions`; for signals with ``updated_fields``.
    - ``thread``: a plain receiver runs in a thread when the signal is sent asynchronously.
    - ``errors``: ``"raise"`` or ``"log"``, instead of the policy of the signal.
    - ``dispatch_uid``: the same uid and sender connect once; what comes later is ignored.
    - ``queue``: the receiver runs in a worker that takes from this queue.
    """

    subclasses: bool
    when: Mapping[str, Any] | None
    thread: bool
    errors: Literal["raise", "log"] | None
    dispatch_uid: Hashable
    queue: str | None


class Transport(Protocol):
    """What carries a signal to receivers in another process.

    ``connection.queue`` is where to, ``connection.wire_name`` who is to receive it there. The sender and the
    filters of the connection have been compared already. An error raised here counts as the receiver's.
    """

    async def publish(
        self, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        """Hand it over without blocking the event loop."""

    def publish_blocking(
        self, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        """Hand it over from code that may block."""


def set_transport(transport: Transport | None) -> None:
    """Install what carries signals to receivers with ``queue=``, for the whole process."""
    Signal.transport = transport


class Signal(blinker.NamedSignal):
    """A named signal.

    ``errors`` says what an error of a receiver does: with ``"raise"`` it ends the sending and is raised; with
    ``"log"`` every receiver runs, errors are logged to ``bzz.signals`` with their traceback and counted in
    ``failures``; with ``"defer"`` every receiver runs, then the first error is raised. An error of a receiver
    connected with ``errors="raise"`` to a signal that logs is deferred likewise. What is no
    :exc:`Exception` (cancellation, the end of the process) always goes through at once.

    ``providing`` are the keys of the payload, with descriptions if it is a mapping. When it is not empty, a
    receiver that needs anything else is refused when it connects, unless a key that starts with ``**`` says
    that more may come. ``known_sender`` tells which names senders can have; connecting to another one warns.
    ``voting`` says that what receivers return or raise decides something: none of them can be in another
    process.
    """

    transport: ClassVar[Transport | None] = None

    def __init__(
        self,
        name: str,
        doc: str | None = None,
        *,
        errors: Literal["raise", "log", "defer"] = "raise",
        providing: Iterable[str] | Mapping[str, str] = (),
        known_sender: Callable[[str], bool] | None = None,
        voting: bool = False,
    ) -> None:
        self._lock = threading.RLock()
        self._receivers = Receivers({})
        self._is_stale = False
        self._mutes = 0
        super().__init__(name, doc)
        if errors not in {"raise", "log", "defer"}:
            raise ValueError(f"errors= must be 'raise', 'log' or 'defer', not {errors!r}")
        self.doc = doc
        self.errors = errors
        described = providing if isinstance(providing, Mapping) else dict.fromkeys(providing, "")
        self.payload: Mapping[str, str] = dict(described)
        self.providing = tuple(self.payload)
        self.known_sender = known_sender
        self.voting = voting
        self.failures = 0
        is_open = not self.providing or any(key.startswith("**") for key in self.providing)
        self._provides = None if is_open else frozenset(self.providing)

    # What is connected

    @property
    def receivers(self) -> Receivers:  # type: ignore[override]  # Blinker: "not part of the public API"
        """The receivers connected now; true if there are any. Assign ``{}`` to disconnect everything."""
        return self._live()

    @receivers.setter
    def receivers(self, value: Mapping[Any, Any]) -> None:
        if value and not isinstance(value, Receivers):
            raise TypeError("only {} or what was read from receivers can be assigned; use connect()")
        with self._lock:
            self._receivers = Receivers(value.by_key if isinstance(value, Receivers) else {})
            self._is_stale = True

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Every connection, receivers in the order in which they were first connected."""
        return self._live().connections()

    @property
    def is_muted(self) -> bool:  # type: ignore[override]  # a count, so that muted() nests
        """Whether sending reaches nobody."""
        return self._mutes > 0

    @is_muted.setter
    def is_muted(self, value: bool) -> None:
        self._mutes = int(value)

    def reset(self) -> None:
        """Disconnect everything."""
        self.receivers = {}

    _clear_state = reset

    def _live(self) -> Receivers:
        if self._is_stale:
            with self._lock:
                self._is_stale = False
                if any(connection.is_dead for connection in self._receivers.connections()):
                    self._receivers = self._receivers.without(lambda connection: connection.is_dead)
        return self._receivers

    def _mark_stale(self, _reference: Any) -> None:
        # Called by the garbage collector, at any moment, in any thread: taking a lock here could deadlock.
        self._is_stale = True

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether anybody hears this sender. It costs next to nothing; ``when`` is not looked at."""
        return bool(self._receivers.by_key) and bool(self._live().for_sender(sender))

    def receivers_for(self, sender: Any) -> Generator[Receiver, None, None]:
        """Yield what hears this sender, in order: the callables that were connected, those still alive."""
        for found in self._live().for_sender(sender):
            receiver = next(filter(None, (connection.receiver for connection in found)), None)
            if receiver is not None:
                yield receiver

    # Connecting

    @overload
    def connect(
        self, receiver: F, sender: Any = ANY, weak: bool | None = None, **options: Unpack[Options]
    ) -> F: ...

    @overload
    def connect(
        self, receiver: None = None, sender: Any = ANY, weak: bool | None = None, **options: Unpack[Options]
    ) -> Callable[[F], F]: ...

    def connect(
        self, receiver: Any = None, sender: Any = ANY, weak: bool | None = None, **options: Unpack[Options]
    ) -> Any:
        """Call ``receiver`` when ``sender`` sends the signal. Return it, so that this decorates too.

        Without a receiver, return a decorator. ``sender`` is any object, or a name: ``"User"`` is the class of
        that name. With ``weak=None`` functions are held strongly, bound methods and callable objects weakly;
        what is decorated with options is always held strongly. The other options are in :class:`Options`.

        A receiver is called once, also when several of its connections match. Connecting it again to the same
        sender replaces its options and keeps its place. Raises :exc:`TypeError` for what could never work: a
        receiver that needs what the signal does not provide, a generator function, ``when`` without
        ``updated_fields``.
        """
        if receiver is not None:
            self._connect(receiver, sender, weak, options)
            return receiver

        def decorate(function: F) -> F:
            self._connect(function, sender, bool(weak), options)
            return function

        return decorate

    def connect_via(
        self, sender: Any, weak: bool | None = False, **options: Unpack[Options]
    ) -> Callable[[F], F]:
        """Return a decorator that connects a receiver to this sender."""
        return self.connect(None, sender, weak, **options)

    @contextmanager
    def connected_to(
        self, receiver: Receiver, sender: Any = ANY, **options: Unpack[Options]
    ) -> Generator[None, None, None]:
        """Connect a receiver while the block runs, then undo just that: earlier connections stay or return."""
        connection = self._connect(receiver, sender, False, options, temporary=True)
        try:
            yield None
        finally:
            if connection is not None:
                self._undo(connection)

    def _connect(
        self, receiver: Any, sender: Any, weak: bool | None, options: Options, *, temporary: bool = False
    ) -> Connection | None:
        connection = self._new_connection(receiver, sender, weak, **options)
        uid, name = connection.dispatch_uid, connection.sender.name
        if name is not None and self.known_sender is not None and not self.known_sender(name):
            message = (
                f"{connection.name} is connected to {name!r}, a name that no sender of {self.name} has yet"
            )
            warnings.warn(message, UnknownSenderWarning, stacklevel=3)
        with self._lock:
            live = self._live()
            if uid is not None and any(c.is_same_dispatch(connection) for c in live.connections()):
                return None
            if temporary:
                connection.earlier = live.replaced_by(connection)
            self._receivers = live.with_new(connection)
        if "receiver_connected" in self.__dict__ and self.receiver_connected.receivers:
            try:
                self.receiver_connected.send(self, receiver=receiver, sender=sender, weak=connection.weak)
            except TypeError:  # as Blinker does
                self.disconnect(receiver, sender)
                raise
        return connection

    def _new_connection(
        self,
        receiver: Any,
        sender: Any,
        weak: bool | None,
        *,
        subclasses: bool = False,
        when: Mapping[str, Any] | None = None,
        thread: bool = False,
        errors: Literal["raise", "log"] | None = None,
        dispatch_uid: Hashable = None,
        queue: str | None = None,
    ) -> Connection:
        if when is not None and "updated_fields" not in self.providing:
            raise TypeError(f"when= needs updated_fields, which {self.name} does not provide")
        if queue is not None and self.voting:
            raise ValueError(
                f"queue= is not possible for {self.name}: a vote cannot be taken in another process"
            )
        if queue is not None and self.transport is None:
            raise RuntimeError("queue= needs a transport: import bzz.async_signals, or call set_transport()")
        return Connection(
            receiver,
            SenderFilter(sender, subclasses, self._mark_stale),
            weak=weak,
            provides=self._provides,
            transitions=None if when is None else Transitions(when),
            thread=thread,
            errors=errors,
            dispatch_uid=dispatch_uid,
            queue=queue,
            on_death=self._mark_stale,
        )

    def _undo(self, connection: Connection) -> None:
        with self._lock:
            connection.is_over = True
            if connection not in self._receivers.connections():
                return
            earlier = connection.earlier
            while earlier is not None and earlier.is_over:
                earlier = earlier.earlier
            self._receivers = self._receivers.with_other(connection, earlier)
        self._tell_disconnected(connection.receiver, connection.sender.value)

    def disconnect(
        self, receiver: Receiver | None = None, sender: Any = ANY, *, dispatch_uid: Hashable = None
    ) -> None:
        """Disconnect a receiver, or whatever has this uid, from one sender or, told none, from all of them.

        What is not connected is no error.
        """
        if receiver is None and dispatch_uid is None:
            raise TypeError("disconnect() needs a receiver or a dispatch_uid")
        key = receiver_key(receiver)
        removed: list[Receiver | None] = [] if dispatch_uid is not None else [receiver]

        def is_meant(connection: Connection) -> bool:
            if sender is not ANY and not connection.sender.is_for(sender):
                return False
            if dispatch_uid is None:
                return connection.key == key
            if connection.dispatch_uid == dispatch_uid:
                removed.append(connection.receiver)
                return True
            return False

        with self._lock:
            self._receivers = self._live().without(is_meant)
        for gone in removed:
            self._tell_disconnected(gone, sender)

    def _tell_disconnected(self, receiver: Receiver | None, sender: Any) -> None:
        if "receiver_disconnected" in self.__dict__ and self.receiver_disconnected.receivers:
            self.receiver_disconnected.send(self, receiver=receiver, sender=sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Let sending reach nobody while the block runs. Blocks can be nested."""
        with self._lock:
            self._mutes += 1
        try:
            yield None
        finally:
            with self._lock:
                self._mutes = max(0, self._mutes - 1)

    # Sending

    def send(
        self,
        sender: Any | None = None,
        /,
        *,
        _async_wrapper: Callable[[Receiver], Receiver] | None = None,
        **payload: Any,
    ) -> Results:
        """Call the receivers in order and return (receiver, what it returned) for each that did not fail.

        Raises :exc:`RuntimeError` before anybody is called if one of them is asynchronous and there is no
        ``_async_wrapper`` to make it plain: nobody can overlook a veto by forgetting to await. A plain receiver
        that turns out to return an awaitable is the same error.
        """
        if not self._receivers.by_key or self._mutes:
            return []
        calls = self._calls(sender, payload)
        if _async_wrapper is None:
            for connection, _ in calls:
                if connection.is_async and connection.queue is None:
                    raise RuntimeError(f"{connection.name} is asynchronous: use send_async() of {self.name}")
        results: Results = []
        put_off: list[Exception] = []
        for connection, receiver in calls:
            try:
                result = self._call_blocking(connection, receiver, sender, payload, _async_wrapper)
            except Exception as error:
                if self._ends_with(error, connection, put_off):
                    raise
                continue
            if inspect.isawaitable(result):
                _discard(result)
                raise RuntimeError(
                    f"{connection.name} returned an awaitable: use send_async() of {self.name}"
                )
            results.append((receiver, result))
        if put_off:
            raise put_off[0]
        return results

    async def send_async(
        self,
        sender: Any | None = None,
        /,
        *,
        _sync_wrapper: Callable[[Receiver], Callable[..., Awaitable[Any]]] | None = None,
        **payload: Any,
    ) -> Results:
        """Call and await the receivers one after another and return (receiver, result) as :meth:`send` does.

        Plain receivers run here and now, so they must be quick, or in a thread if they were connected with
        ``thread=True``. Cancelling ends the sending where it is; a thread that has begun goes on by itself.
        """
        if not self._receivers.by_key or self._mutes:
            return []
        results: Results = []
        put_off: list[Exception] = []
        for connection, receiver in self._calls(sender, payload):
            try:
                if connection.queue is not None:
                    result = await self._transport().publish(self, connection, sender, payload)
                else:
                    result = await self._call(connection, receiver, sender, payload, _sync_wrapper)
            except Exception as error:
                if self._ends_with(error, connection, put_off):
                    raise
                continue
            results.append((receiver, result))
        if put_off:
            raise put_off[0]
        return results

    async def deliver(self, connection: Connection, sender: Any, payload: Mapping[str, Any]) -> Any:
        """Run the receiver of one connection here, whatever its queue; raise what it raises.

        For transports, on the side where the signal arrives. None if the receiver is gone.
        """
        receiver = connection.receiver
        return None if receiver is None else await self._call(connection, receiver, sender, payload, None)

    def _calls(self, sender: Any, payload: Mapping[str, Any]) -> list[tuple[Connection, Receiver]]:
        """List whom to call, once each, in order; held strongly, so that nobody dies in between."""
        if not OWN_NAMES.isdisjoint(payload):
            raise TypeError(f"no payload key of {self.name} can be called 'sender' or 'signal'")
        calls = []
        for found in self._live().for_sender(sender):
            for connection in found:
                receiver = connection.receiver
                if receiver is not None and connection.hears(payload):
                    calls.append((connection, receiver))
                    break
        return calls

    def _call_blocking(
        self,
        connection: Connection,
        receiver: Receiver,
        sender: Any,
        payload: Mapping[str, Any],
        wrapper: Callable[[Receiver], Receiver] | None,
    ) -> Any:
        if connection.queue is not None:
            return self._transport().publish_blocking(self, connection, sender, payload)
        positional, named = connection.arguments(self, sender, payload)
        if not connection.is_async:
            result = receiver(*positional, **named)
            if wrapper is None or not inspect.isawaitable(result):
                return result
            return wrapper(_coroutine_function(lambda: result))()
        assert wrapper is not None, "send() refuses asynchronous receivers without a wrapper"
        return wrapper(_coroutine_function(receiver))(*positional, **named)

    async def _call(
        self,
        connection: Connection,
        receiver: Receiver,
        sender: Any,
        payload: Mapping[str, Any],
        wrapper: Callable[[Receiver], Callable[..., Awaitable[Any]]] | None,
    ) -> Any:
        positional, named = connection.arguments(self, sender, payload)
        if connection.thread:
            result = await _in_thread(receiver, positional, named)
        elif wrapper is not None and not connection.is_async:
            result = await wrapper(receiver)(*positional, **named)
        else:
            result = receiver(*positional, **named)
        return await result if inspect.isawaitable(result) else result

    def _transport(self) -> Transport:
        if self.transport is None:
            raise RuntimeError("there is no transport for receivers with queue=: it was taken away")
        return self.transport

    def _ends_with(self, error: Exception, connection: Connection, put_off: list[Exception]) -> bool:
        """Apply the policy to an error: True if it is to be raised now, else it is put off or logged."""
        policy = connection.errors or ("log" if self.errors == "log" else "raise")
        if policy == "raise" and self.errors == "raise":
            return True
        with self._lock:
            self.failures += 1
            connection.failures += 1
        if policy == "raise" and not put_off:
            put_off.append(error)
        else:
            _LOGGER.error("%s failed on %s", connection.name, self.name, exc_info=error)
        return False


def _coroutine_function(receiver: Receiver) -> Callable[..., Any]:
    """Return a real coroutine function, which wrappers such as ``asyncio.run`` insist on."""
    if inspect.iscoroutinefunction(receiver):
        return receiver

    async def call(*positional: Any, **named: Any) -> Any:
        return await receiver(*positional, **named)

    return call


async def _in_thread(receiver: Receiver, positional: list[Any], named: dict[str, Any]) -> Any:
    def call() -> tuple[Any, Exception | None]:
        # A StopIteration cannot be set on a future: asyncio would wait for it forever.
        try:
            return receiver(*positional, **named), None
        except Exception as error:  # noqa: BLE001
            return None, error

    result, error = await asyncio.to_thread(call)
    if error is not None:
        raise error
    return result


def _discard(awaitable: Any) -> None:
    """End what will not be awaited, without the warning that it never was."""
    for method in ("close", "cancel"):
        end = getattr(awaitable, method, None)
        if callable(end):
            end()
            return
