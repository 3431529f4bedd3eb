"""What grows with what: time by documents, depth of a page, receivers and fields; memory by connections."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any

from pymongo import MongoClient

from bench.catalogue import PEERS, Peer
from bench.connections import bytes_per_connection, many_files
from bench.documents import body, changes, key, stored
from bench.imports import import_times
from bench.load import drive
from bench.results import machine
from bench.scenarios import message
from bench.servers import Server, running
from bzz.embedded import EmbeddedMongo

__all__ = ["Growth", "grow"]

DOCUMENTS = (1_000, 10_000, 100_000, 1_000_000)
DEPTHS = (1, 100, 10_000)
RECEIVERS = (0, 1, 10, 50)
FIELDS = (1, 10, 100)
PAGE = 20
CHUNK = 20_000
CONNECTIONS = 1000
Requests = Callable[[], Iterator[bytes]]


@dataclass
class Growth:
    """``times`` are milliseconds by table, row and column, one for each round; ``connections`` are bytes."""

    machine: dict[str, str]
    settings: dict[str, Any]
    times: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    connections: dict[str, float] = field(default_factory=dict)
    imports: dict[str, list[float]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, default=str, ensure_ascii=False)
        # The figures of one row stand on one line.
        text = re.sub(r"\[[^][]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)
        path.write_text(re.sub(r"\d+\.\d{5,}", lambda found: f"{float(found[0]):.4f}", text) + "\n")

    @classmethod
    def read(cls, path: Path) -> Growth:
        """Read what :meth:`write` has written."""
        return cls(**json.loads(path.read_text()))


def grow(
    *,
    rounds: int,
    seconds: float,
    documents: Iterable[int] = DOCUMENTS,
    say: Callable[[str], None],
) -> Growth:
    """Measure all of it; the cases of one table take turns within each round."""
    sizes = tuple(documents)
    with MongoHere() as (mongo, client), many_files(4 * CONNECTIONS):
        about = machine(f"{client.server_info()['version']}, a replica set of one, 1 GB of cache")
        growth = Growth(about, {"rounds": rounds, "seconds": seconds, "documents": list(sizes)})
        measure = Measuring(mongo.url, client, growth, rounds, seconds, say)
        measure.documents(sizes)
        measure.receivers()
        measure.fields()
        for name, peer in PEERS.items():
            if peer.ready:
                say(f"{CONNECTIONS} connections to {peer.title}")
                with measure.server(peer, f"idle_{name}", 100) as server:
                    growth.connections[name] = bytes_per_connection(server, CONNECTIONS)
    say("importing")
    growth.imports = import_times(max(5, 2 * rounds + 1))
    return growth


class MongoHere(ExitStack):
    """A MongoDB of its own, and a client."""

    def __enter__(self) -> tuple[EmbeddedMongo, MongoClient[dict[str, Any]]]:  # type: ignore[override]
        mongo = self.enter_context(EmbeddedMongo(cache=1.0))
        return mongo, self.enter_context(MongoClient(mongo.url))


class Measuring:
    """Measures one table after another."""

    def __init__(
        self,
        url: str,
        client: MongoClient[dict[str, Any]],
        growth: Growth,
        rounds: int,
        seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self.url = url
        self.client = client
        self.growth = growth
        self.rounds = rounds
        self.seconds = seconds
        self.say = say

    def server(self, peer: Peer, database: str, count: int, **environment: str) -> Any:
        """Store documents, and start a server for them."""
        self.store(database, (stored(number) for number in range(count)))
        return running(peer, self.url, f"bench_{database}", environment=environment)

    def store(self, database: str, documents: Iterator[dict[str, Any]]) -> None:
        while chunk := list(islice(documents, CHUNK)):
            self.client[f"bench_{database}"]["user"].insert_many(chunk, ordered=False)

    def documents(self, sizes: Iterable[int]) -> None:
        """By the number of documents, and by the depth of a page among the most."""
        cases: dict[tuple[str, str], tuple[Server, int, Requests]] = {}
        with ExitStack() as stack:
            for size in sizes:
                self.say(f"storing {size:,} documents")
                server = stack.enter_context(self.server(GROWING, f"size_{size}", size))
                row = f"{size:,} documents"
                cases[row, "get"] = server, 200, gets(size)
                cases[row, "first page"] = server, 200, pages([page(PAGE, "")])
                cases[row, "create"] = server, 201, creates
            self.rows("documents", cases)
            self.say(f"turning over the pages of {size:,} documents")
            column = f"a page of {PAGE} among {size:,} documents"
            found = walk(server.port, size)
            self.rows(
                "depth", {(f"page {depth:,}", column): (server, 200, pages(found[depth])) for depth in found}
            )

    def receivers(self) -> None:
        """By the number of receivers of an update."""
        with ExitStack() as stack:
            cases = {
                (f"{count} receivers" if count != 1 else "1 receiver", "update"): (
                    stack.enter_context(
                        self.server(GROWING, f"receivers_{count}", 1000, RECEIVERS=str(count))
                    ),
                    200,
                    updates,
                )
                for count in RECEIVERS
            }
            self.rows("receivers", cases)

    def fields(self) -> None:
        """By the number of a model's fields."""
        cases: dict[tuple[str, str], tuple[Server, int, Requests]] = {}
        with ExitStack() as stack:
            for count in FIELDS:
                made = {f"field{number}": f"value {number}" for number in range(count)}
                self.store(f"fields_{count}", ({"_id": stored(each)["_id"], **made} for each in range(1000)))
                environment = {"FIELDS": str(count)}
                server = stack.enter_context(
                    running(GROWING, self.url, f"bench_fields_{count}", environment=environment)
                )
                row = f"{count} fields" if count != 1 else "1 field"
                cases[row, "get"] = server, 200, gets(1000)
                cases[row, "list 20"] = server, 200, pages([f"/user?per_page={PAGE}"])
                cases[row, "create"] = server, 201, pages_of(message("POST", "/user", made))
                one = {"field0": "another value"}
                cases[row, "update of one field"] = server, 200, alternating(one, {"field0": "value"})
            self.rows("fields", cases)

    def rows(self, table: str, cases: dict[tuple[str, str], tuple[Server, int, Requests]]) -> None:
        """Measure the median time of each case over one connection, the cases taking turns."""
        times: dict[str, dict[str, list[float]]] = {}
        for number in range(-1, self.rounds):
            for row, column in Random(number).sample(list(cases), len(cases)):
                server, status, requests = cases[row, column]
                self.say(f"{table}: {row}, {column}")
                load = drive(server.port, requests(), status=status, seconds=self.seconds, warm_up=0.05)
                if number >= 0:  # the round before the first one warms up
                    times.setdefault(row, {}).setdefault(column, []).append(load.percentile(0.5))
        self.growth.times[table] = {
            row: {column: times[row][column] for other, column in cases if other == row} for row, _ in cases
        }


