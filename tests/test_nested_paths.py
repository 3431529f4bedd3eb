"""Which URLs below a document there are, and which there are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.nested_models import serving_teams, stored
from tests.serving import Client


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving_teams() as client:
        yield client


LIST = "GET, HEAD, POST, OPTIONS"
ITEM = "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
ONLY = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/team/t/members", LIST),
        ("/team/t/members/", LIST),
        ("/team/t/members/ann", ITEM),
        ("/team/t/projects", LIST),
        ("/team/t/projects/bzz", ITEM),
        ("/team/t/projects/bzz/module", ONLY),
        ("/team/t/owner", ONLY),
        ("/team/t/owner/address", ONLY),
        ("/team/t/members/ann/friends/bo/address", ONLY),
        ("/user/ann/friends", LIST),
    ],
)
async def test_every_kind_of_url_has_its_methods(client: Client, path: str, allowed: str) -> None:
    options = await client.request("OPTIONS", path)
    assert options.status == 204 and options.headers["Allow"] == allowed
    assert ("Accept-Patch" in options.headers) is ("PATCH" in allowed)
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - {*allowed.split(", ")}:
        refused = await client.request(method, path, body=b"")
        assert refused.problem(405) and refused.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/team/t/motto",
        "/team/t/code",
        "/team/t/members/ann/name",
        "/team/t/projects/bzz/name",
        "/team/t/projects/bzz/module/name",
        "/team/t/nothing",
        "/team/t/_data",
        "/team/t/m",
        "/team/t//members",
        "/team//members",
        "/team/t/members//",
        "/team/t/members//address",
        "/teams/t/members",
        "/team/t/members/ann/_id",
        "/team/t/members/%ff",
        "/team/%ff/members",
        "/team/t/members/" + "ann/friends/" * 16 + "ann",
        "/team/t/notes/0/text",
        "/team/t/../t/members",
        "/team/t/members%2Fann",
    ],
)
async def test_what_is_no_property_is_nowhere(client: Client, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        body = {} if method in {"POST", "PUT"} else None
        assert (await client.request(method, path, json=body)).status == 404, method


@pytest.mark.parametrize(
    "path",
    [
        "/team/none/members",
        "/team/none/members/ann",
        "/team/none/projects/bzz/module",
        "/team/t/members/cy",
        "/team/t/members/none",
        "/team/t/members/cy/address",
        "/team/t/projects/none",
        "/team/t/projects/none/module",
        "/team/t/projects/bzz/module",
        "/team/t/badges/none",
        "/team/t/notes/0",
        "/team/t/notes/-1",
        "/team/t/notes/00",
        "/team/t/notes/99999999999999999999",
        "/team/empty/owner",
        "/team/empty/owner/address",
        "/team/t/owner/address",
        "/user/ann/address",
        "/user/none/address",
    ],
)
async def test_what_is_not_there_is_missing(client: Client, path: str) -> None:
    before = stored()
    requests: list[tuple[str, dict[str, Any]]] = [
        ("GET", {}),
        ("HEAD", {}),
        ("PATCH", {"json": {"name": "x"}}),
        ("DELETE", {}),
        ("PUT", {"json": {"id": "none"}}),
    ]
    for method, options in requests:
        answer = await client.request(method, path, **options)
        expected = {404}
        if path.endswith("members") or path.endswith("owner"):
            expected |= {405, 400}
        if "/notes/" in path:
            expected.add(428)
        assert answer.status in expected, (method, answer)
    assert stored() == before
