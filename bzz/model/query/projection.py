"""Which fields of a document are shown: ``fields=name,address.city``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bzz.errors import QueryError
from bzz.model.query.parameters import Arguments, split_list
from bzz.model.query.paths import find
from bzz.model.query.rules import QueryRules
from bzz.model.refusal import shorten

__all__ = ["Projection", "compile_projection"]


@dataclass(frozen=True)
class Projection:
    """What MongoDB sends (``paths``, its own names) and what of it is shown (``shape``, names of fields).

    A shape has for each name what is shown below it, None for all.
    """

    paths: dict[str, int]
    shape: Mapping[str, Any]

    def cut(self, encoded: dict[str, Any]) -> dict[str, Any]:
        """Return of an encoded document what was asked for, in the order of the model."""
        cut: dict[str, Any] = _cut(encoded, self.shape)
        return cut


def compile_projection(
    rules: QueryRules, arguments: Arguments, *, needed: Sequence[str] = (), read: Sequence[str] = ()
) -> Projection | None:
    """Compile ``fields``; None when it is not given.

    The key is always shown, and so are the fields that are ``needed``. ``read`` are further paths of MongoDB
    that are sent, but not shown.
    """
    schema = rules.schema
    names = split_list(arguments, "fields", schema)
    if not names:
        return None
    if "to_dict" in schema.overrides:
        raise QueryError("fields", "This resource has a form of its own: it cannot be shown in parts.")
    paths: set[str] = set(read)
    shape: dict[str, Any] = {}
    for name in [schema.key.name, *names, *needed]:
        found = find(schema, name)
        if found is None or not rules.readable.touches(name):
            raise QueryError("fields", f"This resource has no field {shorten(name)!r}.")
        paths.add(found.path)
        _add(shape, name.split("."))
    # MongoDB refuses a path together with one below it.
    whole = {path for path in paths if not any(path.startswith(f"{each}.") for each in paths)}
    return Projection(dict.fromkeys([*sorted(whole | {"_id"}), *_classes(whole)], 1), shape)


def _add(shape: dict[str, Any], names: Sequence[str]) -> None:
    at = shape
    for name in names[:-1]:
        below = at.setdefault(name, {})
        if below is None:
            return
        at = below
    at[names[-1]] = None


def _classes(paths: set[str]) -> list[str]:
    """Return the paths of what says of which class a document, and each one in it that is cut, is."""
    steps = {path[:at] for path in paths for at, character in enumerate(path) if character == "."}
    return ["_cls", *sorted(f"{step}._cls" for step in steps)]


def _cut(encoded: Any, shape: Mapping[str, Any]) -> Any:
    if isinstance(encoded, list):
        return [_cut(each, shape) for each in encoded]
    if not isinstance(encoded, dict):
        return encoded
    return {
        name: value if (below := shape.get(name)) is None else _cut(value, below)
        for name, value in encoded.items()
        if name in shape or name == "_cls"
    }
