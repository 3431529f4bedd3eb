"""A Tornado application that takes the short way to a document where it is open.

The answer is the one that the handler would give, byte for byte. See :mod:`bzz.resource.glance` for when.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import tornado.web
from tornado import httputil
from tornado.log import access_log

from bzz.errors import BzzError
from bzz.http.lean import common_headers
from bzz.http.request import JSON
from bzz.model import Stored
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.resource import Options
from bzz.resource.glance import Glance

__all__ = ["Application", "unlogged"]

# The event loop holds tasks weakly.
_running: set[asyncio.Task[None]] = set()

_OK = httputil.ResponseStartLine("", 200, "OK")
# What a subclass may say without doing anything of its own.
_SAID = frozenset(Options.__dataclass_fields__) | {
    "__annotations__",
    "__doc__",
    "__module__",
    "__qualname__",
    "put_mode",
}


def unlogged(_handler: tornado.web.RequestHandler) -> None:
    """Log nothing, as ``log_function`` of an application whose server logs its requests."""


class Application(tornado.web.Application):
    """A :class:`tornado.web.Application` that needs no handler for the plainest requests."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._glances: dict[int, tuple[Any, Glance | None]] = {}
        super().__init__(*args, **settings)

    def get_handler_delegate(
        self,
        request: httputil.HTTPServerRequest,
        target_class: type[tornado.web.RequestHandler],
        target_kwargs: dict[str, Any] | None = None,
        path_args: list[bytes] | None = None,
        path_kwargs: dict[str, bytes] | None = None,
    ) -> Any:
        """Return what answers a request: a handler, or what is quicker."""
        if (
            request.method == "GET"
            and path_args
            and path_args[0]
            and target_kwargs is not None
            and not request.query
            and self._is_plain(request.headers)
        ):
            known = self._glances.get(id(target_kwargs))
            if known is None:
                # With what it is about, so that no other dict can ever have the same number.
                known = target_kwargs, _glance(target_class, target_kwargs)
                self._glances[id(target_kwargs)] = known
            if known[1] is not None:
                usual = (request, target_class, target_kwargs, path_args, path_kwargs)
                return _Look(self, known[1], usual)
        return super().get_handler_delegate(request, target_class, target_kwargs, path_args, path_kwargs)

    def _is_plain(self, headers: httputil.HTTPHeaders) -> bool:
        log = self.settings.get("log_function")
        return (
            "If-None-Match" not in headers
            and "If-Match" not in headers
            and "Content-Length" not in headers
            and "Transfer-Encoding" not in headers
            and not self.transforms
            and (log is unlogged or (log is None and not access_log.isEnabledFor(logging.INFO)))
        )


def _glance(handler: type, given: dict[str, Any]) -> Glance | None:
    """Return the short way that a rule has, if its handler does nothing of its own."""
    if not issubclass(handler, MongoEngineRestHandler) or given.keys() != {"resource", "path", "gate"}:
        return None
    above = handler.__mro__[: handler.__mro__.index(MongoEngineRestHandler)]
    if given["gate"] is not None or not all(_SAID.issuperset(vars(each)) for each in above):
        return None
    found: Glance = given["resource"].glance
    return found if found.is_possible else None


class _Look(httputil.HTTPMessageDelegate):
    """One request for one document."""

    __slots__ = ("_application", "_glance", "_start_line", "_usual")

    def __init__(self, application: Application, glance: Glance, usual: tuple[Any, ...]) -> None:
        self._application = application
        self._glance = glance
        self._usual = usual

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Wait: the rest is done when the request is complete."""
        self._start_line = start_line

    def finish(self) -> None:
        """Read the document; whatever is not as simple as that is left to the handler."""
        try:
            answer = self._glance.read(self._usual[3][0].decode())
        except Exception:  # whatever it is: the handler meets it too, and can say so
            answer = None
        if answer is None:
            self._hand_over()
        elif isinstance(answer, asyncio.Future):
            answer.add_done_callback(self._answer_with)
        else:
            task = asyncio.get_running_loop().create_task(self._answer(answer))
            _running.add(task)
            task.add_done_callback(_running.discard)

    def on_connection_close(self) -> None:
        """A read goes on when the client is gone, as it does with a handler."""

    def _hand_over(self) -> None:
        delegate = tornado.web.Application.get_handler_delegate(self._application, *self._usual)
        delegate.headers_received(self._start_line, self._usual[0].headers)
        delegate.finish()

    def _fail(self, error: BzzError) -> None:
        request, handler, given, *_ = self._usual
        handler(self._application, request, **given).fail(error)

    async def _answer(self, reading: Awaitable[Stored | None]) -> None:
        try:
            stored = await reading
        except BzzError as error:
            self._fail(error)
        except Exception:
            self._hand_over()
        else:
            self._show(stored)

    def _answer_with(self, reading: asyncio.Future[Stored | None]) -> None:
        try:
            stored = reading.result()
        except BzzError as error:
            self._fail(error)
        except (Exception, asyncio.CancelledError):
            self._hand_over()
        else:
            self._show(stored)

    def _show(self, stored: Stored | None) -> None:
        if stored is None:
            self._fail(self._glance.missing())
            return
        try:
            body, tag = self._glance.show(stored)
        except Exception:
            self._hand_over()
            return
        headers = common_headers(JSON)
        headers["Etag"] = tag
        headers["Content-Length"] = str(len(body))
        connection = self._usual[0].connection
        connection.write_headers(_OK, headers, body)
        connection.finish()
