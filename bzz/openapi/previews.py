"""What ``Prefer: dry-run`` is answered with: see :mod:`bzz.resource.preview`."""

from __future__ import annotations

from bzz.model import Schema
from bzz.model.json_diff import diff_schema
from bzz.model.json_forms import Json, nullable
from bzz.model.json_schema import Catalog

__all__ = ["preview_schema", "unmade"]


def preview_schema(schema: Schema, method: str, catalog: Catalog) -> Json:
    """Return a reference to the schema of what a write with this method would do."""
    members: dict[str, Json] = {
        "dry_run": {"const": True},
        "status": {"type": "integer", "description": "What the write would be answered with."},
        "document": unmade(schema, catalog) if method == "POST" else catalog.document(schema, "output"),
        "etag": {"type": "string", "description": "The state that this holds for; send it as If-Match."},
        "unchecked": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What only the write itself would show.",
        },
    }
    if method in {"PUT", "PATCH"}:
        members["diff"] = diff_schema(schema, catalog)
    shown: Json = {
        "type": "object",
        "description": "What a write would do. Nothing was done.",
        "properties": members,
        "required": [name for name in members if name != "etag"],
    }
    kind = {"POST": "Create", "DELETE": "Delete"}.get(method, "Update")
    return catalog.refer((schema, "preview", kind), f"{schema.name}{kind}Preview", shown)


def unmade(schema: Schema, catalog: Catalog) -> Json:
    """Return the schema of a document that is not stored: it may lack its key and other made up values."""
    if "to_dict" in schema.overrides:
        return catalog.document(schema, "output")
    members = {name: nullable(member) for name, member in catalog.members(schema).items()}
    return {"type": "object", "properties": members, "required": [*members]}
