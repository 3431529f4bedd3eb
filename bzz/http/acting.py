"""Methods of handler classes that are asked about every operation, also one that another handler runs.

``authorize`` may be written as a method of a handler class. An operation that comes with a batch has the
handler of the batch, and one from the command line has none; the method still gets a ``self`` of its own
class, with the request of whoever asks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tornado.web

from bzz.resource import Operation

__all__ = ["METHODS", "acting_methods"]

#: Options that may be methods: what they are called with, after ``self``, ends in the handler or is the
#: operation.
METHODS = ("authorize", "rows", "get_list_queryset", "get_instance_queryset")


def acting_methods(cls: type[Any], initialized: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """Return those of :data:`METHODS` that a handler class has as methods, as functions without ``self``.

    ``initialized`` is what ``initialize()`` is called with.
    """
    found = {name: inspect.getattr_static(cls, name, None) for name in METHODS}
    return {name: _acting(cls, name, initialized) for name, each in found.items() if inspect.isfunction(each)}


def _acting(cls: type[Any], name: str, initialized: Mapping[str, Any]) -> Callable[..., Any]:
    method = getattr(cls, name)

    def act(*arguments: Any) -> Any:
        last = arguments[-1]
        handler = last.handler if isinstance(last, Operation) else last
        return method(_stand_in(cls, handler, initialized), *arguments)

    async def act_later(*arguments: Any) -> Any:
        return await act(*arguments)

    return act_later if inspect.iscoroutinefunction(method) else act


def _stand_in(cls: type[Any], handler: Any, initialized: Mapping[str, Any]) -> Any:
    """Return the handler of an operation as one of this class; what it finds out it keeps for itself."""
    if isinstance(handler, cls) and vars(handler).get("resource") is initialized["resource"]:
        return handler
    made: Any = object.__new__(cls)
    if isinstance(handler, tornado.web.RequestHandler):
        made.__dict__.update(vars(handler))
        # Who the user is, is for this class to find out.
        made.__dict__.pop("_current_user", None)
    else:
        made.request = None
    made.initialize(**initialized)
    return made
