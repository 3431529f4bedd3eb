"""Values where no field says what they are: inside ``DictField``, ``DynamicField``, ``ListField()``.

JSON values stay as they are; BSON types without a JSON twin go out as MongoDB Extended JSON v2 wrappers
(https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/); :mod:`bzz.model.extended` reads them.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import math
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from bson import DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from mongoengine.base import BaseDocument

from bzz.model.moment import format_moment, to_milliseconds

__all__ = ["JSON_TYPES", "encode_plain", "encode_value", "fresh", "load_value", "normalize"]

Encoder = Callable[[Any], Any]


def encode_value(value: Any) -> Any:
    """Turn any BSON or Python value into JSON, wrapping in Extended JSON what JSON cannot tell apart."""
    return _encode(value, _EXTENDED)


def encode_plain(value: Any) -> Any:
    """Turn what an application wrote (``to_dict()``, a receiver) into JSON in the forms of typed fields.

    An ObjectId is its hex, a datetime RFC 3339, a Decimal its digits: there are no wrappers, so the types
    cannot be read back. A document is its key, an embedded document an object.
    """
    return _encode(value, _PLAIN)


JSON_TYPES = frozenset({str, int, bool, type(None)})


def _encode(value: Any, encoders: Mapping[type, Encoder]) -> Any:
    cls = type(value)
    if cls in JSON_TYPES or (
        cls is float and value - value == 0.0
    ):  # which no infinity gives, and NaN neither
        return value
    if cls is dict:
        return {
            key if type(key) is str else str(key): item
            if type(item) in JSON_TYPES
            else _encode(item, encoders)
            for key, item in value.items()
        }
    if cls is list or cls is tuple:
        return [item if type(item) in JSON_TYPES else _encode(item, encoders) for item in value]
    encoder = encoders.get(cls) or _nearest(cls, encoders)
    if encoder is None:
        return _encode_container(value, encoders)
    result = encoder(value)
    return _encode(result, encoders) if type(result) in (dict, list) else result


def _nearest(cls: type, functions: Mapping[type, Encoder]) -> Encoder | None:
    return functions.get(cls) or next((functions[base] for base in cls.__mro__ if base in functions), None)


def _encode_container(value: Any, encoders: Mapping[type, Encoder]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _encode(item, encoders) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(item, encoders) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_encode(item, encoders) for item in value), key=str)
    return value if isinstance(value, (str, int)) else str(value)


def _double(value: float) -> Any:
    if math.isfinite(value):
        return float(value)
    return {"$numberDouble": "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")}


def _binary(value: bytes) -> dict[str, Any]:
    subtype = value.subtype if isinstance(value, Binary) else 0
    return {"$binary": {"base64": base64.b64encode(value).decode(), "subType": f"{subtype:02x}"}}


def _regex(value: Any) -> dict[str, Any]:
    flags = value.flags
    letters = "".join(
        letter for letter, flag in (("i", re.I), ("m", re.M), ("s", re.S), ("x", re.X)) if flags & flag
    )
    pattern = value.pattern if isinstance(value.pattern, str) else value.pattern.decode("utf-8", "replace")
    return {"$regularExpression": {"pattern": pattern, "options": letters}}


def _reference(value: DBRef) -> dict[str, Any]:
    return {"$ref": value.collection, "$id": value.id}


def _document(value: BaseDocument) -> Any:
    # Reads _data, never an attribute: an attribute may dereference, a proxy may open a file.
    if getattr(type(value), "_is_document", False):
        key = value._data.get(type(value)._meta["id_field"])
        return key.id if isinstance(key, DBRef) else key
    return {name: item for name, item in value._data.items() if name != "_cls"}


_EXTENDED: dict[type, Encoder] = {
    float: _double,
    Int64: int,
    ObjectId: lambda value: {"$oid": str(value)},
    dt.datetime: lambda value: {"$date": format_moment(value)},
    dt.date: lambda value: {"$date": value.isoformat()},
    DatetimeMS: lambda value: {"$date": {"$numberLong": str(int(value))}},
    decimal.Decimal: lambda value: {"$numberDecimal": str(value)},
    Decimal128: lambda value: {"$numberDecimal": str(value)},
    uuid.UUID: lambda value: {"$uuid": str(value)},
    bytes: _binary,
    bytearray: _binary,
    Timestamp: lambda value: {"$timestamp": {"t": value.time, "i": value.inc}},
    Regex: _regex,
    re.Pattern: _regex,
    Code: lambda value: {"$code": str(value)},
    MinKey: lambda value: {"$minKey": 1},
    MaxKey: lambda value: {"$maxKey": 1},
    DBRef: _reference,
    enum.Enum: lambda value: encode_value(value.value),
    BaseDocument: lambda value: encode_value(_document(value)),
}

_PLAIN: dict[type, Encoder] = {
    **_EXTENDED,
    float: lambda value: float(value) if math.isfinite(value) else None,
    ObjectId: str,
    dt.datetime: format_moment,
    dt.date: lambda value: value.isoformat(),
    decimal.Decimal: str,
    Decimal128: str,
    uuid.UUID: str,
    bytes: lambda value: base64.b64encode(value).decode(),
    bytearray: lambda value: base64.b64encode(value).decode(),
    DBRef: lambda value: encode_plain(value.id),
    enum.Enum: lambda value: encode_plain(value.value),
    BaseDocument: lambda value: encode_plain(_document(value)),
}


def load_value(value: Any) -> Any:
    """Copy a stored untyped value into plain Python: Decimal, naive UTC datetime, bytes, list, dict."""
    return _convert(value, _LOADERS)


def normalize(value: Any) -> Any:
    """Copy a value into the form in which the driver gives it back: lists, plain dicts, milliseconds."""
    return _convert(value, _NORMALIZERS)


def fresh(value: Any) -> Any:
    """Copy the lists and dicts of a value; what they hold stays as it is."""
    return _convert(value, {})


_AS_IS = frozenset({str, int, bool, float, ObjectId, type(None)})
_LOADERS: dict[type, Encoder] = {
    dt.datetime: to_milliseconds,
    Int64: int,
    Decimal128: Decimal128.to_decimal,
    DBRef: _reference,
}
_NORMALIZERS: dict[type, Encoder] = {
    dt.datetime: to_milliseconds,
    Binary: lambda value: bytes(value) if value.subtype == 0 else value,
    bytearray: bytes,
    float: float,
}


def _convert(value: Any, converters: Mapping[type, Encoder]) -> Any:
    cls = type(value)
    if cls in _AS_IS:
        return value
    if isinstance(value, dict):
        return {key: _convert(item, converters) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert(item, converters) for item in value]
    converter = _nearest(cls, converters)
    return value if converter is None else converter(value)
