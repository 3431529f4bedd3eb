"""One valid instance of a JSON Schema of this room, small enough to be read."""

from __future__ import annotations

import re
from typing import Any, Final

from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog

__all__ = ["NONE", "example"]

#: There is no example: a text has to match a pattern that only the model's author can satisfy.
NONE: Final = object()

MAX_DEPTH = 4
_FORMATS = {
    "date-time": "2024-02-29T12:30:00.000Z",
    "date": "2024-02-29",
    "email": "ana@example.org",
    "idn-email": "ana@example.org",
    "uri": "https://example.org/",
    "uuid": "7f2c1a9e-3b64-4d21-9c0e-5a1b2c3d4e5f",
    "decimal": "12.50",
}


def example(schema: Json, catalog: Catalog, *, every: bool = True, depth: int = 0) -> Any:
    """Return an instance that the schema accepts, :data:`NONE` if none can be made up.

    With ``every`` an object has all its members, else only those that it must have. Something within itself
    ends after a few levels, in null or in nothing.
    """
    schema = catalog.resolve(schema)
    choices = schema.get("oneOf") or schema.get("anyOf")
    if choices:
        made = (example(each, catalog, every=every, depth=depth + 1) for each in choices)
        return next((each for each in made if each is not NONE), NONE)
    fixed = [schema[name] for name in ("const", "default") if name in schema] + schema.get("enum", [])
    if fixed:
        return fixed[0]
    kinds = schema.get("type", "null")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    containers = {"object": _object, "array": _array}
    if kind in containers:
        return containers[kind](schema, catalog, every, depth)
    if kind in ("integer", "number"):
        return min(max(schema.get("minimum", 1), 1), schema.get("maximum", 1))
    return _string(schema) if kind == "string" else {"boolean": True, "null": None}[kind]


def _object(schema: Json, catalog: Catalog, every: bool, depth: int) -> Any:
    needed = schema.get("required", ())
    result: dict[str, Any] = {}
    for name, member in schema.get("properties", {}).items():
        if name not in needed and (not every or depth >= MAX_DEPTH):
            continue
        value = _member(member, catalog, every, depth, needed=name in needed)
        if value is not NONE:
            result[name] = value
        elif name in needed:
            return NONE
    if schema.get("minProperties", 0) > len(result):
        value = example(schema["additionalProperties"], catalog, every=every, depth=depth + 1)
        return NONE if value is NONE else {**result, "key": value}
    return result


def _member(schema: Json, catalog: Catalog, every: bool, depth: int, *, needed: bool) -> Any:
    if depth >= MAX_DEPTH and {"type": "null"} in schema.get("anyOf", ()):
        return None
    if depth >= 2 * MAX_DEPTH:
        return NONE
    return example(schema, catalog, every=every, depth=depth + 1)


def _array(schema: Json, catalog: Catalog, every: bool, depth: int) -> Any:
    count = max(schema.get("minItems", 0), 1)
    if schema.get("maxItems", 1) < 1 or (depth >= MAX_DEPTH and "minItems" not in schema):
        return []
    item = example(schema["items"], catalog, every=every, depth=depth + 1)
    if item is NONE:
        return NONE if "minItems" in schema else []
    return [item] * count


def _string(schema: Json) -> Any:
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 10**6)
    texts = [*schema.get("examples", ()), _FORMATS.get(schema.get("format", ""), "text")]
    texts += [
        "text"[:longest].ljust(shortest, "x"),
        "TEXT"[:longest].ljust(shortest, "X"),
        "1" * shortest,
        "1",
    ]
    pattern = schema.get("pattern")
    for text in texts:
        if shortest <= len(text) <= longest and (pattern is None or re.search(pattern, text)):
            return text
    return NONE
