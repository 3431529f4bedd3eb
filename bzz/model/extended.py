"""Values that clients send for untyped positions: JSON, and MongoDB Extended JSON v2 wrappers.

https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/

An object with any other ``$`` key is refused, so nothing that a client sends can become an operator, a
reference or code.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable
from typing import Any

from bson import Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.binary import Binary

from bzz.model.moment import parse_moment, to_milliseconds
from bzz.model.refusal import child, refuse, shorten

__all__ = ["DECIMAL", "INT64", "UUID_TEXT", "check_key", "decode_value"]

INT64 = range(-(2**63), 2**63)
DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)
UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def check_key(key: str, pointer: str) -> None:
    """Refuse a client's key that MongoDB or mongoengine would take for something else."""
    if "\0" in key:
        raise refuse(pointer, "a key must not hold NUL")
    if key.startswith("$") or "." in key:
        raise refuse(pointer, f'a key must not start with "$" or hold "." ({shorten(key)})')
    if key in ("_cls", "_ref"):
        # mongoengine turns a plain dict with these into a document of the client's choice.
        raise refuse(pointer, f"the key {key} is reserved")


def decode_value(value: Any, pointer: str) -> Any:
    """Read a client's JSON value for an untyped position; wrappers become their BSON type."""
    cls = type(value)
    if value is None or cls is str or cls is bool or cls is int:
        return value
    if isinstance(value, float):
        return float(value)  # a plain one: the parser may hand out a subclass
    if isinstance(value, list):
        return [decode_value(item, child(pointer, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        if len(value) == 1:
            (key, inner), *_ = value.items()
            if key in _WRAPPERS:
                return _unwrap(key, inner, pointer)
        for key in value:
            check_key(key, child(pointer, key))
        return {key: decode_value(item, child(pointer, key)) for key, item in value.items()}
    return value  # put there by a receiver: nothing that JSON could hold


def _unwrap(key: str, inner: Any, pointer: str) -> Any:
    try:
        return _WRAPPERS[key](inner)
    except (ValueError, TypeError, KeyError, ArithmeticError, binascii.Error):
        raise refuse(pointer, f"this is not a valid {key} wrapper") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _object_id(value: Any) -> ObjectId:
    if len(_text(value)) != 24:
        raise ValueError(value)
    return ObjectId(value)


def _integer(value: Any) -> Int64:
    if len(_text(value)) > 20 or not re.fullmatch(r"-?\d+", value, re.ASCII) or int(value) not in INT64:
        raise ValueError(value)
    return Int64(value)


def _finite(value: Any) -> float:
    if len(_text(value)) > 400 or not DECIMAL.fullmatch(value) or not math.isfinite(float(value)):
        raise ValueError(value)
    return float(value)


def _decimal(value: Any) -> Decimal128:
    if len(_text(value)) > 100 or not DECIMAL.fullmatch(value):
        raise ValueError(value)
    return Decimal128(value)


def _uuid(value: Any) -> uuid.UUID:
    if not UUID_TEXT.fullmatch(_text(value)):
        raise ValueError(value)
    return uuid.UUID(value)


def _bytes(value: Any) -> bytes:
    if set(value) != {"base64", "subType"}:
        raise ValueError(value)
    data = base64.b64decode(_text(value["base64"]), validate=True)
    subtype = int(_text(value["subType"]), 16)
    if not 0 <= subtype <= 255:
        raise ValueError(subtype)
    return Binary(data, subtype) if subtype else data


def _timestamp(value: Any) -> Timestamp:
    if set(value) != {"t", "i"} or type(value["t"]) is not int or type(value["i"]) is not int:
        raise ValueError(value)
    return Timestamp(value["t"], value["i"])


def _edge(made: Callable[[], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not int or value != 1:
            raise ValueError(value)
        return made()

    return read


# Only data: regular expressions, code and DBRefs could act when an application passes them on.
_WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "$oid": _object_id,
    "$date": lambda value: to_milliseconds(parse_moment(_text(value))),
    "$numberInt": _integer,
    "$numberLong": _integer,
    "$numberDouble": _finite,
    "$numberDecimal": _decimal,
    "$uuid": _uuid,
    "$binary": _bytes,
    "$timestamp": _timestamp,
    "$minKey": _edge(MinKey),
    "$maxKey": _edge(MaxKey),
}
