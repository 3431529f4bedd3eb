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

from collections.abc import Callable
from typing import Any

import tornado.web

from bzz.batch import Directory, Limits
from bzz.batch.handler import BatchHandler
from bzz.delivery.hooks import Hooks
from bzz.health import HealthHandler, ReadyHandler
from bzz.mongoengine_handler import MongoEngineRestHandler, ProblemHandler, Routes
from bzz.resource import Resource

__all__ = ["Api"]


class Api:
    """Resources below one prefix, with what belongs to all of them.

    Below the prefix it mounts its resources, ``POST /batch``, ``GET /health`` and ``GET /ready``; ``batch``,
    ``health`` and ``ready`` move them (a path) or turn them off (None). ``batch_limits`` bounds one batch.
    ``client`` is an explicit asynchronous client for all resources, ``celery`` the Celery app that publishes
    what is sent from within its operations (Celery's current one unless given). Every event is a decorator
    here too, for all resources of this Api and of no other: ``@api.on_failure``.
    """

    def __init__(
        self,
        prefix: str = "",
        title: str = "API",
        *,
        client: Any = None,
        celery: Any = None,
        batch: str | None = "/batch",
        batch_limits: Limits | None = None,
        health: str | None = "/health",
        ready: str | None = "/ready",
    ) -> None:
        self.prefix = "".join(f"/{part}" for part in prefix.split("/") if part)
        self.title = title
        self.client = client
        self.hooks = Hooks(owner=self)
        self.hooks.celery = celery
        self.resources: dict[str, Resource] = {}
        self._rules: list[Any] = []
        self.batch_limits = batch_limits or Limits()
        self._batch = None if batch is None else f"/{batch.strip('/')}"
        self._health = health
        self._ready = ready

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
        hooks = Hooks(owner=None, outer=self.hooks)
        routes = handler.routes_for(*model, prefix=self.prefix, hooks=hooks, **options)
        name = routes.resource.name
        if name in self.resources:
            raise ValueError(f"this Api already has a resource {name!r}; give one of them a resource_name")
        if self._batch == f"/{name}":
            raise ValueError(f"the resource {name!r} is where batches are; move them: Api(batch='/other')")
        self.resources[name] = routes.resource
        self._rules.extend(routes)
        return routes

    @property
    def directory(self) -> Directory:
        """What the paths of a batch lead to."""
        return Directory(self.resources, prefix=self.prefix, batch_path=self._batch)

    @property
    def routes(self) -> list[Any]:
        """The plain list of Tornado rules, to be mounted in an application of one's own."""
        rules = list(self._rules)
        if self._batch is not None:
            given = {"directory": self.directory, "limits": self.batch_limits}
            rules.append(tornado.web.url(self._path(self._batch), BatchHandler, given))
        if self._health is not None:
            rules.append(tornado.web.url(self._path(self._health), HealthHandler))
        if self._ready is not None:
            rules.append(tornado.web.url(self._path(self._ready), ReadyHandler, {"check": self.check}))
        return rules

    def application(self, **settings: Any) -> tornado.web.Application:
        """Return a Tornado application that serves this Api; ``settings`` are Tornado's."""
        settings.setdefault("default_handler_class", ProblemHandler)
        return tornado.web.Application(self.routes, **settings)

    async def check(self) -> None:
        """Ask every MongoDB that the resources use whether it answers; raises what it answers otherwise."""
        for resource in self.resources.values():
            await resource.store.ping()

    def _path(self, path: str) -> str:
        return f"{self.prefix}/{path.strip('/')}"
