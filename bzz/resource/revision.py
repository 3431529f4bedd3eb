"""What an update makes of a document: pure, the same whether it is then written, compared or only shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bzz import model as typed
from bzz.errors import BodyError, FieldError, PatchConflictError, ValidationError
from bzz.model import Assignments, FieldSpec, Schema, Stored
from bzz.resource.operation import Operation

__all__ = ["conflicts", "decode", "primary", "revised"]


def decode(schema: Schema, data: Any, *, creating: bool) -> Assignments:
    """Decode the data of an operation: a dict from JSON, or pairs from a form."""
    if isinstance(data, list):
        return typed.decode_form(schema, data, creating=creating)
    return typed.decode_object(schema, data, creating=creating)


def primary(schema: Schema) -> FieldSpec:
    """Return the field that MongoDB calls ``_id``."""
    assert schema.primary is not None, "a class that can be stored has a primary key"
    return schema.primary


def revised(schema: Schema, operation: Operation, before: Stored, *, replaces: bool) -> Any:
    """Return the document that an update asks for, made from a stored one; it is not validated yet.

    With ``replaces`` the fields that the data does not mention are reset. Raises ValidationError, and
    PatchConflictError for a JSON Patch that does not fit.
    """
    concrete = schema.of_stored(before)
    if operation.data_kind != "fields":
        return _patched(concrete, operation, before)
    assignments = _without_key(concrete, decode(concrete, operation.data, creating=False), before)
    if replaces:
        assignments = {**_defaults(concrete, assignments), **assignments}
    document = typed.from_stored(concrete, before)
    typed.assign(document, assignments)
    return document


def _patched(schema: Schema, operation: Operation, before: Stored) -> Any:
    shown = typed.encode(schema, before)
    apply = typed.merge if operation.data_kind == "merge_patch" else typed.apply_operations
    document = typed.from_stored(schema, before)
    typed.revise(document, shown, apply(shown, operation.data))
    return document


def conflicts(
    schema: Schema, operation: Operation, found: Stored, *, replaces: bool
) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the fields in which a stored document differs from what an update would have made of it.

    ``{"address.city": {"stored": …, "requested": …}}`` as JSON values; None if it makes nothing of it.
    """
    try:
        wanted = typed.to_stored(revised(schema, operation, found, replaces=replaces))
    except (ValidationError, BodyError, PatchConflictError):
        return None
    concrete = schema.of_stored(found)
    differing = typed.encode_diff(concrete, typed.diff(concrete, found, wanted))
    return {path: {"stored": each["from"], "requested": each["to"]} for path, each in differing.items()}


def _without_key(schema: Schema, assignments: Assignments, before: Stored) -> Assignments:
    """Accept the primary key in a body only if it is the one that the document has."""
    path = (primary(schema).name,)
    if path not in assignments:
        return assignments
    value = assignments[path]
    if value is None or primary(schema).store(value) != before["_id"]:
        raise ValidationError([FieldError(f"/{path[0]}", "the key of a document cannot be changed")])
    return {each: value for each, value in assignments.items() if each != path}


def _defaults(schema: Schema, given: Assignments) -> Assignments:
    """Return what the fields that a full replacement does not mention are reset to."""
    named = {path[0] for path in given}
    fresh = typed.new_document(schema, {})
    return {
        (name,): fresh._data.get(name)
        for name in schema.fields
        if name not in named and name not in {primary(schema).name, schema.key.name}
    }
