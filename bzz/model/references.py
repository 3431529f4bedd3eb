"""Fields that point to other documents. JSON: the key of the other, in that key's own form.

A reference is never followed here: typed values are DBRefs, LazyReferences, or documents that hold a key
and nothing else; the referenced document is not read and need not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bson import DBRef
from mongoengine import Document, fields
from mongoengine.base import LazyReference

from bzz.errors import FieldError
from bzz.model.checking import check_constraints
from bzz.model.dynamic import reference_to
from bzz.model.field import FieldSpec, describes, known_class
from bzz.model.generic import (
    decode_generic,
    encode_generic,
    encode_generic_value,
    generic_from_text,
    key_in,
    load_generic,
    primary_of,
)
from bzz.model.instances import create, revive, store
from bzz.model.refusal import child, refuse
from bzz.model.schema import Schema
from bzz.model.untyped import fresh

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source

__all__ = ["CachedReferenceSpec", "KeyedSpec", "LazyReferenceSpec", "ReferenceSpec", "is_pending"]

_PENDING = "_bzz_pending"
_CACHED = "_bzz_cached"


def is_pending(document: Any) -> bool:
    """Whether a document holds only a key that a client sent: its cached fields are still to be read."""
    return bool(document.__dict__.get(_PENDING))


class KeyedSpec(FieldSpec):
    """What references to one known model share."""

    ordered = False
    compound = True

    @property
    def target(self) -> Any:
        return self.field.document_type

    @cached_property
    def key(self) -> FieldSpec:
        """How the key of the referenced model travels."""
        return primary_of(self.field.document_type)

    def from_text(self, text: str, pointer: str) -> Any:
        return self.typed(self.key.decode_text([text], pointer))

    def decode(self, value: Any, pointer: str) -> Any:
        return self.typed(self.key.decode(value, pointer))

    def typed(self, key: Any) -> Any:
        """Wrap a typed key as mongoengine wants it on a document."""
        raise NotImplementedError

    def load(self, stored: Any) -> Any:
        return self.key.load(key_in(stored))

    def encode(self, stored: Any) -> Any:
        value = key_in(stored)
        return None if value is None else self.key.encode(value)

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        # Of scalars only: a dict may be what a field keeps of the other document.
        return ((cls, how) for cls, how in self.key.written(source, name) if cls not in (dict, list))


@describes(fields.ReferenceField)
class ReferenceSpec(KeyedSpec):
    """A reference by key, or by DBRef with ``dbref=True``; one to an abstract class names the class too."""

    @property
    def _abstract(self) -> bool:
        return bool(self.field.document_type._meta.get("abstract"))

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        return iter(()) if self._abstract else super().written(source, name)

    def typed(self, key: Any) -> Any:
        return DBRef(self.field.document_type._get_collection_name(), self.key.store(key))

    def decode(self, value: Any, pointer: str) -> Any:
        if not self._abstract:
            return super().decode(value, pointer)
        model, key = decode_generic(value, pointer)
        if not issubclass(model, self.field.document_type):
            raise refuse(child(pointer, "_cls"), "this is no class of this field")
        return DBRef(model._get_collection_name(), primary_of(model).store(key), cls=model._class_name)

    def from_text(self, text: str, pointer: str) -> Any:
        if not self._abstract:
            return super().from_text(text, pointer)
        return self.decode(generic_from_text(text, pointer), pointer)

    def store(self, value: Any) -> Any:
        if self._abstract:
            if isinstance(value, Document):
                found = reference_to(value)
                return DBRef(found.collection, found.id, cls=type(value)._class_name)
            return value
        key = key_in(value)
        model = type(value) if isinstance(value, Document) else self.field.document_type
        stored = None if key is None else primary_of(model).store(key)
        return DBRef(model._get_collection_name(), stored) if self.field.dbref else stored

    def load(self, stored: Any) -> Any:
        return load_generic(stored.cls, stored) if self._abstract else super().load(stored)

    def revive(self, stored: Any) -> Any:
        if isinstance(stored, DBRef):
            return stored
        return DBRef(self.field.document_type._get_collection_name(), stored)

    def encode(self, stored: Any) -> Any:
        if not self._abstract:
            return super().encode(stored)
        if isinstance(stored, DBRef):
            return encode_generic(getattr(stored, "cls", None), stored)
        return encode_generic_value(stored)


@describes(fields.LazyReferenceField)
class LazyReferenceSpec(KeyedSpec):
    """A reference that mongoengine follows only when asked. Stored like a ReferenceField."""

    def typed(self, key: Any) -> Any:
        return LazyReference(self.field.document_type, key, passthrough=self.field.passthrough)

    def store(self, value: Any) -> Any:
        key = key_in(value)
        stored = None if key is None else self.key.store(key)
        return DBRef(self.field.document_type._get_collection_name(), stored) if self.field.dbref else stored

    def revive(self, stored: Any) -> Any:
        return self.typed(self.key.revive(key_in(stored)))


@describes(fields.CachedReferenceField)
class CachedReferenceSpec(KeyedSpec):
    """A reference that keeps copies of some fields of the other document.

    A key from a client gives a document that is pending (:func:`is_pending`): whoever stores it has to read
    the other document first, because the copies come from there.
    """

    query_suffix = "._id"

    def typed(self, key: Any) -> Any:
        model = self.field.document_type
        document = create(Schema.of(model), {self.key.name: key}, created=False)
        document.__dict__[_PENDING] = True
        return document

    def store(self, value: Any) -> Any:
        cached = value.__dict__.get(_CACHED)
        if cached is not None:
            return fresh(cached)
        schema = Schema.of(type(value))
        stored = store(value)
        wanted = self.field.fields
        if wanted:
            roots = {schema.fields[name.split(".")[0]].db_name: name for name in wanted}
            stored = {key: item for key, item in stored.items() if key in roots or key == "_cls"}
            for root, name in roots.items():
                if "." in name and isinstance(stored.get(root), dict):
                    stored[root] = _only(schema, stored[root], wanted, name.split(".")[0])
        return {"_id": self.key.store(key_in(value)), **stored}

    def load(self, stored: Any) -> Any:
        return self.key.load(_cached_key(stored))

    def revive(self, stored: Any) -> Any:
        if not isinstance(stored, dict):
            return self.typed(self.key.revive(key_in(stored)))
        document = revive(Schema.of(self.field.document_type), stored)
        document.__dict__[_CACHED] = fresh(stored)
        return document

    def encode(self, stored: Any) -> Any:
        return self.key.encode(_cached_key(stored))

    def query(self, value: Any) -> tuple[str, Any]:
        return self.query_suffix, self.key.store(key_in(value))

    def validate(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        if type(self.field).validate is not known_class(self.field).validate:
            super().validate(value, pointer, errors)
            return
        check_constraints(self.field, value, pointer, errors)
        if not isinstance(value, self.field.document_type) or key_in(value) is None:
            errors.append(FieldError(pointer, "expected a stored document of the referenced class"))


def _cached_key(stored: Any) -> Any:
    return stored.get("_id") if isinstance(stored, dict) else key_in(stored)


def _only(schema: Schema, stored: dict[str, Any], wanted: Sequence[str], root: str) -> dict[str, Any]:
    below = schema.fields[root].embedded
    names = {name.split(".")[1] for name in wanted if name.startswith(f"{root}.")}
    if below is None:
        return {key: item for key, item in stored.items() if key in names}
    keys = {below.fields[name].db_name for name in names if name in below.fields} | {"_cls"}
    return {key: item for key, item in stored.items() if key in keys}
