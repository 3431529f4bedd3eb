"""Receivers connected to a signal: each with its options, and all of them at one moment."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Literal

from blinker.base import make_ref  # type: ignore[attr-defined]  # not in its __all__

from bzz.dispatcher.filters import SenderFilter, Transitions
from bzz.dispatcher.receiver import (
    Adapter,
    describe,
    is_async,
    is_generator,
    is_held_weakly,
    receiver_key,
    wire_name,
)

__all__ = ["Connection", "Receivers"]

Receiver = Callable[..., Any]


class Connection:
    """One receiver connected to one signal, with the options it was connected with.

    ``failures`` counts the errors it raised that were logged or put off. ``wire_name`` is ``module:qualname``
    of a receiver with a ``queue``, None for others.
    """

    __slots__ = (
        "_adapter",
        "_receiver",
        "dispatch_uid",
        "earlier",
        "errors",
        "failures",
        "is_async",
        "is_over",
        "key",
        "name",
        "queue",
        "sender",
        "thread",
        "transitions",
        "weak",
        "wire_name",
    )

    def __init__(
        self,
        receiver: Receiver,
        sender: SenderFilter,
        *,
        weak: bool | None = None,
        provides: frozenset[str] | None = None,
        transitions: Transitions | None = None,
        thread: bool = False,
        errors: Literal["raise", "log"] | None = None,
        dispatch_uid: Hashable = None,
        queue: str | None = None,
        on_death: Callable[[Any], None] | None = None,
    ) -> None:
        if not callable(receiver):
            raise TypeError(f"a receiver must be callable, not {receiver!r}")
        if is_generator(receiver):
            raise TypeError(f"{describe(receiver)} is a generator function: calling it runs nothing of it")
        self.is_async = is_async(receiver)
        if thread and self.is_async:
            raise TypeError(f"{describe(receiver)} is asynchronous and cannot run in a thread")
        if errors not in {None, "raise", "log"}:
            raise ValueError(f"errors= must be 'raise' or 'log', not {errors!r}")
        self.name = describe(receiver)
        self.key: Hashable = receiver_key(receiver)
        self.weak = is_held_weakly(receiver) if weak is None else weak
        self._adapter = Adapter(receiver, provides)
        self._receiver: Any = make_ref(receiver, on_death) if self.weak else receiver
        self.sender = sender
        self.transitions = transitions
        self.thread = thread
        self.errors = errors
        self.dispatch_uid = dispatch_uid
        self.queue = queue
        self.wire_name = wire_name(receiver) if queue is not None else None
        self.failures = 0
        self.earlier: Connection | None = None  # what a temporary connection stands in for
        self.is_over = False  # a temporary connection whose block has ended

    def __repr__(self) -> str:
        return f"<Connection of {self.name}>"

    @property
    def receiver(self) -> Receiver | None:
        """The callable that was connected; None if it was held weakly and is gone."""
        receiver: Receiver | None = self._receiver() if self.weak else self._receiver
        return receiver

    @property
    def is_dead(self) -> bool:
        return self.receiver is None or self.sender.is_dead

    def replaces(self, other: Connection) -> bool:
        """Tell whether both are the same receiver listening to the same: only one can stay."""
        wanted = None if self.transitions is None else self.transitions.wanted
        others = None if other.transitions is None else other.transitions.wanted
        return self.key == other.key and self.sender.key == other.sender.key and wanted == others

    def is_same_dispatch(self, other: Connection) -> bool:
        """Tell whether both have the same uid and sender, so that the later one is to be ignored."""
        return self.dispatch_uid == other.dispatch_uid and self.sender.key == other.sender.key

    def hears(self, payload: Mapping[str, Any]) -> bool:
        """Tell whether the change in this payload is one the receiver asked for."""
        return self.transitions is None or self.transitions.match(payload.get("updated_fields") or {})

    def wants(self, key: str) -> bool:
        """Tell whether this key of a payload reaches the receiver; to a queue goes all of it."""
        return self.queue is not None or self._adapter.wants(key)

    def arguments(
        self, signal: Any, sender: Any, payload: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the named arguments that the receiver takes of this."""
        return self._adapter.arguments(signal, sender, payload)


class Receivers(Mapping[Hashable, Receiver]):
    """The receivers of a signal at one moment, in order; true if there is one.

    A snapshot that never changes: assign it to ``signal.receivers`` to have exactly these again.
    """

    __slots__ = ("_by_class", "by_key")

    def __init__(self, by_key: dict[Hashable, tuple[Connection, ...]]) -> None:
        self.by_key = by_key
        self._by_class: dict[int, tuple[weakref.ref[type], tuple[tuple[Connection, ...], ...]]] = {}

    def __getitem__(self, key: Hashable) -> Receiver:
        for connection in self.by_key[key]:
            receiver = connection.receiver
            if receiver is not None:
                return receiver
        raise KeyError(key)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.by_key)

    def __len__(self) -> int:
        return len(self.by_key)

    def __bool__(self) -> bool:
        return bool(self.by_key)

    def for_sender(self, sender: Any) -> tuple[tuple[Connection, ...], ...]:
        """Return what hears this sender: for each receiver, in order, its connections that do."""
        if not isinstance(sender, type):
            return self._find(sender)
        known = self._by_class.get(id(sender))
        if known is not None and known[0]() is sender:
            return known[1]
        found = self._find(sender)
        if len(self._by_class) > 1000:
            self._by_class.clear()
        self._by_class[id(sender)] = (weakref.ref(sender), found)
        return found

    def _find(self, sender: Any) -> tuple[tuple[Connection, ...], ...]:
        matching = (tuple(c for c in found if c.sender.matches(sender)) for found in self.by_key.values())
        return tuple(found for found in matching if found)

    def without(self, refused: Callable[[Connection], bool]) -> Receivers:
        """Return these receivers without the connections that are refused."""
        left = {key: tuple(c for c in found if not refused(c)) for key, found in self.by_key.items()}
        return Receivers({key: found for key, found in left.items() if found})

    def with_new(self, connection: Connection) -> Receivers:
        """Return these receivers with one more connection, or with it in the place of the one it replaces."""
        found = self.by_key.get(connection.key, ())
        replaced = [connection if connection.replaces(other) else other for other in found]
        if connection not in replaced:
            replaced.append(connection)
        return Receivers({**self.by_key, connection.key: tuple(replaced)})

    def with_other(self, connection: Connection, other: Connection | None) -> Receivers:
        """Return these receivers with another connection in the place of this one, or with nothing there."""
        if other is None:
            return self.without(lambda candidate: candidate is connection)
        found = tuple(other if c is connection else c for c in self.by_key[connection.key])
        return Receivers({**self.by_key, connection.key: found})

    def replaced_by(self, connection: Connection) -> Connection | None:
        """Return the connection that this one replaces."""
        return next((c for c in self.by_key.get(connection.key, ()) if connection.replaces(c)), None)

    def connections(self) -> tuple[Connection, ...]:
        """Return every connection, by receiver."""
        return tuple(connection for found in self.by_key.values() for connection in found)
