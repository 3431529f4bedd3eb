"""One receiver connected to a signal: whose signals it hears, which changes, and how it is called."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Literal

from blinker import ANY
from blinker.base import make_id, make_ref  # type: ignore[attr-defined]  # Blinker's identity of things

from bzz.receiver import (
    Adapter,
    Arguments,
    describe,
    is_async,
    is_generator,
    is_held_weakly,
    receiver_key,
    wire_name,
)

__all__ = ["Connection", "Receivers", "SenderFilter", "Transitions"]

Receiver = Callable[..., Any]


class SenderFilter:
    """Whose signals a receiver hears: everybody's, one object's, or those of a name.

    A name is compared by value: with the ``__name__`` of a class, with the ``name`` of any other object, or
    with the sender itself if that is a text. Numbers are compared by value too, everything else by identity,
    as in Blinker. A sender that can be referred to weakly is; when it dies, nothing that comes after it can
    be mistaken for it.
    """

    __slots__ = ("_held", "_identity", "_ref", "key", "subclasses")

    def __init__(self, sender: Any, subclasses: bool, on_death: Callable[[Any], None] | None = None) -> None:
        if subclasses and not isinstance(sender, type | str):
            raise TypeError("subclasses=True needs a class, or the name of one, as sender")
        self.subclasses = subclasses
        self._identity = _identity(sender)
        self.key: Hashable = (self._identity, subclasses)
        self._held: Any = sender
        self._ref: weakref.ref[Any] | None = None
        if sender is ANY or isinstance(sender, str | int):
            return
        try:
            self._ref = make_ref(sender, on_death)
        except TypeError:
            return
        self._held = None

    @property
    def name(self) -> str | None:
        """The name that senders are compared with, None if the filter is no name."""
        return self._held if isinstance(self._held, str) else None

    @property
    def is_dead(self) -> bool:
        return self._ref is not None and self._ref() is None

    @property
    def value(self) -> Any:
        """What was given to ``connect``; None when it has died."""
        return self._held if self._ref is None else self._ref()

    def is_for(self, sender: Any) -> bool:
        """Tell whether this is what was given to ``connect``."""
        return self._identity == _identity(sender)

    def matches(self, sender: Any) -> bool:
        """Tell whether a signal of this sender is heard."""
        if self._held is ANY:
            return True
        if isinstance(self._held, str):
            return self._has_name(sender, self._held)
        if isinstance(self._held, int):
            return isinstance(sender, int) and bool(sender == self._held)
        wanted = self.value
        if wanted is None and self._ref is not None:
            return False
        if self.subclasses:
            return isinstance(sender, type) and issubclass(sender, wanted)
        return sender is wanted or (inspect.ismethod(wanted) and self.is_for(sender))

    def _has_name(self, sender: Any, name: str) -> bool:
        if isinstance(sender, type):
            candidates = sender.__mro__ if self.subclasses else (sender,)
            return any(candidate.__name__ == name for candidate in candidates)
        if isinstance(sender, str):
            return sender == name
        own = getattr(sender, "name", None)
        return isinstance(own, str) and own == name


def _identity(sender: Any) -> Hashable:
    # The id of an object must not be mistaken for a number that somebody uses as a sender.
    return isinstance(sender, str | int), make_id(sender)


class Transitions:
    """Which changes a receiver hears: ``{"status": ("draft", "live")}``.

    Keys are those of ``updated_fields``, dotted for embedded documents. A value is the pair (from, to), in
    which :data:`~blinker.ANY` stands for every value, or ANY alone for any change of that field. With several
    keys all of them must have changed so. A change of a whole embedded document is a change of each field
    that differs in it.
    """

    __slots__ = ("wanted",)

    def __init__(self, when: Mapping[str, Any]) -> None:
        if not isinstance(when, Mapping) or not when:
            raise TypeError('when= needs a mapping such as {"status": ("draft", "live")} or {"status": ANY}')
        self.wanted: dict[str, tuple[Any, Any]] = {}
        for path, pair in when.items():
            if not isinstance(path, str):
                raise TypeError(f"when= needs the names of fields as keys, not {path!r}")
            if pair is ANY:
                self.wanted[path] = (ANY, ANY)
            elif isinstance(pair, tuple | list) and len(pair) == 2:
                self.wanted[path] = (pair[0], pair[1])
            else:
                raise TypeError(f"when= needs a pair (from, to) or ANY for {path!r}, not {pair!r}")

    def match(self, updated_fields: Mapping[str, Mapping[str, Any]]) -> bool:
        """Tell whether every wanted change is among these."""
        return all(_changed(path, pair, updated_fields) for path, pair in self.wanted.items())


def _changed(path: str, pair: tuple[Any, Any], updated_fields: Mapping[str, Mapping[str, Any]]) -> bool:
    change = updated_fields.get(path)
    if change is not None:
        return _is(pair[0], change["from"]) and _is(pair[1], change["to"])
    parent, _, _ = path.rpartition(".")
    while parent:
        change = updated_fields.get(parent)
        if change is not None:
            names = path[len(parent) + 1 :].split(".")
            before, after = _dig(change["from"], names), _dig(change["to"], names)
            return bool(before != after) and _is(pair[0], before) and _is(pair[1], after)
        parent, _, _ = parent.rpartition(".")
    if pair[0] is ANY and pair[1] is ANY:
        return any(changed.startswith(f"{path}.") for changed in updated_fields)
    return False


def _dig(value: Any, names: list[str]) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _is(wanted: Any, value: Any) -> bool:
    return wanted is ANY or bool(wanted == value)


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
