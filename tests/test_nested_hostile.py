"""Whatever is sent below a document: a clear answer, and a document that its model still accepts."""

from __future__ import annotations

import json
import os
import random
from typing import Any
from urllib.parse import quote

import bzz
from bzz import signals
from bzz.testing import capture
from tests.nested_models import Address, Badge, Box, Module, Note, Project, Shelf, Team, User
from tests.serving import Client, serving

REQUESTS = 400 * int(os.environ.get("BZZ_TORTURE", "1"))

NAMES = [
    "members",
    "owner",
    "projects",
    "module",
    "badges",
    "notes",
    "friends",
    "address",
    "boxes",
    "inner",
    "user",
]
KEYS = ["ann", "bo", "bzz", "0", "1", "-1", "$where", "..", ".", "", "a/b", "\x00", "é", "x" * 2000, "[]"]
PLACES = [
    "team/t/members",
    "team/t/members/ann",
    "team/t/members/ann/address",
    "team/t/members/ann/friends",
    "team/t/owner",
    "team/t/owner/address",
    "team/t/projects",
    "team/t/projects/bzz",
    "team/t/projects/bzz/module",
    "team/t/badges",
    "team/t/notes",
    "team/t/notes/0",
    "team/empty/owner",
    "team/empty/members",
    "user/ann/address",
    "user/bo/address",
    "user/ann/friends",
    "user/ann/friends/bo",
    "shelf/s/boxes",
    "shelf/s/boxes/0",
    "shelf/s/boxes/0/inner",
    "shelf/s/boxes/0/user",
    "shelf/s/boxes/0/user/friends",
]
METHODS = ["GET", "HEAD", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
LITERAL: list[Any] = [None, True, 0, -1, 2**63 - 1, 1.5, "", "ann", "bo", "$ne", "\ud800", "x" * 300]
COMPOUND: list[Any] = [[], ["ann"], [["ann"]], [None], {}, {"$ne": None}, {"city": "Rio"}, {"_cls": "User"}]
MEANT: list[Any] = [{"id": "bo"}, {"city": "Rio"}, {"name": "x"}, {"members": ["bo"]}, {"text": "x"}]
FIELDS = [
    *NAMES,
    *[
        "id",
        "name",
        "stars",
        "city",
        "zip_code",
        "text",
        "title",
        "age",
        "lines",
        "_cls",
        "_id",
        "$set",
        "a.b",
        "pk",
    ],
    "",
]
TYPES = ["application/json", "application/merge-patch+json", "application/json-patch+json"]
FORM = "application/x-www-form-urlencoded"
HEADERS = [{}, {}, {}, {"If-Match": "*"}, {"If-Match": '"x"'}, {"If-None-Match": "*"}, {"Prefer": "dry-run"}]


def path(chance: random.Random) -> str:
    parts = [chance.choice(PLACES)]
    for _ in range(chance.choice([0, 0, 0, 1, 2, 4])):
        parts.append(chance.choice(NAMES))
        if chance.random() < 0.6:
            parts.append(quote(chance.choice(KEYS), safe="" if chance.random() < 0.9 else "/"))
    return "/" + "/".join(parts) + chance.choice(["", "", "", "/", "?page=1", "?fields=name", "?x[$ne]=1"])


def value(chance: random.Random, depth: int = 0) -> Any:
    if depth < 2 and chance.random() < 0.6:
        names = chance.sample(FIELDS, chance.randint(0, 3))
        return {name: value(chance, depth + 1) for name in names}
    return chance.choice([*LITERAL, *COMPOUND])


def sent(chance: random.Random, method: str) -> dict[str, Any]:
    options: dict[str, Any] = {"headers": dict(chance.choice(HEADERS))}
    if method not in {"POST", "PUT", "PATCH"}:
        return options
    roll = chance.random()
    if roll < 0.2:
        names = [f"{chance.choice(FIELDS)}{chance.choice(['', '[]', '.name'])}" for _ in range(2)]
        form = "&".join(f"{quote(name)}={quote(chance.choice(KEYS))}" for name in names)
        return {**options, "body": form.encode(), "content_type": FORM}
    body = value(chance) if roll < 0.6 else chance.choice(MEANT)
    kind = chance.choice(TYPES)
    if kind.endswith("json-patch+json"):
        operations = ["add", "remove", "replace", "test", "move", "copy", "$set"]
        body = [
            {
                "op": chance.choice(operations),
                "path": f"/{chance.choice(FIELDS)}",
                "from": f"/{chance.choice(FIELDS)}",
                "value": value(chance),
            }
            for _ in range(chance.randint(0, 3))
        ] or chance.choice([*LITERAL, *COMPOUND])
    return {**options, "body": json.dumps(body).encode(), "content_type": kind}


async def seed(client: Client) -> None:
    for model in (User, Team, Shelf):
        model.objects.delete()
    User(name="ann", address=Address(city="Rio"), friends=["bo"]).save()
    User(name="bo").save()
    projects = [Project(name="bzz", module=Module(name="m"))]
    Team(
        code="t", owner="ann", members=["ann", "bo"], projects=projects, badges=[Badge()], notes=[Note()]
    ).save()
    Team(code="empty").save()
    Shelf(code="s", boxes=[Box(inner=Note(text="x"), user="ann")]).save()


async def test_nothing_that_is_sent_is_an_internal_error(database: str) -> None:
    chance = random.Random(20261121)
    api = bzz.Api()
    for model in (User, Team, Shelf):
        api.add(model)
    statuses: dict[int, int] = {}
    async with serving(api) as client:
        with capture(signals.post_update_instance):
            for number in range(REQUESTS):
                if number % 50 == 0:
                    await seed(client)
                method, at = chance.choice(METHODS), path(chance)
                options = sent(chance, method)
                answer = await client.request(method, at, **options)
                assert answer.status < 500, (method, at, options, answer)
                assert answer.status < 400 or not answer.body or answer.json["status"] == answer.status
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
                for model in (User, Team, Shelf):
                    for document in model.objects:
                        document.validate()
    assert {200, 204, 400, 404, 405} <= {*statuses}, statuses
