"""Cross-origin resource sharing: which pages of other origins may read the answers of this server.

The protocol is that of the Fetch standard (https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

__all__ = ["EXPOSED", "READ", "Cors"]

#: The request headers that bzz reads: a page may send them without being told about each.
READ = (
    "Accept",
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "X-Request-Id",
    "X-Requested-With",
)
#: The headers of answers that a page may read, besides those that it always may.
EXPOSED = (
    "Accept-Patch",
    "Allow",
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
    "X-Created-Id",
    "X-Request-Id",
    "X-Total-Count",
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Cors:
    """Who may use a resource, or a whole Api, from pages of another origin.

    ``origins`` are the origins as a browser writes them (``https://app.example.com``), or ``"*"`` for all.
    With ``credentials`` a page may have cookies and the like sent along; that needs the origins by name.
    ``max_age`` is the seconds for which a browser may remember what a preflight was answered. ``headers`` and
    ``exposed`` name more headers than bzz' own: what a page may send, and what it may read.

    An origin that is not allowed gets the answer that everybody gets, without the headers that would let a
    page read it: keeping pages from reading is up to browsers. Nobody is kept from writing by this.

    Raises ValueError for an origin that no browser would ever send, and for credentials with ``"*"``, which
    browsers refuse.

    >>> Cors(origins=["https://app.example.com"])
    Cors(origins=('https://app.example.com',), credentials=False, max_age=600)
    >>> Cors(origins="*", credentials=True)
    Traceback (most recent call last):
    ValueError: credentials need the origins by name: with "*", every page could act as the user
    """

    def __init__(
        self,
        origins: Collection[str],
        *,
        credentials: bool = False,
        max_age: int = 600,
        headers: Collection[str] = (),
        exposed: Collection[str] = (),
    ) -> None:
        self.origins = (origins,) if isinstance(origins, str) else tuple(origins)
        self.credentials = credentials
        self.max_age = max_age
        self._any = "*" in self.origins
        if not self.origins:
            raise ValueError('origins names at least one origin, or is "*"')
        if self._any and credentials:
            raise ValueError(
                'credentials need the origins by name: with "*", every page could act as the user'
            )
        if self._any and len(self.origins) > 1:
            raise ValueError('"*" is every origin; name no other beside it')
        if max_age < 0:
            raise ValueError(f"max_age is seconds from 0, not {max_age}")
        self._named = frozenset(() if self._any else map(_origin, self.origins))
        self._headers = _joined(READ, headers)
        self._exposed = _joined(EXPOSED, exposed)

    def __repr__(self) -> str:
        return f"Cors(origins={self.origins!r}, credentials={self.credentials}, max_age={self.max_age})"

    def mark(self, handler: Any) -> None:
        """Put on an answer what lets a page read it, if the page's origin may."""
        if not self._any:
            # Also without an Origin: a cache must not give this answer to a page.
            handler.add_header("Vary", "Origin")
        origin = handler.request.headers.get("Origin")
        if origin is None or not (self._any or origin in self._named):
            return
        handler.set_header("Access-Control-Allow-Origin", "*" if self._any else origin)
        if self.credentials:
            handler.set_header("Access-Control-Allow-Credentials", "true")
        if not is_preflight(handler.request):
            handler.set_header("Access-Control-Expose-Headers", self._exposed)

    def answer_preflight(self, handler: Any) -> None:
        """Answer 204 with what a page may do here: the methods of the URL, and the headers it may send."""
        if "Access-Control-Allow-Origin" in handler._headers:
            handler.set_header("Access-Control-Allow-Methods", ", ".join(handler.allowed_methods()))
            handler.set_header("Access-Control-Allow-Headers", self._headers)
            handler.set_header("Access-Control-Max-Age", str(self.max_age))
        handler.set_status(204)
        handler.finish()


def is_preflight(request: Any) -> bool:
    """Tell whether a browser asks whether a page may send a request, before it does."""
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def _origin(text: str) -> str:
    """Check that a text is an origin as browsers write it; they send no other spelling of it."""
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    host = parts.hostname or ""
    plain = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port is not None else ''}"
    if not parts.scheme or not host or plain != text:
        raise ValueError(f'an origin looks like "https://app.example.com", with no path behind; not {text!r}')
    if not host.isascii():
        raise ValueError(f"browsers send the host of {text!r} in its ASCII form: xn--…")
    if port is not None and port == _DEFAULT_PORTS.get(parts.scheme):
        raise ValueError(f"browsers send {text!r} without the port, as it is that of {parts.scheme}")
    return text


def _joined(own: Collection[str], more: Collection[str]) -> str:
    for name in more:
        if not _TOKEN.fullmatch(name) or name == "*":
            raise ValueError(f"{name!r} is not the name of a header")
    known = {name.lower() for name in own}
    return ", ".join([*own, *(name for name in more if name.lower() not in known)])
