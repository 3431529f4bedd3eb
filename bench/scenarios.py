"""What is asked of the peers: six kinds of requests, each time for another document or list."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

from bench.catalogue import Peer
from bench.documents import body, changes, key

__all__ = ["AGES", "DOOMED", "SCENARIOS", "SEEDED", "Scenario", "message"]

SEEDED = 10_000
AGES = 100  # so that each list has a hundred documents
DISTINCT = 4000
DOOMED = 10_000_000  # the numbers of documents that are there to be deleted begin here


def message(method: str, path: str, value: Any = None) -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
    if value is None:
        return f"{head}\r\n".encode()
    content = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@dataclass(frozen=True)
class Scenario:
    """One kind of request: what is sent, and what must come back.

    ``make(chance, peer)`` yields the requests. With ``consumes`` each of them needs a document of its own,
    which is stored before.
    """

    name: str
    title: str
    status: int
    make: Callable[[random.Random, Peer], Iterator[bytes]]
    consumes: bool = False


def get(chance: random.Random, peer: Peer) -> Iterator[bytes]:
    return cycle([message("GET", f"/user/{key(chance.randrange(SEEDED))}") for _ in range(DISTINCT)])


def ages(per_page: int) -> Callable[[random.Random, Peer], Iterator[bytes]]:
    """Ask for the users of an age, at random; an index leads to them."""

    def make(chance: random.Random, peer: Peer) -> Iterator[bytes]:
        filters = [peer.equals.format(age=chance.randrange(AGES)) for _ in range(DISTINCT)]
        return cycle([message("GET", f"/user?{each}&per_page={per_page}") for each in filters])

    return make


def create(chance: random.Random, peer: Peer) -> Iterator[bytes]:
    begin = chance.randrange(1_000_000, 9_000_000)
    return cycle([message("POST", "/user", body(begin + number)) for number in range(DISTINCT)])


def change(chance: random.Random, peer: Peer) -> Iterator[bytes]:
    new = changes(chance)
    paths = [f"/user/{key(chance.randrange(SEEDED))}" for _ in range(DISTINCT)]
    return cycle([message(peer.update, path, next(new)) for path in paths])


def delete(chance: random.Random, peer: Peer) -> Iterator[bytes]:
    for number in count(DOOMED):
        yield message("DELETE", f"/user/{key(number)}")


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("get", "get", 200, get),
        Scenario("list20", "list 20", 200, ages(20)),
        Scenario("list100", "list 100", 200, ages(100)),
        Scenario("create", "create", 201, create),
        Scenario("update", "update", 200, change),
        Scenario("delete", "delete", 204, delete, consumes=True),
    )
}
