"""The parameters of a query as they come: texts by name, each within its budget."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bzz.errors import FieldError, QueryError
from bzz.model.refusal import shorten
from bzz.model.schema import Schema
from bzz.model.storable import check_storable

__all__ = ["MAX_BYTES", "RESERVED", "Arguments", "check_size", "hint", "single", "split_list", "whole_number"]

MAX_BYTES = 1024
MAX_NAMES = 32

#: What is never the name of a field in a URL; a field of that name is asked for with an operator.
RESERVED = frozenset(
    {"page", "per_page", "sort", "fields", "cursor", "count", "expand", "search", "aggregate"}
)

Arguments = Mapping[str, Sequence[str]]

_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)


def single(arguments: Arguments, name: str, *, schema: Schema | None = None) -> str | None:
    """Return the one text of a reserved parameter, None if it is not given; raises QueryError."""
    values = arguments.get(name) or ()
    if not values:
        return None
    if len(values) > 1:
        raise QueryError(name, f"{name} is given more than once.{hint(schema, name)}")
    return values[0]


def hint(schema: Schema | None, name: str) -> str:
    """Return what helps who meant the field of a model that has the name of a reserved parameter."""
    if schema is None or name not in schema.fields:
        return ""
    return f" To filter by the field of this name, write {name}__eq."


def check_size(shown: str, text: str, limit: int = MAX_BYTES) -> None:
    """Raise QueryError for a text that is too long, or that is not Unicode."""
    if len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit:
        raise QueryError(shown, f"A value of {shown!r} is longer than {limit} bytes.")
    errors: list[FieldError] = []
    check_storable(text, "", errors)
    if errors:
        raise QueryError(shown, f"{shown!r}: {errors[0].detail}.")


def whole_number(arguments: Arguments, name: str, default: int, schema: Schema) -> int:
    """Return the number that a parameter says, however large."""
    text = single(arguments, name, schema=schema)
    if text is None:
        return default
    if len(text) > MAX_BYTES or not _NUMBER.fullmatch(text):
        raise QueryError(name, f"{name} must be a whole number.{hint(schema, name)}")
    return int(text)


def split_list(arguments: Arguments, name: str, schema: Schema) -> list[str]:
    """Return the names in a parameter that is a list with commas; [] if it is not given."""
    text = single(arguments, name, schema=schema)
    if text is None:
        return []
    check_size(name, text)
    names = text.split(",")
    if len(names) > MAX_NAMES:
        raise QueryError(name, f"{name} has more than {MAX_NAMES} names.")
    if "" in names:
        raise QueryError(name, f"{name} needs names, with commas between them.{hint(schema, name)}")
    for each in names:
        if names.count(each) > 1:
            raise QueryError(name, f"{name} has {shorten(each)!r} twice.")
    return names
