"""What OpenAPI cannot say of the atlas and Schemathesis therefore cannot know, and one check more.

Nothing here touches a request that is meant to be wrong.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import schemathesis
from schemathesis import GenerationMode

#: How many conditions a query may have in all.
MAX_PARAMETERS = 30
LISTS = ("neighbours", "languages", "alternate_names")
IS_TAGS = re.compile(r'\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*')
ONLY_KEY = re.compile(
    r"Invalid component: parameter `Idempotency-Key` in header - (violates `pattern`)?[^`]*$"
)

NDJSON = "application/x-ndjson"
#: What a whole list has no use for.
OF_PAGES = {"page", "per_page", "cursor", "count", "aggregate", "near"}

#: What tests.atlas_server has stored.
COUNTRIES = ("AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO")
CITIES = (3041563, 290594, 290680, 290581)

_NUMBERS = itertools.count()
_TURNS = itertools.count()
_COUNTRIES = itertools.cycle(COUNTRIES)
_CITIES = itertools.cycle(CITIES)


@schemathesis.serializer(NDJSON)
def lines(ctx: Any, value: Any) -> bytes:
    """Send a city, and after it what was made up: no schema describes a line of a stream."""
    text = value if isinstance(value, str) else json.dumps(value)
    city = {"geonameid": 10**9 + next(_NUMBERS), "name": "a", "country": "AD", "location": [1, 1]}
    return f"{json.dumps(city)}\n{text}".encode(errors="replace")


@schemathesis.check
def status_is_described(ctx: Any, response: Any, case: Any) -> None:
    """Every status stands in the description by name; ``default`` is for receivers that refuse."""
    if response.request.method.lower() != case.operation.method.lower():
        return  # what is not described has no description
    declared = set(case.operation.definition.raw["responses"])
    # 431 comes from the server before there is an operation.
    assert str(response.status_code) in declared | {"431"}, f"{response.status_code} is not described"


@schemathesis.check
def every_line_is_json(ctx: Any, response: Any, case: Any) -> None:
    """A stream is lines, and each is an object."""
    if response.headers.get("content-type", [""])[0] == NDJSON:
        *whole, rest = response.content.split(b"\n")
        assert rest == b"", "the last line has no end"
        assert all(isinstance(json.loads(each), dict) for each in whole)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make what is meant to be right so."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if case.meta.phase.name.value != "stateful" and next(_TURNS) % 2:
        _name_what_exists(case)
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f'"{next(_NUMBERS)}"'  # each is for one request
        if "lenient" in case.headers.get("Prefer", ""):
            del case.headers["Idempotency-Key"]  # only what is all or nothing can be done once
    tag = (case.headers or {}).get("If-None-Match")
    if tag is not None and not IS_TAGS.fullmatch(tag):
        # In its coverage phase Schemathesis makes headers of letters and digits only, whatever the pattern.
        case.headers["If-None-Match"] = f'"{tag}"'
    if case.query:
        case.query = _query(dict(case.query))
    if case.operation.path == "/city":
        _many(case)
    if case.operation.path == "/batch" and isinstance(case.body, dict):
        # A batch that runs out of time is answered 503, which is what 503 is for.
        case.body.pop("timeout", None)
        for each in [case.body, *case.body.get("operations", ())]:
            # They are printable, which JSON Schema does not know.
            each.pop("switches", None)
            each.pop("name", None)
        case.body = _within(case.body)
    elif case.method == "PATCH":
        case.body = _patch(case.body)
    elif isinstance(case.body, dict) and "currency.name" in case.body:
        case.body.setdefault("currency.code", "EUR")  # a country that has no currency gets a whole one


def _name_what_exists(case: Any) -> None:
    """Ask for documents that are there: of generated keys hardly any is."""
    path, keys = case.operation.path, case.path_parameters or {}
    if case.method == "DELETE":
        return
    if "key" in keys:
        keys["key"] = next(_CITIES if path.startswith("/city/") else _COUNTRIES)
    if "neighbours_key" in keys:
        keys["key"], keys["neighbours_key"] = "AR", "BO"
    if path.endswith(("/country", "/neighbours")) and "{key}" in path and isinstance(case.body, dict):
        for name in case.body:
            case.body[name] = [next(_COUNTRIES)] if name == "neighbours" else next(_COUNTRIES)


def _many(case: Any) -> None:
    """Ask for a whole list, and say which documents are changed: at least one filter is needed."""
    if case.method in {"PATCH", "DELETE"} and not case.query:
        case.query = {"geonameid": next(_CITIES)} if case.method == "PATCH" else {"name": "text"}
    asked = {name.rpartition("__")[2] for name in case.query or {}}
    if case.method == "GET" and not OF_PAGES & asked:
        case.headers = {**(case.headers or {}), "Accept": NDJSON}
    if case.media_type == NDJSON:  # it is done line by line, and not once only
        refused = {"Idempotency-Key", *(["Prefer"] if "strict" in case.headers.get("Prefer", "") else [])}
        case.headers = {name: each for name, each in case.headers.items() if name not in refused}


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Drop what is no finding."""
    if response.status_code == 431:
        return False  # from the server, before there is an operation
    if failure.code == "ST202":
        return not _is_refused_for_its_state(case, response.json() if response.content else {})
    if failure.code == "ST201":
        return not (_means_something_else(case, failure) or _concerns_nothing(case, response))
    return True


