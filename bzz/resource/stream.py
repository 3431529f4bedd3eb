"""A whole list, one piece after another: what is in memory is never more than a piece.

The pieces are read by keyset, as pages with a cursor are: each is one short command with a time limit of its
own, nothing is kept open on the server while a client takes its time, and nothing that stays where it is
sorted is left out or shown twice, whatever others write meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from bzz import model as typed
from bzz.errors import QueryError
from bzz.model import ListQuery
from bzz.model.query.cursors import Keyset
from bzz.model.query.sorting import position_of
from bzz.resource.operation import Operation, Outcome
from bzz.resource.page import Page, render_lines
from bzz.resource.resource import Resource

__all__ = ["stream_list"]

_FIRST = 50
_MOST = 1000
_BYTES = 512 * 1024

_WITHOUT_MEANING = ("page", "per_page", "cursor", "count", "aggregate")


async def stream_list(
    resource: Resource, operation: Operation, write: Callable[[bytes], Awaitable[None]]
) -> None:
    """Give every document of a list to ``write``, some lines of JSON at a time.

    It is one operation: ``pre_get_list`` is sent once, before anything is read, ``post_get_list`` for each
    piece that was read. ``write`` returns when it has room for more; what it raises ends the stream, as every
    other error does.
    """
    try:
        await resource.start(operation)
        query = _compiled(resource, operation)
        await resource.open_list(operation)
        await _walk(resource, operation, query, write)
    except BaseException:
        await resource.fail(operation)
        raise
    await resource.complete(operation, Outcome())


def _compiled(resource: Resource, operation: Operation) -> ListQuery:
    for name in operation.arguments:
        if name in _WITHOUT_MEANING or name.endswith("__near"):
            raise QueryError(name, f"{name} has no meaning for a stream, which has no pages.")
    # An empty cursor asks for a walk from the beginning.
    arguments = {**operation.arguments, "cursor": [""]}
    return typed.compile_query(
        resource.schema, arguments, per_page=_FIRST, max_per_page=_FIRST, rules=resource.rules
    )


async def _walk(
    resource: Resource, operation: Operation, query: ListQuery, write: Callable[[bytes], Awaitable[None]]
) -> None:
    # What a page may refer to is limited, so with references a piece is not longer than a page.
    most = min(_MOST, resource.options.max_per_page) if query.links else _MOST
    query = replace(query, limit=min(_FIRST, most))
    while True:
        page = await resource.read_piece(operation, query)
        if not page.items:
            break
        lines = await render_lines(resource.view, page)
        await write(lines)
        if not page.more:
            break
        query = _beyond(query, page, min(most, max(1, _BYTES * len(page.items) // len(lines))))


def _beyond(query: ListQuery, page: Page, limit: int) -> ListQuery:
    """Return the query of the next piece; large documents make small pieces."""
    assert query.walk is not None
    start = Keyset(position_of(query.walk.keys, page.items[-1]), backwards=False)
    return replace(query, limit=limit, walk=replace(query.walk, start=start))
