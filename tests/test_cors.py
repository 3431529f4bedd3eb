"""Pages of other origins: who may read what, on every URL and every kind of answer."""

from __future__ import annotations

from typing import Any

import mongoengine as me
import pytest

import bzz
from bzz.http.cors import EXPOSED, READ
from tests.serving import Answer, Client, serving

PAGE = "https://app.example.com"
OTHER = "https://evil.example.com"


class Shelf(me.Document):
    name = me.StringField(primary_key=True)
    size = me.IntField()


class Crate(me.Document):
    name = me.StringField(primary_key=True)


class ForPage(bzz.MongoEngineRestHandler):
    cors = bzz.Cors(origins=[PAGE])


URLS = [
    ("/api/shelf", "GET, HEAD, POST, OPTIONS"),
    ("/api/shelf/one", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
    ("/api/batch", "POST, OPTIONS"),
    ("/api/health", "GET, HEAD"),
    ("/api/ready", "GET, HEAD"),
    ("/api/openapi.json", "GET, HEAD"),
    ("/api/docs", "GET, HEAD"),
]


def make_api(**options: Any) -> bzz.Api:
    api = bzz.Api(prefix="/api", cors=bzz.Cors(origins=[PAGE, "http://localhost:3000"], **options))
    api.add(Shelf)
    return api


async def preflight(client: Client, path: str, *, origin: str = PAGE, **headers: str) -> Answer:
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT", **headers}
    return await client.request("OPTIONS", path, headers=asked)


def shared(answer: Answer) -> dict[str, str]:
    """The headers of an answer that are about this, in lower case."""
    return {
        name.lower().removeprefix("access-control-"): value
        for name, value in answer.headers.items()
        if name.lower().startswith("access-control-")
    }


def names(header: str) -> set[str]:
    return {each.strip().lower() for each in header.split(",")}


@pytest.mark.parametrize(("path", "methods"), URLS)
async def test_a_preflight_is_answered_with_the_methods_of_the_url(
    database: str, path: str, methods: str
) -> None:
    async with serving(make_api()) as client:
        answer = await preflight(client, path, **{"Access-Control-Request-Headers": "if-match,content-type"})
    assert (answer.status, answer.body) == (204, b"")
    found = shared(answer)
    assert found.pop("allow-origin") == PAGE
    assert found.pop("allow-methods") == methods
    assert names(found.pop("allow-headers")) == names(", ".join(READ))
    assert found.pop("max-age") == "600"
    assert found == {}
    assert answer.headers.get_list("Vary") == ["Origin"]


@pytest.mark.parametrize(("path", "_methods"), URLS)
async def test_a_preflight_of_somebody_else_is_told_nothing(database: str, path: str, _methods: str) -> None:
    async with serving(make_api()) as client:
        answer = await preflight(client, path, origin=OTHER)
    assert (answer.status, shared(answer)) == (204, {})
    assert answer.headers.get_list("Vary") == ["Origin"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/shelf", None, 200),
        ("GET", "/api/shelf/one", None, 200),
        ("HEAD", "/api/shelf/one", None, 200),
        ("OPTIONS", "/api/shelf/one", None, 204),
        ("POST", "/api/shelf", b'{"name": "two"}', 201),
        ("PUT", "/api/shelf/one", b'{"size": 3}', 200),
        ("PUT", "/api/shelf/one", b"{", 400),
        ("POST", "/api/shelf", b'{"name": "one"}', 409),
        ("GET", "/api/shelf?colour=red", None, 400),
        ("GET", "/api/shelf/none", None, 404),
        ("GET", "/api/shelf/%ff", None, 404),
        ("DELETE", "/api/shelf", None, 405),
        ("POST", "/api/health", None, 405),
        ("GET", "/api/health", None, 200),
        ("GET", "/api/ready", None, 200),
        ("GET", "/api/openapi.json", None, 200),
        ("POST", "/api/batch", b'{"operations": []}', 200),
        ("POST", "/api/batch", b"[]", 400),
        ("GET", "/nothing/here", None, 404),
        ("DELETE", "/api/shelf/one", None, 204),
    ],
)
async def test_whatever_the_answer_the_page_may_read_it(
    database: str, method: str, path: str, body: bytes | None, status: int
) -> None:
    kind = body and "application/json"
    async with serving(make_api()) as client:
        await client.post("/api/shelf", json={"name": "one", "size": 1})
        answers = {
            origin: await client.request(
                method, path, body=body, content_type=kind, headers={"Origin": origin} if origin else {}
            )
            for origin in (PAGE, OTHER, "")
            if method not in {"POST", "DELETE"} or origin == PAGE
        }
    assert {each.status for each in answers.values()} == {status}
    found = shared(answers[PAGE])
    assert found.pop("allow-origin") == PAGE
    assert names(found.pop("expose-headers")) == names(", ".join(EXPOSED))
    assert found == {}
    for origin, answer in answers.items():
        assert answer.headers.get_list("Vary") == ["Origin"]
        assert origin == PAGE or shared(answer) == {}


