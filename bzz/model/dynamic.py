"""Fields that say nothing about their values: ``DynamicField``, and any class that only knows BaseField."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bson import SON, DBRef
from mongoengine import Document, EmbeddedDocument, fields
from mongoengine.base import BaseField, LazyReference, get_document
from mongoengine.errors import NotRegistered

from bzz.errors import FieldError
from bzz.model.checking import check_document, check_stored
from bzz.model.extended import decode_value
from bzz.model.field import FieldSpec, describes, known_class
from bzz.model.instances import revive, store
from bzz.model.refusal import child
from bzz.model.schema import Schema
from bzz.model.storable import check_storable
from bzz.model.untyped import encode_value, fresh, load_value, normalize

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source

__all__ = ["UntypedSpec"]


@describes(BaseField, fields.DynamicField)
class UntypedSpec(FieldSpec):
    """Anything. JSON: any value, with Extended JSON wrappers for what JSON cannot say."""

    ordered = False
    comparable = False
    repeatable = True

    def decode(self, value: Any, pointer: str) -> Any:
        return decode_value(value, pointer)

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        return list(texts) if len(texts) > 1 else texts[0]

    def store(self, value: Any) -> Any:
        return _store(value)

    def load(self, stored: Any) -> Any:
        return load_value(stored)

    def revive(self, stored: Any) -> Any:
        return _revive(stored)

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield str, name
        yield int, name

    def encode(self, stored: Any) -> Any:
        return encode_value(stored)

    def validate(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        before = len(errors)
        if type(self.field).validate is known_class(self.field).validate and not self.field.choices:
            _walk(value, pointer, errors)
        if len(errors) == before:
            super().validate(value, pointer, errors)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_storable(_store(value), pointer, errors)


def _walk(value: Any, pointer: str, errors: list[FieldError]) -> None:
    """Validate the embedded documents within an untyped value."""
    if isinstance(value, EmbeddedDocument):
        check_document(value, pointer, errors)
        if not errors:
            check_stored(value, pointer, errors)
    elif isinstance(value, dict):
        for key, item in dict(value).items():
            _walk(item, child(pointer, key), errors)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(list(value)):
            _walk(item, child(pointer, index), errors)


def _store(value: Any) -> Any:
    """Store as mongoengine does, but look at types only: a proxy that is asked may read from the network."""
    if isinstance(value, dict):
        return {key: _store(item) for key, item in dict(value).items()}
    if isinstance(value, (list, tuple)):
        return [_store(item) for item in list(value)]
    if isinstance(value, EmbeddedDocument):
        return {**store(value), "_cls": type(value).__name__}
    if isinstance(value, Document):
        return {"_ref": reference_to(value), "_cls": type(value).__name__}
    return _store_proxy(value)


def _store_proxy(value: Any) -> Any:
    if isinstance(value, LazyReference):
        return DBRef(value.collection, value.id)
    return value.grid_id if isinstance(value, fields.GridFSProxy) else normalize(value)


def reference_to(document: Any) -> DBRef:
    """Return the reference to a document, made from what it holds: nothing is read."""
    schema = Schema.of(type(document))
    if schema.primary is None:
        raise TypeError(f"{schema.name} has no key")
    key = document._data.get(schema.primary.name)
    return DBRef(type(document)._get_collection_name(), None if key is None else schema.primary.store(key))


def _revive(stored: Any) -> Any:
    if isinstance(stored, (dict, SON)):
        schema = _embedded_class(stored)
        if schema is not None:
            return revive(schema, {key: value for key, value in stored.items() if key != "_cls"})
        return {key: _revive(value) for key, value in stored.items()}
    if isinstance(stored, list):
        return [_revive(item) for item in stored]
    return fresh(stored)


def _embedded_class(stored: dict[str, Any]) -> Schema | None:
    name = stored.get("_cls")
    if not isinstance(name, str) or "_ref" in stored:
        return None
    try:
        found = get_document(name)
    except NotRegistered:
        return None
    return Schema.of(found) if issubclass(found, EmbeddedDocument) else None
