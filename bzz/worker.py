"""A Celery worker that has imported the receivers, and an app set up for what bzz promises.

>>> import celery
>>> app = configure(celery.Celery("shop", broker="redis://localhost", set_as_current=False))
>>> app.conf.worker_prefetch_multiplier
1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from bzz.delivery.celery import current_app, register
from bzz.delivery.naming import queues as known_queues
from bzz.errors import DeliveryError
from bzz.storage.connection import forget_after_fork

__all__ = ["VISIBILITY_TIMEOUT", "celery_app", "configure", "work"]

#: Seconds after which a broker without acknowledgements of its own gives a dead worker's message to another.
VISIBILITY_TIMEOUT = 300.0


def configure(app: Any, *, visibility_timeout: float = VISIBILITY_TIMEOUT) -> Any:
    """Set a Celery app up for signals, and return it: for workers that are started with Celery's own command.

    The two tasks are registered; each process takes one message at a time; and a broker without
    acknowledgements of its own (Redis) gives the message of a killed worker to another one after
    ``visibility_timeout`` seconds.

    The trap: a receiver that runs for longer than that is given to another worker while it still runs.
    """
    if visibility_timeout <= 0:
        raise ValueError(f"visibility_timeout must be more than 0 seconds, not {visibility_timeout!r}")
    from celery import signals  # noqa: PLC0415 - an extra

    register(app)
    app.conf.worker_prefetch_multiplier = 1
    app.conf.broker_connection_retry_on_startup = True
    if urlsplit(app.conf.broker_read_url or "").scheme in {"redis", "rediss", "sentinel"}:
        app.conf.broker_transport_options = {
            **app.conf.broker_transport_options,
            "visibility_timeout": visibility_timeout,
            # Looking for what has to be given back is one quick command.
            "unacked_restore_interval": max(1, min(10, int(visibility_timeout / 4))),
            "unacked_restore_throttle": 1,
            # Who dies while giving back must not stop all others for Kombu's five minutes.
            "unacked_mutex_expire": 10,
        }
    signals.worker_process_init.connect(_begin_process, weak=False, dispatch_uid="bzz.worker")
    return app


def _begin_process(**_: Any) -> None:
    """Let go of the connections of the process that this one was forked from."""
    forget_after_fork()


def celery_app(target: Any = None) -> Any:
    """Return the Celery app of an Api, the one given itself, or Celery's current one.

    Raises DeliveryError when it has no broker.
    """
    from celery import Celery  # noqa: PLC0415 - an extra
    from celery._state import get_current_app  # noqa: PLC0415

    hooks = getattr(target, "hooks", None)
    app = target if isinstance(target, Celery) else getattr(hooks, "celery", None) or get_current_app()
    if current_app(app) is None:
        raise DeliveryError("Celery has no broker: set CELERY_BROKER_URL, or broker_url of the app")
    return app


def work(
    app: Any,
    *,
    queues: Sequence[str] = (),
    concurrency: int | None = None,
    pool: str = "prefork",
    visibility_timeout: float = VISIBILITY_TIMEOUT,
    log_level: str = "INFO",
) -> int:
    """Run a worker in this process until it is told to stop; return its exit status.

    It takes from ``queues``, or from the default queue and every queue that a signal or a receiver of this
    process is sent to, so import them first. ``concurrency`` is how many processes (or threads, with the pool
    ``threads``) run receivers, one for each processor unless said; ``solo`` runs them in this process.
    """
    from celery.concurrency import get_implementation  # noqa: PLC0415 - an extra

    configure(app, visibility_timeout=visibility_timeout)
    chosen = list(queues) or list(dict.fromkeys([app.conf.task_default_queue, *known_queues()]))
    # For what receivers send in turn, in whatever thread they run.
    app.set_current()
    app.set_default()
    worker = app.Worker(
        hostname=None,
        pool_cls=get_implementation(pool),
        concurrency=concurrency,
        queues=chosen,
        loglevel=log_level,
        # Neighbours are told nothing and asked nothing: signals need neither, and starting is faster.
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    status: int = worker.exitcode or 0
    return status
