"""HTTP in, HTTP out: a REST resource over a MongoEngine model, as Tornado routes.

>>> import mongoengine
>>> class OtherUser(mongoengine.Document):
...     name = mongoengine.StringField()
>>> routes = MongoEngineRestHandler.routes_for(OtherUser, prefix="/api")
>>> routes
[URLSpec('/api/other_user(?:/([^/]+))?/?$', <class 'bzz.mongoengine_handler.MongoEngineRestHandler'>, ...)]
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote

import tornado.web

from bzz import errors, overridden, problem
from bzz import model as typed
from bzz.delivery.hooks import Hooks
from bzz.resource import Action, Operation, Options, Outcome, Resource

__all__ = ["MongoEngineRestHandler", "ProblemHandler", "Routes", "problem_of"]

logger = logging.getLogger("bzz.handler")

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

#: Which status each error is, the most particular first: error → (status, kind of problem).
STATUS: tuple[tuple[type[errors.BzzError], int, str], ...] = (
    (errors.BodyError, 400, "body"),
    (errors.ValidationError, 400, "validation"),
    (errors.QueryError, 400, "query"),
    (errors.MissingDocumentError, 404, "missing"),
    (errors.DuplicateError, 409, "duplicate"),
    (errors.ReferencedError, 409, "referenced"),
    (errors.ConflictError, 409, "conflict"),
    (errors.PreconditionFailedError, 412, "precondition"),
    (errors.StorageUnavailableError, 503, "storage-unavailable"),
    (errors.StorageTimeoutError, 503, "storage-timeout"),
)


#: Options whose attribute on a handler class cannot have their own name.
_ATTRIBUTES = {"put": "put_mode"}


class Routes(list[Any]):
    """The Tornado rules of one resource: a plain list, which also takes receivers.

    ``resource`` is the :class:`bzz.resource.Resource` behind the rules. Every event of the resource is a
    decorator: ``@routes.on_prerun``, ``@routes.on_post_update_instance`` … (see
    :class:`bzz.delivery.hooks.Hooks`).
    """

    def __init__(self, rules: list[Any], resource: Resource) -> None:
        super().__init__(rules)
        self.resource = resource

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("on_"):
            found: Callable[..., Any] = getattr(self.resource.hooks, name)
            return found
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class ProblemHandler(tornado.web.RequestHandler):
    """A handler whose every error answer is a problem (RFC 9457); on its own it answers 404 to everything."""

    def prepare(self) -> None:
        """Refuse what no rule has claimed."""
        raise tornado.web.HTTPError(404)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write the problem that belongs to an error; what went wrong inside stays in the log."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        detail, kind, members = _described(error)
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        if status_code == 503:
            self.set_header("Retry-After", "1")
        self.set_header("Content-Type", problem.CONTENT_TYPE)
        self.finish(problem.problem(status_code, detail, kind=kind, **members, **self.problem_members()))

    def problem_members(self) -> Mapping[str, Any]:
        """Return what every problem of this handler says besides; extension members of RFC 9457."""
        return {}

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods that this URL has."""
        return ()

    def _handle_request_exception(self, e: BaseException) -> None:
        # Tornado asks an error for its status only when it is an HTTPError; ours learn theirs here.
        status = _status(e)
        if status is None or self._finished:
            super()._handle_request_exception(e)
        else:
            logger.debug("%s %s: %s", self.request.method, self.request.path, e)
            self.send_error(status, exc_info=(type(e), e, e.__traceback__))


def _status(error: BaseException) -> int | None:
    if isinstance(error, errors.Veto):
        return error.status
    return next((status for kind, status, _name in STATUS if isinstance(error, kind)), None)


def problem_of(error: BaseException) -> tuple[int, bytes]:
    """Return the status and the problem that an error is as the answer to a request of its own."""
    if isinstance(error, tornado.web.Finish):
        # It says that a receiver wrote the whole answer; inside something larger that is a plain refusal.
        error = errors.Veto()
    status = _status(error)
    if status is None:
        status = error.status_code if isinstance(error, tornado.web.HTTPError) else 500
    detail, kind, members = _described(error)
    return status, problem.problem(status, detail, kind=kind, **members)


