"""Documents from values and back: what the resource calls between a body and a write. No I/O."""

from __future__ import annotations

from typing import Any

from mongoengine import EmbeddedDocument
from mongoengine.errors import OperationError

from bzz.errors import FieldError, ValidationError
from bzz.model.checking import check_document
from bzz.model.codec import Assignments
from bzz.model.direct import direct_update
from bzz.model.instances import create, revive, set_field, store
from bzz.model.pending import pending_references, pending_sequences
from bzz.model.refusal import MAX_ERRORS, child, refuse
from bzz.model.schema import Schema, Stored
from bzz.model.update import Update, changes

__all__ = [
    "Update",
    "assign",
    "changes",
    "direct_update",
    "from_stored",
    "new_document",
    "pending_references",
    "pending_sequences",
    "to_stored",
    "validate",
]


def new_document(schema: Schema, assignments: Assignments) -> Any:
    """Make a document that is not stored yet; defaults fill the rest, nothing is validated."""
    document = create(schema, {path[0]: value for path, value in assignments.items() if len(path) == 1})
    assign(document, {path: value for path, value in assignments.items() if len(path) > 1})
    return document


def from_stored(schema: Schema, stored: Stored) -> Any:
    """Make the document that a stored one is: of its concrete class, references unread.

    ``stored`` is kept and must not be changed afterwards: :func:`to_stored` gives back from it what nobody
    has touched, unknown fields included.
    """
    return revive(schema, stored)


def assign(document: Any, assignments: Assignments) -> None:
    """Set typed values at their paths; embedded documents that are missing on the way are made.

    None unsets a field (its default comes back, as in mongoengine). Raises ValidationError.
    """
    for path, value in assignments.items():
        owner, pointer = document, ""
        for name in path[:-1]:
            pointer = child(pointer, name)
            owner = _step(owner, name, pointer)
        pointer = child(pointer, path[-1])
        try:
            set_field(owner, Schema.of(type(owner)).field(path[-1], pointer), value)
        except OperationError as error:  # a shard key that would change
            raise refuse(pointer, str(error)) from None


def _step(owner: Any, name: str, pointer: str) -> Any:
    spec = Schema.of(type(owner)).field(name, pointer)
    below = owner._data.get(name)
    if isinstance(below, EmbeddedDocument):
        return below
    if spec.embedded is None:
        raise refuse(pointer, "has no fields of its own")
    below = create(spec.embedded, {})
    set_field(owner, spec, below)
    return below


def validate(document: Any) -> None:
    """Run ``clean()``, every validator, and what MongoDB adds to them; raises one ValidationError.

    The errors point to embedded fields, list items and map keys. ``clean()`` and validators are the
    user's: they may block, so call this in a thread when the model overrides them.
    """
    errors: list[FieldError] = []
    check_document(document, "", errors)
    if errors:
        raise ValidationError(errors[:MAX_ERRORS])


def to_stored(document: Any) -> Stored:
    """Return what MongoDB is to keep of a document, ``_id`` first, null dropped as mongoengine does.

    Nothing is counted up: fill :func:`pending_sequences` and :func:`pending_references` before.
    """
    return store(document)