def _is_refused_for_its_state(case: Any, problem: dict[str, Any]) -> bool:
    """Tell whether a right request met documents to which it cannot be done."""
    if case.media_type == "application/json-patch+json":
        # The patch was right, and what it made of the document was not.
        return problem.get("type") == "urn:bzz:problem:validation"
    if case.operation.path == "/batch":
        # The batch was right, and one of its operations found nothing, or something in its way.
        return problem.get("failed_operation") is not None
    # Only documents that exist can be associated.
    return {each["detail"] for each in problem.get("errors", ())} == {"no document has this key"}


def _means_something_else(case: Any, failure: Any) -> bool:
    """Tell whether what was meant to be wrong is right as it was sent."""
    if case.media_type == NDJSON:
        return True  # of every line is said what came of it, whatever it is
    form = case.media_type == "application/x-www-form-urlencoded" and isinstance(case.body, dict)
    if form and any(isinstance(case.body.get(each), str) for each in LISTS):
        return True  # a text where several may stand is several that are one: a form cannot say it otherwise
    # Described is the form that the draft asks for; keys without quotes are taken as well.
    return ONLY_KEY.search(failure.message) is not None


def _concerns_nothing(case: Any, response: Any) -> bool:
    """Tell whether a patch was meant for documents of which there are none: it is checked against each."""
    if (case.method, case.operation.path) != ("PATCH", "/city"):
        return False
    return response.status_code == 200 and response.json()["succeeded"] == 0


def _patch(body: Any) -> Any:
    """Return a patch that a parser takes and the atlas can: what it says of numbers no schema can."""
    if isinstance(body, dict) and isinstance(body.get("currency"), dict):
        body["currency"].setdefault("code", "EUR")  # a country that has none gets a whole one
    return _within(body)


def _within(value: Any) -> Any:
    """Return a JSON value without what no body may hold: integers beyond 64 bits, NUL in names."""
    if isinstance(value, list):
        return [_within(each) for each in value]
    if isinstance(value, dict):
        if value.get("op") == "move":
            value = {**value, "op": "copy"}  # nothing can be moved into itself
        return {name.replace("\0", ""): _within(each) for name, each in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return max(min(value, 2**63 - 1), -(2**63))
    return value


def _query(query: dict[str, Any]) -> dict[str, Any]:
    """Return a query that means something as a whole, although each part of it is right on its own."""
    if query.get("cursor"):
        query["cursor"] = ""  # any other is given out by the server
    if "cursor" in query:
        query.pop("page", None)
    if query.get("count") == "estimated":
        query["count"] = "exact"
    if "sort" in query:
        given = query["sort"].split(",") if isinstance(query["sort"], str) else query["sort"]
        query["sort"] = ",".join({str(each).removeprefix("-"): each for each in given}.values())
    return dict(list(query.items())[:MAX_PARAMETERS])
