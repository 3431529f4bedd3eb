"""What a receiver hears: whose signals, and which changes."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from blinker import ANY
from blinker.base import make_id, make_ref  # type: ignore[attr-defined]  # Blinker's identity of things

__all__ = ["SenderFilter", "Transitions"]


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

    >>> published = Transitions({"status": ("draft", "live")})
    >>> published.match({"status": {"from": "draft", "to": "live"}, "title": {"from": "a", "to": "b"}})
    True
    """

    __slots__ = ("wanted",)

    def __init__(self, when: Mapping[str, Any]) -> None:
        if not isinstance(when, Mapping) or not when:  # type: ignore[redundant-expr]
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
