"""Lists: the documents of a model that a query asks for, with what they refer to, and aggregations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bzz import model as typed
from bzz.errors import QueryError, StorageError
from bzz.model import ListQuery, QueryRules, Stored
from bzz.resource.documents import Documents
from bzz.resource.expanding import MAX_EXPANDED, Expanding
from bzz.resource.operation import Operation, Outcome
from bzz.resource.page import Page, question
from bzz.resource.rows import both
from bzz.storage.gather import Found
from bzz.storage.reading import aggregate, estimated_count, refused_value

__all__ = ["MAX_EXPANDED", "Listing", "blame_polygons", "rules_for"]


def rules_for(documents: Documents) -> QueryRules:
    """Return what the options of a resource allow to be asked; raises ValueError for what the model lacks."""
    options = documents.options
    return QueryRules(
        documents.schema,
        filters=options.filters,
        sorts=options.sorts,
        expandable=options.expandable,
        expand_depth=options.expand_depth,
        search=options.search,
        aggregations=options.aggregations,
        secret=options.secret,
        readable=documents.fields.readable,
    )


class Listing:
    """Read lists of one resource, by what its options allow."""

    def __init__(
        self, documents: Documents, peers: Callable[[], Iterable[Documents]], *, client: Any = None
    ) -> None:
        self.documents = documents
        self.schema = documents.schema
        self.store = documents.store
        self.options = documents.options
        self.rules = rules_for(documents)
        self._expanding = Expanding(documents, peers, client=client)

    async def read(self, operation: Operation, *, whole: bool = False, shared: bool = False) -> Outcome:
        """Return a page of documents, or the rows of an aggregation.

        ``whole`` has the documents read as they are, also when only some of their fields are shown.
        ``shared``: they are only shown, so that all who ask at the same time may have them together.
        """
        arguments = operation.arguments
        if arguments.get("aggregate"):
            return Outcome(page=await self._aggregate(operation))
        query = typed.compile_query(
            self.schema,
            arguments,
            per_page=self.options.per_page,
            max_per_page=self.options.max_per_page,
            rules=self.rules,
        )
        page = await self.page(query, operation, whole=whole, shared=shared)
        return Outcome(items=list(page.items) if page.found is None else None, page=page)

    async def parts(self, operation: Operation) -> Outcome:
        """Return one document, and as a page what is to be shown of it and of what it refers to."""
        query = typed.compile_parts(self.schema, operation.arguments, self.rules)
        found = await self.documents.find_as_named(operation)
        if query.links:
            await self._expanding.expand(query.links.values(), [found], operation)
        return Outcome(after=found, page=Page(items=[found], query=query, encode=self._expanding.encode))

    async def page(
        self, query: ListQuery, operation: Operation, *, whole: bool, shared: bool = False
    ) -> Page:
        """Read the documents that a query asks for, and what they refer to."""
        session = operation.session
        scope = await self.documents.scope(operation)
        matching = both(scope.filter, query.filter)
        found: Found | list[Stored]
        try:
            if shared and query.walk is None and session is None:
                found = await self.store.find_raw(question(query, matching))
            else:
                found = await self._read(query, matching, session, whole=whole)
        except StorageError as error:
            blame_polygons(query.polygons, error)
            raise
        total = await self._count(query, matching, session) if query.count else None
        more = len(found) > query.limit
        if isinstance(found, Found):
            if self._shows_whole(query):
                return Page(found=found, query=query, more=more, total=total)
            items = self.store.decode(found[: query.limit])
        else:
            items = found[: query.limit]
        if query.walk and query.walk.backwards:
            items.reverse()
        if query.links:
            await self._expanding.expand(query.links.values(), items, operation)
        return Page(items=items, query=query, more=more, total=total, encode=self._expanding.encode)

    def _shows_whole(self, query: ListQuery) -> bool:
        return query.projection is None and not query.links and not self.documents.view.is_own

    async def _read(
        self, query: ListQuery, matching: Mapping[str, Any], session: Any, *, whole: bool
    ) -> list[Stored]:
        """Return the documents of a page and, if there is one, the next: so one knows that there is."""
        found: list[Stored] = []
        for position in query.walk.positions if query.walk else [{}]:
            found += await self.store.find(
                both(matching, position),
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

    async def _aggregate(self, operation: Operation) -> Page:
        query = typed.compile_aggregate(self.rules, operation.arguments)
        scope = await self.documents.scope(operation)
        aggregation = self.rules.aggregations[query.name]
        stages = aggregation.stages(query.values, both(scope.filter, query.filter))
        variables = aggregation.variables(query.values)
        try:
            rows = await aggregate(
                self.store,
                stages,
                limit=aggregation.max_results,
                variables=variables,
                session=operation.session,
            )
        except StorageError as error:
            blame_polygons(query.polygons, error)
            raise
        return Page(rows=rows)


def blame_polygons(polygons: Sequence[str], error: StorageError) -> None:
    """Raise QueryError if MongoDB refused a command because a polygon of the client's is none."""
    if polygons and refused_value(error):
        raise QueryError(
            polygons[0], f"{polygons[0]!r}: this is no polygon; does it cross itself?"
        ) from error
