"""What can go wrong in bzz, without a word of HTTP.

The tree::

    BzzError
      ├─ BodyError (ValueError)            a body that is not what it claims to be
      ├─ ValidationError (ValueError)      values that the model refuses, each with its place
      ├─ QueryError (ValueError)           a query parameter that is unknown or malformed
      ├─ MissingDocumentError (LookupError)  no document under this key
      │    └─ KeyFormatError               a key that no document can have
      ├─ DuplicateError (ValueError)       a unique index refused the write
      ├─ ReferencedError (ValueError)      a delete rule refused the deletion
      ├─ Veto                              a receiver said no
      ├─ ExitEarly                         a receiver ends a batch gracefully
      ├─ ConflictError (RuntimeError)      other writers won again and again
      ├─ HeaderError (ValueError)          a header that is malformed
      ├─ PreconditionFailedError (ValueError)  the document is no longer as the client knew it
      ├─ PreconditionRequiredError (ValueError)  the client has to say which state it knows
      ├─ PatchConflictError (ValueError)   a patch that does not fit the document
      ├─ BulkError (ValueError)            a bulk that cannot be carried out as it was asked for
      │    ├─ AffectedError                it would affect more documents than its client allows
      │    └─ BulkItemsError               some of its items failed, so none is stored
      ├─ IdempotencyKeyInUseError (RuntimeError)  a request with this key is not finished
      ├─ IdempotencyKeyReusedError (ValueError)  the key belongs to another request
      ├─ RateLimitError (RuntimeError)     more requests than somebody may send in a time
      ├─ StorageError (RuntimeError)       MongoDB refused a command
      │    ├─ StorageTimeoutError (TimeoutError)      it took too long
      │    ├─ StorageUnavailableError (ConnectionError)  nobody answers
      │    └─ TransactionsUnsupportedError           the server has no transactions
      ├─ DeliveryError (RuntimeError)      a signal did not reach a worker, or a worker its receivers
      │    ├─ UnsendableError (TypeError)             a value that cannot travel
      │    ├─ PayloadError (ValueError)               a message that nobody here can read
      │    ├─ PublishError (ConnectionError)          no broker took it within the time limit
      │    ├─ UnknownSignalError (LookupError)        no signal has this name in the worker
      │    └─ UnknownReceiverError (LookupError)      no such receiver is connected in the worker
      └─ EmbeddedServerError (RuntimeError)  an embedded MongoDB or Redis did not start

One table in :mod:`bzz.mongoengine_handler` knows which HTTP status each of them is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "AffectedError",
    "BodyError",
    "BulkError",
    "BulkItemsError",
    "BzzError",
    "CeleryNotConfiguredWarning",
    "ConflictError",
    "DeliveryError",
    "DuplicateError",
    "EmbeddedServerError",
    "ExitEarly",
    "FieldError",
    "HeaderError",
    "IdempotencyKeyInUseError",
    "IdempotencyKeyReusedError",
    "KeyFormatError",
    "MissingDocumentError",
    "PatchConflictError",
    "PayloadError",
    "PreconditionFailedError",
    "PreconditionRequiredError",
    "PublishError",
    "QueryError",
    "RateLimitError",
    "ReferencedError",
    "StorageError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "TransactionsUnsupportedError",
    "UnknownReceiverError",
    "UnknownSenderWarning",
    "UnknownSignalError",
    "UnsendableError",
    "ValidationError",
    "Veto",
]


class BzzError(Exception):
    """Root of every error that bzz raises on purpose.

    ``detail`` is one sentence for the person who caused the error. It never holds a secret, and of the
    client's own input only what bzz has checked or shortened.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BodyError(BzzError, ValueError):
    """A body that is broken as such: not UTF-8, not JSON, too deep, a key twice."""


class FieldError(NamedTuple):
    """One refused value: where it stands (RFC 6901 JSON Pointer) and what is wrong with it."""

    pointer: str
    detail: str


class ValidationError(BzzError, ValueError):
    """Values that the model refuses.

    ``errors`` has one :class:`FieldError` for each of them; the pointer of an error that belongs to no
    field (raised by ``clean()``) is ``""``, the whole document.
    """

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        count = len(self.errors)
        super().__init__(f"{count} value{'s are' if count != 1 else ' is'} not valid.")


class QueryError(BzzError, ValueError):
    """A query parameter that is unknown, repeated where it may not be, or malformed."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


class MissingDocumentError(BzzError, LookupError):
    """No document of this resource has this key."""


class KeyFormatError(MissingDocumentError):
    """The text cannot be the key of any document of this model."""


class DuplicateError(BzzError, ValueError):
    """A unique index refused the write. ``fields`` are the paths that the index covers."""

    def __init__(self, detail: str, fields: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.fields = tuple(fields)


class ReferencedError(BzzError, ValueError):
    """The document cannot be deleted because others refer to it (mongoengine's ``DENY`` rule)."""


class Veto(BzzError):  # noqa: N818 - pinned public name: it is a decision, not a failure
    """Raised by a ``pre_`` receiver to refuse the operation. Nothing is written.

    ``status`` is what the answer of a REST resource says: 400 to 599, 403 unless told otherwise. ``headers``
    are added to that answer: ``Veto(401, "Who are you?", headers={"WWW-Authenticate": "Bearer"})``.
    """

    def __init__(
        self,
        status: int = 403,
        detail: str = "The operation was refused.",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"a veto needs a status from 400 to 599, not {status}")
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})


