"""Collections as NDJSON, both ways, over real sockets."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pymongo
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bzz
from bzz import signals
from bzz.embedded import EmbeddedMongo
from bzz.http import upload as uploads
from bzz.http.upload import Lines
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.server import Limits, Server
from tests.serving import Answer, Client, serving
from tests.storage_drivers import Commands
from tests.streaming import NDJSON, count, downloading, streaming, upload, uploading
from tests.test_bulk import swept

__all__ = ["swept"]  # a fixture

# A driver whose server is gone may leave a socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Author(me.Document):
    name = me.StringField()


class Leaf(me.Document):
    name = me.StringField(required=True)
    number = me.IntField(unique=True, sparse=True)
    author = me.ReferenceField(Author)
    place = me.GeoPointField()


class Shown(me.Document):
    name = me.StringField()

    def to_dict(self) -> dict[str, Any]:
        return {"shown": self.name}


class Plain(me.Document):
    name = me.StringField()


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    api = bzz.Api()
    api.add(Leaf, ndjson=True, expandable=["author"], sorts=["name", "number"])
    api.add(Shown, ndjson=True)
    api.add(Plain)
    async with serving(api) as client:
        yield client


def fill(number: int) -> None:
    Leaf._get_collection().insert_many([{"name": f"n{i % 7}", "number": i} for i in range(number)])


async def stream(client: Client, path: str, accept: str = NDJSON) -> Answer:
    return await client.get(path, headers={"Accept": accept})


def lines(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"] == NDJSON
    assert not answer.body or answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


async def post(client: Client, data: bytes, path: str = "/leaf", **headers: str) -> Answer:
    return await client.post(path, body=data, content_type=NDJSON, headers=headers)


# Out --------------------------------------------------------------------------------------------------------


async def test_every_document_is_a_line(client: Client) -> None:
    assert lines(await stream(client, "/leaf")) == []
    fill(2500)
    found = lines(await stream(client, "/leaf"))
    assert [each["number"] for each in found] == list(range(2500))
    assert found[0] == (await client.get("/leaf?per_page=1")).json[0]


async def test_filters_orders_fields_and_references(client: Client) -> None:
    author = Author(name="Ann").save()
    fill(300)
    Leaf.objects(number__lt=150).update(author=author)
    found = lines(await stream(client, "/leaf?name=n3&sort=-number&fields=number"))
    assert [each["number"] for each in found] == [i for i in range(299, -1, -1) if i % 7 == 3]
    assert set(found[0]) == {"id", "number"}
    found = lines(await stream(client, "/leaf?sort=name,-number&expand=author"))
    assert [(each["name"], -each["number"]) for each in found] == sorted(
        (each["name"], -each["number"]) for each in found
    )
    assert len(found) == 300
    assert {each["author"] and each["author"]["name"] for each in found} == {"Ann", None}


async def test_who_asks_for_what(client: Client) -> None:
    fill(2)
    for accept in (
        "*/*",
        "application/json",
        "application/json, application/x-ndjson;q=0.9",
        f"{NDJSON};q=0",
    ):
        answer = await stream(client, "/leaf", accept)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Vary"] == "Accept"
    for accept in (NDJSON, f"text/html, {NDJSON.upper()} ; q=0.5", f"{NDJSON}, application/json"):
        answer = await stream(client, "/leaf", accept)
        assert answer.headers["Vary"] == "Accept"
        assert len(lines(answer)) == 2
    assert (await stream(client, "/leaf", f"{NDJSON};q=x")).headers["Content-Type"] == "application/json"
    assert (await stream(client, "/plain")).headers["Content-Type"] == "application/json"
    assert "Vary" not in (await stream(client, "/plain")).headers
    key = (await client.get("/leaf")).json[0]["id"]
    assert (await stream(client, f"/leaf/{key}")).headers["Content-Type"] == "application/json"


async def test_to_dict_writes_the_lines(client: Client) -> None:
    Shown(name="a").save()
    assert lines(await stream(client, "/shown")) == [{"shown": "a"}]


async def test_head_has_no_body(client: Client) -> None:
    fill(1)
    answer = await client.request("HEAD", "/leaf", headers={"Accept": NDJSON})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Type"] == NDJSON


async def test_what_a_stream_cannot_be_asked(client: Client) -> None:
    for parameter in ("page=2", "per_page=5", "cursor=", "count=exact", "aggregate=x", "place__near=1,2"):
        body = (await stream(client, f"/leaf?{parameter}")).problem(400)
        assert body["parameter"] == parameter.partition("=")[0]
    assert (await stream(client, "/leaf?nope=1")).problem(400)["parameter"] == "nope"
    async with streaming(client.port) as old:
        old.writer.write(f"GET /leaf HTTP/1.0\r\nAccept: {NDJSON}\r\n\r\n".encode())
        await old.read_headers()
        assert (old.status, old.headers["Upgrade"]) == (426, "HTTP/1.1")


async def test_signals_of_a_stream(client: Client) -> None:
    fill(1200)
    story: list[Any] = []

    @signals.pre_get_list.connect(sender=Leaf)
    def before(arguments: Any) -> None:
        story.append(dict(arguments))
        if arguments.get("name") == ["no"]:
            raise bzz.Veto(403, "not this")

    @signals.post_get_list.connect(sender=Leaf)
    def after(items: list[Leaf]) -> None:
        story.append([each.number for each in items])

    found = lines(await stream(client, "/leaf?fields=number"))
    assert story[0] == {"fields": ["number"]}
    assert len(story) > 2
    assert [number for piece in story[1:] for number in piece] == [each["number"] for each in found]
    (await stream(client, "/leaf?name=no")).problem(403)


async def test_events_of_a_stream(database: str) -> None:
    story: list[str] = []
    api = bzz.Api()
    leaves = api.add(Leaf, ndjson=True)
    leaves.on_prerun(lambda operation: story.append("prerun"))
    leaves.on_success(lambda operation: story.append("success"))
    leaves.on_failure(lambda exc_info: story.append(exc_info[0].__name__))
    leaves.on_postrun(lambda operation: story.append("postrun"))
    async with serving(api) as client:
        fill(3)
        lines(await stream(client, "/leaf"))
        assert story == ["prerun", "success", "postrun"]
        story.clear()
        (await stream(client, "/leaf?page=1")).problem(400)
        assert story == ["prerun", "QueryError", "postrun"]


async def test_a_stream_that_breaks_is_seen_to_break(client: Client) -> None:
    fill(2000)
    pieces: list[int] = []

    @signals.post_get_list.connect(sender=Leaf, errors="raise")
    def fail(items: list[Leaf]) -> None:
        pieces.append(len(items))
        if len(pieces) == 2:
            raise RuntimeError("in the middle")

    async with downloading(client.port, "/leaf") as answer:
        assert answer.status == 200
        with pytest.raises(asyncio.IncompleteReadError):
            await count(answer.lines())
    pieces[:] = [1]
    # Before anything was sent, it is an error like any other.
    (await stream(client, "/leaf")).problem(500)


async def test_who_leaves_ends_the_reading(database: str, mongo_url: str) -> None:
    commands = Commands()
    driver: Any = pymongo.AsyncMongoClient(
        mongo_url, uuidRepresentation="standard", event_listeners=[commands]
    )
    over = asyncio.Event()
    api = bzz.Api(client=driver)
    leaves = api.add(Leaf, ndjson=True)
    leaves.on_postrun(lambda operation: over.set())
    Leaf._get_collection().insert_many([{"name": "x" * 10_000} for _ in range(5000)])  # 50 MB
    async with serving(api) as client:
        async with downloading(client.port, "/leaf") as answer:
            await anext(answer.lines())
        await asyncio.wait_for(over.wait(), 30)
        # What fits into sockets, and nothing near to all of it.
        assert commands.names.count("find") < 60
    await driver.close()


async def test_what_stays_is_neither_left_out_nor_shown_twice(client: Client) -> None:
    fill(3000)
    stays = {each for each in range(3000) if each % 3}
    async with downloading(client.port, "/leaf?sort=-name") as answer:
        found = []
        async for line in answer.lines():
            found.append(line["number"])
            if len(found) % 500 == 1:
                Leaf.objects(number__in=[each for each in range(len(found), 3000) if each % 3 == 0]).delete()
                Leaf._get_collection().insert_many([{"name": "n3"}, {"name": "n5"}])
    numbers = [each for each in found if each is not None]
    assert len(numbers) == len(set(numbers))
    assert stays <= set(numbers)


# In ---------------------------------------------------------------------------------------------------------


async def test_every_line_creates_a_document(client: Client) -> None:
    data = b'{"name": "a"}\r\n\n  {"name": "b", "number": 1} \n{"name": "c"}'
    answer = await post(client, data)
    (told,) = lines(answer)
    assert told == {"summary": {"received": 3, "succeeded": 3, "failed": 0, "listed": 0, "complete": True}}
    assert answer.headers["Preference-Applied"] == "handling=lenient"
    assert sorted(Leaf.objects.scalar("name")) == ["a", "b", "c"]
    assert lines(await post(client, b""))[0]["summary"]["received"] == 0


async def test_failures_are_told_with_their_index(client: Client) -> None:
    data = [{"name": "a", "number": 1}, {"number": "x"}, {"name": "b", "number": 1}, 5]
    raw = b"\n".join(json.dumps(each).encode() for each in data) + b'\n{"name":\n{"name": "\xff"}\n'
    *failed, end = lines(await post(client, raw))
    assert [(each["index"], each["status"]) for each in failed] == [
        (1, 400),
        (2, 409),
        (3, 400),
        (4, 400),
        (5, 400),
    ]
    assert {each["pointer"] for each in failed[0]["problem"]["errors"]} <= {"/1/name", "/1/number"}
    assert end["summary"] == {"received": 6, "succeeded": 1, "failed": 5, "listed": 5, "complete": True}


async def test_every_result_if_that_is_asked_for(client: Client) -> None:
    *found, end = lines(
        await post(client, b'{"name": "a"}\n{}\n{"name": "b"}\n', Prefer="return=representation")
    )
    assert [each["status"] for each in found] == [201, 400, 201]
    assert (await client.get(found[0]["location"])).json == found[0]["body"]
    assert end["summary"]["listed"] == 3


async def test_a_dry_run_stores_nothing(client: Client) -> None:
    answer = await post(client, b'{"name": "a"}\n{}\n', Prefer="dry-run")
    assert answer.headers["Preference-Applied"] == "handling=lenient, dry-run"
    assert lines(answer)[-1]["summary"]["succeeded"] == 1
    assert Leaf.objects.count() == 0


async def test_every_line_has_its_signals(client: Client) -> None:
    story: list[str] = []

    @signals.pre_create_instance.connect(sender=Leaf)
    def before(data: Any, handler: Any) -> None:
        story.append(f"pre {data['name']}")
        handler.write("not this")
        if data["name"] == "b":
            raise bzz.Veto(423, "locked")

    signals.post_create_instance.connect(
        lambda instance: story.append(f"post {instance.name}"), sender=Leaf, weak=False
    )
    failed, _end = lines(await post(client, b'{"name": "a"}\n{"name": "b"}\n'))
    assert (failed["index"], failed["status"]) == (1, 423)
    assert story == ["pre a", "pre b", "post a"]


async def test_what_a_stream_cannot_be(client: Client) -> None:
    assert (await post(client, b"", Prefer="handling=strict")).problem(400)["header"] == "Prefer"
    assert (await post(client, b"", **{"Idempotency-Key": '"a"'})).problem(400)["header"] == "Idempotency-Key"
    assert (await post(client, b"", "/leaf?x=1")).problem(400)["parameter"] == "x"
    (await post(client, b"{}", "/plain")).problem(415)
    (await post(client, b"{}", **{"Content-Encoding": "gzip"})).problem(415)
    (await client.put("/leaf/" + "0" * 24, body=b"{}", content_type=NDJSON)).problem(415)
    (await post(client, b"{}", "/leaf/" + "0" * 24)).problem(405)


async def test_lines_are_cut_wherever_they_arrive(client: Client) -> None:
    data = b"".join(b'{"name": "\xc3\xa9", "number": %d}\n' % number for number in range(20))
    parts = [data[start : start + 3] for start in range(0, len(data), 3)]
    (end,) = await upload(client.port, "/leaf", parts)
    assert end["summary"]["succeeded"] == 20
    assert set(Leaf.objects.scalar("name")) == {"é"}


async def test_a_line_that_is_too_long_is_one_failure(client: Client) -> None:
    longest = b'{"name": "%s"}' % (b"x" * (uploads.MAX_LINE - 12))
    assert len(longest) == uploads.MAX_LINE
    too_long = longest.replace(b"x", b"xx", 1)
    parts = [
        b'{"name": "a"}\n',
        longest,
        b"\n",
        too_long[:-5],
        too_long[-5:],
        b'\n{"name": "b"}\n',
        longest + b"  ",
    ]
    *failed, end = await upload(client.port, "/leaf", parts)
    assert [each["index"] for each in failed] == [2, 4]
    assert f"longer than {uploads.MAX_LINE} bytes" in failed[0]["problem"]["detail"]
    assert end["summary"]["succeeded"] == 3


async def test_each_result_comes_while_more_is_sent(client: Client) -> None:
    """Who waits for the result of a line before sending the next is not kept waiting."""
    async with uploading(client.port, "/leaf", Prefer="return=representation") as stream:
        answers = stream.lines()
        for number in range(3):
            await stream.send(b'{"name": "a", "number": %d}\n' % number)
            assert (await asyncio.wait_for(anext(answers), 20))["body"]["number"] == number
        await stream.end()
        assert (await anext(answers))["summary"]["succeeded"] == 3


async def test_who_sends_everything_before_reading_is_not_locked_out(client: Client) -> None:
    """Every line fails in many ways, so there is more to read than to send; nothing of it is read before."""
    count_of = 10_000
    line = json.dumps({f"f{number}": 0 for number in range(30)}).encode() + b"\n"
    async with uploading(client.port, "/leaf") as stream:
        for _ in range(count_of // 1000):
            await asyncio.wait_for(stream.send(line * 1000), 60)
        await stream.end()
        *failed, end = await stream.all()
    assert len(failed) == uploads.MAX_LISTED
    assert end["summary"] == {
        "received": count_of,
        "succeeded": 0,
        "failed": count_of,
        "listed": uploads.MAX_LISTED,
        "complete": True,
    }


async def test_who_wants_every_result_and_reads_none_is_not_read_from(client: Client) -> None:
    """The server takes what fits into sockets and two pieces, and no more."""
    line = b'{"name": "%s"}\n' % (b"x" * 1000)
    async with uploading(client.port, "/leaf", Prefer="return=representation") as stream:
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 400:
                await asyncio.wait_for(stream.send(line * 1000), 1.5)
                sent += 1
        assert sent < 400
        before = Leaf.objects.count()
        assert before < 1000 * (sent + 1)
    # It left: what is under way ends, and nothing else is begun.
    await asyncio.sleep(0.3)
    assert Leaf.objects.count() <= before + 2000


async def test_who_leaves_in_the_middle_keeps_what_was_stored(client: Client) -> None:
    told: list[str] = []
    stored = asyncio.Event()

    @signals.post_create_instance.connect(sender=Leaf)
    def note(instance: Leaf) -> None:
        told.append(instance.name)
        stored.set()

    async with uploading(client.port, "/leaf") as stream:
        await stream.send(b'{"name": "a"}\n{"name": "not wh')
        await asyncio.wait_for(stored.wait(), 20)
    assert (await client.get("/leaf")).json[0]["name"] == "a"
    assert told == ["a"]


@pytest.mark.usefixtures("swept")
async def test_an_outage_ends_a_stream(database: str) -> None:
    with EmbeddedMongo() as server:
        me.connect("lost", alias="lost-stream", host=server.url, uuidRepresentation="standard")

        class Drop(me.Document):
            name = me.StringField()
            meta = {"db_alias": "lost-stream"}

        api = bzz.Api()
        api.add(Drop, ndjson=True, timeout=3.0)
        limits = Limits(max_body_size=1000)
        async with (
            Server(api, port=0, address="127.0.0.1", limits=limits, access_log=None) as http,
            uploading(http.port, "/drop", Prefer="return=representation") as stream,
        ):
            answers = stream.lines()
            await stream.send(b'{"name": "a"}\n')
            assert (await anext(answers))["status"] == 201
            server.stop()
            await stream.send(b'{"name": "b"}\n')
            rest = [each async for each in answers]
        assert rest[0]["status"] == 503
        assert rest[-1]["summary"]["complete"] is False
        assert rest[-1]["summary"]["problem"]["type"] == "urn:bzz:problem:storage-unavailable"


@pytest.mark.usefixtures("swept")
async def test_an_outage_at_the_beginning_is_a_problem(database: str) -> None:
    me.register_connection("nowhere", "x", host="mongodb://127.0.0.1:9", uuidRepresentation="standard")

    class Nowhere(me.Document):
        name = me.StringField()
        meta = {"db_alias": "nowhere"}

    api = bzz.Api()
    api.add(Nowhere, ndjson=True, timeout=0.5)
    async with serving(api) as client:
        body = (await post(client, b'{"name": "a"}\n', "/nowhere")).problem(503)
        assert body["type"] == "urn:bzz:problem:storage-unavailable"
        (await stream(client, "/nowhere")).problem(503)


@given(st.lists(st.binary(max_size=12)), st.lists(st.integers(1, 9), min_size=1))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    data = b"\n".join(lines)
    whole = Lines(8)
    expected = [str(each) for each in [*whole.feed(data), *whole.end()]]
    parts = Lines(8)
    found: list[str] = []
    for size in itertools.cycle(cuts):
        if not data:
            break
        found += map(str, parts.feed(data[:size]))
        data = data[size:]
    assert [*found, *map(str, parts.end())] == expected


async def test_a_bug_of_a_receiver_is_a_failure_of_its_line(client: Client) -> None:
    @signals.pre_create_instance.connect(sender=Leaf)
    def fail(data: Any) -> None:
        if data["name"] == "bug":
            raise RuntimeError("a bug")

    failed, end = lines(await post(client, b'{"name": "bug"}\n{"name": "a"}\n'))
    assert failed["status"] == 500
    assert end["summary"]["succeeded"] == 1


async def test_a_handler_of_ones_own_keeps_what_it_does(database: str) -> None:
    class Mine(MongoEngineRestHandler):
        async def prepare(self) -> None:  # type: ignore[override]
            prepared = super().prepare()
            if prepared is not None:
                await prepared
            await asyncio.sleep(0)
            if self.request.headers.get("X-Key") != "k":
                raise bzz.Veto(401, "who are you?")

    api = bzz.Api(rate_limit="3/hour")
    api.add(Leaf, handler=Mine, ndjson=True)
    async with serving(api) as client:
        (await post(client, b'{"name": "a"}\n')).problem(401)
        assert (
            lines(await post(client, b'{"name": "a"}\n', **{"X-Key": "k"}))[-1]["summary"]["succeeded"] == 1
        )
        (await post(client, b"", Prefer="handling=strict", **{"X-Key": "k"})).problem(400)
        (await post(client, b'{"name": "a"}\n', **{"X-Key": "k"})).problem(429)


# Below bzz.serve's limits -----------------------------------------------------------------------------------


@pytest.fixture
async def limited(database: str) -> AsyncIterator[Server]:
    api = bzz.Api(cors=bzz.Cors("*"))
    api.add(Leaf, ndjson=True)
    api.add(Plain)
    limits = Limits(max_body_size=10_000, body_timeout=3.0)
    async with Server(api, port=0, address="127.0.0.1", limits=limits, access_log=None) as server:
        yield server


async def test_a_stream_is_longer_than_any_body(limited: Server) -> None:
    data = b"".join(b'{"name": "%s", "number": %d}\n' % (b"x" * 100, number) for number in range(1000))
    (end,) = await upload(limited.port, "/leaf", [data, b'{"name": "last"}'])
    assert end["summary"]["succeeded"] == 1001
    client = Client(limited.port)
    answer = await client.post("/leaf", body=data.replace(b'"number"', b'"n"'), content_type=NDJSON)
    assert lines(answer)[-1]["summary"]["failed"] == 1000
    # Of what nobody takes as a stream, the limit holds, whatever it says that it is.
    (await client.post("/plain", body=data, content_type=NDJSON)).problem(413)
    (await client.post("/leaf", body=data, content_type="application/json")).problem(413)
    answer = await client.request("PUT", "/leaf/" + "0" * 24, body=data, content_type=NDJSON)
    answer.problem(413)
    huge = f"POST /leaf HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {'9' * 30}\r\n\r\n"
    assert b"413" in (await client.raw(huge.encode())).partition(b"\r\n")[0]
    client.close()


async def test_a_preflight_opens_no_stream(limited: Server) -> None:
    client = Client(limited.port)
    headers = {"Origin": "http://a.example", "Access-Control-Request-Method": "POST"}
    assert (await client.request("OPTIONS", "/leaf", headers=headers)).status == 204
    client.close()


async def test_a_stream_may_take_its_time_while_it_goes_on(limited: Server) -> None:
    async with uploading(limited.port, "/leaf") as stream:
        for number in range(5):
            await stream.send(b'{"name": "a", "number": %d}\n' % number)
            await asyncio.sleep(0.7)  # all in all more than the limit
        await stream.end()
        (end,) = await stream.all()
    assert end["summary"]["succeeded"] == 5


@pytest.mark.parametrize("begun", [False, True])
async def test_a_stream_that_stops_is_ended(limited: Server, begun: bool) -> None:
    async with uploading(limited.port, "/leaf", Prefer="return=representation") as stream:
        if begun:
            answers = stream.lines()
            await stream.send(b'{"name": "a"}\n')
            assert (await anext(answers))["status"] == 201
            with pytest.raises(asyncio.IncompleteReadError):
                await anext(answers)
        else:
            await stream.read_headers()
            assert stream.status == 408
    async with downloading(limited.port, "/leaf") as answer:
        assert await count(answer.lines()) == int(begun)
    assert limited.in_flight == 0


async def test_the_time_of_the_application_is_not_that_of_the_client(limited: Server) -> None:
    @signals.pre_create_instance.connect(sender=Leaf)
    async def slowly(data: Any) -> None:
        await asyncio.sleep(3.5)

    async with uploading(limited.port, "/leaf") as stream:
        await stream.send(b'{"name": "a"}\n')
        await stream.end()
        (end,) = await stream.all()
    assert end["summary"]["succeeded"] == 1
