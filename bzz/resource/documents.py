"""The documents of one resource: found, created and deleted, under the conditions that an operation names.

Nothing here tells anybody of anything: that is for :mod:`bzz.resource`. Updates are in
:mod:`bzz.resource.updates`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from bzz import model as typed
from bzz.errors import DuplicateError, MissingDocumentError, PreconditionFailedError
from bzz.model import Assignments, Schema, Stored
from bzz.resource import overridden
from bzz.resource.access import FieldAccess
from bzz.resource.operation import Operation, Options, Outcome
from bzz.resource.revision import conflicts, decode
from bzz.resource.rows import Rows, Scope, both
from bzz.resource.view import View
from bzz.storage import Store

__all__ = ["Documents"]


class Documents:
    """The documents of a model that clients reach under ``name``."""

    def __init__(self, schema: Schema, store: Store, *, name: str, options: Options) -> None:
        self.schema = schema
        self.store = store
        self.name = name
        self.options = options
        self.fields = FieldAccess(schema, options)
        self.view = View(schema, self.fields.readable, key=options.tag_key, decode=store.decode)
        self.rows = Rows(schema, options)

    # Finding ------------------------------------------------------------------------------------------------

    async def find(self, operation: Operation) -> Stored:
        """Return the document of this key, in whatever state; raises MissingDocumentError."""
        found = await self.store.find_one(await self.target(operation), session=operation.session)
        if found is None:
            raise self.missing()
        return found

    async def find_as_named(self, operation: Operation) -> Stored:
        """Return the document, in a state that the operation is for; raises PreconditionFailedError."""
        found = await self.find(operation)
        if operation.is_conditional:
            self._check(operation, found)
        return found

    async def target(self, operation: Operation) -> dict[str, Any]:
        """Return the filter that finds the document of this key, if it is one that the operation reaches."""
        assert operation.key is not None
        key = typed.key_filter(self.schema, operation.key)
        if self.rows.is_everything and operation.within is None:
            return both(key, overridden.scope(self.schema))
        return both(key, (await self.scope(operation)).filter)

    async def scope(self, operation: Operation) -> Scope:
        """Return what an operation reaches, the same as long as it runs."""
        if operation.scope is None:
            if self.rows.is_everything:
                operation.scope = Scope(overridden.scope(self.schema))
            else:
                operation.scope = await self.rows.of(operation)
            if operation.within is not None:
                within = both(operation.scope.filter, operation.within)
                operation.scope = replace(operation.scope, filter=within)
        found: Scope = operation.scope
        return found

    def missing(self) -> MissingDocumentError:
        """Build the error of a key that no document has."""
        return MissingDocumentError(f"No {self.name} has this key.")

    def etag(self, stored: Stored) -> str:
        """Return the tag of a document, as far as it can be told without its ``to_dict()``."""
        return self.view.etag(stored)

    def replaces(self, operation: Operation) -> bool:
        """Tell whether an update resets what it does not mention."""
        return self.options.put == "replace" and operation.data_kind == "fields"

    def is_limited(self, operation: Operation, assignments: Assignments) -> bool:
        """Tell whether the whole document must be known to judge an update."""
        fields, scope = self.fields, operation.scope
        if not fields.is_open and fields.needs_document(operation, assignments):
            return True
        return scope is not None and bool(scope.conditions) and scope.concerns(assignments)

    def _check(self, operation: Operation, found: Stored) -> None:
        # In this order: RFC 9110, 13.2.2.
        if operation.if_match is not None and not self.view.matches(operation.if_match, found):
            detail = f"This {self.name} has changed."
        elif operation.if_none_match is not None and self.view.matches(
            operation.if_none_match, found, weak=True
        ):
            detail = f"This {self.name} exists, in a state that If-None-Match names."
        else:
            return
        differing = None
        if operation.action == "update_instance":
            replaces = self.replaces(operation)
            differing = conflicts(self.fields, self.view, operation, found, replaces=replaces)
        raise PreconditionFailedError(detail, self.etag(found), differing)

    # Creating and deleting ----------------------------------------------------------------------------------

    async def create(self, operation: Operation) -> Outcome:
        """Store a new document."""
        if overridden.saves_itself(self.schema) and not operation.dry_run:
            document = await self._new(operation)
            after = await self.named(overridden.save_new(self.store, document, session=operation.session))
            return Outcome(after=after)
        outcome = await self.plan(operation)
        if operation.writes:
            assert outcome.after is not None
            await self.named(self.store.insert(outcome.after, session=operation.session))
        return outcome

    async def plan(self, operation: Operation) -> Outcome:
        """Return what creating a document would store."""
        decoder = typed.decoder_of(self.schema)
        if decoder is not None and self.rows.is_everything and type(operation.data) is dict:
            stored = decoder.make(operation.data)
            if stored is not None:
                return Outcome(after=stored)
        document = await self._new(operation)
        await self.validate(document)
        return Outcome(after=typed.to_stored(document))

    async def _new(self, operation: Operation) -> Any:
        scope = await self.scope(operation)
        assignments = decode(self.schema, operation.data, creating=True)
        if scope.conditions:
            assignments = scope.completed(assignments)
        document = typed.new_document(self.schema, assignments)
        await overridden.complete(document, counting=not operation.dry_run)
        if scope.conditions:
            scope.admit(typed.to_stored(document))
        return document

    async def delete(self, operation: Operation) -> Outcome:
        """Delete a document, exactly in the state that the operation is for."""
        if not operation.writes:
            return Outcome(before=await self.find_as_named(operation))
        before = None
        if operation.if_none_match is None and operation.if_match in {None, "*"}:
            before = await self._delete_matching(operation, await self.target(operation))
        else:
            # Lost against another writer, it is read again, and then it is no longer what was named.
            while before is None:
                found = await self.find_as_named(operation)
                before = await self._delete_matching(operation, self.store.exactly(found))
        if before is None:
            raise self.missing()
        return Outcome(before=before)

    async def _delete_matching(self, operation: Operation, target: dict[str, Any]) -> Stored | None:
        if operation.dry_run or not overridden.deletes_itself(self.schema):
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
            raise self.spoken(error) from error

    def spoken(self, error: DuplicateError) -> DuplicateError:
        """Return a uniqueness error that speaks of fields by the names that clients know."""
        fields = [self.schema.field_path(each) for each in error.fields]
        named = ", ".join(fields)
        return DuplicateError(
            f"Another {self.name} has the same {named}." if fields else error.detail, fields
        )
