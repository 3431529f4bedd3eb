"""``POST /batch``: a plan comes in, what became of it goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import tornado.web

from bzz import model as typed
from bzz.batch.directory import Directory
from bzz.batch.plan import Limits, read_request
from bzz.batch.report import report
from bzz.batch.runner import Batch
from bzz.errors import HeaderError, Veto
from bzz.http.request import preferences
from bzz.mongoengine_handler import ProblemHandler

__all__ = ["BatchHandler"]

#: A body inside a batch may be as deep as one on its own; around it are the batch, its list, the operation.
MAX_DEPTH = 32 + 3


class BatchHandler(ProblemHandler):
    """Run batches on the resources of a directory.

    A plan that came to its end is answered with 200, whatever its operations were answered; look at the
    entries. One that an exception ended is answered with the problem of that exception, and the same
    entries in it. In both, ``handler`` in the payload of a signal is this handler; what receivers write to
    it is not sent.
    """

    def initialize(self, directory: Directory, limits: Limits) -> None:
        """Take the resources that paths lead to, and what one batch may ask for."""
        self.directory = directory
        self.limits = limits
        self._told: Mapping[str, Any] = {}

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of this URL."""
        return ("POST", "OPTIONS")

    def compute_etag(self) -> None:
        """Have no ETag: the answer is not a representation of anything."""

    async def post(self) -> None:
        """Run the batch in the body."""
        if "dry-run" in preferences(self.request):
            # A preference may be ignored (RFC 7240, 2), but nobody who says this one wants it to be.
            raise HeaderError("Prefer", "A batch cannot be tried without doing it.")
        batch = Batch(read_request(self._body(), self.directory, self.limits), handler=self)
        try:
            await batch.run()
        except Exception as error:
            self._told = await report(batch)
            if isinstance(error, tornado.web.Finish) and batch.failed_operation is not None:
                # Meant for a request of its own, which would be over with it.
                raise Veto from error
            raise
        body = orjson.dumps(await report(batch))
        if self._finished:
            return
        self._write_buffer.clear()
        self.set_status(200)
        self.set_header("Content-Type", "application/json")
        self.finish(body)

    def options(self) -> None:
        """Say which methods this URL has."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)
        self.clear_header("Content-Type")

    def problem_members(self) -> Mapping[str, Any]:
        """Return what the batch had done before the error."""
        return self._told

    def _body(self) -> object:
        kind = self.request.headers.get("Content-Type") or "application/json"
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise tornado.web.HTTPError(415, "The body must be application/json.")
        return typed.parse_json(self.request.body, max_depth=MAX_DEPTH)
