"""The short way to a document gives the very answer of the handler, and is closed to whoever has a say."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import mongoengine
import pytest
import tornado.web
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

import bzz
from bzz.application import Application, _way, unlogged
from bzz.http.lean import LeanHandler
from bzz.resource import Options, Resource
from bzz.resource.glance import INDIFFERENT, Glance
from bzz.signals import post_get_instance, post_get_list, pre_get_instance, pre_get_list
from tests.serving import Client, serving


class Place(mongoengine.EmbeddedDocument):
    city = mongoengine.StringField()


class Person(mongoengine.Document):
    name = mongoengine.StringField()
    since = mongoengine.DateTimeField()
    place = mongoengine.EmbeddedDocumentField(Place)


class Plant(mongoengine.Document):
    meta = {"allow_inheritance": True}
    code = mongoengine.StringField(primary_key=True)


class Tree(Plant):
    height = mongoengine.FloatField()


class Shown(mongoengine.Document):
    name = mongoengine.StringField()

    def to_dict(self) -> dict[str, Any]:
        return {"shown": self.name}


class Managed(mongoengine.Document):
    name = mongoengine.StringField()

    @mongoengine.queryset_manager
    def objects(cls, queryset: Any) -> Any:
        return queryset.filter(name="seen")


class OnlyOptions(bzz.MongoEngineRestHandler):
    """Says something, does nothing."""

    per_page = 5
    put_mode = "replace"


class WithPrepare(bzz.MongoEngineRestHandler):
    def prepare(self) -> Any:
        self.set_header("X-Prepared", "yes")
        return super().prepare()


class Watched:
    """Both ways to the same documents, and how often a read was an operation."""

    def __init__(self, quick: Client, usual: Client, operations: list[Any]) -> None:
        self.quick, self.usual, self.operations = quick, usual, operations

    async def same(self, path: str, *, short: bool, **headers: str) -> Any:
        self.operations.clear()
        answer = await self.quick.request("GET", path, headers=headers)
        assert len(self.operations) == (0 if short else 1)
        other = await self.usual.request("GET", path, headers=headers)
        for each in (answer, other):
            each.headers.pop("Date")
        assert (answer.status, answer.body) == (other.status, other.body)
        assert list(answer.headers.get_all()) == list(other.headers.get_all())
        return answer


Watching = Callable[..., Any]


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    run = Resource.run

    async def counted(self: Resource, operation: Any) -> Any:
        seen.append(operation)
        return await run(self, operation)

    monkeypatch.setattr(Resource, "run", counted)
    return seen


@pytest.fixture
async def watched(database: str, operations: list[Any]) -> AsyncIterator[Watched]:
    rules = [
        *bzz.MongoEngineRestHandler.routes_for(Person),
        *bzz.MongoEngineRestHandler.routes_for(Plant),
        *bzz.MongoEngineRestHandler.routes_for(Tree),
    ]
    async with serving(Application(rules)) as quick, serving(tornado.web.Application(rules)) as usual:
        for each in ("person", "plant", "tree"):
            await quick.get(f"/{each}/1")  # has the indexes made
        yield Watched(quick, usual, operations)


async def test_the_answer_is_the_same(watched: Watched) -> None:
    since = dt.datetime(2020, 1, 2, 3, 4, 5, 678000)
    made = await asyncio.to_thread(Person(name="Ärla", since=since, place=Place(city="Rio")).save)
    await asyncio.to_thread(Tree(code="a b/ü", height=2.5).save)
    await asyncio.to_thread(Plant(code="rose").save)
    answer = await watched.same(f"/person/{made.pk}", short=True)
    assert answer.status == 200
    assert answer.json["name"] == "Ärla"
    await watched.same(f"/person/{made.pk}/", short=True)
    assert (await watched.same("/tree/a%20b%2F%C3%BC", short=True)).json["height"] == 2.5
    assert (await watched.same("/plant/a%20b%2F%C3%BC", short=True)).json["_cls"] == "Plant.Tree"
    assert (await watched.same("/plant/rose", short=True)).status == 200
    (await watched.same("/tree/rose", short=True)).problem(404)
    (await watched.same(f"/person/{ObjectId()}", short=True)).problem(404)


async def test_waves_of_requests_get_their_own_documents(watched: Watched) -> None:
    people = [Person(name=str(number)) for number in range(50)]
    await asyncio.to_thread(Person.objects.insert, people)
    paths = [f"/person/{each.pk}" for each in people] + [f"/person/{ObjectId()}"] * 5
    watched.operations.clear()
    answers = await asyncio.gather(*(watched.quick.get(path) for path in paths * 4))
    assert not watched.operations
    for number, answer in enumerate(answers):
        if number % 55 < 50:
            assert answer.json["name"] == str(number % 55)
        else:
            answer.problem(404)


async def test_what_is_more_than_a_document_is_an_operation(watched: Watched) -> None:
    made = await asyncio.to_thread(Person(name="Ann").save)
    tag = (await watched.quick.get(f"/person/{made.pk}")).headers["ETag"]
    path = f"/person/{made.pk}"
    assert (await watched.same(path, short=False, **{"If-None-Match": tag})).status == 304
    (await watched.same(path, short=False, **{"If-Match": '"x"'})).problem(412)
    (await watched.same("/person/nonsense", short=False)).problem(404)
    (await watched.quick.get(f"{path}?x=1")).problem(400)
    (await watched.quick.get("/person/%ff")).problem(404)
    watched.operations.clear()
    assert (
        await watched.quick.request("GET", path, body=b"{}", content_type="application/json")
    ).status == 200
    assert len(watched.operations) == 1
    assert (await watched.quick.request("HEAD", path)).headers["ETag"] == tag


async def test_who_listens_is_told(watched: Watched) -> None:
    made = await asyncio.to_thread(Person(name="Ann").save)
    path = f"/person/{made.pk}"
    told: list[Any] = []
    for signal in (pre_get_instance, post_get_instance):
        with signal.connected_to(lambda **_: told.append(1), sender=Person):
            await watched.same(path, short=False)
        assert len(told) == 2
        told.clear()
        with signal.connected_to(lambda **_: told.append(1), sender=Plant):
            await watched.same(path, short=True)
        assert not told


async def test_a_document_that_cannot_be_read_is_an_error_like_any_other(watched: Watched) -> None:
    key = ObjectId()
    collection = Person._get_collection()
    await asyncio.to_thread(collection.insert_one, {"_id": key, "since": {"a": {"b": dt.datetime(1, 1, 1)}}})
    await watched.same(f"/person/{key}", short=True)


async def test_storage_that_fails_is_said_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await asyncio.to_thread(Person(name="Ann").save)

    async def unavailable(*_: Any) -> None:
        raise bzz.errors.StorageUnavailableError("MongoDB does not answer.")

    monkeypatch.setattr("bzz.storage.coalesce.ReadCoalescer._find", unavailable)
    watched.operations.clear()
    answer = await watched.quick.get(f"/person/{made.pk}")
    answer.problem(503)
    assert answer.headers["Retry-After"] == "1"
    assert not watched.operations


async def test_what_cannot_be_shown_is_left_to_the_handler(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await asyncio.to_thread(Person(name="Ann").save)
    monkeypatch.setattr("bzz.resource.glance.Glance.show", lambda *_: 1 / 0)
    await watched.same(f"/person/{made.pk}", short=False)


# Lists ------------------------------------------------------------------------------------------------------


async def people(count: int) -> None:
    documents = [Person(name=str(number % 7), place=Place(city=f"c{number}")) for number in range(count)]
    await asyncio.to_thread(Person.objects.insert, documents)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?per_page=5",
        "?per_page=5&page=3",
        "?page=2&per_page=5&name=3",
        "?name=3&sort=-id&per_page=2",
        "?name__in=3,4&per_page=100",
        "?name=%25%C3%A4",
        "?page=99",
        "?sort=id",
    ],
)
async def test_a_list_is_the_same(watched: Watched, query: str) -> None:
    await people(33)
    for _ in range(2):
        answer = await watched.same(f"/person{query}", short=True)
        assert answer.status == 200
    assert (await watched.same(f"/person/{query}", short=True)).body == answer.body


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?cursor=", 200),
        ("?count=exact", 200),
        ("?fields=name", 200),
        ("?cursor=nonsense", 400),
        ("?name__gt=3&name__lt=x&nonsense=1", 400),
        ("?page=x", 400),
        ("?%zz", 400),
        ("?aggregate=x", 400),
    ],
)
async def test_what_is_more_than_a_list_is_an_operation(watched: Watched, query: str, status: int) -> None:
    await people(3)
    for _ in range(2):
        watched.operations.clear()
        answer = await watched.quick.get(f"/person{query}")
        assert answer.status == status
        assert watched.operations or status == 400
        other = await watched.usual.get(f"/person{query}")
        assert (answer.status, answer.headers.get("Link")) == (other.status, other.headers.get("Link"))


async def test_a_list_of_a_model_with_others_below_it_is_the_same(watched: Watched) -> None:
    await asyncio.to_thread(Tree(code="oak", height=2.5).save)
    await asyncio.to_thread(Plant(code="rose").save)
    assert len((await watched.same("/plant", short=True)).json) == 2
    assert [each["code"] for each in (await watched.same("/tree", short=True)).json] == ["oak"]


async def test_waves_of_lists_get_their_own_documents(watched: Watched) -> None:
    await people(40)
    watched.operations.clear()
    paths = [f"/person?name={number % 7}&per_page=3&page={number % 3 + 1}" for number in range(80)]
    answers = await asyncio.gather(*map(watched.quick.get, paths))
    assert not watched.operations
    for path, answer in zip(paths, answers, strict=True):
        assert answer.body == (await watched.usual.get(path)).body
        assert {each["name"] for each in answer.json} <= {path.partition("name=")[2][0]}


async def test_a_list_shows_what_is_stored_now(watched: Watched) -> None:
    made = await asyncio.to_thread(Person(name="Ann").save)
    for name in ("Bo", "Cy", "Ann"):
        await watched.same("/person", short=True)
        await watched.quick.put(f"/person/{made.pk}", json={"name": name})
        assert (await watched.same("/person", short=True)).json[0]["name"] == name


async def test_who_listens_to_lists_is_told(watched: Watched) -> None:
    await people(3)
    told: list[Any] = []
    for signal in (pre_get_list, post_get_list):
        with signal.connected_to(lambda **_: told.append(1), sender=Person):
            await watched.same("/person", short=False)
        assert len(told) == 2
        told.clear()
    await watched.same("/person", short=True)


async def test_a_list_that_cannot_be_read_is_an_error_like_any_other(watched: Watched) -> None:
    late = b"\x09since\x00" + (2**62).to_bytes(8, "little")
    body = b"\x07_id\x00" + ObjectId().binary + late
    raw = RawBSONDocument((len(body) + 5).to_bytes(4, "little") + body + b"\x00")
    await asyncio.to_thread(Person._get_collection().insert_one, raw)
    watched.operations.clear()
    (await watched.quick.get("/person")).problem(500)
    assert not watched.operations
    (await watched.usual.get("/person")).problem(500)


async def test_many_queries_are_not_remembered_for_ever(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bzz.application._MAX_PLANS", 3)
    await people(5)
    for _ in range(2):
        for number in range(7):
            answer = await watched.same(f"/person?name={number}", short=True)
            assert len(answer.json) == (number < 5)


@pytest.mark.parametrize(("size", "understood"), [(100, 1), (300, 2)])
async def test_only_short_queries_are_remembered(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, size: int, understood: int
) -> None:
    planned: list[Any] = []
    plan = Glance.plan
    monkeypatch.setattr(Glance, "plan", lambda self, asked: planned.append(1) or plan(self, asked))
    await people(5)
    for _ in range(2):
        assert len((await watched.same(f"/person?name__in=1,{'x' * size}", short=True)).json) == 1
    assert len(planned) == understood


async def test_ndjson_is_asked_of_the_handler(database: str, operations: list[Any]) -> None:
    rules = bzz.MongoEngineRestHandler.routes_for(Person, ndjson=True)
    async with serving(Application(rules)) as client:
        await client.get("/person")
        assert len(operations) == 1


# Who has a say --------------------------------------------------


def resource(model: Any = Person, **options: Any) -> Any:
    return bzz.MongoEngineRestHandler.routes_for(model, **options).resource


@pytest.mark.parametrize(
    "options",
    [
        {"authorize": lambda operation: True},
        {"rows": {"name": "Ann"}},
        {"rows": lambda operation: {}},
        {"readable": ["name"]},
        {"write_only": ["name"]},
        {"methods": ["POST"]},
        {"methods": ["GET"]},
        {"get_instance_queryset": lambda **_: None},
        {"get_list_queryset": lambda **_: None},
    ],
)
def test_an_option_that_has_a_say_closes_the_way(options: dict[str, Any]) -> None:
    assert resource().glance.is_possible
    assert not resource(**options).glance.is_possible


def test_an_option_that_nobody_has_thought_of_closes_the_way() -> None:
    known = {each.name for each in dataclasses.fields(Options)}
    closing = {
        "authorize", "get_instance_queryset", "get_list_queryset", "methods", "readable", "rows",
        "write_only",
    }  # fmt: skip
    # An option that is new has to be put on one of these lists, on purpose.
    assert known - INDIFFERENT == closing


def test_a_model_that_has_a_say_closes_the_way() -> None:
    assert not resource(Shown).glance.is_possible
    assert not resource(Managed).glance.is_possible


def test_who_is_asked_by_an_api_is_asked() -> None:
    api = bzz.Api(authorize=lambda operation: True)
    assert not api.add(Person).resource.glance.is_possible


async def test_receivers_of_a_resource_and_of_an_api_close_the_way(
    database: str, operations: list[Any]
) -> None:
    api = bzz.Api()
    people = api.add(Person)
    made = await asyncio.to_thread(Person(name="Ann").save)
    async with serving(api.application()) as client:
        await client.get(f"/person/{made.pk}")
        operations.clear()
        await client.get(f"/person/{made.pk}")
        assert not operations
        for circle in (people, api):
            for event in ("on_prerun", "on_success", "on_post_get_instance"):
                heard: list[Any] = []
                receiver = getattr(circle, event)(lambda _heard=heard, **_: _heard.append(1))
                await client.get(f"/person/{made.pk}")
                assert (len(operations), heard) == (1, [1])
                operations.clear()
                owner = circle.resource if circle is people else circle
                owner.hooks.signal(event.removeprefix("on_")).disconnect(receiver)
            circle.on_post_update_instance(lambda **_: None)  # a read does not concern it
        await client.get(f"/person/{made.pk}")
        assert not operations


def test_a_handler_that_does_something_closes_the_way() -> None:
    def found(handler: Any, **options: Any) -> Any:
        (rule,) = handler.routes_for(Shown if options.pop("own", False) else Plant, **options)
        return _way(rule.handler_class, rule.kwargs)

    assert found(bzz.MongoEngineRestHandler) is not None
    assert found(OnlyOptions) is not None
    assert found(WithPrepare) is None
    assert found(type("Below", (WithPrepare,), {})) is None
    assert found(bzz.MongoEngineRestHandler, cors=bzz.Cors("*")) is None
    assert found(bzz.MongoEngineRestHandler, rate_limit="5/second") is None
    assert found(bzz.MongoEngineRestHandler, own=True) is None
    assert _way(tornado.web.RequestHandler, {}) is None


async def test_what_an_application_does_with_every_request_is_done(
    database: str, operations: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = await asyncio.to_thread(Person(name="Ann" * 1000).save)
    logged: list[Any] = []
    rules = list(bzz.MongoEngineRestHandler.routes_for(Person))
    path = f"/person/{made.pk}"
    for settings, short in (
        ({}, True),
        ({"log_function": unlogged}, True),
        ({"log_function": logged.append}, False),
        ({"compress_response": True}, False),
    ):
        async with serving(Application(rules, **settings)) as client:
            await client.get(path)
            operations.clear()
            answer = await client.request("GET", path, headers={"Accept-Encoding": "gzip"})
            assert answer.json["name"] == "Ann" * 1000
            assert len(operations) == (0 if short else 1)
    assert len(logged) == 2
    async with serving(Application(rules)) as client:
        with caplog.at_level(logging.INFO, "tornado.access"):
            await client.get(path)
    assert f"200 GET {path}" in caplog.text


# What is taken from Tornado's inside --------------------------------------------------


class _Connection:
    """As much of a connection as a handler needs that nobody answers."""

    context = None

    def set_close_callback(self, callback: Any) -> None:
        """Tornado does so with every handler."""


def test_a_handler_begins_as_those_of_tornado_do() -> None:
    def begun(handler: Any) -> dict[str, Any]:
        line = RequestStartLine("GET", "/", "HTTP/1.1")
        request = HTTPServerRequest(
            connection=_Connection(),
            headers=HTTPHeaders({"Host": "x"}),
            start_line=line,  # type: ignore[arg-type]
        )
        found = vars(handler(tornado.web.Application(), request))
        found["_headers"] = [(name, name == "Date" or value) for name, value in found["_headers"].get_all()]
        return {name: found[name] for name in found if name not in {"application", "request", "ui"}}

    assert begun(LeanHandler) == begun(tornado.web.RequestHandler)


class Said(tornado.web.RequestHandler):
    def initialize(self, status: int = 200) -> None:
        self.status = status

    def get(self) -> None:
        self.set_status(self.status)
        self.set_header("ETag", '"a"')
        if self.status != 204:
            self.write("one ")
            self.finish({"two": 2} if self.get_query_argument("json", None) else b"two")

    head = get


class LeanSaid(LeanHandler):
    initialize, get, head = Said.initialize, Said.get, Said.head


@pytest.mark.parametrize("status", [200, 201, 204, 404])
async def test_a_handler_ends_as_those_of_tornado_do(status: int) -> None:
    rules = [(r"/said", Said, {"status": status}), (r"/lean", LeanSaid, {"status": status})]
    async with serving(tornado.web.Application(rules)) as client:
        for query in ("", "?json=1"):
            for method in ("GET", "HEAD"):
                one, other = [await client.request(method, f"{path}{query}") for path in ("/said", "/lean")]
                for each in (one, other):
                    each.headers.pop("Date")
                assert (one.status, one.body) == (other.status, other.body)
                assert list(one.headers.get_all()) == list(other.headers.get_all())


async def test_a_handler_that_ends_twice_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    class Twice(LeanHandler):
        def get(self) -> None:
            self.set_header("ETag", '"a"')
            self.finish("once")
            self.finish("twice")

    async with serving(tornado.web.Application([(r"/", Twice)])) as client:
        assert (await client.get("/")).body == b"once"
    assert "finish() called twice" in caplog.text
