"""Many resources, one application.

>>> import mongoengine
>>> class Shop(mongoengine.Document):
...     name = mongoengine.StringField(required=True)
>>> api = Api(prefix="/api", title="Shops")
>>> shops = api.add(Shop, per_page=50)
>>> @shops.on_post_create_instance
... def welcome(instance):
...     print("a new shop:", instance.name)
>>> application = api.application()
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson
import tornado.web

from bzz.application import Application
from bzz.delivery.hooks import Hooks
from bzz.health import HealthHandler, ReadyHandler
from bzz.http.cors import Cors
from bzz.http.gate import Gate
from bzz.http.nested import is_nested
from bzz.http.rate_limit import RateLimit
from bzz.http.upload import is_upload
from bzz.mongoengine_handler import MongoEngineRestHandler, ProblemHandler, Routes
from bzz.resource import Operation, Resource
from bzz.resource.idempotency import Idempotency
from bzz.resource.idempotency import settings as settings_of

if TYPE_CHECKING:
    from bzz.batch import Directory, Limits
    from bzz.openapi import BatchTerms

# Batches and the description are imported where they are needed: who serves resources only does without.

__all__ = ["Api"]


class Api:
    """Resources below one prefix, with what belongs to all of them.

    Below the prefix it mounts its resources, ``POST /batch``, ``GET /openapi.json``, ``GET /docs`` (a page
    that shows what that describes, and is there only with it), ``GET /health`` and ``GET /ready``; the
    keywords of these names move them (a path) or turn them off (None). ``title``, ``version`` and
    ``description`` are those of the description. ``batch_limits`` bounds one batch.
    ``client`` is an explicit asynchronous client for all resources, ``celery`` the Celery app that publishes
    what is sent from within its operations (Celery's current one unless given), ``secret`` signs the cursors
    of all resources (see :class:`bzz.model.QueryRules`). ``cors`` is for everything below the prefix,
    ``rate_limit`` for the resources that have none of their own and for batches, which count together: see
    :class:`bzz.http.cors.Cors` and :class:`bzz.http.rate_limit.RateLimit`. ``idempotency`` is that of
    batches, and of the resources that say nothing of their own. ``authorize`` is called with every operation
    of every resource, before that of the resource (see :class:`bzz.resource.Options`). Every event is a
    decorator here too, for all resources of this Api and of no other: ``@api.on_failure``.
    """

    def __init__(
        self,
        prefix: str = "",
        title: str = "API",
        *,
        version: str = "1",
        description: str = "",
        client: Any = None,
        celery: Any = None,
        secret: str | bytes | None = None,
        cors: Cors | None = None,
        rate_limit: RateLimit | str | None = None,
        idempotency: Idempotency | bool | None = None,
        authorize: Callable[[Operation], Any] | None = None,
        batch: str | None = "/batch",
        batch_limits: Limits | None = None,
        health: str | None = "/health",
        ready: str | None = "/ready",
        openapi: str | None = "/openapi.json",
        docs: str | None = "/docs",
    ) -> None:
        self.prefix = "".join(f"/{part}" for part in prefix.split("/") if part)
        self.title = title
        self.version = version
        self.description = description
        self.client = client
        self._secret = secret
        self._idempotency = idempotency
        self._batch_idempotency = settings_of(True if idempotency is None else idempotency)
        self._gate = Gate.within(None, cors, rate_limit, name="default")
        # What people and machines look at to see how the Api is does not count.
        self._ungated = Gate.within(self._gate, limit=None, name="default")
        self.hooks = Hooks(owner=self)
        self.hooks.celery = celery
        self.hooks.authorize = authorize
        self.resources: dict[str, Resource] = {}
        self._rules: list[Any] = []
        self.batch_limits = batch_limits or _default_limits()
        self._batch = _place(batch)
        self._health = _place(health)
        self._ready = _place(ready)
        self._openapi = _place(openapi)
        self._docs = _place(docs) if openapi is not None else None
        self._written: tuple[object, bytes] | None = None

    def __repr__(self) -> str:
        return f"<Api {self.title!r} at {self.prefix or '/'}>"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("on_"):
            found: Callable[..., Any] = getattr(self.hooks, name)
            return found
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def add(
        self, *model: Any, handler: type[MongoEngineRestHandler] = MongoEngineRestHandler, **options: Any
    ) -> Routes:
        """Mount a model and return its routes, as ``handler.routes_for(model, **options)`` would.

        Raises ValueError when two resources would have the same name.
        """
        options.setdefault("client", self.client)
        if self._secret is not None:
            options.setdefault("secret", self._secret)
        if self._idempotency is not None:
            options.setdefault("idempotency", self._idempotency)
        hooks = Hooks(owner=None, outer=self.hooks)
        routes = handler.routes_for(*model, prefix=self.prefix, hooks=hooks, gate=self._gate, **options)
        name = routes.resource.name
        if name in self.resources:
            raise ValueError(f"this Api already has a resource {name!r}; give one of them a resource_name")
        self._refuse_clash(name)
        self.resources[name] = routes.resource
        routes.resource.siblings = self.resources
        self._rules.extend(routes)
        return routes

    @property
    def directory(self) -> Directory:
        """What the paths of a batch lead to."""
        from bzz.batch import Directory

        return Directory(self.resources, prefix=self.prefix, batch_path=self._batch)

    @property
    def routes(self) -> list[Any]:
        """The plain list of Tornado rules, to be mounted in an application of one's own."""
        # What is below the documents of one resource must not hide another that has a longer name.
        rules = sorted(self._rules, key=is_nested)
        if self._batch is not None:
            from bzz.batch.handler import BatchHandler

            given = {
                "directory": self.directory,
                "limits": self.batch_limits,
                "idempotency": self._batch_idempotency,
                "gate": self._gate,
            }
            rules.append(self._rule(self._batch, BatchHandler, given))
        if self._health is not None:
            rules.append(self._rule(self._health, HealthHandler))
        if self._ready is not None:
            rules.append(self._rule(self._ready, ReadyHandler, {"check": self.check}))
        if self._openapi is not None:
            from bzz.openapi import DocumentHandler

            rules.append(self._rule(self._openapi, DocumentHandler, {"document": self.openapi_bytes}))
        if self._docs is not None:
            from bzz.openapi import AssetHandler, PageHandler

            page = {"title": self.title, "url": self.prefix + (self._openapi or "")}
            place = self.prefix + self._docs
            rules.append(self._rule(self._docs, PageHandler, {**page, "assets": place}))
            assets = rf"{re.escape(place)}/[0-9a-f]+/([^/]+)"
            rules.append(tornado.web.url(assets, AssetHandler, {"gate": self._ungated}))
        return rules

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI 3.1 document of this Api, made anew."""
        from bzz.openapi import Description, Mounted, openapi

        return openapi(
            Description(
                title=self.title,
                version=self.version,
                description=self.description,
                prefix=self.prefix,
                mounted=[
                    Mounted(
                        rule.kwargs["resource"], rule.handler_class, rule.kwargs["path"], rule.kwargs["gate"]
                    )
                    for rule in self._rules
                    if not (is_nested(rule) or is_upload(rule))
                ],
                batch=self._batch_terms(),
                health=self._health,
                ready=self._ready,
                openapi=self._openapi,
            )
        )

    def openapi_bytes(self) -> bytes:
        """Return the document as JSON; made once, and again when a resource or a class has been added."""
        known = [(each, *each.schema.model._subclasses) for each in self.resources.values()]
        if self._written is None or self._written[0] != known:
            self._written = known, orjson.dumps(self.openapi())
        return self._written[1]

    def application(self, **settings: Any) -> tornado.web.Application:
        """Return a Tornado application that serves this Api; ``settings`` are Tornado's."""
        if settings.setdefault("default_handler_class", ProblemHandler) is ProblemHandler:
            settings.setdefault("default_handler_args", {"gate": self._ungated})
        return Application(self.routes, **settings)

    async def check(self) -> None:
        """Ask every MongoDB that the resources use whether it answers; raises what it answers otherwise."""
        for resource in self.resources.values():
            await resource.store.ping()

    def _rule(self, path: str, handler: Any, given: dict[str, Any] | None = None) -> Any:
        return tornado.web.url(
            re.escape(self.prefix + path), handler, {"gate": self._ungated, **(given or {})}
        )

    def _batch_terms(self) -> BatchTerms | None:
        if self._batch is None:
            return None
        from bzz.openapi import BatchTerms

        return BatchTerms(
            path=self._batch,
            collections=[f"{self.prefix}/{name}" for name in self.resources],
            prefix=self.prefix,
            max_operations=self.batch_limits.max_operations,
            timeout=self.batch_limits.timeout,
            max_timeout=self.batch_limits.max_timeout,
            limited=self._gate is not None and self._gate.limit is not None,
            idempotency=self._batch_idempotency,
        )

    def _refuse_clash(self, name: str) -> None:
        """Raise ValueError for a resource that would hide something of the Api's own."""
        places = {"batch": self._batch, "health": self._health, "ready": self._ready, "docs": self._docs}
        for option, place in places.items():
            if place == f"/{name}":
                what = "batches are; move them" if option == "batch" else f"{option} is; move it"
                raise ValueError(f"the resource {name!r} is where {what}: Api({option}='/other')")


def _place(path: str | None) -> str | None:
    return None if path is None else f"/{path.strip('/')}"


def _default_limits() -> Limits:
    from bzz.batch import Limits

    return Limits()
