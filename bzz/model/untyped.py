"""Values where no field says what they are: inside ``DictField``, ``DynamicField``, ``ListField()``.

JSON values stay as they are; BSON types without a JSON twin travel as MongoDB Extended JSON v2 wrappers
(https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/). A client's object with any other
``$`` key is refused, so nothing that a client sends can become an operator or a reference.
"""

from __future__ import annotations

import base64
import binascii
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

from bzz.model.moment import format_moment, parse_moment, to_milliseconds
from bzz.model.refusal import child, refuse, shorten

__all__ = ["check_key", "decode_value", "encode_plain", "encode_value", "fresh", "load_value", "normalize"]

INT64 = range(-(2**63), 2**63)
DECIMAL = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,5})?", re.ASCII)
UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")

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


def _encode(value: Any, encoders: Mapping[type, Encoder]) -> Any:
    cls = type(value)
    if value is None or cls is str or cls is int or cls is bool:
        return value
    if cls is dict:
        return {str(key): _encode(item, encoders) for key, item in value.items()}
    if cls is list or cls is tuple:
        return [_encode(item, encoders) for item in value]
    encoder = encoders.get(cls)
    if encoder is None:
        encoder = next((encoders[base] for base in cls.__mro__ if base in encoders), None)
        if encoder is None:
            return _encode_container(value, encoders)
    result = encoder(value)
    return _encode(result, encoders) if type(result) in (dict, list) else result


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


def check_key(key: str, pointer: str, *, reserved: bool = True) -> None:
    """Refuse a client's key that MongoDB or mongoengine would take for something else."""
    if "\0" in key:
        raise refuse(pointer, "a key must not hold NUL")
    if key.startswith("$") or "." in key:
        raise refuse(pointer, f'a key must not start with "$" or hold "." ({shorten(key)})')
    if reserved and key in ("_cls", "_ref"):
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
    raise refuse(pointer, f"{kind_of_python(value)} cannot be stored here")


def kind_of_python(value: object) -> str:
    """Name the Python type of a value for an error."""
    return f"a value of type {type(value).__name__}"


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


def load_value(value: Any) -> Any:
    """Copy a stored untyped value into plain Python: Decimal, naive UTC datetime, bytes, list, dict."""
    cls = type(value)
    if value is None or cls is str or cls is int or cls is bool or cls is float or cls is ObjectId:
        return value
    if isinstance(value, dict):
        return {key: load_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [load_value(item) for item in value]
    if isinstance(value, dt.datetime):
        return to_milliseconds(value)
    if cls is Int64:
        return int(value)
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, DBRef):
        return _reference(value)
    return value


def fresh(value: Any) -> Any:
    """Copy the lists and dicts of a value; what they hold stays as it is."""
    if isinstance(value, dict):
        return {key: fresh(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fresh(item) for item in value]
    return value


def normalize(value: Any) -> Any:
    """Copy a value into the form in which the driver gives it back: lists, plain dicts, milliseconds."""
    cls = type(value)
    if value is None or cls is str or cls is int or cls is bool or cls is float or cls is ObjectId:
        return value
    if isinstance(value, dict):
        return {key: normalize(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [normalize(item) for item in value]
    if isinstance(value, dt.datetime):
        return to_milliseconds(value)
    if isinstance(value, Binary):
        return bytes(value) if value.subtype == 0 else value
    if isinstance(value, float):
        return float(value)
    return value
