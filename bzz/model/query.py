"""Queries: text parameters of a URL into filters, and nothing of a client's text into keys or operators."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bzz.errors import FieldError, QueryError, ValidationError
from bzz.model.field import FieldSpec
from bzz.model.refusal import shorten
from bzz.model.schema import Schema
from bzz.model.storable import check_storable

__all__ = ["ListQuery", "compile_query"]

MAX_PREDICATES = 32
MAX_VALUES = 100
MAX_BYTES = 1024
MAX_PATH = 32

_COMPARISONS = {
    "eq": "$eq",
    "ne": "$ne",
    "lt": "$lt",
    "lte": "$lte",
    "gt": "$gt",
    "gte": "$gte",
}
_SETS = {"in": "$in", "nin": "$nin"}
_OPERATORS = {*_COMPARISONS, *_SETS, "exists", "startswith"}
_RESERVED = frozenset({"page", "per_page"})
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True)
class ListQuery:
    """A compiled query: a filter for the driver, a sort order, and one page of the result."""

    filter: dict[str, Any]
    sort: list[tuple[str, int]]
    page: int
    per_page: int
    skip: int
    limit: int


def compile_query(
    schema: Schema,
    arguments: Mapping[str, Sequence[str]],
    *,
    per_page: int = 20,
    max_per_page: int = 100,
    filterable: Collection[str] | None = None,
) -> ListQuery:
    """Compile the parameters of a list request; raises QueryError.

    ``page`` and ``per_page`` are clamped (1 … ``max_per_page``, and so that the skip fits into 64 bits).
    ``field=value`` and ``field__op=value`` with eq, ne, in, nin, lt, lte, gt, gte, exists, startswith become
    predicates that all must hold; ``filterable`` limits the dotted field names that may be used.
    """
    page = _page_number(arguments, "page", 1)
    size = min(max(_page_number(arguments, "per_page", per_page), 1), max(max_per_page, 1))
    page = min(max(page, 1), (2**63 - 1) // size)
    predicates = [
        (name, list(values))
        for name, values in arguments.items()
        if name not in ("page", "per_page") and values
    ]
    if sum(len(values) for _, values in predicates) > MAX_PREDICATES + MAX_VALUES:
        raise QueryError(shorten(predicates[-1][0]), "There are too many query parameters.")
    if len(predicates) > MAX_PREDICATES:
        raise QueryError(shorten(predicates[-1][0]), f"There are more than {MAX_PREDICATES} conditions.")
    conditions = [_predicate(schema, name, values, filterable) for name, values in predicates]
    return ListQuery(
        _merge([*conditions, *_scope(schema)]), [("_id", 1)], page, size, (page - 1) * size, size
    )


def _scope(schema: Schema) -> list[tuple[str, dict[str, Any]]]:
    return [
        (key, value if isinstance(value, dict) else {"$eq": value}) for key, value in schema.scope.items()
    ]


def _merge(conditions: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for path, condition in conditions:
        if merged.get(path, {}).keys() & condition.keys():
            return {"$and": [{path: condition} for path, condition in conditions]}
        merged.setdefault(path, {}).update(condition)
    return merged


def _page_number(arguments: Mapping[str, Sequence[str]], name: str, default: int) -> int:
    values = arguments.get(name) or ()
    if not values:
        return default
    if len(values) > 1:
        raise QueryError(name, f"{name} is given more than once.")
    if len(values[0]) > MAX_BYTES or not _NUMBER.fullmatch(values[0]):
        raise QueryError(name, f"{name} must be a whole number.")
    return int(values[0])


def _predicate(
    schema: Schema, name: str, texts: list[str], filterable: Collection[str] | None
) -> tuple[str, dict[str, Any]]:
    shown = shorten(name)
    field_name, operator = _split(schema, name)
    found = _find(schema, field_name)
    if found is None or (filterable is not None and field_name not in filterable):
        raise QueryError(shown, f"Unknown query parameter {shown!r}.")
    path, spec = found
    for text in texts:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise QueryError(shown, f"A value of {shown!r} is longer than {MAX_BYTES} bytes.")
    try:
        suffix, condition = _condition(spec, operator, texts)
    except ValidationError as error:
        raise QueryError(shown, f"{shown!r}: {error.errors[0].detail}.") from None
    except _UnsuitableError as error:
        raise QueryError(shown, f"{shown!r}: {error}.") from None
    return path + suffix, condition


class _UnsuitableError(ValueError):
    """An operator that has no meaning for this field or this value."""


def _split(schema: Schema, name: str) -> tuple[str, str]:
    if "__" in name and _find(schema, name) is None:
        field_name, _, operator = name.rpartition("__")
        if operator not in _OPERATORS:
            shown = shorten(name)
            raise QueryError(shown, f"Unknown query parameter {shown!r}.")
        return field_name, operator
    return name, "eq"


def _find(schema: Schema, name: str) -> tuple[str, FieldSpec] | None:
    """Find a declared field by its dotted name and build its database path from the model's own names."""
    parts = name.split(".")
    if len(parts) > MAX_PATH:
        return None
    names: list[str] = []
    at: Schema | None = schema
    spec: FieldSpec | None = None
    for part in parts:
        spec = at.fields.get(part) if at is not None else None
        if spec is None:
            return None
        names.append(spec.db_name)
        at = spec.embedded or (spec.item.embedded if spec.repeatable and spec.item is not None else None)
    return (".".join(names), spec) if spec is not None else None


def _condition(spec: FieldSpec, operator: str, texts: list[str]) -> tuple[str, dict[str, Any]]:
    element = spec.item if spec.repeatable and spec.item is not None else spec
    if operator == "exists":
        return "", _exists(_single(texts))
    if not element.comparable:
        raise _UnsuitableError("only exists can be asked of this field")
    if operator == "startswith":
        return "", _starts_with(element, _single(texts))
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


def _exists(text: str) -> dict[str, Any]:
    if text not in ("true", "false", "1", "0"):
        raise _UnsuitableError("expected true, false, 1 or 0")
    # Null and missing are the same to everybody else in bzz, so they are here.
    return {"$exists": True, "$ne": None} if text in ("true", "1") else {"$eq": None}


def _starts_with(spec: FieldSpec, text: str) -> dict[str, Any]:
    if not spec.textual:
        raise _UnsuitableError("startswith needs a text field")
    errors: list[FieldError] = []
    check_storable(text, "", errors)
    if errors or "\0" in text:
        raise _UnsuitableError("the text cannot be searched for")
    return {"$regex": f"^{re.escape(text)}"}
