"""A choice of fields by their dotted names: what a client may see, or may set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

from bzz.model.equality import same
from bzz.model.schema import Path, Schema, Stored

__all__ = ["ALL", "NONE", "Selection", "changed_outside", "named_outside"]

# For each name what is chosen below it, None for all of it.
_Tree = Mapping[str, "_Tree | None"]


class Selection:
    """Some fields of a document and of what is embedded in it; immutable.

    ``only`` are the dotted names of what is in it (None: everything), ``without`` of what is not, whatever
    ``only`` says. A name stands for all that is below it.

    >>> seen = Selection(["name", "address"], ["address.door"])
    >>> seen.cut({"name": "Ann", "pin": 1, "address": {"city": "Rio", "door": "7"}})
    {'name': 'Ann', 'address': {'city': 'Rio'}}
    >>> seen.covers("address.city"), seen.covers("address"), seen.covers("pin")
    (True, False, False)
    """

    __slots__ = ("_below", "_only", "_without", "is_all", "is_none")

    def __init__(self, only: Iterable[str] | None = None, without: Iterable[str] = ()) -> None:
        self._take(None if only is None else _tree(only), _tree(without))

    def _take(self, only: _Tree | None, without: _Tree) -> None:
        self._only = only
        self._without = without
        self._below: dict[str, Selection] = {}
        #: Whether everything is in it, and whether nothing is.
        self.is_all = only is None and not without
        self.is_none = only is not None and not only

    def __repr__(self) -> str:
        only = "*" if self._only is None else ", ".join(_names(self._only))
        without = ", ".join(_names(self._without))
        return f"<Selection {only}{f' without {without}' if without else ''}>"

    def below(self, name: str) -> Selection:
        """Return what is in it of the field of this name."""
        # Names of dynamic fields come from clients: only those that make a difference are kept.
        found = self._below.get(name)
        if found is None:
            found = self._made(name)
            if found is not ALL and found is not NONE:
                self._below[name] = found
        return found

    def _made(self, name: str) -> Selection:
        only = None if self._only is None else self._only.get(name, {})
        without = self._without.get(name, {})
        if without is None or (only is not None and not only):
            return NONE
        if only is None and not without:
            return ALL
        made = Selection.__new__(Selection)
        made._take(only, without)
        return made

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are named, at least in part; none where everything is chosen."""
        return tuple(sorted(self._only or ()))

    def at(self, path: Iterable[str]) -> Selection:
        """Return what is in it at a path of field names."""
        return reduce(Selection.below, path, self)

    def covers(self, name: str) -> bool:
        """Tell whether a field, by its dotted name, is in it with all that is below it."""
        return self.at(name.split(".")).is_all

    def touches(self, name: str) -> bool:
        """Tell whether a field, by its dotted name, is in it at least in part."""
        return not self.at(name.split(".")).is_none

    def cut(self, encoded: Any) -> Any:
        """Return of the JSON of a document what is in it; the class of each object stays.

        Where a part of an object is chosen and there is no object, nothing can be told apart: null.
        """
        if self.is_all or encoded is None:
            return encoded
        if isinstance(encoded, dict):
            return {
                name: value if name == "_cls" else below.cut(value)
                for name, value in encoded.items()
                if not (below := self.below(name)).is_none or name == "_cls"
            }
        if isinstance(encoded, list):
            return [self.cut(each) for each in encoded]
        return None

    def cut_diff(self, encoded: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return of the JSON of a diff what is in it, without what looks the same on both sides then."""
        shown: dict[str, Any] = {}
        for path, change in encoded.items():
            below = self.at(path.split("."))
            if below.is_all:
                shown[path] = change
            elif not below.is_none:
                cut = {side: below.cut(value) for side, value in change.items()}
                if not same(*cut.values()):
                    shown[path] = cut
        return shown


def _tree(names: Iterable[str]) -> _Tree:
    tree: dict[str, Any] = {}
    for name in names:
        at = tree
        *above, last = name.split(".")
        for part in above:
            below = at.setdefault(part, {})
            if below is None:
                break
            at = below
        else:
            at[last] = None
    return tree


def _names(tree: _Tree, prefix: str = "") -> Iterator[str]:
    for name, below in sorted(tree.items()):
        if below is None:
            yield prefix + name
        else:
            yield from _names(below, f"{prefix}{name}.")


ALL = Selection()
NONE = Selection(())


def named_outside(selection: Selection, value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path (names, and positions in lists) of everything that a JSON object names outside."""
    if isinstance(value, list):
        for position, each in enumerate(value):
            yield from named_outside(selection, each, (*path, position))
    elif isinstance(value, Mapping):
        for name, each in value.items():
            below = selection.below(name)
            if name == "_cls" or below.is_all:
                continue
            if below.is_none:
                yield (*path, name)
            else:
                yield from named_outside(below, each, (*path, name))


def changed_outside(
    selection: Selection, schema: Schema, before: Stored, after: Stored, path: Path = ()
) -> Iterator[Path]:
    """Yield the path of each field outside in which two stored documents differ.

    An object of which a part lies outside, and that came, went, or is of another class now, counts as a
    whole: whether the part had a value is not told.
    """
    for name, spec in schema.fields.items():
        below = selection.below(name)
        old, new = before.get(spec.db_name), after.get(spec.db_name)
        if below.is_all or same(old, new):
            continue
        at = (*path, name)
        embedded = spec.embedded
        if below.is_none or embedded is None:
            if below.is_none or not spec.repeatable:
                yield at
        elif not isinstance(old, dict):
            made = new if isinstance(new, dict) else {}
            yield from changed_outside(below, embedded.of_stored(made), {}, made, at)
        elif not isinstance(new, dict) or embedded.of_stored(old) is not embedded.of_stored(new):
            yield at
        else:
            yield from changed_outside(below, embedded.of_stored(new), old, new, at)
    if schema.dynamic:
        for key in {**before, **after}:
            if key in schema.by_db_name or key in schema.fields or key[:1] == "_":
                continue
            if not selection.below(key).is_all and not same(before.get(key), after.get(key)):
                yield (*path, key)
