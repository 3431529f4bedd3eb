"""Schemas of what the clients of one resource can see and set, where that is not all of its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bzz.model import ALL, NONE, FieldSpec, Schema, Selection
from bzz.model.json_forms import Json, Side
from bzz.model.json_schema import Catalog, Form
from bzz.resource import Resource
from bzz.resource.access import FieldAccess

__all__ = ["catalog_below", "catalog_of"]


def catalog_of(resource: Resource, catalog: Catalog) -> Catalog:
    """Return the catalog that describes a resource; what it describes lands in the one given."""
    fields = resource.fields
    return catalog if fields.is_open else _NarrowedCatalog(catalog, fields)


def catalog_below(resource: Resource, path: Sequence[str], schema: Schema, catalog: Catalog) -> Catalog:
    """Return the catalog that describes what is embedded in the documents of a resource, at these fields."""
    fields = resource.fields
    if fields.is_open:
        return catalog
    changeable = fields.changeable.at(path)
    return _NarrowedCatalog(catalog, _Below(schema, fields.readable.at(path), changeable, changeable))


@dataclass(frozen=True, eq=False)
class _Below:
    """What clients can see and set of an embedded document."""

    schema: Schema
    readable: Selection
    creatable: Selection
    changeable: Selection


class _NarrowedCatalog(Catalog):
    """A catalog whose documents of one model have only some of their fields.

    While a schema is made, ``_at`` is what is chosen of the object in hand, and ``_kept`` what of the rest
    may be sent as long as it is not changed.
    """

    def __init__(self, catalog: Catalog, fields: FieldAccess | _Below) -> None:
        self.root = catalog.root
        self.definitions = catalog.definitions
        self._names = catalog._names
        self._fields = fields
        self._at = ALL
        self._kept = NONE
        self._marks: dict[str, str] = {}

    def aside(self) -> Catalog:
        return _NarrowedCatalog(super().aside(), self._fields)

    def named(self, form: Form) -> Selection:
        chosen = {"output": self._fields.readable, "create": self._fields.creatable}
        return chosen.get(form, self._fields.changeable)

    @contextmanager
    def within(self, selection: Selection, kept: Selection = NONE) -> Iterator[None]:
        before = self._at, self._kept
        self._at, self._kept = selection, kept
        try:
            yield
        finally:
            self._at, self._kept = before

    def document(self, schema: Schema, form: Form) -> Json:
        kept = self._fields.readable if form in {"update", "replace"} else NONE
        self._marks = dict(self._marked(form))
        try:
            with self.within(self.named(form), kept):
                return super().document(schema, form)
        finally:
            self._marks = {}

    def members(self, schema: Schema) -> dict[str, Json]:
        with self.within(self._fields.readable):
            return super().members(schema)

    def refer(self, key: Any, name: str, schema: Json) -> Json:
        is_own = isinstance(key, tuple) and any(isinstance(each, Schema) for each in key)
        return super().refer((self._fields, *key) if is_own else key, name, schema)

    def chosen(self, schema: Schema) -> Iterable[tuple[str, FieldSpec]]:
        for name, spec in schema.fields.items():
            if not (self._at.below(name).is_none and self._kept.below(name).is_none):
                yield name, spec

    def takes_more(self, schema: Schema) -> bool:
        return schema.dynamic and self._takes_any(self._at)

    def more(self, schema: Schema) -> Iterable[str]:
        if not schema.dynamic or self._takes_any(self._at):
            return ()
        return [name for name in self._at.names if name not in schema.fields]

    @staticmethod
    def _takes_any(selection: Selection) -> bool:
        return not selection.below("").is_none  # no field has this name

    def _marked(self, form: Form) -> Iterator[tuple[str, str]]:
        """Yield the fields of the document that go only one way, and which."""
        fields = self._fields
        for name in fields.schema.fields:
            if form == "output" and fields.creatable.below(name).is_none:
                yield name, "readOnly"
            elif form != "output" and fields.readable.below(name).is_none:
                yield name, "writeOnly"

    def _refer(self, key: tuple[Any, ...], wanted: str, make: Any, *arguments: Any) -> Json:
        if not (self._at.is_all and self._kept.is_none):
            key = (repr(self._at), repr(self._kept), tuple(self._marks.items()), *key)
        return super()._refer(key, wanted, make, *arguments)

    def _member(self, schema: Schema, spec: FieldSpec, side: Side) -> Json:
        below, kept, marks = self._at.below(spec.name), self._kept.below(spec.name), self._marks
        self._marks = {}
        try:
            # A part that cannot be changed is best not sent at all; a whole field often is, in what GET gave.
            with self.within(ALL if below.is_none else below):
                shown = super()._member(schema, spec, side)
        finally:
            self._marks = marks
        if below.is_none and not kept.is_none:
            words = "Only as it is: it cannot be changed."
            return {**shown, "readOnly": True, "description": words}
        if spec.name in marks:
            return {**shown, marks[spec.name]: True}
        return shown

    def _is_required(self, spec: FieldSpec) -> bool:
        return not self._at.below(spec.name).is_none
