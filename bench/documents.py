"""The documents that all peers store: eight fields, one of them nested. Each number gives another one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

__all__ = ["answer", "body", "changes", "key", "stored"]

CITIES = ("Rio de Janeiro", "Lima", "Bogotá", "La Paz", "Quito", "Montevideo", "Asunción", "Caracas")
TAGS = ("reader", "writer", "editor", "admin", "guest")
EPOCH = datetime(2020, 1, 1)
KEYS_BEGIN = 1_577_836_800 << 64  # of ObjectIds that are as old


def key(number: int) -> str:
    """The key of a seeded document; they sort as their numbers do."""
    return f"{KEYS_BEGIN + number:024x}"


def body(number: int) -> dict[str, Any]:
    """A new user as JSON can say it."""
    return {
        "name": f"User {number}",
        "age": number % 100,
        "email": f"user{number}@example.org",
        "tags": [TAGS[number % 5], TAGS[number // 5 % 5]],
        "address": {"city": CITIES[number % 8], "zip": f"{number % 100000:05d}"},
        "active": number % 2 == 0,
        "score": number / 4 + 0.125,
        "since": f"{EPOCH + timedelta(minutes=number % 1000000):%Y-%m-%dT%H:%M:%SZ}",
    }


def answer(number: int) -> dict[str, Any]:
    """A user as it is answered."""
    return {"id": key(number), **body(number)}


def stored(number: int) -> dict[str, Any]:
    """A user as it lies in MongoDB."""
    return {
        "_id": ObjectId(key(number)),
        **body(number),
        "since": EPOCH + timedelta(minutes=number % 1000000),
    }


def changes(chance: random.Random) -> Iterator[dict[str, Any]]:
    """Yield updates without end: three fields, one of them nested, always to something new."""
    while True:
        yield {
            "score": chance.randrange(1_000_000) + 0.5,
            "active": chance.random() < 0.5,
            "address": {"city": chance.choice(CITIES), "zip": f"{chance.randrange(100000):05d}"},
        }
