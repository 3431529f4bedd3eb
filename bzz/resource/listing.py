"""Lists: the documents of a model that a query asks for, with what they refer to, and aggregations."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from bzz import model as typed
from bzz.errors import QueryError, StorageError
from bzz.model import Link, ListQuery, QueryRules, Schema, Stored
from bzz.resource import overridden
from bzz.resource.operation import Operation, Options, Outcome
from bzz.resource.page import Page
from bzz.storage import Store
from bzz.storage.reading import aggregate, estimated_count, refused_value

__all__ = ["MAX_EXPANDED", "Listing", "rules_for"]

MAX_EXPANDED = 1000


def rules_for(schema: Schema, options: Options) -> QueryRules:
    """Return what the options of a resource allow to be asked; raises ValueError for what the model lacks."""
    return QueryRules(
        schema,
        filters=options.filters,
        sorts=options.sorts,
        expandable=options.expandable,
        expand_depth=options.expand_depth,
        search=options.search,
        aggregations=options.aggregations,
        secret=options.secret,
    )


class Listing:
    """Read lists of one resource, by what its options allow."""

    def __init__(self, schema: Schema, store: Store, options: Options, *, client: Any = None) -> None:
        self.schema = schema
        self.store = store
        self.options = options
        self.rules = rules_for(schema, options)
        self._client = client
        self._stores: dict[Any, Store] = {schema.model: store}

    async def read(self, operation: Operation, *, whole: bool = False) -> Outcome:
        """Return a page of documents, or the rows of an aggregation.

        ``whole`` has the documents read as they are, also when only some of their fields are shown.
        """
        arguments, session = operation.arguments, operation.session
        if arguments.get("aggregate"):
            return Outcome(page=await self._aggregate(arguments, session))
        query = typed.compile_query(
            self.schema,
            arguments,
            per_page=self.options.per_page,
            max_per_page=self.options.max_per_page,
            rules=self.rules,
        )
        page = await self._page(query, session, whole=whole)
        return Outcome(items=list(page.items), page=page)

    async def _page(self, query: ListQuery, session: Any, *, whole: bool) -> Page:
        matching = _both(overridden.scope(self.schema), query.filter)
        try:
            found = await self._read(query, matching, session, whole=whole)
        except StorageError as error:
            _blame_polygons(query.polygons, error)
            raise
        items = found[: query.limit]
        if query.walk and query.walk.backwards:
            items.reverse()
        await self._expand(query.links.values(), items, session)
        total = await self._count(query, matching, session) if query.count else None
        return Page(items=items, query=query, more=len(found) > query.limit, total=total)

    async def _read(
        self, query: ListQuery, matching: Mapping[str, Any], session: Any, *, whole: bool
    ) -> list[Stored]:
        """Return the documents of a page and, if there is one, the next: so one knows that there is."""
        found: list[Stored] = []
        for position in query.walk.positions if query.walk else [{}]:
            found += await self.store.find(
                _both(matching, position),
                sort=query.sort or None,
                skip=query.skip,
                limit=query.limit + 1 - len(found),
                session=session,
                projection=query.projection.paths if query.projection and not whole else None,
            )
            if len(found) > query.limit:
                break
        return found

    async def _count(self, query: ListQuery, matching: Mapping[str, Any], session: Any) -> int:
        if query.count == "estimated" and not matching and session is None:
            return await estimated_count(self.store)
        return await self.store.count(matching, session=session)

    async def _aggregate(self, arguments: Mapping[str, list[str]], session: Any) -> Page:
        query = typed.compile_aggregate(self.rules, arguments)
        aggregation = self.rules.aggregations[query.name]
        stages = aggregation.stages(query.values, _both(overridden.scope(self.schema), query.filter))
        variables = aggregation.variables(query.values)
        try:
            rows = await aggregate(
                self.store, stages, limit=aggregation.max_results, variables=variables, session=session
            )
        except StorageError as error:
            _blame_polygons(query.polygons, error)
            raise
        return Page(rows=rows)

    # References ---------------------------------------------------------------------------------------------

    async def _expand(self, links: Iterable[Link], items: Sequence[Stored], session: Any) -> None:
        """Read what documents refer to: of each model, one command for each level."""
        level = [(link, items) for link in links]
        while level:
            wanted: dict[Any, dict[Any, None]] = {}
            for link, documents in level:
                keys = wanted.setdefault(link.schema.model, {})
                keys.update((key, None) for key in link.keys(documents) if isinstance(key, Hashable))
            if sum(map(len, wanted.values())) > MAX_EXPANDED:
                raise QueryError("expand", f"More than {MAX_EXPANDED} documents would be expanded.")
            found = {model: await self._find(model, list(keys), session) for model, keys in wanted.items()}
            for link, documents in level:
                known = found[link.schema.model]
                keys = dict.fromkeys(key for key in link.keys(documents) if isinstance(key, Hashable))
                link.documents = [known[key] for key in keys if key in known]
            level = [(below, link.documents) for link, _ in level for below in link.links.values()]

    async def _find(self, model: Any, keys: list[Any], session: Any) -> dict[Any, Stored]:
        if not keys:
            return {}
        store = self._stores.get(model)
        if store is None:
            store = self._stores[model] = Store(model, client=self._client, timeout=self.options.timeout)
        found = await store.find(
            _both({"_id": {"$in": keys}}, overridden.scope(Schema.of(model))),
            limit=len(keys),
            # A session belongs to one client.
            session=session if store.alias == self.store.alias else None,
        )
        return {each["_id"]: each for each in found}


def _blame_polygons(polygons: Sequence[str], error: StorageError) -> None:
    """Raise QueryError if MongoDB refused a command because a polygon of the client's is none."""
    if polygons and refused_value(error):
        raise QueryError(
            polygons[0], f"{polygons[0]!r}: this is no polygon; does it cross itself?"
        ) from error


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter that matches what both match."""
    if one.keys().isdisjoint(other):
        return {**one, **other}
    return {"$and": [one, other]}
