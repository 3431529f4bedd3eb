"""The life of one operation on one resource, in order.

Every way in (a request, a batch, the command line) makes an :class:`Operation` and gives it to
:meth:`Resource.run`, or takes its parts one by one, as a batch does that must tell of nothing before its
commit::

    prerun → pre signal → decode → validate → write → diff → post signal → success or failure → postrun

No step knows HTTP, and no step but the write touches the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bzz import model as typed
from bzz import overridden
from bzz.delivery.hooks import Hooks, announce, is_heard
from bzz.delivery.operating import operating
from bzz.errors import (
    ConflictError,
    DuplicateError,
    ExitEarly,
    FieldError,
    MissingDocumentError,
    PreconditionFailedError,
    ValidationError,
)
from bzz.etag import etag_of, matches
from bzz.model import Assignments, Change, FieldSpec, Schema, Stored
from bzz.storage import Store

__all__ = ["Action", "Operation", "Options", "Outcome", "Resource"]

Action = Literal["get_list", "get_instance", "create_instance", "update_instance", "delete_instance"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen for one resource; each is a keyword of ``routes_for``.

    ``per_page`` and ``max_per_page`` are documents a page, ``timeout`` the seconds that one command may take
    and ``retry_seconds`` how long a guarded write tries again while other writers win. ``put`` says what a
    PUT does with fields it is not given: ``merge`` leaves them, ``replace`` resets them.
    """

    per_page: int = 20
    max_per_page: int = 100
    put: Literal["merge", "replace"] = "merge"
    timeout: float = 5.0
    retry_seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.put not in {"merge", "replace"}:
            raise ValueError(f"put is 'merge' or 'replace', not {self.put!r}")
        if not 1 <= self.per_page <= self.max_per_page:
            raise ValueError(
                f"per_page must be from 1 to max_per_page ({self.max_per_page}), not {self.per_page}"
            )
        if self.timeout <= 0 or self.retry_seconds <= 0:
            raise ValueError("timeout and retry_seconds are seconds above 0")


@dataclass(slots=True, eq=False)
class Operation:
    """One operation on one resource, as it was asked for.

    ``data`` is the parsed body: a dict from JSON, or a list of ``(name, value)`` pairs from a form. A
    ``pre_`` receiver may change it in place, and what it leaves is what is decoded. ``session`` is the
    session of the transaction that the operation is part of. ``if_match`` is the value of an ``If-Match``
    header: an update or a deletion then concerns exactly the state of the document that it names.
    """

    action: Action
    key: str | None = None
    data: Any = None
    arguments: Mapping[str, list[str]] = field(default_factory=dict)
    handler: Any = None
    session: Any = None
    if_match: str | None = None

    @property
    def args(self) -> tuple[Any, ...]:
        """What the operation works on, in order: the key, then the data, as far as it has them."""
        return tuple(each for each in (self.key, self.data) if each is not None)


@dataclass(slots=True, eq=False)
class Outcome:
    """What an operation did, in the form in which MongoDB keeps documents.

    ``before`` is what this very write replaced, ``after`` what it stored; a read has only ``after`` or
    ``items``.
    """

    before: Stored | None = None
    after: Stored | None = None
    items: list[Stored] | None = None
    updated_fields: dict[str, Change] = field(default_factory=dict)


