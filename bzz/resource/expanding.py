"""What the documents of a list refer to: read in one command a level, shown as its own resource shows it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from bzz.errors import QueryError
from bzz.model import Link, Schema, Stored
from bzz.resource import overridden
from bzz.resource.documents import Documents
from bzz.resource.operation import Operation
from bzz.resource.rows import both
from bzz.resource.view import View
from bzz.storage import Store

__all__ = ["MAX_EXPANDED", "Expanding"]

MAX_EXPANDED = 1000


class Expanding:
    """Expand references for the lists of one resource.

    ``peers`` are the documents of all resources that are known beside it, and its own. What such a resource
    does not show, or does not have, is not shown here either; where several have documents of one model, all
    of them count.
    """

    def __init__(
        self, documents: Documents, peers: Callable[[], Iterable[Documents]], *, client: Any = None
    ) -> None:
        self._peers = peers
        self._client = client
        self._timeout = documents.options.timeout
        self._alias = documents.store.alias
        self._stores: dict[Any, Store] = {documents.schema.model: documents.store}

    async def expand(self, links: Iterable[Link], items: Sequence[Stored], operation: Operation) -> None:
        """Read what documents refer to: of each model, one command for each level."""
        level = [(link, items) for link in links]
        while level:
            wanted: dict[Any, dict[Any, None]] = {}
            for link, documents in level:
                keys = wanted.setdefault(link.schema.model, {})
                keys.update((key, None) for key in link.keys(documents) if isinstance(key, Hashable))
            if sum(map(len, wanted.values())) > MAX_EXPANDED:
                raise QueryError("expand", f"More than {MAX_EXPANDED} documents would be expanded.")
            found = {model: await self._find(model, list(keys), operation) for model, keys in wanted.items()}
            for link, documents in level:
                known = found[link.schema.model]
                keys = dict.fromkeys(key for key in link.keys(documents) if isinstance(key, Hashable))
                link.documents = [known[key] for key in keys if key in known]
            level = [(below, link.documents) for link, _ in level for below in link.links.values()]

    def encode(self, schema: Schema, stored: Stored) -> Any:
        """Return what is shown of a document that was expanded; blocks where the model writes it."""
        encoded = View(schema).encode(stored)
        concrete = schema.of_stored(stored).model
        for peer in self._peers():
            if issubclass(concrete, peer.schema.model):
                encoded = peer.view.cut(stored, encoded)
        return encoded

    async def _find(self, model: Any, keys: list[Any], operation: Operation) -> dict[Any, Stored]:
        if not keys:
            return {}
        store = self._stores.get(model)
        if store is None:
            store = self._stores[model] = Store(model, client=self._client, timeout=self._timeout)
        found = await store.find(
            both({"_id": {"$in": keys}}, await self._scope(model, operation)),
            limit=len(keys),
            # A session belongs to one client.
            session=operation.session if store.alias == self._alias else None,
        )
        return {each["_id"]: each for each in found}

    async def _scope(self, model: Any, operation: Operation) -> dict[str, Any]:
        scope = overridden.scope(Schema.of(model))
        for peer in self._peers():
            own: Any = peer.schema.model
            if peer.rows.is_everything or not (issubclass(model, own) or issubclass(own, model)):
                continue
            limited = dict((await peer.rows.of(operation, expanding=True)).filter)
            if not issubclass(model, own):
                limited = {"$or": [{"_cls": {"$nin": list(own._subclasses)}}, limited]}
            scope = both(scope, limited)
        return scope
