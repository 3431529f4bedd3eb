"""What may be asked of one resource: chosen by its developer, out of what its model has."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Collection, Iterator, Mapping

from bzz.model.field import FieldSpec
from bzz.model.query.aggregation import Aggregation
from bzz.model.query.expansion import check_expandable
from bzz.model.query.parameters import RESERVED
from bzz.model.query.paths import Found, find, plain
from bzz.model.query.places import PLACE_OPERATORS, check_place
from bzz.model.schema import Schema
from bzz.model.selection import ALL, Selection

__all__ = ["OPERATORS", "OPT_IN", "ORDINARY", "QueryRules", "rules_of", "secret_of"]

ORDINARY = frozenset({"eq", "ne", "lt", "lte", "gt", "gte", "in", "nin", "exists", "startswith"})
OPT_IN = frozenset({"contains", "icontains", *PLACE_OPERATORS})
OPERATORS = ORDINARY | OPT_IN

EVERY = "*"
MIN_SECRET_BYTES = 16
# Shared by processes that are forked from this one, unknown to any other.
_PROCESS_SECRET = secrets.token_bytes(32)


class QueryRules:
    """Which filters, orders, references and aggregations a resource has.

    ``filters`` are dotted field names: a bare one allows the ordinary operators, ``name__contains`` one
    particular operator, ``*`` the ordinary operators of every field (which is all there is by default).
    ``sorts`` are dotted field names; by default the fields that an index of the model begins with. ``_id`` is
    always one of them, under the name of its field. ``expandable`` are dotted paths of references, which may
    lead through a reference into the fields of its model, at most ``expand_depth`` of them one after another.
    ``search`` allows a text search, for which the model needs a text index. ``secret`` signs cursors: at
    least 16 bytes, the same in every process that serves the resource; by default it is made up when the
    process starts. Of fields that are not ``readable`` nothing can be asked at all, as the answer would tell.

    Raises ValueError for what the model does not have, and for fields that are not readable.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        filters: Collection[str] | None = None,
        sorts: Collection[str] | None = None,
        expandable: Collection[str] = (),
        expand_depth: int = 2,
        search: bool = False,
        aggregations: Mapping[str, Aggregation] | None = None,
        secret: str | bytes | None = None,
        readable: Selection = ALL,
    ) -> None:
        self.schema = schema
        self.readable = readable
        self._every = filters is None or EVERY in _names("filters", filters)
        allowed = [_filter(schema, each) for each in filters or () if each != EVERY]
        self._fields = {name for name, operator in allowed if operator is None}
        self._pairs = {(name, operator) for name, operator in allowed if operator is not None}
        self.sortable = frozenset(
            name for name in _sorts(schema, sorts) if sorts is not None or readable.covers(name)
        )
        asked = {"filters": [name for name, _ in allowed], "sorts": self.sortable, "expandable": expandable}
        for option, names in asked.items():
            if unseen := [name for name in names if not readable.covers(_own(schema, name))]:
                raise ValueError(f"{option}: {', '.join(sorted(unseen))} cannot be read")
        self.expandable = frozenset(_names("expandable", expandable))
        self.expand_depth = expand_depth
        for each in self.expandable:
            if problem := check_expandable(schema, each, expand_depth):
                raise ValueError(f"expandable: {each!r} {problem}")
        if search and "text" not in {way for keys in _indexes(schema) for _, way in keys}:
            raise ValueError(f"search: {schema.name} has no text index in its meta")
        if search and (unseen := [name for name in _searched(schema) if not readable.covers(name)]):
            raise ValueError(f"search: {', '.join(unseen)} of the text index cannot be read")
        self.search = search
        self.aggregations = dict(aggregations or {})
        for name, aggregation in self.aggregations.items():
            _check_aggregation(name, aggregation)
        self.secret = secret_of(secret)

    def allows(self, name: str, operator: str) -> bool:
        """Tell whether a field may be filtered by with this operator."""
        if not self.readable.is_all and not self.readable.covers(name):
            return False
        if (name, operator) in self._pairs:
            return True
        return operator in ORDINARY and (self._every or name in self._fields)


