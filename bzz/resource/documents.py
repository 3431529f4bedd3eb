"""The documents of one resource: found, created and deleted, under the conditions that an operation names.

Nothing here tells anybody of anything: that is for :mod:`bzz.resource`. Updates are in
:mod:`bzz.resource.updates`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from bzz import model as typed
from bzz.errors import DuplicateError, MissingDocumentError, PreconditionFailedError
from bzz.model import Schema, Stored
from bzz.resource import overridden
from bzz.resource.etag import etag_of, form_of, matches
from bzz.resource.operation import Operation, Options, Outcome
from bzz.resource.revision import conflicts, decode
from bzz.storage import Store

__all__ = ["Documents", "both"]


class Documents:
    """The documents of a model that clients reach under ``name``."""

    def __init__(self, schema: Schema, store: Store, *, name: str, options: Options) -> None:
        self.schema = schema
        self.store = store
        self.name = name
        self.options = options

    # Finding ------------------------------------------------------------------------------------------------

    async def find(self, operation: Operation) -> Stored:
        """Return the document of this key, in whatever state; raises MissingDocumentError."""
        found = await self.store.find_one(self.target(operation), session=operation.session)
        if found is None:
            raise self.missing()
        return found

    async def find_as_named(self, operation: Operation) -> Stored:
        """Return the document, in a state that the operation is for; raises PreconditionFailedError."""
        found = await self.find(operation)
        if operation.is_conditional:
            self._check(operation, found)
        return found

    def target(self, operation: Operation) -> dict[str, Any]:
        """Return the filter that finds the document of this key, if the model has it among its own."""
        assert operation.key is not None
        return both(typed.key_filter(self.schema, operation.key), overridden.scope(self.schema))

    def missing(self) -> MissingDocumentError:
        """Build the error of a key that no document has."""
        return MissingDocumentError(f"No {self.name} has this key.")

    def etag(self, stored: Stored) -> str:
        """Return the tag of a document, as far as it can be told without its ``to_dict()``."""
        return etag_of(stored, form_of(self.schema.of_stored(stored)))

    def replaces(self, operation: Operation) -> bool:
        """Tell whether an update resets what it does not mention."""
        return self.options.put == "replace" and operation.data_kind == "fields"

    def _check(self, operation: Operation, found: Stored) -> None:
        # In this order: RFC 9110, 13.2.2.
        if operation.if_match is not None and not matches(operation.if_match, found):
            detail = f"This {self.name} has changed."
        elif operation.if_none_match is not None and matches(operation.if_none_match, found, weak=True):
            detail = f"This {self.name} exists, in a state that If-None-Match names."
        else:
            return
        differing = None
        if operation.action == "update_instance":
            differing = conflicts(self.schema, operation, found, replaces=self.replaces(operation))
        raise PreconditionFailedError(detail, self.etag(found), differing)

    # Creating and deleting ----------------------------------------------------------------------------------

    async def create(self, operation: Operation) -> Outcome:
        """Store a new document."""
        document = typed.new_document(self.schema, decode(self.schema, operation.data, creating=True))
        await overridden.complete(document, counting=not operation.dry_run)
        if operation.dry_run:
            await self.validate(document)
            return Outcome(after=typed.to_stored(document))
        if overridden.saves_itself(self.schema):
            after = await self.named(overridden.save_new(self.store, document, session=operation.session))
        else:
            await self.validate(document)
            after = typed.to_stored(document)
            await self.named(self.store.insert(after, session=operation.session))
        return Outcome(after=after)

    async def delete(self, operation: Operation) -> Outcome:
        """Delete a document, exactly in the state that the operation is for."""
        if operation.dry_run:
            return Outcome(before=await self.find_as_named(operation))
        before = None
        if operation.if_none_match is None and operation.if_match in {None, "*"}:
            before = await self._delete_matching(operation, self.target(operation))
        else:
            # Lost against another writer, it is read again, and then it is no longer what was named.
            while before is None:
                found = await self.find_as_named(operation)
                before = await self._delete_matching(operation, self.store.exactly(found))
        if before is None:
            raise self.missing()
        return Outcome(before=before)

    async def _delete_matching(self, operation: Operation, target: dict[str, Any]) -> Stored | None:
        if not overridden.deletes_itself(self.schema):
            return await self.store.delete(target, session=operation.session)
        found = await self.find(operation)
        document = typed.from_stored(self.schema, found)
        return await overridden.delete(self.store, document, found, session=operation.session, guard=target)

    # What writes share --------------------------------------------------------------------------------------

    async def validate(self, document: Any) -> None:
        """Validate a document without holding up anybody; raises ValidationError."""
        # A clean() of the user's may read the database in mongoengine's blocking way.
        if self.schema.overrides & {"clean", "validate"}:
            await asyncio.to_thread(typed.validate, document)
        else:
            typed.validate(document)

    async def named(self, write: Awaitable[Any]) -> Any:
        """Await a write, and let a uniqueness error speak of fields by the names that clients know."""
        try:
            return await write
        except DuplicateError as error:
            fields = [self.schema.field_path(each) for each in error.fields]
            named = ", ".join(fields)
            detail = f"Another {self.name} has the same {named}." if fields else error.detail
            raise DuplicateError(detail, fields) from error


def both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a filter that matches what both match."""
    if one.keys().isdisjoint(other):
        return {**one, **other}
    return {"$and": [one, other]}
