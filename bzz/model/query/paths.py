"""Dotted names of fields, as they stand in URLs, and where MongoDB keeps what they name."""

from __future__ import annotations

from typing import NamedTuple

from bzz.model.field import CustomSpec, FieldSpec
from bzz.model.schema import Schema

__all__ = ["Found", "element_of", "find", "plain"]

MAX_PATH = 32


class Found(NamedTuple):
    """A declared field: its dotted name and its path in MongoDB.

    ``below_list`` says that a list is on the way, so that a document may have several of it.
    """

    name: str
    path: str
    spec: FieldSpec
    below_list: bool

    @property
    def in_list(self) -> bool:
        """Whether a list is on the way, or is what is found."""
        return self.below_list or self.spec.repeatable

    @property
    def element(self) -> FieldSpec:
        """What one value of this field is: of a list, its item."""
        return element_of(self.spec)


def plain(spec: FieldSpec) -> FieldSpec:
    """Look through a user's field class at what it derives from."""
    return spec.origin if isinstance(spec, CustomSpec) else spec


def element_of(spec: FieldSpec) -> FieldSpec:
    """Return how one value travels: of a list, its item."""
    return spec.item if spec.repeatable and spec.item is not None else spec


def find(schema: Schema, name: str) -> Found | None:
    """Find a declared field by its dotted name; the path is built from the model's own names only."""
    parts = name.split(".", MAX_PATH)
    if len(parts) > MAX_PATH:
        return None
    names: list[str] = []
    at: Schema | None = schema
    spec: FieldSpec | None = None
    below_list = False
    for part in parts:
        below_list = below_list or (spec is not None and spec.repeatable)
        spec = at.fields.get(part) if at is not None else None
        if spec is None:
            return None
        names.append(spec.db_name)
        at = spec.embedded or (element_of(spec).embedded if spec.repeatable else None)
    return Found(name, ".".join(names), spec, below_list) if spec is not None else None
