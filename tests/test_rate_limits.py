"""Rate limits: how many pass, what everybody is told, and Redis, with its outages."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mongoengine as me
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

import bzz
from bzz.embedded import EmbeddedRedis
from bzz.http.rate_limit import MemoryMeter, RateLimit, remote_address
from bzz.http.rate_limit_redis import RedisMeter, close_meters
from tests.own_process import program
from tests.quota_server import make_application
from tests.serving import serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
MINUTE = 60_000_000


class Parcel(me.Document):
    name = me.StringField(primary_key=True)


class Letter(me.Document):
    name = me.StringField(primary_key=True)


class Slow(bzz.MongoEngineRestHandler):
    rate_limit = "1/day"


class Clock:
    """Time that passes when told to, in µs."""

    def __init__(self) -> None:
        self.now = 5_000

    def __call__(self) -> int:
        return self.now * 1000


class Somebody:
    """As much of a handler as a limit looks at."""

    def __init__(self, address: str = "192.0.2.1") -> None:
        self.request = type("Request", (), {"remote_ip": address})()


def limit_on(clock: Clock, count: int, seconds: int, **options: Any) -> RateLimit:
    return RateLimit(count, seconds, meter=MemoryMeter(clock=clock, **options))


def quota(limit: RateLimit, who: Any = None) -> Any:
    return limit.take(who or Somebody())


# The algorithm ----------------------------------------------------------------------------------------------


def test_the_whole_quota_at_once_and_then_one_after_another() -> None:
    clock = Clock()
    limit = limit_on(clock, 60, 60)
    seen = [quota(limit) for _ in range(61)]
    assert [each.admitted for each in seen] == [True] * 60 + [False]
    assert [each.remaining for each in seen] == [*reversed(range(60)), 0]
    assert {each.seconds for each in seen} == {1}
    clock.now += 999_999
    assert not quota(limit).admitted
    clock.now += 1
    assert quota(limit).admitted
    assert not quota(limit).admitted
    clock.now += 60 * 1_000_000
    assert [quota(limit).admitted for _ in range(61)] == [True] * 60 + [False]


def test_the_seconds_are_those_until_the_next_request_passes() -> None:
    clock = Clock()
    limit = limit_on(clock, 2, 60)
    assert quota(limit) == (True, 1, 30)
    clock.now += 10_000_000
    assert quota(limit) == (True, 0, 20)
    assert quota(limit) == (False, 0, 20)
    clock.now += 19_999_999
    assert quota(limit) == (False, 0, 1)
    clock.now += 1
    assert quota(limit) == (True, 0, 30)


@given(
    st.integers(1, 50),
    st.integers(1, 3600),
    st.lists(st.integers(0, 40_000_000), min_size=1, max_size=200),
)
def test_no_time_lets_more_through_than_the_limit_says(count: int, seconds: int, waits: list[int]) -> None:
    clock = Clock()
    limit = limit_on(clock, count, seconds)
    passed: list[int] = []
    unrefused = 0
    for wait in waits:
        clock.now += wait
        found = quota(limit)
        if found.admitted:
            passed.append(clock.now)
        unrefused += found.admitted
    interval = round(seconds * 1_000_000 / count)
    for first, start in enumerate(passed):
        for last, end in enumerate(passed[first:], first):
            assert last - first + 1 <= count + (end - start) / interval
    assert unrefused >= min(len(waits), count), "a quota that nobody has used is there to be used"


def test_everybody_has_a_quota_of_their_own() -> None:
    limit = limit_on(Clock(), 1, 60)
    assert quota(limit, Somebody("192.0.2.1")).admitted
    assert quota(limit, Somebody("192.0.2.2")).admitted
    assert not quota(limit, Somebody("192.0.2.1")).admitted


def test_limits_on_one_meter_are_one_only_if_they_are_the_same() -> None:
    meter = MemoryMeter(clock=Clock())
    one = RateLimit(1, 60, meter=meter)
    assert quota(one).admitted
    assert not quota(RateLimit(1, 60, meter=meter)).admitted
    assert quota(RateLimit(1, 60, name="other", meter=meter)).admitted
    assert quota(RateLimit(1, 61, meter=meter)).admitted


def test_the_number_of_keys_is_bounded_and_who_is_seen_is_not_forgotten() -> None:
    meter = MemoryMeter(max_keys=10, clock=Clock())
    limit = RateLimit(1, 60, meter=meter)
    assert quota(limit, Somebody("busy")).admitted
    for number in range(1000):
        quota(limit, Somebody(f"client {number}"))
        assert not quota(limit, Somebody("busy")).admitted
    assert len(meter) == 10
    assert quota(limit, Somebody("client 1")).admitted, "it was seen longest ago, and forgotten"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_who_somebody_is(address: str, key: str) -> None:
    assert remote_address(Somebody(address)) == key


@pytest.mark.parametrize(
    ("written", "count", "seconds"),
    [
        ("100/minute", 100, 60),
        ("5/second", 5, 1),
        ("5 / 30 seconds", 5, 30),
        ("1000/hour", 1000, 3600),
        ("20000/2 days", 20000, 172800),
    ],
)
def test_a_limit_can_be_written(written: str, count: int, seconds: int) -> None:
    limit = RateLimit.of(written)
    assert (limit.count, limit.seconds) == (count, seconds)


@pytest.mark.parametrize(
    "written", ["", "100", "100/week", "-1/minute", "1.5/minute", "0/minute", "1/0 days"]
)
def test_what_is_no_limit_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="limit"):
        bzz.Api(rate_limit=written)


@pytest.mark.parametrize(
    "options",
    [
        {"count": 1, "seconds": 0},
        {"count": 2_000_000, "seconds": 1},
        {"count": 1, "seconds": 0.5},
        {"count": 1, "seconds": 1, "name": 'say "no"'},
        {"count": 1, "seconds": 1, "name": "größer"},
    ],
)
def test_what_cannot_be_counted_or_said_is_refused(options: Any) -> None:
    with pytest.raises(ValueError):
        RateLimit(**options)


def test_a_limit_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="rate_limit is"):
        bzz.Api(rate_limit=100)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_keys"):
        MemoryMeter(max_keys=0)


# Over HTTP --------------------------------------------------------------------------------------------------


async def test_who_asks_too_often_is_told_when_to_come_back(database: str) -> None:
    api = bzz.Api()
    api.add(Parcel, rate_limit="2/day")
    async with serving(api) as client:
        first = await client.get("/parcel")
        second = await client.get("/parcel/none")
        third = await client.post("/parcel", json={"name": "x"})
        assert await asyncio.to_thread(Parcel.objects.count) == 0
    policy = '"parcel";q=2;w=86400'
    assert [each.status for each in (first, second, third)] == [200, 404, 429]
    assert [each.headers["RateLimit-Policy"] for each in (first, second, third)] == [policy] * 3
    assert [each.headers["RateLimit"] for each in (first, second)] == [
        '"parcel";r=1;t=43200',
        '"parcel";r=0;t=43200',
    ]
    problem = third.problem(429)
    assert problem == {
        "type": "urn:bzz:problem:quota-exceeded",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "No more than 2 requests in 86400 seconds.",
        "violated-policies": ["parcel"],
    }
    wait = third.headers["Retry-After"]
    assert third.headers["RateLimit"] == f'"parcel";r=0;t={wait}'
    assert 43_000 < int(wait) <= 43_200


async def test_an_api_counts_its_resources_and_batches_together(database: str) -> None:
    api = bzz.Api(rate_limit="4/day", cors=bzz.Cors(origins="*"))
    api.add(Parcel)
    api.add(Letter)
    api.add(Letter, resource_name="own", rate_limit="1/day")
    api.add(Letter, resource_name="slow", handler=Slow)
    api.add(Letter, resource_name="free", rate_limit=None)
    preflight = {"Origin": "http://localhost:1", "Access-Control-Request-Method": "PUT"}
    async with serving(api) as client:
        tag = (await client.get("/parcel?page=1")).headers.get("ETag")
        assert tag is None
        await client.get("/letter")
        await client.post("/batch", json={"operations": [{"method": "GET", "path": "/parcel"}] * 9})
        counted = await client.request("OPTIONS", "/letter")
        left = [
            await client.get("/parcel"),
            await client.get("/letter"),
            await client.post("/batch", json={}),
        ]
        own = [(await client.get(path)).status for path in ("/own", "/own", "/slow", "/slow")]
        free = [await client.get(f"/{name}") for name in ("free", "health", "ready", "openapi.json", "docs")]
        asked = await client.request("OPTIONS", "/parcel", headers=preflight)
    assert counted.headers["RateLimit"].startswith('"default";r=0;')
    assert [each.status for each in left] == [429] * 3
    assert own == [200, 429, 200, 429]
    assert [each.status for each in free] == [200] * 5
    assert [name for each in free for name in each.headers if name.startswith("Ratelimit")] == []
    assert asked.status == 204, "a browser would not understand"


async def test_not_modified_and_wrong_methods_say_it_too(database: str) -> None:
    async with serving(bzz.MongoEngineRestHandler.routes_for(Parcel, rate_limit="9/day")) as client:
        await client.post("/parcel", json={"name": "x"})
        tag = (await client.get("/parcel/x")).headers["ETag"]
        same = await client.get("/parcel/x", headers={"If-None-Match": tag})
        wrong = await client.delete("/parcel")
    assert same.status == 304
    assert same.headers["RateLimit"].startswith('"parcel";r=6;')
    wrong.problem(405)
    assert wrong.headers["RateLimit-Policy"] == '"parcel";q=9;w=86400'
    assert "RateLimit" not in wrong.headers, "it was not counted"


async def test_who_is_counted_can_be_chosen(database: str) -> None:
    def user(handler: Any) -> str | None:
        name: str = handler.request.headers["X-User"]
        return None if name == "admin" else name

    api = bzz.Api(rate_limit=RateLimit(1, 86400, by=user))
    api.add(Parcel)
    async with serving(api) as client:
        users = ["ann", "ann", "bo", "admin", "admin"]
        answers = [await client.get("/parcel", headers={"X-User": each}) for each in users]
    assert [each.status for each in answers] == [200, 429, 200, 200, 200]
    assert "RateLimit" not in answers[-1].headers


async def test_requests_at_once_use_no_more_than_there_is(database: str) -> None:
    async with serving(bzz.MongoEngineRestHandler.routes_for(Parcel, rate_limit="25/day")) as client:
        answers = await asyncio.gather(*(client.get("/parcel") for _ in range(100)))
    assert Counter(each.status for each in answers) == {200: 25, 429: 75}


def test_what_is_counted_is_described() -> None:
    api = bzz.Api(rate_limit="4/day")
    api.add(Parcel)
    api.add(Letter, rate_limit=None)
    paths = api.openapi()["paths"]
    for path, method in (("/parcel", "get"), ("/parcel/{key}", "delete"), ("/batch", "post")):
        answers = paths[path][method]["responses"]
        assert answers["429"]["headers"].keys() == {"Retry-After", "RateLimit", "RateLimit-Policy"}
        assert "violated-policies" in json.dumps(answers["429"]["content"])
        assert all("RateLimit-Policy" in each["headers"] for each in answers.values())
    for path, method in (("/letter", "get"), ("/health", "get"), ("/openapi.json", "get")):
        assert "429" not in paths[path][method]["responses"]


# Redis ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
async def meters() -> AsyncIterator[None]:
    yield
    await close_meters()


@pytest.mark.usefixtures("meters")
async def test_processes_count_together_and_exactly(redis_url: str) -> None:
    count = 300 * TORTURE
    counting = ("quota_server", redis_url, str(count))
    async with program(*counting) as (_one, one), program(*counting) as (_other, other):
        answers = await asyncio.gather(*(each.get("/ping") for _ in range(count) for each in (one, other)))
    assert Counter(each.status for each in answers) == {200: count, 429: count}
    left = sorted(int(each.headers["RateLimit"].split(";r=")[1].split(";")[0]) for each in answers)
    assert left == [0] * (count + 1) + [*range(1, count)], "each number was said to one only"


@pytest.mark.usefixtures("meters")
async def test_the_counters_in_redis_go_away_on_their_own(redis_url: str) -> None:
    limit = RateLimit(3, 3600, name="mail", meter=RedisMeter(redis_url, prefix="test:", timeout=30))
    assert [(await quota(limit)).remaining for _ in range(2)] == [2, 1]
    client = redis.asyncio.Redis.from_url(redis_url)
    keys = await client.keys("test:*")
    lives = [await client.pttl(each) for each in keys]
    await client.aclose()
    assert keys == [b"test:mail:3/3600:192.0.2.1"]
    assert 2_000_000 < lives[0] <= 2_400_000


@pytest.mark.usefixtures("meters")
async def test_a_clock_of_redis_that_was_put_back_keeps_nobody_out(redis_url: str) -> None:
    limit = RateLimit(2, 10, name="clock", meter=RedisMeter(redis_url, prefix="test:", timeout=30))
    client = redis.asyncio.Redis.from_url(redis_url)
    await client.set("test:clock:2/10:192.0.2.1", 9_000_000_000_000_000)
    await client.aclose()
    found = await quota(limit)
    assert (found.admitted, found.remaining, found.seconds) == (False, 0, 5)


@pytest.mark.usefixtures("meters")
async def test_without_redis_everybody_passes_and_one_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        limit = RateLimit(1, 60, meter=RedisMeter(f"redis://127.0.0.1:{port}/0", pause=3600))
        with caplog.at_level(logging.WARNING, logger="bzz.rate_limit"):
            async with serving(make_application(limit)) as client:
                answers = [await client.get("/ping") for _ in range(5)]
    assert [each.status for each in answers] == [200] * 5
    assert answers[0].headers["RateLimit-Policy"] == limit.policy
    assert "RateLimit" not in answers[0].headers
    told = [each.message for each in caplog.records if each.name == "bzz.rate_limit"]
    assert len(told) == 1
    assert "rate limits do not count" in told[0]


@pytest.mark.usefixtures("meters")
async def test_a_redis_that_never_answers_is_waited_for_only_once(caplog: pytest.LogCaptureFixture) -> None:
    connected = 0
    over = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await over.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    meter = RedisMeter(f"redis://127.0.0.1:{port}/0", timeout=0.05, pause=3600)
    with caplog.at_level(logging.WARNING, logger="bzz.rate_limit"):
        found = [await quota(RateLimit(1, 60, meter=meter)) for _ in range(10)]
    await meter.close()
    over.set()
    server.close()
    await server.wait_closed()
    assert found == [None] * 10
    assert connected == 1
    assert ["TimeoutError" in each.message for each in caplog.records] == [True]


@pytest.mark.usefixtures("meters")
async def test_it_counts_again_as_soon_as_redis_is_back(caplog: pytest.LogCaptureFixture) -> None:
    limit: RateLimit
    with EmbeddedRedis() as first:
        port = first.port
        limit = RateLimit(2, 86400, meter=RedisMeter(first.url, timeout=30, pause=0))
        assert (await quota(limit)).remaining == 1
    with caplog.at_level(logging.WARNING, logger="bzz.rate_limit"):
        assert await quota(limit) is None
        assert await quota(limit) is None
        with EmbeddedRedis(port=port):
            assert (await quota(limit)).remaining == 1
            assert (await quota(limit)).remaining == 0
            assert not (await quota(limit)).admitted
    assert [each.message.partition(",")[0] for each in caplog.records] == [
        "rate limits do not count",
        "Redis counts for rate limits again",
    ]


@pytest.mark.usefixtures("meters")
async def test_a_connection_that_redis_has_dropped_costs_no_count(redis_url: str) -> None:
    limit = RateLimit(5, 86400, name="dropped", meter=RedisMeter(redis_url, timeout=30))
    assert (await quota(limit)).remaining == 4
    client = redis.asyncio.Redis.from_url(redis_url)
    await client.client_kill_filter(_type="normal", skipme=True)
    await client.script_flush()
    await client.aclose()
    assert (await quota(limit)).remaining == 3


def test_a_meter_follows_the_event_loop(redis_url: str) -> None:
    limit = RateLimit(5, 86400, name="loops", meter=RedisMeter(redis_url, timeout=30))

    async def once() -> Any:
        try:
            return await quota(limit)
        finally:
            await close_meters()

    assert [asyncio.run(once()).remaining for _ in range(3)] == [4, 3, 2]


@pytest.mark.parametrize("options", [{"timeout": 0}, {"pause": -1}, {"connections": 0}])
def test_a_meter_that_could_not_work_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        RedisMeter("redis://localhost", **options)
