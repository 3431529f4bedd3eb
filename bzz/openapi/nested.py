"""The paths below one document: its embedded documents, and what it refers to.

Paths do not go on through references: what is below the document there is described at its own resource, and
is the same here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bzz import model as typed
from bzz.http import request
from bzz.http.problem_handler import STATUS
from bzz.model import FieldSpec, Property, Schema
from bzz.model.json_diff import diff_schema
from bzz.model.json_example import NONE, example
from bzz.model.json_forms import Json, form
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import HEADERS, content, kinds_for, limited, problems, replayable
from bzz.openapi.bodies import FORM_TYPE, patch_content, write_content
from bzz.openapi.narrowed import catalog_below, catalog_of
from bzz.openapi.operations import Identifiers, ResourcePaths
from bzz.openapi.parameters import (
    conditional_headers,
    key_header,
    key_parameter,
    list_parameters,
    prefer_header,
)
from bzz.openapi.parts import part_schema
from bzz.resource import Resource
from bzz.resource.nested import NestedResource, names_of, nested_at
from bzz.resource.nested_reference import MAX_ASSOCIATED

__all__ = ["nested_paths"]


def nested_paths(
    one: ResourcePaths, path: str, identifiers: Identifiers, known: Mapping[Resource, ResourcePaths]
) -> Iterator[tuple[str, Json]]:
    """Yield each path below the documents of a resource, with its path item.

    ``one`` has the paths of the resource itself, ``path`` is that of its collection in the description.
    ``known`` are the paths of all resources that are described.
    """
    above = ((), f"{path}/{{key}}", [key_parameter(one.schema, one.catalog)])
    for place in _places(names_of(one.resource), above, (one.schema,)):
        item = _Item(one, place, identifiers, known)
        if item.methods:
            yield place.path, item.shown()


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


class _Item:
    """The path item of one place."""

    def __init__(
        self,
        one: ResourcePaths,
        place: _Place,
        identifiers: Identifiers,
        known: Mapping[Resource, ResourcePaths],
    ) -> None:
        self.place = place
        self.owner = one.resource
        self.nested: NestedResource = nested_at(self.owner, "key", place.names)
        self.property = place.property
        self.methods = self.nested.methods()
        self.fields = tuple(each for each in place.names if not each.isdigit())
        self._whole = one.catalog
        target = self.nested.target
        self._known = known.get(target) if target is not None else None
        self.catalog = (
            catalog_of(target, one.root_catalog)
            if target is not None
            else catalog_below(self.owner, self.fields, place.property.schema, one.root_catalog)
        )
        if self._known is not None:
            self.catalog = self._known.catalog
        self._identifiers = identifiers
        self._limited = one.limited

    def shown(self) -> Json:
        """Return the item."""
        return {method.lower(): self._operation(method) for method in self.methods}

    def _operation(self, method: str) -> Json:
        shown: Json = {
            "operationId": self._identifiers.take(self._wanted(method)),
            "summary": self._summary(method),
            "tags": [self.owner.name],
            "parameters": [*self.place.parameters, *self._parameters(method)],
        }
        body = self._body(method)
        if body is not None:
            shown["requestBody"] = {"required": True, "content": body}
        answers = self._answers(method)
        if self._limited:
            answers = limited(answers, self.catalog)
        if method == "HEAD":
            answers = {at: {k: v for k, v in each.items() if k != "content"} for at, each in answers.items()}
        return {**shown, "responses": answers}

    def _wanted(self, method: str) -> str:
        verb = self._verb(method)
        kind = "list_" if self.nested.is_list and method != "POST" else ""
        return f"{verb}_{kind}{self.owner.name}_{'_'.join(self.fields)}"

    def _verb(self, method: str) -> str:
        if self._associates(method):
            return "dissociate" if method == "DELETE" else "associate" if method == "POST" else "replace"
        return {"POST": "create", "PUT": "update"}.get(method, method.lower())

    def _summary(self, method: str) -> str:
        what = f"{' '.join(self.fields)} of one {self.owner.name}"
        if self.nested.is_list:
            words = {"GET": "A page of the", "HEAD": "The headers of a page of the"}
            more = "Add documents that exist to the" if self.nested.target is not None else "Add one to the"
            return f"{words.get(method, more)} {what}" if method != "OPTIONS" else "Which methods there are"
        if self._associates(method):
            words = {"DELETE": "Take it out of the", "POST": "Set the"}
            return f"{words.get(method, 'Set another')} {what}"
        words = {"GET": "One of the", "HEAD": "The headers of one of the", "POST": "Create the"}
        words |= {"PUT": "Change one of the", "PATCH": "Patch one of the", "DELETE": "Delete one of the"}
        return f"{words[method]} {what}" if method in words else "Which methods there are"

    def _associates(self, method: str) -> bool:
        if self.nested.target is None:
            return False
        return method in {"POST", "DELETE"} or (method == "PUT" and self.nested.is_only)

    # What is sent -------------------------------------------------------------------------------------------

    def _parameters(self, method: str) -> list[Json]:
        if method == "OPTIONS":
            return []
        if self.nested.is_list and method in {"GET", "HEAD"}:
            return self._of_list()
        found = conditional_headers(demands_if_match=self._demands(method))
        if method not in {"GET", "HEAD"}:
            found.append(prefer_header(method))
        settings = self.nested.idempotency if method in {"POST", "PATCH"} else None
        return found if settings is None else [*found, key_header(settings)]

    def _of_list(self) -> list[Json]:
        if self._known is not None:
            return self._known.shared_parameters()
        asked = self.nested.target or self.owner
        shown = list_parameters(asked.schema, asked.options, self.catalog)
        return [each for each in shown if asked is not self.owner or each["name"] in {"page", "per_page"}]

    def _demands(self, method: str) -> bool:
        """Whether the client has to name a state."""
        if method in {"GET", "HEAD"}:
            return False
        target = self.nested.target
        if target is not None and not self._associates(method):
            return bool(target.options.require_if_match)
        by_position = self.property.key is None and not self.nested.is_list and self.property.many
        return by_position or bool(self.owner.options.require_if_match)

    def _body(self, method: str) -> Json | None:
        schema = self.property.schema
        if self._associates(method):
            return self._keys() if method != "DELETE" else None
        if method == "POST":
            if schema.polymorphic:
                shown = self.catalog.embedded(schema, "input")
                made = example(shown, self.catalog)
                return content(shown, None if made is NONE else made)
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

    # What is answered ---------------------------------------------------------------------------------------

    def _answers(self, method: str) -> dict[str, Json]:
        if method == "OPTIONS":
            names = ["Allow", *(["Accept-Patch"] if "PATCH" in self.methods else [])]
            return {"204": _answer("The headers say it.", names)} | problems(["missing"], self.catalog)
        found = self._right(method)
        if method in {"POST", "PATCH"} and self.nested.idempotency is not None:
            found = replayable(found)
        sent = [415] if method in {"POST", "PUT", "PATCH"} else []
        return found | problems(self._kinds(method), self.catalog, statuses=sent)

    def _kinds(self, method: str) -> list[str]:
        demands = self._demands(method)
        takes_key = method in {"POST", "PATCH"} and self.nested.idempotency is not None
        known = {
            kind
            for on_item in (False, True)
            for kind in kinds_for(method, on_item=on_item, demands_if_match=demands, takes_key=takes_key)
        } | {"missing"}
        if method not in {"GET", "HEAD"}:
            known |= {"header", "validation", "duplicate", "conflict", "precondition"}
            known |= {"precondition-required"} if demands else set()
        elif self.nested.is_list:
            known |= {"query"}
        return [kind for _error, _status, kind in STATUS if kind in known]

    def _document(self) -> Json:
        shown = self.catalog.document(self.property.schema, "output")
        made = example(shown, self.catalog)
        return content(shown, None if made is NONE or made is None else made)

    def _right(self, method: str) -> dict[str, Json]:
        """Return the answers where all went well."""
        if method in {"GET", "HEAD"}:
            return self._read()
        dry = _answer(
            "What would happen: only with `Prefer: dry-run`.", ["Preference-Applied"], self._preview()
        )
        if method == "DELETE":
            return {"200": dry, "204": {"description": "It is gone from there."}}
        media = self._document()["application/json"]
        shapes = [media["schema"], self._preview()["application/json"]["schema"]]
        several = self.nested.is_list and self._associates(method)
        if several:
            shapes.insert(1, {"type": "array", "items": media["schema"]})
        shown = {"application/json": {**media, "schema": {"anyOf": shapes}}}
        headers = ["ETag", "Preference-Applied"]
        least = _answer("It is done, and `Prefer: return=minimal` asked for no more.", headers)
        words = "As it is now; with `Prefer: dry-run` what would happen, and no `ETag`."
        if method != "POST":
            return {"200": _answer(words, headers, shown), "204": least}
        made = {"application/json": {**media, "schema": {"anyOf": shapes[:-1]}}}
        created = _answer("It is stored.", ["Location", "X-Created-Id", *headers], made)
        if not self._associates(method):
            return {"200": dry, "201": created}
        words = f"It was there already. {words}"
        return {"200": _answer(words, ["Location", *headers], shown), "201": created, "204": least}

    def _read(self) -> dict[str, Json]:
        target, schema = self.nested.target, self.property.schema
        if not self.nested.is_list:
            shown = self._document()
            if target is not None:
                shown["application/json"]["schema"] = part_schema(
                    schema, target.options, self.catalog, of_list=False
                )
            return {
                "200": _answer("It.", ["ETag"], shown),
                "304": _answer("It is in a state that `If-None-Match` names.", ["ETag"]),
            }
        items = self.catalog.document(schema, "output")
        if target is not None:
            items = part_schema(schema, target.options, self.catalog)
        page = content({"type": "array", "items": items})
        headers = ["Link", *(["X-Total-Count"] if target is not None else [])]
        return {"200": _answer("One page.", headers, page)}

    def _preview(self) -> Json:
        members: dict[str, Json] = {
            "dry_run": {"const": True},
            "status": {"type": "integer", "description": "What the write would be answered with."},
            "document": {"description": "What would be there, or would be gone."},
            "diff": diff_schema(self.owner.schema, self._whole),
            "etag": {"type": "string"},
            "unchecked": {"type": "array", "items": {"type": "string"}},
        }
        if self.nested.target is not None:
            members["diff"] = {"type": "object", "description": "By dotted field: from and to."}
        needed = ["dry_run", "status", "document", "unchecked"]
        shown = {"type": "object", "properties": members, "required": needed}
        kind = "reference" if self.nested.target is not None else "embedded"
        name = f"{self.owner.schema.name}PartPreview"
        return content(self._whole.refer((self.owner.schema, "preview below", kind), name, shown))


def _answer(description: str, headers: list[str], content: Json | None = None) -> Json:
    shown: Json = {"description": description}
    if headers:
        shown["headers"] = {name: HEADERS[name] for name in headers}
    return shown if content is None else {**shown, "content": content}
