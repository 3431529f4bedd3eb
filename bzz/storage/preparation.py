"""Collections and indexes, made by mongoengine itself, away from the event loop.

``Model._get_collection()`` creates capped and time series collections and the indexes of a model, and blocks
for as long as that takes. Here it runs in a thread of its own: at most one for each model and process, so
nothing piles up while MongoDB is away.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import Future
from typing import Any

__all__ = ["forget_preparations", "is_prepared", "prepare"]

_lock = threading.Lock()
_running: dict[Any, Future[Any]] = {}
# The collection that was prepared: mongoengine drops its own when an alias is disconnected. A plain dict, as
# every write looks into it; mongoengine keeps models as well.
_prepared: dict[Any, Any] = {}


def is_prepared(model: Any) -> bool:
    """Whether the collection that mongoengine holds for ``model`` now has its indexes."""
    collection = model.__dict__.get("_collection")
    return collection is not None and _prepared.get(model) is collection


async def prepare(model: Any) -> None:
    """Wait until the collection of ``model`` and its indexes exist.

    The caller brings the time limit; when it gives up, the work goes on for the next one to find. What
    mongoengine or PyMongo raise comes out unchanged, and the next call tries again.
    """
    if not is_prepared(model):
        # Shielded: the future is shared by all who wait.
        await asyncio.shield(asyncio.wrap_future(_started(model)))


def _started(model: Any) -> Future[Any]:
    with _lock:
        future = _running.get(model)
        if future is None:
            future = _running[model] = Future()
            future.set_running_or_notify_cancel()
            # A daemon, not the loop's executor: an index build must neither hold up the end of the process
            # nor take the threads of others.
            name = f"bzz-prepare-{model.__name__}"
            threading.Thread(target=_work, args=(model, future), name=name, daemon=True).start()
        return future


def _work(model: Any, future: Future[Any]) -> None:
    try:
        _prepared[model] = _create(model)
    except BaseException as error:
        _running.pop(model, None)
        future.set_exception(error)
    else:
        _running.pop(model, None)
        future.set_result(None)


def _create(model: Any) -> Any:
    timeseries = copy.deepcopy(model._meta.get("timeseries"))
    try:
        with _lock:
            model._get_db()  # mongoengine's get_connection() makes two clients when two threads meet in it
        if "_collection" in model.__dict__ and model._collection is not None:
            # Somebody used the model before; whether with success, mongoengine does not tell.
            if model._meta.get("auto_create_index", True) and model._get_db().client.is_primary:
                model.ensure_indexes()
            return model._collection
        return model._get_collection()
    except BaseException:
        # mongoengine keeps the collection although its indexes failed, and eats an option of time series:
        # undone here, so that the next attempt is a first one.
        model._collection = None
        if timeseries is not None:
            model._meta["timeseries"] = timeseries
        raise


def forget_preparations() -> None:
    """Start anew in a forked child: threads of the parent do not exist here."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _running.clear()
    _prepared.clear()
