"""The compiled way out: stored documents to JSON-able dicts, one generated function per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mongoengine.base.common import _document_registry

from bzz.model.encoder_source import Source
from bzz.model.schema import Schema, Stored
from bzz.model.untyped import JSON_TYPES, encode_value

__all__ = ["encoder_of", "fallback", "list_encoder_of"]

Encoder = Callable[[Stored], dict[str, Any]]
ListEncoder = Callable[[Sequence[Stored]], list[dict[str, Any]]]

_encoders: dict[Schema, Encoder] = {}
_list_encoders: dict[Schema, ListEncoder] = {}
_exact_encoders: dict[Schema, Encoder] = {}


def encoder_of(schema: Schema) -> Encoder:
    """Return the function that encodes a stored document of this class or a class below it."""
    encoder = _encoders.get(schema)
    if encoder is None:
        made = _polymorphic(schema) if schema.polymorphic else _exact(schema)
        encoder = _encoders.setdefault(schema, made)
    return encoder


def list_encoder_of(schema: Schema) -> ListEncoder:
    """Return the function that encodes stored documents of this class or of classes below it."""
    encoder = _list_encoders.get(schema)
    if encoder is None:
        one = encoder_of(schema)
        made = _each(one) if schema.polymorphic or schema.dynamic else Source(schema).many(one)
        encoder = _list_encoders.setdefault(schema, made)
    return encoder


def _each(encode: Encoder) -> ListEncoder:
    return lambda documents: [encode(stored) for stored in documents]


def _polymorphic(schema: Schema) -> Encoder:
    own = _exact(schema)
    own_name = schema.class_name
    known: dict[str, tuple[Any, Encoder]] = {}

    def encode(stored: Stored) -> dict[str, Any]:
        name = stored.get("_cls")
        if name == own_name:
            return own(stored)
        found = known.get(name) if type(name) is str else None
        # A class may be declared anew under its name; until then there is nothing to look for again.
        if found is not None and _document_registry.get(name) is found[0]:
            return found[1](stored)
        concrete = schema.of_stored(stored)
        if concrete is schema:
            return own(stored)
        encoder = _exact(concrete)
        known[concrete.class_name] = concrete.model, encoder
        return encoder(stored)

    return encode


def _exact(schema: Schema) -> Encoder:
    encoder = _exact_encoders.get(schema)
    if encoder is None:
        encoder = _exact_encoders.setdefault(schema, _compile(schema))
    return encoder


def _compile(schema: Schema) -> Encoder:
    encode = Source(schema).one()
    if not schema.dynamic:
        return encode
    known = frozenset(schema.by_db_name) | frozenset(schema.fields)

    def encode_dynamic(stored: Stored) -> dict[str, Any]:
        result = encode(stored)
        for key, value in stored.items():
            if key not in known and key[:1] != "_":
                result[key] = value if type(value) in JSON_TYPES else encode_value(value)
        return result

    return encode_dynamic


def fallback(value: Any) -> Any:
    """Encode what orjson does not know: a value that does not fit its field."""
    encoded = encode_value(value)
    if encoded is value:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return encoded
