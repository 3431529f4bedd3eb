"""One signal on its way out: to the broker, between presend and postsend of the operation it belongs to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any

from bzz.delivery import loop
from bzz.delivery.celery import asking_blocks, broker_for, current_app
from bzz.delivery.operating import Running, running
from bzz.delivery.publisher import wait, wait_async

__all__ = ["TIMEOUT", "Outgoing", "app_for", "app_for_async", "in_background", "is_in_loop", "made_plain"]

logger = logging.getLogger("bzz.delivery")

#: Seconds that publishing may take, all tries together.
TIMEOUT = 5.0

_in_background: set[asyncio.Task[Any]] = set()


def app_for(celery: Any = None) -> Any:
    """Return the Celery app to publish with: the given one, that of the running API, Celery's current one.

    None when it is not configured. May import Celery.
    """
    return current_app(_named(celery))


async def app_for_async(celery: Any = None) -> Any:
    """Do what :func:`app_for` does, and import Celery in a thread."""
    named = _named(celery)
    return await asyncio.to_thread(current_app, named) if asking_blocks(named) else current_app(named)


def _named(celery: Any) -> Any:
    operation = running()
    return celery if celery is not None or operation is None else operation.celery


class Outgoing:
    """A message for the broker of a Celery app.

    ``event`` is the name of the signal that is published, ``sender`` and ``payload`` are what presend and
    postsend are told.
    """

    def __init__(
        self,
        app: Any,
        task: str,
        message: tuple[str, ...],
        *,
        queue: str | None,
        timeout: float,
        event: str,
        sender: Any,
        payload: Mapping[str, Any],
    ) -> None:
        self._broker = broker_for(app)
        self._task = task
        self._message = message
        self._queue = queue
        self._timeout = timeout
        self._running: Running | None = running()
        self._told = {"event": event, "args": (sender,), "kwargs": payload}
        self._submitted: Future[None] | None = None

    def submit_now(self) -> None:
        """Hand it to the publisher's thread at once, unless somebody has to be told before."""
        if self._running is None or not self._running.hooks.heard("presend"):
            self._submitted = self._submit()

    async def publish(self) -> None:
        """Publish without blocking the loop; raises PublishError, and what a presend receiver raises."""
        if self._submitted is None:
            await self._tell("presend")
            self._submitted = self._submit()
        await wait_async(self._submitted, self._timeout)
        await self._tell("postsend")

    def publish_blocking(self) -> None:
        """Publish from code that may block."""
        self._tell_blocking("presend")
        wait(self._submit(), self._timeout)
        self._tell_blocking("postsend")

    def _submit(self) -> Future[None]:
        return self._broker.submit(self._task, self._message, self._queue, self._timeout)

    async def _tell(self, event: str) -> None:
        if self._running is not None:
            operation = self._running.operation
            await self._running.hooks.run_event(event, operation=operation, task=operation, **self._told)

    def _tell_blocking(self, event: str) -> None:
        if self._running is not None:
            operation = self._running.operation
            for owner, signal in self._running.hooks.heard(event):
                signal.send(
                    owner, _async_wrapper=made_plain, operation=operation, task=operation, **self._told
                )


def made_plain(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function that runs an asynchronous receiver to its end, on the loop of this process."""

    def plain(*args: Any, **kwargs: Any) -> Any:
        return loop.run(receiver(*args, **kwargs))

    return plain


def is_in_loop() -> bool:
    """Tell whether this code runs in an event loop, so that it must not block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_background(work: Coroutine[Any, Any, Any], what: str) -> None:
    """Let work go on in the running loop; nobody waits for it, so its error is logged."""

    async def watched() -> None:
        try:
            await work
        except Exception:
            logger.exception("%s failed", what)

    task = asyncio.get_running_loop().create_task(watched())
    _in_background.add(task)
    task.add_done_callback(_in_background.discard)
