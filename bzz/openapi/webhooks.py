"""The signals of a resource, as OpenAPI's webhooks: what is said, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bzz import signals
from bzz.model import Schema
from bzz.model.json_diff import diff_schema
from bzz.model.json_example import NONE, example
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import content
from bzz.openapi.nested import NestedPath
from bzz.openapi.operations import Identifiers, ResourcePaths

__all__ = ["nested_webhooks", "webhooks"]

_NEEDS = {
    "post_create_instance": {"POST"},
    "post_update_instance": {"PUT", "PATCH"},
    "post_delete_instance": {"DELETE"},
}


def webhooks(paths: ResourcePaths, catalog: Catalog, identifiers: Identifiers) -> dict[str, Json]:
    """Return a webhook for each change that the methods of a resource can make."""
    methods = {*paths.methods(on_item=False), *paths.methods(on_item=True)}
    schema, name = paths.schema, paths.resource.name
    found: dict[str, Json] = {}
    for signal, needed in _NEEDS.items():
        if methods & needed:
            members = _members(signal, schema, catalog)
            if signal == "post_update_instance":
                members["updated_fields"] = diff_schema(schema, catalog)
            shown = catalog.refer((schema, signal), f"{schema.name}{_what(signal)}Signal", _object(members))
            made = example(shown, catalog)
            if made is not NONE and "updated_fields" in made:
                made["updated_fields"] = dict(list(made["updated_fields"].items())[1:2])  # not of the key
            identifier = identifiers.take(f"{signal}_{name}")
            found[f"{name}.{signal}"] = _webhook(
                signal, f"`{schema.name}`", name, identifier, content(shown, made)
            )
    return found


def nested_webhooks(
    places: Iterable[NestedPath], catalog: Catalog, identifiers: Identifiers
) -> dict[str, Json]:
    """Return a webhook for each change that the methods below the documents of a resource can make.

    What only concerns a document that is referred to is told as a change of that document.
    """
    found: dict[str, Json] = {}
    for place in places:
        owner, schema, fields = place.owner, place.property.schema, place.fields
        for signal in _told(place):
            name = f"{owner.name}.{'.'.join(fields)}.{signal}"
            if name in found:
                continue
            key, title = (owner.schema, fields, signal), "".join(each.title() for each in fields)
            members = _members(signal, schema, catalog) | {
                "owner": catalog.document(owner.schema, "output"),
                "path": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "The names and keys that lead there from the owner.",
                },
                "updated_fields": diff_schema(owner.schema, catalog),
            }
            shown = catalog.refer(key, f"{owner.schema.name}{title}{_what(signal)}Signal", _object(members))
            made = example(shown, catalog)
            if made is not NONE:
                changes = made["updated_fields"].items()
                made["updated_fields"] = dict([each for each in changes if each[0] == fields[0]][:1])
                made["path"] = [*place.names]
            identifier = identifiers.take(f"{signal}_{owner.name}_{'_'.join(fields)}")
            whose = f"`{schema.name}`, below a `{owner.schema.name}`"
            found[name] = _webhook(signal, whose, owner.name, identifier, content(shown, made))
    return found


def _told(place: NestedPath) -> list[str]:
    """Return the signals of the model of a property that changes at a place can send."""
    if place.nested.target is None:
        return [signal for signal, needed in _NEEDS.items() if needed & {*place.methods}]
    sets = [each for each in place.methods if place.associates(each) and each != "DELETE"]
    gone = ["post_delete_instance"] if "DELETE" in place.methods else []
    return [*(["post_create_instance"] if sets else []), *gone]


def _members(signal: str, schema: Schema, catalog: Catalog) -> dict[str, Json]:
    return {
        "signal": {"const": signal},
        "sender": {"type": "string", "description": "The name of the model.", "examples": [schema.name]},
        "instance": catalog.document(schema, "output"),
    }


def _object(members: Json) -> Json:
    return {"type": "object", "properties": members, "required": [*members]}


def _what(signal: str) -> str:
    return signal.removeprefix("post_").removesuffix("_instance").capitalize()


def _webhook(signal: str, whose: str, tag: str, identifier: str, body: Any) -> Json:
    return {
        "post": {
            "operationId": identifier,
            "summary": (getattr(signals, signal).__doc__ or "").split("\n\n")[0],
            "description": (
                f"The signal `{signal}` of {whose}. Receivers run in the server or in a worker; "
                "who forwards it over HTTP sends this."
            ),
            "tags": [tag],
            "requestBody": {"required": True, "content": body},
            "responses": {"2XX": {"description": "It was heard. Nothing can be undone any more."}},
        }
    }
