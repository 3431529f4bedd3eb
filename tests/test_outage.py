"""MongoDB stops while requests run: a 503 problem within the time limit, and service again when it is
back."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import mongoengine as me
import psutil
import pytest

import bzz
from bzz.embedded import EmbeddedMongo
from bzz.storage.connection import close_clients
from tests.serving import Client, serving


class Note(me.Document):
    text = me.StringField()


class CleanNote(me.Document):
    text = me.StringField()

    def clean(self) -> None:
        pass


def mongod_at(port: int) -> psutil.Process:
    for each in psutil.process_iter(["cmdline"]):
        words = each.info["cmdline"] or []
        if str(port) in words and any(word.endswith("mongod") for word in words[:1]):
            return each
    raise LookupError(f"no mongod at port {port}")


async def every_kind(client: Client, name: str, key: str) -> list[Any]:
    return await asyncio.gather(
        client.get(f"/{name}"),
        client.get(f"/{name}/{key}"),
        client.post(f"/{name}", json={"text": "new"}),
        client.put(f"/{name}/{key}", json={"text": "changed"}),
        client.delete(f"/{name}/{key}"),
    )


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_outage(tmp_path: Path, how: str) -> None:
    limit = 3.0
    server = EmbeddedMongo(data=tmp_path / "data")
    server.start()
    try:
        me.connect("outage", host=server.url, uuidRepresentation="standard")
        api = bzz.Api()
        api.add(Note, timeout=limit)
        api.add(CleanNote, timeout=limit)
        async with serving(api) as client:
            keys = {
                name: (await client.post(f"/{name}", json={"text": "first"})).json["id"]
                for name in ("note", "clean_note")
            }
            port = server.port
            if how == "stopped":
                server.stop()
            else:
                mongod_at(port).suspend()
            start = time.monotonic()
            answers = await asyncio.gather(*(every_kind(client, *each) for each in keys.items()))
            assert time.monotonic() - start < limit + 20
            for answer in itertools.chain(*answers):
                body = answer.problem(503)
                assert body["type"].startswith("urn:bzz:problem:storage-")
                assert answer.headers["Retry-After"]
            (await client.get("/ready")).problem(503)
            assert (await client.get("/health")).status == 200
            if how == "stopped":
                server = EmbeddedMongo(port=port, data=tmp_path / "data")
                server.start()
            else:
                mongod_at(port).resume()
            await back(client, "/note")
            created = await client.post("/note", json={"text": "again"})
            assert created.status == 201, created
            assert (await client.get("/ready")).status == 200
    finally:
        await close_clients()
        me.disconnect_all()
        server.stop()


async def back(client: Client, path: str) -> None:
    for _attempt in range(240):
        if (await client.get(path)).status == 200:
            return
        await asyncio.sleep(0.25)
    pytest.fail("the service did not come back")
