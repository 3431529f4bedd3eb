"""Where a path below one document leads: from document to document by references, and into one by fields."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bzz import model as typed
from bzz.delivery.hooks import Hooks
from bzz.errors import KeyFormatError, MissingDocumentError
from bzz.model import Property, Schema, Stored
from bzz.model.refusal import child, shorten
from bzz.resource.operation import Operation, Options
from bzz.resource.resource import Resource

__all__ = [
    "MAX_SEGMENTS",
    "Leg",
    "Place",
    "Step",
    "check_names",
    "key_of_reference",
    "locate",
    "names_of",
    "primary_key",
    "related",
    "resolve",
    "session_for",
]

#: How many names and keys a path may have below the first document.
MAX_SEGMENTS = 32

_strangers: weakref.WeakKeyDictionary[Resource, dict[Any, Resource]] = weakref.WeakKeyDictionary()


class Step(NamedTuple):
    """A property and, in a list, the key of one of its items as text; None: the list, or the only one."""

    property: Property
    key: str | None


class Leg(NamedTuple):
    """The part of a path within the document with this key; before another leg, it ends in a reference.

    ``key`` is None where it can only be read from the leg before.
    """

    resource: Resource
    key: str | None
    steps: tuple[Step, ...]

    @property
    def path(self) -> tuple[str, ...]:
        """The names and keys as they stand in the URL, decoded."""
        return tuple(
            text for step in self.steps for text in (step.property.name, step.key) if text is not None
        )

    @property
    def is_by_position(self) -> bool:
        """Whether something in it is known by its position in a list only, which others may move."""
        return any(step.key is not None and step.property.key is None for step in self.steps)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields alone."""
        return tuple(step.property.name for step in self.steps)


def names_of(resource: Resource) -> Mapping[str, Property]:
    """Return the properties of a resource that are resources, by name: all, or those of its options."""
    chosen = resource.options.nested
    known = typed.properties(resource.schema)
    return known if chosen is None else {name: known[name] for name in known if name in chosen}


def check_names(resource: Resource) -> None:
    """Raise ValueError if the options of a resource name what is no property that is a resource."""
    chosen = resource.options.nested or ()
    if isinstance(chosen, str):
        raise TypeError(f"nested is a collection of names, not {chosen!r}")
    known = typed.properties(resource.schema)
    for name in chosen:
        if name not in known:
            raise ValueError(f"nested: {resource.schema.name} has no document, nor a reference, as {name!r}")


def related(resource: Resource, model: Any) -> Resource:
    """Return the resource of a model that documents refer to: that of the same Api, else a plain one."""
    for each in resource.siblings.values():
        if each.model is model:
            return each
    made = _strangers.setdefault(resource, {})
    if model not in made:
        hooks = Hooks(owner=None, outer=resource.hooks.outer)
        options = Options(timeout=resource.options.timeout, retry_seconds=resource.options.retry_seconds)
        made[model] = Resource(
            model, name=model.__name__, options=options, client=resource.client, hooks=hooks
        )
        hooks.owner = made[model]
        made[model].siblings = resource.siblings
    return made[model]


