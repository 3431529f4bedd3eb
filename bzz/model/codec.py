"""JSON and text in, JSON out: what the handlers call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from bzz.errors import FieldError, KeyFormatError, ValidationError
from bzz.model.encoding import encoder_of, fallback, list_encoder_of
from bzz.model.field import FieldSpec
from bzz.model.refusal import MAX_ERRORS, child, refuse, shorten
from bzz.model.schema import Path, Schema, Stored
from bzz.model.storable import check_storable
from bzz.model.untyped import encode_plain, encode_value

__all__ = [
    "Assignments",
    "decode_form",
    "decode_object",
    "dump",
    "encode",
    "encode_bytes",
    "encode_diff",
    "encode_each",
    "encode_list_bytes",
    "encode_parts",
    "encode_plain",
    "encode_value",
    "key_filter",
    "key_from_text",
    "key_to_text",
    "read_key",
    "write_key",
]

Assignments = dict[Path, Any]

# Datetimes have one form of their own here; orjson would write another.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
MAX_KEY_LENGTH = 1024
MAX_PATH = 32


def encode(schema: Schema, stored: Stored) -> dict[str, Any]:
    """Return a stored document as JSON values by field name; declared fields that are missing are null."""
    result: dict[str, Any] = orjson.loads(encode_bytes(schema, stored))
    return result


def encode_bytes(schema: Schema, stored: Stored) -> bytes:
    """Return a stored document as JSON in UTF-8."""
    return orjson.dumps(encoder_of(schema)(stored), fallback, _OPTIONS)


def encode_list_bytes(schema: Schema, documents: Sequence[Stored]) -> bytes:
    """Return stored documents as one JSON array in UTF-8."""
    return orjson.dumps(list_encoder_of(schema)(documents), fallback, _OPTIONS)


def encode_each(schema: Schema, documents: Sequence[Stored]) -> list[bytes]:
    """Return stored documents as JSON in UTF-8, each by itself."""
    return [orjson.dumps(encoded, fallback, _OPTIONS) for encoded in list_encoder_of(schema)(documents)]


def encode_parts(schema: Schema, stored: Stored) -> dict[str, Any]:
    """Return a stored document as a fresh dict by field name, for :func:`dump`."""
    return encoder_of(schema)(stored)


def dump(encoded: Any) -> bytes:
    """Write what :func:`encode_parts` returned as JSON in UTF-8."""
    return orjson.dumps(encoded, fallback, _OPTIONS)


def encode_diff(schema: Schema, updated_fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a diff (:func:`bzz.model.diff.diff`) as JSON values, in the same forms as the documents."""
    written = {
        path: {side: _encode_side(_spec_at(schema, path), change[side]) for side in ("from", "to")}
        for path, change in updated_fields.items()
    }
    result: dict[str, Any] = orjson.loads(orjson.dumps(written, fallback, _OPTIONS))
    return result


def _encode_side(spec: FieldSpec | None, loaded: Any) -> Any:
    if loaded is None:
        return None
    return encode_value(loaded) if spec is None else spec.encode_loaded(loaded)


def _spec_at(schema: Schema, path: str) -> FieldSpec | None:
    """Find a field by its dotted path, also one that only a subclass on the way has."""
    name, _, rest = path.partition(".")
    below = [Schema.of(sub) for sub in schema.subclasses.values()] if schema.polymorphic else []
    for cls in [schema, *below]:
        spec = cls.fields.get(name)
        if spec is not None:
            if not rest:
                return spec
            if spec.embedded is not None:
                found = _spec_at(spec.embedded, rest)
                if found is not None:
                    return found
    return None


def key_to_text(schema: Schema, stored: Stored) -> str:
    """Return the key of a stored document as it stands in URLs, before percent-encoding."""
    return write_key(schema.key, stored.get(schema.key.db_name))


def write_key(spec: FieldSpec, value: Any) -> str:
    """Return a stored value of a field that is a key as it stands in URLs, before percent-encoding."""
    encoded = None if value is None else spec.encode(value)
    if isinstance(encoded, bool):
        return "true" if encoded else "false"
    return "" if encoded is None else str(encoded)


