"""A write that goes the short way is answered, stored and told as the handler does it, byte for byte."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import bson
import mongoengine
import pytest
import tornado.web
from bson import ObjectId

import bzz
from bzz import signals
from bzz.application import Application, unlogged
from bzz.http.problem_handler import ProblemHandler
from bzz.resource import Options, Resource
from bzz.resource.idempotency import Idempotency
from tests.serving import Client, serving

ROUNDS = 100 * int(os.environ.get("BZZ_TORTURE", "1"))
KEY = "5e0000000000000000000001"


class Home(mongoengine.EmbeddedDocument):
    city = mongoengine.StringField(required=True, max_length=8)


class Tenant(mongoengine.Document):
    name = mongoengine.StringField(required=True, max_length=8)
    age = mongoengine.IntField(min_value=0)
    code = mongoengine.StringField(unique=True, sparse=True)
    home = mongoengine.EmbeddedDocumentField(Home)
    tags = mongoengine.ListField(mongoengine.StringField())


class Ticket(mongoengine.Document):
    code = mongoengine.StringField(primary_key=True)
    price = mongoengine.FloatField(default=1.5)


class Sealed(mongoengine.Document):
    """It does everything itself."""

    name = mongoengine.StringField()

    def clean(self) -> None:
        if self.name == "bad!":
            raise mongoengine.ValidationError("bad")

    def save(self, *args: Any, **options: Any) -> Any:
        self.name = (self.name or "") + "!"
        return super().save(*args, **options)

    def to_dict(self) -> dict[str, Any]:
        return {"sealed": self.name}


MODELS = (Tenant, Ticket, Sealed)


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the requests for which a handler is made."""
    made: list[str] = []
    initialize = bzz.MongoEngineRestHandler.initialize

    def counted(self: Any, **given: Any) -> None:
        made.append(f"{self.request.method} {self.request.uri}")
        initialize(self, **given)

    monkeypatch.setattr(bzz.MongoEngineRestHandler, "initialize", counted)
    return made


class Sides:
    """The same rules, once in an application that knows the short way and once in Tornado's own."""

    def __init__(self, quick: Client, usual: Client, handlers: list[str]) -> None:
        self.quick, self.usual, self.handlers = quick, usual, handlers
        self.told: list[Any] = []

    async def same(self, data: bytes) -> tuple[bytes, bool]:
        """Send a request to both, each with the same documents before; return the answer, and how it came."""
        seen = []
        for client in (self.usual, self.quick):
            await asyncio.to_thread(reset)
            self.handlers.clear()
            self.told.clear()
            answer = await client.raw(data)
            stored = await asyncio.to_thread(everything)
            seen.append((masked(answer), masked(stored), masked(repr(self.told).encode())))
        assert seen[0] == seen[1], data
        return seen[1][0], not self.handlers


def reset() -> None:
    """Have the same documents again."""
    Tenant._get_collection().delete_many({})
    Ticket._get_collection().delete_many({})
    Sealed._get_collection().delete_many({})
    Tenant._get_collection().insert_many(
        [
            {"_id": ObjectId(KEY), "name": "Ann", "age": 5, "home": {"city": "Rio"}, "tags": ["a"], "odd": 1},
            {"_id": ObjectId(), "name": "Bo", "code": "taken"},
        ]
    )
    Ticket._get_collection().insert_one({"_id": "a b/ü", "price": 2.5})
    Sealed._get_collection().insert_one({"_id": ObjectId(KEY), "name": "Ann"})


def ann() -> Any:
    return Tenant._get_collection().find_one({"_id": ObjectId(KEY)})


def everything() -> bytes:
    documents = [each for model in MODELS for each in model._get_collection().find().sort("name", 1)]
    return repr([list(bson.decode(bson.encode(each)).items()) for each in documents]).encode()


