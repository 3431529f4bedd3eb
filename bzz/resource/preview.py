"""What a write would do, as JSON: the answer to ``Prefer: dry-run``."""

from __future__ import annotations

from typing import Any

import orjson

from bzz.model import Schema
from bzz.resource import overridden
from bzz.resource.operation import Action, Outcome
from bzz.resource.page import render_page
from bzz.resource.view import View

__all__ = ["preview"]

_STATUS: dict[Action, int] = {"create_instance": 201, "update_instance": 200, "delete_instance": 204}


async def preview(view: View, action: Action, outcome: Outcome, *, etag: str | None) -> bytes:
    """Describe what a write would have done.

    ``status`` is what it would have been answered with, ``document`` what would have been stored or deleted,
    ``diff`` what an update would have changed. ``etag`` names the state that all of it holds for; sent as
    ``If-Match``, it makes the write itself hold for the same. ``unchecked`` has what cannot be known without
    writing, see :func:`unchecked`.
    """
    told: dict[str, Any] = {"dry_run": True, "status": _STATUS[action] if outcome.is_new else 200}
    stored = outcome.before if action == "delete_instance" else outcome.after
    if outcome.page is not None:
        told["document"] = orjson.Fragment(await render_page(view, outcome.page))
    else:
        assert stored is not None
        told["document"] = orjson.Fragment(await view.render(stored))
    if action == "update_instance" or outcome.updated_fields:
        told["diff"] = view.diff(stored or {}, outcome.updated_fields)
    if etag is not None:
        told["etag"] = etag
    told["unchecked"] = unchecked(view.schema, action)
    return orjson.dumps(told)


def unchecked(schema: Schema, action: Action) -> list[str]:
    """Return what only a write itself would show.

    ``uniqueness``: whether a unique index refuses it. ``save`` and ``delete``: the model has a method of its
    own for it (or delete rules, files, listeners of mongoengine's signals), which was not run. ``sequences``:
    the next values, which were not drawn.
    """
    if action == "delete_instance":
        return ["delete"] if overridden.deletes_itself(schema) else []
    found = ["uniqueness"]
    if overridden.saves_itself(schema):
        found.append("save")
    if "sequences" in schema.overrides:
        found.append("sequences")
    return found
