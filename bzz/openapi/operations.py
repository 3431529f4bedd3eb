"""The paths of one resource, with every method that its handler has."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from bzz.http import request
from bzz.http.gate import Gate
from bzz.model.json_example import example
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import (
    allowed,
    bodiless,
    content,
    kind_schema,
    kinds_for,
    limited,
    problems,
    replayable,
    response,
)
from bzz.openapi.bodies import patch_content, write_content
from bzz.openapi.bulks import (
    also_items,
    bulk_answers,
    bulk_prefer,
    is_filter,
    or_many,
    streamed,
    with_many,
)
from bzz.openapi.narrowed import catalog_of
from bzz.openapi.parameters import (
    conditional_headers,
    key_header,
    key_parameter,
    list_parameters,
    prefer_header,
)
from bzz.openapi.parts import part_schema
from bzz.openapi.previews import preview_schema
from bzz.resource import Resource
from bzz.resource.idempotency import Idempotency

__all__ = ["Identifiers", "ResourcePaths"]

#: What a collection may have besides, for all the documents that match.
BULK_METHODS = frozenset({"PATCH", "DELETE"})

_VERBS = {
    "GET": "get",
    "HEAD": "head",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_SUMMARIES = {
    ("GET", False): "A page of {name}",
    ("HEAD", False): "The headers of a page of {name}",
    ("POST", False): "Create one {name}, or many",
    ("PATCH", False): "Change every {name} that matches by a patch",
    ("DELETE", False): "Delete every {name} that matches",
    ("GET", True): "One {name}",
    ("HEAD", True): "The headers of one {name}",
    ("PUT", True): "Change one {name}",
    ("PATCH", True): "Change one {name} by a patch",
    ("DELETE", True): "Delete one {name}",
}


class Identifiers:
    """Identifiers of operations, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def take(self, wanted: str) -> str:
        """Return an identifier that reads like this one and nobody else has."""
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", wanted)
        name, number = plain, 2
        while name in self._given:
            name, number = f"{plain}_{number}", number + 1
        self._given.add(name)
        return name