def resolve(resource: Resource, key: str, names: Sequence[str]) -> tuple[Leg, ...]:
    """Return what a path below the document with this key means; nothing is read.

    Raises MissingDocumentError where a name is no property that is a resource.
    """
    legs: list[Leg] = []
    steps: list[Step] = []
    schema, left = resource.schema, list(names)
    at: str | None = key
    if not 0 < len(left) <= MAX_SEGMENTS:
        raise MissingDocumentError("There is nothing at this path.")
    while left:
        name = left.pop(0)
        prop = (typed.properties(schema) if steps else names_of(resource)).get(name)
        if prop is None or not prop.is_usable:
            raise MissingDocumentError(f"Nothing is called {shorten(name)!r} below a {schema.name}.")
        steps.append(Step(prop, left.pop(0) if prop.many and left else None))
        schema = prop.schema
        if prop.refers and left:
            legs.append(Leg(resource, at, tuple(steps)))
            resource, at, steps = related(resource, schema.model), steps[-1].key, []
    return (*legs, Leg(resource, at, tuple(steps)))


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to within one document.

    ``schema``, ``stored`` and ``document`` (typed, if there is one) are of the document, perhaps embedded,
    that has the property. ``index`` is where the item stands in the list, None without a key; ``pointer``
    leads from the whole document to the value.
    """

    schema: Schema
    stored: Stored
    document: Any
    prop: Property
    index: int | None
    pointer: str

    @property
    def value(self) -> Any:
        """The stored value: one document, one key, a list; None if there is none."""
        value: Any = self.stored.get(self.prop.spec.db_name)
        return value if self.index is None else value[self.index]

    @property
    def items(self) -> list[Any]:
        """The stored list."""
        value = self.stored.get(self.prop.spec.db_name)
        return value if isinstance(value, list) else []

    @property
    def typed(self) -> Any:
        """The value on the typed document."""
        value = self.document._data.get(self.prop.name)
        return value if self.index is None else value[self.index]

    def at(self, index: int | None) -> Place:
        """Return the place of another item of the same list."""
        return replace(
            self, index=index, pointer=self.pointer if index is None else child(self.pointer, index)
        )


def locate(
    schema: Schema, stored: Stored, steps: Sequence[Step], *, document: Any = None, wanted: Any = None
) -> Place:
    """Follow steps within a document; raises MissingDocumentError where there is nothing.

    Only the last step may lead to nothing, if it has no key. ``wanted`` is the stored key of the document
    that the last step refers to.
    """
    place: Place | None = None
    for step in steps:
        if place is not None:
            schema, stored, document = _below(place)
        pointer = child("" if place is None else place.pointer, step.property.name)
        concrete = schema.of_stored(stored)
        prop = _property(concrete, step)
        place = _at_key(Place(concrete, stored, document, prop, None, pointer), step.key, wanted)
    assert place is not None, "a path has at least one step"
    return place


def _below(place: Place) -> tuple[Schema, Stored, Any]:
    value = place.value
    if not isinstance(value, dict):
        raise MissingDocumentError(f"There is no {place.prop.name}.")
    return place.prop.schema, value, None if place.document is None else place.typed


def _property(schema: Schema, step: Step) -> Property:
    """Return the property as the very class of a document has it, which may be below the one known before."""
    known, name = step.property, step.property.name
    spec = schema.fields.get(name)
    prop = None if spec is None else Property.of(spec)
    if prop is None or (prop.many, prop.refers) != (known.many, known.refers):
        raise MissingDocumentError(f"This {schema.name} has no {name}.")
    return prop


def _at_key(place: Place, key: str | None, wanted: Any) -> Place:
    if key is None:
        return place
    prop, items = place.prop, place.items
    index = prop.position(items, wanted) if prop.refers else prop.find(items, key)
    if index is None:
        raise MissingDocumentError(f"The {prop.name} here have no item with this key.")
    return place.at(index)


async def key_of_reference(leg: Leg, stored: Stored, operation: Operation) -> str:
    """Return the key, as text, of the document that a leg leads to; ``stored`` is the document it starts in.

    Raises MissingDocumentError if there is no such reference.
    """
    step = leg.steps[-1]
    target = related(leg.resource, step.property.schema.model)
    if step.key is not None:
        wanted = await primary_key(target, step.key, operation)
        locate(leg.resource.schema, stored, leg.steps, wanted=wanted)
        return step.key
    value = locate(leg.resource.schema, stored, leg.steps).value
    if value is None:
        raise MissingDocumentError(f"There is no {step.property.name}.")
    key = step.property.reference(value)
    if target.schema.key is target.schema.primary:
        return typed.write_key(target.schema.key, key)
    found = await target.store.find_one({"_id": key}, session=session_for(target, leg.resource, operation))
    if found is None:
        raise MissingDocumentError(f"There is no {step.property.name}.")
    return typed.key_to_text(target.schema, found)


async def primary_key(resource: Resource, text: str, operation: Operation) -> Any:
    """Return the stored primary key of the document with this key; raises MissingDocumentError."""
    schema = resource.schema
    key = typed.key_from_text(schema, text)
    if schema.key is schema.primary:
        return key
    found = await resource.store.find_one(typed.key_filter(schema, text), session=operation.session)
    if found is None:
        raise KeyFormatError(f"No {resource.name} has this key.")
    return found["_id"]


def session_for(resource: Resource, other: Resource, operation: Operation) -> Any:
    """Return the session of an operation on one resource for a read of another: it belongs to one client."""
    return operation.session if resource.store.alias == other.store.alias else None
