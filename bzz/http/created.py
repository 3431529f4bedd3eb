"""Where a document is that was created, as headers of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

__all__ = ["created_headers"]


def created_headers(path: str, key: str | None) -> Iterator[tuple[str, str]]:
    """Yield ``Location`` and, of a document that has a key, ``X-Created-Id``; ``path`` is its collection's.

    >>> list(created_headers("/user", "ann"))
    [('Location', '/user/ann'), ('X-Created-Id', 'ann')]
    """
    yield "Location", path if key is None else f"{path}/{quote(key, safe='')}"
    if key is not None:
        yield "X-Created-Id", key if key.isascii() and key.isprintable() else quote(key, safe="")
