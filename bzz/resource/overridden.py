"""What a model overrides runs as its author wrote it, in a thread, and bzz still sees what was stored.

mongoengine's own ``save()`` and ``delete()`` are blocking and tell nobody what they replaced. A model that
overrides them, or listens to mongoengine's signals, gets them run in a thread; the single command at their
heart is handed back to the asynchronous store, so that it has the same guard, the same before-image and the
same transaction as any other write.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import mongoengine
from mongoengine import signals as model_signals
from mongoengine.queryset.base import BaseQuerySet
from mongoengine.queryset.manager import QuerySetManager

from bzz import model as typed
from bzz.errors import DuplicateError, FieldError, ReferencedError, StorageError, ValidationError
from bzz.model import Schema, Stored
from bzz.model.references import is_pending
from bzz.model.refusal import flatten
from bzz.storage import Store

__all__ = [
    "complete",
    "delete",
    "deletes_itself",
    "filter_of",
    "is_plain",
    "save_changed",
    "save_new",
    "saves_itself",
    "scope",
]

Result = TypeVar("Result")

_SAVE_SIGNALS = (model_signals.pre_save, model_signals.pre_save_post_validation, model_signals.post_save)
_DELETE_SIGNALS = (model_signals.pre_delete, model_signals.post_delete)


def saves_itself(schema: Schema) -> bool:
    """Tell whether this model must be written by its own ``save()``."""
    return (
        "save" in schema.overrides
        or bool(schema.model._meta.get("cascade"))
        or any(each.has_receivers_for(schema.model) for each in _SAVE_SIGNALS)
    )


def deletes_itself(schema: Schema) -> bool:
    """Tell whether this model must be deleted by its own ``delete()``: it has one, delete rules, or files."""
    return (
        bool(schema.overrides & {"delete", "files"})
        or bool(schema.model._meta.get("delete_rules"))
        or any(each.has_receivers_for(schema.model) for each in _DELETE_SIGNALS)
    )


def scope(schema: Schema) -> dict[str, Any]:
    """Return the filter that the model puts on all its documents.

    It holds the classes of a model with inheritance, and whatever a ``queryset_class`` or a manager named
    ``objects`` adds; a manager is asked each time, because it may depend on the time or on a context
    variable.
    """
    if not is_plain(schema):
        return filter_of(schema.model.objects)
    if not schema.model._meta.get("allow_inheritance"):
        return {}
    classes = schema.model._subclasses
    return {"_cls": classes[0] if len(classes) == 1 else {"$in": list(classes)}}


def filter_of(queryset: Any) -> dict[str, Any]:
    """Return the filter of a mongoengine queryset; what else it says of the documents is not for a filter.

    Raises TypeError for anything else, and ValueError for one that a filter does not say all of: it has a
    limit, say, and would let through what lies beyond.
    """
    if not isinstance(queryset, BaseQuerySet):
        raise TypeError(f"expected a queryset, not {type(queryset).__name__}")
    if queryset._none or queryset._empty:
        return {"_id": {"$in": []}}
    beyond = ("_limit", "_skip", "_where_clause", "_search_text")
    if any(getattr(queryset, name) for name in beyond):
        raise ValueError("a queryset that limits a resource can only filter: no limit, skip, where or search")
    return dict(queryset._query)


def is_plain(schema: Schema) -> bool:
    """Tell whether the model has neither a queryset nor a manager of its own."""
    manager = _manager(schema.model)
    return manager is None or (manager.get_queryset is None and "queryset_class" not in schema.model._meta)


def _manager(model: type) -> QuerySetManager | None:
    for each in model.__mro__:
        found = each.__dict__.get("objects")
        if found is not None:
            return found if isinstance(found, QuerySetManager) else None
    return None


async def complete(document: Any, *, counting: bool = True) -> None:
    """Add to a document what only the database knows, read in mongoengine's blocking way.

    That is the next value of each ``SequenceField`` without one, and the copied fields of each
    ``CachedReferenceField`` that was set by key. Raises ValidationError for the key of no document. Drawing
    a value counts the sequence up; with ``counting`` false none is drawn.
    """
    model: Any = type(document)
    if _needs_database(model):
        await asyncio.to_thread(_complete, document, counting)


@functools.cache
def _needs_database(model: Any) -> bool:
    return "sequences" in Schema.of(model).overrides or any(
        isinstance(each, mongoengine.CachedReferenceField)
        for schema in Schema.of(model).reachable()
        for spec in schema.fields.values()
        for each in _nested(spec.field)
    )


def _nested(field: Any) -> Iterator[Any]:
    while field is not None:
        yield field
        field = getattr(field, "field", None)


def _complete(document: Any, counting: bool) -> None:
    for owner, sequence in typed.pending_sequences(document) if counting else ():
        owner._data[sequence.name] = sequence.generate()
    for owner, spec in typed.pending_references(document):
        owner._data[spec.name] = _read(owner._data[spec.name], f"/{spec.name}")


def _read(value: Any, pointer: str) -> Any:
    if isinstance(value, list):
        return [_read(each, f"{pointer}/{position}") for position, each in enumerate(value)]
    if isinstance(value, dict):
        return {name: _read(each, f"{pointer}/{name}") for name, each in value.items()}
    if not is_pending(value):
        return value
    found = type(value).objects(pk=value.pk).first()
    if found is None:
        raise ValidationError([FieldError(pointer, "no document has this key")])
    return found


class _LostError(Exception):
    """The document is no longer as it was read."""


class _Writes:
    """The two commands inside ``Document.save()``, carried out by the store.

    Installed on one instance, where they shadow the methods of the class. ``stored`` is the document as it is
    in MongoDB after the last of them, None before anything was written; ``known`` is what the document itself
    would be stored as then, so that only what was changed in it is written.
    """

    def __init__(self, store: Store, document: Any, stored: Stored | None, session: Any) -> None:
        self.store = store
        self.document = document
        self.stored = stored
        self.known = (
            None if stored is None else typed.to_stored(typed.from_stored(Schema.of(type(document)), stored))
        )
        self.session = session
        self.loop = asyncio.get_running_loop()
        object.__setattr__(document, "_save_create", self.create)
        object.__setattr__(document, "_save_update", self.update)

    async def run_save(self) -> None:
        """Run the model's ``save()`` in a thread; it may well save more than once."""
        try:
            await asyncio.to_thread(_call, self.document.save)
        except mongoengine.NotUniqueError as error:
            cause = error.__cause__
            raise cause if isinstance(cause, DuplicateError) else DuplicateError(_short(error)) from error
        except mongoengine.OperationError as error:
            raise StorageError(_short(error)) from error
        finally:
            del self.document.__dict__["_save_create"], self.document.__dict__["_save_update"]

    def create(self, doc: Stored, force_insert: bool, write_concern: Any) -> Any:
        stored = typed.to_stored(self.document)
        self._wait(lambda: self.store.insert(stored, session=self.session))
        self.stored = self.known = stored
        return stored["_id"]

    def update(self, doc: Stored, save_condition: Any, write_concern: Any) -> tuple[Any, bool]:
        assert self.stored is not None
        replacing, known = self.stored, typed.to_stored(self.document)
        update = typed.changes(self.known or {}, known)
        if update:
            replaced = self._wait(
                lambda: self.store.update(
                    self.store.exactly(replacing), update.command(), session=self.session
                )
            )
            if replaced is None:
                raise _LostError
            self.stored, self.known = update.apply(replaced), known
        return doc["_id"], False

    def _wait(self, write: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        try:
            return asyncio.run_coroutine_threadsafe(write(), self.loop).result()
        except DuplicateError as error:
            # The name under which an overridden save() may expect it.
            raise mongoengine.NotUniqueError(error.detail) from error


def _call(method: Callable[[], Any]) -> None:
    try:
        method()
    except mongoengine.ValidationError as error:
        raise ValidationError(list(flatten(error, ""))) from error


async def save_new(store: Store, document: Any, *, session: Any = None) -> Stored:
    """Create a document by its own ``save()`` and return it as it is stored.

    Raises :class:`bzz.errors.StorageError` if ``save()`` returned without having stored anything.
    """
    writes = _Writes(store, document, None, session)
    await writes.run_save()
    if writes.stored is None:
        raise StorageError(f"{type(document).__name__}.save() returned without having stored the document.")
    return writes.stored


async def save_changed(store: Store, document: Any, before: Stored, *, session: Any = None) -> Stored | None:
    """Update a document by its own ``save()``, as long as it still is exactly ``before``.

    Return the document as it is stored now, or None when another writer was faster and it must be read again.
    """
    writes = _Writes(store, document, before, session)
    try:
        await writes.run_save()
    except _LostError:
        return None
    return writes.stored


class _Deletion:
    """The collection as ``Document.delete()`` sees it; the deletion itself goes through the store."""

    def __init__(
        self, collection: Any, store: Store, key: Any, session: Any, guard: dict[str, Any] | None
    ) -> None:
        self._collection = collection
        self._store = store
        self._key = key
        self._guard = guard or {}
        self._session = session
        self._loop = asyncio.get_running_loop()
        self.reached = False
        self.before: Stored | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._collection == other)

    def __hash__(self) -> int:
        return hash(self._collection)

    def with_options(self, **_options: Any) -> _Deletion:
        return self

    def delete_many(self, query: dict[str, Any]) -> Any:
        if query.get("_id") != self._key:
            return self._collection.delete_many(query)
        self.reached = True
        deletion = self._store.delete({**query, **self._guard}, session=self._session)
        self.before = asyncio.run_coroutine_threadsafe(deletion, self._loop).result()
        return _Deleted(0 if self.before is None else 1)


class _Deleted:
    """What pymongo answers to a deletion, as far as mongoengine reads it."""

    acknowledged = True

    def __init__(self, count: int) -> None:
        self.deleted_count = count


async def delete(
    store: Store, document: Any, found: Stored, *, session: Any = None, guard: dict[str, Any] | None = None
) -> Stored | None:
    """Delete a document by its own ``delete()``, delete rules and files included.

    Return the document as it was; None if somebody else had deleted it, or if it does not match ``guard`` any
    more (delete rules are carried out before that is known). A ``delete()`` that deletes nothing (it marks
    the document, say) counts as done, and ``found`` is returned.
    """
    deletion = _Deletion(document._get_collection(), store, found["_id"], session, guard)
    object.__setattr__(document, "_get_collection", lambda: deletion)
    try:
        await asyncio.to_thread(_call, document.delete)
    except mongoengine.OperationError as error:
        raise ReferencedError(_short(error)) from error
    finally:
        del document.__dict__["_get_collection"]
    return deletion.before if deletion.reached else found


def _short(error: Exception) -> str:
    return str(error)[:200]
