"""References that name the class they point to: GenericReferenceField and its lazy twin."""

from __future__ import annotations

from typing import Any

from bson import DBRef
from mongoengine import Document, fields
from mongoengine.base import LazyReference, get_document
from mongoengine.errors import NotRegistered

from bzz.model.dynamic import reference_to
from bzz.model.field import FieldSpec, describes
from bzz.model.refusal import child, kind_of, refuse, shorten
from bzz.model.schema import Schema
from bzz.model.untyped import encode_value, fresh

__all__ = [
    "GenericReferenceSpec",
    "decode_generic",
    "encode_generic",
    "encode_generic_value",
    "generic_from_text",
    "key_in",
    "load_generic",
    "primary_of",
]


def document_named(name: Any) -> Any:
    """Return the concrete document class of this exact name, None if there is none."""
    try:
        found = get_document(name) if isinstance(name, str) else None
    except NotRegistered:
        return None
    if found is None or found._class_name != name or not issubclass(found, Document):
        return None
    return None if found._meta.get("abstract") else found


def primary_of(model: Any) -> FieldSpec:
    """Return the primary key of a model that has one."""
    primary = Schema.of(model).primary
    if primary is None:
        raise TypeError(f"{model.__name__} is abstract: it has no key")
    return primary


def key_in(value: Any) -> Any:
    """Return the key that a reference of any typed or stored form holds, nothing read."""
    if isinstance(value, DBRef):  # a LazyReference is one too
        return value.id
    if isinstance(value, Document):
        return value._data.get(type(value)._meta["id_field"])
    return value


@describes(fields.GenericReferenceField, fields.GenericLazyReferenceField)
class GenericReferenceSpec(FieldSpec):
    """A reference to any model. JSON: ``{"_cls": "User", "_ref": KEY}``; text: ``User:KEY``."""

    ordered = False
    compound = True

    def decode(self, value: Any, pointer: str) -> Any:
        model, key = decode_generic(value, pointer)
        if self.field.choices and model._class_name not in self.field.choices:
            raise refuse(child(pointer, "_cls"), "this field may not refer to this class")
        return generic(model, primary_of(model).store(key))

    def from_text(self, text: str, pointer: str) -> Any:
        return self.decode(generic_from_text(text, pointer), pointer)

    def store(self, value: Any) -> Any:
        if isinstance(value, LazyReference):
            model = value.document_type
            return generic(model, primary_of(model).store(value.id))
        if isinstance(value, Document):
            return {"_cls": type(value)._class_name, "_ref": reference_to(value)}
        return fresh(value)

    def load(self, stored: Any) -> Any:
        return load_generic(stored["_cls"], stored["_ref"])

    def revive(self, stored: Any) -> Any:
        return fresh(stored)

    def encode(self, stored: Any) -> Any:
        return encode_generic_value(stored)


def generic(model: Any, key: Any) -> dict[str, Any]:
    """Build the stored form of a generic reference."""
    return {"_cls": model._class_name, "_ref": DBRef(model._get_collection_name(), key)}


def decode_generic(value: Any, pointer: str) -> tuple[Any, Any]:
    """Read ``{"_cls", "_ref"}`` into a document class and a typed key of it."""
    if not isinstance(value, dict) or set(value) != {"_cls", "_ref"}:
        raise refuse(pointer, f'expected an object with "_cls" and "_ref", not {kind_of(value)}')
    model = document_named(value["_cls"])
    if model is None:
        raise refuse(child(pointer, "_cls"), "expected the name of a document class")
    place = child(pointer, "_ref")
    if value["_ref"] is None:
        raise refuse(place, "expected a key, not null")
    return model, primary_of(model).decode(value["_ref"], place)


def generic_from_text(text: str, pointer: str) -> dict[str, Any]:
    """Read ``Class:KEY`` into the JSON form of a generic reference."""
    name, colon, key = text.partition(":")
    model = document_named(name)
    if not colon or model is None:
        raise refuse(pointer, f"expected CLASS:KEY, not {shorten(text)!r}")
    primary = primary_of(model)
    typed = primary.decode_text([key], pointer)
    if typed is None:
        raise refuse(pointer, "expected a key")
    return {"_cls": name, "_ref": primary.encode(primary.store(typed))}


def load_generic(name: Any, reference: Any) -> dict[str, Any]:
    """Load a reference that names its class: the class name and the loaded key."""
    model = document_named(name)
    key = key_in(reference)
    return {"_cls": name, "_ref": key if model is None else primary_of(model).load(key)}


def encode_generic(name: Any, reference: Any) -> dict[str, Any]:
    """Encode a reference that names its class."""
    model = document_named(name)
    key = key_in(reference)
    return {"_cls": name, "_ref": encode_value(key) if model is None else primary_of(model).encode(key)}


def encode_generic_value(stored: Any) -> Any:
    """Encode the stored or loaded form of a generic reference, anything else as untyped."""
    if isinstance(stored, dict) and set(stored) == {"_cls", "_ref"}:
        return encode_generic(stored["_cls"], stored["_ref"])
    return encode_value(stored)
