"""``POST /batch``: a plan comes in, what became of it goes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import tornado.web

from bzz import model as typed
from bzz.batch.directory import Directory
from bzz.batch.journal import Journal, answer_of
from bzz.batch.plan import Limits, read_request
from bzz.batch.report import report
from bzz.batch.runner import Batch
from bzz.batch.transaction import obstacles
from bzz.errors import TransactionsUnsupportedError, Veto
from bzz.http.idempotency import Idempotency, give, once, required_key
from bzz.http.request import preferences, refuse_encoded
from bzz.mongoengine_handler import ProblemHandler
from bzz.storage.receipts import Answer

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

    def initialize(
        self, directory: Directory, limits: Limits, idempotency: Idempotency | None = None
    ) -> None:
        """Take the resources that paths lead to, what one batch may ask for, and how keys are taken."""
        self.directory = directory
        self.limits = limits
        self.idempotency = idempotency
        self._told: Mapping[str, Any] = {}

    def allowed_methods(self) -> tuple[str, ...]:
        """Return the methods of this URL."""
        return ("POST", "OPTIONS")

    def compute_etag(self) -> None:
        """Have no ETag: the answer is not a representation of anything."""

    async def post(self) -> None:
        """Run the batch in the body."""
        dry_run = "dry-run" in preferences(self.request)
        batch = Batch(read_request(self._body(), self.directory, self.limits), handler=self, dry_run=dry_run)
        key = None if self.idempotency is None or dry_run else required_key(self.request, self.idempotency)
        if dry_run:
            self.set_header("Preference-Applied", "dry-run")
        try:
            if key is not None and batch.plan:
                answer, kept = await self._run_once(batch, key)
            else:
                await batch.run()
                answer, kept = await answer_of(batch), False
        except Exception as error:
            self._told = await report(batch)
            if isinstance(error, tornado.web.Finish) and batch.failed_operation is not None:
                # Meant for a request of its own, which would be over with it.
                raise Veto from error
            raise
        if not self._finished:
            self._write_buffer.clear()
            give(self, answer, kept=kept)

    async def _run_once(self, batch: Batch, key: str) -> tuple[Answer, bool]:
        settings, first = self.idempotency, batch.plan[0].resource.store
        assert settings is not None
        seconds = batch.request.timeout
        together = not obstacles(batch.plan)
        if together:
            try:
                async with first.transaction(seconds):
                    pass
            except TransactionsUnsupportedError:
                together = False
        kept = once(self, first, settings, seconds=seconds if together else None, key=key)
        batch.journal = Journal(kept, together=together)
        return await kept.run(partial(batch.journal.run, batch))

    def options(self) -> None:
        """Say which methods this URL has."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)
        self.clear_header("Content-Type")

    def problem_members(self) -> Mapping[str, Any]:
        """Return what the batch had done before the error."""
        return self._told

    def _body(self) -> object:
        refuse_encoded(self.request)
        kind = self.request.headers.get("Content-Type") or "application/json"
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise tornado.web.HTTPError(415, "The body must be application/json.")
        return typed.parse_json(self.request.body, max_depth=MAX_DEPTH)
