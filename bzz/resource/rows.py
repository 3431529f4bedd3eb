"""Which documents a resource has for whom: the filter that every one of its reads and writes carries.

It comes from what the model puts on all its documents, from what a resource chooses (``rows``), and from what
bzz calls ``get_list_queryset`` and ``get_instance_queryset``. Values are made by the model's fields; nothing
that comes from a client can be more than a value.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bson import DBRef, Decimal128
from mongoengine.base import BaseDocument, LazyReference

from bzz import model as typed
from bzz.errors import FieldError, ValidationError, Veto
from bzz.model import Assignments, FieldSpec, Schema, Stored
from bzz.model.query.paths import Found, find, plain
from bzz.model.references import KeyedSpec
from bzz.model.storable import check_storable
from bzz.resource import overridden
from bzz.resource.operation import Operation, Options

__all__ = ["Rows", "Scope", "both"]

_SEVERAL = (list, tuple, set, frozenset)


def both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return a filter that matches what both match."""
    if one.keys().isdisjoint(other):
        return {**one, **other}
    return {"$and": [one, other]}


class _Condition(NamedTuple):
    """A field that must have one of these stored values; ``single`` if exactly one was named."""

    found: Found
    values: Sequence[Any]
    single: bool

    @property
    def filter(self) -> dict[str, Any]:
        path = self.found.path + self.found.element.query_suffix
        return {path: {"$eq": self.values[0]} if self.single else {"$in": list(self.values)}}

    def admits(self, stored: Stored) -> bool:
        """Tell whether MongoDB would find the document by it."""
        kept = list(_kept(stored, f"{self.found.path}{self.found.element.query_suffix}".split("."))) or [None]
        return any(_equal(each, value) for each in kept for value in self.values)


@dataclass(slots=True)
class Scope:
    """The documents that one operation can reach: a filter for MongoDB, and the conditions in it by field.

    Not to be changed. (Frozen, it would take three times as long to make.)
    """

    filter: Mapping[str, Any]
    conditions: tuple[_Condition, ...] = ()

    def admit(self, stored: Stored) -> None:
        """Refuse (403) a document that would lie outside once it is stored."""
        for each in self.conditions:
            if not each.admits(stored):
                raise Veto(403, f"The document would be out of reach: its {each.found.name} is another's.")

    def completed(self, assignments: Assignments) -> Assignments:
        """Return what a new document is made of, with the values that it must have and nobody named."""
        missing: Assignments = {}
        for each in self.conditions:
            path = tuple(each.found.name.split("."))
            named = any(path[: len(given)] == given for given in assignments)
            if each.single and each.values[0] is not None and not named and not each.found.in_list:
                missing[path] = each.found.spec.revive(each.values[0])
        return {**assignments, **missing} if missing else assignments

    def concerns(self, assignments: Assignments) -> bool:
        """Tell whether setting these fields may move a document out of reach."""
        paths = [tuple(each.found.name.split(".")) for each in self.conditions]
        return any(
            path[: len(given)] == given or given[: len(path)] == path
            for path in paths
            for given in assignments
        )