GROWING = Peer("growing", "bzz", (), module="bench.growing")


def gets(size: int) -> Requests:
    chance = Random(size)
    made = [message("GET", f"/user/{key(chance.randrange(size))}") for _ in range(2000)]
    return lambda: cycle(made)


def pages(paths: list[str]) -> Requests:
    made = [message("GET", path) for path in paths]
    return lambda: cycle(made)


def pages_of(request: bytes) -> Requests:
    return lambda: cycle([request])


def creates() -> Iterator[bytes]:
    return cycle([message("POST", "/user", body(5_000_000 + number)) for number in range(1000)])


def updates() -> Iterator[bytes]:
    new, chance = changes(Random(1)), Random(2)
    return cycle([message("PUT", f"/user/{key(chance.randrange(1000))}", next(new)) for _ in range(1000)])


def alternating(one: dict[str, Any], other: dict[str, Any]) -> Requests:
    made = [message("PUT", f"/user/{key(number)}", new) for new in (one, other) for number in range(1000)]
    return lambda: cycle(made)


def walk(port: int, size: int) -> dict[int, list[str]]:
    """Follow ``Link`` from the first page, and return the paths of a few pages at each depth that exists."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found: dict[int, list[str]] = {}
    at, path = 0, page(PAGE, "")
    for depth in DEPTHS:
        begin = (depth - 1) * PAGE
        if begin + 6 * PAGE > size:
            break
        while at < begin:  # by the longest pages: a cursor does not mind
            step = min(100, begin - at)
            path, at = following(line, path, step), at + step
        found[depth] = []
        for _ in range(5):
            found[depth].append(path)
            path, at = following(line, path, PAGE), at + PAGE
    line.close()
    return found


def page(length: int, cursor: str) -> str:
    return f"/user?per_page={length}&cursor={cursor}"


def following(line: http.client.HTTPConnection, path: str, length: int) -> str:
    """The path of the page after this one, this one having so many documents."""
    line.request("GET", page(length, path.partition("cursor=")[2]))
    answer = line.getresponse()
    answer.read()
    found = re.search(r'[?&]cursor=([^&>]+)[^>]*>; rel="next"', answer.headers.get("Link", ""))
    if found is None:
        raise RuntimeError(f"{path} is answered with {answer.status} and leads nowhere")
    return page(PAGE, found[1])
