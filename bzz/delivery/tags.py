"""The tags of the wire: how each type is written, and how classes are named and found."""

from __future__ import annotations

import base64
import math
import sys
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from mongoengine.base import BaseDocument, get_document
from mongoengine.errors import NotRegistered

from bzz.dispatcher.receiver import wire_name
from bzz.errors import PayloadError, UnsendableError

__all__ = [
    "SCALARS",
    "SIMPLE",
    "TAG",
    "class_name_of",
    "is_handler",
    "is_model",
    "known_class",
    "known_model",
    "model_name",
    "tagged",
]

TAG = "~"
_EXTENDED = json_util.CANONICAL_JSON_OPTIONS


def tagged(tag: str, *values: Any) -> dict[str, Any]:
    return {TAG: [tag, *values]}


def _float(value: float) -> Any:
    return value if math.isfinite(value) else tagged("float", repr(float(value)))


def _bson(value: Any) -> Any:
    return tagged("bson", json_util.dumps(value, json_options=_EXTENDED))


#: What one value of each type is written as. Order counts: a datetime is a date, a Binary is bytes.
SCALARS: dict[type, Callable[[Any], Any]] = {
    float: _float,
    ObjectId: lambda value: tagged("oid", str(value)),
    datetime: lambda value: tagged("datetime", value.isoformat()),
    date: lambda value: tagged("date", value.isoformat()),
    time: lambda value: tagged("time", value.isoformat()),
    timedelta: lambda value: tagged("timedelta", value.days, value.seconds, value.microseconds),
    Decimal: lambda value: tagged("decimal", str(value)),
    Decimal128: lambda value: tagged("decimal128", str(value)),
    uuid.UUID: lambda value: tagged("uuid", value.hex),
    **dict.fromkeys((Code, DBRef, Int64, MaxKey, MinKey, Regex, Timestamp), _bson),
    Binary: lambda value: tagged("binary", base64.b64encode(value).decode(), value.subtype),
    bytes: lambda value: tagged("bytes", base64.b64encode(value).decode()),
}


def is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseDocument)


def is_handler(value: Any) -> bool:
    # Whoever has a handler has Tornado; this room does not import it.
    web = sys.modules.get("tornado.web")
    return web is not None and isinstance(value, web.RequestHandler)


def model_name(model: Any, place: str) -> str:
    name: str = model._class_name
    if _find_model(name) is not model:
        raise UnsendableError(f"{name} cannot be found by its name: another model has it", place)
    return name


def _find_model(name: str) -> Any:
    try:
        found = get_document(name)
    except NotRegistered:
        return None
    return found if found._class_name == name else None


def class_name_of(cls: type, place: str) -> str:
    try:
        name = wire_name(cls)
    except ValueError:
        name = ""
    if not name or _below(sys.modules.get(cls.__module__), cls.__qualname__) is not cls:
        raise UnsendableError(f"the class {cls.__qualname__} is not at the top of a module", place)
    return name


def _below(module: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        module = getattr(module, part, None)
    return module


def _find_class(name: str, base: type) -> Any:
    """Find a class among the loaded modules; None for anything that is no class below ``base``."""
    module, _, qualname = name.partition(":")
    # A script that is run directly is loaded under another name than the one it goes by.
    found = _below(sys.modules.get(module, sys.modules["__main__"]), qualname)
    is_meant = isinstance(found, type) and issubclass(found, base) and wire_name(found) == name
    return found if is_meant else None


def known_model(name: str) -> Any:
    model = _find_model(name)
    if model is None:
        raise PayloadError(f"no model is called {name!r} here: is the module that defines it imported?")
    return model


def known_class(name: str, base: type) -> Any:
    found = _find_class(name, base)
    if found is None:
        raise PayloadError(f"there is no class {name!r} here: is its module imported?")
    return found


#: What a tag with plain values means.
SIMPLE: dict[str, Callable[..., Any]] = {
    "bson": lambda text: json_util.loads(text, json_options=_EXTENDED),
    "binary": lambda text, subtype: Binary(base64.b64decode(text), subtype),
    "bytes": base64.b64decode,
    "class": lambda name: known_class(name, object),
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "decimal": Decimal,
    "decimal128": Decimal128,
    "float": float,
    "model": known_model,
    "oid": ObjectId,
    "time": time.fromisoformat,
    "timedelta": timedelta,
    "uuid": lambda text: uuid.UUID(hex=text),
}
