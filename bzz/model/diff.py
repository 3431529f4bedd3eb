"""What a write changed: pure, typed, minimal, with dotted paths for embedded fields.

Loaded values are plain Python: datetime (naive UTC), date, Decimal, UUID, Enum members, bytes, the key of a
reference; embedded documents are dicts by field name. They are always fresh copies.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from bzz.model.equality import same
from bzz.model.field import FieldSpec
from bzz.model.instances import load as load_value_of
from bzz.model.instances import load_fields
from bzz.model.schema import Schema, Stored
from bzz.model.untyped import load_value

__all__ = ["Change", "apply", "diff", "load"]

Change = TypedDict("Change", {"from": Any, "to": Any})


def load(schema: Schema, stored: Stored) -> dict[str, Any]:
    """Return the loaded view of a whole document: every declared field, None where nothing is stored.

    Polymorphic classes add ``_cls``, dynamic ones the fields that they have.
    """
    return load_fields(schema, stored)


def diff(schema: Schema, before: Stored, after: Stored) -> dict[str, Change]:
    """Return ``{"address.city": {"from": old, "to": new}}`` for everything that is different.

    Missing and null are the same. Embedded documents are compared field by field while both sides have one
    of the same class; lists, dicts, maps and places are compared whole.
    """
    changes: dict[str, Change] = {}
    _compare(schema.of_stored(after), before, after, "", changes)
    return changes


def _compare(schema: Schema, before: Stored, after: Stored, prefix: str, changes: dict[str, Change]) -> None:
    for name, db_name, spec in schema.columns:
        old: Any = before.get(db_name)
        new: Any = after.get(db_name)
        if old is new or same(old, new):
            continue
        plain = spec.plain
        if (new is None or new.__class__ in plain) and (old is None or old.__class__ in plain):
            changes[f"{prefix}{name}"] = {"from": old, "to": new}
            continue
        below = _common(spec, old, new)
        if below is not None:
            _compare(below, old, new, f"{prefix}{name}.", changes)
        else:
            _note(f"{prefix}{name}", _loaded(spec, old), _loaded(spec, new), changes)
    if schema.dynamic:
        for key in {**before, **after}:
            if key in schema.by_db_name or key in schema.fields or key[:1] == "_":
                continue
            old, new = before.get(key), after.get(key)
            if not same(old, new):
                _note(f"{prefix}{key}", load_value(old), load_value(new), changes)


def _note(path: str, old: Any, new: Any, changes: dict[str, Change]) -> None:
    if not same(old, new):
        changes[path] = {"from": old, "to": new}


def _loaded(spec: FieldSpec, stored: Any) -> Any:
    return None if stored is None else load_value_of(spec, stored)


def _common(spec: FieldSpec, old: Any, new: Any) -> Schema | None:
    if spec.embedded is None or not isinstance(old, dict) or not isinstance(new, dict):
        return None
    schema = spec.embedded.of_stored(new)
    return schema if schema is spec.embedded.of_stored(old) else None


def apply(
    schema: Schema,
    loaded: dict[str, Any],
    updated_fields: dict[str, Change],
    side: Literal["to", "from"] = "to",
) -> dict[str, Any]:
    """Return a loaded view with one side of a diff in it; ``loaded`` stays as it is.

    ``to`` turns the view before the change into the one after it, ``from`` the other way round.
    """
    result = load_value(loaded)
    for path, change in updated_fields.items():
        target, at, rest = result, _class_of(schema, loaded), path
        while "." in rest:
            name, below = rest.split(".", 1)
            spec = at.fields.get(name)
            if spec is None or spec.embedded is None or not isinstance(target.get(name), dict):
                break
            target, rest = target[name], below
            at = _class_of(spec.embedded, target)
        value = load_value(change[side])
        if value is None and rest not in at.fields:
            target.pop(rest, None)
        else:
            target[rest] = value
    return dict(result)


def _class_of(schema: Schema, view: dict[str, Any]) -> Schema:
    return schema.of_stored(view)
