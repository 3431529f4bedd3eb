"""An application whose receivers run in a worker: imported by the tests and by the worker that they start.

What a receiver saw is written to a list in Redis, as the text of a message, for the tests to read.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import celery
import mongoengine as me
import redis
from celery.signals import task_failure, task_postrun, task_prerun

import bzz
from bzz.async_signals import AsyncSignal, receiver
from bzz.delivery import wire
from bzz.signals import batch_finished, post_create_instance, post_delete_instance, post_update_instance
from tests import model_documents  # the models must be known where documents arrive

app = celery.Celery("queued", broker="redis://127.0.0.1:1/0", set_as_current=False)
app.conf.task_default_queue = "usual"
models = model_documents


class Account(me.Document):
    name = me.StringField(required=True)
    tags = me.ListField(me.StringField())
    meta = {"collection": "queued_account"}


api = bzz.Api(prefix="/api", celery=app)
accounts = api.add(Account)

if "MONGO_URL" in os.environ and "BZZ_TEST_DATABASE" in os.environ:
    me.connect(os.environ["BZZ_TEST_DATABASE"], host=os.environ["MONGO_URL"], uuidRepresentation="standard")

seen = AsyncSignal(name="queued.seen", celery=app)
urgent = AsyncSignal(providing_args=("order",), queue="high_priority", celery=app)
counted = AsyncSignal(celery=app, queue="counted")
failing = AsyncSignal(celery=app)
slow = AsyncSignal(celery=app, queue="slow")
elsewhere = AsyncSignal(celery=app, queue="elsewhere")
relayed = AsyncSignal(celery=app)
relayed_on = AsyncSignal(queue="usual")
unheard = AsyncSignal(celery=app)


def note(what: str, **payload: Any) -> None:
    """Write down what was seen, for another process to read."""
    store = redis.Redis.from_url(app.conf.broker_url)
    store.rpush("notes", wire.dumps(wire.Message(what, payload), whole=True))
    store.close()


def where() -> dict[str, Any]:
    """Tell in which process, thread and loop a receiver runs."""
    try:
        loop = id(asyncio.get_running_loop())
    except RuntimeError:
        loop = 0
    return {"process": os.getpid(), "thread": threading.get_ident(), "loop": loop}


@receiver([seen, elsewhere, relayed_on])
def see(sender: Any, value: Any = None) -> None:
    note("see", sender=sender, value=value, kind=type(value).__name__)


@receiver(urgent)
def first(sender: Any, order: Any, **kwargs: Any) -> None:
    note("first", order=order, **where())


@urgent.connect
async def second(order: Any) -> None:
    await asyncio.sleep(0)
    note("second", order=order, **where())


@urgent.connect(sender=Account)
def third(order: Any) -> Any:
    return fourth(order)


async def fourth(order: Any) -> None:
    note("third", order=order, **where())


@relayed.connect
def relay(value: Any) -> None:
    seen.send(Account, value=("from a task", value))
    relayed_on.send(sender="the current app")


@relayed.connect
async def relay_in_the_loop(value: Any) -> None:
    await seen.send_async(Account, value=("from the loop", value))


@counted.connect
def count(number: int) -> None:
    time.sleep(0.005)
    note("count", number=number)


@failing.connect
def fail(value: Any) -> None:
    raise LookupError(f"{value} is wrong")


@failing.connect
async def survive(value: Any) -> None:
    note("survive", value=value)


@failing.connect(errors="log")
def only_log(value: Any) -> None:
    raise RuntimeError("only in the log")


@slow.connect
def block(name: str) -> None:
    """Say that it runs, and do not end before somebody allows it."""
    note("begun", name=name, **where())
    store = redis.Redis.from_url(app.conf.broker_url)
    while not store.exists("go on"):
        time.sleep(0.02)
    note("ended", name=name)


@post_create_instance.connect(sender=Account, queue="mail")
def created(instance: Any, handler: Any, signal: Any) -> None:
    note("created", instance=instance, handler=handler, signal=signal.name)


@accounts.on_post_create_instance(queue="mail")
async def created_here(sender: Any, instance: Any) -> None:
    note("created_here", sender=sender, instance=instance)


@post_update_instance.connect(sender=Account, queue="mail", when={"name": ("a", "b")})
def renamed(instance: Any, updated_fields: Any) -> None:
    note("renamed", instance=instance, updated_fields=updated_fields)


@post_delete_instance.connect(sender=Account, queue="mail")
def deleted(instance: Any) -> None:
    note("deleted", instance=instance)


@batch_finished.connect(sender="nightly", queue="mail")
def batch_over(sender: Any, batch: Any, last_operation: Any) -> None:
    note("batch_over", sender=sender, batch=batch, last_operation=last_operation)


@task_prerun.connect
def before(sender: Any = None, task_id: Any = None, **kwargs: Any) -> None:
    note("prerun", task=sender.name, id=task_id)


@task_postrun.connect
def after(sender: Any = None, task_id: Any = None, state: Any = None, **kwargs: Any) -> None:
    note("postrun", task=sender.name, id=task_id, state=state)


@task_failure.connect
def failed(sender: Any = None, exception: Any = None, **kwargs: Any) -> None:
    note("failure", task=sender.name, error=type(exception).__name__, detail=str(exception))
