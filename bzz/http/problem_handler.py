"""Every error as the answer to a request: which status it has, and what its problem says (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping
from typing import Any

import orjson
import tornado.web

from bzz import errors
from bzz.http import problem
from bzz.http.gate import Gate
from bzz.http.lean import LeanHandler
from bzz.http.rate_limit import Quota

__all__ = ["STATUS", "ProblemHandler", "problem_at", "problem_of"]

logger = logging.getLogger("bzz.handler")

#: Which status each error is, the most particular first: error → (status, kind of problem).
STATUS: tuple[tuple[type[errors.BzzError], int, str], ...] = (
    (errors.BodyError, 400, "body"),
    (errors.HeaderError, 400, "header"),
    (errors.ValidationError, 400, "validation"),
    (errors.QueryError, 400, "query"),
    (errors.MissingDocumentError, 404, "missing"),
    (errors.DuplicateError, 409, "duplicate"),
    (errors.ReferencedError, 409, "referenced"),
    (errors.ConflictError, 409, "conflict"),
    (errors.PatchConflictError, 409, "patch"),
    (errors.AffectedError, 409, "max-affected"),
    (errors.BulkItemsError, 400, "bulk-items"),
    (errors.BulkError, 400, "bulk"),
    (errors.IdempotencyKeyInUseError, 409, "idempotency-key-in-use"),
    (errors.PreconditionFailedError, 412, "precondition"),
    (errors.IdempotencyKeyReusedError, 422, "idempotency-key-reused"),
    (errors.PreconditionRequiredError, 428, "precondition-required"),
    (errors.RateLimitError, 429, "quota-exceeded"),
    (errors.StorageUnavailableError, 503, "storage-unavailable"),
    (errors.StorageTimeoutError, 503, "storage-timeout"),
)


class ProblemHandler(LeanHandler):
    """A handler whose every error answer is a problem (RFC 9457); on its own it answers 404 to everything.

    ``gate`` holds what concerns requests before they are looked at: cross-origin rules and a rate limit. A
    subclass that has a ``prepare`` of its own returns, or awaits, what this one returns. ``quota`` is what a
    rate limit leaves to who sent the request, None if none counts it. ``challenge`` is the
    ``WWW-Authenticate`` of an answer 401 that has no other (RFC 9110, 15.5.2, wants one).
    """

    gate: Gate | None = None
    quota: Quota | None = None
    challenge: str = "Bearer"

    def __init__(
        self,
        application: tornado.web.Application,
        request: tornado.httputil.HTTPServerRequest,
        *,
        gate: Gate | None = None,
        **kwargs: Any,
    ) -> None:
        if gate is not None:
            self.gate = gate
        super().__init__(application, request, **kwargs)

    def clear(self) -> None:
        """Begin the answer anew, with the headers that every answer has."""
        super().clear()
        if self.gate is not None:
            self.gate.mark(self)

    def prepare(self) -> Awaitable[None] | None:
        """Answer preflights, refuse methods that this URL does not have, and count the request."""
        gate = self.gate
        if gate is not None and gate.is_preflight(self):
            gate.answer_preflight(self)
            return None
        allowed = self.allowed_methods()
        if self.request.method not in allowed:
            raise tornado.web.HTTPError(405 if allowed else 404)
        return None if gate is None else gate.admit(self)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Write the problem that belongs to an error; what went wrong inside stays in the log."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        detail, kind, members = _described(error)
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        if status_code == 415 and "Content-Encoding" in self.request.headers:
            self.set_header("Accept-Encoding", "identity")
        if status_code == 426:
            self.set_header("Upgrade", "HTTP/1.1")
            self.set_header("Connection", "Upgrade")
        if status_code == 401:
            self.set_header("WWW-Authenticate", self.challenge)
        if isinstance(error, errors.Veto):
            for name, value in error.headers.items():
                self.set_header(name, value)
        if status_code == 503:
            self.set_header("Retry-After", "1")
        if isinstance(error, errors.RateLimitError | errors.IdempotencyKeyInUseError):
            self.set_header("Retry-After", str(error.seconds))
        if isinstance(error, errors.PreconditionFailedError):
            self.set_header("ETag", error.etag)
        self.set_header("Content-Type", problem.CONTENT_TYPE)
        self.finish(problem.problem(status_code, detail, kind=kind, **members, **self.problem_members()))

    def fail(self, error: BaseException) -> None:
        """Answer with the problem that an error is, for who has made the handler and does not run it."""
        self._transforms = []
        self._handle_request_exception(error)

    def problem_members(self) -> Mapping[str, Any]:
        """Return what every problem of this handler says besides; extension members of RFC 9457."""
        return {}

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods that this URL has; none, and it does not exist."""
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
    if isinstance(error, errors.BulkItemsError):
        own = {problem_of(each)[0] for each in error.failures.values()}
        return own.pop() if len(own) == 1 else 500 if max(own) >= 500 else 400
    return next((status for kind, status, _name in STATUS if isinstance(error, kind)), None)


def problem_of(error: BaseException, **more: Any) -> tuple[int, bytes]:
    """Return the status and the problem that an error is as the answer to a request of its own.

    ``more`` are extension members besides those that the error has.
    """
    if isinstance(error, tornado.web.Finish):
        # It says that a receiver wrote the whole answer; inside something larger that is a plain refusal.
        error = errors.Veto()
    status = _status(error)
    if status is None:
        status = error.status_code if isinstance(error, tornado.web.HTTPError) else 500
    detail, kind, members = _described(error)
    return status, problem.problem(status, detail, kind=kind, **members, **more)


def problem_at(index: int, error: BaseException) -> tuple[int, bytes]:
    """Return the same for one of many items: its index is the first part of every pointer."""
    return problem_of(_at(index, error))


def _at(index: int, error: BaseException) -> BaseException:
    if not isinstance(error, errors.ValidationError):
        return error
    return errors.ValidationError([each._replace(pointer=f"/{index}{each.pointer}") for each in error.errors])


def _of_items(error: errors.BulkItemsError) -> Mapping[str, Any]:
    """Return what was wrong with each item, and all of it together by its place."""
    places: list[dict[str, str]] = []
    results = []
    for index, each in error.failures.items():
        status, described = problem_at(index, each)
        results.append({"index": index, "status": status, "problem": orjson.Fragment(described)})
        own = _at(index, each)
        if isinstance(own, errors.ValidationError):
            places += [place._asdict() for place in own.errors]
        else:
            places.append({"pointer": f"/{index}", "detail": _described(each)[0] or "This item failed."})
    return {"errors": places, "results": results}


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
    if isinstance(error, errors.AffectedError):
        members.update(matched=error.matched, max_affected=error.allowed)
    if isinstance(error, errors.BulkItemsError):
        members.update(_of_items(error))
    if isinstance(error, errors.QueryError):
        members["parameter"] = error.parameter
    if isinstance(error, errors.DuplicateError):
        members["fields"] = list(error.fields)
    if isinstance(error, errors.PreconditionFailedError):
        members["etag"] = error.etag
        members["conflicts"] = error.conflicts
    if isinstance(error, errors.PatchConflictError):
        members["operation"] = error.operation
    if isinstance(error, errors.RateLimitError):
        members["violated-policies"] = list(error.policies)
    if isinstance(error, errors.HeaderError):
        members["header"] = error.header
    return error.detail, found, members


def _http_detail(error: tornado.web.HTTPError) -> str:
    """Return what a receiver or a handler said to the client, if it said anything."""
    if not error.log_message or error.status_code >= 500:
        return error.reason or ""
    return error.log_message % error.args if error.args else error.log_message
