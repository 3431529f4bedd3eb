"""Properties that are resources of their own: embedded documents and references, one or a list of them.

They are addressed by the name of the field and, in a list, by a key: a reference by the key of the document
that it points to, an embedded document by a field of its own, or by its position where it has none.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mongoengine import fields

from bzz.errors import ValidationError
from bzz.model.codec import read_key, write_key
from bzz.model.containers import ListSpec
from bzz.model.embedding import EmbeddedSpec
from bzz.model.equality import same
from bzz.model.field import CustomSpec, FieldSpec
from bzz.model.generic import key_in
from bzz.model.references import KeyedSpec
from bzz.model.schema import Schema, Stored

__all__ = ["Property", "properties"]

_POSITION = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


class Property:
    """A field whose value is one document, or a list of documents, embedded or referred to.

    ``spec`` is the field, ``item`` how one of its values travels. ``many`` says that it is a list,
    ``refers`` that the documents are elsewhere and only their keys are here.
    """

    def __init__(self, spec: FieldSpec, item: FieldSpec, *, many: bool) -> None:
        self.spec = spec
        self.item = item
        self.name = spec.name
        self.many = many
        self.refers = isinstance(_plain(item), KeyedSpec)

    def __repr__(self) -> str:
        return f"<Property {self.name}{'[]' if self.many else ''} of {self.item!r}>"

    @staticmethod
    def of(spec: FieldSpec) -> Property | None:
        """Return what a field is as a resource; None if it is none. No class is looked up for it yet."""
        return _property_of(spec)

    @functools.cached_property
    def schema(self) -> Schema:
        """What the documents are; for a reference to an abstract class, something without a key."""
        model = self.item.target if self.refers else self.item.field.document_type
        return Schema.of(model)

    @property
    def is_usable(self) -> bool:
        """Whether the documents can be addressed: those of an abstract class are in no collection."""
        return not self.refers or self.schema.primary is not None

    @functools.cached_property
    def key(self) -> FieldSpec | None:
        """The field by which the documents are addressed; None if only their position in the list does.

        For embedded documents that is what ``get_id_field_name()`` says, else a primary key, a field called
        ``id`` or stored as ``_id``, else the only field that is unique.
        """
        if self.refers or hasattr(self.schema.model, "get_id_field_name"):
            return self.schema.key
        specs = [spec for spec in self.schema.fields.values() if not spec.compound]
        for spec in specs:
            if spec.name == "id" or spec.db_name == "_id":
                return spec
        unique = [spec for spec in specs if spec.field.unique and not spec.field.unique_with]
        return unique[0] if len(unique) == 1 else None

    @property
    def is_sorted(self) -> bool:
        """Whether the list is put in order when it is stored, so that a new item may stand anywhere."""
        return isinstance(self.spec.field, fields.SortedListField)

    def reference(self, stored: Any) -> Any:
        """Return the primary key that a stored reference holds."""
        return stored.get("_id") if isinstance(stored, dict) else key_in(stored)

    def find(self, items: Sequence[Any], text: str) -> int | None:
        """Return where in a stored list the embedded document with this key stands; None if it does not."""
        if self.key is None:
            position = int(text) if _POSITION.fullmatch(text) else len(items)
            return position if position < len(items) and isinstance(items[position], dict) else None
        try:
            wanted = read_key(self.key, text)
        except ValidationError:
            return None
        return self.position(items, wanted)

    def position(self, items: Sequence[Any], wanted: Any) -> int | None:
        """Return where in a stored list the document with this stored key stands, embedded or referred to."""
        for position, item in enumerate(items):
            if item is not None and same(self.key_in(item), wanted):
                return position
        return None

    def key_in(self, item: Any) -> Any:
        """Return the stored key of one item of a stored list, None if it has none."""
        if self.refers:
            return self.reference(item)
        return item.get(self.key.db_name) if self.key is not None and isinstance(item, dict) else None

    def key_text(self, item: Stored, position: int) -> str:
        """Return the key of an embedded document as it stands in URLs, before percent-encoding."""
        return str(position) if self.key is None else write_key(self.key, item.get(self.key.db_name))


@functools.cache  # a field lives as long as its class
def _property_of(spec: FieldSpec) -> Property | None:
    if isinstance(spec, EmbeddedSpec) or isinstance(_plain(spec), KeyedSpec):
        return Property(spec, spec, many=False)
    item = spec.item if isinstance(_plain(spec), ListSpec) else None
    if item is not None and (isinstance(item, EmbeddedSpec) or isinstance(_plain(item), KeyedSpec)):
        return Property(spec, item, many=True)
    return None


def properties(schema: Schema) -> Mapping[str, Property]:
    """Return the properties of a class, and of those below it, that are resources, by name."""
    found: dict[str, Property] = {}
    for each in _classes(schema):
        for name, spec in each.fields.items():
            prop = None if name in found else Property.of(spec)
            if prop is not None:
                found[name] = prop
    return found


def _classes(schema: Schema) -> Iterator[Schema]:
    yield schema
    if schema.polymorphic:
        yield from (Schema.of(each) for each in schema.subclasses.values())


def _plain(spec: FieldSpec) -> FieldSpec:
    return spec.origin if isinstance(spec, CustomSpec) else spec
