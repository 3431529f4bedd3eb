"""Conditions on fields: ``field=value`` and ``field__op=value``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bzz.errors import FieldError, QueryError, ValidationError
from bzz.model.field import FieldSpec
from bzz.model.query.parameters import MAX_BYTES, Arguments, check_size
from bzz.model.query.paths import Found, find
from bzz.model.query.places import PLACE_OPERATORS, PlaceError, check_place, is_near, place_condition
from bzz.model.query.rules import OPERATORS, QueryRules
from bzz.model.refusal import shorten
from bzz.model.storable import check_storable

__all__ = ["Condition", "merge", "predicates"]

MAX_PREDICATES = 32
MAX_VALUES = 100
MAX_PLACE_BYTES = 4096

Condition = tuple[str, dict[str, Any]]

_COMPARISONS = {"eq": "$eq", "ne": "$ne", "lt": "$lt", "lte": "$lte", "gt": "$gt", "gte": "$gte"}
_SETS = {"in": "$in", "nin": "$nin"}
# All types of BSON but null, and undefined, which nobody can store any more.
_ANY_VALUE = [
    *("number", "string", "object", "array", "binData", "objectId", "bool", "date", "regex", "timestamp"),
    *("javascript", "javascriptWithScope", "symbol", "dbPointer", "minKey", "maxKey"),
]
_PATTERNS = {"startswith": ("^", ""), "contains": ("", ""), "icontains": ("", "i")}


class _UnsuitableError(ValueError):
    """An operator that has no meaning for this field or this value."""


def predicates(rules: QueryRules, arguments: Arguments) -> list[Condition]:
    """Compile parameters that are all conditions into pairs of a database path and what must hold there."""
    given = [(name, list(values)) for name, values in arguments.items() if values]
    if sum(len(values) for _, values in given) > MAX_PREDICATES + MAX_VALUES:
        raise QueryError(shorten(given[-1][0]), "There are too many query parameters.")
    if len(given) > MAX_PREDICATES:
        raise QueryError(shorten(given[-1][0]), f"There are more than {MAX_PREDICATES} conditions.")
    return [_predicate(rules, name, values) for name, values in given]


def merge(conditions: Sequence[Condition]) -> dict[str, Any]:
    """Return one filter that matches what all conditions match."""
    merged: dict[str, Any] = {}
    for path, condition in conditions:
        present = merged.get(path, {})
        # What looks for what is near stands alone, or MongoDB takes its neighbours for options of it.
        alone = present and (is_near(present) or is_near(condition))
        if alone or present.keys() & condition.keys():
            return {"$and": [{path: condition} for path, condition in conditions]}
        merged.setdefault(path, {}).update(condition)
    return merged


def _predicate(rules: QueryRules, name: str, texts: list[str]) -> Condition:
    shown = shorten(name)
    found, operator = _split(rules, name)
    for text in texts:
        check_size(shown, text, MAX_PLACE_BYTES if operator in PLACE_OPERATORS else MAX_BYTES)
    try:
        suffix, condition = _condition(found, operator, texts)
    except ValidationError as error:
        raise QueryError(shown, f"{shown!r}: {error.errors[0].detail}.") from None
    except (_UnsuitableError, PlaceError) as error:
        raise QueryError(shown, f"{shown!r}: {error}.") from None
    return found.path + suffix, condition


def _split(rules: QueryRules, name: str) -> tuple[Found, str]:
    """Find the field and the operator that a parameter names, if this resource has them."""
    field_name, operator = name, "eq"
    found = find(rules.schema, name)
    if found is None and "__" in name:
        field_name, _, operator = name.rpartition("__")
        found = find(rules.schema, field_name) if operator in OPERATORS else None
    if found is None or not rules.allows(field_name, operator):
        shown = shorten(name)
        raise QueryError(shown, f"Unknown query parameter {shown!r}.")
    return found, operator


def _condition(found: Found, operator: str, texts: list[str]) -> tuple[str, dict[str, Any]]:
    element = found.element
    if operator == "exists":
        return "", _exists(_single(texts), below_list=found.below_list)
    if operator in PLACE_OPERATORS:
        if problem := check_place(element, operator):
            raise _UnsuitableError(f"{operator} {problem}")
        return "", place_condition(element, operator, _single(texts))
    if not element.comparable:
        raise _UnsuitableError("only exists can be asked of this field")
    if operator in _PATTERNS:
        return "", _pattern(element, operator, _single(texts))
    if operator in _SETS:
        texts = [part for text in texts for part in text.split(",")]
        if len(texts) > MAX_VALUES:
            raise _UnsuitableError(f"more than {MAX_VALUES} values")
        pairs = [_value(element, text) for text in texts]
        return pairs[0][0], {_SETS[operator]: [value for _, value in pairs]}
    suffix, value = _value(element, _single(texts))
    if operator not in ("eq", "ne") and (not element.ordered or value is None):
        raise _UnsuitableError(f"{operator} has no meaning here")
    return suffix, {_COMPARISONS[operator]: value}


def _single(texts: list[str]) -> str:
    if len(texts) != 1:
        raise _UnsuitableError("given more than once")
    return texts[0]


def _value(spec: FieldSpec, text: str) -> tuple[str, Any]:
    typed = spec.decode_text([text], "")
    if typed is None:
        return spec.query_suffix, None
    try:
        suffix, stored = spec.query(typed)
    except Exception as error:  # a user's to_mongo may fail in any way; the value is what it refused
        raise _UnsuitableError(f"not a value of this field ({type(error).__name__})") from None
    errors: list[FieldError] = []
    check_storable(stored, "", errors)
    if errors:
        raise _UnsuitableError(errors[0].detail)
    return suffix, stored


def _exists(text: str, *, below_list: bool) -> dict[str, Any]:
    if text not in ("true", "false", "1", "0"):
        raise _UnsuitableError("expected true, false, 1 or 0")
    wanted = text in ("true", "1")
    if below_list:
        # One of several is enough; $exists and $ne would want it of all, and an empty list to be neither.
        return {"$type": _ANY_VALUE} if wanted else {"$not": {"$type": _ANY_VALUE}}
    # Null and missing are the same to everybody else in bzz, so they are here.
    return {"$exists": True, "$ne": None} if wanted else {"$eq": None}


def _pattern(spec: FieldSpec, operator: str, text: str) -> dict[str, Any]:
    if not spec.textual:
        raise _UnsuitableError(f"{operator} needs a text field")
    if "\0" in text:
        raise _UnsuitableError("the text cannot be searched for")
    anchor, options = _PATTERNS[operator]
    pattern = {"$regex": anchor + re.escape(text)}
    return {**pattern, "$options": options} if options else pattern
