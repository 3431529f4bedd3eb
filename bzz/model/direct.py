"""Updates without a document: each value validated by its own field, nothing else read or built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bzz.errors import FieldError, ValidationError
from bzz.model.checking import check_field
from bzz.model.field import FieldSpec
from bzz.model.pending import is_complete
from bzz.model.refusal import child
from bzz.model.schema import Path, Schema
from bzz.model.update import IS_OBJECT, Draft, Update

__all__ = ["direct_update"]


def direct_update(schema: Schema, assignments: Mapping[Path, Any]) -> Update | None:
    """Turn assignments into an update without having the document, None where that is not enough.

    Each value is validated by its own field. It is not enough where ``clean()`` or ``validate()`` of the
    model look at the whole, where a value has to be made up by the server, and where the paths overlap.
    The primary key is never set: it goes into the guard. Raises ValidationError.
    """
    if _needs_document(schema) or _overlap(assignments):
        return None
    update = Draft()
    errors: list[FieldError] = []
    for path, given in assignments.items():
        spec, database_path = _locate(schema, path, update.guard)
        if spec.db_name in schema.model._meta.get("shard_key", ()) or (given is None and spec.automatic):
            return None
        value = spec.default() if given is None else given
        if not schema.self_contained and not is_complete(value):
            return None
        before = len(errors)
        pointer = spec.pointer if len(path) == 1 else "".join([child("", name) for name in path])
        check_field(spec, value, pointer, errors)
        if len(errors) == before:
            _note(update, schema, spec, database_path, None if value is None else spec.store(value))
    if errors:
        raise ValidationError(errors)
    return update.finish()


def _note(update: Draft, schema: Schema, spec: FieldSpec, path: str, stored: Any) -> None:
    if spec is schema.primary:
        update.guard[path] = stored
    elif stored is None and not spec.field.null:
        update.unsets.append(path)
    else:
        update.sets[path] = stored


def _needs_document(schema: Schema) -> bool:
    concrete = (
        [schema, *(Schema.of(cls) for cls in schema.subclasses.values())] if schema.polymorphic else [schema]
    )
    return any(one.overrides & {"clean", "validate"} for one in concrete)


def _overlap(assignments: Mapping[Path, Any]) -> bool:
    return any(
        path[:length] in assignments for path in assignments if path[1:] for length in range(1, len(path))
    )


def _locate(schema: Schema, path: Path, guard: dict[str, Any]) -> tuple[FieldSpec, str]:
    if len(path) == 1 and path[0] in schema.fields:
        spec = schema.fields[path[0]]
        return spec, spec.db_name
    names: list[str] = []
    for position in range(1, len(path)):
        names.append(schema.at(path[:position]).db_name)
        guard[".".join(names)] = dict(IS_OBJECT)
    spec = schema.at(path)
    return spec, ".".join([*names, spec.db_name])
