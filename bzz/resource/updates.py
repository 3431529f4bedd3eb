"""Changing a document: in one command where that is enough, else exactly over what was read."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import Any

from bzz import model as typed
from bzz.errors import ConflictError
from bzz.model import Assignments, Stored, Update
from bzz.resource import overridden
from bzz.resource.documents import Documents
from bzz.resource.operation import Operation, Outcome
from bzz.resource.revision import decode, primary, revised
from bzz.resource.rows import both

__all__ = ["Updates"]


class Updates:
    """How the documents of one resource are changed."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self.schema = documents.schema
        self.store = documents.store
        self._turns: weakref.WeakValueDictionary[Any, asyncio.Lock] = weakref.WeakValueDictionary()

    async def run(self, operation: Operation) -> Outcome:
        """Change a document, and return what this very write replaced and stored."""
        target = await self.documents.target(operation)
        update = self._simple(operation)
        if update is not None:
            before = await self.documents.named(
                self.store.update(target, update.command(), session=operation.session)
            )
            if before is None:
                raise self.documents.missing()
            return self._changed(before, update.apply(before))
        assignments = self._assignments(operation)
        if assignments and self._can_write_unread(operation, assignments):
            update = typed.direct_update(self.schema, assignments)
            if update is not None:
                before = await self.documents.named(
                    self.store.update(both(target, update.guard), update.command(), session=operation.session)
                )
                if before is not None:
                    return self._changed(before, update.apply(before))
                if not update.guard:
                    raise self.documents.missing()
        return await self._as_read(operation)

    def _simple(self, operation: Operation) -> Update | None:
        """Return what an update sets that only sets plain fields to right values; None of any other."""
        decoder, data, documents = typed.decoder_of(self.schema), operation.data, self.documents
        if (
            decoder is None
            or type(data) is not dict
            or operation.data_kind == "json_patch"
            or operation.nested is not None
            or operation.is_conditional
            or operation.dry_run
            or documents.replaces(operation)
            or not documents.fields.is_open
            or not documents.rows.is_everything
            or overridden.saves_itself(self.schema)
        ):
            return None
        if operation.data_kind == "merge_patch" and any(type(each) is dict for each in data.values()):
            return None  # it is merged into what is there
        return decoder.change(data)

    def _assignments(self, operation: Operation) -> Assignments | None:
        """Decode what does not depend on the document; None for what does."""
        if self.schema.polymorphic or operation.data_kind == "json_patch" or operation.nested is not None:
            return None
        if operation.data_kind == "merge_patch":
            return typed.merge_assignments(self.schema, operation.data)
        return decode(self.schema, operation.data, creating=False)

    def _can_write_unread(self, operation: Operation, assignments: Assignments) -> bool:
        """Tell whether an update can be checked without the document: key and save() are plain."""
        return (
            not operation.is_conditional
            and not operation.dry_run
            and not self.documents.replaces(operation)
            and (primary(self.schema).name,) not in assignments
            and not overridden.saves_itself(self.schema)
            and not self.documents.is_limited(operation, assignments)
        )

    async def _as_read(self, operation: Operation) -> Outcome:
        """Validate the whole document as it will be, and write only if it is still as it was read."""
        # Writers of one process take turns: without this, n of them would read and lose n²/2 times.
        async with self._turns.setdefault(operation.key, asyncio.Lock()):
            give_up = time.monotonic() + self.documents.options.retry_seconds  # waiting is not losing
            while True:
                before = await self.documents.find_as_named(operation)
                outcome = await self._write_over(before, operation)
                if outcome is not None:
                    return outcome
                if time.monotonic() > give_up:
                    raise ConflictError("Other writers changed this document again and again; try again.")

    async def _write_over(self, before: Stored, operation: Operation) -> Outcome | None:
        """Make one attempt to replace exactly ``before``; None when another writer was faster."""
        if overridden.saves_itself(self.schema) and not operation.dry_run:
            document = await self._revised(before, operation)
            saved = await self.documents.named(
                overridden.save_changed(self.store, document, before, session=operation.session)
            )
            return None if saved is None else self._changed(before, saved)
        update = await self.plan(before, operation)
        if not update or not operation.writes:
            return self.outcome(before, update)
        replaced = await self.documents.named(
            self.store.update(self.store.exactly(before), update.command(), session=operation.session)
        )
        return None if replaced is None else self.outcome(replaced, update)

    async def plan(self, before: Stored, operation: Operation) -> Update:
        """Return what is to be written over exactly ``before``; it is checked, and nothing is written."""
        base = typed.to_stored(typed.from_stored(self.schema, before))
        document = await self._revised(before, operation)
        await self.documents.validate(document)
        return typed.changes(base, typed.to_stored(document))

    def outcome(self, before: Stored, update: Update) -> Outcome:
        """Return what comes of an update that replaces ``before``."""
        if not update:
            return Outcome(before=before, after=before)
        return self._changed(before, update.apply(before))

    async def _revised(self, before: Stored, operation: Operation) -> Any:
        documents = self.documents
        document = revised(documents.fields, operation, before, replaces=documents.replaces(operation))
        await overridden.complete(document, counting=not operation.dry_run)
        scope = await documents.scope(operation)
        if scope.conditions:
            scope.admit(typed.to_stored(document))
        return document

    def _changed(self, before: Stored, after: Stored) -> Outcome:
        schema = self.schema.of_stored(after)
        return Outcome(before=before, after=after, updated_fields=typed.diff(schema, before, after))
