"""Documents as NDJSON: created while they arrive, however many there are.

What is in memory is at most two pieces of lines and their results. Results of what failed go out as they
come, and are limited in number, so a client that reads nothing before it has sent everything cannot lock
itself out; who asks for every result (``Prefer: return=representation``) has to read them meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import sys
from collections import deque
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import orjson
import tornado.web
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.routing import PathMatches, URLSpec

from bzz import model as typed
from bzz.errors import BodyError, BzzError, HeaderError
from bzz.http.bulk import result, wishes
from bzz.http.idempotency import HEADER as IDEMPOTENCY_KEY
from bzz.http.ndjson import NDJSON
from bzz.http.problem_handler import ProblemHandler, problem_of
from bzz.http.request import preferences, refuse_arguments, refuse_encoded
from bzz.resource import Resource
from bzz.resource.bulk import BulkRequest, Creation
from bzz.storage.bulk import PIECE

__all__ = ["MAX_LINE", "MAX_LISTED", "Lines", "Upload", "is_upload", "upload_rule"]

logger = logging.getLogger("bzz.ndjson")

#: The most bytes of one line.
MAX_LINE = 1024 * 1024
#: The most failures of which there is a result, if not every result was asked for.
MAX_LISTED = 1000

_MOST_BYTES = 1024 * 1024


class Lines:
    """Cut a stream of bytes into lines; of one that is too long only the error remains."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._begun = bytearray()
        self._is_too_long = False

    def feed(self, chunk: bytes) -> list[bytes | BodyError]:
        """Take some more bytes; return the lines that are complete with them, blank ones left out."""
        *ended, rest = chunk.split(b"\n")
        found = [line for part in ended for line in self._end(part)]
        self._keep(rest)
        return found

    def end(self) -> list[bytes | BodyError]:
        """Return what is left: the last line needs no newline."""
        return self._end(b"")

    def _keep(self, part: bytes) -> None:
        if len(self._begun) + len(part) > self._limit:
            self._is_too_long = True
            self._begun.clear()
        elif not self._is_too_long:
            self._begun += part

    def _end(self, part: bytes) -> list[bytes | BodyError]:
        self._keep(part)
        line, is_too_long = bytes(self._begun).strip(b" \t\r"), self._is_too_long
        self._begun.clear()
        self._is_too_long = False
        if is_too_long:
            return [BodyError(f"A line is longer than {self._limit} bytes.")]
        return [line] if line else []


