"""Many documents with one request, as NDJSON or all in one body: what is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bzz.http.ndjson import NDJSON
from bzz.model import Schema
from bzz.model.json_diff import diff_schema
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.model.query.parameters import RESERVED
from bzz.openapi.answers import content, plain_problem, response
from bzz.openapi.previews import unmade

__all__ = [
    "also_items",
    "bulk_answers",
    "bulk_content",
    "bulk_prefer",
    "is_filter",
    "or_many",
    "streamed",
    "with_many",
]

_STATUS = {"POST": 201, "PATCH": 200, "DELETE": 204}


def bulk_content(schema: Schema, method: str, catalog: Catalog) -> Json:
    """Return the ``content`` of what a request for many documents is answered with."""
    item: dict[str, Json] = {
        "index": {"type": "integer", "minimum": 0, "description": "Its position in the request, from 0."},
        "status": {"type": "integer", "description": "What it would have been answered with on its own."},
        "key": {"type": "string", "description": "The key of the document."},
        "problem": plain_problem(catalog),
    }
    if method != "DELETE":
        item["location"] = {"type": "string", "format": "uri-reference"}
        item["etag"] = {"type": "string"}
        shown = catalog.document(schema, "output")
        item["body"] = {"anyOf": [shown, unmade(schema, catalog)]} if method == "POST" else shown
    if method == "PATCH":
        item["diff"] = diff_schema(schema, catalog)
    members: dict[str, Json] = {
        "handling": {"enum": ["strict", "lenient"], "description": "All or nothing, or what could be done."},
        "succeeded": {"type": "integer", "minimum": 0},
        "failed": {"type": "integer", "minimum": 0},
        "dry_run": {"const": True},
        "unchecked": {"type": "array", "items": {"type": "string"}},
        "results": {
            "type": "array",
            "description": "Of every item, in order; with `Prefer: return=minimal` of those that failed.",
            "items": {"type": "object", "properties": item, "required": ["index", "status"]},
        },
    }
    whole: Json = {
        "type": "object",
        "description": "What became of many documents.",
        "properties": members,
        "required": ["handling", "succeeded", "failed", "results"],
    }
    kind = {"POST": "Creation", "PATCH": "Change", "DELETE": "Deletion"}[method]
    result = {"index": 0, "status": _STATUS[method], "key": "1"}
    example = {"handling": "strict", "succeeded": 1, "failed": 0, "results": [result]}
    return content(catalog.refer((schema, "bulk", kind), f"{schema.name}Bulk{kind}", whole), example)


def bulk_answers(schema: Schema, method: str, catalog: Catalog) -> dict[str, Json]:
    """Return what a change of all that matches is answered with when it is carried out."""
    headers, body = ["Preference-Applied"], bulk_content(schema, method, catalog)
    return {
        "200": response("What became of every document that matches.", headers, body),
        "207": response("The same; some failed (`handling=lenient`).", headers, body),
    }


def with_many(answers: Mapping[str, Json], schema: Schema, catalog: Catalog) -> dict[str, Json]:
    """Return the answers of a POST that may also be given an array."""
    many = bulk_content(schema, "POST", catalog)["application/json"]["schema"]
    found = {status: dict(answer) for status, answer in answers.items()}
    for status in ("200", "201"):
        media = dict(found[status]["content"]["application/json"])
        media["schema"] = {"anyOf": [media["schema"], many]}
        found[status]["content"] = {**found[status]["content"], "application/json": media}
    partly = bulk_answers(schema, "POST", catalog)["207"]
    return {**found, "207": partly}


def or_many(body: Json, most: int) -> Json:
    """Return the content of a body that may also be an array of what it is otherwise."""
    media = body["application/json"]
    one = media["schema"]
    many: Json = {"type": "array", "items": one, "maxItems": most}
    return {**body, "application/json": {**media, "schema": {"anyOf": [one, many]}}}


def also_items(answers: Mapping[str, Json], schema: Json) -> dict[str, Json]:
    """Return refusals that may each be that of a bulk whose items were all refused that way."""
    found = dict(answers)
    for status, answer in answers.items():
        if status in {"default", "400"}:
            continue  # anything goes there, or it is there already
        media = answer["content"]["application/problem+json"]
        shown = media["schema"].get("anyOf", [media["schema"]])
        changed = {**media, "schema": {"anyOf": [*shown, schema]}}
        found[status] = {**answer, "content": {**answer["content"], "application/problem+json": changed}}
    return found


def bulk_prefer() -> Json:
    """Return the header that says how many documents a change of all that matches may affect, and how."""
    words = (
        "How many documents may be affected at the most (RFC 7240): `max-affected=N`. With "
        "`handling=lenient` what can be done is done, otherwise all of it or nothing. `return=minimal` and "
        "`dry-run` as well."
    )
    pattern = r'^([^"]*,)? *max-affected=([0-9]{1,18}|"[0-9]{1,18}") *([,;][^"]*)?$'
    shown = {"type": "string", "pattern": pattern, "examples": ["max-affected=100"]}
    return {"name": "Prefer", "in": "header", "required": True, "description": words, "schema": shown}


def is_filter(name: str) -> bool:
    """Tell whether a parameter of a list also says which documents are changed."""
    return name not in RESERVED - {"search"} and not name.endswith("__near")


def streamed(lines: str, example: Iterable[str]) -> dict[str, Any]:
    """Return the ``content`` of NDJSON; ``lines`` says what each of its lines is."""
    shown = {"type": "string", "description": lines}
    return {NDJSON: {"schema": shown, "example": "".join(f"{each}\n" for each in example)}}
