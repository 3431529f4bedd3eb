"""Where a document is that was created."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

__all__ = ["created_headers", "location"]


def location(path: str, key: str | None) -> str:
    """Return the URL of a document of the collection at a path; that of the collection if it has no key.

    >>> location("/user", "a/b"), location("/user", None)
    ('/user/a%2Fb', '/user')
    """
    return f"{path}/{quote(key, safe='')}" if key else path


def created_headers(path: str, key: str | None) -> Iterator[tuple[str, str]]:
    """Yield ``Location`` and, of a document that has a key, ``X-Created-Id``; ``path`` is its collection's.

    >>> list(created_headers("/user", "ann"))
    [('Location', '/user/ann'), ('X-Created-Id', 'ann')]
    """
    yield "Location", location(path, key)
    if key is not None:
        yield "X-Created-Id", key if key.isascii() and key.isprintable() else quote(key, safe="")
