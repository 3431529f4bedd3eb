"""What operations answer: problems (RFC 9457) by the handler's own table of errors, and their headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson

from bzz.http import problem
from bzz.http.problem_handler import STATUS
from bzz.model.json_example import NONE
from bzz.model.json_forms import Json
from bzz.model.json_schema import Catalog

__all__ = [
    "HEADERS",
    "allowed",
    "bodiless",
    "content",
    "kind_schema",
    "kinds_for",
    "limited",
    "plain_problem",
    "problems",
    "replayable",
    "response",
]

_POINTERS: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "pointer": {"type": "string", "format": "json-pointer", "description": "RFC 6901."},
            "detail": {"type": "string"},
        },
        "required": ["pointer", "detail"],
    },
}
_CONFLICTS: Json = {
    "type": ["object", "null"],
    "description": "What is stored and what was asked for, by dotted field.",
    "additionalProperties": {"type": "object", "required": ["stored", "requested"]},
}

#: The members that a kind of problem has besides those of every problem, and what they look like.
MEMBERS: Mapping[str, Mapping[str, tuple[Json, Any]]] = {
    "validation": {"errors": (_POINTERS, [{"pointer": "/name", "detail": "this field is required"}])},
    "query": {"parameter": ({"type": "string"}, "colour")},
    "header": {"header": ({"type": "string"}, "If-Match")},
    "duplicate": {"fields": ({"type": "array", "items": {"type": "string"}}, ["name"])},
    "precondition": {
        "etag": ({"type": "string", "description": "The tag of what is stored now."}, '"5d41402abc4b2a76"'),
        "conflicts": (_CONFLICTS, {"name": {"stored": "Ana", "requested": "Bo"}}),
    },
    "quota-exceeded": {
        "violated-policies": ({"type": "array", "items": {"type": "string"}, "minItems": 1}, ["default"])
    },
    "patch": {"operation": ({"type": "integer", "description": "Its position in the patch."}, 0)},
    "max-affected": {"matched": ({"type": "integer"}, 12), "max_affected": ({"type": "integer"}, 10)},
    "bulk-items": {
        "errors": (_POINTERS, [{"pointer": "/3/name", "detail": "this field is required"}]),
        "results": ({"type": "array", "items": {"type": "object"}}, [{"index": 3, "status": 400}]),
    },
}
#: Members that not every problem of the kind has.
OPTIONAL = frozenset({"conflicts"})

_TEXT: Json = {"type": "string"}
HEADERS: Mapping[str, Json] = {
    "ETag": {"description": "The strong tag of the document as it is stored.", "schema": _TEXT},
    "Location": {"description": "The URL of the document.", "schema": {**_TEXT, "format": "uri-reference"}},
    "X-Created-Id": {"description": "The key of the document.", "schema": _TEXT},
    "Allow": {"description": "The methods of this URL.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "How to say who one is (RFC 9110, 11.6.1).", "schema": _TEXT},
    "Accept-Patch": {"description": "The media types that PATCH takes (RFC 5789).", "schema": _TEXT},
    "Link": {"description": "The pages beside this one (RFC 8288): first, prev, next.", "schema": _TEXT},
    "X-Total-Count": {
        "description": "How many documents there are, if `count` asked for it.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Preference-Applied": {"description": "The preference that was followed (RFC 7240).", "schema": _TEXT},
    "RateLimit-Policy": {
        "description": 'The quota: `"default";q=100;w=60` is 100 requests in 60 seconds.',
        "schema": _TEXT,
    },
    "RateLimit": {
        "description": 'What is left: `"default";r=99;t=1` is 99 requests, and one more in a second.',
        "schema": _TEXT,
    },
    "Idempotent-Replayed": {
        "description": "That this is the answer to an earlier request with the same Idempotency-Key.",
        "schema": {"const": "true"},
    },
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
}

_BASE: Json = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
    },
    "required": ["type", "title", "status"],
}

_WRITES = frozenset({"POST", "PUT", "PATCH"})
_CHANGES = frozenset({"PUT", "PATCH", "DELETE"})
_ITEM = frozenset({"GET", "HEAD", "PUT", "PATCH", "DELETE"})
#: Which methods can meet which kinds of problems: on a collection, on one document. A kind that is not here
#: can meet every one.
_MEETS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "body": (_WRITES, _WRITES),
    "header": (frozenset({"POST", "PATCH", "DELETE"}), _ITEM),
    "validation": (_WRITES, _WRITES),
    "missing": (frozenset(), _ITEM),
    "duplicate": (_WRITES, _WRITES),
    "referenced": (frozenset(), frozenset({"DELETE"})),
    "conflict": (frozenset({"POST", "PATCH", "DELETE"}), _CHANGES),
    "max-affected": (frozenset({"PATCH", "DELETE"}), frozenset()),
    "bulk-items": (frozenset({"POST", "PATCH", "DELETE"}), frozenset()),
    "bulk": (frozenset({"POST", "PATCH", "DELETE"}), frozenset()),
    "patch": (frozenset(), frozenset({"PATCH"})),
    "precondition": (frozenset(), _ITEM),
    "precondition-required": (frozenset(), _CHANGES),
}


#: What only a request for many documents can meet.
MANY_KINDS = ("max-affected", "bulk-items", "bulk")
#: What only a request with an Idempotency-Key can meet.
KEY_KINDS = ("idempotency-key-in-use", "idempotency-key-reused")


def kinds_for(
    method: str,
    *,
    on_item: bool,
    demands_if_match: bool = False,
    takes_key: bool = False,
    takes_many: bool = False,
) -> list[str]:
    """Return the kinds of problems that an operation of a resource can answer with."""
    if method == "OPTIONS":
        return []
    kinds = [kind for _error, _status, kind in STATUS if kind != "quota-exceeded"]
    if not takes_key:
        kinds = [kind for kind in kinds if kind not in KEY_KINDS]
    if not takes_many:
        kinds = [kind for kind in kinds if kind not in MANY_KINDS]
    if not demands_if_match:
        kinds = [kind for kind in kinds if kind != "precondition-required"]
    return [kind for kind in kinds if kind not in _MEETS or method in _MEETS[kind][on_item]]


def replayable(answers: dict[str, Json]) -> dict[str, Json]:
    """Return the answers that may be those of an earlier request, with the header that says so."""
    said = {"Idempotent-Replayed": HEADERS["Idempotent-Replayed"]}
    return {status: {**each, "headers": each.get("headers", {}) | said} for status, each in answers.items()}


def problems(kinds: Iterable[str], catalog: Catalog, *, statuses: Iterable[int] = ()) -> dict[str, Json]:
    """Return the answers by status for these kinds of problems, and for statuses that have no kind."""
    by_status: dict[int, list[str]] = {status: [] for status in statuses}
    known = {kind: status for _error, status, kind in STATUS}
    for kind in kinds:
        by_status.setdefault(known[kind], []).append(kind)
    found = {str(status): _problem(status, by_status[status], catalog) for status in sorted(by_status)}
    found["default"] = {
        "description": "A receiver of a signal refused the operation, or something went wrong inside.",
        "content": {problem.CONTENT_TYPE: {"schema": plain_problem(catalog)}},
    }
    return found


def limited(answers: Mapping[str, Json], catalog: Catalog) -> dict[str, Json]:
    """Return the answers of an operation that a rate limit counts: 429 too, and all with its headers."""
    extra = {name: HEADERS[name] for name in ("RateLimit-Policy", "RateLimit")}
    refused = problems(["quota-exceeded"], catalog)["429"]
    refused["headers"] = {"Retry-After": HEADERS["Retry-After"]}
    everyone = dict(sorted({**answers, "429": refused}.items()))
    return {
        status: {**answer, "headers": {**answer.get("headers", {}), **extra}}
        for status, answer in everyone.items()
    }


def plain_problem(catalog: Catalog) -> Json:
    """Return a reference to the schema that every problem fits."""
    return catalog.refer("problem", "Problem", _BASE)


def _problem(status: int, kinds: list[str], catalog: Catalog) -> Json:
    shown = [kind_schema(kind, catalog) for kind in kinds] or [plain_problem(catalog)]
    examples = {kind: {"value": _example(status, kind)} for kind in kinds}
    media: Json = {"schema": shown[0] if len(shown) == 1 else {"anyOf": shown}}
    if examples:
        media["examples"] = examples
    waits = KEY_KINDS[0] in kinds
    headers = {
        409: ("Retry-After",) if waits else (),
        401: ("WWW-Authenticate",),
        503: ("Retry-After",),
        412: ("ETag",),
        415: ("Accept-Patch",),
    }.get(status, ())
    return response(HTTPStatus(status).phrase, headers, {problem.CONTENT_TYPE: media})


def kind_schema(kind: str, catalog: Catalog) -> Json:
    """Return a reference to the schema of a kind of problem."""
    members = MEMBERS.get(kind, {})
    own: Json = {
        "type": "object",
        "properties": {
            "type": {"const": f"urn:bzz:problem:{kind}"},
            **{name: shown for name, (shown, _example) in members.items()},
        },
        "required": ["type", *(name for name in members if name not in OPTIONAL)],
    }
    name = "".join(part.capitalize() for part in kind.split("-"))
    made = {"description": _words(kind), "allOf": [plain_problem(catalog), own]}
    return catalog.refer(("problem", kind), f"{name}Problem", made)


def _words(kind: str) -> str:
    error = next(error for error, _status, each in STATUS if each == kind)
    return " ".join((error.__doc__ or "").split("\n\n")[0].split())


def _example(status: int, kind: str) -> Any:
    members = {name: value for name, (_schema, value) in MEMBERS.get(kind, {}).items()}
    return orjson.loads(problem.problem(status, kind=kind, **members))


def response(description: str, headers: Iterable[str] = (), body: Json | None = None) -> Json:
    """Return an answer with these of :data:`HEADERS`; ``body`` is its ``content``, if it has any."""
    told: dict[str, Any] = {"headers": {name: HEADERS[name] for name in headers}, "content": body}
    return {"description": description, **{name: each for name, each in told.items() if each}}


def allowed(methods: Iterable[str]) -> dict[str, Json]:
    """Return the answer to OPTIONS of a URL that has these methods."""
    return {
        "204": response("The headers say it.", ["Allow", *(["Accept-Patch"] if "PATCH" in methods else [])])
    }


def bodiless(answers: Mapping[str, Json]) -> dict[str, Json]:
    """Return the answers to HEAD: those to GET, none with a body, whatever its status."""
    return {
        status: {name: each for name, each in shown.items() if name != "content"}
        for status, shown in answers.items()
    }


def content(schema: Json, example: Any = None, *, media_type: str = "application/json") -> Json:
    """Return the ``content`` of a body of one media type, with an example if there is one."""
    shown = {} if example is None or example is NONE else {"example": example}
    return {media_type: {"schema": schema, **shown}}
