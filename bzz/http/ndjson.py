"""Lists as NDJSON: every document that matches, each on a line of its own, however many there are.

A stream that breaks is seen to break: what HTTP/1.1 sends in chunks has an end, and this one does not come.
"""

from __future__ import annotations

import logging
from typing import Any

import tornado.web
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError

from bzz.http.request import arguments
from bzz.resource import Operation
from bzz.resource.stream import stream_list

__all__ = ["NDJSON", "prefers_ndjson", "send_list"]

logger = logging.getLogger("bzz.ndjson")

NDJSON = "application/x-ndjson"


def prefers_ndjson(request: HTTPServerRequest) -> bool:
    """Tell whether ``Accept`` names NDJSON itself, and nothing that it likes better (RFC 9110, 12.5.1).

    >>> from tornado.httputil import HTTPHeaders
    >>> def asks(accept):
    ...     return prefers_ndjson(HTTPServerRequest("GET", "/", headers=HTTPHeaders({"Accept": accept})))
    >>> asks("application/x-ndjson"), asks("application/json, application/x-ndjson;q=0.5"), asks("*/*")
    (True, False, False)
    """
    best = wanted = 0.0
    for part in request.headers.get("Accept", "").split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = _weight(parameters)
        if kind == NDJSON:
            wanted = max(wanted, weight)
        elif kind == "application/json":
            best = max(best, weight)
    return wanted > 0 and wanted >= best


def _weight(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def send_list(handler: Any) -> None:
    """Answer with the whole of a list; the reading never runs ahead of the client."""
    request = handler.request
    if request.version == "HTTP/1.0":
        # There the end of a stream looks the same whether it is whole or not.
        raise tornado.web.HTTPError(426, "A stream needs HTTP/1.1, which tells its end from a broken one.")
    operation = Operation("get_list", arguments=arguments(request), handler=handler)
    handler.set_header("Content-Type", NDJSON)
    if request.method == "HEAD":
        return

    async def write(lines: bytes) -> None:
        handler.write(lines)
        await handler.flush()

    try:
        await stream_list(handler.resource, operation, write)
    except StreamClosedError:
        logger.debug("the client left in the middle of %s", request.path)
    except Exception:
        if not handler._headers_written:
            raise
        logger.exception("%s broke off in the middle", request.path)
        # Without the last chunk: this is how a client learns that it does not have everything.
        request.connection.close()
