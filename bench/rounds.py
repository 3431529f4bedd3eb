"""The comparison: rounds in which every peer does everything once, side by side and in changing order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import Any

import psutil
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from bench.agreement import agree
from bench.catalogue import PEERS, UnavailableError
from bench.documents import key, stored
from bench.load import Load, LoadError, drive
from bench.results import Cell, Results, machine
from bench.scenarios import DOOMED, SCENARIOS, SEEDED, Scenario
from bench.servers import Server, cpu_seconds, running
from bzz.embedded import EmbeddedMongo

__all__ = ["compare"]

# Enough for the quickest peer: what is left over is removed unseen.
DOOMED_A_SECOND = 8000
SAY: Callable[[str], None] = lambda text: None  # noqa: E731


def compare(
    peers: Sequence[str],
    scenarios: Sequence[str],
    connections: Sequence[int],
    *,
    rounds: int,
    seconds: float,
    warm_up: float = 0.15,
    prepare: float = 1.0,
    say: Callable[[str], None] = SAY,
    done: Callable[[], None] = lambda: None,
) -> Results:
    """Install the peers, start them all on one MongoDB, see that they agree, and measure.

    A peer that cannot be installed is left out and named in the results; one that runs and does not do what
    the others do is an error. Each does each thing ``prepare`` seconds long before the first round (what
    compiles while it runs needs that), and ``warm_up`` seconds before each measurement. ``say`` is told what
    happens now, ``done`` is called after each figure.
    """
    with ExitStack() as stack:
        mongo = stack.enter_context(EmbeddedMongo(cache=1.0))
        client: MongoClient[dict[str, Any]] = stack.enter_context(MongoClient(mongo.url))
        about = machine(f"{client.server_info()['version']}, a replica set of one, 1 GB of cache")
        results = Results(about, {"rounds": rounds, "seconds": seconds, "documents": SEEDED})
        servers = {}
        for name in install(peers, results, say):
            say(f"starting {PEERS[name].title}")
            database = client[f"bench_{name}"]
            if PEERS[name].stores:
                database["user"].create_index([("age", 1), ("_id", 1)])
                database["user"].insert_many([stored(number) for number in range(SEEDED)])
            servers[name] = stack.enter_context(running(PEERS[name], mongo.url, database.name))
            agree(servers[name], SEEDED)
            results.memory[name] = [servers[name].memory()]
        mongod = psutil.Process(mongo.pid)
        for scenario in scenarios if prepare else ():
            for server in servers.values():
                say(f"warming up {server.peer.title}: {scenario}")
                Measuring(client, mongod, prepare, 0)(-1, server, SCENARIOS[scenario], max(connections))
        measure = Measuring(client, mongod, seconds, warm_up)
        for number in range(rounds):
            for scenario in scenarios:
                for count in connections:
                    # Side by side, so that what the machine does besides hits all of them, and each time
                    # in another order, so that nobody is always the one after the slowest.
                    for name in random.Random(f"{number} {scenario} {count}").sample(
                        list(servers), len(servers)
                    ):
                        what = f"{scenario} over {count}: {PEERS[name].title}"
                        say(f"round {number + 1} of {rounds}, {what}")
                        try:
                            results.cells.append(measure(number, servers[name], SCENARIOS[scenario], count))
                        except LoadError as error:
                            results.failures.append(f"round {number + 1}, {what}: {error}")
                        done()
        for name, server in servers.items():
            results.memory[name].append(server.memory())
    return results


def install(peers: Sequence[str], results: Results, say: Callable[[str], None]) -> list[str]:
    """Install the peers, and return those that are there then."""
    for name in peers:
        if not PEERS[name].ready:
            say(f"installing {PEERS[name].title}")
        try:
            PEERS[name].install()
            results.versions[name] = PEERS[name].versions()
        except UnavailableError as error:
            results.missing[name] = str(error)
            say(f"without {PEERS[name].title}: {error}")
    return list(results.versions)


class Measuring:
    """Measures one cell after another."""

    def __init__(
        self, client: MongoClient[dict[str, Any]], mongod: psutil.Process, seconds: float, warm_up: float
    ) -> None:
        self.client = client
        self.mongod = mongod
        self.seconds = seconds
        self.warm_up = warm_up

    def __call__(self, number: int, server: Server, scenario: Scenario, connections: int) -> Cell:
        """Measure one peer in one scenario once."""
        database = self.client[f"bench_{server.peer.name}"]
        # Everybody gets the same requests within a round.
        requests = scenario.make(random.Random(f"{number} {scenario.name}"), server.peer)
        if consumes := scenario.consumes and server.peer.stores:
            requests = islice(requests, self.doom(database))
        used: list[tuple[float, float]] = []

        def note() -> None:
            used.append((server.cpu_seconds(), cpu_seconds(self.mongod)))

        load = drive(
            server.port,
            requests,
            status=scenario.status,
            connections=connections,
            seconds=self.seconds,
            warm_up=self.warm_up,
            begin=note,
            end=note,
        )
        if consumes:
            database["user"].delete_many(
                {"_id": {"$gte": ObjectId(key(DOOMED)), "$lt": ObjectId(key(2 * DOOMED))}}
            )
        return cell_of(number, server, scenario, connections, load, used)

    def doom(self, database: Database[dict[str, Any]]) -> int:
        """Store the documents that will be deleted, and return how many."""
        count = int(DOOMED_A_SECOND * (self.seconds + self.warm_up))
        database["user"].insert_many([stored(DOOMED + number) for number in range(count)])
        return count


def cell_of(
    number: int,
    server: Server,
    scenario: Scenario,
    connections: int,
    load: Load,
    used: list[tuple[float, float]],
) -> Cell:
    (before, database_before), (after, database_after) = used
    answers = len(load.latencies)
    return Cell(
        round=number,
        scenario=scenario.name,
        connections=connections,
        peer=server.peer.name,
        answers=answers,
        rate=load.rate,
        cpu=(after - before) / answers * 1e6,
        database_cpu=(database_after - database_before) / answers * 1e6,
        p50=load.percentile(0.50),
        p99=load.percentile(0.99),
        busy=load.busy,
    )
