"""The measurements: they run, they measure the same things of all, and the pages show what came of them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo import MongoClient

from bench.agreement import DisagreementError, agree, plain
from bench.catalogue import PEERS, Peer, UnavailableError
from bench.documents import body, key, stored
from bench.growth import GROWING, Growth, walk
from bench.growth_report import write_growth
from bench.imports import IMPORTS
from bench.load import LoadError, complete, drive
from bench.report import sheets, write_rst
from bench.results import Cell, Results
from bench.rounds import compare, install
from bench.scenarios import AGES, SCENARIOS
from bench.servers import Server, running

ROOT = Path(__file__).resolve().parent.parent
SEEDED = 250


@pytest.fixture(scope="module")
def users(mongo_url: str) -> Iterator[SimpleNamespace]:
    """A database with the documents that the peers are asked for."""
    with MongoClient[dict[str, Any]](mongo_url) as client:
        name = "bzz-bench"
        client.drop_database(name)
        client[name]["user"].insert_many([stored(number) for number in range(SEEDED)])
        yield SimpleNamespace(url=mongo_url, name=name, collection=client[name]["user"])
        client.drop_database(name)


# The others have environments of their own; `make bench` makes them, and asks the same before it measures.
@pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.ready])
def test_every_peer_does_the_same(users: SimpleNamespace, name: str) -> None:
    peer = PEERS[name]
    with running(peer, users.url, users.name) as server:
        agree(server, SEEDED)
        assert server.memory() > 5_000_000
        assert server.cpu_seconds() > 0
    assert users.collection.count_documents({}) == SEEDED


def test_who_does_something_else_is_found_out(users: SimpleNamespace) -> None:
    with running(PEERS["constant"], users.url, users.name) as server:
        pretending = Server(replace(PEERS["constant"], stores=True), server.port, server.process)
        with pytest.raises(DisagreementError, match="the document is"):
            agree(pretending, SEEDED)


def test_a_server_that_ends_says_why(users: SimpleNamespace) -> None:
    broken = Peer("nothing", "nothing", (), module="bench.no_such_module")
    with pytest.raises(RuntimeError, match="ended with status 1") as raised, running(broken, "", ""):
        pass  # pragma: no cover
    assert "no_such_module" in raised.value.__notes__[0]


@pytest.fixture(scope="module")
def results() -> Results:
    """A very short comparison of those that need no network."""
    peers = ["constant", "bzz", "handwritten"]
    scenarios = ["get", "list20", "create", "update", "delete"]
    return compare(peers, scenarios, [8], rounds=1, seconds=0.2, warm_up=0.05, prepare=0)


def test_a_comparison_measures_everything(results: Results) -> None:
    found = {(cell.peer, cell.scenario) for cell in results.cells}
    assert len(found) == len(results.cells) == 15
    for cell in results.cells:
        assert cell.answers > 0
        assert cell.rate > 1
        assert 0 < cell.p50 <= cell.p99
        assert 0 < cell.busy < 1
        assert cell.connections == 8
    assert any(cell.cpu > 0 for cell in results.cells)
    assert any(cell.database_cpu > 0 for cell in results.cells)
    assert results.versions["bzz"].keys() >= {"bzz", "tornado"}
    assert all(len(found) == 2 for found in results.memory.values())


def test_the_tables_have_a_row_for_each_peer(results: Results) -> None:
    ratios, rates, cpu, times, memory = sheets(results)
    assert ratios.heads == ["peer", "get", "list 20", "create", "update", "delete"]
    assert [row[0] for row in ratios.rows] == ["Tornado, a constant", "bzz", "hand-written"]
    assert ratios.rows[2][1:] == ["1.00"] * 5
    assert all(float(cell) > 0 for row in ratios.rows for cell in row[1:])
    assert all(float(cell) > 0 for row in rates.rows for cell in row[1:])
    assert all(" + " in cell for row in cpu.rows for cell in row[1:])
    assert all(" / " in cell for row in times.rows for cell in row[1:])
    assert all(float(cell) > 5 for row in memory.rows for cell in row[1:])


def test_results_are_kept_and_read_again(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "kept.json")
    again = Results.read(tmp_path / "kept.json")
    assert again.versions == results.versions
    assert [cell.answers for cell in again.cells] == [cell.answers for cell in results.cells]
    again.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "kept.json").read_text()
    write_rst(again, tmp_path / "tables.inc")
    assert '"hand-written", "1.00"' in (tmp_path / "tables.inc").read_text()


def made(rates: dict[str, list[float]]) -> Results:
    """Results with these rates, by peer and round."""
    return Results(
        {"date": "", "processor": "", "memory": "", "system": "", "python": "", "mongod": ""},
        {"rounds": 1, "seconds": 1.0, "documents": 1},
        versions={name: {} for name in rates},
        cells=[
            Cell(number, "get", 32, name, 100, rate, 1.0, 1.0, 1.0, 2.0, 0.1)
            for name, found in rates.items()
            for number, rate in enumerate(found)
        ],
    )


def test_a_ratio_is_taken_within_one_round() -> None:
    # The machine became ten times as slow in the second round; nobody's ratio changes for that.
    found = made({"bzz": [200, 20, 300], "handwritten": [100, 10, 100]})
    assert found.ratios("bzz", "get", 32) == [2, 2, 3]
    assert next(sheets(found)).rows == [["bzz", "2.00"], ["hand-written", "1.00"]]


def test_a_peer_that_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.catalogue.ENVIRONMENTS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = made({"handwritten": [1]})
    said: list[str] = []
    assert install(["fastify"], found, said.append) == ["handwritten"]
    assert said == [
        "installing Fastify + Node driver",
        "without Fastify + Node driver: there is no node and npm here",
    ]
    assert next(sheets(found)).rows[1] == ["Fastify + Node driver", "-"]
    write_rst(found, tmp_path / "tables.inc")
    assert "was not measured: there is no node and npm here." in (tmp_path / "tables.inc").read_text()


def test_a_peer_that_fails_on_the_way_spoils_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = replace(SCENARIOS["get"], name="wrong", title="wrong", status=418)
    monkeypatch.setitem(SCENARIOS, "wrong", wrong)
    found = compare(["constant"], ["wrong", "get"], [1], rounds=1, seconds=0.05, prepare=0)
    assert [cell.scenario for cell in found.cells] == ["get"]
    assert len(found.failures) == 1
    assert found.failures[0].startswith(
        "round 1, wrong over 1: Tornado, a constant: expected HTTP/1.1 418, got"
    )
    write_rst(found, tmp_path / "tables.inc")
    assert "- ``round 1, wrong over 1" in (tmp_path / "tables.inc").read_text()


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server that sends these bytes in turn to whatever it receives on one connection, then closes it."""

    def serve() -> None:
        line, _ = listening.accept()
        with line:
            for answer in answers:
                line.recv(65536)
                line.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