def masked(data: bytes) -> bytes:
    """Leave out what is different each time: the date, new keys, and the tags of documents that have them."""
    data = re.sub(rb"Date: [^\r]+", b"Date: -", data)
    found = re.sub(rb"\b(?!5e0{20})[0-9a-f]{24}\b", b"KEY", data)
    return re.sub(rb'"[0-9a-f]{32}\.', b'"TAG.', found) if found != data else data


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {
        "Host": "x",
        "Connection": "close",
        **{name.replace("_", "-"): each for name, each in headers.items()},
    }
    if body is not None:
        given = {"Content-Type": "application/json", **given, "Content-Length": str(len(content))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode() + content


@pytest.fixture
async def sides(database: str, handlers: list[str]) -> AsyncIterator[Sides]:
    rules = [rule for model in MODELS for rule in bzz.MongoEngineRestHandler.routes_for(model)]
    usual = tornado.web.Application(rules, log_function=unlogged)
    async with serving(Application(rules, log_function=unlogged)) as quick, serving(usual) as other:
        for path in ("tenant", "ticket", "sealed"):
            await quick.post(f"/{path}", json={"name": "x"})  # has the indexes made
        both = Sides(quick, other, handlers)

        def created(instance: Any) -> None:
            both.told.append((type(instance).__name__, instance.to_mongo().to_dict()))

        async def changed(instance: Any, updated_fields: Any) -> None:
            both.told.append((instance.to_mongo().to_dict(), updated_fields))

        signals.post_create_instance.connect(created)
        signals.post_update_instance.connect(changed)
        signals.post_delete_instance.connect(lambda instance: both.told.append(instance.to_mongo().to_dict()))
        yield both


ANN = f"/tenant/{KEY}"
SHORT = [
    (201, request("POST", "/tenant", {"name": "Cy", "age": 3, "home": {"city": "Lima"}, "tags": ["x", "ü"]})),
    (201, request("POST", "/tenant/", {"name": "Cy"}, Content_Type="application/json; charset=utf-8")),
    (201, request("POST", "/ticket", {"code": "a/ü"})),
    (201, request("POST", "/ticket", {"code": "plain", "price": 3})),
    (201, request("POST", "/sealed", {"name": "Cy"})),
    (200, request("PUT", ANN, {"name": "Cy", "home": {"city": "Lima"}})),
    (200, request("PUT", f"{ANN}/", {"age": None})),
    (200, request("PUT", ANN, {"age": 5})),
    (200, request("PUT", ANN, {})),
    (200, request("PUT", "/ticket/a%20b%2F%C3%BC", {"price": 4})),
    (200, request("PUT", f"/sealed/{KEY}", {"name": "Cy"})),
    (200, request("PATCH", ANN, {"home": {"city": "Lima"}, "age": 7})),
    (200, request("PATCH", ANN, {"age": 7}, Content_Type="application/merge-patch+json")),
    (204, request("DELETE", ANN)),
    (204, request("DELETE", f"/sealed/{KEY}")),
]


@pytest.mark.parametrize("number", range(len(SHORT)))
async def test_the_answer_is_the_same(sides: Sides, number: int) -> None:
    status, data = SHORT[number]
    answer, short = await sides.same(data)
    assert answer.startswith(b"HTTP/1.1 %d" % status), answer
    assert short
    assert bool(sides.told) == (data not in (request("PUT", ANN, {"age": 5}), request("PUT", ANN, {})))


REFUSED = [
    (400, request("POST", "/tenant", {"name": "much too long"})),
    (400, request("POST", "/tenant", {"name": "Cy", "age": -1, "home": {"city": 5}, "x": 1})),
    (400, request("POST", "/tenant", {"name": "Cy", "id": KEY})),
    (400, request("POST", "/sealed", {"name": "bad"})),
    (409, request("POST", "/tenant", {"name": "Cy", "code": "taken"})),
    (409, request("POST", "/ticket", {"code": "a b/ü"})),
    (400, request("PUT", ANN, {"name": None})),
    (400, request("PUT", ANN, {"id": "5e0000000000000000000002"})),
    (409, request("PUT", ANN, {"code": "taken"})),
    (404, request("PUT", "/tenant/5e0000000000000000000002", {"age": 1})),
    (404, request("PUT", "/tenant/nonsense", {"age": 1})),
    (404, request("PUT", "/tenant/%ff", {"age": 1})),
    (404, request("DELETE", "/tenant/5e0000000000000000000002")),
    (404, request("DELETE", "/tenant/%ff")),
    (400, request("POST", "/tenant", b"{")),
    (400, request("POST", "/tenant", b'{"name": "a", "name": "b"}')),
    (400, request("POST", "/tenant", b'"text"')),
    (400, request("PUT", ANN, b"")),
    (400, request("PUT", ANN, b"null")),
    (400, request("POST", "/tenant", b"null")),
    (400, request("PATCH", ANN, b"[]")),
    (415, request("PUT", ANN, b"x", Content_Type="text/plain")),
    (415, request("PUT", ANN, {}, Content_Encoding="gzip")),
    (400, request("PUT", f"{ANN}?x=1", {})),
    (405, request("POST", ANN, {})),
    (405, request("DELETE", "/tenant")),
    (412, request("PUT", ANN, {"age": 1}, If_Match='"x"')),
]


async def test_what_is_refused_is_refused_in_the_same_words(sides: Sides) -> None:
    for status, data in REFUSED:
        answer, short = await sides.same(data)
        expected = 200 if data == request("PUT", ANN, b"") else status
        assert answer.startswith(b"HTTP/1.1 %d" % expected), (data, answer)
        assert not short
        assert not sides.told


MORE = [
    (201, request("POST", "/tenant", [{"name": "Cy"}, {"name": "Di"}])),
    (201, request("POST", "/tenant", b"name=Cy", Content_Type="application/x-www-form-urlencoded")),
    (201, request("POST", "/tenant", {"name": "Cy"}, Idempotency_Key='"k-{number}"')),
    (201, request("POST", "/tenant", {"name": "Cy"}, Prefer="return=minimal")),
    (200, request("POST", "/tenant", {"name": "Cy"}, Prefer="dry-run")),
    (200, request("PUT", ANN, {"age": 9}, If_None_Match='"x"')),
    (204, request("PUT", ANN, {"age": 9}, Prefer="return=minimal")),
    (
        200,
        request("PATCH", ANN, b'[{"op":"remove","path":"/age"}]', Content_Type="application/json-patch+json"),
    ),
    (204, request("DELETE", ANN, If_Match="*")),
    (204, request("DELETE", ANN, b"")),
]


async def test_what_is_more_than_a_body_is_left_to_the_handler(sides: Sides) -> None:
    for status, data in MORE:
        if b"Idempotency" in data:  # a key is good for one request
            assert (await sides.quick.raw(data)).startswith(b"HTTP/1.1 201")
            assert sides.handlers
            continue
        answer, short = await sides.same(data)
        assert answer.startswith(b"HTTP/1.1 %d" % status), (data, answer)
        assert not short


async def test_requests_at_random_are_answered_alike(sides: Sides) -> None:
    chance = random.Random(20200131)
    bodies: list[Any] = [
        {"name": "Cy"}, {"name": "Cy", "age": 1.0}, {"age": 2**40}, {"age": "5"}, {"tags": []}, {"tags": [1]},
        {"home": {}}, {"home": {"city": "a", "zip": 1}}, {"home": None}, {"odd": 1}, {"$set": {}},
        {"code": "c"}, {"price": 1e300}, {"price": 5}, {"name": "ü"}, {}, b'{"name":"\\ud800"}', b"\xff",
        b"[{}]", b" {} ",
    ]  # fmt: skip
    paths = [
        "/tenant",
        "/ticket",
        "/sealed",
        ANN,
        f"/sealed/{KEY}",
        "/ticket/a%20b%2F%C3%BC",
        "/tenant/x",
        "/none",
    ]
    types = [
        "application/json",
        "application/json",
        "Application/JSON",
        "application/merge-patch+json",
        "",
        "a/b",
    ]
    headers: list[dict[str, str]] = [
        {},
        {},
        {},
        {"If_Match": "*"},
        {"Prefer": "x"},
        {"Expect": ""},
        {"Origin": "x"},
    ]
    short = 0
    for _ in range(ROUNDS):
        method = chance.choice(["POST", "PUT", "PATCH", "DELETE", "POST", "PUT"])
        body = None if method == "DELETE" else chance.choice(bodies)
        more = {"Content_Type": chance.choice(types)} if body is not None else {}
        data = request(method, chance.choice(paths), body, **more, **chance.choice(headers))
        short += (await sides.same(data))[1]
    assert short > ROUNDS // 20


async def test_a_body_in_parts_is_one_body(sides: Sides) -> None:
    head = request("POST", "/tenant", None, Content_Type="application/json", Transfer_Encoding="chunked")
    answer, short = await sides.same(head + b'7\r\n{"name"\r\n6\r\n: "Cy"\r\n1\r\n}\r\n0\r\n\r\n')
    assert answer.startswith(b"HTTP/1.1 201")
    assert short
    answer, short = await sides.same(head + b'7\r\n{"name"\r\n0\r\n\r\n')
    assert answer.startswith(b"HTTP/1.1 400")
    assert not short


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"put": "replace"}, 400),
        ({"require_if_match": True}, 428),
        ({"ndjson": True}, 200),
        ({"max_bulk": 0}, 200),
        ({"secret": "s" * 16}, 200),
    ],
    ids=str,
)
async def test_options_of_the_operation_count(
    database: str, handlers: list[str], options: dict[str, Any], status: int
) -> None:
    rules = bzz.MongoEngineRestHandler.routes_for(Tenant, **options)
    usual = tornado.web.Application(rules, log_function=unlogged)
    async with serving(Application(rules, log_function=unlogged)) as quick, serving(usual) as other:
        await quick.post("/tenant", json={"name": "x"})
        both = Sides(quick, other, handlers)
        answer, short = await both.same(request("PUT", ANN, {"age": 6}))
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        assert short == (status == 200)
        answer, short = await both.same(request("POST", "/tenant", {"name": "Cy"}))
        assert answer.startswith(b"HTTP/1.1 201")
        assert short


