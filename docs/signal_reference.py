"""Sphinx directives that describe every signal from the code, so that none is missing.

``.. named-signals:: pre_`` describes the signals of :mod:`bzz.signals` whose names begin like that,
``.. operation-events::`` the events around one operation, ``.. asynchronous-signals::`` those that bzz makes
to travel through Celery, and ``.. signal-policies::`` is the table of what an error does to each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from bzz import async_signals, signals
from bzz.async_signals import AsyncSignal
from bzz.delivery.hooks import RUN_EVENTS, Hooks
from bzz.dispatcher import Signal

__all__ = [
    "AsynchronousSignals",
    "NamedSignals",
    "OperationEvents",
    "SignalPolicies",
    "asynchronous",
    "named",
    "operation_events",
    "policies",
    "setup",
]

_POLICY = {
    "raise": "ends the sending, and reaches whoever sent it",
    "log": "is logged and counted; the others run",
    "defer": "is raised when all have run",
}
_EVENT_RAISING = {
    "raise": "Raising ends what it announces; no later receiver is called.",
    "log": "Raising changes nothing: every receiver runs, errors are logged and counted.",
}


class NamedSignals(SphinxDirective):
    """``.. named-signals:: pre_``: the signals whose names begin like that, each with its payload."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText and let Sphinx read it."""
        text = named(self.arguments[0])
        if not text:
            raise self.error(f"no signal begins with {self.arguments[0]}")
        return self.parse_text_to_nodes(text)


class OperationEvents(SphinxDirective):
    """``.. operation-events::``: the events around one operation, as the decorators that hear them."""

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText and let Sphinx read it."""
        return self.parse_text_to_nodes(operation_events())


class AsynchronousSignals(SphinxDirective):
    """``.. asynchronous-signals::``: the signals that bzz makes to travel through Celery."""

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText and let Sphinx read it."""
        return self.parse_text_to_nodes(asynchronous())


class SignalPolicies(SphinxDirective):
    """``.. signal-policies::``: one line for each signal, what an error of a receiver does to it."""

    def run(self) -> list[nodes.Node]:
        """Write reStructuredText and let Sphinx read it."""
        return self.parse_text_to_nodes(policies())


def named(prefix: str) -> str:
    """Describe the signals of :mod:`bzz.signals` whose names begin with ``prefix``, in their order."""
    chosen = [each for each in signals.ALL if each.name.startswith(prefix)]
    return "\n".join(
        _described(f"py:data:: bzz.signals.{each.name}", each.doc or "", each.payload) for each in chosen
    )


def operation_events() -> str:
    """Describe each event around one operation: when, in which order, what raising does, what it carries."""
    return "\n".join(
        _described(
            f"py:method:: bzz.delivery.hooks.Hooks.on_{event}(receiver)",
            f"{doc}\n\nSender: the object whose decorator was used. {_order(event)} {_EVENT_RAISING[errors]}",
            payload,
        )
        for event, (doc, errors, payload) in RUN_EVENTS.items()
    )


def _order(event: str) -> str:
    """Ask two circles of listeners who of them hears it first."""
    outer = Hooks("the Api")
    inner = Hooks("the resource", outer)
    for circle in (outer, inner):
        circle.signal(event).connect(print)
    first, second = (owner for owner, _ in inner.heard(event))
    return f"Heard by the receivers of {first} first, then by those of {second}."


def asynchronous() -> str:
    """Describe the asynchronous signals that bzz itself makes."""
    tail = (
        "Sender: whatever is given to ``send``. The payload is what it is given by name. In the worker every "
        "receiver runs; then the first error fails the task."
    )
    return "\n".join(
        _described(f"py:data:: bzz.async_signals.{name}", f"{each.doc}\n\n{tail}", each.payload)
        for name, each in _asynchronous()
    )


def _asynchronous() -> Iterable[tuple[str, AsyncSignal]]:
    found = ((name, getattr(async_signals, name)) for name in async_signals.__all__)
    return [(name, each) for name, each in found if isinstance(each, AsyncSignal)]


def policies() -> str:
    """Write the table of what an error does and where receivers can be, one line for each signal."""
    rows = [(f":data:`~bzz.signals.{each.name}`", each) for each in signals.ALL]
    rows += [
        (f":meth:`~bzz.delivery.hooks.Hooks.on_{event}`", Hooks(None).signal(event)) for event in RUN_EVENTS
    ]
    rows += [(f":data:`~bzz.async_signals.{name}`", each) for name, each in _asynchronous()]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in (("Signal", "An error of a receiver", "``queue=``"), *(_row(*row) for row in rows)):
        lines += [f"   * - {first}", *(f"     - {each}" for each in others)]
    return "\n".join(lines)


def _row(link: str, signal: Signal) -> tuple[str, str, str]:
    return link, _POLICY[signal.errors], _queue(signal)


def _queue(signal: Signal) -> str:
    """Say whether a receiver can be in another process, and if not, why."""
    if isinstance(signal, AsyncSignal):
        return "the signal has one"
    if signal.voting:
        return "no: receivers decide something"
    if signal.name in RUN_EVENTS:
        return "no: an operation cannot travel"
    if signal.name.startswith("server_"):
        return "no: a server cannot travel"
    return "yes"


def _described(directive: str, doc: str, payload: Mapping[str, str]) -> str:
    """Write one signal: when it is sent, by whom, what raising does, what it carries."""
    lines = [*doc.splitlines(), ""]
    # Not a field list: Sphinx would write the keys with capitals.
    for key, text in payload.items():
        lines += [f"``{key}``", f"   {text}"]
    body = "\n".join(f"   {line}".rstrip() for line in lines)
    return f".. {directive}\n\n{body}\n"


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives."""
    app.add_directive("named-signals", NamedSignals)
    app.add_directive("operation-events", OperationEvents)
    app.add_directive("asynchronous-signals", AsynchronousSignals)
    app.add_directive("signal-policies", SignalPolicies)
    return {"version": "1", "parallel_read_safe": True}
