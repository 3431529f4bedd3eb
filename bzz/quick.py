"""The short way for a request that writes one document: the operation as ever, without Tornado's handler.

A handler costs more than what most operations do: its own steps, those around it, and the attributes that
nobody looks at. Here the body is read and the answer is written, and all between is
:meth:`bzz.resource.Resource.run`, as from any other way in. The answer is the one that the handler would
give, byte for byte. The way is open where nobody can miss the handler: it is the plain class, the request has
nothing but a body, and no receiver is given a handler. Whatever else there is, a body that cannot be read
also, is left to the handler before anything was done; an error is answered by one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from http.client import responses
from typing import Any

import tornado.web
from tornado import httputil

from bzz import model as typed
from bzz.http.created import created_headers
from bzz.http.lean import common_headers
from bzz.http.request import JSON, MERGE_PATCH
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.resource import Action, Operation, Options, Outcome, Resource
from bzz.resource.operation import DataKind

__all__ = ["WRITING", "PastHandler", "QuickWrites", "plainly_served"]

# The event loop holds tasks weakly.
_running: set[asyncio.Task[None]] = set()

_TYPES = frozenset({JSON, f"{JSON};charset=utf-8", f"{JSON}; charset=utf-8", f"{JSON}; charset=UTF-8"})
# method → what it does, with the collection or with the document of a key, and the types of its body.
_OF_COLLECTION: dict[str, tuple[Action, DataKind, frozenset[str]]] = {
    "POST": ("create_instance", "fields", _TYPES),
}
_OF_ITEM: dict[str, tuple[Action, DataKind, frozenset[str]]] = {
    "PUT": ("update_instance", "fields", _TYPES),
    "PATCH": ("update_instance", "merge_patch", _TYPES | {MERGE_PATCH}),
    "DELETE": ("delete_instance", "fields", frozenset()),
}
WRITING = frozenset({*_OF_COLLECTION, *_OF_ITEM})
# With any of these a request is not as plain as it can be.
_MORE = frozenset(
    {
        "Content-Encoding",
        "Content-Range",
        "Idempotency-Key",
        "If-Match",
        "If-None-Match",
        "Prefer",
    }
)
# Settings of an application that a handler heeds and this way does not.
_HEEDED = ("xsrf_cookies", "cross_origin_protection")
# What a subclass of the handler may say without doing anything of its own.
_SAID = frozenset(Options.__dataclass_fields__) | {
    "__annotations__",
    "__doc__",
    "__module__",
    "__qualname__",
    "put_mode",
}

Usual = tuple[Any, ...]


class QuickWrites:
    """The short ways of one application, looked for once for each of its rules.

    ``is_unlogged`` tells whether the application logs no successful request.
    """

    def __init__(self, application: tornado.web.Application, is_unlogged: Callable[[], bool]) -> None:
        self._application = application
        self._is_unlogged = is_unlogged
        # With what it is about, so that no other dict can ever have the same number.
        self._known: dict[int, tuple[Any, Resource | None]] = {}

    def delegate(self, usual: Usual) -> httputil.HTTPMessageDelegate | None:
        """Return what takes a request the short way, None if it must go the usual one.

        ``usual`` are the arguments of Tornado's ``get_handler_delegate``.
        """
        request, handler, given, path_args, _ = usual
        if not path_args or given is None or request.query:
            return None
        key = path_args[0]
        wanted = (_OF_ITEM if key else _OF_COLLECTION).get(request.method)
        if wanted is None or not _MORE.isdisjoint(request.headers):
            return None
        types = wanted[2]
        kind = request.headers.get("Content-Type")
        if kind not in types if types else kind is not None:
            return None
        known = self._known.get(id(given))
        if known is None:
            known = self._known[id(given)] = given, _plain_resource(handler, given)
        resource = known[1]
        if resource is None or not self._is_open(resource, request.method, wanted[0]):
            return None
        return _Write(self._application, resource, wanted[0], wanted[1], usual)

    def _is_open(self, resource: Resource, method: str, action: Action) -> bool:
        settings = self._application.settings
        methods = resource.options.methods
        return (
            (methods is None or method in methods)
            and not self._application.transforms
            and not any(settings.get(each) for each in _HEEDED)
            and self._is_unlogged()
            and resource.store.is_prepared
            and not (audience := resource.audience(action)).decides
            and not audience.wants_handler
        )


def plainly_served(handler: type, given: dict[str, Any]) -> Resource | None:
    """Return the resource of a rule, if its handler does nothing of its own."""
    if not issubclass(handler, MongoEngineRestHandler) or given.keys() != {"resource", "path", "gate"}:
        return None
    above = handler.__mro__[: handler.__mro__.index(MongoEngineRestHandler)]
    if given["gate"] is not None or not all(_SAID.issuperset(vars(each)) for each in above):
        return None
    resource: Resource = given["resource"]
    return resource


def _plain_resource(handler: type, given: dict[str, Any]) -> Resource | None:
    """Return the resource of a rule, if its handler does nothing of its own and nobody else is shown it."""
    resource = plainly_served(handler, given)
    if resource is None:
        return None
    idempotency = resource.idempotency
    if resource.is_guarded or not resource.rows.is_everything or (idempotency and idempotency.required):
        return None
    return resource


class PastHandler(httputil.HTTPMessageDelegate):
    """One request that is answered without a handler, unless it turns out to take one."""

    __slots__ = ("_application", "_start_line", "_usual")

    stream_request_body = False  # as Tornado's own delegates say it

    def __init__(self, application: tornado.web.Application, usual: Usual) -> None:
        self._application = application
        self._usual = usual

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Wait: the rest is done when the request is complete."""
        self._start_line = start_line

    def on_connection_close(self) -> None:
        """What was begun goes on when the client is gone, as it does with a handler."""

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        _running.add(task)
        task.add_done_callback(_running.discard)

    def _handler(self) -> Any:
        request, handler, given, *_ = self._usual
        return handler(self._application, request, **given)

    def _fail(self, error: BaseException) -> None:
        self._handler().fail(error)

    def _hand_over(self, body: bytes = b"") -> None:
        delegate = tornado.web.Application.get_handler_delegate(self._application, *self._usual)
        delegate.headers_received(self._start_line, self._usual[0].headers)
        if body:
            delegate.data_received(body)
        delegate.finish()


