"""The paths of an Api that belong to no resource: batches, health, and this description itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bzz.batch.directory import METHODS
from bzz.batch.plan import RESERVED
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog
from bzz.openapi.answers import (
    allowed,
    bodiless,
    content,
    kinds_for,
    limited,
    plain_problem,
    problems,
    response,
)
from bzz.openapi.parameters import key_header, prefer_header
from bzz.openapi.planned import planned_operation
from bzz.resource.idempotency import Idempotency

__all__ = ["BatchTerms", "batch_path", "probe_path", "self_path"]


@dataclass(frozen=True, kw_only=True)
class BatchTerms:
    """Where batches are taken, the paths that they can lead to, and their limits (in seconds)."""

    path: str
    collections: Sequence[str]
    prefix: str
    max_operations: int
    timeout: float
    max_timeout: float
    limited: bool = False
    idempotency: Idempotency | None = None


def batch_path(terms: BatchTerms, catalog: Catalog, *, like: str | None) -> Json:
    """Return the path item of batches; ``like`` is the path of a collection, for the example."""
    name = {"type": "string", "minLength": 1, "maxLength": 100, "description": "Printable characters."}
    switches: Json = {"type": "array", "items": name, "maxItems": 100}
    operation = planned_operation(terms.collections, terms.prefix, switches, catalog)
    batch: Json = {
        "type": "object",
        "properties": {
            "name": {**name, "default": "batch"},
            "operations": {"type": "array", "items": operation, "maxItems": terms.max_operations},
            "atomic": {"type": "boolean", "default": False, "description": "All of it or nothing of it."},
            "continue_on_error": {"type": "boolean", "default": False},
            "switches": switches,
            "timeout": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": terms.max_timeout,
                "default": terms.timeout,
            },
            "options": {
                "type": "object",
                "maxProperties": 100,
                "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]*$", "not": {"enum": sorted(RESERVED)}},
            },
        },
        "required": ["operations"],
        "additionalProperties": False,
    }
    operations = [] if like is None else [{"method": "GET", "path": like}]
    shown = {"name": "nightly", "operations": operations, "atomic": False}
    # An operation that fails ends the batch with its own problem.
    kinds = dict.fromkeys(
        kind
        for method, on_item in METHODS
        for kind in kinds_for(
            method, on_item=on_item, demands_if_match=True, takes_key=terms.idempotency is not None
        )
    )
    answers: dict[str, Json] = {
        "200": response(
            "The plan came to its end, whatever its operations were answered.",
            _headers(terms),
            content(catalog.refer("report", "BatchReport", _report(catalog))),
        ),
        **problems(kinds, catalog, statuses=[415]),
    }
    options = allowed(["POST"])
    return {
        "post": {
            "operationId": "run_batch",
            "summary": "Run a plan of operations, one after another or all in one transaction",
            "tags": ["service"],
            "parameters": _parameters(terms),
            "requestBody": {
                "required": True,
                "content": content(catalog.refer("batch", "Batch", batch), shown),
            },
            "responses": limited(answers, catalog) if terms.limited else answers,
        },
        "options": {
            "operationId": "options_batch",
            "summary": "Which methods there are",
            "tags": ["service"],
            "responses": limited(options, catalog) if terms.limited else options,
        },
    }


def _headers(terms: BatchTerms) -> list[str]:
    return ["Preference-Applied", *(["Idempotent-Replayed"] if terms.idempotency is not None else [])]


def _parameters(terms: BatchTerms) -> list[Json]:
    prefer = prefer_header("POST")
    return [prefer] if terms.idempotency is None else [prefer, key_header(terms.idempotency)]


def _report(catalog: Catalog) -> Json:
    index = {"type": ["integer", "null"], "minimum": 0}
    entry: Json = {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0},
            "method": {"type": "string"},
            "path": {"type": "string"},
            "state": {"type": "string"},
            "status": {
                "type": ["integer", "null"],
                "description": "Null while the operation does not stand.",
            },
            "body": {"description": "What the operation would have been answered on its own."},
            "etag": {"type": "string"},
            "diff": {"type": "object", "description": 'By dotted field: {"from", "to"}.'},
            "location": {"type": "string", "format": "uri-reference"},
            "unchecked": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What a dry run leaves out: only doing it would show it.",
            },
            "error": plain_problem(catalog),
        },
        "required": ["index", "method", "path", "state", "status"],
    }
    return {
        "type": "object",
        "properties": {
            "dry_run": {"const": True, "description": "Nothing of this is stored."},
            "name": {"type": "string"},
            "atomic": {"type": "boolean"},
            "early_exit": {"type": "boolean"},
            "exit_operation": index,
            "failed_operation": index,
            "last_operation": index,
            "operations": {"type": "array", "items": entry},
        },
        "required": ["name", "atomic", "early_exit", "operations"],
    }


def probe_path(name: str, summary: str, alive: str, catalog: Catalog, *, can_fail: bool) -> Json:
    """Return the path item of health or readiness."""
    shown = {"type": "object", "properties": {"status": {"const": alive}}, "required": ["status"]}
    answers: Json = {"200": response("Yes.", body=content(shown, {"status": alive}))}
    if can_fail:
        answers |= {"503": problems([], catalog, statuses=[503])["503"]}
    return _read(name, summary, answers, catalog)


def self_path(catalog: Catalog) -> Json:
    """Return the path item of the description."""
    answers = {
        "200": response("An OpenAPI 3.1 document.", body=content({"type": "object"})),
        "304": response("It is the one that `If-None-Match` names."),
    }
    return _read("openapi", "This description", answers, catalog)


def _read(name: str, summary: str, answers: Json, catalog: Catalog) -> Json:
    """Return the path item of something that is only read; a body that is broken is refused all the same."""
    answers = {**answers, "400": problems([], catalog, statuses=[400])["400"]}
    shown = {"summary": summary, "tags": ["service"]}
    return {
        "get": {"operationId": name, **shown, "responses": answers},
        "head": {"operationId": f"head_{name}", **shown, "responses": bodiless(answers)},
    }
