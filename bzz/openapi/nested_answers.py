"""What is answered below one document."""

from __future__ import annotations

from bzz.http.problem_handler import STATUS
from bzz.model import Property
from bzz.model.json_diff import diff_schema
from bzz.model.json_example import example
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import allowed, content, kinds_for, problems, replayable, response
from bzz.openapi.parts import part_schema
from bzz.resource import Resource
from bzz.resource.nested import NestedResource

__all__ = ["Answering"]


class Answering:
    """The answers of every method of one nested resource.

    ``whole`` is the catalog of the document that holds it, ``catalog`` that of what is there.
    """

    def __init__(self, owner: Resource, nested: NestedResource, whole: Catalog, catalog: Catalog) -> None:
        self.owner = owner
        self.nested = nested
        self.property: Property = nested.property
        self.methods = nested.methods()
        self.catalog = catalog
        self._whole = whole

    def associates(self, method: str) -> bool:
        """Tell whether a method changes what is referred to, and not the document there."""
        if self.nested.target is None:
            return False
        return method in {"POST", "DELETE"} or (method == "PUT" and self.nested.is_only)

    def demands(self, method: str) -> bool:
        """Whether the client has to name a state."""
        if method in {"GET", "HEAD"}:
            return False
        target = self.nested.target
        if self.by_position:
            return True
        if target is not None and not self.associates(method):
            return bool(target.options.require_if_match)
        return bool(self.owner.options.require_if_match)

    @property
    def by_position(self) -> bool:
        """Whether the way there leads through a position in a list."""
        return any(leg.is_by_position for leg in self.nested.legs)

    def answers(self, method: str) -> dict[str, Json]:
        """Return the answers of a method, by status."""
        if method == "OPTIONS":
            return allowed(self.methods) | problems(["missing"], self.catalog)
        found = self._right(method)
        if method in {"POST", "PATCH"} and self.nested.idempotency is not None:
            found = replayable(found)
        statuses = {status for each in self.nested.parts for status in each.refusals(method)}
        statuses |= {415} if method in {"POST", "PUT", "PATCH"} else set()
        return found | problems(self._kinds(method), self.catalog, statuses=sorted(statuses))

    def _kinds(self, method: str) -> list[str]:
        demands = self.demands(method)
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
        return content(shown, example(shown, self.catalog))

    def _right(self, method: str) -> dict[str, Json]:
        """Return the answers where all went well."""
        if method in {"GET", "HEAD"}:
            return self._read()
        dry = response(
            "What would happen: only with `Prefer: dry-run`.", ["Preference-Applied"], self._preview()
        )
        if method == "DELETE":
            return {"200": dry, "204": {"description": "It is gone from there."}}
        media = self._document()["application/json"]
        shapes = [media["schema"], self._preview()["application/json"]["schema"]]
        several = self.nested.is_list and self.associates(method)
        if several:
            shapes.insert(1, {"type": "array", "items": media["schema"]})
        shown = {"application/json": {**media, "schema": {"anyOf": shapes}}}
        headers = ["ETag", "Preference-Applied"]
        least = response("It is done, and `Prefer: return=minimal` asked for no more.", headers)
        words = "As it is now; with `Prefer: dry-run` what would happen, and no `ETag`."
        if method != "POST":
            return {"200": response(words, headers, shown), "204": least}
        made = {"application/json": {**media, "schema": {"anyOf": shapes[:-1]}}}
        key = [] if self.nested.is_only else ["X-Created-Id"]
        created = response("It is stored.", ["Location", *key, *headers], made)
        if not self.associates(method):
            return {"200": dry, "201": created}
        words = f"It was there already. {words}"
        least["headers"] = created["headers"]
        return {"200": response(words, ["Location", *key, *headers], shown), "201": created, "204": least}

    def _read(self) -> dict[str, Json]:
        target, schema = self.nested.target, self.property.schema
        if not self.nested.is_list:
            shown = self._document()
            if target is not None:
                shown["application/json"]["schema"] = part_schema(
                    schema, target.options, self.catalog, of_list=False
                )
            return {
                "200": response("It.", ["ETag"], shown),
                "304": response("It is in a state that `If-None-Match` names.", ["ETag"]),
            }
        items = self.catalog.document(schema, "output")
        if target is not None:
            items = part_schema(schema, target.options, self.catalog)
        page = content({"type": "array", "items": items})
        headers = ["Link", *(["X-Total-Count"] if target is not None else [])]
        return {"200": response("One page.", headers, page)}

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
