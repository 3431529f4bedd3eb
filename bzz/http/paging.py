"""Where the pages beside a page of a list are (RFC 8288)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote_plus, urlencode

from bzz.resource.page import Page

__all__ = ["link_header"]


def link_header(path: str, asked: Mapping[str, Sequence[str]], page: Page) -> str:
    """Return the value of ``Link``, ``""`` for none: ``path`` with what was asked, but for other pages.

    >>> from bzz.model import ListQuery
    >>> query = ListQuery(filter={}, sort=[], page=2, per_page=5, skip=5, limit=5)
    >>> link_header("/user", {"age": ["7"], "page": ["2"]}, Page(query=query))
    '</user?age=7&page=1>; rel="first", </user?age=7&page=1>; rel="prev"'
    """
    given = urlencode(
        [(name, value) for name, values in asked.items() if name not in _PLACES for value in values]
    )
    start = f"<{path}?{given}&" if given else f"<{path}?"
    return ", ".join(
        f'{start}{name}={quote_plus(value)}>; rel="{relation}"'
        for relation, (name, value) in page.neighbours().items()
    )


_PLACES = frozenset({"page", "cursor"})
