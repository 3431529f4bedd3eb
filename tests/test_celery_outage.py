"""A broker that is down, silent, or gone: the loop goes on, requests keep their status, policies hold."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import celery
import mongoengine as me
import pytest
import redis

import bzz
from bzz.async_signals import AsyncSignal
from bzz.delivery import CeleryTransport
from bzz.delivery.celery import SIGNAL_TASK, broker_for
from bzz.delivery.publisher import COOLDOWN, Publisher, wait, wait_async
from bzz.dispatcher import set_transport
from bzz.embedded import EmbeddedRedis
from bzz.errors import PublishError
from tests.heartbeat import HELD_UP, Heartbeat, calmly
from tests.program import free_port
from tests.serving import Client, serving

#: Seconds that publishing may take in these tests.
TIMEOUT = 0.4
#: Seconds that a busy machine may add to that.
SLACK = 10.0

numbers = itertools.count()
Broken = Callable[[], celery.Celery]


class Parcel(me.Document):
    name = me.StringField()
    meta = {"collection": "outage_parcel"}


def queued(instance: Any) -> None:
    raise AssertionError("this belongs into a worker")


@contextlib.contextmanager
def down() -> Iterator[str]:
    """A broker that refuses connections."""
    yield f"redis://127.0.0.1:{free_port()}/0"


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """A broker that accepts connections, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@contextlib.contextmanager
def gone() -> Iterator[str]:
    """A broker that worked, and is gone: the connection to it is open when it goes."""
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture(params=[down, silent, gone], ids=lambda kind: kind.__name__)
def broken(request: pytest.FixtureRequest) -> Iterator[Broken]:
    """Make Celery apps whose broker is out of reach, in one of three ways."""
    with contextlib.ExitStack() as stack:

        def make() -> celery.Celery:
            url = stack.enter_context(request.param())
            app = celery.Celery("outage", broker=url, set_as_current=False)
            if request.param is gone:
                wait(broker_for(app).submit(SIGNAL_TASK, ("a name", "{}"), None, 10), 10)
                stop_redis(app)
            return app

        yield make


@pytest.fixture
def app(broken: Broken) -> celery.Celery:
    return broken()


def stop_redis(app: celery.Celery) -> None:
    client = redis.Redis.from_url(app.conf.broker_url)
    client.shutdown(nosave=True)
    client.close()


def new_signal(app: celery.Celery, **options: Any) -> AsyncSignal:
    options = {"timeout": TIMEOUT, **options}
    return AsyncSignal(name=f"outage.{next(numbers)}", celery=app, **options)


@calmly
async def test_policy_raise(broken: Broken) -> None:
    signal = new_signal(broken(), policy="raise")
    signal.connect(lambda: pytest.fail("it must not run here"))
    async with Heartbeat():
        began = time.monotonic()
        with pytest.raises(PublishError, match=r"the broker .*(is out of reach|has not answered)"):
            await signal.send_async(None)
        assert time.monotonic() - began < TIMEOUT + SLACK


@calmly
async def test_policy_fallback(broken: Broken, caplog: pytest.LogCaptureFixture) -> None:
    signal = new_signal(broken())
    heard: list[Any] = []
    signal.connect(lambda value: heard.append(value))

    @signal.connect
    async def later(value: Any) -> str:
        await asyncio.sleep(0)
        heard.append(-value)
        return "here"

    async with Heartbeat():
        results = await signal.send_async(None, value=1)
        assert [result for _, result in results] == [None, "here"]
        assert signal.send(None, value=2) == []
        while len(heard) < 4:
            await asyncio.sleep(0.01)
    assert heard == [1, -1, 2, -2]
    assert signal.failures == 2
    assert "could not be published" in caplog.text


async def test_policy_log(app: celery.Celery, caplog: pytest.LogCaptureFixture) -> None:
    signal = new_signal(app, policy="log")
    signal.connect(lambda: pytest.fail("it must not run here"))
    assert await signal.send_async(None) == []
    assert signal.failures == 1
    assert "could not be published" in caplog.text


def test_policies_outside_of_a_loop(app: celery.Celery) -> None:
    began = time.monotonic()
    with pytest.raises(PublishError):
        new_signal(app, policy="raise").send(None)
    assert time.monotonic() - began < TIMEOUT + SLACK
    signal = new_signal(app)

    @signal.connect
    async def here(value: Any) -> Any:
        return value

    assert signal.send(None, value=7) == [(here, 7)]
    assert new_signal(app, policy="log").send(None) == []