class ExitEarly(BzzError):  # noqa: N818 - pinned public name: it is a decision, not a failure
    """Raised by a receiver or an operation to end a batch gracefully; what was done stays."""

    def __init__(self, detail: str = "The batch ended early.") -> None:
        super().__init__(detail)


class ConflictError(BzzError, RuntimeError):
    """Other writers changed the document each time before this write could, until time ran out."""


class HeaderError(BzzError, ValueError):
    """A header that bzz acts on is malformed. ``header`` is its name."""

    def __init__(self, header: str, detail: str) -> None:
        super().__init__(detail)
        self.header = header


class PreconditionFailedError(BzzError, ValueError):
    """The document is not in the state that the client named.

    ``etag`` is the tag of its present state. ``conflicts`` has the fields in which the document now differs
    from what the operation would have made of it: ``{"name": {"stored": …, "requested": …}}``, JSON values.
    """

    def __init__(
        self, detail: str, etag: str, conflicts: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        super().__init__(detail)
        self.etag = etag
        self.conflicts = conflicts


class PreconditionRequiredError(BzzError, ValueError):
    """This resource is changed only by who says which state of the document they know."""


class PatchConflictError(BzzError, ValueError):
    """A JSON Patch names what the document does not have, or tests it for what it is not.

    ``operation`` is the position of the operation in the patch, from 0.
    """

    def __init__(self, detail: str, operation: int) -> None:
        super().__init__(detail)
        self.operation = operation


class IdempotencyKeyInUseError(BzzError, RuntimeError):
    """A request with the same ``Idempotency-Key`` is not finished; ``seconds`` is when to ask again."""

    def __init__(self, detail: str, seconds: float) -> None:
        super().__init__(detail)
        self.seconds = max(1, math.ceil(seconds))


class IdempotencyKeyReusedError(BzzError, ValueError):
    """The ``Idempotency-Key`` was sent before, with a request that was another one."""


class RateLimitError(BzzError, RuntimeError):
    """Somebody sent more requests than a limit allows in a time.

    ``policies`` are the names of the limits; ``seconds`` is when the next request would pass.
    """

    def __init__(self, detail: str, policies: Sequence[str], seconds: int) -> None:
        super().__init__(detail)
        self.policies = tuple(policies)
        self.seconds = seconds


class BulkError(BzzError, ValueError):
    """Many operations at once cannot be carried out in the way they were asked for. Nothing was written."""


class AffectedError(BulkError):
    """A filter matches more documents than may be affected: ``matched`` of them, where ``allowed`` are."""

    def __init__(self, matched: int, allowed: int) -> None:
        super().__init__(f"{matched} documents match, and at most {allowed} may be affected.")
        self.matched = matched
        self.allowed = allowed


class BulkItemsError(BulkError):
    """Some items of a bulk that is all or nothing failed; ``failures`` has the error of each by position."""

    def __init__(self, failures: Mapping[int, Exception], count: int) -> None:
        super().__init__(f"{len(failures)} of {count} items failed, so nothing was stored.")
        self.failures = failures


class StorageError(BzzError, RuntimeError):
    """MongoDB refused or failed a command."""


class StorageTimeoutError(StorageError, TimeoutError):
    """MongoDB did not finish a command within its time limit."""


class StorageUnavailableError(StorageError, ConnectionError):
    """No MongoDB server could be reached within the time limit."""


class TransactionsUnsupportedError(StorageError):
    """The MongoDB server has no transactions, because it is neither a replica set nor sharded."""


class DeliveryError(BzzError, RuntimeError):
    """A signal could not be delivered through a queue."""


class UnsendableError(DeliveryError, TypeError):
    """A value cannot travel to another process. ``place`` is where it stands: ``order.items[2]``."""

    def __init__(self, detail: str, place: str = "") -> None:
        super().__init__(f"{place}: {detail}" if place else detail)
        self.place = place


class PayloadError(DeliveryError, ValueError):
    """A message that arrived is not what bzz sends, or speaks of what this process does not know."""


class PublishError(DeliveryError, ConnectionError):
    """No broker took a message within the time limit.

    It may have arrived all the same: perhaps only the answer was lost.
    """


class UnknownSignalError(DeliveryError, LookupError):
    """A worker has no signal of this name: the module that makes it is not imported there."""


class UnknownReceiverError(DeliveryError, LookupError):
    """A worker has no such receiver connected: the module that connects it is not imported there."""


class EmbeddedServerError(BzzError, RuntimeError):
    """An embedded MongoDB or Redis could not be found or started; the detail says what to do."""


class UnknownSenderWarning(UserWarning):
    """A receiver was connected to the name of a model that nobody has defined."""


class CeleryNotConfiguredWarning(RuntimeWarning):
    """An asynchronous signal ran its receivers at once, because Celery has no broker."""
