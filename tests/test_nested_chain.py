"""Many who change one list at once, in several processes: all of it arrives, and the diffs form a chain."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nested_models import Team, User
from tests.serving import Client

WRITES = 60 * int(os.environ.get("BZZ_TORTURE", "1"))

SERVER = """
import asyncio, json, sys
import mongoengine as me, tornado.web
from bzz import Api, signals
from tests.nested_models import Project, Team, User

url, database, log = sys.argv[1:]
log = open(log, "w", buffering=1)
me.connect(database, host=url, uuidRepresentation="standard")

def forget(value):
    return [each["name"] for each in value] if value and isinstance(value[0], dict) else value

@signals.post_update_instance.connect(sender=Team)
def heard(updated_fields):
    for path, change in updated_fields.items():
        print(json.dumps([path, forget(change["from"]), forget(change["to"])]), file=log)

for signal, action in ((signals.post_create_instance, "came"), (signals.post_delete_instance, "went")):
    for model in (User, Project):
        signal.connect(lambda instance, action=action: print(json.dumps([action, instance.name]), file=log),
                       sender=model, weak=False)

async def main():
    api = Api()
    api.add(Team)
    server = api.application().listen(0, address="127.0.0.1")
    print(next(iter(server._sockets.values())).getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class Process:
    """One server process; it writes a line for each signal that it heard."""

    def __init__(self, script: Path, log: Path, *arguments: str) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        assert self.process.stdout is not None
        self.client = Client(int(self.process.stdout.readline()))

    def stop(self) -> list[Any]:
        self.client.close()
        self.process.communicate()
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def start(tmp_path: Path, mongo_url: str, database: str) -> Iterator[Callable[[int], list[Process]]]:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    started: list[Process] = []

    def start(count: int) -> list[Process]:
        for number in range(count):
            started.append(Process(script, tmp_path / f"log{number}", mongo_url, database))
        return started

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.communicate()


def chained(diffs: list[Any], first: Any, last: Any) -> None:
    """Check that the diffs of a list lead from ``first`` to ``last``, each used once."""
    follow = {json.dumps(before): json.dumps(after) for _path, before, after in diffs}
    assert len(follow) == len(diffs), "two writes claim to have replaced the same list"
    value = json.dumps(first)
    while value in follow:
        value = follow.pop(value)
    assert value == json.dumps(last) and not follow


async def test_associations_from_several_processes(database: str, start: Any) -> None:
    User.objects.insert([User(name=f"u{number}") for number in range(WRITES)])
    Team(code="t").save()
    servers = start(2)

    async def associate(number: int) -> int:
        client = servers[number % len(servers)].client
        return (await client.post("/team/t/members", form=f"members[]=u{number}")).status

    assert await asyncio.gather(*(associate(number) for number in range(WRITES))) == [201] * WRITES
    last = [each.name for each in Team.objects.get().members]
    assert sorted(last) == sorted(f"u{number}" for number in range(WRITES))
    heard = [line for each in servers for line in each.stop()]
    chained([line for line in heard if line[0] == "members"], [], last)
    assert sorted(name for what, name, *_ in heard if what == "came") == sorted(last)


async def test_embedded_documents_that_come_and_go_through_several_processes(
    database: str, start: Any
) -> None:
    Team(code="t").save()
    servers = start(2)
    # The model allows five at once.
    rounds = WRITES // 5

    async def come_and_go(number: int) -> None:
        for turn in range(rounds // 4):
            client = servers[(number + turn) % len(servers)].client
            name = f"p{number}-{turn}"
            assert (await client.post("/team/t/projects", json={"name": name})).status == 201
            changed = await client.put(f"/team/t/projects/{name}", json={"stars": turn})
            assert changed.json["name"] == name, changed
            assert (await client.delete(f"/team/t/projects/{name}")).status == 204

    await asyncio.gather(*(come_and_go(number) for number in range(5)))
    assert Team.objects.get().projects == []
    heard = [line for each in servers for line in each.stop()]
    went = [name for what, name, *_ in heard if what == "went"]
    assert sorted(went) == sorted(f"p{a}-{b}" for a in range(5) for b in range(rounds // 4))


async def test_who_sends_the_same_twice_is_in_the_list_once(database: str, start: Any) -> None:
    User(name="ann").save()
    Team(code="t").save()
    servers = start(2)
    posts = [each.client.post("/team/t/members", json={"id": "ann"}) for each in servers * 10]
    statuses = sorted([each.status for each in await asyncio.gather(*posts)])
    assert statuses == [200] * 19 + [201]
    assert [each.name for each in Team.objects.get().members] == ["ann"]
    heard = [line for each in servers for line in each.stop()]
    assert heard.count(["came", "ann"]) == 1
