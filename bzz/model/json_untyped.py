"""The JSON Schema of what a client may send where no field says anything: see :mod:`bzz.model.extended`."""

from __future__ import annotations

from typing import Any

__all__ = ["BASE64", "FREE_KEY", "MOMENT_INPUT", "UUID_INPUT", "untyped_input"]

Json = dict[str, Any]

#: What a key of a dict may be called: nothing that looks like an operator, a path or a class.
FREE_KEY: Json = {"pattern": r"^([^$.\u0000][^.\u0000]*)?$", "not": {"enum": ["_cls", "_ref"]}}

MOMENT_INPUT = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(\.[0-9]{1,18})?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?$"
)
UUID_INPUT = r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"

BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
_WRAPPERS: dict[str, Json] = {
    "$oid": {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"},
    "$date": {"type": "string", "format": "date-time", "pattern": MOMENT_INPUT},
    "$numberInt": {"type": "string", "pattern": "^-?[0-9]{1,19}$"},
    "$numberLong": {"type": "string", "pattern": "^-?[0-9]{1,19}$"},
    "$numberDouble": {"type": "string", "pattern": _NUMBER},
    "$numberDecimal": {"type": "string", "pattern": _NUMBER},
    "$uuid": {"type": "string", "format": "uuid", "pattern": UUID_INPUT},
    "$binary": {
        "type": "object",
        "properties": {
            "base64": {"type": "string", "contentEncoding": "base64", "pattern": BASE64},
            "subType": {"type": "string", "pattern": "^[0-9a-fA-F]{1,2}$"},
        },
        "required": ["base64", "subType"],
        "additionalProperties": False,
    },
    "$timestamp": {
        "type": "object",
        "properties": {name: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1} for name in ("t", "i")},
        "required": ["t", "i"],
        "additionalProperties": False,
    },
    "$minKey": {"const": 1},
    "$maxKey": {"const": 1},
}


def untyped_input(own: str) -> Json:
    """Return the schema of any JSON value, with MongoDB Extended JSON v2 for what JSON cannot say.

    ``own`` is the reference under which this schema can be found: it holds itself.
    """
    again = {"$ref": own}
    return {
        "description": "Any JSON value; other BSON types as MongoDB Extended JSON v2.",
        "anyOf": [
            {"type": ["string", "number", "boolean", "null"]},
            {"type": "array", "items": again},
            {"type": "object", "propertyNames": FREE_KEY, "additionalProperties": again},
            *(
                {
                    "type": "object",
                    "properties": {name: shown},
                    "required": [name],
                    "additionalProperties": False,
                }
                for name, shown in _WRAPPERS.items()
            ),
        ],
    }