class Resource:
    """A model that can be reached: its schema, its store, its options and who hears of it."""

    def __init__(
        self,
        model: type,
        *,
        name: str,
        options: Options | None = None,
        client: Any = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.options = options or Options()
        self.schema = Schema.of(model)
        self.store = Store(model, client=client, timeout=self.options.timeout)
        self.hooks = hooks or Hooks(owner=self)
        self._turns: weakref.WeakValueDictionary[Any, asyncio.Lock] = weakref.WeakValueDictionary()
        self._steps: dict[Action, Callable[[Operation], Awaitable[Outcome]]] = {
            "get_list": self._get_list,
            "get_instance": self._get_instance,
            "create_instance": self._create,
            "update_instance": self._update,
            "delete_instance": self._delete,
        }

    def __repr__(self) -> str:
        return f"<Resource {self.name!r} of {self.model.__name__}>"

    # One operation ------------------------------------------------------------------------------------------

    async def run(self, operation: Operation) -> Outcome:
        """Run an operation with all that belongs to it, and return what it did.

        Raises what the operation raised, unchanged: any of :mod:`bzz.errors`, or what a receiver raised.
        """
        try:
            await self.start(operation)
            outcome = await self.perform(operation)
        except BaseException:
            await self.fail(operation)
            raise
        # A receiver that wants to end a batch: here there is none, and what is stored stays.
        with contextlib.suppress(ExitEarly):
            await self.complete(operation, outcome)
        return outcome

    @operating
    async def start(self, operation: Operation) -> None:
        """Announce that an operation starts; whoever raises ends it, which is a failure like any other."""
        await self._event("prerun", operation)

    @operating
    async def complete(self, operation: Operation, outcome: Outcome) -> None:
        """Tell of what an operation did, once it is certain that it stays done.

        :class:`bzz.errors.ExitEarly` from a receiver is raised when everybody was told: it may end a batch,
        but the operation succeeded.
        """
        early = None
        try:
            await self.tell(operation, outcome)
        except ExitEarly as error:
            early = error
        except BaseException:
            await self.fail(operation)
            raise
        try:
            await self._event("success", operation, return_value=outcome)
        finally:
            await self._event("postrun", operation)
        if early is not None:
            raise early

    @operating
    async def fail(self, operation: Operation) -> None:
        """Tell that an operation that had started failed; call it while its exception is being handled."""
        try:
            await self._event("failure", operation, exc_info=sys.exc_info())
        finally:
            await self._event("postrun", operation)

    async def _event(self, event: str, operation: Operation, **more: Any) -> None:
        args, kwargs = operation.args, operation.arguments
        await self.hooks.run_event(
            event, operation=operation, task=operation, args=args, kwargs=kwargs, **more
        )

    @operating
    async def perform(self, operation: Operation) -> Outcome:
        """Do the work of an operation, from its pre signal to its write, without telling of it afterwards."""
        await self.store.prepare()
        return await self._steps[operation.action](operation)

    async def tell(self, operation: Operation, outcome: Outcome) -> None:
        """Send the post signal of what an operation did; none for an update that changed nothing."""
        action, handler = operation.action, operation.handler
        event = f"post_{action}"
        if (action == "update_instance" and not outcome.updated_fields) or not self._is_heard(event):
            return
        if action == "get_list":
            items = [typed.from_stored(self.schema, each) for each in outcome.items or ()]
            await self._announce(event, items=items, handler=handler)
            return
        stored = outcome.before if action == "delete_instance" else outcome.after
        assert stored is not None
        payload: dict[str, Any] = {"instance": typed.from_stored(self.schema, stored), "handler": handler}
        if action == "update_instance":
            payload["updated_fields"] = outcome.updated_fields
        await self._announce(event, **payload)

    # The steps ----------------------------------------------------------------------------------------------

    async def _get_list(self, operation: Operation) -> Outcome:
        await self._ask(operation)
        query = typed.compile_query(
            self.schema,
            operation.arguments,
            per_page=self.options.per_page,
            max_per_page=self.options.max_per_page,
        )
        items = await self.store.find(
            _both(self._scope(), query.filter),
            sort=query.sort,
            skip=query.skip,
            limit=query.limit,
            session=operation.session,
        )
        return Outcome(items=items)

    async def _get_instance(self, operation: Operation) -> Outcome:
        await self._ask(operation)
        return Outcome(after=await self._find(operation))

    async def _create(self, operation: Operation) -> Outcome:
        await self._ask(operation, data=operation.data)
        assignments = self._decode(operation.data, creating=True)
        document = typed.new_document(self.schema, assignments)
        await overridden.complete(document)
        if self._saves_itself():
            after = await self._named(overridden.save_new(self.store, document, session=operation.session))
        else:
            await self._validate(document)
            after = typed.to_stored(document)
            await self._named(self.store.insert(after, session=operation.session))
        return Outcome(after=after)

    async def _update(self, operation: Operation) -> Outcome:
        if self._is_heard("pre_update_instance"):
            found = await self._find_as_named(operation)
            instance = typed.from_stored(self.schema, found)
            await self._ask(operation, data=operation.data, instance=instance)
        target = self._target(operation)
        assignments = self._decode(operation.data, creating=False)
        replaces = self.options.put == "replace"
        if (
            assignments
            and not replaces
            and operation.if_match is None
            and self._can_write_unread(assignments)
        ):
            update = typed.direct_update(self.schema, assignments)
            if update is not None:
                before = await self._named(
                    self.store.update(
                        _both(target, update.guard), update.command(), session=operation.session
                    )
                )
                if before is not None:
                    return self._changed(before, update.apply(before))
                if not update.guard:
                    raise self._missing()
        return await self._update_as_read(operation, assignments, replaces=replaces)

    async def _update_as_read(
        self, operation: Operation, assignments: Assignments, *, replaces: bool
    ) -> Outcome:
        """Validate the whole document as it will be, and write only if it is still as it was read."""
        give_up = time.monotonic() + self.options.retry_seconds
        # Writers of one process take turns: without this, n of them would read and lose n²/2 times.
        async with self._turns.setdefault(operation.key, asyncio.Lock()):
            while True:
                before = await self._find_as_named(operation)
                outcome = await self._write_over(before, operation, assignments, replaces=replaces)
                if outcome is not None:
                    return outcome
                if time.monotonic() > give_up:
                    raise ConflictError("Other writers changed this document again and again; try again.")

    async def _write_over(
        self, before: Stored, operation: Operation, assignments: Assignments, *, replaces: bool
    ) -> Outcome | None:
        """Make one attempt to replace exactly ``before``; None when another writer was faster."""
        schema = self.schema.of_stored(before)
        assignments = _without_key(schema, assignments, before)
        base = typed.to_stored(typed.from_stored(schema, before))
        document = typed.from_stored(schema, before)
        typed.assign(document, {**_defaults(schema, assignments), **assignments} if replaces else assignments)
        await overridden.complete(document)
        if self._saves_itself():
            saved = await self._named(
                overridden.save_changed(self.store, document, before, session=operation.session)
            )
            return None if saved is None else self._changed(before, saved)
        await self._validate(document)
        update = typed.changes(base, typed.to_stored(document))
        if not update:
            return Outcome(before=before, after=before)
        replaced = await self._named(
            self.store.update(self.store.exactly(before), update.command(), session=operation.session)
        )
        return None if replaced is None else self._changed(replaced, update.apply(replaced))

    async def _delete(self, operation: Operation) -> Outcome:
        if self._is_heard("pre_delete_instance"):
            instance = typed.from_stored(self.schema, await self._find_as_named(operation))
            await self._ask(operation, instance=instance)
        before = None
        if operation.if_match in {None, "*"}:
            before = await self._delete_matching(operation, self._target(operation))
        else:
            # Lost against another writer, it is read again, and then it is no longer what was named.
            while before is None:
                found = await self._find_as_named(operation)
                before = await self._delete_matching(operation, self.store.exactly(found))
        if before is None:
            raise self._missing()
        return Outcome(before=before)

    async def _delete_matching(self, operation: Operation, target: dict[str, Any]) -> Stored | None:
        if not overridden.deletes_itself(self.schema):
            return await self.store.delete(target, session=operation.session)
        found = await self._find(operation)
        document = typed.from_stored(self.schema, found)
        return await overridden.delete(self.store, document, found, session=operation.session, guard=target)

    # What the steps share -----------------------------------------------------------------------------------

    async def _ask(self, operation: Operation, **known: Any) -> None:
        """Send the pre signal; whoever raises ends the operation before anything is written."""
        event = f"pre_{operation.action}"
        if self._is_heard(event):
            known = {"arguments": operation.arguments, "handler": operation.handler, **known}
            await self._announce(event, **known)

    def _is_heard(self, event: str) -> bool:
        return is_heard(event, self.model, self.hooks)

    async def _announce(self, event: str, **payload: Any) -> None:
        await announce(event, self.model, self.hooks, **payload)

    def _decode(self, data: Any, *, creating: bool) -> Assignments:
        if isinstance(data, list):
            return typed.decode_form(self.schema, data, creating=creating)
        return typed.decode_object(self.schema, data, creating=creating)

    def _scope(self) -> dict[str, Any]:
        """Return the filter that the model itself puts on all its documents."""
        return overridden.scope(self.schema)

    def _target(self, operation: Operation) -> dict[str, Any]:
        assert operation.key is not None
        return _both(typed.key_filter(self.schema, operation.key), self._scope())

    async def _find(self, operation: Operation) -> Stored:
        found = await self.store.find_one(self._target(operation), session=operation.session)
        if found is None:
            raise self._missing()
        return found

    async def _find_as_named(self, operation: Operation) -> Stored:
        """Find the document, in the state that ``if_match`` names."""
        found = await self._find(operation)
        if operation.if_match is not None and not matches(operation.if_match, found):
            raise PreconditionFailedError(f"This {self.name} has changed.", etag_of(found))
        return found

    def _missing(self) -> MissingDocumentError:
        return MissingDocumentError(f"No {self.name} has this key.")

    def _saves_itself(self) -> bool:
        return overridden.saves_itself(self.schema)

    async def _validate(self, document: Any) -> None:
        # A clean() of the user's may read the database in mongoengine's blocking way.
        if self.schema.overrides & {"clean", "validate"}:
            await asyncio.to_thread(typed.validate, document)
        else:
            typed.validate(document)

    def _can_write_unread(self, assignments: Assignments) -> bool:
        """Tell whether an update can be checked without the document: class, key and save() are plain."""
        return (
            not self.schema.polymorphic
            and (_primary(self.schema).name,) not in assignments
            and not self._saves_itself()
        )

    def _changed(self, before: Stored, after: Stored) -> Outcome:
        schema = self.schema.of_stored(after)
        return Outcome(before=before, after=after, updated_fields=typed.diff(schema, before, after))

    async def _named(self, write: Awaitable[Any]) -> Any:
        """Await a write, and let a uniqueness error speak of fields by the names that clients know."""
        try:
            return await write
        except DuplicateError as error:
            fields = [self.schema.field_path(each) for each in error.fields]
            named = ", ".join(fields)
            detail = f"Another {self.name} has the same {named}." if fields else error.detail
            raise DuplicateError(detail, fields) from error


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a filter that matches what both match."""
    if one.keys().isdisjoint(other):
        return {**one, **other}
    return {"$and": [one, other]}


def _primary(schema: Schema) -> FieldSpec:
    assert schema.primary is not None, "a class that can be stored has a primary key"
    return schema.primary


def _without_key(schema: Schema, assignments: Assignments, before: Stored) -> Assignments:
    """Accept the primary key in a body only if it is the one that the document has."""
    path = (_primary(schema).name,)
    if path not in assignments:
        return assignments
    value = assignments[path]
    if value is None or _primary(schema).store(value) != before["_id"]:
        raise ValidationError([FieldError(f"/{path[0]}", "the key of a document cannot be changed")])
    return {each: value for each, value in assignments.items() if each != path}


def _defaults(schema: Schema, given: Assignments) -> Assignments:
    """Return what the fields that a full replacement does not mention are reset to."""
    named = {path[0] for path in given}
    fresh = typed.new_document(schema, {})
    return {
        (name,): fresh._data.get(name)
        for name in schema.fields
        if name not in named and name not in {_primary(schema).name, schema.key.name}
    }
