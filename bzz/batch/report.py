"""What a batch did, as JSON: one entry for each operation of the plan."""

from __future__ import annotations

import logging
from typing import Any

import orjson

from bzz.batch.runner import Batch, Entry
from bzz.http.created import location
from bzz.model import Schema
from bzz.mongoengine_handler import problem_of
from bzz.resource import Action
from bzz.resource.page import render_page
from bzz.resource.preview import unchecked

__all__ = ["describe", "report"]

logger = logging.getLogger("bzz.batch")

_STATUS = {"create_instance": 201, "delete_instance": 204}


async def report(batch: Batch) -> dict[str, Any]:
    """Describe a batch and every operation of its plan; what comes back is for ``orjson``, not for reading.

    An entry has ``index``, ``method``, ``path``, ``state`` (see :class:`bzz.batch.runner.Entry`) and
    ``status``: what the operation would have been answered on its own, null while it does not stand. If it
    stands it also has ``body``, ``etag`` (of what is stored now), ``diff`` (of an update) and ``location``
    (of a new document), as far as there is one; ``error`` is the problem (RFC 9457) that it met. In a dry
    run there is neither ``etag`` nor ``location``, but ``unchecked``: what only doing it would show, if
    anything (see :func:`bzz.resource.preview.unchecked`).
    """
    told = {"dry_run": True} if batch.dry_run else {}
    return {
        **told,
        "name": batch.name,
        "atomic": batch.atomic,
        "early_exit": batch.early_exit,
        "exit_operation": batch.exit_operation,
        "failed_operation": batch.failed_operation,
        "last_operation": batch.last_operation,
        "operations": [
            await describe(index, entry, dry_run=batch.dry_run)
            if entry.told is None or entry.error is not None
            else orjson.Fragment(entry.told)
            for index, entry in enumerate(batch.entries)
        ],
    }


async def describe(index: int, entry: Entry, *, dry_run: bool = False) -> dict[str, Any]:
    """Describe one operation of a plan; see :func:`report`."""
    planned = entry.planned
    told: dict[str, Any] = {
        "index": index,
        "method": planned.method,
        "path": planned.path,
        "state": entry.state,
        "status": None,
    }
    if entry.state == "done":
        is_new = entry.outcome is None or entry.outcome.is_new
        told["status"] = _STATUS.get(planned.action, 200) if is_new else 200
        try:
            told.update(await _outcome(entry, dry_run=dry_run))
        except Exception as error:
            # A to_dict() of the user's: what is stored is stored, it only cannot be shown.
            logger.exception("what %s %s did cannot be shown", planned.method, planned.path)
            told["error"] = orjson.Fragment(problem_of(error)[1])
    if entry.error is not None:
        status, described = problem_of(entry.error)
        told["error"] = orjson.Fragment(described)
        told["status"] = status if entry.state == "failed" else told["status"]
    return told


async def _outcome(entry: Entry, *, dry_run: bool) -> dict[str, Any]:
    """Return the body and what a single request would put into headers."""
    planned, outcome = entry.planned, entry.outcome
    assert outcome is not None
    schema = planned.resource.schema
    if outcome.page is not None:
        return {"body": orjson.Fragment(await render_page(planned.resource.view, outcome.page))}
    told: dict[str, Any] = {}
    if dry_run and (left_out := _unchecked(schema, planned.action)):
        told["unchecked"] = left_out
    if outcome.after is None:
        return told
    if not dry_run:  # there is no such state, and no such document
        told["etag"] = planned.resource.etag(outcome.after)
    told["body"] = orjson.Fragment(await planned.resource.view.render(outcome.after))
    if planned.action == "create_instance" and not dry_run:
        told["location"] = location(planned.collection, planned.resource.key_of(outcome.after))
    if planned.action == "update_instance" or outcome.updated_fields:
        told["diff"] = planned.resource.view.diff(outcome.after, outcome.updated_fields)
    return told


def _unchecked(schema: Schema, action: Action) -> list[str]:
    """Return what a dry run leaves out; uniqueness it does not, as it writes in its transaction."""
    if action in {"get_list", "get_instance"}:
        return []
    return [each for each in unchecked(schema, action) if each != "uniqueness"]