async def test_a_large_body_in_many_parts_is_one_body(sides: Sides) -> None:
    tags = ["x" * 50] * 4000
    answer, short = await sides.same(request("POST", "/tenant", {"name": "Cy", "tags": tags}))
    assert answer.startswith(b"HTTP/1.1 201")
    assert short


async def test_concurrent_writes_form_one_chain(sides: Sides) -> None:
    await asyncio.to_thread(reset)
    sides.handlers.clear()
    await asyncio.gather(*(sides.quick.put(ANN, json={"age": number}) for number in range(100, 160)))
    assert not sides.handlers
    diffs = [each[1]["age"] for each in sides.told]
    by_old = {each["from"]: each["to"] for each in diffs}
    assert len(by_old) == len(diffs) == 60
    at, steps = 5, 0
    while at in by_old:
        at, steps = by_old[at], steps + 1
    assert steps == 60
    assert (await asyncio.to_thread(ann))["age"] == at


async def test_a_client_who_leaves_concerns_nobody(sides: Sides, caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.to_thread(reset)
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", sides.quick.port)
        writer.write(request("PUT", ANN, {"tags": ["left"]}))
        await writer.drain()
        writer.transport.abort()
    while (await asyncio.to_thread(ann))["tags"] != ["left"]:
        await asyncio.sleep(0.02)
    assert (await sides.quick.put(ANN, json={"age": 1})).status == 200
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


# Receivers ------------------------------------------------------------------------------------------------


async def test_who_is_asked_or_given_the_handler_gets_it(sides: Sides) -> None:
    await asyncio.to_thread(reset)
    seen: list[Any] = []
    signs: list[tuple[Any, Callable[..., None]]] = [
        (signals.pre_update_instance, lambda instance: seen.append(instance.name)),
        (signals.post_update_instance, lambda handler: seen.append(handler.request.path)),
        (signals.post_update_instance, lambda **payload: seen.append(payload["handler"].request.path)),
    ]
    for signal, receiver in signs:
        with signal.connected_to(receiver, sender=Tenant):
            sides.handlers.clear()
            assert (await sides.quick.put(ANN, json={"age": len(seen) + 10})).status == 200
            assert len(sides.handlers) == 1
        with signal.connected_to(receiver, sender=Ticket):
            sides.handlers.clear()
            assert (await sides.quick.put(ANN, json={"age": len(seen) + 20})).status == 200
            assert not sides.handlers
    assert seen == ["Ann", ANN, ANN]


async def test_who_comes_while_a_document_is_written_gets_a_handler(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(reset)
    seen: list[Any] = []
    update = Resource._update

    async def late(self: Resource, operation: Any) -> Any:
        outcome = await update(self, operation)
        assert operation.handler is None
        signals.post_update_instance.connect(lambda handler: seen.append(handler.request.path), sender=Tenant)
        return outcome

    monkeypatch.setattr(Resource, "_update", late)
    rules = bzz.MongoEngineRestHandler.routes_for(Tenant)
    async with serving(Application(rules, log_function=unlogged)) as client:
        assert (await client.put(ANN, json={"age": 6})).status == 200
    assert seen == [ANN]


async def test_a_receiver_that_fails_the_request_fails_it(sides: Sides) -> None:
    def refuse(instance: Any) -> None:
        raise bzz.Veto(418, "No.")

    def leave(instance: Any) -> None:
        raise tornado.web.Finish

    def end(instance: Any) -> None:
        raise bzz.ExitEarly

    def garble(instance: Any) -> None:
        b"\xff".decode()

    for receiver, status in ((refuse, 418), (leave, 200), (end, 201), (garble, 500)):
        with signals.post_create_instance.connected_to(receiver, sender=Tenant, errors="raise"):
            answer, _ = await sides.same(request("POST", "/tenant", {"name": "Cy"}))
            assert answer.startswith(b"HTTP/1.1 %d" % status), answer


async def test_a_request_that_is_cut_off_is_answered(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut(self: Resource, operation: Any) -> Any:
        raise asyncio.CancelledError

    monkeypatch.setattr(Resource, "run", cut)
    answer = await sides.quick.raw(request("PUT", ANN, {"age": 1}))
    assert answer.startswith(b"HTTP/1.1 500")


# Who closes the way ---------------------------------------------------------------------------------------


async def is_short(handlers: list[str], application: Any, *, wanted: int = 201) -> bool:
    async with serving(application) as client:
        await client.post("/tenant", json={"name": "first"})
        handlers.clear()
        assert (await client.post("/tenant", json={"name": "Cy"})).status == wanted
    return not handlers


@pytest.mark.parametrize(
    "options",
    [
        {"authorize": lambda operation: True},
        {"rows": {"name": "Cy"}},
        {"readable": ["name"]},
        {"writable": ["name"]},
        {"write_once": ["name"]},
        {"write_only": ["age"]},
        {"cors": bzz.Cors("*")},
        {"rate_limit": "100/second"},
    ],
    ids=lambda options: " ".join(options),
)
async def test_an_option_that_has_a_say_closes_the_way(
    database: str, handlers: list[str], options: dict[str, Any]
) -> None:
    rules = bzz.MongoEngineRestHandler.routes_for(Tenant, **options)
    assert not await is_short(handlers, Application(rules, log_function=unlogged))


async def test_an_option_that_leaves_something_out_is_obeyed(database: str, handlers: list[str]) -> None:
    for options, status in (({"methods": ["GET"]}, 405), ({"idempotency": Idempotency(required=True)}, 400)):
        rules = bzz.MongoEngineRestHandler.routes_for(Tenant, **options)
        assert not await is_short(handlers, Application(rules, log_function=unlogged), wanted=status)


def test_an_option_that_nobody_has_thought_of_is_looked_at() -> None:
    # What is new has to be put here, when quick.py knows it or an operation obeys it by itself.
    obeyed = {
        "aggregations", "bulk", "bulk_timeout", "expand_depth", "expandable", "filters", "max_bulk",
        "max_per_page", "ndjson", "nested", "per_page", "put", "require_if_match", "retry_seconds", "search",
        "secret", "sorts", "timeout",
    }  # fmt: skip
    known = {
        "authorize", "get_instance_queryset", "get_list_queryset", "idempotency", "methods", "readable",
        "rows", "writable", "write_once", "write_only",
    }  # fmt: skip
    assert set(Options.__dataclass_fields__) == obeyed | known


class WithPrepare(bzz.MongoEngineRestHandler):
    def prepare(self) -> Any:
        self.set_header("X-Prepared", "yes")
        return super().prepare()


class OnlyOptions(bzz.MongoEngineRestHandler):
    put_mode = "replace"


async def test_a_handler_or_an_application_that_does_something_closes_the_way(
    database: str, handlers: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    rules = bzz.MongoEngineRestHandler.routes_for(Tenant)
    assert await is_short(handlers, Application(rules))
    assert await is_short(handlers, Application(OnlyOptions.routes_for(Tenant)))
    assert not await is_short(handlers, Application(WithPrepare.routes_for(Tenant)))
    assert not await is_short(handlers, Application(rules, compress_response=True))
    assert not await is_short(handlers, Application(rules, xsrf_cookies=True), wanted=403)
    assert not await is_short(handlers, Application(rules, log_function=lambda handler: None))
    with caplog.at_level(logging.INFO, "tornado.access"):
        assert not await is_short(handlers, Application(rules))
    assert "201 POST /tenant" in caplog.text
    async with serving(Application([(r"/(.*)", ProblemHandler)])) as client:
        assert (await client.post("/x", json={})).status == 404


async def test_receivers_of_a_resource_and_of_an_api(database: str, handlers: list[str]) -> None:
    api = bzz.Api()
    tenants = api.add(Tenant)
    assert await is_short(handlers, api.application(log_function=unlogged))
    heard: list[Any] = []
    for circle in (tenants, api):
        receiver = circle.on_post_create_instance(lambda instance: heard.append(instance.name))
        assert await is_short(handlers, api.application(log_function=unlogged))
        assert heard.pop() == "Cy"
        for event in (
            "on_prerun",
            "on_postrun",
            "on_success",
            "on_failure",
            "on_presend",
            "on_pre_create_instance",
        ):
            own = getattr(circle, event)(lambda **payload: None)
            assert not await is_short(handlers, api.application(log_function=unlogged))
            hooks = tenants.resource.hooks if circle is tenants else api.hooks
            hooks.signal(event.removeprefix("on_")).disconnect(own)
        assert receiver is not None
