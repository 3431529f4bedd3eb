"""One page of a list: what is on it, how it is shown, and where the next one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bzz import model as typed
from bzz.model import Link, ListQuery, Schema, Stored
from bzz.resource.view import View
from bzz.storage.gather import Found, Question

__all__ = ["Page", "question", "render_found", "render_lines", "render_page", "render_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What belongs to the documents of a page.

    ``found`` are the documents as BSON, where nobody needs more of them than how they look; there are no
    ``items`` then. ``more`` says that the reading could have gone on. ``total`` is how many documents the
    filter has, if that was asked. ``rows`` are those of an aggregation, which has no ``query`` and no
    neighbours. ``encode`` encodes documents that were expanded.
    """

    items: Sequence[Stored] = ()
    query: ListQuery | None = None
    more: bool = False
    total: int | None = None
    rows: Sequence[Mapping[str, Any]] | None = None
    encode: Callable[[Schema, Stored], Any] | None = None
    found: Found | None = None

    def neighbours(self) -> dict[str, tuple[str, str]]:
        """Return the pages that are one step from here, by relation (RFC 8288): the parameter that changes.

        >>> query = typed.ListQuery(filter={}, sort=[], page=2, per_page=5, skip=5, limit=5)
        >>> Page(query=query, more=True).neighbours()
        {'first': ('page', '1'), 'prev': ('page', '1'), 'next': ('page', '3')}
        """
        if self.query is None:
            return {}
        return self._by_cursor(self.query) if self.query.walk else self._by_number(self.query)

    def _by_number(self, query: ListQuery) -> dict[str, tuple[str, str]]:
        found = {"first": ("page", "1")}
        if query.page > 1:
            found["prev"] = ("page", str(query.page - 1))
        if self.more:
            found["next"] = ("page", str(query.page + 1))
        return found

    def _by_cursor(self, query: ListQuery) -> dict[str, tuple[str, str]]:
        walk = query.walk
        assert walk is not None
        found = {"first": ("cursor", "")}
        # Where one came from there was something; ahead of here there is if the reading could have gone on.
        if self.items and (self.more if walk.backwards else walk.start is not None):
            found["prev"] = ("cursor", walk.cursor(self.items[0], backwards=True))
        if self.items and (self.more or walk.backwards):
            found["next"] = ("cursor", walk.cursor(self.items[-1], backwards=False))
        return found


def question(query: ListQuery, matching: Mapping[str, Any]) -> Question:
    """Return what to ask for a page: its documents and, if there is one, the next."""
    projection = query.projection.paths if query.projection else None
    return Question(matching, query.sort, query.skip, query.limit + 1, projection)


async def render_page(view: View, page: Page) -> bytes:
    """Write a page as a JSON array."""
    if page.rows is not None:
        return orjson.dumps([typed.encode_plain(row) for row in page.rows])
    if page.found is not None:
        assert page.query is not None
        return render_found(view, page.found, page.query.limit)
    query = page.query
    if query is None or (query.projection is None and not query.links):
        return await view.render_list(page.items)
    if _asks_models(query):
        return await asyncio.to_thread(_render, view, page, query)
    return _render(view, page, query)


def render_found(view: View, found: Found, limit: int) -> bytes:
    """Write the first documents of those that were found as a JSON array."""
    body: bytes | None = found.memo.get((view, limit))
    if body is None:
        body = found.memo[view, limit] = view.render_found(found[:limit])
    return body


async def render_parts(view: View, page: Page) -> bytes:
    """Write the one document of a page as a JSON object."""
    query = page.query
    assert query is not None
    if view.is_own or _asks_models(query):
        return await asyncio.to_thread(lambda: typed.dump(_encoded(view, page, query)[0]))
    return typed.dump(_encoded(view, page, query)[0])


async def render_lines(view: View, page: Page) -> bytes:
    """Write the documents of a page as JSON, each on a line of its own."""
    query = page.query
    assert query is not None
    if view.is_own or _asks_models(query):
        return await asyncio.to_thread(_render_lines, view, page, query)
    return _render_lines(view, page, query)


def _render_lines(view: View, page: Page, query: ListQuery) -> bytes:
    return b"".join([typed.dump(each) + b"\n" for each in _encoded(view, page, query)])


def _render(view: View, page: Page, query: ListQuery) -> bytes:
    return typed.dump(_encoded(view, page, query))


def _encoded(view: View, page: Page, query: ListQuery) -> list[Any]:
    encoded = [view.encode(stored) for stored in page.items]
    for link in query.links.values():
        assert page.encode is not None
        link.fill(encoded, page.encode)
    if query.projection is not None:
        encoded = [query.projection.cut(each) for each in encoded]
    return encoded


def _asks_models(query: ListQuery) -> bool:
    return any("to_dict" in each.schema.overrides for each in _all(query.links.values()))


def _all(links: Iterable[Link]) -> Iterable[Link]:
    for link in links:
        yield link
        yield from _all(link.links.values())