class Rows:
    """What limits the documents of one resource; see :class:`bzz.resource.Options`.

    Raises ValueError for a dict of rows that names what the model does not have.
    """

    def __init__(self, schema: Schema, options: Options) -> None:
        self._schema = schema
        model: Any = schema.model
        self._get_list = options.get_list_queryset or getattr(model, "get_list_queryset", None)
        self._get_instance = options.get_instance_queryset or getattr(model, "get_instance_queryset", None)
        self._choose: Callable[[Operation], Any] | None = None
        self._chosen: tuple[_Condition, ...] = ()
        if callable(options.rows):
            self._choose = options.rows
        elif options.rows is not None:
            self._chosen = _conditions(schema, options.rows, strict=True)
        #: Whether every operation reaches every document of the model.
        self.is_everything = not (self._choose or self._chosen or self._get_list or self._get_instance)

    @property
    def is_checked(self) -> bool:
        """Whether a write that leads out of reach is refused."""
        return bool(self._choose or self._chosen)

    @property
    def is_by_key(self) -> bool:
        """Whether it takes the key of a document to tell whether an operation reaches it."""
        return self._get_instance is not None

    async def of(self, operation: Operation, *, expanding: bool = False) -> Scope:
        """Return what an operation can reach, in this very moment.

        ``expanding``: it is one of another resource, which shows documents of this one in its own.
        """
        own = overridden.scope(self._schema)
        if self.is_everything:
            return Scope(own)
        conditions = self._chosen
        if self._choose is not None:
            chosen = self._choose(operation)
            if inspect.isawaitable(chosen):
                chosen = await chosen
            if not isinstance(chosen, Mapping):
                # None may be a return that was forgotten: that must not open everything.
                raise TypeError(f"rows gave {type(chosen).__name__}, not a dict; every document is {{}}")
            conditions = _conditions(self._schema, chosen, strict=False)
        filter_: Mapping[str, Any] = own
        for each in conditions:
            filter_ = both(filter_, each.filter)
        queried = await self._queried(operation, expanding)
        return Scope(both(filter_, queried) if queried else filter_, conditions)

    async def _queried(self, operation: Operation, expanding: bool) -> dict[str, Any]:
        model: Any = self._schema.model
        key = None if expanding else operation.key
        if operation.action == "create_instance" and not expanding:
            return {}
        if key is None and self._get_list is not None:
            found = await _called(self._get_list, lambda: (model.objects, operation.handler))
        elif self._get_instance is not None and (key is not None or expanding):
            found = await _called(self._get_instance, lambda: (model, model.objects, key, operation.handler))
        else:
            return {}
        return overridden.filter_of(found)


async def _called(function: Callable[..., Any], arguments: Callable[[], tuple[Any, ...]]) -> Any:
    """Call what was written for mongoengine; it may read with it, which is blocking, as may ``objects``."""
    if inspect.iscoroutinefunction(function):
        return await function(*await asyncio.to_thread(arguments))
    found = await asyncio.to_thread(lambda: function(*arguments()))
    return await found if inspect.isawaitable(found) else found


def _conditions(schema: Schema, rows: Mapping[str, Any], *, strict: bool) -> tuple[_Condition, ...]:
    """Make conditions of a dict; what no document can have finds none, and is refused if ``strict``."""
    made = []
    for name, given in rows.items():
        found = find(schema, name)
        if found is None:
            raise ValueError(f"rows: {schema.name} has no field {name!r}")
        several = isinstance(given, _SEVERAL)
        values = []
        for each in given if several else [given]:
            try:
                values.append(_stored(found, each))
            except ValueError as error:
                if strict:
                    raise ValueError(f"rows: {name!r}: {error}") from error
        made.append(_Condition(found, values, single=bool(values) and not several))
    return tuple(made)


def _stored(found: Found, value: Any) -> Any:
    """Return what MongoDB keeps of a value that a developer gave, perhaps a text of a client's."""
    if value is None:
        return None
    spec = found.element
    errors: list[FieldError] = []
    try:
        stored = _queried(spec, value)
        check_storable(stored, "", errors)
    except ValidationError as error:
        raise ValueError(error.errors[0].detail) from error
    except Exception as error:  # a user's to_mongo may fail in any way; the value is what it refused
        raise ValueError(f"not a value of this field ({type(error).__name__})") from error
    if errors or isinstance(stored, dict) or stored is None:
        raise ValueError(errors[0].detail if errors else "not a value of this field")
    return stored


def _queried(spec: FieldSpec, value: Any) -> Any:
    if isinstance(value, str):
        given = spec.decode_text([value], "")
    elif isinstance(value, BaseDocument):
        given = value if spec.target is not None else value.pk
    else:
        reference = plain(spec)
        if isinstance(reference, KeyedSpec) and not isinstance(value, (DBRef, LazyReference)):
            given = reference.typed(value)
        else:
            given = spec.take(value, "")
    return None if given is None else spec.query(given)[1]


def _equal(one: Any, other: Any) -> bool:
    """Tell whether MongoDB finds two values equal: numbers by value, whatever their type."""
    numbers = _number(one), _number(other)
    if None in numbers:
        return typed.same(one, other)
    return bool(numbers[0] == numbers[1])


def _number(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _kept(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yield what a path leads to in a stored document, and the items of lists there."""
    if isinstance(value, list):
        for each in value:
            yield from _kept(each, path)
        if not path:
            yield value
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _kept(value[path[0]], path[1:])
