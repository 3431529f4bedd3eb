"""In which order, and from where on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bzz.errors import QueryError
from bzz.model.query.parameters import Arguments, split_list
from bzz.model.query.paths import find
from bzz.model.query.rules import QueryRules
from bzz.model.refusal import shorten

__all__ = ["SortKey", "beyond", "compile_sort", "position_of", "reverse"]

MAX_KEYS = 8
ASCENDING, DESCENDING = 1, -1


class SortKey(NamedTuple):
    """A path in MongoDB and a direction, 1 or -1."""

    path: str
    direction: int


def compile_sort(rules: QueryRules, arguments: Arguments) -> list[SortKey]:
    """Compile ``sort=-population,name``; the key of the document always comes last, so that no two are equal.

    The key takes the direction of what stands before it: then one index serves both directions.
    """
    keys: list[SortKey] = []
    for name in split_list(arguments, "sort", rules.schema):
        bare = name.removeprefix("-")
        found = find(rules.schema, bare) if bare in rules.sortable else None
        if found is None:
            raise QueryError("sort", f"This resource cannot be sorted by {shorten(bare)!r}.")
        if any(key.path == found.path for key in keys):
            raise QueryError("sort", f"sort has {bare!r} twice.")
        keys.append(SortKey(found.path, ASCENDING if bare == name else DESCENDING))
    if len(keys) > MAX_KEYS:
        raise QueryError("sort", f"sort has more than {MAX_KEYS} fields.")
    if not any(key.path == "_id" for key in keys):
        keys.append(SortKey("_id", keys[-1].direction if keys else ASCENDING))
    # Nothing comes after a key that no two documents share.
    end = next(number for number, key in enumerate(keys) if key.path == "_id")
    return keys[: end + 1]


def reverse(keys: Sequence[SortKey]) -> list[SortKey]:
    """Return the opposite order."""
    return [SortKey(path, -direction) for path, direction in keys]


def position_of(keys: Sequence[SortKey], stored: Mapping[str, Any]) -> list[Any]:
    """Return what a document is sorted by: a value for each key, None where it has none.

    Raises QueryError for a document that has a list there: it stands in several places at once.
    """
    values: list[Any] = []
    for path, _ in keys:
        value: Any = stored
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else value if _is_list(value) else None
        if _is_list(value):
            raise QueryError("sort", "A document has a list where this sorts: it cannot be paged by cursor.")
        values.append(value)
    return values


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def beyond(keys: Sequence[SortKey], values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return filters of what comes after a position, exactly as MongoDB sorts: to be read one after another.

    ``$gt`` alone would stop at the end of a type: it finds no text after a number and nothing before a
    number that is null. ``$expr`` compares across types, as a sort does, and has index bounds for it.

    Usually this is one filter. MongoDB answers its ``$or`` from an index by merging (SORT_MERGE, seen in
    6.0.5), and there it tells null from missing, which a sort does not: documents come in the wrong order.
    Where that can happen there are several filters, each of a range that has no need to be merged.

    Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
    """
    ways: list[dict[str, Any]] = []
    same: dict[str, Any] = {}
    ways_from_null = 0
    for (path, direction), value in zip(keys, values, strict=True):
        further = _further(path, direction, value)
        if further is not None:
            ways.insert(0, {**same, "$expr": further})
            ways_from_null += {"$eq": None} in same.values()
        same[path] = {"$eq": value}
    if len(ways) < 2 or ways_from_null > 1:
        return ways
    return [{"$or": ways}]


def _further(path: str, direction: int, value: Any) -> dict[str, Any] | None:
    if direction == DESCENDING and value is None:
        return None  # null and missing are equal in a sort, and the last in this direction
    operator = "$gt" if direction == ASCENDING else "$lt"
    return {operator: [f"${path}", {"$literal": value}]}
