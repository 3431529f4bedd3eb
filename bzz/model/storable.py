"""What mongoengine lets pass and MongoDB or JSON cannot keep."""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Mapping
from typing import Any

from bson import DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.code import Code
from bson.datetime_ms import DatetimeMS

from bzz.errors import FieldError
from bzz.model.refusal import below, child

__all__ = ["check_finite", "check_integer", "check_storable", "check_text"]

# MongoDB refuses more than 100 levels; the document itself and its field take some.
MAX_LEVELS = 90
_STORABLE = (
    bool,
    bytes,
    dt.datetime,
    uuid.UUID,
    ObjectId,
    Decimal128,
    DBRef,
    Timestamp,
    Regex,
    re.Pattern,
    Code,
    MinKey,
    MaxKey,
    DatetimeMS,
)


def check_text(value: str, pointer: str, errors: list[FieldError]) -> None:
    """Refuse a lone surrogate: half of a character, which no UTF-8 can hold."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            errors.append(FieldError(pointer, "the text holds a lone surrogate"))


def check_integer(value: int, pointer: str, errors: list[FieldError]) -> None:
    """Refuse what does not fit into 64 bits, the widest integer of BSON."""
    if not -(2**63) <= value < 2**63:
        errors.append(FieldError(pointer, "the number does not fit into 64 bits"))


def check_finite(value: float, pointer: str, errors: list[FieldError]) -> None:
    """Refuse NaN and the infinities: JSON has no word for them."""
    if not math.isfinite(value):
        errors.append(FieldError(pointer, "the number is not finite"))


def check_storable(value: Any, pointer: str, errors: list[FieldError], level: int = 0) -> None:
    """Walk an untyped value in its stored form and collect everything that cannot be kept."""
    if value is None or isinstance(value, _STORABLE):
        return
    if isinstance(value, str):
        check_text(value, pointer, errors)
    elif isinstance(value, int):
        check_integer(value, pointer, errors)
    elif isinstance(value, float):
        check_finite(value, pointer, errors)
    elif level >= MAX_LEVELS:
        errors.append(FieldError(pointer, f"the value has more than {MAX_LEVELS} levels"))
    elif isinstance(value, Mapping):
        _check_mapping(value, pointer, errors, level)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            found: list[FieldError] = []
            check_storable(item, "", found, level + 1)
            if found:
                errors.extend(below(child(pointer, index), found))
    else:
        errors.append(FieldError(pointer, f"a value of type {type(value).__name__} cannot be stored"))


def _check_mapping(value: Mapping[Any, Any], pointer: str, errors: list[FieldError], level: int) -> None:
    for key, item in value.items():
        found: list[FieldError] = []
        if not isinstance(key, str):
            found.append(FieldError("", "a key must be a string"))
        else:
            check_text(key, "", found)
            if "\0" in key:
                found.append(FieldError("", "a key must not hold NUL"))
            check_storable(item, "", found, level + 1)
        if found:
            errors.extend(below(child(pointer, key), found))
