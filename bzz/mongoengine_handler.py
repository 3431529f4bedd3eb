"""HTTP in, HTTP out: a REST resource over a MongoEngine model, as Tornado routes.

>>> import mongoengine
>>> class OtherUser(mongoengine.Document):
...     name = mongoengine.StringField()
>>> routes = MongoEngineRestHandler.routes_for(OtherUser, prefix="/api")
>>> routes
[URLSpec('/api/other_user(?:/([^/]+))?/?$', <class 'bzz.mongoengine_handler.MongoEngineRestHandler'>, ...)]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import tornado.web

from bzz import errors
from bzz.delivery.hooks import Hooks
from bzz.http.acting import acting_methods
from bzz.http.bulk import change_many, create_many
from bzz.http.cors import Cors
from bzz.http.created import created_headers
from bzz.http.gate import UNSET, Gate
from bzz.http.idempotency import idempotent
from bzz.http.ndjson import prefers_ndjson, send_list
from bzz.http.nested import nested_rules
from bzz.http.paging import link_header
from bzz.http.problem_handler import ProblemHandler, problem_of
from bzz.http.rate_limit import RateLimit
from bzz.http.request import (
    ACCEPT_PATCH,
    JSON,
    Many,
    arguments,
    condition,
    conditions,
    preferences,
    read_body,
    read_patch,
    refuse_arguments,
)
from bzz.http.upload import upload_rule
from bzz.resource import Action, Operation, Options, Outcome, Resource
from bzz.resource.etag import form_of_parts, matches_weakly
from bzz.resource.operation import DataKind
from bzz.resource.page import Page, render_page, render_parts
from bzz.resource.preview import preview
from bzz.resource.unit import Unit

__all__ = ["MongoEngineRestHandler", "ProblemHandler", "Routes", "problem_of"]

#: Options whose attribute on a handler class cannot have their own name.
_ATTRIBUTES = {"put": "put_mode"}

_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_OF_COLLECTION = ("GET", "HEAD", "POST", "OPTIONS")
_OF_ITEM = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")


class Routes(list[Any]):
    """The Tornado rules of one resource: a plain list, which also takes receivers.

    ``resource`` is the :class:`bzz.resource.Resource` behind the rules. Every event of the resource is a
    decorator: ``@routes.on_prerun``, ``@routes.on_post_update_instance`` … (see
    :class:`bzz.delivery.hooks.Hooks`).
    """

    def __init__(self, rules: list[Any], resource: Resource) -> None:
        super().__init__(rules)
        self.resource = resource
        resource.hooks.owner = self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("on_"):
            found: Callable[..., Any] = getattr(self.resource.hooks, name)
            return found
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


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
    require_if_match = Options.require_if_match
    bulk = Options.bulk
    max_bulk = Options.max_bulk
    bulk_timeout = Options.bulk_timeout
    ndjson = Options.ndjson
    filters = Options.filters
    sorts = Options.sorts
    expandable = Options.expandable
    expand_depth = Options.expand_depth
    search = Options.search
    aggregations = Options.aggregations
    secret = Options.secret
    methods = Options.methods
    readable = Options.readable
    writable = Options.writable
    write_once = Options.write_once
    write_only = Options.write_only
    authorize: Any = None
    rows: Any = None
    get_list_queryset: Any = None
    get_instance_queryset: Any = None
    nested = Options.nested
    idempotency = Options.idempotency
    cors: Cors | None = None
    rate_limit: RateLimit | str | None = None

    resource: Resource
    unit: Unit | None = None  # what is stored together and done once: a request with an Idempotency-Key

    @classmethod
    def routes_for(
        cls,
        *model: Any,
        prefix: str = "",
        resource_name: str | None = None,
        client: Any = None,
        hooks: Hooks | None = None,
        gate: Gate | None = None,
        **options: Any,
    ) -> Routes:
        """Return the Tornado rules that serve a model.

        ``routes_for(User)`` is the usual form; ``routes_for("mongoengine", User)`` is accepted as well.
        ``prefix`` may be written with or without slashes, ``resource_name`` defaults to the class name in
        snake case. ``client`` is an asynchronous client (PyMongo's or Motor's) to use instead of one derived
        from the model's connection. ``cors`` and ``rate_limit`` are what requests meet first; ``gate`` has
        both of a whole Api, for a resource that says nothing of its own.

        Raises TypeError for anything that is not a document class, or an option that does not exist.
        """
        document = _document_class(model)
        name = resource_name.strip("/") if resource_name else _snake_case(document.__name__)
        own = {each: options.pop(each, getattr(cls, each) or UNSET) for each in ("cors", "rate_limit")}
        gate = Gate.within(gate, own["cors"], own["rate_limit"], name=name)
        unknown = options.keys() - Options.__dataclass_fields__.keys()
        if unknown:
            raise TypeError(f"routes_for() has no option {', '.join(sorted(unknown))}")
        chosen = {name: getattr(cls, _ATTRIBUTES.get(name, name)) for name in Options.__dataclass_fields__}
        path = "".join(f"/{part}" for part in [*prefix.split("/"), *name.split("/")] if part)
        given: dict[str, Any] = {"path": path}
        chosen |= acting_methods(cls, given)
        resource = Resource(
            document, name=name, options=Options(**chosen | options), client=client, hooks=hooks
        )
        given["resource"] = resource
        pattern = rf"{re.escape(path)}(?:/([^/]+))?/?"
        rule = tornado.web.url(pattern, cls, {**given, "gate": gate}, name=None)
        below = nested_rules(cls, {**given, "gate": gate})
        above = [upload_rule(cls, {**given, "gate": gate})] if resource.options.ndjson else []
        return Routes([*above, rule, *below], resource)

    def initialize(self, resource: Resource, path: str) -> None:
        """Take the resource that this handler serves, and the path of its collection."""
        self.resource = resource
        self.path = path

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of the collection, or of one document."""
        # Not by path_args: Tornado refuses a method that it does not know before it has them.
        if self.request.path.rstrip("/") != self.path:
            return self.resource.options.allowed(_OF_ITEM)
        bulk = self.resource.options.bulk
        return self.resource.options.allowed(
            (*_OF_COLLECTION, *(each for each in ("PATCH", "DELETE") if each in bulk))
            if bulk
            else _OF_COLLECTION
        )

    def decode_argument(self, value: bytes | None, name: str | None = None) -> str:
        """Decode a percent-decoded part of the path; a key that is not UTF-8 is the key of no document."""
        try:
            # Tornado hands over None for the key that the URL of a collection does not have.
            return value if value is None else value.decode()  # type: ignore[return-value]
        except UnicodeDecodeError:
            raise errors.KeyFormatError(f"No {self.resource.name} has this key.") from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write a problem; one about the type of a patch says which types there are (RFC 5789, 2.2)."""
        if status_code == 415 and self.request.method == "PATCH":
            self.set_header("Accept-Patch", ACCEPT_PATCH)
        super().write_error(status_code, **kwargs)

    hashes_answers = False

    def compute_etag(self) -> None:
        """Have no ETag that is only a hash of the answer's bytes; documents have one of their own."""

    # The methods --------------------------------------------------------------------------------------------

    async def get(self, key: str | None = None) -> None:
        """Answer with a page of the collection, or with one document."""
        if key is None and self.resource.streams:
            self.add_header("Vary", "Accept")
            if prefers_ndjson(self.request):
                await send_list(self)
                return
        if key is None:
            asked = arguments(self.request)
            outcome = await self.run("get_list", arguments=asked, only_shown=True)
            assert outcome.page is not None
            self._neighbours(outcome.page, asked)
            self._answer(await render_page(self.resource.view, outcome.page))
        else:
            given = arguments(self.request) if self.request.query else {}
            unless = condition(self.request, "If-None-Match")
            named = condition(self.request, "If-Match")
            outcome = await self.run("get_instance", key=key, arguments=given, if_match=named)
            await self._answer_document(outcome, unless=unless)

    head = get

    @idempotent
    async def post(self, key: str | None = None) -> None:
        """Create a document and answer 201 with it, its URL and its key."""
        refuse_arguments(self.request)
        data = read_body(self.request, many=self.resource.takes_many)
        if isinstance(data, Many):
            await create_many(self, data)
            return
        outcome = await self.run("create_instance", data=data)
        if self.is_dry_run:
            await self._answer_dry_run("create_instance", outcome)
            return
        self.set_status(201 if outcome.is_new else 200)
        if outcome.page is not None:
            self._answer(await render_page(self.resource.view, outcome.page))
            return
        assert outcome.after is not None
        for name, value in created_headers(self.path, self.resource.key_of(outcome.after)):
            self.set_header(name, value)
        await self._answer_document(outcome)

    async def put(self, key: str) -> None:
        """Change a document and answer with it as it is now."""
        await self._update(key, "fields", read_body(self.request))

    @idempotent
    async def patch(self, key: str | None = None) -> None:
        """Apply a merge patch or a JSON Patch to a document, and answer with it as it is now."""
        if key is None:
            await change_many(self)
            return
        await self._update(key, *read_patch(self.request))

    async def _update(self, key: str, kind: DataKind, data: Any) -> None:
        refuse_arguments(self.request)
        outcome = await self.run(
            "update_instance", key=key, data=data, data_kind=kind, **conditions(self.request)
        )
        if self.is_dry_run:
            await self._answer_dry_run("update_instance", outcome)
        else:
            await self._answer_document(outcome)

    async def delete(self, key: str | None = None) -> None:
        """Delete a document."""
        if key is None:
            await change_many(self)
            return
        refuse_arguments(self.request)
        outcome = await self.run("delete_instance", key=key, **conditions(self.request))
        if self.is_dry_run:
            await self._answer_dry_run("delete_instance", outcome)
            return
        self.set_status(204)
        self.clear_header("Content-Type")

    def options(self, key: str | None = None) -> None:
        """Say which methods this URL has."""
        allowed = self.allowed_methods()
        self.set_header("Allow", ", ".join(allowed))
        if "PATCH" in allowed:
            self.set_header("Accept-Patch", ACCEPT_PATCH)
        self.set_status(204)
        self.clear_header("Content-Type")

    # What they share ----------------------------------------------------------------------------------------

    async def run(self, action: Action, **given: Any) -> Outcome:
        """Run one operation on the resource for this request."""
        operation = Operation(action, handler=self, dry_run=self.is_dry_run, **given)
        if self.unit is not None:
            return await self.unit.run(self.resource, operation)
        return await self.resource.run(operation)

    @property
    def is_dry_run(self) -> bool:
        """Whether the client only wants to know what this write would do: ``Prefer: dry-run``."""
        return self.request.method in _WRITING and "dry-run" in preferences(self.request)

    async def _answer_dry_run(self, action: Action, outcome: Outcome) -> None:
        etag = None if outcome.before is None else self.resource.etag(outcome.before)
        self.set_header("Preference-Applied", "dry-run")
        self._answer(await preview(self.resource.view, action, outcome, etag=etag))

    def _neighbours(self, page: Page, asked: dict[str, list[str]]) -> None:
        """Say how many documents there are and where the pages beside this one are (RFC 8288)."""
        if page.total is not None:
            self.set_header("X-Total-Count", str(page.total))
        if link := link_header(self.path, asked, page):
            self.set_header("Link", link)

    async def _answer_document(self, outcome: Outcome, *, unless: str | None = None) -> None:
        """Answer with a document and its tag, or only say that it is as the client knows it."""
        assert outcome.after is not None
        view = self.resource.view
        if outcome.page is None:
            body = await view.render(outcome.after)
            tag = view.etag(outcome.after, body)
        else:
            body = await render_parts(view, outcome.page)
            tag = view.tagged(outcome.after, form_of_parts(body))
        self.set_header("ETag", tag)
        if unless is not None and matches_weakly(unless, tag):
            self.set_status(304)
        elif not self._prefers_minimal():
            self._answer(body)
        else:
            self.set_status(204 if self.get_status() == 200 else 201)
            self.clear_header("Content-Type")

    def _prefers_minimal(self) -> bool:
        """Tell whether a write is to be answered without what was written, and say so (RFC 7240, 4.2)."""
        if self.request.method not in {"POST", "PUT", "PATCH"}:
            return False
        wanted = preferences(self.request).get("return", "")
        if wanted in {"minimal", "representation"}:
            self.set_header("Preference-Applied", f"return={wanted}")
        return wanted == "minimal"

    def _answer(self, body: bytes) -> None:
        self.set_header("Content-Type", JSON)
        self.write(body)


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
