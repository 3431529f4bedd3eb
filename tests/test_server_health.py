"""``/health`` and ``/ready``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import mongoengine
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

import bzz
from bzz.embedded import EmbeddedMongo
from bzz.health import HealthHandler, ReadyHandler
from bzz.server import Server
from bzz.storage.connection import close_clients


async def ask(rules: Any, path: str, method: str = "GET") -> HTTPResponse:
    async with Server(rules, port=0, address="127.0.0.1", access_log=None) as server:
        client = AsyncHTTPClient(force_instance=True)
        answer = await client.fetch(
            server.url + path,
            method=method,
            raise_error=False,
            allow_nonstandard_methods=True,
            request_timeout=20,
        )
        client.close()
    return answer


def rules(check: Callable[[], Awaitable[object]] | None = None, **options: Any) -> list[Any]:
    return [("/health", HealthHandler), ("/ready", ReadyHandler, {"check": check, **options})]


async def well() -> None: ...


async def ill() -> None:
    raise ConnectionError("secret address")


async def silent() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(("path", "status"), [("/health", "alive"), ("/ready", "ready")])
async def test_well(path: str, status: str) -> None:
    answer = await ask(rules(well), path)
    assert (answer.code, json.loads(answer.body)) == (200, {"status": status})
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"


async def test_ready_without_a_check() -> None:
    assert (await ask(rules(), "/ready")).code == 200


@pytest.mark.parametrize("check", [ill, silent])
async def test_ill(check: Callable[[], Awaitable[object]]) -> None:
    answer = await ask(rules(check, timeout=0.1), "/ready")
    assert (answer.code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert b"secret" not in answer.body
    assert (await ask(rules(check), "/health")).code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_head_and_other_methods(path: str) -> None:
    head = await ask(rules(well), path, "HEAD")
    assert (head.code, head.body) == (200, b"")
    post = await ask(rules(well), path, "POST")
    assert (post.code, post.headers["Allow"]) == (405, "GET, HEAD")
    assert json.loads(post.body)["status"] == 405


async def test_api_is_ready_exactly_while_mongodb_answers() -> None:
    class Pot(mongoengine.Document):
        name = mongoengine.StringField()

    mongo = EmbeddedMongo()
    url = mongo.start()
    mongoengine.connect("bzz_health", host=url, uuidRepresentation="standard", serverSelectionTimeoutMS=300)
    api = bzz.Api(prefix="/api")
    api.add(Pot)
    try:
        assert (await ask(api, "/api/ready")).code == 200
        mongo.stop()
        await close_clients()
        assert (await ask(api, "/api/ready")).code == 503
        assert (await ask(api, "/api/health")).code == 200
    finally:
        mongo.stop()
        mongoengine.disconnect_all()
