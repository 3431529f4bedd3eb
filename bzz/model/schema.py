"""A model as bzz reads it: once, into an immutable description."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from mongoengine import Document, fields
from mongoengine.base import BaseDocument, get_document
from mongoengine.errors import NotRegistered

from bzz.model.field import CustomSpec, FieldSpec, spec_for
from bzz.model.refusal import child, refuse, shorten

__all__ = ["Path", "Schema", "Stored"]

Stored = dict[str, Any]
Path = tuple[str, ...]

_UNTYPED = fields.DynamicField()
_schemas: dict[Any, Schema] = {}


class Schema:
    """What a document or embedded document class consists of.

    ``name`` is the name of the class, ``fields`` maps Python names to their :class:`FieldSpec` in declared
    order (without ``_cls``), ``by_db_name`` maps the names that MongoDB knows. ``dynamic`` classes take
    further fields; ``polymorphic`` ones keep their class in ``_cls``. Made by :meth:`of` only.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = model.__name__
        self.class_name: str = model._class_name
        self.dynamic = bool(model._dynamic)
        self.polymorphic = bool(model._meta.get("allow_inheritance"))
        self.is_document = bool(model._is_document)
        names = [name for name in model._fields_ordered if name != "_cls" and name in model._fields]
        self.fields: Mapping[str, FieldSpec] = MappingProxyType(
            {name: spec_for(model._fields[name], name) for name in names}
        )
        self.primary: FieldSpec | None = None
        if self.is_document and model._meta.get("id_field"):
            self.primary = self.fields[model._meta["id_field"]]
            self.primary.db_name = "_id"
        self.by_db_name: Mapping[str, FieldSpec] = MappingProxyType(
            {spec.db_name: spec for spec in self.fields.values()}
        )

    def __repr__(self) -> str:
        return f"<Schema of {self.class_name}>"

    @classmethod
    def of(cls, model: Any) -> Schema:
        """Return the description of this class; always the same object for the same class."""
        schema = _schemas.get(model)
        if schema is None:
            # Two threads may both build one; whichever is stored first is everybody's.
            schema = _schemas.setdefault(model, cls(model))
        return schema

    @cached_property
    def columns(self) -> tuple[tuple[str, str, FieldSpec], ...]:
        """Each field with its name and the one that MongoDB knows, for loops that run often."""
        return tuple((name, spec.db_name, spec) for name, spec in self.fields.items())

    @cached_property
    def key(self) -> FieldSpec:
        """The field whose value stands in URLs: what ``get_id_field_name()`` says, else the primary key."""
        name = _key_name(self.model)
        if name is None:
            if self.primary is None:
                raise TypeError(f"{self.name} has no key: it is abstract or an embedded document")
            return self.primary
        if name == "pk" and self.primary is not None:
            return self.primary
        spec = self.fields.get(name) or self.by_db_name.get(name)
        if spec is None:
            raise TypeError(f"{self.name}.get_id_field_name() names {name!r}, which is not a field")
        return spec

    @property
    def automatic_key(self) -> bool:
        """Whether the primary key is the ObjectId that mongoengine adds and MongoDB's drivers make up."""
        return self.primary is not None and not self.primary.field.primary_key

    @property
    def subclasses(self) -> Mapping[str, Any]:
        """The classes that documents of this one may have, by their ``_cls``; later ones are found too."""
        return {name: cls for name in self.model._subclasses if (cls := self._registered(name)) is not None}

    def subclass(self, name: object) -> Schema | None:
        """Return the schema of the class with this ``_cls`` if it is this class or below it."""
        if name == self.class_name:
            return self
        found = self._registered(name) if isinstance(name, str) else None
        return Schema.of(found) if found is not None else None

    def _registered(self, name: str) -> Any:
        try:
            found = get_document(name)
        except NotRegistered:
            return None
        return found if found._class_name == name and issubclass(found, self.model) else None

    def of_stored(self, stored: Stored) -> Schema:
        """Return the schema of the concrete class of a stored document; this one if it names no other."""
        if not self.polymorphic:
            return self
        return self.subclass(stored.get("_cls")) or self

    @property
    def scope(self) -> dict[str, Any]:
        """The filter that keeps other classes of the same collection out, fresh; {} for a root class."""
        if "." not in self.class_name or not self.polymorphic:
            return {}
        names = list(self.model._subclasses)
        return {"_cls": names[0] if len(names) == 1 else {"$in": names}}

    def at(self, path: Path) -> FieldSpec:
        """Return the field at a path of field names; raises ValidationError for an unknown one."""
        pointer, schema = "", self
        for position, name in enumerate(path, 1):
            pointer = child(pointer, name)
            spec = schema.field(name, pointer)
            if position == len(path):
                return spec
            if spec.embedded is None:
                raise refuse(pointer, "has no fields of its own")
            schema = spec.embedded
        raise refuse("", "the path is empty")

    def field(self, name: str, pointer: str) -> FieldSpec:
        """Return the field of this name, a dynamic one if the class takes it; raises ValidationError."""
        spec = self.fields.get(name)
        if spec is not None:
            return spec
        if not self.dynamic:
            raise refuse(pointer, f"unknown field {shorten(name)!r}" if pointer else "unknown field")
        if not self.accepts(name):
            raise refuse(pointer, "this name cannot be a field")
        return self.untyped(name)

    def accepts(self, name: str) -> bool:
        """Whether a dynamic class may take a field of this name: it must hide nothing of the class."""
        if not name or name.startswith(("_", "$")) or "." in name or not name.isprintable():
            return False
        if (
            name in ("pk", "id")
            or name in self.by_db_name
            or (name[:4] == "get_" and name[-8:] == "_display")
        ):
            return False
        # Not hasattr(): reading ``objects`` would connect.
        return not any(name in vars(cls) for cls in self.model.__mro__)

    def field_path(self, db_path: str) -> str:
        """Translate a dotted path of MongoDB into one of field names; what no field knows stays as it is."""
        names: list[str] = []
        at: Schema | None = self
        for part in db_path.split("."):
            spec = at.by_db_name.get(part) if at is not None else None
            names.append(part if spec is None else spec.name)
            if spec is not None:
                at = spec.embedded or (spec.item.embedded if spec.item is not None else None)
            elif not part.isdigit():
                at = None
        return ".".join(names)

    @staticmethod
    def untyped(name: str) -> FieldSpec:
        """Describe a dynamic field."""
        return spec_for(_UNTYPED, name)

    @cached_property
    def overrides(self) -> frozenset[str]:
        """What the model changes or needs: names out of a fixed set.

        ``save`` and ``delete``: the class has its own. ``clean`` and ``validate``: it or an embedded
        document at any depth has. ``to_dict``: it has one. ``files`` and ``sequences``: a field at any
        depth is one.
        """
        found = {
            name for name in ("save", "delete") if self.is_document and _changes(self.model, name, Document)
        }
        if hasattr(self.model, "to_dict"):
            found.add("to_dict")
        for schema in self.reachable():
            found.update(name for name in ("clean", "validate") if _changes(schema.model, name, BaseDocument))
            for spec in schema.fields.values():
                found.update(_needs(spec))
        return frozenset(found)

    @cached_property
    def self_contained(self) -> bool:
        """Whether no value of a body is ever incomplete: no sequence, no cached reference at any depth."""
        specs = [spec for schema in self.reachable() for spec in schema.fields.values()]
        return not any(_is_open(spec) for spec in specs)

    def reachable(self) -> Iterator[Schema]:
        """Yield this schema and that of every embedded document class that can stand below it."""
        seen: list[Schema] = [self]
        for schema in seen:
            yield schema
            for spec in schema.fields.values():
                for below in _embedded(spec):
                    for cls in below.subclasses.values():
                        if Schema.of(cls) not in seen:
                            seen.append(Schema.of(cls))


