"""Celery as a transport: which app, whether it has a broker, the two tasks, and publishing them.

Celery is an extra, and heavy: it is imported here only when something is published, and where an event loop
runs, in another thread.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from bzz.delivery import arrival
from bzz.delivery.publisher import Publisher
from bzz.delivery.reading import UnreadableError
from bzz.errors import DeliveryError

__all__ = ["RECEIVER_TASK", "SIGNAL_TASK", "Broker", "asking_blocks", "broker_for", "current_app", "register"]

#: The task that runs all receivers of an asynchronous signal.
SIGNAL_TASK = "bzz.signal"
#: The task that runs one receiver of any other signal.
RECEIVER_TASK = "bzz.receiver"

#: Seconds that connecting, and each answer of the broker, may take while publishing.
_ANSWER = 2.0

#: What holds for the two tasks whatever the app says for others: a message is acknowledged when its receivers
#: have run, goes back to the queue when the process dies under it, and nobody waits for a result.
_TASK_OPTIONS: dict[str, Any] = {
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "serializer": "json",
    "typing": False,
    "shared": False,
    "lazy": False,
    "bind": True,
    # Nothing has run yet when MongoDB does not answer, so the message can wait for it.
    "autoretry_for": (UnreadableError,),
    "max_retries": 8,
    "retry_backoff": 1,
    "retry_backoff_max": 30,
}


def asking_blocks(app: Any) -> bool:
    """Tell whether :func:`current_app` would import Celery, which takes some tenths of a second."""
    return app is None and "celery" not in sys.modules and _may_be_configured()


def _may_be_configured() -> bool:
    """Tell whether Celery, not imported yet, could find a broker by itself: where nobody has made an app."""
    if importlib.util.find_spec("celery") is None:
        return False
    if os.environ.get("CELERY_BROKER_URL") or os.environ.get("CELERY_BROKER_WRITE_URL"):
        return True
    module = os.environ.get("CELERY_CONFIG_MODULE", "celeryconfig")
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except ImportError:  # the package that it should be in
        return False


def current_app(app: Any = None) -> Any:
    """Return the given Celery app or Celery's current one; None if it has no broker and runs nothing eagerly.

    An app without a broker would talk to ``amqp://guest@localhost``, whoever that is.
    """
    if app is None:
        if "celery" not in sys.modules and not _may_be_configured():
            return None
        try:
            return _current_anywhere()
        except ImportError:
            return None
    return app if _is_configured(app) else None


def _is_configured(app: Any) -> bool:
    return bool(app.conf.broker_write_url or app.conf.task_always_eager)


def _current_anywhere() -> Any:
    """Return Celery's current app, also in a thread other than the one that made it.

    An app becomes the current one in the thread that makes it, usually the main one; all others get a
    fallback that nobody has made, unless somebody calls ``app.set_default()``.
    """
    from celery import _state  # noqa: PLC0415 - an extra, imported when needed

    state: Any = _state
    app = state.get_current_app()
    if app.main == "default" and not app.set_as_current:
        made = [each for each in state._get_active_apps() if each.set_as_current and _is_configured(each)]
        if len(made) > 1:
            names = ", ".join(sorted(str(each.main) for each in made))
            raise DeliveryError(
                f"there are several Celery apps ({names}), and none is current in this thread: name one with"
                " celery=, or call its set_default()"
            )
        app = made[0] if made else app
    return app if _is_configured(app) else None


def register(app: Any) -> dict[str, Any]:
    """Make the two tasks known to a Celery app, in a worker as in a publisher; return them by name."""
    if SIGNAL_TASK not in app.tasks:
        from celery.exceptions import SoftTimeLimitExceeded  # noqa: PLC0415 - an extra

        ends = (SoftTimeLimitExceeded,)
        app.task(**_TASK_OPTIONS, name=SIGNAL_TASK)(
            _task(functools.partial(arrival.deliver_signal, ends=ends))
        )
        app.task(**_TASK_OPTIONS, name=RECEIVER_TASK)(
            _task(functools.partial(arrival.deliver_receiver, ends=ends))
        )
    return {name: app.tasks[name] for name in (SIGNAL_TASK, RECEIVER_TASK)}


def _task(deliver: Callable[..., None]) -> Callable[..., None]:
    def task(_task: Any, *message: str) -> None:
        deliver(*message)

    return task


class Broker:
    """Publishing for one Celery app: its connection lives in the publisher's thread."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._producer: Any = None
        # A URL may hold a password; the host does not.
        name = f"the broker at {urlsplit(str(app.conf.broker_write_url)).hostname or 'its place'}"
        self._publisher = Publisher(name, self._reset, self._temporary)

    def submit(self, task: str, message: tuple[str, ...], queue: str | None, timeout: float) -> Future[None]:
        """Publish one task, in the publisher's thread; the future fails with PublishError.

        Tries that may have arrived although no answer came back have the same task id.
        """
        options: dict[str, Any] = {"retry": False} if queue is None else {"retry": False, "queue": queue}
        return self._publisher.submit(functools.partial(self._publish, task, message, options), timeout)

    def _publish(self, task: str, message: tuple[str, ...], options: dict[str, Any]) -> None:
        # Made here and kept for the next try: asking for random bytes lets go of the interpreter's lock, and
        # an event loop may wait milliseconds to get it back.
        options.setdefault("task_id", str(uuid.uuid4()))
        known = register(self.app)[task]
        if self.app.conf.task_always_eager:
            known.apply(message, task_id=options["task_id"])
            return
        if self._producer is None:
            self._producer = self.app.amqp.Producer(self._connect(), auto_declare=False)
        known.apply_async(message, producer=self._producer, **options)

    def _connect(self) -> Any:
        options: dict[str, Any] = {
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
        }
        scheme = urlsplit(self.app.conf.broker_write_url).scheme.partition("+")[0]
        if scheme in {"redis", "rediss", "sentinel"}:
            options |= {"socket_timeout": _ANSWER, "socket_connect_timeout": _ANSWER}
        elif scheme in {"amqp", "amqps", "pyamqp"}:
            options |= {"read_timeout": _ANSWER, "write_timeout": _ANSWER, "confirm_publish": True}
        return self.app.connection_for_write(connect_timeout=_ANSWER, transport_options=options)

    def _temporary(self) -> tuple[type[BaseException], ...]:
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - an extra

        return (OperationalError, OSError)

    def _reset(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.connection.close()


_brokers: dict[Any, Broker] = {}
_lock = threading.Lock()
# A forked child must not close the sockets of its parent.
_left_to_the_parent: list[Broker] = []


def broker_for(app: Any) -> Broker:
    """Return the broker of a Celery app; always the same one in a process."""
    with _lock:
        broker = _brokers.get(app)
        if broker is None:
            broker = _brokers[app] = Broker(app)
        return broker


def _forget_in_child() -> None:
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _left_to_the_parent.extend(_brokers.values())
    _brokers.clear()


os.register_at_fork(after_in_child=_forget_in_child)
