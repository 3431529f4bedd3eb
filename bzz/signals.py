"""The named signals of bzz: who sends them, what they carry, when they fire, and what raising does.

They are for the whole process, whatever application sends them; see :class:`bzz.Api` for what concerns one.
Each has ``name``, ``doc``, ``payload`` (description of each key), ``providing`` (the keys), ``errors`` and
``voting`` for programs to read; the reference page is made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from bzz.dispatcher import ANY, Signal

__all__ = [
    "ALL",
    "ANY",
    "Signal",
    "batch_failed",
    "batch_finished",
    "batch_started",
    "post_create_instance",
    "post_delete_instance",
    "post_get_instance",
    "post_get_list",
    "post_update_instance",
    "pre_create_instance",
    "pre_delete_instance",
    "pre_get_instance",
    "pre_get_list",
    "pre_update_instance",
    "server_init",
    "server_process_init",
    "server_ready",
    "server_shutdown",
]

_ARGUMENTS: Final = "The query arguments of the request: name to list of texts."
_HANDLER: Final = "The Tornado handler that serves the request."
_DATA: Final = "The values that the client sent, by field name, as they were parsed."
_BATCH: Final = "The name of the batch."
_ROUTINE: Final = "The name of the batch, under its name in django-routines."


def _is_model(name: str) -> bool:
    from mongoengine.base.common import _document_registry  # noqa: PLC0415 - heavy, and only names need it

    return any(model.__name__ == name for model in _document_registry.values())


def _pre(name: str, when: str, **payload: str) -> Signal:
    """Make the signal before one operation: sent by a model, and every receiver can refuse."""
    raising = (
        "Sender: the model. Raising refuses the operation, nothing is written and later receivers are not "
        "called: tornado.web.HTTPError, bzz.Veto and tornado.web.Finish decide the answer, anything else is "
        "an internal error."
    )
    return Signal(
        name, f"{when}\n\n{raising}", errors="raise", providing=payload, known_sender=_is_model, voting=True
    )


def _post(name: str, when: str, **payload: str) -> Signal:
    """Make the signal after one operation: sent by a model, and no receiver can undo it."""
    raising = (
        "Sender: the model. Raising changes nothing about what is stored nor about the answer: every "
        "receiver runs, errors are logged and counted. A receiver connected with errors='raise' fails the "
        "request."
    )
    return Signal(name, f"{when}\n\n{raising}", errors="log", providing=payload, known_sender=_is_model)


def _batch(
    name: str, doc: str, errors: Literal["raise", "log", "defer"], *, voting: bool, payload: Mapping[str, str]
) -> Signal:
    options = {
        "handler": "The handler that serves the request; None on the command line.",
        "atomic": "Whether the batch is all or nothing.",
        "continue_on_error": "Whether it goes on after an error without being asked to.",
        "dry_run": "Whether it is only tried, and nothing will be stored.",
        "switches": "The switches that are on; they decide what is in the plan.",
        "**options": "The options that the request brought along.",
    }
    described = {"batch": _BATCH, "routine": _ROUTINE, **payload, **options}
    return Signal(name, doc, errors=errors, providing=described, voting=voting)


pre_get_list: Final = _pre(
    "pre_get_list",
    "Sent before a list is read (GET on the collection).",
    arguments=_ARGUMENTS,
    handler=_HANDLER,
)
post_get_list: Final = _post(
    "post_get_list",
    "Sent after a list was read, before it is answered.",
    items="The documents of this page, in order.",
    handler=_HANDLER,
)
pre_get_instance: Final = _pre(
    "pre_get_instance",
    "Sent before one document is read (GET with a key).",
    arguments=_ARGUMENTS,
    handler=_HANDLER,
    key="The key from the URL, decoded, as text.",
)
post_get_instance: Final = _post(
    "post_get_instance",
    "Sent after one document was read, before it is answered.",
    instance="The document that was read.",
    handler=_HANDLER,
)
pre_create_instance: Final = _pre(
    "pre_create_instance",
    "Sent before a document is created (POST), before anything is validated.",
    arguments=_ARGUMENTS,
    handler=_HANDLER,
    data=_DATA,
)
post_create_instance: Final = _post(
    "post_create_instance",
    "Sent after a document was created (POST) and is stored.",
    instance="The document that was created.",
    handler=_HANDLER,
)
pre_update_instance: Final = _pre(
    "pre_update_instance",
    "Sent before a document is updated (PUT, PATCH), before anything is validated.",
    arguments=_ARGUMENTS,
    handler=_HANDLER,
    data=_DATA,
    instance="The document before the change.",
)
post_update_instance: Final = _post(
    "post_update_instance",
    "Sent after a document was updated (PUT, PATCH) and the change is stored; not if nothing changed.",
    instance="The document after the change.",
    updated_fields='What this write changed: {"field": {"from": old, "to": new}}, dotted if embedded.',
    handler=_HANDLER,
)
pre_delete_instance: Final = _pre(
    "pre_delete_instance",
    "Sent before a document is deleted (DELETE).",
    arguments=_ARGUMENTS,
    handler=_HANDLER,
    instance="The document that is to be deleted.",
)
post_delete_instance: Final = _post(
    "post_delete_instance",
    "Sent after a document was deleted (DELETE).",
    instance="The document as it was; it is gone from the database.",
    handler=_HANDLER,
)

batch_started: Final = _batch(
    "batch_started",
    "Sent before any operation of a batch runs.\n\nSender: the running batch; sender.plan[index] is an "
    "operation. Raising ends the batch before it begins; bzz.ExitEarly ends it gracefully.",
    "raise",
    voting=False,
    payload={},
)
batch_failed: Final = _batch(
    "batch_failed",
    "Sent when an operation of a batch failed, before its exception leaves the batch.\n\nSender: the running "
    "batch. Every receiver runs. If any of them returns something true, the batch goes on; otherwise the "
    "exception ends it. Raising is no vote: errors are logged and counted, and only bzz.ExitEarly is more "
    "than that, it ends the batch gracefully when all have run.",
    "log",
    voting=True,
    payload={
        "failed_operation": "The index in the plan of the operation that failed; None if the commit did.",
        "failed_command": "The same, under its name in django-routines.",
        "exception": "What it raised.",
    },
)
batch_finished: Final = _batch(
    "batch_finished",
    "Sent when a batch has ended without failing, also when it ended early; if atomic, after the commit."
    "\n\nSender: the running batch. Raising changes nothing: every receiver runs, errors are logged and "
    "counted.",
    "log",
    voting=False,
    payload={
        "early_exit": "Whether bzz.ExitEarly ended it before the end of its plan.",
        "exit_operation": "The index in the plan where that happened; None if before the first operation.",
        "last_operation": "The index in the plan of the last operation that succeeded; None if none did.",
        "last_command": "The same, under its name in django-routines.",
    },
)

server_init: Final = Signal(
    "server_init",
    "Sent when a server is built and nothing of it has started, once, in the first process.\n\nSender: the "
    "server. Raising ends the start.",
    local=True,
)
server_process_init: Final = Signal(
    "server_process_init",
    "Sent once in every process that will serve, after the fork, before it accepts anything.\n\nSender: the "
    "server. Raising ends the start of this process.",
    local=True,
)
server_ready: Final = Signal(
    "server_ready",
    "Sent when a process accepts requests.\n\nSender: the server. Raising changes nothing: errors are logged "
    "and counted.",
    errors="log",
    local=True,
)
server_shutdown: Final = Signal(
    "server_shutdown",
    "Sent once when a server is about to stop, before any of its parts does.\n\nSender: the server. Raising "
    "changes nothing: errors are logged and counted.",
    errors="log",
    local=True,
)

ALL: Final[tuple[Signal, ...]] = (
    pre_get_list,
    post_get_list,
    pre_get_instance,
    post_get_instance,
    pre_create_instance,
    post_create_instance,
    pre_update_instance,
    post_update_instance,
    pre_delete_instance,
    post_delete_instance,
    batch_started,
    batch_failed,
    batch_finished,
    server_init,
    server_process_init,
    server_ready,
    server_shutdown,
)
"""Every named signal, in the order in which they are documented."""
