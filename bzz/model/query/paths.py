"""Dotted names of fields, as they stand in URLs, and where MongoDB keeps what they name."""

from __future__ import annotations

from typing import NamedTuple

from bzz.model.field import CustomSpec, FieldSpec
from bzz.model.schema import Schema

__all__ = ["Found", "element_of", "find", "plain"]

MAX_PATH = 32


class Found(NamedTuple):
    """A declared field: its dotted name, its path in MongoDB, and whether a list is, or is on, the way."""

    name: str
    path: str
    spec: FieldSpec
    in_list: bool

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
    in_list = False
    for part in parts:
        spec = at.fields.get(part) if at is not None else None
        if spec is None:
            return None
        names.append(spec.db_name)
        at = spec.embedded or (element_of(spec).embedded if spec.repeatable else None)
        in_list = in_list or spec.repeatable
    return Found(name, ".".join(names), spec, in_list) if spec is not None else None