class Upload(ProblemHandler):
    """What turns the handler class of a resource into one that creates what a stream brings."""

    resource: Resource
    path: str

    def initialize(self, **given: Any) -> None:
        """Begin with nothing received."""
        super().initialize(**given)
        self._lines = Lines()
        self._waiting: deque[bytes | BodyError] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._counts = {"received": 0, "succeeded": 0, "failed": 0, "listed": 0}

    def prepare(self) -> Awaitable[None] | None:
        """Let the body be as long as it is, once the request itself is accepted."""
        admitted = super().prepare()
        if admitted is not None:
            return self._open_later(admitted)
        self._open()
        return None

    async def _open_later(self, admitted: Awaitable[None]) -> None:
        await admitted
        self._open()

    def _open(self) -> None:
        if self._finished:  # a preflight, say
            return
        self._wanted = wishes(self.request, default="lenient")
        self._lists_all = preferences(self.request).get("return") == "representation"
        refuse_arguments(self.request)
        refuse_encoded(self.request)
        if self._wanted.handling == "strict":
            raise HeaderError("Prefer", "A stream cannot be all or nothing; send a JSON array for that.")
        if IDEMPOTENCY_KEY in self.request.headers or getattr(self.resource.idempotency, "required", False):
            raise HeaderError(IDEMPOTENCY_KEY, "A stream is not done once only; send a JSON array for that.")
        connection: Any = self.request.connection
        # Of Tornado's own server; that of bzz holds limits of its own.
        accept = getattr(connection, "accept_stream", None)
        if accept is None:
            connection.set_max_body_size(sys.maxsize)
        else:
            accept()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Take a part of the body; the next is not read before there is room for it."""
        self._take(self._lines.feed(chunk))
        return self._until_room() if self._is_full else None

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= PIECE or self._bytes >= _MOST_BYTES

    async def _until_room(self) -> None:
        while self._is_full:
            self._room.clear()
            await self._room.wait()

    def _take(self, lines: Sequence[bytes | BodyError]) -> None:
        if self._error is not None or not lines:
            return
        self._waiting += lines
        self._bytes += sum(len(each) for each in lines if isinstance(each, bytes))
        if self._worker is None or self._worker.done():
            # What arrives while a piece is written is the next piece: the faster, the larger.
            self._worker = asyncio.create_task(self._work())

    async def post(self, key: str | None = None) -> None:
        """End with what is left of the body, and say how much of it is stored."""
        self._take(self._lines.end())
        if self._worker is not None:
            await self._worker
        if not self._finished:
            self._end(complete=True)

    def on_connection_close(self) -> None:
        """Forget what is left of the body of a client who is gone; what was stored stays."""
        self._stop(StreamClosedError())
        super().on_connection_close()

    # A piece ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._waiting:
                piece = [self._waiting.popleft() for _ in range(min(PIECE, len(self._waiting)))]
                self._bytes -= sum(len(each) for each in piece if isinstance(each, bytes))
                self._room.set()
                await self._create(piece)
        except StreamClosedError as error:
            self._stop(error)
        except Exception as error:
            self._stop(error)
            self._give_up(error)

    def _stop(self, error: Exception) -> None:
        self._error = self._error or error
        self._waiting.clear()
        self._bytes = 0
        self._room.set()

    async def _create(self, piece: Sequence[bytes | BodyError]) -> None:
        bulk = Creation(
            self.resource,
            BulkRequest(
                action="create_instance",
                handling="lenient",
                bodies=[_parsed(each) for each in piece],
                handler=self,
                dry_run=self._wanted.dry_run,
                first=self._counts["received"],
            ),
        )
        self._counts["received"] += len(piece)
        await bulk.run()
        lines = []
        for item in bulk.items:
            self._counts["succeeded" if item.stored else "failed"] += 1
            if self._is_listed(item.error):
                self._counts["listed"] += 1
                lines.append(await result(item, self.path) + b"\n")
            await bulk.breath()
        if lines:
            await self._send(b"".join(lines))
        if bulk.outage is not None:
            raise bulk.outage

    def _is_listed(self, error: Exception | None) -> bool:
        return self._lists_all or (error is not None and self._counts["listed"] < MAX_LISTED)

    async def _send(self, lines: bytes) -> None:
        self._begin()
        self.write(lines)
        sent = self.flush()
        if self._lists_all:
            await sent

    def _begin(self) -> None:
        self._write_buffer.clear()  # what receivers wrote was meant for a request of its own
        if not self._headers_written:
            self.set_status(200)
            self.set_header("Content-Type", NDJSON)
            self.set_header("Preference-Applied", self._wanted.applied)

    # The end ------------------------------------------------------------------------------------------------

    def _end(self, *, complete: bool, error: Exception | None = None) -> None:
        summary: dict[str, Any] = {**self._counts, "complete": complete}
        if error is not None:
            summary["problem"] = orjson.Fragment(problem_of(error)[1])
        self._begin()
        self.finish(orjson.dumps({"summary": summary}) + b"\n")

    def _give_up(self, error: Exception) -> None:
        """Answer before the body is complete: nothing of what is still to come could be stored."""
        if not isinstance(error, BzzError):
            logger.error("%s broke off", self.request.path, exc_info=error)
        stream: Any = getattr(self.request.connection, "stream", None)
        if hasattr(stream, "linger"):
            stream.linger = True  # the client is still sending, and has to get the answer
        if self._headers_written or self._counts["succeeded"]:
            self._end(complete=False, error=error)
        else:
            self._handle_request_exception(error)


def _parsed(line: bytes | BodyError) -> Any:
    if isinstance(line, BodyError):
        return line
    try:
        body = typed.parse_json(line)
    except BodyError as error:
        return error
    return body if isinstance(body, dict) else BodyError("A line must be a JSON object.")


# The route --------------------------------------------------------------------------------------------------


class _Streamed(PathMatches):
    """Match a POST of NDJSON."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if request.method != "POST":
            return None
        kind = request.headers.get("Content-Type", "").partition(";")[0]
        return super().match(request) if kind.strip().lower() == NDJSON else None


class _UploadRule(URLSpec):
    def __init__(self, pattern: str, handler: type[Any], given: Mapping[str, Any]) -> None:
        super().__init__(pattern, handler, dict(given))
        self.matcher = _Streamed(pattern)


@functools.cache
def _upload_class(handler: Any) -> Any:
    made = type(f"{handler.__name__}Upload", (Upload, handler), {"__module__": handler.__module__})
    return tornado.web.stream_request_body(made)


def upload_rule(handler: Any, given: Mapping[str, Any]) -> Any:
    """Return the rule for NDJSON that is POSTed to a collection; it comes before that of the collection."""
    made = _upload_class(handler)
    return _UploadRule(rf"{re.escape(given['path'])}/?", made, given)


def is_upload(rule: Any) -> bool:
    """Tell whether a rule is one of :func:`upload_rule`."""
    return isinstance(rule, _UploadRule)
