"""mongoengine's validation of a document, field by field, so that every error keeps its place.

mongoengine itself stops at an exception that is not its own, and reads the primary key (perhaps from the
network) to print it. A class or a field with a ``validate`` of its own is asked through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pymongo.errors
from mongoengine.base import BaseDocument

from bzz.errors import BzzError, FieldError, ValidationError
from bzz.model.field import FieldSpec
from bzz.model.refusal import below, flatten
from bzz.model.schema import Schema

__all__ = ["attempt", "check_constraints", "check_document", "check_field", "check_stored"]


def attempt(check: Callable[[], Any], pointer: str, errors: list[FieldError], value: Any = None) -> None:
    """Run a validator of the user's and collect what it raises.

    An error of the database, and a veto, are not about the value: they go on.
    """
    try:
        check()
    except ValidationError as error:
        errors.extend(below(pointer, error.errors))
    except (BzzError, pymongo.errors.PyMongoError):
        raise
    except Exception as error:  # it may fail in any way; the value is what it refused
        errors.extend(flatten(error, pointer, value))


def check_document(document: Any, pointer: str, errors: list[FieldError]) -> None:
    """Collect everything that is wrong with a document or embedded document; ``clean()`` is called."""
    cls = type(document)
    before = len(errors)
    if cls.validate is not BaseDocument.validate:
        attempt(lambda: document.validate(clean=True), pointer, errors, document)
        if len(errors) == before:
            check_stored(document, pointer, errors)
        return
    if cls.clean is not BaseDocument.clean:
        attempt(document.clean, pointer, errors, document)
    data = document._data
    for name, spec in _specs_of(document):
        value = data.get(name)
        if value is not None:
            spec.validate(value, pointer + spec.pointer, errors)
        elif spec.required:
            check_field(spec, None, pointer + spec.pointer, errors)


def _specs_of(document: Any) -> Iterable[tuple[str, FieldSpec]]:
    """Return the fields of a document with their names, those that only this one has included."""
    cls = type(document)
    schema = Schema.of(cls)
    if not schema.dynamic:
        return schema.fields.items()
    names = [name for name in document._fields_ordered if name != "_cls"]
    return [(name, schema.fields.get(name) or Schema.untyped(name)) for name in names]


def check_field(spec: FieldSpec, value: Any, pointer: str, errors: list[FieldError]) -> None:
    """Collect what is wrong with the value of one field; None where it is required counts."""
    if value is not None:
        spec.validate(value, pointer, errors)
    elif spec.required and not spec.automatic:
        errors.append(FieldError(pointer, "this field is required"))


def check_stored(document: Any, pointer: str, errors: list[FieldError]) -> None:
    """Collect what MongoDB cannot keep of a document that its own ``validate`` accepts."""
    for name, spec in _specs_of(document):
        value = document._data.get(name)
        if value is not None:
            spec.check(value, pointer + spec.pointer, errors)


class _Constraints:
    """A field that only knows its ``choices`` and ``validation``."""

    def __init__(self, field: Any) -> None:
        self._field = field

    def __getattr__(self, name: str) -> Any:
        return getattr(self._field, name)

    def validate(self, value: Any, **options: Any) -> None:
        """Accept everything: the items are looked at one by one, each with its own place."""


def check_constraints(field: Any, value: Any, pointer: str, errors: list[FieldError]) -> None:
    """Collect what ``choices`` and ``validation`` of a field have against a value, and nothing else."""
    if field.choices or field.validation is not None:
        attempt(lambda: type(field)._validate(_Constraints(field), value), pointer, errors, value)
