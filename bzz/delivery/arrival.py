"""What happens in a worker when a signal arrives: its message is read, and its receivers run.

The receivers run one after another in the order in which they were connected, plain ones in the thread of
the task, asynchronous ones on the one event loop of the process. Every one of them runs, whatever the others
raise; then the first error is raised, so that the task fails where everybody looks for it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from bzz.delivery import loop, wire
from bzz.delivery.naming import find_connection, find_signal
from bzz.delivery.reading import read_stored
from bzz.dispatcher import Signal
from bzz.dispatcher.connection import Connection

__all__ = ["deliver_receiver", "deliver_signal", "run_receiver"]

logger = logging.getLogger("bzz.delivery")


def deliver_signal(name: str, text: str, *, ends: tuple[type[Exception], ...] = ()) -> None:
    """Run every receiver of an asynchronous signal that hears this sender.

    ``ends`` are errors that are no receiver's own (a time limit) and end everything at once. Raises
    UnknownSignalError, PayloadError, what reading from MongoDB raises, and what the receivers raise.
    """
    signal = find_signal(name)
    sender, payload = wire.loads(text, read_stored)
    groups = signal.receivers.for_sender(sender)
    hearing = (next((each for each in group if each.hears(payload)), None) for group in groups)
    _run_all(signal, [each for each in hearing if each is not None], sender, payload, ends)


def deliver_receiver(name: str, receiver: str, text: str, *, ends: tuple[type[Exception], ...] = ()) -> None:
    """Run one receiver of a signal; its sender and its filters were compared when the signal was sent."""
    signal, connection = find_connection(name, receiver)
    sender, payload = wire.loads(text, read_stored)
    _run_all(signal, [connection], sender, payload, ends)


def _run_all(
    signal: Signal,
    connections: Iterable[Connection],
    sender: Any,
    payload: Mapping[str, Any],
    ends: tuple[type[Exception], ...],
) -> None:
    first: Exception | None = None
    for connection in connections:
        try:
            run_receiver(signal, connection, sender, payload)
        except ends:
            raise
        except Exception as error:
            connection.failures += 1
            if first is None and connection.errors != "log":
                first = error
            else:
                logger.exception("%s failed on %s", connection.name, signal.name)
    if first is not None:
        raise first


def run_receiver(signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]) -> Any:
    """Run one receiver here and now, whatever its queue, and wait for it; raise what it raises."""
    receiver = connection.receiver
    if receiver is None:
        return None
    positional, named = connection.arguments(signal, sender, payload)
    if connection.is_async:
        return loop.run(_call(receiver, positional, named))
    result = receiver(*positional, **named)
    return loop.run(result) if inspect.isawaitable(result) else result


async def _call(receiver: Any, positional: list[Any], named: dict[str, Any]) -> Any:
    # Called on the loop itself: a Tornado coroutine asks for it as soon as it is called.
    return await receiver(*positional, **named)
