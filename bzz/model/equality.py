"""When two stored (or two loaded) values are the same value for whoever reads them."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from typing import Any

from bson import Decimal128, ObjectId
from bson.binary import Binary

from bzz.model.moment import to_milliseconds

__all__ = ["same"]

_PLAIN = frozenset({str, int, bool, ObjectId, bytes, uuid.UUID, type(None), dt.date})


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same.

    Stricter than ``==`` where that hides a change (``True`` is not ``1``, decimal ``1.0`` is not ``1.00``)
    and wider where it invents one (key order, NaN, tuple or list, aware or naive UTC).
    """
    if one is other:
        return True
    cls = type(one)
    if cls is type(other) and cls in _PLAIN:
        return bool(one == other)
    if isinstance(one, dict):
        return isinstance(other, dict) and _same_mappings(one, other)
    if isinstance(one, (list, tuple)):
        return (
            isinstance(other, (list, tuple))
            and len(one) == len(other)
            and all(same(left, right) for left, right in zip(one, other, strict=True))
        )
    return _same_scalars(one, other)


def _same_mappings(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    if len(one) != len(other):
        return False
    return all(key in other and same(value, other[key]) for key, value in one.items())


def _same_scalars(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dt.datetime) and isinstance(other, dt.datetime):
        return to_milliseconds(one) == to_milliseconds(other)
    if isinstance(one, (decimal.Decimal, Decimal128)):
        return isinstance(other, (decimal.Decimal, Decimal128)) and str(one) == str(other)
    if isinstance(one, bytes) and isinstance(other, bytes):
        return bytes(one) == bytes(other) and _subtype(one) == _subtype(other)
    return bool(one == other)


def _subtype(value: bytes) -> int:
    return value.subtype if isinstance(value, Binary) else 0
