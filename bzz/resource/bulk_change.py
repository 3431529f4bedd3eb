"""Changing or deleting every document that a filter matches, if they are not more than was allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import PyMongoError

from bzz import model as typed
from bzz.delivery.commit import deferring
from bzz.errors import (
    AffectedError,
    BulkError,
    BzzError,
    ConflictError,
    MissingDocumentError,
    PreconditionFailedError,
    QueryError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
    TransactionsUnsupportedError,
)
from bzz.model import Stored
from bzz.model.query.parameters import RESERVED
from bzz.resource import overridden
from bzz.resource.bulk import Bulk, BulkRequest
from bzz.resource.bulk_item import Item
from bzz.resource.listing import blame_polygons
from bzz.resource.operation import Operation
from bzz.resource.resource import Resource
from bzz.resource.rows import Scope, both
from bzz.storage.bulk import PIECE, delete_all, find_all, update_all

__all__ = ["Change"]


class Change(Bulk):
    """Change or delete the documents that match.

    What a strict change replaces is what its transaction read: a writer in between makes it start over, with
    the documents that match then. A lenient one first notes what matches; of each piece, what still does when
    its turn comes is changed.
    """

    def __init__(self, resource: Resource, request: BulkRequest) -> None:
        super().__init__(resource, request)
        self._deletes = request.action == "delete_instance"
        schema = resource.schema
        itself = overridden.deletes_itself(schema) if self._deletes else overridden.saves_itself(schema)
        self._alone = (itself or resource.rows.is_by_key) and not request.dry_run
        self._limit = min(request.max_affected, resource.options.max_bulk)
        self._known: dict[str, Item] = {}
        self._filter: Mapping[str, Any] = {}
        self._polygons: Sequence[str] = ()
        self._scope: Scope | None = None

    async def _begin(self) -> None:
        await self._compile()
        await super()._begin()

    def _obstacle(self) -> str | None:
        if self._deletes and overridden.deletes_itself(self.resource.schema):
            return (
                f"deleting a {self.resource.name} involves its own delete(), delete rules, signals or files, "
                "which cannot join a transaction"
            )
        return super()._obstacle()

    # What matches -------------------------------------------------------------------------------------------

    async def _compile(self) -> None:
        """Make the filter; whoever uses one learns what matches, and has to be allowed to list it."""
        resource, request = self.resource, self.request
        for name in request.arguments:
            if name in RESERVED - {"search"} or name.endswith("__near"):
                raise QueryError(name, f"{name} has no meaning for a change of all that matches.")
        if not request.arguments:
            raise BulkError("A filter is required, to say which documents are meant.")
        query = typed.compile_query(resource.schema, request.arguments, rules=resource.rules)
        reading = Operation("get_list", arguments=request.arguments, handler=request.handler)
        reading.resource = resource
        await resource.admit(reading)
        changing = self.operation()
        changing.resource = resource
        listed, self._scope = await resource.rows.of(reading), await resource.rows.of(changing)
        reach = listed.filter if listed == self._scope else both(listed.filter, self._scope.filter)
        self._filter = both(reach, query.filter)
        self._polygons = query.polygons

    async def _matches(self, session: Any) -> list[Stored]:
        store = self.resource.store
        try:
            found = await find_all(store, self._filter, self._limit + 1, session)
            if len(found) > self._limit:
                raise AffectedError(await store.count(self._filter, session=session), self._limit)
        except StorageError as error:
            blame_polygons(self._polygons, error)
            raise
        return found

    def _take(self, found: Sequence[Stored]) -> list[Item]:
        """Make items of what matches; return those of an earlier attempt that match no more."""
        earlier = self._known
        self._known = {}
        for index, stored in enumerate(found):
            identity = _identity(stored)
            item = earlier.pop(identity, None)
            if item is None:
                key = typed.key_to_text(self.resource.schema, stored)
                data = None if self._deletes else self.request.data
                operation = self.operation(key=key, data=data, data_kind=self.request.data_kind)
                item = Item(index, self.resource, operation)
            item.index, item.found = index, stored
            self._known[identity] = item
        self.items = list(self._known.values())
        return list(earlier.values())

    # All or nothing -----------------------------------------------------------------------------------------

    async def _try_out(self) -> None:
        self._take(await self._matches(None))
        await self._plan_all()

    async def _write(self, session: Any) -> None:
        for gone in self._take(await self._matches(session)):
            await gone.fail(_gone())
        for item in self.items:
            item.operation.session = session
        await self._plan_all()
        if not self._alone:
            refused = await self._write_planned(self.items, session)
            if refused is not None:
                await self._refuse(*refused)

    async def _plan_all(self) -> None:
        for item in self.items:
            if not self._alone:
                await item.plan(self._scope)
            elif not await item.perform():
                break  # the transaction is lost
            await self.breath()
        self._refuse_failed()

    async def _write_planned(self, items: Sequence[Item], session: Any) -> tuple[Item, BzzError] | None:
        store = self.resource.store
        if self._deletes:
            await delete_all(store, [_key(item) for item in items], session)
            return None
        changed = [item for item in items if item.update]
        updates = [({"_id": _key(item)}, item.update.command()) for item in changed]
        refused = await update_all(store, updates, session)
        return None if refused is None else (changed[refused.position], refused.error)

    # Each as far as it goes ---------------------------------------------------------------------------------

    async def _lenient(self) -> None:
        self._take(await self._matches(None))
        if self._obstacle() is not None:
            self._alone = True
        for start in range(0, len(self.items), PIECE):
            piece = self.items[start : start + PIECE]
            left = [item for item in piece if not await self._is_over(item)]
            if self.request.dry_run:
                for item in left:
                    await item.plan(self._scope)
                    await self.breath()
            else:
                if not self._alone:
                    left = await self._together(left)
                await self._one_by_one(left)
            await self._complete([item for item in piece if item.error is None])

    async def _together(self, items: Sequence[Item]) -> list[Item]:
        """Change a piece in one transaction; return what could not be changed that way."""
        try:
            with deferring() as deferred:
                async with self.resource.store.transaction(self.left) as session:
                    planned = await self._plan_piece(items, session)
                    refused = await self._write_planned(planned, session)
                    if refused is not None:
                        raise refused[1]
                await deferred.flush()
        except TransactionsUnsupportedError:
            self._alone = True
        except (StorageUnavailableError, StorageTimeoutError) as error:
            for item in _unfinished(items):
                await item.fail(error)
            self.note_outage(error)
        except (BzzError, PyMongoError):
            pass  # another writer, or one document that MongoDB refuses: the others must not suffer for it
        else:
            return []
        return _unfinished(items)

    async def _plan_piece(self, items: Sequence[Item], session: Any) -> list[Item]:
        """Plan what still matches of a piece; return what is to be written."""
        store = self.resource.store
        these = both(self._filter, {"_id": {"$in": [_key(item) for item in items]}})
        found = {_identity(each): each for each in await find_all(store, these, len(items), session)}
        for item in items:
            assert item.found is not None
            stored = found.get(_identity(item.found))
            if stored is None:
                await item.fail(_gone())
            else:
                item.found = stored
                await item.plan(self._scope)
            await self.breath()
        return _unfinished(items)

    async def _one_by_one(self, items: Sequence[Item]) -> None:
        for item in items:
            if not await self._is_over(item):
                await self._change_alone(item)
                self.note_outage(item.error)
                await self.breath()

    async def _change_alone(self, item: Item) -> None:
        """Change a document exactly in a state in which it matches."""
        operation, store = item.operation, self.resource.store
        operation.session = None
        while True:
            try:
                found = await store.find_one(both(self._filter, {"_id": _key(item)}))
            except BzzError as error:
                await item.fail(error)
                return
            if found is None:
                await item.fail(_gone())
                return
            item.found, operation.if_match = found, self.resource.etag(found)
            try:
                await item.perform(raising=PreconditionFailedError)
            except PreconditionFailedError:
                if self.left > 0:
                    continue
                await item.fail(ConflictError("Other writers changed this document again and again."))
            return


def _unfinished(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if item.error is None]


def _gone() -> MissingDocumentError:
    return MissingDocumentError("This document does not match any more.")


def _key(item: Item) -> Any:
    assert item.found is not None
    return item.found["_id"]


def _identity(stored: Stored) -> str:
    # A key may be a dict, which is not hashable.
    return repr(stored["_id"])
