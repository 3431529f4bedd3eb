"""What is asked of the peers: six kinds of requests, each time another document or page."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

from bench.documents import body, changes, key

__all__ = ["SCENARIOS", "SEEDED", "Scenario", "message"]

SEEDED = 10_000
PAGES = 50
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

    ``make(chance, update)`` yields requests; ``update`` is the method with which a peer changes a part of a
    document. With ``consumes`` each request needs a document of its own, which is stored before.
    """

    name: str
    title: str
    status: int
    make: Callable[[random.Random, str], Iterator[bytes]]
    consumes: bool = False


def get(chance: random.Random, update: str) -> Iterator[bytes]:
    return cycle([message("GET", f"/user/{key(chance.randrange(SEEDED))}") for _ in range(DISTINCT)])


def pages(per_page: int) -> Callable[[random.Random, str], Iterator[bytes]]:
    """Ask for one of the first pages, at random."""

    def make(chance: random.Random, update: str) -> Iterator[bytes]:
        numbers = [chance.randint(1, PAGES) for _ in range(DISTINCT)]
        return cycle([message("GET", f"/user?page={number}&per_page={per_page}") for number in numbers])

    return make


def create(chance: random.Random, update: str) -> Iterator[bytes]:
    begin = chance.randrange(1_000_000, 9_000_000)
    return cycle([message("POST", "/user", body(begin + number)) for number in range(DISTINCT)])


def change(chance: random.Random, update: str) -> Iterator[bytes]:
    new = changes(chance)
    paths = [f"/user/{key(chance.randrange(SEEDED))}" for _ in range(DISTINCT)]
    return cycle([message(update, path, next(new)) for path in paths])


def delete(chance: random.Random, update: str) -> Iterator[bytes]:
    for number in count(DOOMED):
        yield message("DELETE", f"/user/{key(number)}")


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("get", "get", 200, get),
        Scenario("list20", "list 20", 200, pages(20)),
        Scenario("list100", "list 100", 200, pages(100)),
        Scenario("create", "create", 201, create),
        Scenario("update", "update", 200, change),
        Scenario("delete", "delete", 204, delete, consumes=True),
    )
}
