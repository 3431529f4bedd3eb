"""Names on the wire: which signal and which receiver a message is for.

What is remembered here is held weakly: a signal that is gone has no name any more.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from weakref import WeakSet

from bzz.dispatcher import Signal
from bzz.dispatcher.connection import Connection
from bzz.dispatcher.receiver import importable_module
from bzz.errors import UnknownReceiverError, UnknownSignalError

__all__ = ["find_connection", "find_signal", "name_in_module", "queues", "remember"]

_lock = threading.Lock()
_whole: WeakSet[Signal] = WeakSet()


def remember(signal: Signal, explicit: str | None) -> None:
    """Remember a signal that travels as a whole; raises ValueError if its explicit name is taken already."""
    with _lock:
        if explicit is not None and any(_name(other) == explicit for other in _whole):
            raise ValueError(f"there is an asynchronous signal {explicit!r} already: names must be unique")
        _whole.add(signal)


def name_in_module(signal: Signal, module: str) -> str:
    """Return ``module.variable``, the name of a signal that a module keeps in a variable.

    Raises ValueError when no variable at the top of the module holds it (any more, or yet).
    """
    loaded = sys.modules.get(module)
    for variable, value in list(vars(loaded).items() if loaded is not None else ()):
        if value is signal:
            return f"{importable_module(module)}.{variable}"
    raise ValueError(
        f"an asynchronous signal made in {module} is in no variable at the top of that module, so a worker"
        " could not find it: assign it to one, or give it a name="
    )


def find_signal(name: str) -> Signal:
    """Return the signal that travels under this name; raises UnknownSignalError."""
    with _lock:
        found = [signal for signal in _whole if _name(signal) == name]
    if len(found) == 1:
        return found[0]
    raise UnknownSignalError(
        f"there is no asynchronous signal {name!r} in this worker: is the module that makes it imported?"
        if not found
        else f"{len(found)} asynchronous signals are called {name!r}: one of them needs another name="
    )


def find_connection(signal_name: str, receiver: str) -> tuple[Signal, Connection]:
    """Return the connection of a receiver with a queue; raises UnknownReceiverError."""
    for signal in [each for each in list(Signal.queued) if each.name == signal_name]:
        for connection in signal.connections:
            if connection.wire_name == receiver:
                return signal, connection
    raise UnknownReceiverError(
        f"{receiver} is not connected to {signal_name} in this worker: is the module that does it imported?"
    )


def queues() -> list[str]:
    """Return the names of all queues that signals and receivers of this process are sent to, sorted."""
    return sorted(set(_queues()))


def _queues() -> Iterator[str]:
    with _lock:
        whole = list(_whole)
    for signal in whole:
        queue = getattr(signal, "queue", None)
        if queue is not None:
            yield queue
    for signal in list(Signal.queued):
        for connection in signal.connections:
            if connection.queue is not None:
                yield connection.queue


def _name(signal: Signal) -> str | None:
    try:
        return signal.name
    except ValueError:
        return None
