"""What is shown of a document when it was asked for less, or for more: ``fields`` and ``expand``."""

from __future__ import annotations

from bzz.model import Schema
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.resource.operation import Options

__all__ = ["part_schema"]


def part_schema(schema: Schema, options: Options, catalog: Catalog, *, of_list: bool = True) -> Json:
    """Return the schema of one item of a list, or of one document: whole, or what of it was asked for."""
    whole = catalog.document(schema, "output")
    if of_list and options.aggregations:
        rows = {"type": "object", "description": "A document, a part of one, or a row of an aggregation."}
        return {"anyOf": [whole, rows]}
    if "to_dict" in schema.overrides:
        return whole
    members: dict[str, list[Json]] = {}
    for each in _classes(schema):
        for name, member in catalog.members(each).items():
            cut = {} if _is_cut(each, name, options) else member
            known = members.setdefault(name, [])
            known += [] if cut in known else [cut]
    part: Json = {
        "type": "object",
        "description": f"What `fields` and `expand` show of a {schema.name}.",
        "properties": {name: one[0] if len(one) == 1 else {"anyOf": one} for name, one in members.items()},
        "required": [schema.key.name],
    }
    if any(each.dynamic for each in _classes(schema)):
        part["additionalProperties"] = True
    return {"anyOf": [whole, catalog.refer((schema, "part"), f"{schema.name}Part", part)]}


def _classes(schema: Schema) -> list[Schema]:
    return [Schema.of(cls) for cls in schema.subclasses.values()] if schema.polymorphic else [schema]


def _is_cut(schema: Schema, name: str, options: Options) -> bool:
    """Whether a member may look otherwise than in the whole document: cut, or read from elsewhere."""
    if name == "_cls":
        return False
    spec = schema.fields[name]
    if any(path.split(".")[0] == name for path in options.expandable):
        return True
    return spec.embedded is not None or (spec.item is not None and spec.item.embedded is not None)