async def test_raise_in_the_background_is_logged(
    app: celery.Celery, caplog: pytest.LogCaptureFixture
) -> None:
    signal = new_signal(app, policy="raise")
    signal.send(None)
    while "failed" not in caplog.text:
        await asyncio.sleep(0.01)
    assert "PublishError" in caplog.text


@calmly
async def test_many_sends_cost_one_time_limit_not_many(broken: Broken) -> None:
    signal = new_signal(broken(), policy="raise")
    began = time.monotonic()
    async with Heartbeat():
        results = await asyncio.gather(*(signal.send_async(None) for _ in range(200)), return_exceptions=True)
    assert {type(each) for each in results} == {PublishError}
    assert time.monotonic() - began < TIMEOUT + SLACK


async def test_a_silent_broker_that_speaks_amqp() -> None:
    with silent() as url:
        app = celery.Celery("amqp", broker=url.replace("redis:", "amqp:"), set_as_current=False)
        began = time.monotonic()
        with pytest.raises(PublishError, match="has not answered within 0.4 seconds"):
            await new_signal(app, policy="raise").send_async(None)
        assert time.monotonic() - began < TIMEOUT + SLACK


@contextlib.asynccontextmanager
async def parcels(app: celery.Celery) -> AsyncIterator[Client]:
    """Serve parcels whose creation is received through a queue."""
    api = bzz.Api(celery=app)
    routes = api.add(Parcel)
    set_transport(CeleryTransport(timeout=TIMEOUT))
    routes.resource.hooks.signal("post_create_instance").connect(queued, queue="mail")
    async with serving(api) as client:
        yield client
    set_transport(CeleryTransport())


