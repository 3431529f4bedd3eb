"""The short way to one document, for a resource that leaves it open to everybody as it is.

Most reads ask for nothing but a document, and nobody is told of them. They need no operation, no task and
no handler. What is not known here to make no difference closes the way: then a read is an operation like any
other, and whoever is to be asked, told or obeyed is.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import fields
from typing import Any

from bzz import model as typed
from bzz.delivery.hooks import Hooks, is_heard
from bzz.errors import KeyFormatError, MissingDocumentError
from bzz.model import Stored
from bzz.resource import overridden
from bzz.resource.documents import Documents
from bzz.resource.operation import Options

__all__ = ["Glance"]

#: The options that make no difference to who reads one document; any other that is chosen closes the way.
INDIFFERENT = frozenset(
    {
        "aggregations",
        "bulk",
        "bulk_timeout",
        "expand_depth",
        "expandable",
        "filters",
        "idempotency",
        "max_bulk",
        "max_per_page",
        "ndjson",
        "nested",
        "per_page",
        "put",
        "require_if_match",
        "retry_seconds",
        "search",
        "secret",
        "sorts",
        "timeout",
        "writable",
        "write_once",
    }
)


class Glance:
    """Read documents of one resource by key, and show them.

    ``is_restricted``: somebody has to be asked before.
    """

    def __init__(self, documents: Documents, hooks: Hooks, *, is_restricted: bool) -> None:
        self._documents = documents
        self._schema = documents.schema
        self._store = documents.store
        self._view = documents.view
        self._hooks = hooks
        #: Whether there is such a way at all, as long as nobody listens.
        self.is_possible = (
            not is_restricted
            and _is_usual(documents.options)
            and documents.rows.is_everything
            and documents.view.readable.is_all
            and not documents.view.is_own
            and overridden.is_plain(documents.schema)
        )

    def read(self, text: str) -> Awaitable[Stored | None] | None:
        """Begin to read the document with this key; None if the way is closed, or this is no key.

        What is returned is a future, or a coroutine where it takes one.
        """
        model, hooks = self._schema.model, self._hooks
        if (
            not self.is_possible
            or not hooks.is_quiet
            or is_heard("pre_get_instance", model, hooks)
            or is_heard("post_get_instance", model, hooks)
            or not self._store.is_prepared
        ):
            return None
        try:
            key = typed.key_filter(self._schema, text)
        except KeyFormatError:
            return None
        return self._store.begin_find({**overridden.scope(self._schema), **key})

    def missing(self) -> MissingDocumentError:
        """Build the error of a key that no document has."""
        return self._documents.missing()

    def show(self, stored: Stored) -> tuple[bytes, str]:
        """Return a document as JSON, and its tag."""
        return typed.encode_bytes(self._schema, stored), self._view.etag(stored)


def _is_usual(options: Options) -> bool:
    usual: dict[str, Any] = {each.name: each.default for each in fields(options)}
    return all(getattr(options, name) == value for name, value in usual.items() if name not in INDIFFERENT)
