"""Problem details: the one shape that every error answer of bzz has (RFC 9457)."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["CONTENT_TYPE", "problem"]

CONTENT_TYPE = "application/problem+json"


def problem(status: int, detail: str = "", *, kind: str = "", **members: Any) -> bytes:
    """Build the body of an error answer.

    ``kind`` names what a client can act on (``validation``, ``duplicate`` …) and becomes the ``type`` member
    ``urn:bzz:problem:<kind>``; without it the status says all there is to say (``about:blank``). ``members``
    are extension members; those that are ``None`` are left out.

    >>> problem(404, "No user has this key.")
    b'{"type":"about:blank","title":"Not Found","status":404,"detail":"No user has this key."}'
    """
    body: dict[str, Any] = {
        "type": f"urn:bzz:problem:{kind}" if kind else "about:blank",
        "title": _title(status),
        "status": status,
    }
    if detail:
        body["detail"] = detail
    body.update(_present(members))
    return orjson.dumps(body)


# The names of RFC 9110, where those of older Pythons are of its predecessors.
_TITLES = {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def _title(status: int) -> str:
    if status in _TITLES:
        return _TITLES[status]
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
