"""Signals whose receivers run in a Celery worker.

>>> shipped = AsyncSignal(providing_args=("order",), queue="high_priority", name="shop.shipped")
>>> @receiver(shipped)
... def tell_customer(sender, order, **kwargs):
...     print("shipped:", order)

Sending puts one task on the queue and returns. Where Celery is not configured, a warning is emitted and the
receivers run at once:

>>> import warnings
>>> with warnings.catch_warnings():
...     warnings.simplefilter("ignore")
...     _ = shipped.send(None, order="3 books")
shipped: 3 books
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from bzz.delivery import naming, wire
from bzz.delivery.celery import SIGNAL_TASK, asking_blocks
from bzz.delivery.commit import kept_back
from bzz.delivery.outgoing import (
    TIMEOUT,
    Outgoing,
    app_for,
    app_for_async,
    in_background,
    is_in_loop,
    made_plain,
)
from bzz.delivery.summaries import ExceptionSummary, Gone, RequestSummary
from bzz.delivery.transport import warn_not_configured
from bzz.dispatcher import ANY, Options, Signal
from bzz.dispatcher.connection import Connection
from bzz.errors import CeleryNotConfiguredWarning, PublishError

__all__ = [
    "ANY",
    "AsyncSignal",
    "CeleryNotConfiguredWarning",
    "ExceptionSummary",
    "Gone",
    "RequestSummary",
    "receiver",
    "request_finished",
    "request_started",
]

logger = logging.getLogger("bzz.delivery")

Policy = Literal["fallback", "raise", "log"]
Results = list[tuple[Callable[..., Any], Any]]
F = TypeVar("F", bound=Callable[..., Any])


class AsyncSignal(Signal):
    """A signal that travels as one Celery task; the worker calls the receivers one after another.

    ``providing_args`` are the keys of its payload, any when none are given. ``queue`` is Celery's default one
    if not named. ``name`` is what a worker finds it by: given, or that of the module and the variable that it
    is assigned to (``shop.signals.shipped``), which then must be the same in both. ``celery`` is the Celery
    app; if none is given, that of the API in whose request it is sent, else Celery's current one.

    ``timeout`` is for how many seconds publishing is tried, and ``policy`` what comes then: ``"fallback"``
    runs the receivers here, ``"raise"`` raises PublishError, ``"log"`` logs and counts it in ``failures``.

    In the worker every receiver runs, then the first error fails the task.
    """

    def __init__(
        self,
        providing_args: Iterable[str] | Mapping[str, str] = (),
        queue: str | None = None,
        *,
        name: str | None = None,
        doc: str | None = None,
        policy: Policy = "fallback",
        celery: Any = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if policy not in {"fallback", "raise", "log"}:
            raise ValueError(f"policy= must be 'fallback', 'raise' or 'log', not {policy!r}")
        if timeout <= 0:
            raise ValueError(f"timeout= must be more than 0 seconds, not {timeout!r}")
        self._module: str = sys._getframe(1).f_globals.get("__name__", "__main__")
        self._name = name
        super().__init__(name or "", doc, errors="defer", providing=providing_args)
        self.queue = queue
        self.policy = policy
        self.celery = celery
        self.timeout = timeout
        naming.remember(self, name)

    @property
    def name(self) -> str:
        """The name on the wire; ValueError if there is none to be found."""
        if not self._name:
            self._name = naming.name_in_module(self, self._module)
        return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value or None

    def __repr__(self) -> str:
        try:
            known = self.name
        except ValueError:
            known = f"in {self._module}"
        return f"<{type(self).__name__} {known!r}>"

    def _new_connection(self, receiver: Any, sender: Any, weak: bool | None, options: Options) -> Connection:
        if options.get("queue") is not None:
            raise TypeError("a receiver of an AsyncSignal has no queue= of its own: the signal has")
        return super()._new_connection(receiver, sender, weak, options)

    def send(
        self,
        sender: Any | None = None,
        /,
        *,
        _async_wrapper: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
        **payload: Any,
    ) -> Results:
        """Put one task on the queue; return what receivers returned if they had to run here, usually [].

        The sender may be named, as in Django: ``send(sender=Order, order=order)``.

        In a running event loop nothing is waited for: an error of publishing, whatever the policy, is logged.
        Anywhere else this waits for the broker, ``timeout`` seconds at most. Raises UnsendableError.
        """
        if self.is_muted:
            return []
        sender = payload.pop("sender", sender)
        in_loop = is_in_loop()
        if in_loop and asking_blocks(self.celery):
            in_background(self.send_async(sender, **payload), f"sending {self!r}")
            return []
        outgoing = self._outgoing(app_for(self.celery), sender, payload)
        deliver = functools.partial(self._deliver, outgoing, sender, payload)
        if kept_back(deliver):
            return []
        if not in_loop:
            return self._deliver_blocking(outgoing, sender, payload)
        if outgoing is None and not any(each.is_async for each in self.connections):
            return self._deliver_blocking(outgoing, sender, payload)
        if outgoing is not None:
            outgoing.submit_now()
        in_background(deliver(), f"sending {self!r}")
        return []

    async def send_async(
        self,
        sender: Any | None = None,
        /,
        *,
        _sync_wrapper: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
        **payload: Any,
    ) -> Results:
        """Put one task on the queue and wait until the broker has it, without blocking the loop.

        Return what receivers returned if they had to run here, usually []. Raises UnsendableError, and
        PublishError if that is the policy.
        """
        if self.is_muted:
            return []
        sender = payload.pop("sender", sender)
        outgoing = self._outgoing(await app_for_async(self.celery), sender, payload)
        deliver = functools.partial(self._deliver, outgoing, sender, payload)
        return [] if kept_back(deliver) else await deliver()

    def _outgoing(self, app: Any, sender: Any, payload: Mapping[str, Any]) -> Outgoing | None:
        """Write the message; None when there is nothing to carry it."""
        if app is None:
            return None
        text = wire.dumps(wire.Message(sender, dict(payload)))
        return Outgoing(
            app,
            SIGNAL_TASK,
            (self.name, text),
            queue=self.queue,
            timeout=self.timeout,
            event=self.name,
            sender=sender,
            payload=payload,
        )

    async def _deliver(self, outgoing: Outgoing | None, sender: Any, payload: Mapping[str, Any]) -> Results:
        if outgoing is None:
            warn_not_configured(repr(self))
            return await super().send_async(sender, **payload)
        try:
            await outgoing.publish()
        except PublishError as error:
            if self._runs_here_after(error):
                return await super().send_async(sender, **payload)
        return []

    def _deliver_blocking(
        self, outgoing: Outgoing | None, sender: Any, payload: Mapping[str, Any]
    ) -> Results:
        if outgoing is None:
            warn_not_configured(repr(self))
            return super().send(sender, _async_wrapper=made_plain, **payload)
        try:
            outgoing.publish_blocking()
        except PublishError as error:
            if self._runs_here_after(error):
                return super().send(sender, _async_wrapper=made_plain, **payload)
        return []

    def _runs_here_after(self, error: PublishError) -> bool:
        """Apply the policy to an error: raise it, or log it and tell whether the receivers run here."""
        if self.policy == "raise":
            raise error
        with self._lock:
            self.failures += 1
        logger.error("%r could not be published: %s", self, error)
        return self.policy == "fallback"


def receiver(signal: Signal | Sequence[Signal], **options: Any) -> Callable[[F], F]:
    """Return a decorator that connects a receiver to a signal, or to each of several.

    ``options`` are those of :meth:`bzz.dispatcher.Signal.connect`, ``sender`` among them.
    """
    signals = [signal] if isinstance(signal, Signal) else list(signal)

    def connect(function: F) -> F:
        for each in signals:
            each.connect(function, **options)
        return function

    return connect


request_started: Final = AsyncSignal(
    name="bzz.async_signals.request_started",
    doc="For applications to send when a request starts; bzz itself does not, as each is a task.",
)
request_finished: Final = AsyncSignal(
    name="bzz.async_signals.request_finished",
    doc="For applications to send when a request has ended; bzz itself does not, as each is a task.",
)
