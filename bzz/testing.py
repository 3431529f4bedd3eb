"""See in a test what was signalled: in order, with senders and payloads.

>>> from bzz.signals import batch_started, server_ready
>>> with capture(server_ready, batch_started) as events:
...     _ = server_ready.send("a server")
>>> events.only()
<server_ready from 'a server': nothing>
>>> events.of(batch_started)
[]
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from bzz import signals as named
from bzz.dispatcher import ANY, Signal

__all__ = ["Capture", "Event", "capture"]


class Event(NamedTuple):
    """One signal that was sent; ``payload`` holds what was sent with it, not copies."""

    signal: Signal
    sender: Any
    payload: dict[str, Any]

    def __repr__(self) -> str:
        return f"<{self.signal.name} from {self.sender!r}: {', '.join(self.payload) or 'nothing'}>"


class Capture:
    """What was signalled while the block runs; use it with ``with`` or ``async with``.

    A capture is a receiver like any other: it hears in the order of connection, so a ``pre_`` signal that an
    earlier receiver refuses does not reach it, and nothing does while a signal is muted. It can be entered
    again; ``events`` go on then.
    """

    def __init__(self, signals: tuple[Signal, ...], sender: Any, subclasses: bool) -> None:
        self.events: list[Event] = []
        self._signals = signals
        self._sender = sender
        self._subclasses = subclasses
        self._connected = ExitStack()
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for signal in self._signals:
                stack.enter_context(
                    signal.connected_to(self._record, self._sender, subclasses=self._subclasses)
                )
            self._connected = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connected.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connected.close()

    def _record(self, sender: Any, signal: Signal, **payload: Any) -> None:
        with self._lock:
            self.events.append(Event(signal, sender, payload))
            reached = [waiting for waiting in self._waiting if waiting[0] <= len(self.events)]
            self._waiting = [waiting for waiting in self._waiting if waiting[0] > len(self.events)]
        for _, loop, future in reached:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, future)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    @property
    def names(self) -> list[str]:
        """The names of the signals, in order."""
        return [event.signal.name for event in self.events]

    def of(self, signal: Signal) -> list[Event]:
        """Return the events of one signal, in order."""
        return [event for event in self.events if event.signal is signal]

    def only(self, signal: Signal | None = None) -> Event:
        """Return the one event there is, of this signal if one is given.

        Raises :exc:`AssertionError`, listing what there is, if there is none or more than one.
        """
        events = self.events if signal is None else self.of(signal)
        if len(events) != 1:
            wanted = "event" if signal is None else f"event of {signal.name}"
            raise AssertionError(f"expected one {wanted}, got {len(events)}: {events!r}")
        return events[0]

    def clear(self) -> None:
        """Forget the events so far."""
        with self._lock:
            self.events.clear()

    async def wait(self, count: int = 1, timeout: float = 5.0) -> list[Event]:  # noqa: ASYNC109 - for asserts
        """Wait until there are ``count`` events and return them all; they may come from any thread.

        Raises :exc:`TimeoutError` after ``timeout`` seconds, saying what has come until then.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if len(self.events) >= count:
                return list(self.events)
            future = loop.create_future()
            waiting = (count, loop, future)
            self._waiting.append(waiting)
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise TimeoutError(f"{len(self.events)} of {count} events in {timeout} s: {self.names}") from None
        finally:
            with self._lock:
                self._waiting = [other for other in self._waiting if other is not waiting]
        return list(self.events)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def capture(*signals: Signal, sender: Any = ANY, subclasses: bool = False) -> Capture:
    """Capture these signals, or all the named ones of :mod:`bzz.signals` if none is given.

    ``sender`` and ``subclasses`` are those of :meth:`~bzz.dispatcher.Signal.connect`.
    """
    return Capture(signals or named.ALL, sender, subclasses)
