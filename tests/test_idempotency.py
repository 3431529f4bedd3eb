"""``Idempotency-Key``: the same answer again, and nothing done twice, over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import mongoengine as me
import pymongo
import pytest
from bson import ObjectId

import bzz
from bzz import signals
from bzz.delivery.commit import kept_back
from bzz.embedded import EmbeddedMongo
from bzz.errors import ExitEarly, StorageError
from bzz.resource.idempotency import Idempotency, settings
from bzz.storage import Store, close_clients
from bzz.storage.receipts import Answer as Kept
from bzz.storage.receipts import Receipts
from tests.conftest import _forget_collections
from tests.replays import SAME, Told, is_copy, receipts
from tests.serving import Answer, Client, serving
from tests.storage_drivers import FAMILIES, Commands, explicit_client
from tests.test_batch_atomic import end_transactions

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
JSON_PATCH = "application/json-patch+json"
WRITES = ("create_instance", "update_instance")


class Jar(me.Document):
    name = me.StringField(required=True)
    labels = me.ListField(me.StringField())
    size = me.IntField(min_value=0)


class Sealed(me.Document):
    """Saves itself, in two steps."""

    name = me.StringField(primary_key=True)
    steps = me.IntField(default=0)

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.steps = 1
        super().save(*args, **kwargs)
        self.steps = 2
        return super().save(*args, **kwargs)


class Logged(me.Document):
    text = me.StringField()
    meta = {"max_documents": 100, "max_size": 65536}


class Line(me.EmbeddedDocument):
    text = me.StringField()


class Order(me.Document):
    lines = me.EmbeddedDocumentListField(Line)


MODELS = (Jar, Sealed, Logged, Order)


def make_api(**options: Any) -> bzz.Api:
    api = bzz.Api(**options)
    for model in MODELS:
        api.add(model)
    return api


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving(make_api()) as client:
        yield client


async def send(client: Client, key: str, path: str = "/jar", **options: Any) -> Answer:
    headers = {"Idempotency-Key": key, **options.pop("headers", {})}
    if "body" not in options:
        options.setdefault("json", {"name": "a"})
    return await client.request(options.pop("method", "POST"), path, headers=headers, **options)


# The same answer again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{}, {"Prefer": "return=minimal"}, {"Prefer": "return=representation"}])
async def test_a_creation(client: Client, headers: dict[str, str]) -> None:
    told = Told(*WRITES)
    first = await send(client, '"k"', headers=headers)
    assert (first.status, "Idempotent-Replayed" in first.headers) == (201, False)
    assert told.take() == ["pre_create_instance", "post_create_instance"]
    for _ in range(2):
        is_copy(first, await send(client, '"k"', headers=headers))
    assert (told.take(), Jar.objects.count()) == ([], 1)
    assert (await client.get(first.headers["Location"])).headers["ETag"] == first.headers["ETag"]


async def test_a_patch_is_applied_once(client: Client) -> None:
    path = (await client.post("/jar", json={"name": "a"})).headers["Location"]
    grow: dict[str, Any] = {"method": "PATCH", "path": path, "content_type": JSON_PATCH}
    grow["json"] = [{"op": "add", "path": "/labels/-", "value": "x"}]
    told = Told(*WRITES)
    first = await send(client, "k", **grow)
    assert first.json["labels"] == ["x"]
    is_copy(first, await send(client, "k", **grow))
    assert told.take() == ["pre_update_instance", "post_update_instance"]
    minimal = {**grow, "headers": {"Prefer": "return=minimal"}}
    second = await send(client, "k2", **minimal)
    assert (second.status, second.body) == (204, b"")
    is_copy(second, await send(client, "k2", **minimal))
    assert Jar.objects.get().labels == ["x", "x"]


async def test_a_model_that_saves_itself(client: Client) -> None:
    body = {"path": "/sealed", "json": {"name": "a"}}
    first = await send(client, "k", **body)
    assert first.json == {"name": "a", "steps": 2}
    is_copy(first, await send(client, "k", **body))
    assert (await send(client, "other", **body)).problem(409)["type"] == "urn:bzz:problem:duplicate"


async def test_what_is_below_a_document(client: Client) -> None:
    path = (await client.post("/order", json={})).headers["Location"] + "/lines"
    first = await send(client, "k", path, json={"text": "one"})
    assert first.status == 201
    is_copy(first, await send(client, "k", path, json={"text": "one"}))
    assert len(Order.objects.get().lines) == 1


async def test_many_documents(client: Client) -> None:
    told = Told(*WRITES)
    bodies = [{"name": f"n{number}"} for number in range(30)]
    first = await send(client, "k", json=bodies)
    assert first.json["succeeded"] == 30
    is_copy(first, await send(client, "k", json=bodies))
    assert Jar.objects.count() == 30
    assert told.take().count("post_create_instance") == 30


async def test_large_answers_are_kept_as_they_are(client: Client) -> None:
    body = {"name": "é" * 100_000}
    first = await send(client, "k", json=body)
    is_copy(first, await send(client, "k", json=body))
    assert len(receipts()[0]["answer"]["body"]) < 10_000


async def test_what_is_too_large_to_be_kept_is_not_done(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bzz.storage.receipts._MAX_BODY", 10)
    problem = (await send(client, "k")).problem(400)
    assert (problem["type"], problem["header"]) == ("urn:bzz:problem:header", "Idempotency-Key")
    assert (Jar.objects.count(), receipts()) == (0, [])
    first = await send(client, "k", headers={"Prefer": "return=minimal"})
    assert (first.status, Jar.objects.count()) == (201, 1)


@pytest.mark.parametrize("kind", FAMILIES)
async def test_with_either_driver(database: str, mongo_url: str, kind: str) -> None:
    async with explicit_client(kind, mongo_url) as driver, serving(make_api(client=driver)) as client:
        first = await send(client, "k")
        assert first.status == 201
        is_copy(first, await send(client, "k"))
        copies = await asyncio.gather(*(send(client, "both") for _ in range(5)))
        assert len({each.body for each in copies}) == 1
    assert Jar.objects.count() == 2


async def test_without_the_header_nothing_is_different(database: str, mongo_url: str) -> None:
    commands = Commands()
    async with (
        explicit_client("pymongo", mongo_url, event_listeners=[commands]) as driver,
        serving(make_api(client=driver)) as client,
    ):
        await client.post("/jar", json={"name": "a"})
        commands.take()
        await client.post("/jar", json={"name": "a"})
        assert [name for name, _command in commands.take()] == ["insert"]
        await send(client, "k0")
        commands.take()
        await send(client, "k")
        sent = [name for name, _command in commands.take()]
        assert sent == ["update", "insert", "update", "commitTransaction"]
        await send(client, "k")
        assert [name for name, _command in commands.take()] == ["update", "find"]


# Both copies at once ----------------------------------------------------------------------------------------


async def test_copies_that_arrive_together(client: Client) -> None:
    told = Told(*WRITES)
    await client.get("/jar")
    for number in range(200 * TORTURE):
        body = {"name": f"n{number}"}
        first, second, third = await asyncio.gather(*(send(client, f"k{number}", json=body) for _ in "123"))
        assert first.status == 201, first
        assert first.body == second.body == third.body
        heads = [[each.headers.get(name) for name in SAME] for each in (first, second, third)]
        assert heads[0] == heads[1] == heads[2]
        replayed = ["Idempotent-Replayed" in each.headers for each in (first, second, third)]
        assert sorted(replayed) == [False, True, True]
        heard = told.take()
        assert heard == ["pre_create_instance", "post_create_instance"]
    assert Jar.objects.count() == Jar.objects.distinct("name").__len__() == 200 * TORTURE


class Gate:
    """Holds up what runs through it, until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()


