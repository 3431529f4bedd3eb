"""kill -9 of a worker while signals are queued: after a restart all of them were delivered, at least once."""

from __future__ import annotations

import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from bzz.embedded import EmbeddedRedis
from tests.queued_app import counted, slow
from tests.queueing import PATIENCE, Notes, end, family, working

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
#: How many signals are queued.
N = 200 if TORTURE > 1 else 40
DATABASE = f"bzz-{uuid.uuid4().hex}"


@pytest.fixture
def broker() -> Iterator[str]:
    with EmbeddedRedis() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", server.url)
        yield server.url


@pytest.fixture
def notes(broker: str) -> Iterator[Notes]:
    notes = Notes(broker)
    yield notes
    notes.store.close()


@pytest.mark.parametrize("pool", ["prefork"] if TORTURE == 1 else ["prefork", "solo"])
def test_all_are_delivered_when_the_worker_is_killed_while_receivers_run(
    notes: Notes, broker: str, mongo_url: str, pool: str
) -> None:
    options = ("--pool", pool, "--concurrency", "2")
    at_once = 2 if pool == "prefork" else 1
    for number in range(N):
        slow.send(None, name=str(number))
    with working(broker, mongo_url, DATABASE, *options) as worker:
        begun = notes.wait_for("begun", at_once)
        end(worker)
    assert notes.all("ended") == []
    assert notes.store.llen("slow") <= N - at_once
    notes.store.set("go on", 1)
    with working(broker, mongo_url, DATABASE, *options) as worker:
        ended = notes.wait_until("ended", all_of(N, "name"))
        assert worker.stop() == 0
    assert {each["name"] for each in ended} == {str(number) for number in range(N)}
    again = Counter(each["name"] for each in notes.all("begun"))
    for each in begun:
        assert again[each["name"]] == 2, "what was running is run again"
    assert notes.store.hlen("unacked") == 0


def test_a_killed_child_costs_nothing_but_another_delivery(notes: Notes, broker: str, mongo_url: str) -> None:
    with working(broker, mongo_url, DATABASE, "--concurrency", "1") as worker:
        slow.send(None, name="first")
        process = notes.wait_for("begun")[0]["process"]
        assert process in {each.pid for each in family(worker)[1:]}
        psutil.Process(process).kill()
        begun = notes.wait_for("begun", 2)
        assert {each["name"] for each in begun} == {"first"}
        assert begun[1]["process"] != process
        notes.store.set("go on", 1)
        notes.wait_for("ended")


@pytest.mark.parametrize("attempt", range(min(TORTURE, 10)))
def test_kills_at_random_moments(notes: Notes, broker: str, mongo_url: str, attempt: int) -> None:
    """A message that Redis has handed out and Kombu has not yet written down is lost with its worker.

    That takes some tenths of a millisecond for each message, which no setting closes: at most one message for
    each kill may be missing.
    """
    for number in range(N):
        counted.send(None, number=number)
    seen: list[dict[str, Any]] = []
    kills = 3
    for _ in range(kills):
        with working(broker, mongo_url, DATABASE, "--concurrency", "2") as worker:
            wanted = len(seen) + random.randint(1, max(1, N // (kills + 1)))
            seen = notes.wait_for("count", wanted)
            end(worker)
    with working(broker, mongo_url, DATABASE, "--concurrency", "2"):
        deadline = time.monotonic() + PATIENCE
        while notes.store.llen("counted") or notes.store.hlen("unacked"):
            assert time.monotonic() < deadline, "some messages were never taken"
            time.sleep(0.05)
    missing = set(range(N)) - {each["number"] for each in notes.all("count")}
    assert len(missing) <= kills, missing


def all_of(count: int, key: str) -> Any:
    return lambda found: len({each[key] for each in found}) >= count
