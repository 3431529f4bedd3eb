"""The signals of a resource, as OpenAPI's webhooks: what is said, and when."""

from __future__ import annotations

from bzz import signals
from bzz.model.json_diff import diff_schema
from bzz.model.json_example import NONE, example
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import content
from bzz.openapi.operations import Identifiers, ResourcePaths

__all__ = ["webhooks"]

_NEEDS = {
    "post_create_instance": {"POST"},
    "post_update_instance": {"PUT", "PATCH"},
    "post_delete_instance": {"DELETE"},
}


def webhooks(paths: ResourcePaths, catalog: Catalog, identifiers: Identifiers) -> dict[str, Json]:
    """Return a webhook for each change that the methods of a resource can make."""
    methods = {*paths.methods(on_item=False), *paths.methods(on_item=True)}
    name = paths.resource.name
    return {
        f"{name}.{signal}": {"post": _operation(signal, paths, catalog, identifiers)}
        for signal, needed in _NEEDS.items()
        if methods & needed
    }


def _operation(signal: str, paths: ResourcePaths, catalog: Catalog, identifiers: Identifiers) -> Json:
    told = (getattr(signals, signal).__doc__ or "").split("\n\n")[0]
    body = _body(signal, paths, catalog)
    made = example(body, catalog)
    if made is not NONE and "updated_fields" in made:
        made["updated_fields"] = dict(list(made["updated_fields"].items())[1:2])  # not of the key
    return {
        "operationId": identifiers.take(f"{signal}_{paths.resource.name}"),
        "summary": told,
        "description": (
            f"The signal `{signal}` of `{paths.schema.name}`. Receivers run in the server or in a worker; "
            "who forwards it over HTTP sends this."
        ),
        "tags": [paths.resource.name],
        "requestBody": {"required": True, "content": content(body, made)},
        "responses": {"2XX": {"description": "It was heard. Nothing can be undone any more."}},
    }


def _body(signal: str, paths: ResourcePaths, catalog: Catalog) -> Json:
    schema = paths.schema
    members: dict[str, Json] = {
        "signal": {"const": signal},
        "sender": {"type": "string", "description": "The name of the model.", "examples": [schema.name]},
        "instance": catalog.document(schema, "output"),
    }
    if signal == "post_update_instance":
        members["updated_fields"] = diff_schema(schema, catalog)
    shown = {"type": "object", "properties": members, "required": [*members]}
    what = signal.removeprefix("post_").removesuffix("_instance").capitalize()
    return catalog.refer((schema, signal), f"{schema.name}{what}Signal", shown)
