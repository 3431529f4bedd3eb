"""The OpenAPI 3.1 document of many resources and what stands beside them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bzz.http.gate import Gate
from bzz.model import Schema
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.nested import nested_paths
from bzz.openapi.operations import Identifiers, ResourcePaths
from bzz.openapi.service import BatchTerms, batch_path, probe_path, self_path
from bzz.openapi.webhooks import nested_webhooks, webhooks
from bzz.resource import Resource

__all__ = ["Description", "Mounted", "openapi"]


@dataclass(frozen=True)
class Mounted:
    """A resource, the class of the handler that serves it, the path of its collection, and its gate."""

    resource: Resource
    handler: Any
    path: str
    gate: Gate | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is to be described: all paths but ``prefix`` are below it; None is not there."""

    title: str
    version: str = "1"
    description: str = ""
    prefix: str = ""
    mounted: Sequence[Mounted] = field(default_factory=tuple)
    batch: BatchTerms | None = None
    health: str | None = None
    ready: str | None = None
    openapi: str | None = None


def openapi(described: Description) -> Json:
    """Return the document, as values for JSON.

    The order of paths and schemas is that of the resources and their fields: the same Api gives the same
    bytes in every process.
    """
    catalog = Catalog("#/components/schemas/")
    identifiers = Identifiers()
    paths: Json = {}
    heard: Json = {}
    parameters: Json = {}
    ones: dict[Resource, tuple[ResourcePaths, str]] = {}
    for each in described.mounted:
        one = ResourcePaths(each.resource, each.handler, each.path, catalog, identifiers, gate=each.gate)
        path = each.path.removeprefix(described.prefix)
        paths[path] = one.collection()
        paths[f"{path}/{{key}}"] = one.document()
        ones[one.resource] = one, path
        parameters |= one.parameters
        heard |= webhooks(one, catalog, identifiers)
    for one, path in ones.values():
        places = [*nested_paths(one, path, identifiers, {each: known for each, (known, _) in ones.items()})]
        below = {each.path: each.shown() for each in places}
        _link(paths[path], below)
        paths |= below
        heard |= nested_webhooks(places, catalog, identifiers)
    paths |= _service(described, catalog)
    info: Json = {"title": described.title, "version": described.version}
    if described.description:
        info["description"] = described.description
    return {
        "openapi": "3.1.0",
        "info": info,
        "servers": [{"url": described.prefix or "/"}],
        "tags": [_tag(each.resource) for each in described.mounted]
        + [{"name": "service", "description": "What belongs to no resource."}],
        "paths": paths,
        "webhooks": heard,
        "components": {"schemas": catalog.definitions, "parameters": parameters},
    }


def _link(collection: Json, below: Json) -> None:
    """Say how the key of what was created leads to what is below it."""
    created = collection.get("post", {}).get("responses", {}).get("201", {})
    known = next(iter(created.get("links", {}).values()), None)
    if known is None:
        return  # the key is not in the answer
    for path, item in below.items():
        for method, operation in item.items():
            if path.count("{") == 1 and method not in {"head", "options"}:
                identifier = operation["operationId"]
                created["links"][identifier] = {**known, "operationId": identifier}


def _service(described: Description, catalog: Catalog) -> Json:
    paths: Json = {}
    first = next((each.path for each in described.mounted), None)
    if described.batch is not None:
        paths[described.batch.path] = batch_path(described.batch, catalog, like=first)
    if described.health is not None:
        alive = "Whether the process is alive"
        paths[described.health] = probe_path("health", alive, "alive", catalog, can_fail=False)
    if described.ready is not None:
        ready = "Whether requests may be sent here"
        paths[described.ready] = probe_path("ready", ready, "ready", catalog, can_fail=True)
    if described.openapi is not None:
        paths[described.openapi] = self_path(catalog)
    return paths


def _tag(resource: Resource) -> Json:
    schema: Schema = resource.schema
    own = vars(schema.model).get("__doc__")
    text = " ".join(inspect.cleandoc(own).split("\n\n")[0].split()) if own else f"{schema.name} documents."
    return {"name": resource.name, "description": text}
