"""Updates: what MongoDB is told to change, and what it will have then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bzz.model.equality import same
from bzz.model.schema import Stored
from bzz.model.untyped import fresh

__all__ = ["IS_OBJECT", "Draft", "Update", "changes"]

# An array of objects has "$type": "object" too, and a dotted path cannot be set in it.
IS_OBJECT = {"$type": "object", "$not": {"$type": "array"}}


@dataclass(frozen=True)
class Update:
    """One update of one document, in database names.

    ``set`` maps dotted paths to stored values, ``unset`` lists dotted paths. ``guard`` is an extra filter
    that the document must match for the update to mean what it says.
    """

    set: dict[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    guard: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.set or self.unset)

    def command(self) -> dict[str, Any]:
        """Return the update document for the driver; empty if there is nothing to do."""
        command: dict[str, Any] = {}
        if self.set:
            command["$set"] = self.set
        if self.unset:
            command["$unset"] = dict.fromkeys(self.unset, "")
        return command

    def apply(self, before: Stored) -> Stored:
        """Return what MongoDB has after this update of ``before``, which stays as it is and shares its parts.

        New fields come in the order in which MongoDB adds them. Raises ValueError where MongoDB refuses:
        a path through something that is neither an object nor a position in an array.
        """
        if not any("." in path for path in (*self.set, *self.unset)):
            return self._apply_flat(before)
        after: Any = before
        steps = [(path, True) for path in self.set] + [(path, False) for path in self.unset]
        for path, setting in sorted(steps, key=lambda step: _order(step[0])):
            parts = path.split(".")
            after = _set(after, parts, fresh(self.set[path])) if setting else _unset(after, parts)
        return dict(after)

    def _apply_flat(self, before: Stored) -> Stored:
        after = dict(before)
        # New names in the order of _order(); those that are there keep their places.
        names = sorted(self.set, key=_order) if any(path not in before for path in self.set) else self.set
        for name in names:
            after[name] = fresh(self.set[name])
        for name in self.unset:
            after.pop(name, None)
        return after


def _order(path: str) -> list[tuple[int, int, str]]:
    # MongoDB goes through the paths by name, numeric ones by value.
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.split(".")]


def _set(target: Any, parts: list[str], value: Any) -> Any:
    """Return ``target`` with a value at a path; what lies beside the path is shared, not copied."""
    name, *rest = parts
    if isinstance(target, list):
        position = int(name) if name.isdigit() else -1
        if not 0 <= position < len(target):
            raise ValueError(f"no position {name} in the array")
        below = _set(target[position], rest, value) if rest else value
        return [*target[:position], below, *target[position + 1 :]]
    if not isinstance(target, dict):
        raise ValueError(f"cannot set {name}: its parent is not an object")  # noqa: TRY004 - as promised
    return {**target, name: _set(target.get(name, {}), rest, value) if rest else value}


def _unset(target: Any, parts: list[str]) -> Any:
    name, *rest = parts
    if isinstance(target, list) and name.isdigit() and int(name) < len(target):
        position = int(name)
        below = _unset(target[position], rest) if rest else None
        return [*target[:position], below, *target[position + 1 :]]
    if isinstance(target, dict) and name in target:
        if rest:
            return {**target, name: _unset(target[name], rest)}
        return {key: value for key, value in target.items() if key != name}
    return target


def changes(before: Stored, after: Stored) -> Update:
    """Return the smallest update by fields that turns ``before`` into ``after``.

    It reaches into objects with dotted paths as long as MongoDB can name every key on the way; lists and
    everything else are set whole. The guard names the objects that the paths go through.
    """
    update = Draft()
    _compare(before, after, "", update)
    return update.finish()


class Draft:
    """An update while it is put together."""

    def __init__(self) -> None:
        self.sets: dict[str, Any] = {}
        self.unsets: list[str] = []
        self.guard: dict[str, Any] = {}

    def finish(self) -> Update:
        return Update(self.sets, tuple(self.unsets), self.guard)


def _compare(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str, update: Draft) -> None:
    update.unsets.extend(prefix + key for key in before if key not in after)
    for key, new in after.items():
        path = prefix + key
        if key not in before:
            update.sets[path] = fresh(new)
        elif not same(before[key], new):
            old = before[key]
            if _comparable(old, new):
                update.guard[path] = dict(IS_OBJECT)
                _compare(old, new, f"{path}.", update)
            else:
                update.sets[path] = fresh(new)


def _comparable(old: Any, new: Any) -> bool:
    """Whether the difference of two values is said shorter by their keys than by the whole."""
    if not isinstance(old, dict) or not isinstance(new, dict) or not (old.keys() & new.keys()):
        return False
    if not same(old.get("_cls"), new.get("_cls")):
        return False
    return all(map(_nameable, old)) and all(map(_nameable, new))


def _nameable(key: str) -> bool:
    return bool(key) and "." not in key and not key.startswith("$")