class _Write(PastHandler):
    """One request that writes one document."""

    __slots__ = ("_action", "_body", "_kind", "_resource")

    def __init__(
        self,
        application: tornado.web.Application,
        resource: Resource,
        action: Action,
        kind: DataKind,
        usual: Usual,
    ) -> None:
        super().__init__(application, usual)
        self._resource = resource
        self._action = action
        self._kind = kind
        self._body: bytes | bytearray = b""

    def data_received(self, chunk: bytes) -> None:
        """Keep a part of the body."""
        if not self._body:
            self._body = chunk  # most have one part
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += chunk

    def finish(self) -> None:
        """Read the body, and run the operation in a task of its own."""
        body = self._usual[0].body = bytes(self._body)
        try:
            operation = self._operation(body)
        except Exception:  # whatever it is: the handler meets it too, and can say so
            operation = None
        if operation is None:
            self._hand_over(body)
        else:
            self._start(self._run(operation))

    def _operation(self, body: bytes) -> Operation | None:
        """Return what is asked for; None if the body is no JSON object."""
        key = self._usual[3][0]
        data = None if self._action == "delete_instance" else typed.parse_json(body)
        if self._action != "delete_instance" and type(data) is not dict:
            return None
        return Operation(
            self._action,
            key=key.decode() if key else None,
            data=data,
            data_kind=self._kind,
            before_telling=self._show_handler,
        )

    async def _run(self, operation: Operation) -> None:
        try:
            outcome = await self._resource.run(operation)
            if self._action == "delete_instance":
                self._answer(204, common_headers(JSON))
            else:
                await self._answer_document(outcome)
        except asyncio.CancelledError as error:
            self._fail(error)
            raise
        except Exception as error:
            self._fail(error)

    def _show_handler(self, operation: Operation) -> None:
        """Make a handler after all, if somebody who wants one has come while the document was written."""
        if self._resource.audience(self._action).wants_handler:
            operation.handler = self._handler()

    async def _answer_document(self, outcome: Outcome) -> None:
        assert outcome.after is not None
        resource, stored = self._resource, outcome.after
        body = await resource.view.render(stored)
        tag = resource.view.etag(stored, body)
        headers = common_headers(JSON)
        status = 200
        if self._action == "create_instance":
            status = 201
            for name, value in created_headers(self._usual[2]["path"], resource.key_of(stored)):
                headers[name] = value
        headers["Etag"] = tag
        headers["Content-Length"] = str(len(body))
        self._answer(status, headers, body)

    def _answer(self, status: int, headers: httputil.HTTPHeaders, body: bytes = b"") -> None:
        if status == 204:
            del headers["Content-Type"]
        connection = self._usual[0].connection
        connection.write_headers(httputil.ResponseStartLine("", status, responses[status]), headers, body)
        connection.finish()
