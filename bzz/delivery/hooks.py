"""Who hears of an operation: the process, then an API, then one resource.

A :class:`Hooks` is one circle of listeners that belongs to an object (an API or a resource). Circles are
nested, and an operation is announced through them as through an onion: what happens *before* the work goes
from the outermost circle in, what happens *after* it goes from the innermost out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from bzz import signals
from bzz.dispatcher import Signal

__all__ = ["RUN_EVENTS", "Hooks", "announce", "is_heard", "is_wanted"]

_RUN_PAYLOAD = {
    "operation": "the running operation",
    "task": "the same operation, under the name that Kuyruk gave it",
    "args": "what the operation works on, in order: the key, then the data",
    "kwargs": "the query parameters of the request, each a list of strings",
}

_SEND_PAYLOAD = {
    "operation": "the running operation, from which the signal is sent",
    "task": _RUN_PAYLOAD["task"],
    "args": "the sender of the signal, alone in a tuple",
    "kwargs": "the payload of the signal",
    "event": "the name of the signal",
}

#: The events around one operation, whatever its kind: name → (what it says, how errors of receivers count,
#: payload).
RUN_EVENTS: dict[str, tuple[str, Literal["raise", "log"], dict[str, str]]] = {
    "prerun": ("Sent before an operation starts; raising ends it.", "raise", _RUN_PAYLOAD),
    "postrun": ("Sent after an operation ended, however it ended.", "log", _RUN_PAYLOAD),
    "success": (
        "Sent after an operation succeeded.",
        "log",
        {**_RUN_PAYLOAD, "return_value": "the outcome of the operation"},
    ),
    "failure": (
        "Sent after an operation failed; the exception then goes on unchanged.",
        "log",
        {**_RUN_PAYLOAD, "exc_info": "the live triple of sys.exc_info()"},
    ),
    "presend": ("Sent before a signal is published to a queue; raising prevents it.", "raise", _SEND_PAYLOAD),
    "postsend": ("Sent after a signal was published to a queue.", "log", _SEND_PAYLOAD),
}

#: The signals of a resource, which a circle has too; those before the work travel from the outermost circle
#: to the innermost, like the events that announce what is about to happen.
_NAMED = {each.name: each for each in signals.ALL if each.name.startswith(("pre_", "post_"))}
_INWARD = frozenset({"prerun", "presend"}) | {name for name in _NAMED if name.startswith("pre_")}


class Hooks:
    """One circle of listeners, and the circle around it.

    Every event has a decorator that connects the decorated function and returns it: ``on_prerun``,
    ``on_postrun``, ``on_success``, ``on_failure``, ``on_presend``, ``on_postsend``, and ``on_`` before the
    name of each signal of a resource (``on_post_update_instance``). Called with options it takes those of
    :meth:`bzz.dispatcher.Signal.connect`: ``@users.on_post_update_instance(when={"status": ANY})``.

    >>> circle = Hooks(owner="users")
    >>> @circle.on_prerun
    ... def hello(operation):
    ...     print("about to run", operation)
    >>> circle.signal("prerun").send("users", operation="get_list", task="get_list", args=(), kwargs={})[0][1]
    about to run get_list
    """

    def __init__(self, owner: object, outer: Hooks | None = None) -> None:
        self.owner = owner
        self.outer = outer
        self.authorize: Callable[[Any], Any] | None = None  # asked before each operation within this circle
        self.celery: Any = None  # the Celery app that signals from within this circle are published with
        self._signals: dict[str, Signal] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        event = name.removeprefix("on_")
        if event == name or (event not in RUN_EVENTS and event not in _NAMED):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.signal(event).connect

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *(f"on_{event}" for event in (*RUN_EVENTS, *_NAMED))]

    def signal(self, event: str) -> Signal:
        """Return this circle's own signal for an event, made at the first use."""
        found = self._signals.get(event)
        if found is None:
            if event in RUN_EVENTS:
                doc, errors, payload = RUN_EVENTS[event]
                found = Signal(
                    event, doc, errors=errors, providing=payload, voting=errors == "raise", local=True
                )
            else:
                named = _NAMED[event]
                found = Signal(
                    event,
                    named.doc,
                    errors=named.errors,
                    providing=named.payload,
                    known_sender=named.known_sender,
                    voting=named.voting,
                )
            self._signals[event] = found
        return found

    @property
    def is_quiet(self) -> bool:
        """Whether nobody in this circle or around it listens to how operations run, whatever they do."""
        circle: Hooks | None = self
        while circle is not None:
            if any(event in RUN_EVENTS and each.receivers for event, each in circle._signals.items()):
                return False
            circle = circle.outer
        return True

    def heard(self, event: str) -> list[tuple[object, Signal]]:
        """Return ``(owner, signal)`` of each circle that has listeners, in the order in which they hear."""
        circle: Hooks | None = self
        found: list[tuple[object, Signal]] = []
        while circle is not None:
            own = circle._signals.get(event)
            if own is not None and own.receivers:
                found.append((circle.owner, own))
            circle = circle.outer
        if event in _INWARD:
            found.reverse()
        return found

    async def run_event(self, event: str, /, **payload: Any) -> None:
        """Send one of :data:`RUN_EVENTS`; the sender is the object whose decorator was used."""
        await _send_all(event, self.heard(event), payload)


def is_heard(event: str, model: type, hooks: Hooks) -> bool:
    """Tell whether anybody would hear this signal, so that its payload need not be built for nobody."""
    return _NAMED[event].has_receivers_for(model) or bool(hooks.heard(event))


def is_wanted(key: str, event: str, model: type, hooks: Hooks) -> bool:
    """Tell whether anybody who hears this signal is given this key of its payload."""
    return _NAMED[event].wants(model, key) or any(own.wants(model, key) for _, own in hooks.heard(event))


async def announce(event: str, model: type, hooks: Hooks, **payload: Any) -> None:
    """Send a signal of a resource to the whole process and through the circles of the resource.

    The sender is ``model`` everywhere. A signal before the work is heard by the process first, one after it
    by the process last, as the onion wants it.
    """
    heard = [(model, own) for _owner, own in hooks.heard(event)]
    named = (model, _NAMED[event])
    await _send_all(event, [named, *heard] if event in _INWARD else [*heard, named], payload)


async def _send_all(event: str, heard: list[tuple[Any, Signal]], payload: dict[str, Any]) -> None:
    """Send to each; what comes before the work ends with the first error, what comes after reaches all."""
    first: Exception | None = None
    for sender, own in heard:
        try:
            await own.send_async(sender, **payload)
        except Exception as error:
            if event in _INWARD:
                raise
            first = first or error
    if first is not None:
        raise first
