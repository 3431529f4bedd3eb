"""What stands in a worker for things that cannot travel: a request, an exception, a document that is gone."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

__all__ = ["ExceptionSummary", "Gone", "RequestSummary"]

_TRACEBACK_SIZE = 16_384


@dataclass(frozen=True, slots=True)
class Gone:
    """A document that no longer existed when the worker read it. It is false, so ``if instance:`` tells.

    ``model`` is its class, ``key`` its primary key as MongoDB keeps it.
    """

    model: Any
    key: Any

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """What is left of a Tornado handler in a worker: whose request it was, and for what.

    ``query`` is the undecoded query string, ``request_id`` what the answer says in ``X-Request-Id``,
    ``user`` the handler's ``current_user`` if it had been looked up when the signal was sent and can travel.
    """

    method: str
    path: str
    query: str = ""
    remote_ip: str | None = None
    request_id: str | None = None
    user: Any = None

    @property
    def request(self) -> RequestSummary:
        """The summary itself, so that ``handler.request.path`` works here too."""
        return self

    @property
    def current_user(self) -> Any:
        """The user, under the name that a handler gives it."""
        return self.user

    @classmethod
    def of(cls, handler: Any) -> RequestSummary:
        """Summarize the request of a Tornado handler."""
        request = handler.request
        # bzz's own server gives every request an id; others know only what a client or a proxy says.
        exchange = getattr(request.connection, "exchange", None)
        return cls(
            method=request.method or "",
            path=request.path or "",
            query=request.query or "",
            remote_ip=request.remote_ip,
            request_id=getattr(exchange, "request_id", None) or request.headers.get("X-Request-Id"),
            # The property itself may look the user up, which is the handler's to decide.
            user=getattr(handler, "_current_user", None),
        )


@dataclass(frozen=True, slots=True)
class ExceptionSummary:
    """What is left of an exception in a worker.

    ``kind`` is the dotted name of its class, ``detail`` its text, ``traceback`` what Python prints of it, at
    most the last 16 KiB.
    """

    kind: str
    detail: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ExceptionSummary:
        """Summarize an exception."""
        kind = type(error)
        printed = "".join(traceback.format_exception(error))
        return cls(f"{kind.__module__}.{kind.__qualname__}", str(error), printed[-_TRACEBACK_SIZE:])
