"""What is served: the document, and a page in which a person can read it and try it.

The page and all that it loads come from this server: Swagger UI lies in the package. A content security
policy holds it to that.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from html import escape
from importlib.resources import files

import tornado.web

from bzz.http.problem_handler import ProblemHandler

__all__ = ["ASSETS", "AssetHandler", "DocumentHandler", "PageHandler"]

#: What the page loads: name → (where it lies in the package, its media type).
ASSETS = {
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
    "start.js": ("start.js", "text/javascript; charset=utf-8"),
    "LICENSE": ("swagger-ui/LICENSE", "text/plain; charset=utf-8"),
}

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{assets}/swagger-ui.css">
</head>
<body>
<div id="swagger-ui" data-url="{url}">
<noscript>The description of this API is at <a href="{url}">{url}</a>.</noscript>
</div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script src="{assets}/start.js"></script>
</body>
</html>
"""


@functools.cache
def _asset(name: str) -> bytes:
    return files("bzz.openapi").joinpath("assets", *ASSETS[name][0].split("/")).read_bytes()


@functools.cache
def _edition() -> str:
    """Return a name for the files as they are: with it in their URLs they can be kept for ever."""
    return hashlib.blake2b(b"".join(map(_asset, ASSETS)), digest_size=8).hexdigest()


class _ReadingHandler(ProblemHandler):
    """Something that is only read; the tag of an answer is a hash of its bytes."""

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of this URL."""
        return ("GET", "HEAD")

    def set_default_headers(self) -> None:
        """Keep browsers from guessing what something is."""
        self.set_header("X-Content-Type-Options", "nosniff")


class DocumentHandler(_ReadingHandler):
    """Serve the OpenAPI document; ``document`` returns its bytes."""

    def initialize(self, document: Callable[[], bytes]) -> None:
        """Take where the document comes from."""
        self.document = document

    async def get(self) -> None:
        """Answer with the document, or 304 to who has it."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-cache")
        self.finish(self.document())

    head = get


class PageHandler(_ReadingHandler):
    """Serve the page, which shows the document at ``url`` and loads what is below ``assets``."""

    def initialize(self, title: str, url: str, assets: str) -> None:
        """Take what the page is about, and where the rest of it lies."""
        self.shown = {"title": title, "url": url, "assets": f"{assets}/{_edition()}"}

    async def get(self) -> None:
        """Answer with the page; nothing in it is a script but files of this server."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        self.finish(_PAGE.format(**{name: escape(text) for name, text in self.shown.items()}))

    head = get


class AssetHandler(_ReadingHandler):
    """Serve a file of the page, to be kept for ever: when it changes, so does its URL."""

    async def get(self, name: str) -> None:
        """Answer with the file."""
        if name not in ASSETS:
            raise tornado.web.HTTPError(404)
        self.set_header("Content-Type", ASSETS[name][1])
        self.set_header("Cache-Control", "public, max-age=31536000, immutable")
        self.finish(_asset(name))

    head = get
