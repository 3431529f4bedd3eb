"""The diffs of concurrent updates form one chain: each ``from`` is the ``to`` of the one before it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mongoengine as me
import pytest

from bzz import signals
from bzz.mongoengine_handler import MongoEngineRestHandler
from tests.serving import Client, serving

WRITES = 200 * int(os.environ.get("BZZ_TORTURE", "1"))

SERVER = textwrap.dedent(
    """
    import asyncio, json, sys
    import mongoengine as me, tornado.web
    from bzz import signals
    from bzz.mongoengine_handler import MongoEngineRestHandler

    url, database, kind = sys.argv[1:]
    me.connect(database, host=url, uuidRepresentation="standard")

    class Counter(me.Document):
        value = me.StringField()
        other = me.StringField()
        if kind == "clean":
            def clean(self):
                if self.value == "forbidden":
                    raise me.ValidationError("no")
        if kind == "save":
            def save(self, *args, **kwargs):
                self.other = self.value
                return super().save(*args, **kwargs)

    @signals.post_update_instance.connect
    def heard(updated_fields):
        print(json.dumps(updated_fields), flush=True)

    async def main():
        rules = MongoEngineRestHandler.routes_for(Counter, timeout=120, retry_seconds=120)
        app = tornado.web.Application(rules)
        server = app.listen(0, address="127.0.0.1")
        port = next(iter(server._sockets.values())).getsockname()[1]
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
    """
)


class Counter(me.Document):
    value = me.StringField()
    other = me.StringField()


def chained(diffs: list[dict[str, Any]], first: Any, last: Any) -> None:
    """Check that the diffs lead from ``first`` to ``last``, each used once."""
    follow = {each["from"]: each["to"] for each in diffs}
    assert len(follow) == len(diffs), "two writes claim to have replaced the same value"
    value, steps = first, 0
    while value in follow:
        value = follow.pop(value)
        steps += 1
    assert value == last
    assert not follow, f"{len(follow)} diffs are not part of the chain of {steps}"


class Process:
    """One server process; it prints a line for each diff that it heard."""

    def __init__(self, script: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.client = Client(int(self._process.stdout.readline()))

    def stop(self) -> list[dict[str, Any]]:
        self.client.close()
        out, _ = self._process.communicate()
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def processes(tmp_path: Path, mongo_url: str, database: str) -> Any:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    started: list[Process] = []

    def start(count: int, kind: str) -> list[Process]:
        started.extend(Process(script, mongo_url, database, kind) for _ in range(count))
        return started

    yield start
    for each in started:
        each._process.kill()
        each._process.wait()


@pytest.mark.parametrize("kind", ["plain", "clean", "save"])
async def test_concurrent_updates_from_several_processes(database: str, processes: Any, kind: str) -> None:
    counter = Counter(value="first").save()
    servers = processes(3, kind)

    async def put(number: int) -> None:
        answer = await servers[number % 3].client.put(f"/counter/{counter.id}", json={"value": f"v{number}"})
        assert answer.status == 200, answer

    await asyncio.gather(*(put(number) for number in range(WRITES)))
    diffs = [each for server in servers for each in server.stop()]
    last = counter.reload().value
    assert len(diffs) == WRITES
    chained([each["value"] for each in diffs], "first", last)
    if kind == "save":
        chained([each["other"] for each in diffs], None, last)


@pytest.fixture
async def heard(database: str) -> AsyncIterator[list[Any]]:
    found: list[Any] = []

    def receiver(updated_fields: Any) -> None:
        found.append(updated_fields)

    with signals.post_update_instance.connected_to(receiver):
        yield found


async def test_an_application_that_writes_meanwhile_counts_too(database: str, heard: list[Any]) -> None:
    """Plain mongoengine in a thread replaces values between our writes; no ``from`` may be one of those."""
    counter = Counter(value="first").save()
    replaced_by_others: list[tuple[Any, str]] = []

    def others() -> None:
        for number in range(WRITES):
            old = Counter.objects(id=counter.id).modify(set__value=f"other{number}")
            replaced_by_others.append((old.value, f"other{number}"))

    async with serving(MongoEngineRestHandler.routes_for(Counter)) as client:

        async def ours() -> None:
            for number in range(WRITES):
                await client.put(f"/counter/{counter.id}", json={"value": f"ours{number}"})

        await asyncio.gather(asyncio.to_thread(others), ours(), ours())
    diffs = [each["value"] for each in heard] + [{"from": old, "to": new} for old, new in replaced_by_others]
    # Two writers of ours write the same texts, so that one of them may find its value there already.
    steps = [(each["from"], each["to"]) for each in diffs]
    assert all(old != new for old, new in steps)
    balance: dict[Any, int] = {"first": -1, counter.reload().value: 1}
    if counter.value == "first":
        balance = {}
    for old, new in steps:
        balance[old] = balance.get(old, 0) + 1
        balance[new] = balance.get(new, 0) - 1
    assert not any(balance.values()), "a value was replaced more often than it was written"


async def test_different_fields_do_not_disturb_each_other(database: str, heard: list[Any]) -> None:
    counter = Counter(value="a0", other="b0").save()
    async with serving(MongoEngineRestHandler.routes_for(Counter)) as client, AsyncExitStack():
        await asyncio.gather(
            *(client.put(f"/counter/{counter.id}", json={"value": f"a{n}"}) for n in range(1, 50)),
            *(client.put(f"/counter/{counter.id}", json={"other": f"b{n}"}) for n in range(1, 50)),
        )
    counter.reload()
    assert all(len(each) == 1 for each in heard)
    chained([each["value"] for each in heard if "value" in each], "a0", counter.value)
    chained([each["other"] for each in heard if "other" in each], "b0", counter.other)


async def test_an_update_that_changes_nothing_writes_nothing_and_sends_nothing(
    database: str, heard: list[Any]
) -> None:
    counter = Counter(value="same").save()
    hello = me.get_connection().admin.command("hello")
    async with serving(MongoEngineRestHandler.routes_for(Counter)) as client:
        for body in ({"value": "same"}, {}, {"other": None}):
            assert (await client.put(f"/counter/{counter.id}", json=body)).status == 200
    assert heard == []
    written = me.get_connection().local.oplog.rs.find(
        {"ns": f"{database}.counter", "op": "u", "ts": {"$gt": hello["lastWrite"]["opTime"]["ts"]}}
    )
    assert list(written) == []
