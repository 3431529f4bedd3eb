"""A Blinker signal whose receivers run in order, plain or asynchronous, each with the arguments it names.

What is Blinker's keeps Blinker's meaning. What is added: receivers are called in the order in which they
were first connected; :meth:`Signal.send_async` calls plain and asynchronous ones alike; senders go by class
or by name; errors follow a policy.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Literal, Protocol
from weakref import WeakSet

from blinker import ANY

from bzz.dispatcher.connection import Connection
from bzz.dispatcher.receiver import OWN_NAMES
from bzz.dispatcher.registry import Options, Registry
from bzz.errors import ExitEarly

__all__ = ["ANY", "Connection", "Options", "Signal", "Transport", "set_transport"]

Receiver = Callable[..., Any]
Results = list[tuple[Receiver, Any]]
PutOff = list[tuple[Connection, Exception]]

_LOGGER: Final = logging.getLogger("bzz.signals")


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


class Signal(Registry):
    """A named signal.

    ``errors`` says what an error of a receiver does: with ``"raise"`` it ends the sending and is raised; with
    ``"log"`` every receiver runs, errors are logged to ``bzz.signals`` with their traceback and counted in
    ``failures``; with ``"defer"`` every receiver runs, then the first error is raised. An error of a receiver
    connected with ``errors="raise"`` to a signal that logs is deferred likewise. ExitEarly is no failure and
    reaches the sender under every policy, before any other error. What is no :exc:`Exception` (cancellation,
    the end of the process) always goes through at once.

    ``providing`` are the keys of the payload; a mapping describes them, which ``payload`` shows. When it is
    not empty, a receiver that needs anything else is refused when it connects, unless a key that starts with
    ``**`` says that more may come. ``known_sender`` tells which names senders have; another one warns.
    ``voting`` says that what receivers return or raise decides something, ``local`` that the payload only has
    a meaning in this process: no receiver can be in another one then.

    >>> shipped = Signal("shipped", providing={"order": "What was shipped."})
    >>> @shipped.connect(sender="shop")
    ... async def thank(order):
    ...     print("thank you for", order)
    >>> import asyncio
    >>> _ = asyncio.run(shipped.send_async("shop", order="3 books"))
    thank you for 3 books
    """

    transport: ClassVar[Transport | None] = None
    queued: ClassVar[WeakSet[Signal]] = WeakSet()
    """Signals that a receiver with ``queue=`` was connected to: where a transport looks for it on arrival."""

    def __init__(
        self,
        name: str,
        doc: str | None = None,
        *,
        errors: Literal["raise", "log", "defer"] = "raise",
        providing: Iterable[str] | Mapping[str, str] = (),
        known_sender: Callable[[str], bool] | None = None,
        voting: bool = False,
        local: bool = False,
    ) -> None:
        if errors not in {"raise", "log", "defer"}:
            raise ValueError(f"errors= must be 'raise', 'log' or 'defer', not {errors!r}")
        payload = dict(providing) if isinstance(providing, Mapping) else dict.fromkeys(providing, "")
        is_open = not payload or any(key.startswith("**") for key in payload)
        super().__init__(
            name, doc, provides=None if is_open else frozenset(payload), known_sender=known_sender
        )
        self.errors = errors
        self.payload: Mapping[str, str] = payload
        self.providing = tuple(payload)
        self.voting = voting
        self.local = local
        self.failures = 0

    def _new_connection(self, receiver: Any, sender: Any, weak: bool | None, options: Options) -> Connection:
        if options.get("when") is not None and "updated_fields" not in self.providing:
            raise TypeError(f"when= needs updated_fields, which {self.name} does not provide")
        if options.get("queue") is not None:
            if self.voting:
                raise ValueError(f"no queue= for {self.name}: a vote cannot be taken in another process")
            if self.local:
                raise ValueError(f"no queue= for {self.name}: what it carries cannot leave this process")
            if self.transport is None:
                raise RuntimeError(
                    "queue= needs a transport: import bzz.async_signals or call set_transport()"
                )
            self.queued.add(self)
        return super()._new_connection(receiver, sender, weak, options)

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
        ``_async_wrapper`` to make it plain: nobody can overlook a veto by forgetting to await. A plain
        receiver that turns out to return an awaitable is the same error.
        """
        if not self._receivers.by_key or self._mutes:
            return []
        calls = self._calls(sender, payload)
        if _async_wrapper is None:
            for connection, _ in calls:
                if connection.is_async and connection.queue is None:
                    raise RuntimeError(f"{connection.name} is asynchronous: use send_async() of {self.name}")
        results: Results = []
        put_off: PutOff = []
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
            raise put_off[0][1]
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
        put_off: PutOff = []
        for connection, receiver in self._calls(sender, payload):
            try:
                result: Any = None
                if connection.queue is not None:
                    await self._transport().publish(self, connection, sender, payload)
                else:
                    result = await self._call(connection, receiver, sender, payload, _sync_wrapper)
            except Exception as error:
                if self._ends_with(error, connection, put_off):
                    raise
                continue
            results.append((receiver, result))
        if put_off:
            raise put_off[0][1]
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
            self._transport().publish_blocking(self, connection, sender, payload)
            return None
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

    def _ends_with(self, error: Exception, connection: Connection, put_off: PutOff) -> bool:
        """Apply the policy to an error: True if it is to be raised now, else it is put off or logged."""
        policy = connection.errors or ("log" if self.errors == "log" else "raise")
        if isinstance(error, ExitEarly):
            # Not an error but a wish, and the batch that it is meant for must hear of it.
            if self.errors == "raise":
                return True
            displaced = [(other, earlier) for other, earlier in put_off if not isinstance(earlier, ExitEarly)]
            for other, earlier in displaced:
                self._log(earlier, other)
            put_off[:] = [(connection, error)]
            return False
        if policy == "raise" and self.errors == "raise":
            return True
        with self._lock:
            self.failures += 1
            connection.failures += 1
        if policy == "raise" and not put_off:
            put_off.append((connection, error))
        else:
            self._log(error, connection)
        return False

    def _log(self, error: Exception, connection: Connection) -> None:
        _LOGGER.error("%s failed on %s", connection.name, self.name, exc_info=error)


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
        except Exception as error:
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
