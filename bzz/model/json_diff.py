"""The JSON Schema of a diff: what ``updated_fields`` of a model can hold, typed per dotted field."""

from __future__ import annotations

from collections.abc import Iterator

from bzz.model.field import FieldSpec
from bzz.model.json_forms import Json, described, nullable
from bzz.model.json_schema import Catalog
from bzz.model.schema import Schema

__all__ = ["diff_schema"]


def diff_schema(schema: Schema, catalog: Catalog) -> Json:
    """Return a reference to the schema of ``{"address.city": {"from": old, "to": new}}``.

    Every path is a member of its own. An embedded document has one for the whole, for when it comes, goes or
    changes its class, and one for each of its fields. What cannot be listed, the fields of dynamic documents
    and of embedded documents within themselves, is a change of anything.
    """
    sides: dict[str, list[Json]] = {}
    is_open = False
    readable = catalog.named("output")
    for path, spec, at_end in _paths(schema, "", ()):
        is_open = is_open or at_end
        if spec is None:
            is_open = True
            continue
        seen = readable.at(path.split("."))
        if seen.is_none:
            continue
        with catalog.within(seen):
            shown = nullable(described(spec, "output", catalog))
        known = sides.setdefault(path, [])
        known += [] if shown in known else [shown]
    members = {path: _change(each[0] if len(each) == 1 else {"anyOf": each}) for path, each in sides.items()}
    made: Json = {
        "type": "object",
        "description": f"What one write changed of a {schema.name}, by dotted field.",
        "properties": members,
        "additionalProperties": _change({}) if is_open else False,
    }
    return catalog.refer((schema, "diff"), f"{schema.name}Diff", made)


def _change(side: Json) -> Json:
    return {
        "type": "object",
        "properties": {"from": side, "to": side},
        "required": ["from", "to"],
        "additionalProperties": False,
    }


def _paths(
    schema: Schema, prefix: str, above: tuple[Schema, ...]
) -> Iterator[tuple[str, FieldSpec | None, bool]]:
    """Yield every path with its field, and whether it ends in a class that holds itself.

    A class that takes any field yields one path without.
    """
    classes = {schema, *map(Schema.of, schema.subclasses.values())} if schema.polymorphic else {schema}
    for each in sorted(classes, key=lambda one: one.class_name):
        if each.dynamic:
            yield prefix, None, False
        for name, spec in each.fields.items():
            below = spec.embedded
            ends = below is not None and below in above
            yield f"{prefix}{name}", spec, ends
            if below is not None and not ends:
                yield from _paths(below, f"{prefix}{name}.", (*above, below))