FULL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_the_load_counts_whole_answers() -> None:
    with answering(FULL, FULL, FULL) as port:
        load = drive(port, repeat(b"GET / HTTP/1.1\r\n\r\n", 3), status=200, seconds=20)
    assert len(load.latencies) == 3
    assert load.percentile(0.5) <= load.percentile(0.99)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([FULL.replace(b"200 OK", b"500 Oh")], "expected HTTP/1.1 200, got"),
        ([FULL, b""], "the connection was closed"),
        ([FULL, FULL[:-1]], "the connection was closed"),
    ],
)
def test_the_load_accepts_nothing_else(answers: list[bytes], why: str) -> None:
    with answering(*answers) as port, pytest.raises(LoadError, match=why):
        drive(port, repeat(b"GET / HTTP/1.1\r\n\r\n"), status=200, seconds=20)


@pytest.mark.parametrize(
    "whole",
    [
        FULL,
        b"HTTP/1.1 200 OK\r\ncontent-length:2\r\nX: y\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n",
    ],
)
def test_an_answer_is_complete_with_its_last_byte(whole: bytes) -> None:
    assert complete(whole)
    assert not any(complete(whole[:end]) for end in range(len(whole)))


def test_no_two_requests_of_a_round_are_the_same_and_all_peers_get_the_same() -> None:
    for scenario in SCENARIOS.values():
        one, other = (scenario.make(Random(3), PEERS[name]) for name in ("bzz", "fastify"))
        requests = [next(one) for _ in range(500)]
        assert requests == [next(other) for _ in range(500)]
        assert len(set(requests)) > (0.9 * AGES if scenario.name.startswith("list") else 480)


def test_documents_are_stored_as_they_are_answered() -> None:
    found = stored(123_456)
    assert str(found.pop("_id")) == key(123_456)
    shown = found | {"since": found["since"].isoformat()}
    assert plain(shown) == plain(body(123_456))


def test_pages_are_reached_by_following_their_links(users: SimpleNamespace) -> None:
    users.collection.insert_many([stored(number) for number in range(SEEDED, 2500)])
    with running(GROWING, users.url, users.name, environment={"RECEIVERS": "3"}) as server:
        found = walk(server.port, 2500)
        assert list(found) == [1, 100]
        line = http.client.HTTPConnection("127.0.0.1", server.port)
        line.request("GET", found[100][1])
        page = json.loads(line.getresponse().read())
        line.close()
    assert [each["id"] for each in page] == [key(number) for number in range(2000, 2020)]
    users.collection.delete_many({"_id": {"$gte": stored(SEEDED)["_id"]}})


def test_the_pages_show_what_was_measured(tmp_path: Path) -> None:
    """After another measurement, or a change of the tables: python -m bench tables."""
    write_rst(Results.read(ROOT / "bench/results/comparison.json"), tmp_path / "comparison")
    write_growth(Growth.read(ROOT / "bench/results/growth.json"), tmp_path / "growth")
    for name in ("comparison", "growth"):
        assert (tmp_path / name).read_text() == (ROOT / f"docs/performance-{name}.inc").read_text()


def test_growth_is_kept_and_read_again(tmp_path: Path) -> None:
    found = Growth.read(ROOT / "bench/results/growth.json")
    assert list(found.imports) == list(IMPORTS)
    found.write(tmp_path / "again.json")
    assert Growth.read(tmp_path / "again.json") == found


def test_the_picture_has_a_panel_for_each_scenario(results: Results, tmp_path: Path) -> None:
    from bench.plot import draw  # noqa: PLC0415

    for name in ("one", "two"):
        draw(results, 8, tmp_path / f"{name}.svg")
    text = (tmp_path / "one.svg").read_text()
    assert all(f">{title}</text>" in text for title in ("list 20", "create", "bzz", "Tornado, a constant"))
    assert text == (tmp_path / "two.svg").read_text()  # or each run would change what is committed


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    from bench.__main__ import main  # noqa: PLC0415

    for options, why in (
        (["--only", "get,fly"], "fly: possible are get, list20"),
        (["--peers", "rails"], "rails: possible are constant, bzz"),
        (["--connections", "1,many"], "many: possible are numbers"),
    ):
        found = CliRunner().invoke(main, ["compare", *options])
        assert found.exit_code == 2
        assert why in found.output


def test_an_installation_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("bench.catalogue.ENVIRONMENTS", tmp_path / "envs")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho a line; echo there is no network >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(UnavailableError, match=r"^there is no network$"):
        PEERS["fastify"].install()
    assert not PEERS["fastify"].ready