def key_from_text(schema: Schema, text: str) -> Any:
    """Return the stored key that a text of a URL (percent-decoded) says; raises KeyFormatError."""
    try:
        return read_key(schema.key, text)
    except ValidationError:
        raise KeyFormatError(f"No {schema.name} has the key {shorten(text)!r}.") from None


def read_key(spec: FieldSpec, text: str) -> Any:
    """Return the stored value of a field that is a key, from a text of a URL; raises ValidationError."""
    if not text or len(text) > MAX_KEY_LENGTH:
        raise refuse("", "the length is wrong")
    typed = spec.decode_text([text], "")
    stored = None if typed is None else spec.store(typed)
    errors: list[FieldError] = []
    check_storable(stored, "", errors)
    if stored is None or errors or isinstance(stored, (dict, list)):
        raise refuse("", "this is no key")
    return stored


def key_filter(schema: Schema, text: str) -> dict[str, Any]:
    """Return the filter that finds the document with this key, and none of another class."""
    return {schema.key.db_name: key_from_text(schema, text), **schema.scope}


def decode_object(schema: Schema, obj: Mapping[str, Any], *, creating: bool) -> Assignments:
    """Decode a JSON object into typed values, one path of one element for each member; null is None.

    Everything that is wrong is collected into one ValidationError. The primary key that the server makes up
    is refused when creating; otherwise it comes out like any other field and the caller has to compare it.
    """
    assignments: Assignments = {}
    errors: list[FieldError] = []
    for name, value in obj.items():
        spec = schema.fields.get(name)
        pointer = child("", name) if spec is None else spec.pointer
        try:
            if spec is None or (creating and spec is schema.primary):
                spec = _writable(schema, name, pointer, creating)
            assignments[(name,)] = spec.take(value, pointer)
        except ValidationError as error:
            errors.extend(error.errors)
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise ValidationError(errors[:MAX_ERRORS])
    return assignments


def _writable(schema: Schema, name: str, pointer: str, creating: bool) -> FieldSpec:
    if name not in schema.fields and (name[:1] in ("_", "$") or "." in name or "\0" in name):
        raise refuse(pointer, "this name is not allowed")
    if creating and schema.automatic_key and schema.primary is not None and name == schema.primary.name:
        raise refuse(pointer, "the key is made up by the server")
    return schema.field(name, pointer)


def decode_form(schema: Schema, pairs: Sequence[tuple[str, str]], *, creating: bool) -> Assignments:
    """Decode form values: ``address.city`` reaches into embedded documents, lists repeat their name.

    ``members[]`` is the same as ``members`` for a list. An empty value is None for everything but text.
    """
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    assignments: Assignments = {}
    errors: list[FieldError] = []
    for name, values in texts.items():
        try:
            path, value = _decode_form_field(schema, name, values, creating)
            if path in assignments:
                raise refuse(_pointer(path), "this field is given twice")
            assignments[path] = value
        except ValidationError as error:
            errors.extend(error.errors)
            if len(errors) >= MAX_ERRORS:
                break
    if errors:
        raise ValidationError(errors[:MAX_ERRORS])
    return assignments


def _decode_form_field(schema: Schema, name: str, values: list[str], creating: bool) -> tuple[Path, Any]:
    path = tuple(name.removesuffix("[]").split("."))
    pointer = _pointer(path)
    if len(path) > MAX_PATH:
        raise refuse(pointer, f"the path has more than {MAX_PATH} steps")
    _writable(schema, path[0], child("", path[0]), creating)
    spec = schema.at(path)
    if name.endswith("[]") and not spec.repeatable:
        raise refuse(pointer, "this field is not a list")
    errors: list[FieldError] = []
    check_storable(values, pointer, errors)
    if errors:
        raise refuse(pointer, errors[0].detail)
    return path, spec.decode_text(values, pointer)


def _pointer(path: Path) -> str:
    pointer = ""
    for name in path:
        pointer = child(pointer, name)
    return pointer