async def test_a_copy_waits_for_the_first(client: Client) -> None:
    gate = Gate()
    signals.pre_create_instance.connect(gate)
    first = asyncio.ensure_future(send(client, "k"))
    await gate.reached.wait()
    second = asyncio.ensure_future(send(client, "k"))
    other = asyncio.ensure_future(send(client, "k2"))  # which is none of its business
    await asyncio.sleep(0.1)
    assert not second.done()
    gate.opened.set()
    is_copy(await first, await second)
    assert (await other).status == 201


async def test_a_copy_waits_only_so_long(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    signals.pre_create_instance.connect(gate)
    apis = [make_api(idempotency=Idempotency(wait=wait)) for wait in (0.05, 0)]
    async with serving(apis[0]) as one, serving(apis[1]) as other:
        first = asyncio.ensure_future(send(one, "k"))
        await gate.reached.wait()
        for number in range(4):
            client = (one, other)[number % 2]
            if number == 2:  # as in another process: they meet in MongoDB only
                monkeypatch.setattr("bzz.resource.idempotency._turns", weakref.WeakValueDictionary())
            refused = await send(client, "k")
            assert refused.problem(409)["type"] == "urn:bzz:problem:idempotency-key-in-use"
            assert int(refused.headers["Retry-After"]) >= 1
        gate.opened.set()
        is_copy(await first, await send(other, "k"))


# A key is for one request -----------------------------------------------------------------------------------


async def test_a_key_of_another_request_is_refused(client: Client) -> None:
    first = await send(client, "k")
    path = first.headers["Location"]
    others: list[dict[str, Any]] = [
        {"json": {"name": "b"}},
        {"path": "/sealed"},
        {"path": path, "method": "PATCH"},
        {"path": "/jar/"},
        {"body": b"name=a", "content_type": "application/x-www-form-urlencoded"},
    ]
    for other in others:
        problem = (await send(client, "k", **other)).problem(422)
        assert problem["type"] == "urn:bzz:problem:idempotency-key-reused"
    is_copy(first, await send(client, "k"))
    assert (Jar.objects.count(), Sealed.objects.count()) == (1, 0)


async def test_other_clients_have_other_keys(client: Client) -> None:
    ana, bo = ({"Authorization": f"Bearer {name}"} for name in ("ana", "bo"))
    first = await send(client, "k", headers=ana)
    second = await send(client, "k", headers=bo, json={"name": "b"})
    is_copy(first, await send(client, "k", headers=ana))
    is_copy(second, await send(client, "k", headers=bo, json={"name": "b"}))
    assert Jar.objects.count() == 2
    assert not any(b"ana" in str(each).encode() for each in receipts())


async def test_who_somebody_is_can_be_said(database: str) -> None:
    api = make_api(idempotency=Idempotency(who=lambda handler: handler.request.headers.get("X-User", "")))
    async with serving(api) as client:
        first = await send(client, "k", headers={"X-User": "1", "Authorization": "a"})
        is_copy(first, await send(client, "k", headers={"X-User": "1", "Authorization": "b"}))
        assert (await send(client, "k", headers={"X-User": "2"}, json={"name": "b"})).status == 201


async def test_quoted_or_bare_it_is_the_same_key(client: Client) -> None:
    first = await send(client, '"8e03978e-40d5-43e8-bc93-6894a57f9324"')
    is_copy(first, await send(client, "8e03978e-40d5-43e8-bc93-6894a57f9324"))
    is_copy(first, await send(client, '"8e03978e-40d5-43e8-bc93-6894a57f9324";v=1'))
    odd = await send(client, r'"a \"b\" \\ c"')
    is_copy(odd, await send(client, r'"a \"b\" \\ c"'))


@pytest.mark.parametrize(
    "key", ['""', '"a', 'a"', '"a", "b"', "a,b", "a b", r'"\x"', '"é"', "", "x" * 256, "(a)"]
)
async def test_what_is_no_key(client: Client, key: str) -> None:
    problem = (await send(client, key)).problem(400)
    assert (problem["type"], problem["header"]) == ("urn:bzz:problem:header", "Idempotency-Key")
    assert (Jar.objects.count(), receipts()) == (0, [])


async def test_a_resource_can_demand_it_or_do_without(database: str) -> None:
    api = bzz.Api(idempotency=Idempotency(required=True))
    api.add(Jar)
    api.add(Sealed, idempotency=False)
    async with serving(api) as client:
        assert (await client.post("/jar", json={"name": "a"})).problem(400)["header"] == "Idempotency-Key"
        first = await send(client, "k")
        assert (await client.put(first.headers["Location"], json={"name": "b"})).status == 200
        patched = await client.request("PATCH", first.headers["Location"], json={"name": "b"})
        assert patched.problem(400)
        dry = await client.post("/jar", json={"name": "a"}, headers={"Prefer": "dry-run"})
        assert dry.status == 200
        assert (await client.post("/batch", json={"operations": []})).problem(400)
        for name in "ab":
            assert (await send(client, "k", "/sealed", json={"name": name})).status == 201
        document = (await client.get("/openapi.json")).json["paths"]
    demanded = {each["name"]: each.get("required") for each in document["/jar"]["post"]["parameters"]}
    assert demanded["Idempotency-Key"] is True
    assert {"409", "422"} <= document["/jar"]["post"]["responses"].keys()
    assert "Idempotency-Key" not in str(document["/sealed"])
    assert "Idempotency-Key" not in str(document["/jar"]["get"])


def test_settings_are_checked() -> None:
    for wrong in ({"timeout": 0}, {"wait": -1}, {"keep": 1.0}, {"collection": ""}):
        with pytest.raises(ValueError):
            Idempotency(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        settings("yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        bzz.Api().add(Jar, idempotency="yes")
    assert settings(False) is None
    assert settings(True) == Idempotency()


async def test_a_dry_run_uses_no_key_up(client: Client) -> None:
    assert (await send(client, "k", headers={"Prefer": "dry-run"})).status == 200
    assert receipts() == []
    assert (await send(client, "k")).status == 201


async def test_receipts_are_forgotten_after_a_while(database: str) -> None:
    async with serving(make_api(idempotency=Idempotency(keep=60, collection="kept"))) as client:
        await send(client, "k")
    collection = Jar._get_collection().database.kept
    found = collection.find_one()
    assert 50 < (found["expires"] - found["since"]).total_seconds() <= 61
    indexes = collection.index_information().values()
    assert [each["expireAfterSeconds"] for each in indexes if each["key"] == [("expires", 1)]] == [0]


# What is not done is not remembered -------------------------------------------------------------------------


async def test_a_refusal_is_computed_anew(client: Client) -> None:
    for _ in range(2):
        assert (await send(client, "k", json={"size": -1})).problem(400)[
            "type"
        ] == "urn:bzz:problem:validation"
        assert receipts() == []
    (await send(client, "k", body=b"{", content_type="application/json")).problem(400)
    (await send(client, "k", "/jar/" + "0" * 24, method="PATCH")).problem(404)
    (await send(client, "k", body=b"x", content_type="text/plain")).problem(415)
    (await send(client, "k", "/jar?x=1")).problem(400)
    assert receipts() == []
    first = await send(client, "k")
    assert first.status == 201


async def test_a_veto_is_not_remembered(client: Client) -> None:
    def refuse() -> None:
        raise bzz.Veto(402, "no")

    with signals.pre_create_instance.connected_to(refuse):
        (await send(client, "k")).problem(402)
    assert receipts() == []
    assert (await send(client, "k")).status == 201


async def test_what_takes_too_long_is_rolled_back(database: str) -> None:
    gate = Gate()
    async with serving(make_api(idempotency=Idempotency(timeout=2.0))) as client:
        await client.post("/jar", json={"name": "warm"})
        with signals.pre_create_instance.connected_to(gate):
            (await send(client, "k")).problem(503)
        assert (Jar.objects.count(), receipts()) == (1, [])
        assert (await send(client, "k")).status == 201


async def test_the_life_of_the_operation(database: str) -> None:
    api = make_api()
    heard: list[str] = []
    for name in ("prerun", "success", "failure", "postrun"):
        api.hooks.signal(name).connect(lambda signal: heard.append(signal.name))
    async with serving(api) as client:
        await send(client, "k")
        await send(client, "k")
        assert heard == ["prerun", "success", "postrun"]
        heard.clear()
        await send(client, "k2", json={})
        assert heard == ["prerun", "failure", "postrun"]


async def test_what_was_sent_to_queues_waits_for_the_commit(client: Client) -> None:
    sent: list[int] = []

    async def send_off() -> None:
        sent.append(Jar.objects.count())

    def before() -> None:
        assert kept_back(send_off)

    signals.pre_create_instance.connect(before)
    await send(client, "bad", json={})
    assert sent == []
    await send(client, "k")
    assert sent == [1]


async def test_what_is_sent_about_a_failure_goes_out(database: str) -> None:
    api, sent = make_api(), []

    async def send_off() -> None:
        """Nothing would be sent by it."""

    @api.on_failure
    def alert() -> None:
        sent.append(kept_back(send_off))

    async with serving(api) as client:
        (await send(client, "k", json={})).problem(400)
    assert sent == [False]


async def test_receivers_change_the_answer_but_not_what_is_kept(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def complain() -> None:
        raise ValueError("too late")

    caplog.set_level(logging.CRITICAL)
    with signals.post_create_instance.connected_to(complain, errors="raise"):
        (await send(client, "k")).problem(500)
    kept = await send(client, "k")
    assert (kept.status, kept.json["name"], kept.headers["Idempotent-Replayed"]) == (201, "a", "true")

    def leave() -> None:
        raise ExitEarly

    with signals.post_create_instance.connected_to(leave, errors="raise"):
        first = await send(client, "k2")
    is_copy(first, await send(client, "k2"))
    assert Jar.objects.count() == 2


async def test_a_conflict_begins_again(client: Client) -> None:
    """The pre signal comes again, prerun does not, and what receivers did to the data is done to it anew."""
    path = (await client.post("/jar", json={"name": "a", "size": 0})).headers["Location"]
    attempts: list[Any] = []

    def disturb(data: Any, instance: Any) -> None:
        attempts.append((dict(data), instance.size))
        data["labels"] = ["seen"]
        if len(attempts) < 3:
            Jar.objects.update(inc__size=1)

    signals.pre_update_instance.connect(disturb)
    told = Told(*WRITES)
    answer = await send(client, "k", path, method="PATCH", json={"name": "b"})
    assert answer.json == {**answer.json, "name": "b", "labels": ["seen"], "size": 2}
    assert attempts == [({"name": "b"}, 0), ({"name": "b"}, 1), ({"name": "b"}, 2)]
    assert told.take().count("post_update_instance") == 1
    is_copy(answer, await send(client, "k", path, method="PATCH", json={"name": "b"}))


async def test_a_conflict_at_the_end_begins_again_with_an_empty_answer(client: Client) -> None:
    path = (await client.post("/jar", json={"name": "a"})).headers["Location"]
    kept = Jar._get_collection().database.bzz_receipts
    attempts: list[int] = []

    def disturb() -> None:
        # The transaction has read something already, so it cannot change the receipt after this.
        if len(attempts) < 2:
            attempts.append(kept.update_many({}, {"$inc": {"disturbed": 1}}).matched_count)

    signals.pre_update_instance.connect(disturb)
    told = Told(*WRITES)
    answer = await send(client, "k", path, method="PATCH", json={"name": "b"})
    assert (answer.status, answer.json["name"], attempts) == (200, "b", [1, 1])
    assert told.take() == [*["pre_update_instance"] * 3, "post_update_instance"]
    is_copy(answer, await send(client, "k", path, method="PATCH", json={"name": "b"}))


# Somebody is gone -------------------------------------------------------------------------------------------


@pytest.fixture
async def claimed(database: str, mongo_url: str) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Claim a key as a server does that is killed then, in the middle of its transaction."""
    lost: Any = pymongo.AsyncMongoClient(mongo_url, uuidRepresentation="standard")

    async def claim(client: Client, key: str, seconds: float | None, *, keeps: bool) -> None:
        # The name and the fingerprint are those of a request that was refused for it.
        gate = Gate()
        with signals.pre_create_instance.connected_to(gate):
            request = asyncio.ensure_future(send(client, key))
            await gate.reached.wait()
            (found,) = receipts()
            gate.opened.set()
            await request
        Jar.objects.delete()
        Jar._get_collection().database.bzz_receipts.delete_many({})
        store = Store(Jar, client=lost)
        mine = Receipts(store, "bzz_receipts", 60)
        session = lost.start_session()
        await session.start_transaction()
        token = ObjectId()
        name, fingerprint = found["_id"], found["fingerprint"]
        assert await mine.claim(name, fingerprint, token, seconds=seconds, session=session) is None
        await store.insert({"name": "lost"}, session=session)
        if keeps:
            assert await mine.keep(name, token, Kept(201), session)

    yield claim
    await lost.close()


@pytest.mark.parametrize("keeps", [False, True])
async def test_the_work_of_a_killed_server_is_taken_over(
    client: Client, claimed: Callable[..., Awaitable[Any]], keeps: bool
) -> None:
    await claimed(client, "k", 0.2, keeps=keeps)
    copies = await asyncio.gather(*(send(client, "k") for _ in range(3)))
    assert {each.status for each in copies} == {201}
    assert len({each.body for each in copies}) == 1
    assert [each.name for each in Jar.objects] == ["a"]


async def test_somebody_else_may_be_faster_to_take_over(database: str, mongo_url: str) -> None:
    store = Store(Jar)
    mine = Receipts(store, "bzz_receipts", 60)
    first, second, third = ObjectId(), ObjectId(), ObjectId()
    assert await mine.claim("n", b"f", first, seconds=0.001) is None
    await asyncio.sleep(0.01)
    lapsed = await mine.claim("n", b"f", second, seconds=5)
    assert lapsed is not None and lapsed.lapsed and lapsed.answer is None
    assert await mine.take_over("n", lapsed, second, seconds=5)
    assert not await mine.take_over("n", lapsed, third, seconds=5)
    assert not await mine.keep("n", first, Kept(201))
    await mine.release("n", first)
    assert await mine.keep("n", second, Kept(201, (("A", "b"),), b"c"))
    found = await mine.find("n")
    assert found is not None and found.answer == Kept(201, (("A", "b"),), b"c")
    await mine.release("n", second)
    assert await mine.find("n") is not None
    assert await mine.find("other") is None


async def test_who_lost_the_key_writes_nothing(database: str) -> None:
    gate = Gate()
    async with serving(make_api()) as client:
        with signals.pre_create_instance.connected_to(gate):
            request = asyncio.ensure_future(send(client, "k"))
            await gate.reached.wait()
            collection = Jar._get_collection().database.bzz_receipts
            collection.update_one({}, {"$set": {"token": ObjectId()}})
            gate.opened.set()
            refused = await request
        assert refused.problem(409)["type"] == "urn:bzz:problem:idempotency-key-in-use"
        assert (Jar.objects.count(), len(receipts())) == (0, 1)


@pytest.fixture
def commits(mongo_url: str, database: str) -> Iterator[Callable[..., None]]:
    """Let ``commitTransaction`` fail, for connections whose application has the name of the database."""
    blocking: Any = pymongo.MongoClient(mongo_url)

    def fail(mode: Any, **data: Any) -> None:
        only = {"failCommands": ["commitTransaction"], "appName": database, **data}
        blocking.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": only})

    yield fail
    blocking.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    end_transactions(blocking, database)
    blocking.close()


@pytest.fixture
async def named(database: str, mongo_url: str) -> AsyncIterator[Client]:
    """An application whose connections can be told from others."""
    async with explicit_client("pymongo", mongo_url, appname=database) as driver:
        api = make_api(client=driver, idempotency=Idempotency(timeout=3.0, wait=20))
        async with serving(api) as client:
            await client.post("/jar", json={"name": "warm"})
            yield client


LOST = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
COMMITS: dict[str, dict[str, Any]] = {
    "the answer is lost": {"writeConcernError": LOST, "errorLabels": ["UnknownTransactionCommitResult"]},
    "the commit is lost": {"closeConnection": True},
}


@pytest.mark.parametrize("how", COMMITS)
async def test_a_commit_that_nobody_knows_of(named: Client, commits: Callable[..., None], how: str) -> None:
    told = Told(*WRITES)
    commits({"times": 1}, **COMMITS[how])
    first = await send(named, "k")
    assert first.status == 201
    is_copy(first, await send(named, "k"))
    commits("alwaysOn", **COMMITS[how])
    (await send(named, "k2")).problem(503)
    commits("off")
    # Done or not, it is done once.
    second = await send(named, "k2")
    assert second.status == 201
    is_copy(second, await send(named, "k2"))
    assert told.take().count("post_create_instance") <= 2
    assert sorted(each.name for each in Jar.objects) == ["a", "a", "warm"]


# Without transactions ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with EmbeddedMongo(replica_set=None) as server:
        yield server.url


@pytest.fixture
async def alone(standalone: str) -> AsyncIterator[Client]:
    name = f"alone-{ObjectId()}"
    connection = me.connect(name, host=standalone, uuidRepresentation="standard")
    async with serving(make_api(idempotency=Idempotency(wait=0.2))) as client:
        yield client
    await close_clients()
    connection.drop_database(name)
    me.disconnect_all()
    _forget_collections(me.Document)


async def test_alone_it_is_the_same_as_long_as_the_server_lives(alone: Client) -> None:
    told = Told(*WRITES)
    async with serving(make_api(idempotency=Idempotency(wait=30))) as patient:
        copies = await asyncio.gather(*(send(patient, "k") for _ in range(5)))
    assert {each.status for each in copies} == {201}
    assert len({each.body for each in copies}) == 1
    assert told.take() == ["pre_create_instance", "post_create_instance"]
    assert Jar.objects.count() == 1
    (await send(alone, "k", json={"name": "b"})).problem(422)
    (await send(alone, "bad", json={})).problem(400)
    assert (await send(alone, "bad")).status == 201


async def test_alone_what_may_have_been_done_is_never_done_again(
    alone: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise StorageError("who knows")

    caplog.set_level(logging.CRITICAL)
    with signals.pre_create_instance.connected_to(fail):
        (await send(alone, "k")).problem(500)
    for _ in range(2):
        refused = await send(alone, "k")
        assert refused.problem(409)["type"] == "urn:bzz:problem:idempotency-key-in-use"
        assert int(refused.headers["Retry-After"]) > 3600
    assert Jar.objects.count() == 0


async def test_alone_what_is_too_large_to_be_kept_is_done_all_the_same(
    alone: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bzz.storage.receipts._MAX_BODY", 10)
    assert (await send(alone, "k")).status == 201
    assert "too large" in caplog.text
    (await send(alone, "k")).problem(409)
    assert Jar.objects.count() == 1


async def test_a_capped_collection_is_written_without_a_transaction(client: Client) -> None:
    first = await send(client, "k", "/logged", json={"text": "x"})
    assert first.status == 201
    is_copy(first, await send(client, "k", "/logged", json={"text": "x"}))
    assert Logged.objects.count() == 1
