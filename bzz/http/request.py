"""What a request asks for: parameters, conditions, preferences and a body, each read strictly.

Preferences are the exception: RFC 7240 wants those that nobody understands to be ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tornado.web
from tornado.httputil import HTTPServerRequest

from bzz import errors
from bzz import model as typed
from bzz.model.body import MAX_DEPTH
from bzz.resource.etag import is_if_match
from bzz.resource.operation import DataKind

__all__ = [
    "ACCEPT_PATCH",
    "JSON",
    "MERGE_PATCH",
    "Many",
    "arguments",
    "condition",
    "conditions",
    "preferences",
    "read_body",
    "read_patch",
    "refuse_arguments",
    "refuse_encoded",
]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

#: The value of ``Accept-Patch`` (RFC 5789): what PATCH takes.
ACCEPT_PATCH = f"{MERGE_PATCH}, {JSON_PATCH}, {JSON}"

# What stands between commas; a quoted text may hold some. One pass, whatever a client sends.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|$))++')


def arguments(request: HTTPServerRequest) -> dict[str, list[str]]:
    """Return the query parameters, each with its values in order; raises QueryError."""
    found: dict[str, list[str]] = {}
    if not request.query:
        return found
    try:
        pairs = typed.parse_form(request.query.encode())
    except errors.BodyError as error:
        raise errors.QueryError("", error.detail.replace("body", "query")) from error
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def refuse_arguments(request: HTTPServerRequest) -> None:
    """Refuse any query parameter, where none has a meaning."""
    for name in arguments(request):
        raise errors.QueryError(name[:60], "this URL takes no query parameters")


def conditions(request: HTTPServerRequest) -> dict[str, str | None]:
    """Return ``if_match`` and ``if_none_match`` of an operation that writes; raises HeaderError."""
    return {
        "if_match": condition(request, "If-Match"),
        "if_none_match": condition(request, "If-None-Match"),
    }


def condition(request: HTTPServerRequest, header: str) -> str | None:
    """Return the entity tags of a header, None without it; raises HeaderError."""
    if header not in request.headers:  # far cheaper than to get nothing
        return None
    value = request.headers[header]
    if not is_if_match(value):
        raise errors.HeaderError(header, f'{header} is "*", or entity tags in quotes with commas between.')
    return value


def preferences(request: HTTPServerRequest) -> Mapping[str, str]:
    """Return what a client prefers (RFC 7240): names in lower case, each with its value or ``""``.

    Of a name that stands twice the first counts. What cannot be read is ignored.
    """
    found: dict[str, str] = {}
    if "Prefer" not in request.headers:  # far cheaper than to get nothing
        return found
    for part in _PREFERENCE.findall(request.headers["Prefer"]):
        name, _, value = part.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


_CHARSET = re.compile(r"charset=\"?([^\s;\"]+)", re.IGNORECASE)


class Many(list[Any]):
    """The items of a JSON array; the pairs of a form are a plain list."""


def read_body(request: HTTPServerRequest, *, many: bool = False) -> Any:
    """Parse the body of POST and PUT: a dict from JSON, a list of pairs from a form.

    With ``many`` also a JSON array, whose items may each be as deep as one on its own.
    """
    kind = _content_type(request)
    if not kind:
        # RFC 9110, 8.3: without the header, the recipient may look at the data.
        kind = JSON if request.body.lstrip()[:1] in {b"{", b"[", b""} else FORM
    if kind == FORM:
        return typed.parse_form(request.body)
    if kind != JSON:
        raise _unsupported(f"{JSON} or {FORM}")
    if many and request.body.lstrip()[:1] == b"[":
        items: Any = typed.parse_json(request.body, max_depth=MAX_DEPTH + 1)
        return Many(items)
    return _object(typed.parse_json(request.body) if request.body else {})


def read_patch(request: HTTPServerRequest) -> tuple[DataKind, Any]:
    """Parse the body of PATCH; plain JSON is a merge patch, which is what most clients mean by it."""
    kind = _content_type(request) or JSON
    if kind not in {MERGE_PATCH, JSON_PATCH, JSON}:
        raise _unsupported(ACCEPT_PATCH.replace(", ", " or "))
    data = typed.parse_json(request.body)
    if kind == JSON_PATCH:
        return "json_patch", data
    return "merge_patch", _object(data)


def _object(data: object) -> Any:
    if not isinstance(data, dict):
        raise errors.BodyError("The body must be a JSON object.")
    return data


def refuse_encoded(request: HTTPServerRequest) -> None:
    """Refuse a body that is compressed, or only a part of what is meant (RFC 9110, 8.4 and 14.5)."""
    headers = request.headers
    if "Content-Encoding" in headers and headers["Content-Encoding"].strip().lower() not in {"", "identity"}:
        raise tornado.web.HTTPError(415, "The body must not be compressed.")
    if request.method == "PUT" and "Content-Range" in request.headers:
        raise errors.HeaderError("Content-Range", "A document is not replaced in ranges of bytes.")


def _content_type(request: HTTPServerRequest) -> str:
    refuse_encoded(request)
    kind, _, parameters = request.headers.get("Content-Type", "").partition(";")
    charset = _CHARSET.search(parameters) if parameters else None
    if charset and charset[1].lower() not in {"utf-8", "utf8"}:
        return "unknown"
    return kind.strip().lower()


def _unsupported(kinds: str) -> tornado.web.HTTPError:
    return tornado.web.HTTPError(415, f"The body must be {kinds}, in UTF-8.")
