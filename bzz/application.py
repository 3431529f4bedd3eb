"""A Tornado application that takes the short way to documents where it is open.

The answer is the one that the handler would give, byte for byte. See :mod:`bzz.resource.glance` for when.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, NamedTuple

import tornado.web
from tornado import httputil
from tornado.log import access_log

from bzz.errors import BzzError
from bzz.http.lean import common_headers
from bzz.http.paging import link_header
from bzz.http.request import JSON, arguments
from bzz.model import ListQuery, Stored
from bzz.quick import WRITING, PastHandler, QuickWrites, plainly_served
from bzz.resource.glance import Glance
from bzz.resource.page import Page
from bzz.storage.gather import Found

__all__ = ["Application", "unlogged"]

# How many texts of queries are remembered for each rule, and how long they may be.
_MAX_PLANS = 1000
_MAX_TEXT = 256

_OK = httputil.ResponseStartLine("", 200, "OK")


def unlogged(_handler: tornado.web.RequestHandler) -> None:
    """Log nothing, as ``log_function`` of an application whose server logs its requests."""


class Application(tornado.web.Application):
    """A :class:`tornado.web.Application` that needs no handler for the plainest requests."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._ways: dict[int, tuple[Any, _Way | None]] = {}
        self._writes = QuickWrites(self, self._is_unlogged)
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
            and target_kwargs is not None
            and self._is_plain(request.headers)
        ):
            known = self._ways.get(id(target_kwargs))
            if known is None:
                # With what it is about, so that no other dict can ever have the same number.
                known = target_kwargs, _way(target_class, target_kwargs)
                self._ways[id(target_kwargs)] = known
            if known[1] is not None:
                usual = (request, target_class, target_kwargs, path_args, path_kwargs)
                if not path_args[0]:
                    return _LookAtList(self, known[1], usual)
                if not request.query:
                    return _LookAtOne(self, known[1], usual)
        if request.method in WRITING:
            quick = self._writes.delegate((request, target_class, target_kwargs, path_args, path_kwargs))
            if quick is not None:
                return quick
        return super().get_handler_delegate(request, target_class, target_kwargs, path_args, path_kwargs)

    def _is_plain(self, headers: httputil.HTTPHeaders) -> bool:
        return (
            "If-None-Match" not in headers
            and "If-Match" not in headers
            and "Content-Length" not in headers
            and "Transfer-Encoding" not in headers
            and not self.transforms
            and self._is_unlogged()
        )

    def _is_unlogged(self) -> bool:
        log = self.settings.get("log_function")
        return log is unlogged or (log is None and not access_log.isEnabledFor(logging.INFO))


class _Plan(NamedTuple):
    """What the text of a query asks for; the values of ``Link`` with and without a next page."""

    query: ListQuery
    asked: dict[str, list[str]]
    links: dict[bool, str]


class _Way:
    """The short way that a rule has."""

    __slots__ = ("_path", "_plans", "glance")

    def __init__(self, glance: Glance, path: str) -> None:
        self.glance = glance
        self._path = path
        self._plans: dict[str, _Plan | None] = {}

    def plan(self, request: httputil.HTTPServerRequest) -> _Plan | None:
        """Return what a list request asks for, None if the way is closed; raises what a handler raises.

        Nothing but its text decides that, so what was asked before need not be understood again.
        """
        try:
            return self._plans[request.query]
        except KeyError:
            pass
        asked = arguments(request)
        query = self.glance.plan(asked)
        plan = None if query is None else _Plan(query, asked, {})
        if len(request.query) <= _MAX_TEXT:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[request.query] = plan
        return plan

    def link(self, plan: _Plan, page: Page) -> str:
        """Return where the pages beside a page are."""
        found = plan.links.get(page.more)
        if found is None:
            found = plan.links[page.more] = link_header(self._path, plan.asked, page)
        return found


def _way(handler: type, given: dict[str, Any]) -> _Way | None:
    """Return the short way that a rule has, if its handler does nothing of its own."""
    resource = plainly_served(handler, given)
    if resource is None or not resource.glance.is_possible:
        return None
    return _Way(resource.glance, given["path"])


class _Look(PastHandler):
    """One request for what is only read."""

    __slots__ = ("_way",)

    def __init__(self, application: Application, way: _Way, usual: tuple[Any, ...]) -> None:
        super().__init__(application, usual)
        self._way = way

    def finish(self) -> None:
        """Read what is asked for; whatever is not as simple as that is left to the handler."""
        try:
            reading = self._begin()
        except Exception:  # whatever it is: the handler meets it too, and can say so
            reading = None
        if reading is None:
            self._hand_over()
        elif isinstance(reading, asyncio.Future):
            reading.add_done_callback(self._answer_with)
        else:
            self._start(self._answer(reading))

    def _begin(self) -> Awaitable[Any] | None:
        """Begin to read; None if the way is closed."""
        raise NotImplementedError

    def _show(self, found: Any) -> tuple[bytes, str, str]:
        """Return the body of the answer, and the name and the value of the header that goes with it."""
        raise NotImplementedError

    async def _answer(self, reading: Awaitable[Any]) -> None:
        try:
            found = await reading
        except BzzError as error:
            self._fail(error)
        except Exception:
            self._hand_over()
        else:
            self._send(found)

    def _answer_with(self, reading: asyncio.Future[Any]) -> None:
        try:
            found = reading.result()
        except BzzError as error:
            self._fail(error)
        except (Exception, asyncio.CancelledError):
            self._hand_over()
        else:
            self._send(found)

    def _send(self, found: Any) -> None:
        try:
            body, name, value = self._show(found)
        except BzzError as error:
            self._fail(error)
            return
        except Exception:
            self._hand_over()
            return
        headers = common_headers(JSON)
        headers[name] = value
        headers["Content-Length"] = str(len(body))
        connection = self._usual[0].connection
        connection.write_headers(_OK, headers, body)
        connection.finish()


class _LookAtOne(_Look):
    """One request for one document."""

    __slots__ = ()

    def _begin(self) -> Awaitable[Stored | None] | None:
        return self._way.glance.read(self._usual[3][0].decode())

    def _show(self, found: Stored | None) -> tuple[bytes, str, str]:
        glance = self._way.glance
        if found is None:
            raise glance.missing()
        body, tag = glance.show(found)
        return body, "Etag", tag


class _LookAtList(_Look):
    """One request for a page of documents."""

    __slots__ = ("_plan",)

    def _begin(self) -> Awaitable[Found] | None:
        self._plan = self._way.plan(self._usual[0])
        return None if self._plan is None else self._way.glance.read_list(self._plan.query)

    def _show(self, found: Found) -> tuple[bytes, str, str]:
        assert self._plan is not None
        body, page = self._way.glance.show_list(self._plan.query, found)
        return body, "Link", self._way.link(self._plan, page)