class ResourcePaths:
    """The two paths of a resource: its collection, and one document of it.

    ``handler`` is the class that serves it at ``path`` (prefix included); it is asked which methods it has.
    ``parameters`` has, once the collection was asked for, what it refers to.
    """

    def __init__(
        self,
        resource: Resource,
        handler: Any,
        path: str,
        catalog: Catalog,
        identifiers: Identifiers,
        *,
        gate: Gate | None = None,
    ) -> None:
        self.resource = resource
        self.schema = resource.schema
        self.root_catalog = catalog
        self.catalog = catalog_of(resource, catalog)
        self._identifiers = identifiers
        self.parameters: Json = {}
        self._handler = handler
        self._path = path
        self.limited = gate is not None and gate.limit is not None
        self._takes_many = resource.takes_many
        self._demands = bool(resource.options.require_if_match)
        self._ids = {
            (method, on_item): identifiers.take(self._wanted(method, on_item))
            for on_item in (False, True)
            for method in self.methods(on_item=on_item)
        }

    def methods(self, *, on_item: bool) -> tuple[str, ...]:
        """Return the methods that the handler has on the collection, or on one document."""
        asked = self._handler.__new__(self._handler)
        asked.initialize(resource=self.resource, path=self._path)
        asked.request = SimpleNamespace(path=f"{self._path}/key" if on_item else self._path, method="OPTIONS")
        methods: tuple[str, ...] = asked.allowed_methods()
        return methods

    def collection(self) -> Json:
        """Return the path item of the collection."""
        return self._item(on_item=False)

    def document(self) -> Json:
        """Return the path item of one document."""
        return self._item(on_item=True)

    def _wanted(self, method: str, on_item: bool) -> str:
        verb = "list" if (method, on_item) == ("GET", False) else _VERBS.get(method, method.lower())
        plural = method in {"HEAD", "OPTIONS", "PATCH", "DELETE"} and not on_item
        return f"{verb}_{'list_' if plural else ''}{self.resource.name}"

    def _item(self, *, on_item: bool) -> Json:
        return {method.lower(): self._operation(method, on_item) for method in self.methods(on_item=on_item)}

    def _operation(self, method: str, on_item: bool) -> Json:
        name = self.resource.name
        summary = _SUMMARIES.get((method, on_item), "Which methods there are")
        shown: Json = {
            "operationId": self._ids[method, on_item],
            "summary": summary.format(name=name),
            "tags": [name],
        }
        parameters = self._parameters(method, on_item)
        settings = self._idempotency(method)
        if settings is not None:
            parameters.append(key_header(settings))
        if parameters:
            shown["parameters"] = parameters
        body = self._body(method)
        if body is not None:
            shown["requestBody"] = {"required": self._needs_body(method), "content": body}
        answers = self._answers(method, on_item)
        if self.limited:
            answers = limited(answers, self.catalog)
        shown["responses"] = bodiless(answers) if method == "HEAD" else answers
        return shown

    def _parameters(self, method: str, on_item: bool) -> list[Json]:
        if on_item and method == "OPTIONS":
            return [key_parameter(self.schema, self.catalog, is_read=False)]
        if not on_item:
            reads = method in {"GET", "HEAD"}
            if method in BULK_METHODS:
                return self._filters()
            if reads:
                return self.shared_parameters()
            return [prefer_header(method, many=self._takes_many)] if method == "POST" else []
        demands = self._demands and method in {"PUT", "PATCH", "DELETE"}
        prefer = [prefer_header(method)] if method in {"PUT", "PATCH", "DELETE"} else []
        key = key_parameter(self.schema, self.catalog)
        if method in {"GET", "HEAD"}:
            self.shared_parameters()
            names = [name for name, each in self.parameters.items() if each["name"] in {"fields", "expand"}]
            parts = [{"$ref": f"#/components/parameters/{name}"} for name in names]
            return [key, *parts, *conditional_headers(demands_if_match=False)]
        return [key, *conditional_headers(demands_if_match=demands), *prefer]

    def _filters(self) -> list[Json]:
        self.shared_parameters()
        names = [name for name, each in self.parameters.items() if is_filter(each["name"])]
        return [*({"$ref": f"#/components/parameters/{name}"} for name in names), bulk_prefer()]

    def _idempotency(self, method: str) -> Idempotency | None:
        return self.resource.idempotency if method in {"POST", "PATCH"} else None

    def shared_parameters(self) -> list[Json]:
        """Return references to the parameters of the list, which stand once in the document."""
        if not self.parameters:
            shown = list_parameters(self.resource, self.catalog)
            name = self.resource.name
            self.parameters = {self._identifiers.take(f"{name}_by_{each['name']}"): each for each in shown}
        return [{"$ref": f"#/components/parameters/{name}"} for name in self.parameters]

    def _body(self, method: str) -> Json | None:
        if method == "POST":
            return self._creating()
        if method == "PUT":
            return write_content(self.schema, self._put_form, self.catalog)
        if method == "PATCH":
            return patch_content(self.schema, request.ACCEPT_PATCH.split(", "), self.catalog)
        return None

    def _creating(self) -> Json:
        body = write_content(self.schema, "create", self.catalog)
        if self._takes_many:
            body = or_many(body, self.resource.options.max_bulk)
        if self.resource.streams:
            body |= streamed("Each line is the JSON of one new document.", ["{}"])
        return body

    def _needs_body(self, method: str) -> bool:
        """Whether no body at all is refused; otherwise it is an object without members."""
        form: Any = "create" if method == "POST" else self._put_form
        return method == "PATCH" or bool(
            self.catalog.resolve(self.catalog.document(self.schema, form)).get("required")
        )

    @property
    def _put_form(self) -> Any:
        return "replace" if self.resource.options.put == "replace" else "update"

    # Answers ------------------------------------------------------------------------------------------------

    def _answers(self, method: str, on_item: bool) -> dict[str, Json]:
        takes_key = self._idempotency(method) is not None
        takes_many = not on_item and (method in BULK_METHODS or (method == "POST" and self._takes_many))
        kinds = kinds_for(
            method,
            on_item=on_item,
            demands_if_match=self._demands,
            takes_key=takes_key,
            takes_many=takes_many,
        )
        statuses = [415] if method in {"POST", "PUT", "PATCH"} else []
        statuses += [] if method == "OPTIONS" else self.resource.refusals(method)
        if method == "POST" and takes_many:
            statuses.append(413)
        if method == "GET" and not on_item and self.resource.streams:
            statuses.append(426)
        refused = problems(kinds, self.catalog, statuses=statuses)
        if takes_many:
            refused = also_items(refused, kind_schema("bulk-items", self.catalog))
        made: Callable[[], dict[str, Json]] | None = {
            ("GET", False): self._page,
            ("HEAD", False): self._page,
            ("POST", False): self._created,
            ("PATCH", False): lambda: bulk_answers(self.schema, method, self.catalog),
            ("DELETE", False): lambda: bulk_answers(self.schema, method, self.catalog),
            ("GET", True): self._found,
            ("HEAD", True): self._found,
            ("PUT", True): lambda: self._changed(method),
            ("PATCH", True): lambda: self._changed(method),
            ("DELETE", True): lambda: {**self._previewed(method), "204": {"description": "It is gone."}},
        }.get((method, on_item))
        if method == "OPTIONS":
            return allowed(self.methods(on_item=on_item)) | refused
        answers = made() if made is not None else {}
        return (replayable(answers) if takes_key else answers) | refused

    def _document(self) -> Json:
        shown = self.catalog.document(self.schema, "output")
        return content(shown, example(shown, self.catalog))

    def _page(self) -> dict[str, Json]:
        whole = self._document()["application/json"]
        items = part_schema(self.schema, self.resource.options, self.catalog)
        page = content({"type": "array", "items": items}, [whole["example"]] if "example" in whole else None)
        if self.resource.streams:
            page |= streamed("Each line is the JSON of one document; there are no pages.", ["{}"])
        return {"200": response("One page.", ["Link", "X-Total-Count"], page)}

    def _created(self) -> dict[str, Json]:
        headers = ["Location", "X-Created-Id", "ETag", "Preference-Applied"]
        created = response(
            "It is stored. With `Prefer: return=minimal` there is no body.", headers, self._document()
        )
        links = self._links()
        found = {**self._previewed("POST"), "201": {**created, "links": links} if links else created}
        if self._takes_many:
            found = with_many(found, self.schema, self.catalog)
        if self.resource.streams:
            found["200"]["content"] |= streamed(
                "A result of each line that failed, then a summary.",
                ['{"summary":{"received":1,"succeeded":1,"failed":0,"listed":0,"complete":true}}'],
            )
        return found

    def _previewed(self, method: str) -> dict[str, Json]:
        shown = content(preview_schema(self.schema, method, self.catalog))
        return {
            "200": response("What would happen: only with `Prefer: dry-run`.", ["Preference-Applied"], shown)
        }

    def _links(self) -> Json:
        """Return how the key in an answer leads to the operations on that document."""
        if "to_dict" in self.schema.overrides:
            return {}
        key = f"$response.body#/{self.schema.key.name}"
        return {
            operation: {"operationId": operation, "parameters": {"key": key}}
            for (method, on_item), operation in self._ids.items()
            if on_item and method in {"GET", "PUT", "PATCH", "DELETE"}
        }

    def _found(self) -> dict[str, Json]:
        shown = self._document()
        parts = part_schema(self.schema, self.resource.options, self.catalog, of_list=False)
        shown["application/json"]["schema"] = parts
        return {
            "200": response("The document, or what `fields` and `expand` ask for.", ["ETag"], shown),
            "304": response("It is in a state that `If-None-Match` names.", ["ETag"]),
        }

    def _changed(self, method: str) -> dict[str, Json]:
        headers = ["ETag", "Preference-Applied"]
        shown = self._document()
        media = shown["application/json"]
        media["schema"] = {"anyOf": [media["schema"], preview_schema(self.schema, method, self.catalog)]}
        words = "The document as it is now; with `Prefer: dry-run` what would happen, and no `ETag`."
        return {
            "200": response(words, headers, shown),
            "204": response("It is changed, and `Prefer: return=minimal` asked for no more.", headers),
        }
