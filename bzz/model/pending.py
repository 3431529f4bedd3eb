"""What the server still has to add to a document before it can be stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mongoengine import EmbeddedDocument

from bzz.model.field import FieldSpec
from bzz.model.references import is_pending
from bzz.model.schema import Schema

__all__ = ["is_complete", "pending_references", "pending_sequences"]


def pending_sequences(document: Any) -> list[tuple[Any, Any]]:
    """Return (owner, field) for every sequence at any depth that has no value yet.

    ``owner`` is the document or embedded document. To fill one in a thread:
    ``setattr(owner, field.name, field.generate())``, or ``owner._data[field.name] = …``.
    """
    return [
        (owner, spec.field)
        for owner, spec in _fields_of(document)
        if spec.automatic and owner._data.get(spec.name) is None
    ]


def pending_references(document: Any) -> list[tuple[Any, FieldSpec]]:
    """Return (owner, spec) for every cached reference that a client set by key.

    Its copies come from the document with the key that ``owner._data[spec.name]`` holds, perhaps among others
    in a list: read it and put it there, or refuse the key if it does not exist.
    """
    return [
        (owner, spec)
        for owner, spec in _fields_of(document)
        if any(map(is_pending, _documents_in(owner._data.get(spec.name))))
    ]


def _documents_in(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in list(value):
            yield from _documents_in(item)
    elif isinstance(value, dict):
        for item in dict(value).values():
            yield from _documents_in(item)
    elif hasattr(type(value), "_fields"):
        yield value


def _fields_of(document: Any) -> Iterator[tuple[Any, FieldSpec]]:
    """Yield every declared field of a document and of the embedded documents in it, with its owner."""
    for spec in Schema.of(type(document)).fields.values():
        yield document, spec
    for value in list(document._data.values()):
        for below in _documents_in(value):
            if isinstance(below, EmbeddedDocument):
                yield from _fields_of(below)


def is_complete(value: Any) -> bool:
    """Whether a typed value can be stored as it is: no sequence and no copy is missing in it."""
    for document in _documents_in(value):
        if is_pending(document):
            return False
        if isinstance(document, EmbeddedDocument) and (
            pending_sequences(document) or pending_references(document)
        ):
            return False
    return True
