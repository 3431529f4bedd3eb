"""The bodies that requests may have: JSON, forms, and patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bzz.model import FieldSpec, Schema, Selection
from bzz.model.containers import MapSpec
from bzz.model.dynamic import UntypedSpec
from bzz.model.embedding import EmbeddedSpec, EmbeddingSpec
from bzz.model.field import CustomSpec
from bzz.model.geo import PlaceSpec
from bzz.model.json_example import NONE, example
from bzz.model.json_forms import Json, described, is_textual, nullable, or_empty
from bzz.model.json_schema import Catalog, Form, is_needed, takes_null
from bzz.openapi.answers import content

__all__ = ["JSON_PATCH", "patch_content", "write_content"]

FORM_TYPE = "application/x-www-form-urlencoded"

_POINTER: Json = {"type": "string", "format": "json-pointer", "pattern": "^(/([^/~]|~[01])*)*$"}
JSON_PATCH: Json = {
    "type": "array",
    "description": "RFC 6902.",
    "maxItems": 1000,
    "items": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"op": {"enum": ["add", "replace", "test"]}, "path": _POINTER, "value": {}},
                "required": ["op", "path", "value"],
            },
            {
                "type": "object",
                "properties": {"op": {"const": "remove"}, "path": _POINTER},
                "required": ["op", "path"],
            },
            {
                "type": "object",
                "properties": {"op": {"enum": ["move", "copy"]}, "path": _POINTER, "from": _POINTER},
                "required": ["op", "path", "from"],
            },
        ]
    },
}


def write_content(schema: Schema, form: Form, catalog: Catalog) -> Json:
    """Return the media types of POST and PUT; a form only where a form can say everything that is needed."""
    shown = catalog.document(schema, form)
    made = example(shown, catalog, every=form != "update")
    if form == "update":
        made = _one_field(shown, catalog)
    found = content(shown, made)
    members = _form(schema, form, catalog)
    if members is not None:
        found[FORM_TYPE] = {
            "schema": catalog.refer((schema, form, "form"), f"{schema.name}{form.title()}Form", members)
        }
    return found


def patch_content(schema: Schema, media_types: list[str], catalog: Catalog) -> Json:
    """Return the media types of PATCH, of those that the server takes."""
    merge: Json = {
        "description": "RFC 7396: what is named is changed, null is removed, embedded objects in parts.",
        **_parts(schema, catalog, catalog.named("update"), ()),
    }
    # Only for the example: what a PUT may hold is perhaps no part of the document.
    aside = catalog.aside()
    change = _one_field(aside.document(schema, "update"), aside)
    found: Json = {}
    for media_type in media_types:
        if media_type.endswith("json-patch+json"):
            known = catalog.refer("json-patch", "JsonPatch", JSON_PATCH)
            steps = [{"op": "replace", "path": f"/{name}", "value": value} for name, value in change.items()]
            found |= content(known, steps, media_type=media_type)
        else:
            shown = catalog.refer((schema, "merge"), f"{schema.name}Patch", merge)
            found |= content(shown, change, media_type=media_type)
    return found


def _parts(schema: Schema, catalog: Catalog, chosen: Selection, above: tuple[Schema, ...]) -> Json:
    """Return the schema of an object of which a merge patch names what is to change."""
    inner = (*above, schema)
    parts: Json = {
        "type": "object",
        "properties": {
            name: {
                **_mergeable(spec, catalog, chosen.below(name), inner),
                **({"readOnly": True} if spec is schema.primary else {}),
            }
            for name, spec in schema.fields.items()
            if not chosen.below(name).is_none
        },
    }
    if schema.polymorphic or _takes_more(schema, chosen):
        return parts
    if schema.dynamic:
        parts["properties"] |= {name: {} for name in chosen.names if name not in schema.fields}
    return {**parts, "additionalProperties": {"type": "null"}}


def _takes_more(schema: Schema, chosen: Selection) -> bool:
    """Tell whether an object may have members that no field describes."""
    return schema.dynamic and not chosen.below("").is_none  # no field has this name


def _mergeable(spec: FieldSpec, catalog: Catalog, chosen: Selection, above: tuple[Schema, ...]) -> Json:
    """Return the schema of a member of a merge patch; of an object that may be anything, little."""
    if isinstance(spec, EmbeddedSpec) and spec.embedded is not None and spec.embedded not in above:
        shown = _parts(spec.embedded, catalog, chosen, above)
        return nullable(shown) if takes_null(spec) else shown
    if isinstance(spec, (EmbeddingSpec, MapSpec)):
        return {"type": ["object", "null"] if takes_null(spec) else "object"}
    if isinstance(spec, PlaceSpec):
        return _place(spec, catalog)
    if isinstance(spec, (UntypedSpec, CustomSpec)):
        return {}
    shown = described(spec, "input", catalog)
    return nullable(shown) if takes_null(spec) else shown


def _place(spec: PlaceSpec, catalog: Catalog) -> Json:
    """Return the schema of a place in a merge patch: whole, or a GeoJSON object in parts."""
    shown = described(spec, "input", catalog)
    for each in shown.get("anyOf", ()):
        each.pop("required", None)
    return nullable(shown) if takes_null(spec) else shown


def _one_field(shown: Json, catalog: Catalog) -> Any:
    """Return an example that changes the first field of an update that can be changed."""
    resolved = catalog.resolve(shown)
    while "anyOf" in resolved:
        resolved = catalog.resolve(resolved["anyOf"][0])
    for name, member in resolved["properties"].items():
        if "cannot be changed" in member.get("description", ""):
            continue
        value = example(member, catalog)
        if value is not NONE:
            return {name: value}
    return {}


# Forms ------------------------------------------------------------------------------------------------------


def _form(schema: Schema, form: Form, catalog: Catalog) -> Json | None:
    properties: dict[str, Json] = {}
    required: list[str] = []
    together: dict[str, list[str]] = {}
    chosen = catalog.named(form)
    for name, spec, needed, siblings in _leaves(schema, "", (), form):
        if chosen.at(name.split(".")).is_none:
            continue
        if spec is None:
            if needed:
                return None  # a form cannot say it, so it cannot make a document
            continue
        shown = described(spec, "text", catalog)
        properties[name] = _or_nothing(spec, shown) if takes_null(spec) else _something(spec, shown)
        if spec is schema.primary and form != "create":
            properties[name] = {**properties[name], "readOnly": True}
        if needed:
            required.append(name)
        if siblings and form != "update":
            together[name] = siblings
    made: Json = {"type": "object", "properties": properties}
    if required:
        made["required"] = required
    if together:
        made["dependentRequired"] = together
    return made if _takes_more(schema, chosen) else {**made, "additionalProperties": False}


def _or_nothing(spec: FieldSpec, shown: Json) -> Json:
    """Return the schema of a value that a form may also leave empty; of a text that is a text."""
    if spec.textual:
        return shown
    if not spec.repeatable:
        return or_empty(shown)
    if spec.item is None or spec.item.textual:
        return shown
    nothing = {"type": "array", "items": {"const": ""}, "minItems": 1, "maxItems": 1}
    return {"anyOf": [_without_empty(shown), nothing]}


def _something(spec: FieldSpec, shown: Json) -> Json:
    """Return the schema of a value that may not be empty where that would be null."""
    if spec.textual:
        return shown
    if not spec.repeatable:
        return _not_empty(shown)
    return shown if spec.item is None or spec.item.textual else _without_empty(shown)


def _without_empty(shown: Json) -> Json:
    """Return the schema of an array of texts where the empty one, which is null, may not be among others."""
    return {**shown, "items": _not_empty(shown.get("items", {}))}


def _not_empty(shown: Json) -> Json:
    """Return the schema of a text that is not empty, if the one given does not say so already."""
    return {"minLength": 1, **shown} if shown.get("type") == "string" and "pattern" not in shown else shown


def _leaves(
    schema: Schema, prefix: str, above: tuple[Schema, ...], form: Form, *, needed_so_far: bool = True
) -> Iterator[tuple[str, FieldSpec | None, bool, list[str]]]:
    """Yield each dotted name with its field (None: a form cannot write it), whether a form must have it, and
    which others must be there if it is.
    """
    own = [name for name, spec in schema.fields.items() if is_needed(spec) and is_textual(spec)]
    siblings = [f"{prefix}{name}" for name in own] if prefix else []
    for name, spec in schema.fields.items():
        if schema.automatic_key and spec is schema.primary:
            continue
        needed = needed_so_far and form != "update" and is_needed(spec)
        if spec is schema.primary and form != "create":
            needed = False
        at = f"{prefix}{name}"
        if is_textual(spec):
            yield at, spec, needed, [each for each in siblings if each != at]
        elif spec.embedded is not None and spec.embedded not in above:
            inner = (*above, schema)
            yield from _leaves(spec.embedded, f"{at}.", inner, form, needed_so_far=needed)
        else:
            yield at, None, needed, []