def _plain(spec: FieldSpec) -> FieldSpec:
    """Look through a user's field class at what it derives from."""
    return spec.origin if isinstance(spec, CustomSpec) else spec


def _embedded(custom: FieldSpec) -> Iterator[Schema]:
    spec = _plain(custom)
    if spec.embedded is not None:
        yield spec.embedded
    yield from spec.candidates
    if spec.item is not None:
        yield from _embedded(spec.item)


def _needs(custom: FieldSpec) -> Iterator[str]:
    spec = _plain(custom)
    if isinstance(spec.field, fields.FileField):
        yield "files"
    if spec.automatic:
        yield "sequences"
    if spec.item is not None:
        yield from _needs(spec.item)


def _is_open(custom: FieldSpec) -> bool:
    spec = _plain(custom)
    if isinstance(spec.field, (fields.CachedReferenceField, fields.GenericEmbeddedDocumentField)):
        return True
    return spec.automatic or (spec.item is not None and _is_open(spec.item))


def _changes(model: Any, name: str, origin: Any) -> bool:
    return getattr(model, name) is not getattr(origin, name)


def _key_name(model: Any) -> str | None:
    if not hasattr(model, "get_id_field_name"):
        return None
    static = inspect.getattr_static(model, "get_id_field_name")
    if isinstance(static, (classmethod, staticmethod)) or not inspect.signature(static).parameters:
        name = model.get_id_field_name()
    else:
        name = model().get_id_field_name()  # an instance method: asked on an empty document
    return name if isinstance(name, str) else getattr(name, "name", None)
