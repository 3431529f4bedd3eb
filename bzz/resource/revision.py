"""What an update makes of a document: pure, the same whether it is then written, compared or only shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bzz import model as typed
from bzz.errors import (
    BodyError,
    DuplicateError,
    FieldError,
    MissingDocumentError,
    PatchConflictError,
    ValidationError,
)
from bzz.model import Assignments, FieldSpec, Schema, Stored
from bzz.resource.access import FieldAccess
from bzz.resource.operation import Operation
from bzz.resource.view import View

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


def revised(fields: FieldAccess, operation: Operation, before: Stored, *, replaces: bool) -> Any:
    """Return the document that an update asks for, made from a stored one; it is not validated yet.

    With ``replaces`` the fields that the data does not mention are reset. Raises ValidationError, and
    PatchConflictError for a JSON Patch that does not fit.
    """
    concrete = fields.schema.of_stored(before)
    document = typed.from_stored(concrete, before)
    if operation.nested is not None:
        operation.nested.revise(document, before)
    elif operation.data_kind == "fields":
        _assign(fields, document, operation.data, before, replaces=replaces)
    else:
        _patch(fields, document, operation, before)
    if operation.frozen:
        fields.check(operation, before, typed.to_stored(document))
    return document


def _assign(fields: FieldAccess, document: Any, data: Any, before: Stored, *, replaces: bool) -> None:
    schema = fields.schema.of_stored(before)
    partly: dict[str, Any] = {}
    if not fields.is_open and isinstance(data, Mapping):
        partly = {name: value for name, value in data.items() if fields.is_partial(name)}
        data = {name: value for name, value in data.items() if name not in partly}
    assignments = _without_key(schema, decode(schema, data, creating=False), before)
    if replaces:
        reset = _defaults(schema, {*(path[0] for path in assignments), *partly})
        assignments = {**{path: reset[path] for path in reset if fields.resets(path[0])}, **assignments}
    typed.assign(document, assignments)
    if partly:
        shown = typed.encode(schema, before)
        typed.revise(
            document, {name: fields.known(name, shown.get(name), partly[name]) for name in partly}, partly
        )


def _patch(fields: FieldAccess, document: Any, operation: Operation, before: Stored) -> None:
    shown = typed.encode(fields.schema.of_stored(before), before)
    if operation.data_kind == "merge_patch":
        seen = fields.seen(shown, operation.data)
        typed.revise(document, seen, typed.merge(seen, operation.data))
    else:
        seen = fields.readable.cut(shown)
        typed.revise(document, seen, typed.apply_operations(seen, operation.data))


def conflicts(
    fields: FieldAccess, view: View, operation: Operation, found: Stored, *, replaces: bool
) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the fields in which a stored document differs from what an update would have made of it.

    ``{"address.city": {"stored": …, "requested": …}}`` as JSON values; None if it makes nothing of it.
    """
    try:
        wanted = typed.to_stored(revised(fields, operation, found, replaces=replaces))
    except (ValidationError, BodyError, PatchConflictError, MissingDocumentError, DuplicateError):
        return None
    differing = view.diff(found, typed.diff(fields.schema.of_stored(found), found, wanted))
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


def _defaults(schema: Schema, named: Collection[str]) -> Assignments:
    """Return what the fields that a full replacement does not mention are reset to."""
    fresh = typed.new_document(schema, {})
    return {
        (name,): fresh._data.get(name)
        for name in schema.fields
        if name not in named and name not in {primary(schema).name, schema.key.name}
    }
