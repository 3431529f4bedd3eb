"""The paths below one document: its embedded documents, and what it refers to.

Paths do not go on through references: what is below the document there is described at its own resource, and
is the same here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bzz import model as typed
from bzz.http import request
from bzz.model import FieldSpec, Property, Schema
from bzz.model.json_example import NONE, example
from bzz.model.json_forms import Json, form
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import bodiless, content, limited
from bzz.openapi.bodies import FORM_TYPE, patch_content, write_content
from bzz.openapi.narrowed import catalog_below, catalog_of
from bzz.openapi.nested_answers import Answering
from bzz.openapi.operations import Identifiers, ResourcePaths
from bzz.openapi.parameters import (
    TAGS,
    conditional_headers,
    key_header,
    key_parameter,
    list_parameters,
    prefer_header,
)
from bzz.resource import Resource
from bzz.resource.nested import names_of, nested_at
from bzz.resource.nested_reference import MAX_ASSOCIATED

__all__ = ["NestedPath", "nested_paths"]

#: Entity tags, and not any state at all.
_NAMED: Json = {
    **TAGS,
    "pattern": TAGS["pattern"].replace(r"\*|", "", 1),
    "examples": ['"5d41402abc4b2a76b9719d911017c592"'],
}


def nested_paths(
    one: ResourcePaths, path: str, identifiers: Identifiers, known: Mapping[Resource, ResourcePaths]
) -> Iterator[NestedPath]:
    """Yield each path below the documents of a resource that has any methods.

    ``one`` has the paths of the resource itself, ``path`` is that of its collection in the description.
    ``known`` are the paths of all resources that are described.
    """
    above = ((), f"{path}/{{key}}", [key_parameter(one.schema, one.catalog)])
    for place in _places(names_of(one.resource), above, (one.schema,)):
        found = NestedPath(one, place, identifiers, known)
        if found.methods:
            yield found


class _Place:
    """A path, its parameters, and the names and keys (any) that lead there from the document."""

    def __init__(self, prop: Property, names: tuple[str, ...], path: str, parameters: list[Json]) -> None:
        self.property = prop
        self.names = names
        self.path = path
        self.parameters = parameters


def _places(known: Mapping[str, Property], above: Any, classes: tuple[Schema, ...]) -> Iterator[_Place]:
    names, path, parameters = above
    for name, prop in known.items():
        if not prop.is_usable:
            continue
        here = (*names, name), f"{path}/{name}", parameters
        yield _Place(prop, *here)
        if prop.many:
            parameter = _item_key(prop, [*names, name])
            here = (*names, name, "0"), f"{path}/{name}/{{{parameter['name']}}}", [*parameters, parameter]
            yield _Place(prop, *here)
        if not prop.refers and prop.schema not in classes:
            yield from _places(typed.properties(prop.schema), here, (*classes, prop.schema))


def _item_key(prop: Property, names: list[str]) -> Json:
    name = "_".join([*(each for each in names if not each.isdigit()), "key"])
    spec: FieldSpec | None = prop.key
    if spec is None:
        shown: Json = {"type": "integer", "minimum": 0}
        words = "Its position in the list, from 0: it moves, so every change needs If-Match."
    else:
        shown = form(spec, "text", Catalog("#/"))
        if shown.get("type") == "string" and "pattern" not in shown:
            shown = {**shown, "minLength": 1, "maxLength": 1024}
        words = f"The {spec.name} of the {prop.schema.name}."
    return {"name": name, "in": "path", "required": True, "description": words, "schema": shown}


class NestedPath(Answering):
    """A path below one document: ``path`` as it is described, and the ``fields`` that lead there."""

    def __init__(
        self,
        one: ResourcePaths,
        place: _Place,
        identifiers: Identifiers,
        known: Mapping[Resource, ResourcePaths],
    ) -> None:
        owner, root = one.resource, one.root_catalog
        nested = nested_at(owner, "key", place.names)
        self.path = place.path
        self.names = place.names
        self.fields = tuple(each for each in place.names if not each.isdigit())
        self._known = known.get(nested.target) if nested.target is not None else None
        if self._known is not None:
            catalog = self._known.catalog
        elif nested.target is not None:
            catalog = catalog_of(nested.target, root)
        else:
            catalog = catalog_below(owner, self.fields, nested.schema, root)
        super().__init__(owner, nested, one.catalog, catalog)
        self._parameters_above = place.parameters
        self._identifiers = identifiers
        self._limited = one.limited

    def shown(self) -> Json:
        """Return the path item."""
        return {method.lower(): self._operation(method) for method in self.methods}

    def _operation(self, method: str) -> Json:
        shown: Json = {
            "operationId": self._identifiers.take(self._wanted(method)),
            "summary": self._summary(method),
            "tags": [self.owner.name],
            "parameters": [*self._parameters_above, *self._parameters(method)],
        }
        body = self._body(method)
        if body is not None:
            shown["requestBody"] = {"required": True, "content": body}
        answers = self.answers(method)
        if self._limited:
            answers = limited(answers, self.catalog)
        return {**shown, "responses": bodiless(answers) if method == "HEAD" else answers}

    def _wanted(self, method: str) -> str:
        verb = "list" if self.nested.is_list and method == "GET" else self._verb(method)
        kind = "list_" if self.nested.is_list and method in {"HEAD", "OPTIONS"} else ""
        return f"{verb}_{kind}{self.owner.name}_{'_'.join(self.fields)}"

    def _verb(self, method: str) -> str:
        if self.associates(method):
            return "dissociate" if method == "DELETE" else "associate" if method == "POST" else "replace"
        return {"POST": "create", "PUT": "update"}.get(method, method.lower())

    def _summary(self, method: str) -> str:
        what = f"{' '.join(self.fields)} of one {self.owner.name}"
        if self.nested.is_list:
            words = {"GET": "A page of the", "HEAD": "The headers of a page of the"}
            more = "Add documents that exist to the" if self.nested.target is not None else "Add one to the"
            return f"{words.get(method, more)} {what}" if method != "OPTIONS" else "Which methods there are"
        if self.associates(method):
            words = {"DELETE": "Take it out of the", "POST": "Set the"}
            return f"{words.get(method, 'Set another')} {what}"
        the = "the" if self.nested.is_only else "one of the"
        words = {"GET": the.capitalize(), "HEAD": f"The headers of {the}", "POST": "Create the"}
        words |= {"PUT": f"Change {the}", "PATCH": f"Patch {the}", "DELETE": f"Delete {the}"}
        return f"{words[method]} {what}" if method in words else "Which methods there are"

    # What is sent -------------------------------------------------------------------------------------------

    def _parameters(self, method: str) -> list[Json]:
        if method == "OPTIONS":
            return []
        if self.nested.is_list and method in {"GET", "HEAD"}:
            return self._of_list()
        found = conditional_headers(demands_if_match=self.demands(method))
        if self.by_position and self.demands(method):
            found[0]["schema"] = _NAMED
        if method not in {"GET", "HEAD"}:
            found.append(prefer_header(method))
        settings = self.nested.idempotency if method in {"POST", "PATCH"} else None
        return found if settings is None else [*found, key_header(settings)]

    def _of_list(self) -> list[Json]:
        if self._known is not None:
            return self._known.shared_parameters()
        asked = self.nested.target or self.owner
        shown = list_parameters(asked, self.catalog)
        return [each for each in shown if asked is not self.owner or each["name"] in {"page", "per_page"}]

    def _body(self, method: str) -> Json | None:
        schema = self.property.schema
        if self.associates(method):
            return self._keys() if method != "DELETE" else None
        if method == "POST":
            if schema.polymorphic:
                shown = self.catalog.embedded(schema, "input")
                return content(shown, example(shown, self.catalog))
            return write_content(schema, "create", self.catalog)
        if method == "PUT":
            options = self.nested.options
            return write_content(schema, "replace" if options.put == "replace" else "update", self.catalog)
        if method == "PATCH":
            return patch_content(schema, request.ACCEPT_PATCH.split(", "), self.catalog)
        return None

    def _keys(self) -> Json:
        """Return the bodies that name documents by their keys."""
        name, spec = self.property.name, self.property.schema.key
        key = form(spec, "input", self.catalog)
        one: Json = {"type": "object", "properties": {"id": key}, "required": ["id"]}
        many: Json = {"type": "array", "items": key, "minItems": 1, "maxItems": MAX_ASSOCIATED}
        other = many if self.nested.is_list else key
        named: Json = {"type": "object", "properties": {name: other}, "required": [name]}
        shown = {"anyOf": [{**each, "additionalProperties": False} for each in (named, one)]}
        text = form(spec, "text", self.catalog)
        field = {**many, "items": text} if self.nested.is_list else text
        sent: Json = {"type": "object", "properties": {name: field}, "required": [name]}
        made = example(key, self.catalog)
        known = "KEY" if made is NONE else made
        body = content(shown, {name: [known]} if self.nested.is_list else {"id": known})
        return {**body, FORM_TYPE: {"schema": {**sent, "additionalProperties": False}}}
