"""Receivers with ``queue=``: one Celery task for each, with what the signal said."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

from bzz.delivery import wire
from bzz.delivery.arrival import run_receiver
from bzz.delivery.celery import RECEIVER_TASK, asking_blocks
from bzz.delivery.commit import kept_back
from bzz.delivery.outgoing import TIMEOUT, Outgoing, app_for, app_for_async, in_background, is_in_loop
from bzz.dispatcher import Signal
from bzz.dispatcher.connection import Connection
from bzz.errors import CeleryNotConfiguredWarning

__all__ = ["CeleryTransport", "warn_not_configured"]


class CeleryTransport:
    """Publishes signals to single receivers. ``timeout`` is seconds for all tries together.

    An error (nobody takes the message, a value cannot travel) counts as the receiver's own: a post signal
    logs and counts it, and the answer to the request says what is stored. Without a configured Celery the
    receiver runs at once.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        self.timeout = timeout

    async def publish(
        self, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        """Publish to one receiver without blocking the loop; inside a batch, after its commit."""
        outgoing = self._outgoing(await app_for_async(), signal, connection, sender, payload)
        deliver = functools.partial(self._deliver, outgoing, signal, connection, sender, payload)
        if not kept_back(deliver):
            await deliver()

    def publish_blocking(
        self, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> None:
        """Publish to one receiver and wait; in a running event loop, without waiting."""
        in_loop = is_in_loop()
        if in_loop and asking_blocks(None):
            in_background(self.publish(signal, connection, sender, payload), f"{connection.name}: sending")
            return
        outgoing = self._outgoing(app_for(), signal, connection, sender, payload)
        deliver = functools.partial(self._deliver, outgoing, signal, connection, sender, payload)
        if kept_back(deliver):
            return
        if in_loop and (outgoing is not None or connection.is_async):
            if outgoing is not None:
                outgoing.submit_now()
            in_background(deliver(), f"{connection.name}: sending")
        elif outgoing is not None:
            outgoing.publish_blocking()
        else:
            warn_not_configured(connection.name)
            run_receiver(signal, connection, sender, payload)

    def _outgoing(
        self, app: Any, signal: Signal, connection: Connection, sender: Any, payload: Mapping[str, Any]
    ) -> Outgoing | None:
        if app is None:
            return None
        assert connection.wire_name is not None
        # What was deleted can never be read again, so it travels as it was.
        is_gone = signal.name == "post_delete_instance"
        text = wire.dumps(wire.Message(sender, dict(payload)), whole=is_gone)
        return Outgoing(
            app,
            RECEIVER_TASK,
            (signal.name, connection.wire_name, text),
            queue=connection.queue,
            timeout=self.timeout,
            event=signal.name,
            sender=sender,
            payload=payload,
        )

    async def _deliver(
        self,
        outgoing: Outgoing | None,
        signal: Signal,
        connection: Connection,
        sender: Any,
        payload: Mapping[str, Any],
    ) -> None:
        if outgoing is not None:
            await outgoing.publish()
        else:
            warn_not_configured(connection.name)
            await signal.deliver(connection, sender, payload)


def warn_not_configured(what: str) -> None:
    """Warn that something ran at once because nothing can carry it."""
    warnings.warn(
        f"{what} ran at once: Celery is not installed, or has no broker_url",
        CeleryNotConfiguredWarning,
        stacklevel=4,
    )
