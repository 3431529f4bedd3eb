"""Many documents with one request: an array that is POSTed, a collection of which a filter is changed.

How is said by preferences (RFC 7240): ``handling=strict`` or ``lenient``, ``max-affected=N``,
``return=minimal``, ``dry-run``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import tornado.web
from tornado.httputil import HTTPServerRequest

from bzz.errors import BodyError, HeaderError
from bzz.http.created import location
from bzz.http.problem_handler import problem_at
from bzz.http.request import JSON, arguments, preferences, read_patch
from bzz.resource.bulk import Bulk, BulkRequest, Creation, Handling
from bzz.resource.bulk_change import Change
from bzz.resource.bulk_item import Item
from bzz.resource.preview import unchecked

__all__ = ["Wishes", "change_many", "create_many", "result", "wishes"]

logger = logging.getLogger("bzz.bulk")

_STATUS = {"create_instance": 201, "update_instance": 200, "delete_instance": 204}


class Wishes(NamedTuple):
    """What a client prefers, as far as it concerns a bulk, and the ``Preference-Applied`` that says so."""

    handling: Handling
    minimal: bool
    dry_run: bool
    applied: str


def wishes(request: HTTPServerRequest, *, default: Handling = "strict") -> Wishes:
    """Read the preferences of a bulk; what is not understood is ignored, as RFC 7240 wants it."""
    given = preferences(request)
    handling: Handling = "strict" if given.get("handling") == "strict" else default
    if given.get("handling") == "lenient":
        handling = "lenient"
    returned = given.get("return")
    dry_run = "dry-run" in given
    applied = [f"handling={handling}"]
    if returned in {"minimal", "representation"}:
        applied.append(f"return={returned}")
    if dry_run:
        applied.append("dry-run")
    return Wishes(handling, returned == "minimal", dry_run, ", ".join(applied))


async def create_many(handler: Any, bodies: Sequence[Any]) -> None:
    """Create a document of each item, and answer with a result for each."""
    limit = handler.resource.options.max_bulk
    if len(bodies) > limit:
        raise tornado.web.HTTPError(413, f"The array has more than {limit} items.")
    wanted = wishes(handler.request)
    bulk = Creation(
        handler.resource,
        BulkRequest(
            action="create_instance",
            handling=wanted.handling,
            bodies=[_object(each) for each in bodies],
            handler=handler,
            dry_run=wanted.dry_run,
        ),
    )
    bulk = await _run(handler, bulk)
    status = 201 if bodies and not wanted.dry_run else 200
    await _answer(handler, bulk, wanted, status)


def _object(body: Any) -> Any:
    return body if isinstance(body, dict) else BodyError("An item must be a JSON object.")


async def change_many(handler: Any) -> None:
    """Change (PATCH) or delete what the filter in the query matches, and answer with a result for each."""
    request = handler.request
    for header in ("If-Match", "If-None-Match"):
        if header in request.headers:
            raise HeaderError(header, f"{header} names states of one document, not of all that match.")
    most = _max_affected(request)
    wanted = wishes(request)
    given: dict[str, Any] = {"action": "delete_instance"}
    if request.method == "PATCH":
        kind, data = read_patch(request)
        given = {"action": "update_instance", "data": data, "data_kind": kind}
    bulk = Change(
        handler.resource,
        BulkRequest(
            **given,
            handling=wanted.handling,
            arguments=arguments(request),
            max_affected=most,
            handler=handler,
            dry_run=wanted.dry_run,
        ),
    )
    bulk = await _run(handler, bulk)
    await _answer(handler, bulk, wanted._replace(applied=f"{wanted.applied}, max-affected={most}"), 200)


def _max_affected(request: HTTPServerRequest) -> int:
    text = preferences(request).get("max-affected")
    if text is None:
        raise HeaderError(
            "Prefer", "Say how many documents may be affected at the most: Prefer: max-affected=N."
        )
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise HeaderError("Prefer", "max-affected must be a whole number, 0 or above.")
    return int(text)


async def _run(handler: Any, bulk: Any) -> Any:
    """Carry it out; under an ``Idempotency-Key`` as a part of what is done once."""
    if handler.unit is not None:
        return await handler.unit.join(bulk)
    await bulk.run()
    return bulk


# The answer -------------------------------------------------------------------------------------------------


async def _answer(handler: Any, bulk: Bulk, wanted: Wishes, status: int) -> None:
    lines = []
    for item in bulk.items:
        if item.error is not None or not wanted.minimal:
            lines.append(await result(item, handler.path))
            await bulk.breath()
    if handler._finished:
        return
    failed = sum(not item.stored for item in bulk.items)
    told: dict[str, Any] = {
        "handling": wanted.handling,
        "succeeded": len(bulk.items) - failed,
        "failed": failed,
    }
    if wanted.dry_run:
        told["dry_run"] = True
        told["unchecked"] = unchecked(bulk.resource.schema, bulk.request.action)
    # What receivers wrote to the handler was meant for a request of its own.
    handler._write_buffer.clear()
    handler.set_status(207 if failed else status)
    handler.set_header("Content-Type", JSON)
    handler.set_header("Preference-Applied", wanted.applied)
    handler.write(orjson.dumps(told)[:-1] + b',"results":[' + b",".join(lines) + b"]}")


async def result(item: Item, path: str) -> bytes:
    """Describe what became of an item, as JSON.

    ``status`` is what the operation would have been answered with on its own. What is done has the ``key``
    of its document, ``location``, ``etag``, ``diff`` (of an update) and ``body``, as far as there is one;
    what is not has a ``problem`` (RFC 9457), whose pointers begin with the index of the item. What is done
    has one too if a receiver complained afterwards.
    """
    told: dict[str, Any] = {"index": item.index}
    if item.error is not None:
        told["status"], described = problem_at(item.index, item.error)
        told["problem"] = orjson.Fragment(described)
    if item.operation.key is not None:
        told["key"] = item.operation.key
    if item.stored:
        told["status"] = _STATUS[item.operation.action]
        try:
            told.update(await _done(item, path))
        except Exception as error:
            # A to_dict() of the user's: what is stored is stored, it only cannot be shown.
            logger.exception("what was done to %s cannot be shown", item.operation.key)
            told["problem"] = orjson.Fragment(problem_at(item.index, error)[1])
    return orjson.dumps(told)


async def _done(item: Item, path: str) -> Mapping[str, Any]:
    outcome, resource = item.outcome, item.resource
    assert outcome is not None
    if outcome.after is None:
        return {}
    told: dict[str, Any] = {}
    key = resource.key_of(outcome.after)
    if key:  # a document that is only tried out may have none yet
        told = {"key": key, "location": location(path, key)}
    body = await resource.view.render(outcome.after)
    if not item.operation.dry_run:
        told["etag"] = resource.view.etag(outcome.after, body)
    if item.operation.action == "update_instance":
        told["diff"] = resource.view.diff(outcome.after, outcome.updated_fields)
    told["body"] = orjson.Fragment(body)
    return told
