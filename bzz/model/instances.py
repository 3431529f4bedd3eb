"""Documents and embedded documents, made and taken apart without a single byte of network.

mongoengine's own way would read references (``_from_son`` of a cached reference), count sequences
(``to_mongo``) and write defaults of fields that nobody touched. Here a document remembers what it was made
from (:class:`Origin`), so that whatever was not changed is stored exactly as it was: unknown fields, values
of an older model, fields that are missing although they have a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mongoengine import Document, DynamicDocument, DynamicEmbeddedDocument, EmbeddedDocument, fields
from mongoengine.base import BaseDict, BaseDocument, BaseList

from bzz.errors import FieldError, ValidationError
from bzz.model.construct import construct, filled, reconstruct
from bzz.model.equality import same
from bzz.model.field import FieldSpec
from bzz.model.refusal import MAX_ERRORS, child
from bzz.model.schema import Schema, Stored
from bzz.model.untyped import load_value, normalize

__all__ = [
    "Origin",
    "create",
    "decode_fields",
    "load",
    "load_fields",
    "revive",
    "set_field",
    "store",
    "stores_plainly",
]

_ORIGIN = "_bzz_origin"
# A class with a to_mongo of its own is stored by it; all others without their chance to count sequences.
_STOCK = frozenset(
    cls.to_mongo
    for cls in (BaseDocument, Document, DynamicDocument, EmbeddedDocument, DynamicEmbeddedDocument)
)


class Origin:
    """What a document was made from: its stored form, and the defaults that filled the gaps."""

    __slots__ = ("defaults", "stored")

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.defaults: dict[str, Any] = {}

    @staticmethod
    def of(document: Any) -> Origin | None:
        """Return the origin of a revived document, None for a new one."""
        found = document.__dict__.get(_ORIGIN)
        return found if isinstance(found, Origin) else None


def decode_fields(schema: Schema, value: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    """Decode the members of a JSON object into typed values by field name; null is None.

    Raises one ValidationError with everything that is wrong.
    """
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, item in value.items():
        known = schema.fields.get(name)
        place = pointer + known.pointer if known is not None else child(pointer, name)
        try:
            spec = known or schema.field(name, place)
            values[name] = spec.take(item, place)
        except ValidationError as error:
            errors.extend(error.errors)
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise ValidationError(errors[:MAX_ERRORS])
    return values


def create(schema: Schema, values: Mapping[str, Any], *, created: bool = True) -> Any:
    """Make an instance of the class with these typed values; defaults fill the rest."""
    declared = {name: value for name, value in values.items() if name in schema.fields}
    document = construct(schema, declared, created=created)
    for name, value in values.items():
        if name not in declared:
            set_dynamic(document, name, value)
    return document


def set_dynamic(document: Any, name: str, value: Any) -> None:
    """Set a dynamic field without mongoengine's reading of dicts with ``_cls`` as documents.

    As there, the value is an attribute too, and a list or dict tells the document when it changes.
    """
    field = document._dynamic_fields.get(name)
    if field is None:
        if value is None:
            return
        field = fields.DynamicField(db_field=name, null=True)
        field.name = name
        document._dynamic_fields[name] = field
        if name not in document._fields_ordered:
            document._fields_ordered += (name,)
    # As mongoengine's own deletion of a dynamic field: null without being stored as null.
    field.null = value is not None
    if isinstance(value, dict):
        value = BaseDict(value, document, name)
    elif isinstance(value, list):
        value = BaseList(value, document, name)
    document._data[name] = document.__dict__[name] = value
    if hasattr(document, "_changed_fields"):
        document._mark_as_changed(name)


def set_field(document: Any, spec: FieldSpec, value: Any) -> None:
    """Assign a typed value (None unsets it) to a declared or dynamic field of a document."""
    name = spec.name
    if name not in document._fields:
        set_dynamic(document, name, value)
        return
    origin = Origin.of(document)
    if origin is not None:
        origin.defaults.pop(name, None)
    if value is None and spec.automatic:
        # Assigning None would count the sequence up, over the network.
        document._data[name] = None
        document._mark_as_changed(name)
        return
    setattr(document, name, value)


def revive(schema: Schema, stored: Stored) -> Any:
    """Make the document that this stored one is, of its concrete class, not created and not changed."""
    schema = schema.of_stored(stored)
    if not schema.dynamic:
        document = reconstruct(schema, stored, _revived)
        if document is not None:
            _remember(schema, document, stored)
            return document
    declared: dict[str, Any] = {}
    dynamic: dict[str, Any] = {}
    for key, value in stored.items():
        spec = schema.by_db_name.get(key)
        if spec is not None:
            declared[spec.name] = value if type(value) in spec.plain else _revived(spec, value)
        elif schema.dynamic and not key.startswith("_") and key not in schema.fields:
            dynamic[key] = _revived(schema.untyped(key), value)
    document = construct(schema, declared, created=False)
    for name, value in dynamic.items():
        set_dynamic(document, name, value)
    document._changed_fields = []
    _remember(schema, document, stored)
    return document


def _revived(spec: FieldSpec, value: Any) -> Any:
    if value is None:
        return None
    try:
        return spec.revive(value)
    except Exception:  # a value of an older model: the user's to_python may fail in any way; kept as it is
        return value


def _remember(schema: Schema, document: Any, stored: Stored) -> None:
    origin = Origin(stored)
    document.__dict__[_ORIGIN] = origin
    for name, spec in filled(schema):
        if stored.get(spec.db_name) is None:
            value = document._data.get(name)
            if value is not None:
                with suppress(Exception):  # a default that the field itself refuses: validation will say so
                    origin.defaults[name] = spec.store(value)


def store(document: Any) -> Stored:
    """Return what MongoDB is to keep of a document; None is dropped as mongoengine does.

    A missing sequence stays missing: nothing is counted up here.
    """
    cls = type(document)
    schema = Schema.of(cls)
    origin = Origin.of(document)
    result: Stored = {}
    if cls.to_mongo not in _STOCK:
        result = normalize(document.to_mongo())
        return _with_hidden(schema, document, origin, result)
    if schema.polymorphic:
        result["_cls"] = schema.class_name
    for name in document._fields_ordered:
        if name == "_cls":
            continue
        spec = schema.fields.get(name)
        if spec is None:
            _store_dynamic(document, name, result)
        else:
            _store_field(document, spec, result, origin)
    result = _with_hidden(schema, document, origin, result)
    return {"_id": result.pop("_id"), **result} if "_id" in result else result


def stores_plainly(schema: Schema) -> bool:
    """Tell whether the class has no ``to_mongo`` of its own."""
    return schema.model.to_mongo in _STOCK


def _store_field(document: Any, spec: FieldSpec, result: Stored, origin: Origin | None) -> None:
    value = document._data.get(spec.name)
    before = origin.stored.get(spec.db_name) if origin is not None else None
    stored = None if value is None else _stored(spec, value, before)
    if origin is not None:
        if before is None:
            if spec.name in origin.defaults and same(stored, origin.defaults[spec.name]):
                stored = None
            if stored is None and spec.db_name not in origin.stored:
                return
            if stored is None:
                result[spec.db_name] = None
                return
        elif stored is not None and _unchanged(spec, before, stored):
            stored = before
    if stored is not None or (spec.field.null and spec.db_name != "_id"):
        result[spec.db_name] = stored


def _stored(spec: FieldSpec, value: Any, before: Any) -> Any:
    """Store a typed value; one that its field cannot store is kept as it was while nobody has touched it."""
    if type(value) in spec.plain:
        return value
    try:
        stored = spec.store(value)
        if stored is not None:
            return stored
    except Exception:  # a user's to_mongo may fail in any way
        if before is None or not same(_revived(spec, before), value):
            raise
    return before if before is not None and same(_revived(spec, before), value) else None


def _unchanged(spec: FieldSpec, before: Any, stored: Any) -> bool:
    if same(before, stored):
        return True
    try:  # a value that the field reads and writes differently, which nobody has touched
        return same(spec.store(spec.revive(before)), stored)
    except Exception:  # what could not be read was changed if it is different now
        return False


def _store_dynamic(document: Any, name: str, result: Stored) -> None:
    value = document._data.get(name)
    if value is not None:
        result[name] = Schema.untyped(name).store(value)
    elif document._dynamic_fields[name].null:
        result[name] = None


def _with_hidden(schema: Schema, document: Any, origin: Origin | None, result: Stored) -> Stored:
    """Carry along what is stored under names that the document does not know."""
    if origin is not None:
        for key, value in origin.stored.items():
            if key not in result and key not in schema.by_db_name and key not in document._dynamic_fields:
                result[key] = value
    return result


def load_fields(schema: Schema, stored: Stored) -> dict[str, Any]:
    """Return the loaded view of a stored document: every declared field by name, None where missing."""
    schema = schema.of_stored(stored)
    view: dict[str, Any] = {"_cls": schema.class_name} if schema.polymorphic else {}
    for name, spec in schema.fields.items():
        value = stored.get(spec.db_name)
        view[name] = None if value is None else load(spec, value)
    if schema.dynamic:
        for key, value in stored.items():
            if value is not None and key not in schema.by_db_name and key not in view and key[:1] != "_":
                view[key] = load_value(value)
    return view


def load(spec: FieldSpec, value: Any) -> Any:
    """Load one stored value (never None); what the field cannot read is loaded as untyped."""
    try:
        return spec.load(value)
    except Exception:  # a value of an older model; the user's to_python may fail in any way
        return load_value(value)
