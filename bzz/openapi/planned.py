"""One operation of a batch, by what its method means on its path."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.bodies import JSON_PATCH
from bzz.openapi.parameters import TAGS

__all__ = ["planned_operation"]

_KEY = r"([^/?#%]|%[0-7][0-9A-Fa-f])+"
_NO_BODY: Json = {"body": {"type": "null"}, "if_match": {"type": "null"}}


def planned_operation(collections: Sequence[str], prefix: str, switches: Json, catalog: Catalog) -> Json:
    """Return the schema of an operation on these collections, whose paths may leave out the prefix."""
    names = "|".join(re.escape(each.removeprefix(prefix)) for each in collections)
    collection = f"^({re.escape(prefix)})?({names})" if prefix else f"^({names})"
    body: Json = {"type": ["object", "null"]}
    patch = catalog.refer("json-patch", "JsonPatch", JSON_PATCH)
    if_match = {**TAGS, "type": ["string", "null"], "description": "As in the header If-Match."}
    kinds: list[tuple[str, str, Json]] = [
        ("GET", rf"{collection}/?(\?([^#%]|%[0-7][0-9A-Fa-f])*)?$", _NO_BODY),
        ("POST", f"{collection}/?$", {"body": body, "if_match": {"type": "null"}}),
        ("GET", f"{collection}/{_KEY}/?$", _NO_BODY),
        ("PUT", f"{collection}/{_KEY}/?$", {"body": body, "if_match": if_match}),
        ("PATCH", f"{collection}/{_KEY}/?$", {"body": {"anyOf": [body, patch]}, "if_match": if_match}),
        ("DELETE", f"{collection}/{_KEY}/?$", {"body": {"type": "null"}, "if_match": if_match}),
    ]
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "method": {"const": method},
                    "path": {"type": "string", "maxLength": 4096, "pattern": path},
                    **members,
                    "switches": switches,
                },
                "required": ["method", "path"],
                "additionalProperties": False,
            }
            for method, path, members in kinds
        ]
    }
