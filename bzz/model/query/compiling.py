"""All the parameters of a list request into one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bzz.errors import QueryError
from bzz.model.query.cursors import Walk, bind, read_cursor
from bzz.model.query.expansion import Link, compile_expansion
from bzz.model.query.parameters import RESERVED, Arguments, check_size, hint, single, whole_number
from bzz.model.query.places import is_near
from bzz.model.query.predicates import Condition, merge, predicates
from bzz.model.query.projection import Projection, compile_projection
from bzz.model.query.rules import QueryRules, rules_of
from bzz.model.query.sorting import SortKey, compile_sort
from bzz.model.refusal import shorten
from bzz.model.schema import Schema

__all__ = ["AggregateQuery", "ListQuery", "compile_aggregate", "compile_parts", "compile_query"]

MAX_POSITION = 2**63 - 2


@dataclass(frozen=True, kw_only=True)
class ListQuery:
    """A compiled query: a filter for the driver, an order, and one page of the result.

    With a cursor there is a ``walk``, whose ``positions`` are filters besides, and ``sort`` is the order in
    which MongoDB reads, which for a page before a cursor is the opposite of the one asked for.
    ``polygons`` are parameters with a value that MongoDB may still refuse: it may cross itself.
    """

    filter: dict[str, Any]
    sort: list[tuple[str, int]]
    page: int
    per_page: int
    skip: int
    limit: int
    walk: Walk | None = None
    count: Literal["exact", "estimated"] | None = None
    projection: Projection | None = None
    links: Mapping[str, Link] = field(default_factory=dict)
    polygons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AggregateQuery:
    """A compiled aggregation: what it is over, the values of its parameters, and ``polygons`` as above."""

    name: str
    filter: dict[str, Any]
    values: dict[str, Any]
    polygons: tuple[str, ...] = ()


def compile_query(
    schema: Schema,
    arguments: Arguments,
    *,
    per_page: int = 20,
    max_per_page: int = 100,
    rules: QueryRules | None = None,
) -> ListQuery:
    """Compile the parameters of a list request; raises QueryError.

    ``page`` and ``per_page`` are clamped (1 … ``max_per_page``, and so that what is read fits into 64 bits).
    ``field=value`` and ``field__op=value`` become predicates that all must hold. ``rules`` say what may be
    asked; by default what :class:`QueryRules` allows.
    """
    rules = rules or rules_of(schema)
    size = min(max(whole_number(arguments, "per_page", per_page, schema), 1), max(max_per_page, 1))
    page = min(max(whole_number(arguments, "page", 1, schema), 1), MAX_POSITION // size)
    conditions = predicates(rules, {name: arguments[name] for name in arguments if name not in RESERVED})
    search = _search(rules, arguments)
    keys = compile_sort(rules, arguments)
    links = compile_expansion(rules, arguments)
    near = [path for path, condition in conditions if is_near(condition)]
    if near:
        _check_near(near, arguments)
    walk = _walk(rules, arguments, keys, [*conditions, *search])
    read = [key.path for key in keys] if walk else []
    return ListQuery(
        filter=merge([*conditions, *search, *_scope(schema)]),
        sort=[] if near else [(path, direction) for path, direction in (walk.order if walk else keys)],
        page=page,
        per_page=size,
        skip=(page - 1) * size,
        limit=size,
        walk=walk,
        count=_count(schema, arguments, filtered=bool(conditions or search)),
        projection=compile_projection(rules, arguments, needed=list(links), read=read),
        links=links,
        polygons=_polygons(arguments),
    )


def compile_parts(schema: Schema, arguments: Arguments, rules: QueryRules | None = None) -> ListQuery:
    """Compile what may be asked of one document: ``fields`` and ``expand``; raises QueryError."""
    rules = rules or rules_of(schema)
    for name in arguments:
        if name not in {"fields", "expand"}:
            raise QueryError(shorten(name), "One document takes fields and expand, no other parameter.")
    links = compile_expansion(rules, arguments)
    projection = compile_projection(rules, arguments, needed=list(links))
    return ListQuery(
        filter={}, sort=[], page=1, per_page=1, skip=0, limit=1, projection=projection, links=links
    )


def _walk(
    rules: QueryRules, arguments: Arguments, keys: Sequence[SortKey], conditions: Sequence[Condition]
) -> Walk | None:
    text = single(arguments, "cursor", schema=rules.schema)
    if text is None:
        return None
    if arguments.get("page"):
        raise QueryError("page", "page and cursor cannot be used together.")
    binding = bind(rules.schema.name, conditions, keys)
    start = read_cursor(rules.secret, binding, text) if text else None
    return Walk(keys=keys, start=start, binding=binding, secret=rules.secret)


def compile_aggregate(rules: QueryRules, arguments: Arguments) -> AggregateQuery:
    """Compile the parameters of a request for an aggregation; raises QueryError."""
    name = single(arguments, "aggregate", schema=rules.schema) or ""
    aggregation = rules.aggregations.get(name)
    if aggregation is None:
        detail = f"This resource has no aggregation {shorten(name)!r}."
        raise QueryError("aggregate", detail + hint(rules.schema, "aggregate"))
    for each in sorted(RESERVED & arguments.keys() - {"aggregate", "search"}):
        raise QueryError(each, f"{each} has no meaning for an aggregation.")
    others = {
        each: arguments[each] for each in arguments if each not in RESERVED | aggregation.parameters.keys()
    }
    conditions = predicates(rules, others)
    if any(is_near(condition) for _, condition in conditions):
        raise QueryError("aggregate", "An aggregation is over documents within a place, not near one.")
    matching = merge([*conditions, *_search(rules, arguments), *_scope(rules.schema)])
    values = aggregation.values(arguments)
    return AggregateQuery(name=name, filter=matching, values=values, polygons=_polygons(others))


def _scope(schema: Schema) -> list[Condition]:
    return [
        (key, value if isinstance(value, dict) else {"$eq": value}) for key, value in schema.scope.items()
    ]


def _search(rules: QueryRules, arguments: Arguments) -> list[Condition]:
    text = single(arguments, "search", schema=rules.schema)
    if text is None:
        return []
    if not rules.search:
        raise QueryError("search", f"This resource has no text search.{hint(rules.schema, 'search')}")
    check_size("search", text)
    return [("$text", {"$search": text})]


def _count(schema: Schema, arguments: Arguments, *, filtered: bool) -> Literal["exact", "estimated"] | None:
    text = single(arguments, "count", schema=schema)
    if text is None or text == "exact":
        return "exact" if text else None
    if text != "estimated":
        raise QueryError("count", f"count is 'exact' or 'estimated'.{hint(schema, 'count')}")
    if filtered:
        raise QueryError("count", "Only the whole resource can be estimated; for a filter, ask count=exact.")
    return "estimated"


def _polygons(arguments: Arguments) -> tuple[str, ...]:
    return tuple(name for name in arguments if name.endswith("__within_polygon"))


def _check_near(paths: Sequence[str], arguments: Arguments) -> None:
    """Refuse what cannot go together with an order by distance."""
    if len(paths) > 1:
        second = [name for name in arguments if name.endswith("__near")][1]
        raise QueryError(shorten(second), "near sorts by distance, and can be asked only once.")
    for name in ("sort", "cursor", "count", "search"):
        if arguments.get(name):
            raise QueryError(name, f"near sorts by distance, and cannot be used together with {name}.")
