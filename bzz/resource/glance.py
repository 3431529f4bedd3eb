"""The short way to documents, for a resource that leaves them open to everybody as they are.

Most reads ask for nothing but documents, and nobody is told of them. They need no operation, no task and
no handler. What is not known here to make no difference closes the way: then a read is an operation like any
other, and whoever is to be asked, told or obeyed is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from bzz import model as typed
from bzz.delivery.audience import Audience
from bzz.errors import KeyFormatError, MissingDocumentError
from bzz.model import ListQuery, QueryRules, Stored
from bzz.resource import overridden
from bzz.resource.documents import Documents
from bzz.resource.operation import Action, Options
from bzz.resource.page import Page, question, render_found
from bzz.resource.rows import both
from bzz.storage.gather import Found

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
    """Read documents of one resource by key, or lists of them, and show them.

    ``audience(action)`` are those who hear of it; ``is_restricted``: somebody has to be asked before.
    """

    def __init__(
        self,
        documents: Documents,
        rules: QueryRules,
        audience: Callable[[Action], Audience],
        *,
        is_restricted: bool,
    ) -> None:
        self._documents = documents
        self._rules = rules
        self._schema = documents.schema
        self._store = documents.store
        self._view = documents.view
        self._audience = audience
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
        if not self._is_open("get_instance"):
            return None
        try:
            key = typed.key_filter(self._schema, text)
        except KeyFormatError:
            return None
        return self._store.begin_find({**overridden.scope(self._schema), **key})

    def _is_open(self, action: Action) -> bool:
        if not (self.is_possible and self._store.is_prepared):
            return False
        audience = self._audience(action)
        return audience.is_quiet and not (audience.decides or audience.hears)

    def plan(self, arguments: Mapping[str, Sequence[str]]) -> ListQuery | None:
        """Return what the parameters of a list ask for, None if that is more than documents as they are.

        Raises QueryError.
        """
        options = self._documents.options
        if options.ndjson or arguments.get("aggregate"):
            return None
        query = typed.compile_query(
            self._schema,
            arguments,
            per_page=options.per_page,
            max_per_page=options.max_per_page,
            rules=self._rules,
        )
        special = query.walk or query.count or query.links or query.projection or query.polygons
        return None if special else query

    def read_list(self, query: ListQuery) -> Awaitable[Found] | None:
        """Begin to read a page that was planned; None if the way is closed."""
        if not self._is_open("get_list"):
            return None
        return self._store.find_raw(question(query, both(overridden.scope(self._schema), query.filter)))

    def show_list(self, query: ListQuery, found: Found) -> tuple[bytes, Page]:
        """Return a page as JSON, and as what knows its neighbours."""
        page = Page(found=found, query=query, more=len(found) > query.limit)
        return render_found(self._view, found, query.limit), page

    def missing(self) -> MissingDocumentError:
        """Build the error of a key that no document has."""
        return self._documents.missing()

    def show(self, stored: Stored) -> tuple[bytes, str]:
        """Return a document as JSON, and its tag."""
        return typed.encode_bytes(self._schema, stored), self._view.etag(stored)


def _is_usual(options: Options) -> bool:
    usual: dict[str, Any] = {each.name: each.default for each in fields(options)}
    return all(getattr(options, name) == value for name, value in usual.items() if name not in INDIFFERENT)