async def test_not_modified_and_failures_inside_as_well(database: str) -> None:
    api = make_api()

    @api.resources["shelf"].hooks.on_pre_create_instance
    def fail() -> None:
        raise RuntimeError("a secret")

    async with serving(api) as client:
        Shelf(name="one").save()
        tag = (await client.get("/api/shelf/one")).headers["ETag"]
        fresh = await client.get("/api/shelf/one", headers={"If-None-Match": tag, "Origin": PAGE})
        broken = await client.post("/api/shelf", json={"name": "x"}, headers={"Origin": PAGE})
        document = await client.get("/api/openapi.json")
        known = {"If-None-Match": document.headers["ETag"], "Origin": PAGE}
        same = await client.get("/api/openapi.json", headers=known)
    assert (fresh.status, same.status) == (304, 304)
    broken.problem(500)
    for answer in (fresh, same, broken):
        assert shared(answer)["allow-origin"] == PAGE
        assert answer.headers.get_list("Vary") == ["Origin"]


async def test_credentials_are_allowed_by_name_only(database: str) -> None:
    async with serving(make_api(credentials=True)) as client:
        asked = await preflight(client, "/api/shelf")
        read = await client.get("/api/shelf", headers={"Origin": PAGE})
        other = await client.get("/api/shelf", headers={"Origin": OTHER})
    assert shared(asked)["allow-credentials"] == "true"
    assert shared(read)["allow-credentials"] == "true"
    assert shared(other) == {}
    with pytest.raises(ValueError, match="credentials need the origins by name"):
        bzz.Cors(origins="*", credentials=True)


async def test_every_origin(database: str) -> None:
    api = bzz.Api(cors=bzz.Cors(origins="*", max_age=0, headers=["X-Trace"], exposed=["X-Took", "etag"]))
    api.add(Shelf)
    async with serving(api) as client:
        asked = await preflight(client, "/shelf", origin=OTHER)
        read = await client.get("/shelf", headers={"Origin": "null"})
        alone = await client.get("/shelf")
    assert shared(asked)["allow-origin"] == shared(read)["allow-origin"] == "*"
    assert shared(asked)["max-age"] == "0"
    assert "x-trace" in names(shared(asked)["allow-headers"])
    assert "x-took" in names(shared(read)["expose-headers"])
    assert shared(read)["expose-headers"].lower().count("etag") == 1
    assert shared(alone) == {}
    assert "Vary" not in read.headers, "the answer is the same for everybody"


async def test_an_option_that_is_no_preflight_says_what_it_always_says(database: str) -> None:
    async with serving(make_api()) as client:
        answer = await client.request("OPTIONS", "/api/shelf", headers={"Origin": PAGE})
        lonely = await client.request(
            "OPTIONS", "/api/shelf", headers={"Access-Control-Request-Method": "PUT"}
        )
    assert answer.headers["Allow"] == lonely.headers["Allow"] == "GET, HEAD, POST, OPTIONS"
    assert "allow-methods" not in shared(answer)
    assert shared(lonely) == {}


async def test_a_resource_has_rules_of_its_own_or_none(database: str) -> None:
    api = make_api()
    api.add(Crate, resource_name="open", cors=bzz.Cors(origins="*"))
    api.add(Crate, resource_name="closed", cors=None)
    api.add(Crate, resource_name="class", handler=ForPage)
    async with serving(api) as client:
        answers = {
            name: await client.get(f"/api/{name}", headers={"Origin": "http://localhost:3000"})
            for name in ("open", "closed", "class", "shelf")
        }
    assert {name: shared(each).get("allow-origin") for name, each in answers.items()} == {
        "open": "*",
        "closed": None,
        "class": None,  # it allows another page
        "shelf": "http://localhost:3000",
    }
    assert "Vary" not in answers["closed"].headers


async def test_routes_of_their_own(database: str) -> None:
    routes = bzz.MongoEngineRestHandler.routes_for(Crate, cors=bzz.Cors(origins=[PAGE]))
    async with serving(routes) as client:
        assert shared(await preflight(client, "/crate"))["allow-origin"] == PAGE
    async with serving(bzz.MongoEngineRestHandler.routes_for(Crate)) as client:
        assert shared(await preflight(client, "/crate")) == {}


@pytest.mark.parametrize(
    "origin",
    [
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/page",
        "https://App.example.com",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://app.example.com:many",
        "https://me@app.example.com",
        "https://bücher.example",
        "null",
        "",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"origin|browsers"):
        bzz.Cors(origins=[origin])


@pytest.mark.parametrize(
    "options",
    [
        {"origins": []},
        {"origins": ["*", PAGE]},
        {"origins": [PAGE], "max_age": -1},
        {"origins": [PAGE], "headers": ["*"]},
        {"origins": [PAGE], "exposed": ["X Y"]},
    ],
)
def test_rules_that_mean_nothing_are_refused(options: Any) -> None:
    with pytest.raises(ValueError):
        bzz.Cors(**options)


def test_rules_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="cors is a Cors"):
        bzz.Api(cors="*")  # type: ignore[arg-type]


@pytest.mark.parametrize("origin", ["https://[::1]:8443", "capacitor://localhost", "http://127.0.0.1:5173"])
def test_other_origins_that_browsers_send(origin: str) -> None:
    assert bzz.Cors(origins=[origin]).origins == (origin,)
