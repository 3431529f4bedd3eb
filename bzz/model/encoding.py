"""The compiled way out: stored documents to JSON-able dicts, one tuple of steps per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bzz.model.schema import Schema, Stored
from bzz.model.untyped import encode_value

__all__ = ["encoder_of", "fallback"]

Encoder = Callable[[Stored], dict[str, Any]]

_encoders: dict[Schema, Encoder] = {}


def encoder_of(schema: Schema) -> Encoder:
    """Return the function that encodes a stored document of this class or a class below it."""
    encoder = _encoders.get(schema)
    if encoder is None:
        encoder = _encoders.setdefault(
            schema, _polymorphic(schema) if schema.polymorphic else _compile(schema)
        )
    return encoder


def _polymorphic(schema: Schema) -> Encoder:
    own = _compile(schema)

    def encode(stored: Stored) -> dict[str, Any]:
        concrete = schema.of_stored(stored)
        return own(stored) if concrete is schema else _exact(concrete)(stored)

    return encode


_exact_encoders: dict[Schema, Encoder] = {}


def _exact(schema: Schema) -> Encoder:
    encoder = _exact_encoders.get(schema)
    if encoder is None:
        encoder = _exact_encoders.setdefault(schema, _compile(schema))
    return encoder


def _compile(schema: Schema) -> Encoder:
    steps = tuple((spec.db_name, name, spec.encoder) for name, spec in schema.fields.items())
    head = {"_cls": schema.class_name} if schema.polymorphic else {}

    def encode(stored: Stored) -> dict[str, Any]:
        get = stored.get
        result: dict[str, Any] = head.copy()
        for db_name, name, encoder in steps:
            value = get(db_name)
            result[name] = value if encoder is None or value is None else encoder(value)
        return result

    if not schema.dynamic:
        return encode
    known = frozenset(schema.by_db_name) | frozenset(schema.fields)

    def encode_dynamic(stored: Stored) -> dict[str, Any]:
        result = encode(stored)
        for key, value in stored.items():
            if key not in known and key[:1] != "_":
                result[key] = encode_value(value)
        return result

    return encode_dynamic


def fallback(value: Any) -> Any:
    """Encode what orjson does not know: a value that does not fit its field."""
    encoded = encode_value(value)
    if encoded is value:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return encoded
