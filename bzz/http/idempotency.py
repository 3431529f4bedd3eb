"""``Idempotency-Key``: a request that is sent again is not done again.

Source: draft-ietf-httpapi-idempotency-key-header-07. The key is a string as in structured fields (RFC 9651),
in quotes; without quotes it is taken as well, as many servers do and clients send it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from tornado.httputil import HTTPServerRequest

from bzz.errors import ExitEarly, HeaderError, TransactionsUnsupportedError
from bzz.http.problem_handler import problem_of
from bzz.resource.idempotency import Idempotency, Once
from bzz.resource.unit import Unit, can_join
from bzz.storage import Store
from bzz.storage.receipts import Answer, Receipts

__all__ = [
    "HEADER",
    "KEY_PATTERN",
    "REPLAYED",
    "Idempotency",
    "give",
    "idempotency_key",
    "idempotent",
    "once",
    "required_key",
]

HEADER = "Idempotency-Key"
#: The header of an answer that was kept: ``true``.
REPLAYED = "Idempotent-Replayed"
MAX_LENGTH = 255

#: The headers that are a part of the answer; the others (dates, cross-origin, limits) belong to one request.
KEPT = ("Content-Type", "Location", "ETag", "X-Created-Id", "Preference-Applied", "Link", "X-Total-Count")

#: A key as it is documented, in quotes; what is taken besides is nobody's business but old clients'.
KEY_PATTERN = rf'^"[ !#-\[\]-~]{{1,{MAX_LENGTH}}}"$'

# sf-string, with parameters, which have no meaning yet.
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)" *(?:;[ -~]*)?')
_BARE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~:/=-]+")

_Method = TypeVar("_Method", bound=Callable[..., Awaitable[None]])


def idempotency_key(request: HTTPServerRequest) -> str | None:
    """Return the key of a request, None without the header; raises HeaderError.

    >>> from tornado.httputil import HTTPHeaders, HTTPServerRequest
    >>> def sent(value):
    ...     return HTTPServerRequest("POST", "/", headers=HTTPHeaders({"Idempotency-Key": value}))
    >>> idempotency_key(sent('"8e03978e-40d5"')), idempotency_key(sent("8e03978e-40d5"))
    ('8e03978e-40d5', '8e03978e-40d5')
    """
    value = request.headers.get(HEADER)
    if value is None:
        return None
    quoted = _STRING.fullmatch(value)
    if quoted is not None:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _BARE.fullmatch(value):
        key = value
    else:
        raise HeaderError(HEADER, f"{HEADER} is one text in quotes.")
    if not 1 <= len(key) <= MAX_LENGTH:
        raise HeaderError(HEADER, f"{HEADER} has from 1 to {MAX_LENGTH} characters.")
    return key


def once(handler: Any, store: Store, settings: Idempotency, *, seconds: float | None, key: str) -> Once:
    """Return what does the request of a handler once; ``seconds`` as for :class:`Once`.

    The receipt will be in the database of the store, whose client makes the transaction.
    """
    receipts = Receipts(store, settings.collection, settings.keep)
    request = handler.request
    who = request.headers.get("Authorization", "") if settings.who is None else settings.who(handler)
    said = (request.method, request.uri, request.headers.get("Content-Type", ""), request.body)
    return Once(
        receipts,
        _digest(who, key).hex(),
        _digest(*said),
        seconds=seconds,
        wait=settings.wait,
        refused=lambda error: problem_of(error)[0] < 500,
    )


def _digest(*parts: str | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return digest.digest()


def required_key(request: HTTPServerRequest, settings: Idempotency) -> str | None:
    """Return the key of a request, None if it has none and needs none; raises HeaderError."""
    key = idempotency_key(request)
    if key is None and settings.required:
        raise HeaderError(HEADER, f"{HEADER} is required here: a text that no other request has.")
    return key


def give(handler: Any, answer: Answer, *, kept: bool) -> None:
    """Write an answer to a handler, and say so if it was ``kept`` from an earlier request."""
    handler.set_status(answer.status)
    handler.clear_header("Content-Type")
    for name, value in answer.headers:
        handler.set_header(name, value)
    if kept:
        handler.set_header(REPLAYED, "true")
    if answer.body:
        handler.write(answer.body)


def idempotent(method: _Method) -> _Method:
    """Decorate a method of a resource's handler: with a key, all that it runs as ``handler.unit`` is one.

    The method runs inside the transaction, again from its start if need be; what it has written to the
    handler when it returns is the answer.
    """

    @functools.wraps(method)
    def run(handler: Any, *args: Any, **kwargs: Any) -> Awaitable[None]:
        settings = handler.resource.idempotency
        if settings is None or (HEADER not in handler.request.headers and not settings.required):
            return method(handler, *args, **kwargs)
        return _run(handler, settings, functools.partial(method, handler, *args, **kwargs))

    return cast("_Method", run)


async def _run(handler: Any, settings: Idempotency, method: Callable[[], Awaitable[None]]) -> None:
    key = None if handler.is_dry_run else required_key(handler.request, settings)
    if key is None:  # there is nothing to be done twice
        await method()
        return
    try:
        together = can_join(handler.resource)
        answer, kept = await _attempt(handler, settings, key, method, together=together)
    except TransactionsUnsupportedError:
        answer, kept = await _attempt(handler, settings, key, method, together=False)
    if kept:
        give(handler, answer, kept=True)


async def _attempt(
    handler: Any, settings: Idempotency, key: str, method: Callable[[], Awaitable[None]], *, together: bool
) -> tuple[Answer, bool]:
    store = handler.resource.store
    first = once(handler, store, settings, seconds=settings.timeout if together else None, key=key)
    unit = handler.unit = Unit()
    blank = _Blank(handler)

    async def work() -> Answer:
        await first.begin(unit.session)
        blank.restore(handler)
        await method()
        answer = _answer(handler)
        await first.keep(answer, unit.session)
        return answer

    async def run() -> Answer:
        answer = await (unit.transact(store, work, settings.timeout) if together else unit.alone(work))
        with contextlib.suppress(ExitEarly):  # here there is no batch that could end
            await unit.complete()
        return answer

    return await first.run(run)


class _Blank:
    """The answer of a handler before anything was written to it."""

    def __init__(self, handler: Any) -> None:
        self.status = handler.get_status()
        self.headers = handler._headers.copy()

    def restore(self, handler: Any) -> None:
        handler.set_status(self.status)
        handler._headers = self.headers.copy()
        handler._write_buffer = []


def _answer(handler: Any) -> Answer:
    headers = tuple((name, handler._headers[name]) for name in KEPT if name in handler._headers)
    return Answer(handler.get_status(), headers, b"".join(handler._write_buffer))
