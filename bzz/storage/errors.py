"""What PyMongo's errors mean to bzz.

Nothing of a driver's own message is repeated: it may hold hosts, credentials of a URL and the values of
other people's documents. The original error stays as ``__cause__`` for the log.

Codes: https://github.com/mongodb/mongo/blob/v6.0/src/mongo/base/error_codes.yml
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bson.errors import BSONError, InvalidBSON
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WTimeoutError,
)

from bzz.errors import (
    BzzError,
    ConflictError,
    DuplicateError,
    FieldError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
    ValidationError,
)

__all__ = [
    "ENCODING_ERRORS",
    "has_label",
    "is_conflict",
    "is_transient",
    "too_late",
    "translate",
    "translate_write",
]

# What encoding a document raises: an unknown type, an integer beyond 64 bits, a lone surrogate, a NUL in a
# key, nesting without end.
ENCODING_ERRORS = (BSONError, OverflowError, UnicodeError, RecursionError)

_DUPLICATE = frozenset({11000, 11001, 12582})
_TIMEOUT = frozenset({50, 64, 89, 202, 262})
_UNAVAILABLE = frozenset({6, 7, 91, 189, 9001, 10107, 11600, 11602, 13435, 13436})
_WRITE_CONFLICT = frozenset({112})
_BAD_VALUE = 2
_REFUSED_VALUES = {
    10334: "The document is too large.",
    17419: "The document would become too large.",
    17420: "The document would become too large.",
    15: "The document is nested too deeply.",
    52: "The key of the document holds names that begin with '$'.",
    53: "The key of the document is a list.",
    121: "The collection's validation rule refused the document.",
    171: "An index covers two lists of the document, which MongoDB cannot keep.",
    13026: "A location is out of range.",
    13027: "A location is out of range.",
    13068: "A location has too few coordinates.",
    13654: "A location is not valid.",
    16755: "A location is not valid.",
    16766: "An index covers a list of the document, which MongoDB cannot keep.",
    16804: "A location is not valid.",
    17261: "The language of a text field is not a text.",
    17262: "The language of a text field is not known.",
}


def translate(error: BaseException) -> BzzError:
    """The error of bzz that says what ``error`` means; raise it ``from error``.

    Takes what PyMongo, Motor, BSON encoding or a time limit raise. An error that is bzz's own already comes
    back as it is.
    """
    if isinstance(error, BzzError):
        return error
    if isinstance(error, BulkWriteError):
        return translate_write(_first_problem(error))
    if isinstance(error, OperationFailure) and not isinstance(error, ExecutionTimeout | WTimeoutError):
        return translate_write({**(error.details or {}), "code": error.code})
    for kinds, meaning in _MEANINGS:
        if isinstance(error, kinds):
            return meaning()
    return StorageError("The command could not be given to MongoDB.")


def too_late(sees_a_server: bool, detail: str = "MongoDB did not answer in time.") -> BzzError:
    """The error for a call that its time limit cut off.

    A driver that looks for a server may be half a second late to say so itself: when it ``sees_a_server``
    nowhere, MongoDB is unavailable rather than slow.
    """
    return StorageTimeoutError(detail) if sees_a_server else _unavailable()


def translate_write(details: Mapping[str, Any]) -> BzzError:
    """The error of bzz for one error document of the server: ``code``, ``errmsg``, ``keyPattern`` …"""
    code = details.get("code")
    if code in _DUPLICATE:
        fields = tuple(details.get("keyPattern") or ())
        return DuplicateError("Another document has the same value in a unique field.", fields)
    for codes, meaning in _MEANINGS_OF_CODES:
        if code in codes:
            return meaning()
    if code in _REFUSED_VALUES:
        return _refused(_REFUSED_VALUES[code])
    if code == _BAD_VALUE and "too large" in str(details.get("errmsg")):
        # An insertion's size has no code of its own ("object to insert too large").
        return _too_large()
    name = details.get("codeName") or code
    return StorageError(f"MongoDB refused the command ({name}).")


def _first_problem(error: BulkWriteError) -> Mapping[str, Any]:
    details = error.details or {}
    problems: list[Mapping[str, Any]] = (
        details.get("writeErrors") or details.get("writeConcernErrors") or [{}]
    )
    return problems[0]


def _refused(detail: str) -> BzzError:
    return ValidationError([FieldError("", detail)])


def _too_large() -> BzzError:
    return _refused("The document is too large.")


def _not_storable() -> BzzError:
    return _refused("The document holds a value that MongoDB cannot keep.")


def _unreadable() -> BzzError:
    return StorageError("A stored document holds a value that Python cannot read.")


def _too_slow() -> BzzError:
    return StorageTimeoutError("MongoDB did not finish the command in time.")


def _unavailable() -> BzzError:
    return StorageUnavailableError("MongoDB cannot be reached.")


def _outrun() -> BzzError:
    return ConflictError("Other writers were faster each time.")


_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], Callable[[], BzzError]], ...] = (
    ((DocumentTooLarge,), _too_large),
    ((InvalidBSON,), _unreadable),
    (ENCODING_ERRORS, _not_storable),
    ((NetworkTimeout, ExecutionTimeout, WTimeoutError, WaitQueueTimeoutError), _too_slow),
    ((ConnectionFailure,), _unavailable),
    ((TimeoutError,), _too_slow),
)
_MEANINGS_OF_CODES = (
    (_TIMEOUT, _too_slow),
    (_UNAVAILABLE, _unavailable),
    (_WRITE_CONFLICT, _outrun),
)


def is_transient(error: BaseException) -> bool:
    """Whether the same command, outside a transaction, may simply be given again.

    True only when the server says that nothing was written: a write conflict.
    """
    return isinstance(error, OperationFailure) and (
        error.code in _WRITE_CONFLICT or error.has_error_label("TransientTransactionError")
    )


def is_conflict(details: Mapping[str, Any]) -> bool:
    """Whether an error document of the server says that another writer was faster."""
    return details.get("code") in _WRITE_CONFLICT


def has_label(error: BaseException, label: str) -> bool:
    """Whether a driver's error with this label is the error, or stands behind it."""
    return any(isinstance(each, PyMongoError) and each.has_error_label(label) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
