"""URLs below one document: ``/team/KEY/members``, ``/user/KEY/address`` …, served by the same handler.

A handler class that somebody has written keeps its ``prepare``, its ``get`` and all the rest: what serves
nested resources is a subclass of it, which only finds another resource at its URL.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import tornado.web

from bzz.errors import MissingDocumentError
from bzz.http.request import conditions
from bzz.resource.nested import NestedResource, check_names, names_of, nested_at

__all__ = ["Nested", "is_nested", "nested_rules"]

if TYPE_CHECKING:
    from bzz.mongoengine_handler import MongoEngineRestHandler as _Handler
else:
    _Handler = object


class Nested(_Handler):
    """What turns the handler class of a resource into that of the resources below its documents."""

    def initialize(self, **given: Any) -> None:  # type: ignore[override]  # whatever that of the handler takes
        """Find what the URL leads to, below the resource that is given; perhaps nothing."""
        super().initialize(**given)
        path = self.request.path
        below = path.removeprefix(self.path).removesuffix("/").split("/")[1:]
        self.place: NestedResource | None = None
        try:
            first, *names = [unquote_to_bytes(each).decode() for each in below]
            self.place = nested_at(self.resource, first, names)
        except (UnicodeDecodeError, MissingDocumentError):
            return
        self.resource, self.path = self.place, path.removesuffix("/")

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of what is there; none where nothing is."""
        return () if self.place is None else self.place.methods()

    def prepare(self) -> Any:
        """Hand the methods of the handler the key that the URL ends in."""
        if self.place is not None:
            self.path_args = [] if self.place.key is None else [self.place.key]
        return super().prepare()

    async def run(self, action: Any, **given: Any) -> Any:
        """Run one operation; here conditions concern what is there also when something is added."""
        if action == "create_instance":
            given = {**conditions(self.request), **given}
        return await super().run(action, **given)


@functools.cache
def nested_class(handler: Any) -> type[Any]:
    """Return the class that serves what is below the documents of a handler class."""
    return type(f"{handler.__name__}Below", (Nested, handler), {"__module__": handler.__module__})


def is_nested(rule: Any) -> bool:
    """Tell whether a rule is one for what is below the documents of a resource."""
    return issubclass(rule.handler_class, Nested)


def nested_rules(handler: Any, given: Mapping[str, Any]) -> list[Any]:
    """Return the rules for what is below the documents of a resource; ``given`` as for itself."""
    check_names(given["resource"])
    names = "|".join(map(re.escape, names_of(given["resource"])))
    if not names:
        return []
    pattern = rf"{re.escape(given['path'])}/[^/]+/(?:{names})(?:/[^/]+)*/?"
    return [tornado.web.url(pattern, nested_class(handler), dict(given), name=None)]