def _described(error: BaseException | None) -> tuple[str, str, Mapping[str, Any]]:
    """Return the detail, the kind and the extension members of the problem that an error is."""
    if isinstance(error, errors.Veto):
        return error.detail, "veto", {}
    if isinstance(error, tornado.web.HTTPError):
        return _http_detail(error), "", {}
    found = next((kind for each, _status, kind in STATUS if isinstance(error, each)), None)
    if found is None:
        return "", "", {}
    assert isinstance(error, errors.BzzError)
    members: dict[str, Any] = {}
    if isinstance(error, errors.ValidationError):
        members["errors"] = [each._asdict() for each in error.errors]
    if isinstance(error, errors.QueryError):
        members["parameter"] = error.parameter
    if isinstance(error, errors.DuplicateError):
        members["fields"] = list(error.fields)
    if isinstance(error, errors.PreconditionFailedError):
        members["etag"] = error.etag
    return error.detail, found, members


def _http_detail(error: tornado.web.HTTPError) -> str:
    """Return what a receiver or a handler said to the client, if it said anything."""
    if not error.log_message or error.status_code >= 500:
        return error.reason or ""
    return error.log_message % error.args if error.args else error.log_message


class MongoEngineRestHandler(ProblemHandler):
    """Serve one model: its collection at ``/name``, each document at ``/name/KEY``.

    Options are keywords of :meth:`routes_for` or attributes of a subclass; see :class:`bzz.resource.Options`.
    The attribute for ``put`` is ``put_mode``, because ``put`` is the method.
    """

    per_page = Options.per_page
    max_per_page = Options.max_per_page
    put_mode = Options.put
    timeout = Options.timeout
    retry_seconds = Options.retry_seconds

    resource: Resource

    @classmethod
    def routes_for(
        cls,
        *model: Any,
        prefix: str = "",
        resource_name: str | None = None,
        client: Any = None,
        hooks: Hooks | None = None,
        **options: Any,
    ) -> Routes:
        """Return the Tornado rules that serve a model.

        ``routes_for(User)`` is the usual form; ``routes_for("mongoengine", User)`` is accepted as well.
        ``prefix`` may be written with or without slashes, ``resource_name`` defaults to the class name in
        snake case. ``client`` is an asynchronous client (PyMongo's or Motor's) to use instead of one derived
        from the model's connection.

        Raises TypeError for anything that is not a document class, or an option that does not exist.
        """
        document = _document_class(model)
        unknown = options.keys() - Options.__dataclass_fields__.keys()
        if unknown:
            raise TypeError(f"routes_for() has no option {', '.join(sorted(unknown))}")
        chosen = {name: getattr(cls, _ATTRIBUTES.get(name, name)) for name in Options.__dataclass_fields__}
        name = resource_name.strip("/") if resource_name else _snake_case(document.__name__)
        resource = Resource(
            document, name=name, options=Options(**chosen | options), client=client, hooks=hooks
        )
        path = "".join(f"/{part}" for part in [*prefix.split("/"), *name.split("/")] if part)
        pattern = rf"{re.escape(path)}(?:/([^/]+))?/?"
        rule = tornado.web.url(pattern, cls, {"resource": resource, "path": path}, name=None)
        return Routes([rule], resource)

    def initialize(self, resource: Resource, path: str) -> None:
        """Take the resource that this handler serves, and the path of its collection."""
        self.resource = resource
        self.path = path

    def prepare(self) -> None:
        """Find the method of this URL; Tornado itself knows methods of handlers only."""
        if self.request.method not in self.allowed_methods():
            raise tornado.web.HTTPError(405)

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of the collection, or of one document."""
        # Not by path_args: Tornado refuses a method that it does not know before it has them.
        if self.request.path.rstrip("/") != self.path:
            return ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")
        return ("GET", "HEAD", "POST", "OPTIONS")

    def decode_argument(self, value: bytes | None, name: str | None = None) -> str:
        """Decode a percent-decoded part of the path; a key that is not UTF-8 is the key of no document."""
        try:
            # Tornado hands over None for the key that the URL of a collection does not have.
            return value if value is None else value.decode()  # type: ignore[return-value]
        except UnicodeDecodeError:
            raise errors.KeyFormatError(f"No {self.resource.name} has this key.") from None

    def compute_etag(self) -> None:
        """Have no ETag that is only a hash of the answer's bytes."""

    # The methods --------------------------------------------------------------------------------------------

    async def get(self, key: str | None = None) -> None:
        """Answer with a page of the collection, or with one document."""
        if key is None:
            outcome = await self.run("get_list", arguments=self._arguments())
            assert outcome.items is not None
            self._answer(await overridden.render_list(self.resource.schema, outcome.items))
        else:
            self._no_arguments()
            await self._answer_document(await self.run("get_instance", key=key))

    head = get

    async def post(self, key: str | None = None) -> None:
        """Create a document and answer 201 with it, its URL and its key."""
        self._no_arguments()
        outcome = await self.run("create_instance", data=self._body())
        assert outcome.after is not None
        created = typed.key_to_text(self.resource.schema, outcome.after)
        self.set_status(201)
        self.set_header("Location", f"{self.path}/{quote(created, safe='')}")
        plain = created.isascii() and created.isprintable()
        self.set_header("X-Created-Id", created if plain else quote(created, safe=""))
        await self._answer_document(outcome)

    async def put(self, key: str) -> None:
        """Change a document and answer with it as it is now."""
        self._no_arguments()
        await self._answer_document(await self.run("update_instance", key=key, data=self._body()))

    async def delete(self, key: str) -> None:
        """Delete a document."""
        self._no_arguments()
        await self.run("delete_instance", key=key)
        self.set_status(204)
        self.clear_header("Content-Type")

    def options(self, key: str | None = None) -> None:
        """Say which methods this URL has."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)
        self.clear_header("Content-Type")

    # What they share ----------------------------------------------------------------------------------------

    async def run(self, action: Action, **given: Any) -> Outcome:
        """Run one operation on the resource for this request."""
        return await self.resource.run(Operation(action, handler=self, **given))

    async def _answer_document(self, outcome: Outcome) -> None:
        assert outcome.after is not None
        self._answer(await overridden.render(self.resource.schema, outcome.after))

    def _answer(self, body: bytes) -> None:
        self.set_header("Content-Type", JSON)
        self.write(body)

    def _arguments(self) -> dict[str, list[str]]:
        arguments: dict[str, list[str]] = {}
        try:
            pairs = typed.parse_form(self.request.query.encode())
        except errors.BodyError as error:
            raise errors.QueryError("", error.detail.replace("body", "query")) from error
        for name, value in pairs:
            arguments.setdefault(name, []).append(value)
        return arguments

    def _no_arguments(self) -> None:
        for name in self._arguments():
            raise errors.QueryError(name[:60], "this URL takes no query parameters")

    def _body(self) -> Any:
        """Parse the body: a dict from JSON, a list of pairs from a form."""
        kind = self._content_type()
        if kind == FORM:
            return typed.parse_form(self.request.body)
        data = typed.parse_json(self.request.body) if self.request.body else {}
        if not isinstance(data, dict):
            raise errors.BodyError("The body must be a JSON object.")
        return data

    def _content_type(self) -> str:
        given = self.request.headers.get("Content-Type", "")
        kind, _, parameters = given.partition(";")
        kind = kind.strip().lower()
        charset = re.search(r"charset=\"?([^\s;\"]+)", parameters, re.IGNORECASE)
        if not kind:
            # RFC 9110, 8.3: without the header, the recipient may look at the data.
            return JSON if self.request.body.lstrip()[:1] in {b"{", b"[", b""} else FORM
        if kind not in {JSON, FORM} or (charset and charset[1].lower() not in {"utf-8", "utf8"}):
            _refuse_media_type()
        return kind


def _refuse_media_type() -> NoReturn:
    raise tornado.web.HTTPError(415, f"The body must be {JSON} or {FORM}, in UTF-8.")


def _document_class(arguments: tuple[Any, ...]) -> type:
    given = arguments[1:] if arguments and arguments[0] == "mongoengine" else arguments
    if len(given) != 1:
        raise TypeError("routes_for() takes one model")
    document = given[0]
    meta = getattr(document, "_meta", {})
    if not isinstance(document, type) or not getattr(document, "_is_document", False) or meta.get("abstract"):
        raise TypeError(f"{document!r} is not a mongoengine Document class that can be stored")
    return document


def _snake_case(name: str) -> str:
    """Turn a class name into a resource name, as in the example of the seed's project.

    >>> _snake_case("OtherUser"), _snake_case("HTTPServer"), _snake_case("User2")
    ('other_user', 'http_server', 'user2')
    """
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return split.lower()