@functools.cache
def rules_of(schema: Schema) -> QueryRules:
    """Return the rules of a resource whose developer chose nothing."""
    return QueryRules(schema)


def _names(option: str, names: Collection[str] | None) -> Collection[str]:
    if isinstance(names, str):
        raise TypeError(f"{option} is a list of names, not one text")
    return names or ()


def _filter(schema: Schema, entry: str) -> tuple[str, str | None]:
    name, operator = entry, None
    found = find(schema, entry)
    if found is None and "__" in entry:
        name, _, operator = entry.rpartition("__")
        found = find(schema, name)
    if found is None or (operator is not None and operator not in OPERATORS):
        raise ValueError(f"filters: {schema.name} has no field or operator {entry!r}")
    if operator is not None and (problem := _unsuitable(schema, found, operator)):
        raise ValueError(f"filters: {entry!r} {problem}")
    return name, operator


def _unsuitable(schema: Schema, found: Found, operator: str) -> str | None:
    if operator in {"contains", "icontains", "startswith"} and not found.element.textual:
        return "needs a text field"
    if operator in PLACE_OPERATORS:
        if problem := check_place(found.element, operator):
            return problem
        indexed = any(path == found.path for keys in _indexes(schema) for path, _ in keys)
        if operator == "near" and not indexed:
            return "needs a geographic index"
    return None


def _indexes(schema: Schema) -> Iterator[list[tuple[str, object]]]:
    """Yield the keys of each index that mongoengine makes for the model."""
    for spec in schema.model._meta.get("index_specs") or ():
        yield list(spec["fields"])


def _searched(schema: Schema) -> Iterator[str]:
    """Yield the names of the fields that a text search looks at."""
    for keys in _indexes(schema):
        yield from (schema.field_path(path) for path, way in keys if way == "text")


def _own(schema: Schema, path: str) -> str:
    """Return of a path through references what belongs to this model."""
    parts = path.split(".")
    return next(
        (
            name
            for end in range(1, len(parts))
            if (found := find(schema, name := ".".join(parts[:end]))) and found.element.target is not None
        ),
        path,
    )


def _sorts(schema: Schema, sorts: Collection[str] | None) -> Iterator[str]:
    if schema.primary is not None:
        yield schema.primary.name
    if sorts is None:
        first = {keys[0][0] for keys in _indexes(schema) if keys and keys[0][1] in (1, -1)}
        names = [schema.field_path(path) for path in sorted(first)]
        yield from (name for name in names if _sort_problem(schema, name) is None)
        return
    for name in _names("sorts", sorts):
        if problem := _sort_problem(schema, name):
            raise ValueError(f"sorts: {name!r} {problem}")
        yield name


def _sort_problem(schema: Schema, name: str) -> str | None:
    found = find(schema, name)
    if found is None:
        return f"is not a field of {schema.name}"
    if found.in_list:
        return "is a list, or in one: it has no one value to sort by"
    if not _is_scalar(found.spec):
        return "has no single value to sort by"
    return None


def _is_scalar(spec: FieldSpec) -> bool:
    origin = plain(spec)
    if origin.target is None:
        return origin.comparable and not origin.compound
    # What is kept as an object (a DBRef, a copy) has no order that means anything.
    kept_as_object = origin.query_suffix or getattr(origin.field, "dbref", False)
    return not kept_as_object and not origin.target._meta.get("abstract")


def _check_aggregation(name: str, aggregation: object) -> None:
    if not isinstance(aggregation, Aggregation):
        raise TypeError(f"aggregations: {name!r} is not a bzz.Aggregation")
    if clash := RESERVED & aggregation.parameters.keys():
        raise ValueError(f"aggregations: {name!r} has a parameter with a reserved name: {', '.join(clash)}")


def secret_of(secret: str | bytes | None) -> bytes:
    """Return the bytes of a secret that was given, or of one that this process and its forks share."""
    if secret is None:
        return _PROCESS_SECRET
    given = secret.encode() if isinstance(secret, str) else secret
    if len(given) < MIN_SECRET_BYTES:
        raise ValueError(f"secret has at least {MIN_SECRET_BYTES} bytes")
    return given
