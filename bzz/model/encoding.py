"""The compiled way out: stored documents to JSON-able dicts, one generated function per class."""

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
    encode = _generate(schema)
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


def _generate(schema: Schema) -> Encoder:
    """Write and compile one dict display for the declared fields: twice as fast as a loop over them.

    The source holds names from the model (as literals) and nothing from anybody else.
    """
    members = [f"'_cls': {schema.class_name!r}"] if schema.polymorphic else []
    encoders: dict[str, Any] = {}
    for number, (name, spec) in enumerate(schema.fields.items()):
        if spec.encoder is None:
            members.append(f"{name!r}: get({spec.db_name!r})")
        else:
            encoders[f"e{number}"] = spec.encoder
            members.append(f"{name!r}: e{number}(v) if (v := get({spec.db_name!r})) is not None else None")
    source = f"def encode(stored):\n    get = stored.get\n    return {{{', '.join(members)}}}\n"
    namespace: dict[str, Any] = encoders
    exec(compile(source, f"<encoder of {schema.class_name}>", "exec"), namespace)  # noqa: S102 - see above
    encode: Encoder = namespace["encode"]
    return encode


def fallback(value: Any) -> Any:
    """Encode what orjson does not know: a value that does not fit its field."""
    encoded = encode_value(value)
    if encoded is value:
        raise TypeError(f"{type(value).__name__} is not JSON")
    return encoded
