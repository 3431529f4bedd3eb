"""The served description of the atlas held against the running atlas, by Schemathesis.

What it may not know is in ``schemathesis_hooks.py``, its settings are in ``schemathesis.toml``. What it found
has tests of its own below, or where it belongs. ``BZZ_SEED`` is the seed of a run, 1 unless set.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest

import bzz
from examples.atlas.models import City, Country
from tests.program import ROOT, running
from tests.serving import Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
SEED = os.environ.get("BZZ_SEED", "1")
#: One case for each operation, phase by phase, takes 10 seconds; the coverage phase alone has 10 000.
PHASES = "examples,fuzzing,stateful" if TORTURE == 1 else "examples,coverage,fuzzing,stateful"
EXAMPLES = 6 if TORTURE == 1 else 40 * TORTURE
#: Seconds. The quick run takes a tenth of it.
LIMIT = 400 if TORTURE == 1 else 720 * TORTURE


@contextmanager
def atlas(mongo_url: str) -> Iterator[str]:
    """The atlas in a process of its own, with a database of its own; its URL."""
    database = f"bzz-{uuid.uuid4().hex}"
    try:
        with running(["-m", "tests.atlas_server", mongo_url, database], ROOT) as program:
            yield program.wait_for(lambda line: line.startswith("http"))
    finally:
        with pymongo.MongoClient[Any](mongo_url) as client:
            client.drop_database(database)


@pytest.mark.timeout(LIMIT + 20)
def test_the_atlas_is_as_it_is_described(mongo_url: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with atlas(mongo_url) as url:
        ran = subprocess.run(
            [
                *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
                *("--config-file", "tests/schemathesis.toml", "--no-color"),
                *("run", f"{url}/openapi.json", "--seed", SEED, "--max-examples", str(EXAMPLES)),
                *("--phases", PHASES, "--continue-on-failure"),
                # OPTIONS is for a URL whatever its key, and Schemathesis would have it refuse some.
                *("--exclude-method", "OPTIONS", "--report", "json", "--report-json-path", str(report)),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(report.read_text())
    assert found["stop_reason"] == "completed"
    assert found["operations"]["selected"] == found["operations"]["tested"] >= 40
    assert {each["status"] for name, each in found["phases"].items() if name in PHASES} == {"success"}
    generated = found["test_cases"]["generated"]
    assert generated >= (200 if TORTURE == 1 else min(20_000, 2_000 * TORTURE)), generated


# What it has found ------------------------------------------------------------------------------------------


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    api = bzz.Api(title="Atlas")
    api.add(Country)
    api.add(City, bulk={"PATCH", "DELETE"}, ndjson=True)
    async with serving(api) as client:
        await client.post("/country", json=AA)
        yield client


AA = {"iso": "AA", "iso3": "AAA", "name": "A", "continent": "EU", "currency": {"code": "EUR", "name": "Euro"}}
CITY = {"geonameid": 1, "name": "a", "country": "AA", "location": [1, 1]}


async def described(client: Client) -> Any:
    return (await client.get("/openapi.json")).json


def schema_of(document: Any, path: str, method: str, kind: str = "application/json") -> Any:
    shown = document["paths"][path][method]["requestBody"]["content"][kind]["schema"]
    while "$ref" in shown or "anyOf" in shown:
        shown = shown["anyOf"][0] if "anyOf" in shown else document["components"]["schemas"][_last(shown)]
    return shown


def _last(reference: Any) -> str:
    return str(reference["$ref"].rpartition("/")[2])


@pytest.mark.parametrize(
    ("place", "pointer"),
    [
        ([200.5, 1], "/location/0"),
        ({"type": "Point", "coordinates": [6.6e104, 1]}, "/location/coordinates/0"),
        ({"type": "Point", "coordinates": [180, -90.1]}, "/location/coordinates/1"),
    ],
)
async def test_a_place_off_the_globe_is_refused_where_it_stands(
    client: Client, place: Any, pointer: str
) -> None:
    refused = (await client.post("/city", json={**CITY, "location": place})).problem(400)
    assert [each["pointer"] for each in refused["errors"]] == [pointer]
    assert (await client.post("/city", json={**CITY, "location": [-180, 90]})).status == 201


async def test_a_merge_patch_is_described_down_to_its_parts(client: Client) -> None:
    document = await described(client)
    country = schema_of(document, "/country/{key}", "patch", "application/merge-patch+json")["properties"]
    assert country["currency"]["properties"].keys() == {"code", "name"}
    assert country["currency"]["additionalProperties"] == {"type": "null"}
    assert country["iso"]["readOnly"] is True
    city = schema_of(document, "/city/{key}", "patch", "application/merge-patch+json")["properties"]
    assert city["location"]["anyOf"][1]["prefixItems"][0]["maximum"] == 180
    answer = await client.request("PATCH", "/country/AA", json={"currency": {"other": 1}})
    assert answer.problem(400)["errors"][0]["pointer"] == "/currency/other"


async def test_what_would_be_null_is_not_empty_in_a_form(client: Client) -> None:
    form = schema_of(await described(client), "/city/{key}", "put", "application/x-www-form-urlencoded")[
        "properties"
    ]
    assert form["country"]["minLength"] == 1
    await client.post("/city", json=CITY)
    assert (await client.put("/city/1", form="country=")).problem(400)["errors"][0]["pointer"] == "/country"
    refused = await client.put("/country/AA", form="neighbours=AA&neighbours=")
    assert refused.problem(400)["errors"][0]["detail"] == "an item must not be empty"


async def test_a_batch_that_an_operation_ends_has_the_problem_of_the_operation(client: Client) -> None:
    answers = (await described(client))["paths"]["/batch"]["post"]["responses"]
    for operation, status in (
        ({"method": "GET", "path": "/country/ZZ"}, 404),
        ({"method": "GET", "path": "/country?colour=red"}, 400),
        ({"method": "POST", "path": "/country", "body": AA}, 409),
        ({"method": "DELETE", "path": "/country/AA", "if_match": '"x"'}, 412),
    ):
        problem = (await client.post("/batch", json={"operations": [operation]})).problem(status)
        kind = problem["type"].removeprefix("urn:bzz:problem:")
        shown = json.dumps(answers[str(status)]["content"]["application/problem+json"])
        assert f"urn:bzz:problem:{kind}" in shown


async def test_a_broken_body_is_400_also_where_none_belongs(client: Client) -> None:
    document = await described(client)
    for path in ("/health", "/ready", "/openapi.json"):
        answer = await client.request("GET", path, body=b"", content_type="multipart/form-data")
        answer.problem(400)
        assert "400" in document["paths"][path]["get"]["responses"]


async def test_tags_in_headers_are_described_as_they_are_read(client: Client) -> None:
    parameters = (await described(client))["paths"]["/country/{key}"]["get"]["parameters"]
    pattern = next(each for each in parameters if each.get("name") == "If-Match")["schema"]["pattern"]
    assert pattern.startswith("^(") and pattern.endswith(")$")


@pytest.mark.parametrize(
    ("prefer", "is_right"),
    [
        ("max-affected=5", True),
        ('handling=lenient, max-affected="5", return=minimal', True),
        ('max-affected=5"   ,', False),
        ("max-affected=-5", False),
    ],
)
async def test_how_many_may_be_affected_is_described_as_it_is_read(
    client: Client, prefer: str, is_right: bool
) -> None:
    parameters = (await described(client))["paths"]["/city"]["delete"]["parameters"]
    pattern = next(each for each in parameters if each.get("name") == "Prefer")["schema"]["pattern"]
    assert bool(re.search(pattern, prefer)) is is_right
    answer = await client.request("DELETE", "/city?name=none", headers={"Prefer": prefer})
    assert answer.status == (200 if is_right else 400), answer


async def test_a_patch_without_operations_is_one_below_a_document_too(client: Client) -> None:
    for path in ("/country/AA", "/country/AA/currency"):
        answer = await client.request("PATCH", path, body=b"[]", content_type="application/json-patch+json")
        assert answer.status == 200
        assert answer.json == (await client.get(path)).json


async def test_what_is_needed_has_no_delete(client: Client) -> None:
    await client.post("/city", json=CITY)
    refused = await client.delete("/city/1/country")
    refused.problem(405)
    assert "delete" not in (await described(client))["paths"]["/city/{key}/country"]


async def test_a_key_leads_to_everything_below_the_document(client: Client) -> None:
    document = await described(client)
    links = document["paths"]["/country"]["post"]["responses"]["201"]["links"]
    assert {"get_country", "get_country_currency", "update_country_currency"} <= links.keys()
    known = {one["operationId"] for item in document["paths"].values() for one in item.values()}
    assert links.keys() <= known