@calmly
async def test_requests_keep_their_status(
    broken: Broken, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with parcels(broken()) as client:
        before = Parcel.objects.count()
        logged = caplog.text.count("queued failed on post_create_instance")
        await client.request("GET", "/parcel")
        # The client and the database driver of this test live in the same loop.
        async with Heartbeat(2 * HELD_UP):
            began = time.monotonic()
            answers = await asyncio.gather(
                *(client.request("POST", "/parcel", json={"name": str(n)}) for n in range(20))
            )
            assert time.monotonic() - began < TIMEOUT + SLACK
        assert {answer.status for answer in answers} == {201}
        assert Parcel.objects.count() == before + 20
        assert caplog.text.count("queued failed on post_create_instance") == logged + 20


async def test_a_receiver_that_raises_fails_the_request(app: celery.Celery, database: str) -> None:
    api = bzz.Api(celery=app)
    api.add(Parcel)
    set_transport(CeleryTransport(timeout=TIMEOUT))
    api.on_post_create_instance(queued, queue="mail", errors="raise")
    try:
        async with serving(api) as client:
            assert (await client.request("POST", "/parcel", json={"name": "x"})).status == 500
            assert Parcel.objects.count() == 1, "the answer speaks of the receiver; the document is stored"
    finally:
        set_transport(CeleryTransport())


async def test_a_broker_that_comes_back_is_used_again() -> None:
    port = free_port()
    app = celery.Celery("back", broker=f"redis://127.0.0.1:{port}/0", set_as_current=False)
    signal = new_signal(app, policy="raise", queue="back")
    with pytest.raises(PublishError):
        await signal.send_async(None)
    with pytest.raises(PublishError, match="out of reach a moment ago"):
        await signal.send_async(None)
    with EmbeddedRedis(port) as server:
        deadline = time.monotonic() + COOLDOWN + 60
        while True:
            try:
                await signal.send_async(None)
                break
            except PublishError:
                assert time.monotonic() < deadline, "it is not used again"
                await asyncio.sleep(0.05)
        await signal.send_async(None)
        assert length(server.url, "back") == 2


@calmly
async def test_a_broker_that_goes_while_messages_are_on_their_way() -> None:
    """Every send either says that it failed, or its message was taken."""
    with EmbeddedRedis(append_only=True) as server:
        app = celery.Celery("middle", broker=server.url, set_as_current=False)
        signal = new_signal(app, policy="raise", queue="middle")
        await signal.send_async(None)
        async with Heartbeat():
            sends = [asyncio.create_task(signal.send_async(None)) for _ in range(400)]
            while sum(each.done() for each in sends) < 100:
                await asyncio.sleep(0)
            taken = length(server.url, "middle")
            await asyncio.to_thread(server.stop)
            results = await asyncio.gather(*sends, return_exceptions=True)
        failed = [each for each in results if isinstance(each, PublishError)]
        assert len(failed) + results.count([]) == 400
        assert 0 < len(failed) <= 401 - taken


def length(url: str, queue: str) -> int:
    client = redis.Redis.from_url(url)
    try:
        return int(client.llen(queue))  # type: ignore[arg-type]
    finally:
        client.close()


# The publisher alone ----------------------------------------------------------------------------------------


class Failing:
    """A job that fails ``times`` times, and says how often it was tried."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.tried = 0
        self.resets = 0
        self.error = error or OSError("broken pipe")

    def __call__(self) -> None:
        self.tried += 1
        if self.tried <= self.times:
            raise self.error

    def publisher(self) -> Publisher:
        return Publisher("the broker", self.reset, lambda: (OSError,))

    def reset(self) -> None:
        self.resets += 1


def test_a_job_is_tried_again_until_it_succeeds() -> None:
    job = Failing(3)
    wait(job.publisher().submit(job, 10), 10)
    assert (job.tried, job.resets) == (4, 3)


def test_an_error_that_will_not_go_away_is_not_tried_again() -> None:
    job = Failing(1, ValueError("nonsense"))
    with pytest.raises(PublishError, match="takes no message: ValueError: nonsense") as caught:
        wait(job.publisher().submit(job, 10), 10)
    assert isinstance(caught.value.__cause__, ValueError)
    assert (job.tried, job.resets) == (1, 1)


def test_after_a_failure_there_is_one_try_each_until_one_succeeds() -> None:
    job = Failing(10**9)
    publisher = job.publisher()
    with pytest.raises(PublishError, match="the broker is out of reach: broken pipe"):
        wait(publisher.submit(job, 1), 30)
    assert job.tried > 1
    publisher._failed_at = time.monotonic()  # however long it took to come here
    first = job.tried
    with pytest.raises(PublishError, match="a moment ago"):
        wait(publisher.submit(job, 30), 30)
    assert job.tried == first
    publisher._failed_at = time.monotonic() - COOLDOWN  # instead of waiting for it
    began = time.monotonic()
    with pytest.raises(PublishError, match="out of reach: broken pipe"):
        wait(publisher.submit(job, 30), 30)
    assert job.tried == first + 1
    assert time.monotonic() - began < 20
    publisher._failed_at = time.monotonic() - COOLDOWN
    job.times = 0
    wait(publisher.submit(job, 30), 30)
    wait(publisher.submit(job, 30), 30)


async def test_who_waits_gets_an_answer_when_the_thread_hangs() -> None:
    hanging = asyncio.Event()
    loop = asyncio.get_running_loop()
    job = Failing(0)
    publisher = job.publisher()

    def hang() -> None:
        asyncio.run_coroutine_threadsafe(hanging.wait(), loop).result()

    stuck = publisher.submit(hang, 0.1)
    behind = publisher.submit(job, 0.1)
    with pytest.raises(PublishError, match=r"has not answered within 0.1 seconds"):
        await wait_async(stuck, 0.1)
    with pytest.raises(PublishError, match="has not answered"):
        await asyncio.to_thread(wait, behind, 0.1)
    hanging.set()
    await asyncio.to_thread(wait, publisher.submit(lambda: None, 30), 30)
    assert job.tried == 0, "nobody waits for it any more"


def test_what_waited_too_long_is_not_tried() -> None:
    job = Failing(0)
    publisher = job.publisher()
    publisher.submit(lambda: time.sleep(0.3), 10)
    late = publisher.submit(job, 0.1)
    with pytest.raises(PublishError, match="other messages to the broker took too long"):
        wait(late, 30)
    assert job.tried == 0


def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bzz.delivery.publisher.MAX_WAITING", 2)
    job = Failing(0)
    publisher = job.publisher()
    go_on = threading.Event()

    def wait_there() -> None:
        assert go_on.wait(30)

    first = publisher.submit(wait_there, 60)
    second = publisher.submit(job, 60)
    with pytest.raises(PublishError, match="2 messages wait for the broker already"):
        wait(publisher.submit(job, 10), 10)
    go_on.set()
    wait(first, 60)
    wait(second, 60)
    wait(publisher.submit(job, 60), 60)
