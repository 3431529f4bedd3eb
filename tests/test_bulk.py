"""Many documents with one request: all or nothing, or each as far as it goes, over real HTTP."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import mongoengine as me
import pymongo
import pymongo.monitoring
import pytest

import bzz
from bzz import signals
from bzz.embedded import EmbeddedMongo
from bzz.resource import Options
from tests.serving import Answer, Client, serving
from tests.storage_drivers import Commands

# A driver whose server is gone may leave a socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
MANY = 10_000
LENIENT = {"Prefer": "handling=lenient"}


class Address(me.EmbeddedDocument):
    city = me.StringField(required=True)


class Plan(me.Document):
    name = me.StringField(required=True, unique=True)
    amount = me.IntField(min_value=0, default=0)
    state = me.StringField(choices=["open", "done"], default="open")
    address = me.EmbeddedDocumentField(Address)


class Saver(me.Document):
    name = me.StringField(required=True, unique=True)
    amount = me.IntField(default=0)
    meta = {"queryset_class": me.QuerySet}

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.amount = (self.amount or 0) + 100
        return super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        if self.name == "kept":
            raise me.OperationError("it is kept")
        return super().delete(*args, **kwargs)


class Tally(me.Document):
    value = me.IntField(default=0)
    group = me.StringField()


class Capped(me.Document):
    name = me.StringField(required=True)
    meta = {"max_documents": 100, "max_size": 100_000}


class Shown(me.Document):
    name = me.StringField()

    def to_dict(self) -> dict[str, Any]:
        if self.name == "ugly":
            raise RuntimeError("cannot be shown")
        return {"shown": self.name}


BOTH = frozenset({"PATCH", "DELETE"})


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[Client]:
    api = bzz.Api(**options)
    for model in (Plan, Saver, Tally, Capped, Shown):
        api.add(model, bulk=BOTH)
    async with serving(api) as client:
        yield client


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with served() as client:
        yield client


def results(answer: Answer, status: int) -> list[Any]:
    assert answer.status == status, answer
    body = answer.json
    assert [each["index"] for each in body["results"]] == list(range(len(body["results"])))
    assert body["succeeded"] + body["failed"] == len(body["results"])
    found: list[Any] = body["results"]
    return found


async def change(client: Client, path: str, json: Any = None, *, prefer: str = "max-affected=100") -> Answer:
    method = "DELETE" if json is None else "PATCH"
    return await client.request(method, path, json=json, headers={"Prefer": prefer})


async def make(client: Client, how_many: int, path: str = "/plan", **values: Any) -> None:
    answer = await client.post(path, json=[{"name": f"p{i}", **values} for i in range(how_many)])
    assert answer.status == 201, answer


# An array ---------------------------------------------------------------------------------------------------


async def test_an_array_creates_each_of_its_items(client: Client) -> None:
    answer = await client.post("/plan", json=[{"name": "a"}, {"name": "b", "address": {"city": "Rio"}}])
    first, second = results(answer, 201)
    assert answer.headers["Preference-Applied"] == "handling=strict"
    assert answer.json["handling"] == "strict"
    assert first["status"] == second["status"] == 201
    assert second["body"]["address"] == {"city": "Rio"}
    for each in (first, second):
        assert each["location"] == f"/plan/{each['key']}"
        alone = await client.get(each["location"])
        assert alone.json == each["body"]
        assert alone.headers["ETag"] == each["etag"]


async def test_every_error_of_a_strict_bulk_is_told_and_nothing_is_stored(client: Client) -> None:
    await make(client, 1)
    bodies = [{"name": "x"}, {"amount": -1, "address": {}}, 3, {"name": "y", "nope": 1}]
    body = (await client.post("/plan", json=bodies)).problem(400)
    assert body["type"] == "urn:bzz:problem:bulk-items"
    assert {each["pointer"] for each in body["errors"]} == {
        "/1/name",
        "/1/amount",
        "/1/address/city",
        "/2",
        "/3/nope",
    }
    assert [each["index"] for each in body["results"]] == [1, 2, 3]
    assert body["results"][0]["problem"]["type"] == "urn:bzz:problem:validation"
    assert Plan.objects.count() == 1


async def test_a_refusal_of_mongodb_rolls_everything_back(client: Client) -> None:
    await make(client, 1)
    answer = await client.post("/plan", json=[{"name": "x"}, {"name": "p0"}, {"name": "y"}])
    body = answer.problem(409)
    assert body["errors"] == [{"pointer": "/1", "detail": "Another plan has the same name."}]
    assert body["results"][0]["problem"]["fields"] == ["name"]
    assert Plan.objects.count() == 1


async def test_errors_of_several_kinds_have_one_status(client: Client) -> None:
    @signals.pre_create_instance.connect(sender=Plan)
    def veto(data: Any) -> None:
        if data.get("name") == "secret":
            raise bzz.Veto(403, "not that")
        if data.get("name") == "broken":
            raise RuntimeError("a bug")

    secret, invalid, broken = {"name": "secret"}, {"name": None}, {"name": "broken"}
    assert (await client.post("/plan", json=[secret, {"name": "a"}])).problem(403)["results"][0]["index"] == 0
    (await client.post("/plan", json=[secret, invalid])).problem(400)
    body = (await client.post("/plan", json=[secret, invalid, broken])).problem(500)
    assert body["errors"][-1] == {"pointer": "/2", "detail": "This item failed."}
    assert Plan.objects.count() == 0


async def test_a_lenient_bulk_does_what_it_can(client: Client) -> None:
    await make(client, 1)
    bodies = [{"name": "a"}, {"name": "p0"}, {"name": "a"}, {"name": 5}, "no", {"name": "b"}]
    answer = await client.post("/plan", json=bodies, headers=LENIENT)
    found = results(answer, 207)
    assert [each["status"] for each in found] == [201, 409, 409, 400, 400, 201]
    assert found[3]["problem"]["errors"][0]["pointer"] == "/3/name"
    assert (answer.json["succeeded"], answer.json["failed"]) == (2, 4)
    assert answer.headers["Preference-Applied"] == "handling=lenient"
    assert sorted(Plan.objects.scalar("name")) == ["a", "b", "p0"]
    assert len(results(await client.post("/plan", json=[{"name": "c"}], headers=LENIENT), 201)) == 1


async def test_minimal_tells_only_of_failures(client: Client) -> None:
    prefer = {"Prefer": "handling=lenient, return=minimal"}
    answer = await client.post("/plan", json=[{"name": "a"}, {"name": "a"}], headers=prefer)
    assert answer.status == 207
    assert answer.headers["Preference-Applied"] == "handling=lenient, return=minimal"
    assert [each["index"] for each in answer.json["results"]] == [1]
    assert (answer.json["succeeded"], answer.json["failed"]) == (1, 1)


async def test_what_an_array_may_be(client: Client) -> None:
    empty = await client.post("/plan", json=[])
    assert (empty.status, empty.json["results"]) == (200, [])
    nested: Any = {"name": "deep"}
    for _ in range(31):
        nested = {"a": nested}
    deep = (await client.post("/plan", json=[nested])).problem(400)
    assert deep["errors"][0]["pointer"].startswith("/0")  # as deep as alone, so it is the model that refuses
    (await client.post("/plan", json=[[nested]])).problem(400)
    assert "type" in (await client.post("/plan", body=b'[{"name":', content_type="application/json")).problem(
        400
    )
    (await client.put("/plan/" + "0" * 24, json=[{"name": "a"}])).problem(400)


async def test_how_many_items_there_may_be(database: str) -> None:
    api = bzz.Api()
    api.add(Plan, max_bulk=3)
    api.add(Tally, max_bulk=0)
    async with serving(api) as client:
        await make(client, 3)
        body = (await client.post("/plan", json=[{"name": f"q{i}"} for i in range(4)])).problem(413)
        assert "3 items" in body["detail"]
        assert "JSON object" in (await client.post("/tally", json=[{}])).problem(400)["detail"]
        # Without the option, a collection has no such methods.
        refused = await client.request("PATCH", "/plan?amount=0", json={"amount": 1})
        refused.problem(405)
        assert refused.headers["Allow"] == "GET, HEAD, POST, OPTIONS"


@pytest.mark.parametrize(
    "wrong", [{"bulk": "PATCH"}, {"bulk": {"PUT"}}, {"max_bulk": -1}, {"bulk_timeout": 0}]
)
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bulk"):
        Options(**wrong)


def test_a_state_cannot_be_asked_for_of_many() -> None:
    with pytest.raises(ValueError, match="require_if_match"):
        Options(bulk=BOTH, require_if_match=True)


# A filter ---------------------------------------------------------------------------------------------------


async def test_a_patch_changes_all_that_matches(client: Client) -> None:
    await make(client, 3, amount=1)
    await client.post("/plan", json={"name": "other", "amount": 5})
    answer = await change(client, "/plan?amount=1", {"amount": 2, "address": {"city": "Ur"}})
    found = results(answer, 200)
    assert answer.headers["Preference-Applied"] == "handling=strict, max-affected=100"
    assert len(found) == 3
    for each in found:
        assert each["status"] == 200
        assert each["diff"]["amount"] == {"from": 1, "to": 2}
        assert each["body"] == (await client.get(each["location"])).json
        assert each["etag"] == (await client.get(each["location"])).headers["ETag"]
    assert Plan.objects(amount=2).count() == 3


async def test_a_json_patch_is_applied_to_each(client: Client) -> None:
    await make(client, 2, amount=1)
    operations = [
        {"op": "test", "path": "/name", "value": "p0"},
        {"op": "replace", "path": "/amount", "value": 9},
    ]
    kind = "application/json-patch+json"
    headers = {"Prefer": "max-affected=5, handling=lenient"}
    answer = await client.request(
        "PATCH", "/plan?amount=1", json=operations, headers=headers, content_type=kind
    )
    found = results(answer, 207)
    assert sorted(each["status"] for each in found) == [200, 409]
    assert Plan.objects(amount=9).scalar("name")[0] == "p0"


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_a_delete_removes_all_that_matches(client: Client, handling: str) -> None:
    await make(client, 3, state="done")
    await client.post("/plan", json={"name": "other"})
    found = results(
        await change(client, "/plan?state=done", prefer=f"max-affected=3, handling={handling}"), 200
    )
    assert [set(each) for each in found] == [{"index", "key", "status"}] * 3
    assert {each["status"] for each in found} == {204}
    assert list(Plan.objects.scalar("name")) == ["other"]


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_more_than_allowed_is_not_touched(client: Client, handling: str) -> None:
    await make(client, 5)
    for json in ({"amount": 1}, None):
        prefer = f"handling={handling}, max-affected=4"
        body = (await change(client, "/plan?amount=0", json, prefer=prefer)).problem(409)
        assert body["type"] == "urn:bzz:problem:max-affected"
        assert (body["matched"], body["max_affected"]) == (5, 4)
    assert Plan.objects(amount=0).count() == 5


async def test_what_a_change_of_many_has_to_say(client: Client) -> None:
    await make(client, 1)
    for prefer in ("handling=lenient", "max-affected=x", "max-affected=-1", "max-affected=" + "9" * 30):
        body = (await change(client, "/plan?amount=0", {"amount": 1}, prefer=prefer)).problem(400)
        assert body["header"] == "Prefer"
    assert "filter" in (await change(client, "/plan", {"amount": 1})).problem(400)["detail"]
    for parameter in (
        "page=1",
        "per_page=5",
        "sort=name",
        "fields=name",
        "cursor=",
        "count=exact",
        "expand=x",
    ):
        name = parameter.partition("=")[0]
        body = (await change(client, f"/plan?name=p0&{parameter}", {"amount": 1})).problem(400)
        assert body["parameter"] == name
    assert (await change(client, "/plan?nope=1", {"amount": 1})).problem(400)["parameter"] == "nope"
    broken = await client.request("PATCH", "/plan?amount=0", body=b"x", headers={"Prefer": "max-affected=1"})
    broken.problem(400)
    for header in ("If-Match", "If-None-Match"):
        headers = {header: '"x"', "Prefer": "max-affected=1"}
        assert (await client.delete("/plan?amount=0", headers=headers)).problem(400)["header"] == header
    assert Plan.objects(amount=0).count() == 1


async def test_one_item_that_fails_undoes_a_strict_change(client: Client) -> None:
    await make(client, 3)
    body = (await change(client, "/plan?amount=0", {"name": "same"})).problem(409)
    assert len(body["errors"]) == 1
    assert sorted(Plan.objects.scalar("name")) == ["p0", "p1", "p2"]
    body = (await change(client, "/plan?amount=0", {"amount": -1})).problem(400)
    assert [each["pointer"] for each in body["errors"]] == ["/0/amount", "/1/amount", "/2/amount"]


async def test_a_lenient_change_leaves_out_what_fails(client: Client) -> None:
    await make(client, 3)
    found = results(
        await change(client, "/plan?amount=0", {"name": "same"}, prefer="max-affected=9, handling=lenient"),
        207,
    )
    assert sorted(each["status"] for each in found) == [200, 409, 409]
    assert Plan.objects(name="same").count() == 1


async def test_what_changes_nothing_writes_nothing(client: Client) -> None:
    heard = []
    signals.post_update_instance.connect(lambda instance: heard.append(instance), sender=Plan, weak=False)
    await make(client, 2, amount=3)
    found = results(await change(client, "/plan?amount=3", {"amount": 3}), 200)
    assert [each["diff"] for each in found] == [{}, {}]
    assert heard == []


# Signals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_every_item_has_its_signals_and_events(client: Client, database: str, handling: str) -> None:
    story: list[tuple[str, str]] = []
    api = bzz.Api()
    plans = api.add(Plan, bulk=BOTH)

    def note(event: str, about: Any) -> None:
        story.append((event, about))

    plans.on_prerun(lambda operation: note("prerun", (operation.data or {}).get("name")))
    plans.on_pre_create_instance(lambda data: note("pre", data["name"]))
    plans.on_post_create_instance(lambda instance: note("post", instance.name))
    plans.on_success(lambda operation: note("success", operation.data["name"]))
    plans.on_failure(lambda operation, exc_info: note("failure", operation.data["name"]))
    plans.on_postrun(lambda operation: note("postrun", operation.data["name"]))
    prefer = {"Prefer": f"handling={handling}"}
    async with serving(api) as client:
        await client.post("/plan", json=[{"name": "a"}, {"name": "b"}], headers=prefer)
        assert story == [
            *[(event, name) for name in "ab" for event in ("prerun", "pre")],
            *[(event, name) for name in "ab" for event in ("post", "success", "postrun")],
        ]
        story.clear()
        await client.post("/plan", json=[{"name": "c"}, {"name": "b"}], headers=prefer)
        ends = [each for each in story if each[0] in {"post", "success", "failure", "postrun"}]
        failed = [("failure", "b"), ("postrun", "b")]
        if handling == "strict":
            assert sorted(ends) == sorted([*failed, ("failure", "c"), ("postrun", "c")])
        else:
            assert sorted(ends) == sorted([*failed, ("post", "c"), ("success", "c"), ("postrun", "c")])


async def test_a_veto_counts_for_its_item(client: Client) -> None:
    await make(client, 3)

    @signals.pre_update_instance.connect(sender=Plan)
    @signals.pre_delete_instance.connect(sender=Plan)
    def veto(instance: Plan) -> None:
        if instance.name == "p1":
            raise bzz.Veto(423, "locked")

    body = (await change(client, "/plan?amount=0", {"amount": 1})).problem(423)
    assert len(body["results"]) == 1
    assert Plan.objects(amount=0).count() == 3
    lenient = "max-affected=9, handling=lenient"
    found = results(await change(client, "/plan?amount=0", {"amount": 1}, prefer=lenient), 207)
    assert sorted(each["status"] for each in found) == [200, 200, 423]
    (await change(client, "/plan?amount__gte=0")).problem(423)
    results(await change(client, "/plan?amount__gte=0", prefer=lenient), 207)
    assert list(Plan.objects.scalar("name")) == ["p1"]


async def test_a_receiver_changes_the_data_of_one_item_only(client: Client) -> None:
    await make(client, 3)

    @signals.pre_update_instance.connect(sender=Plan)
    def adjust(instance: Plan, data: Any) -> None:
        if instance.name == "p1":
            data["amount"] = 50
            data["address"]["city"] = "Elsewhere"

    results(await change(client, "/plan?amount=0", {"amount": 1, "address": {"city": "Ur"}}), 200)
    assert {each.name: (each.amount, each.address.city) for each in Plan.objects} == {
        "p0": (1, "Ur"),
        "p1": (50, "Elsewhere"),
        "p2": (1, "Ur"),
    }


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_a_receiver_that_complains_afterwards(client: Client, handling: str) -> None:
    @signals.post_create_instance.connect(sender=Plan, errors="raise")
    def complain(instance: Plan) -> None:
        if instance.name == "a":
            raise bzz.Veto(418, "tea")
        if instance.name == "b":
            raise bzz.ExitEarly

    answer = await client.post(
        "/plan", json=[{"name": each} for each in "abc"], headers={"Prefer": f"handling={handling}"}
    )
    first, *others = results(answer, 201)
    assert first["status"] == 201
    assert first["problem"]["detail"] == "tea"
    assert ["problem" in each for each in others] == [False, False]
    assert Plan.objects.count() == 3


async def test_what_receivers_write_is_not_the_answer(client: Client) -> None:
    @signals.post_create_instance.connect(sender=Plan)
    def write(handler: Any) -> None:
        handler.write("not this")

    results(await client.post("/plan", json=[{"name": "a"}]), 201)


async def test_what_cannot_be_shown_is_stored_all_the_same(client: Client) -> None:
    found = results(await client.post("/shown", json=[{"name": "ugly"}, {"name": "nice"}]), 201)
    assert found[0]["problem"]["status"] == 500
    assert found[1]["body"] == {"shown": "nice"}


# dry-run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_a_dry_run_shows_and_writes_nothing(client: Client, handling: str) -> None:
    await make(client, 2)
    heard: list[Any] = []
    for each in (signals.post_create_instance, signals.post_update_instance, signals.post_delete_instance):
        each.connect(lambda instance: heard.append(instance), sender=Plan, weak=False)
    prefer = f"dry-run, handling={handling}"
    answer = await client.post("/plan", json=[{"name": "a"}], headers={"Prefer": prefer})
    (created,) = results(answer, 200)
    assert answer.json["dry_run"] is True
    assert answer.json["unchecked"] == ["uniqueness"]
    assert created["body"]["name"] == "a"
    assert "key" not in created
    prefer += ", max-affected=9"
    found = results(await change(client, "/plan?amount=0", {"amount": 4}, prefer=prefer), 200)
    assert [each["diff"] for each in found] == [{"amount": {"from": 0, "to": 4}}] * 2
    assert len(results(await change(client, "/plan?amount=0", prefer=prefer), 200)) == 2
    assert Plan.objects(amount=0).count() == 2
    assert heard == []


# Models that write themselves -------------------------------------------------------------------------------


async def test_save_runs_as_it_was_written(client: Client) -> None:
    found = results(await client.post("/saver", json=[{"name": "a"}, {"name": "b"}]), 201)
    assert [each["body"]["amount"] for each in found] == [100, 100]
    (await client.post("/saver", json=[{"name": "c"}, {"name": "a"}])).problem(409)
    assert Saver.objects.count() == 2
    results(await client.post("/saver", json=[{"name": "c"}, {"name": "a"}], headers=LENIENT), 207)
    found = results(await change(client, "/saver?amount=100", {"amount": 1}), 200)
    assert [each["diff"] for each in found] == [{"amount": {"from": 100, "to": 101}}] * 3
    lenient = "max-affected=9, handling=lenient"
    found = results(await change(client, "/saver?amount=101", {"name": "same"}, prefer=lenient), 207)
    assert sorted(each["status"] for each in found) == [200, 409, 409]
    (await change(client, "/saver?amount__gte=0", {"name": "z"})).problem(409)


async def test_delete_runs_as_it_was_written(client: Client) -> None:
    results(await client.post("/saver", json=[{"name": "kept"}, {"name": "b"}]), 201)
    body = (await change(client, "/saver?amount__gte=0")).problem(400)
    assert "its own delete()" in body["detail"]
    assert "handling=lenient" in body["detail"]
    found = results(
        await change(client, "/saver?amount__gte=0", prefer="max-affected=5, handling=lenient"), 207
    )
    assert sorted(each["status"] for each in found) == [204, 409]
    assert list(Saver.objects.scalar("name")) == ["kept"]


async def test_a_capped_collection_is_only_lenient(client: Client) -> None:
    assert "capped" in (await client.post("/capped", json=[{"name": "a"}])).problem(400)["detail"]
    results(await client.post("/capped", json=[{"name": "a"}, {"name": "b"}], headers=LENIENT), 201)
    lenient = "max-affected=5, handling=lenient"
    results(await change(client, "/capped?name=a", {"name": "c"}, prefer=lenient), 200)
    assert sorted(Capped.objects.scalar("name")) == ["b", "c"]


# Who may do what --------------------------------------------------------------------------------------------


async def test_access_holds_for_every_item(database: str) -> None:
    asked: list[tuple[str, Any]] = []

    def authorize(operation: Any) -> bool:
        asked.append((operation.action, operation.key))
        return operation.handler.request.headers.get("X-User") != "nobody"

    def rows(operation: Any) -> dict[str, Any]:
        return {"group": operation.handler.request.headers.get("X-User", "a")}

    api = bzz.Api()
    api.add(Tally, bulk=BOTH, authorize=authorize, rows=rows)
    async with serving(api) as client:
        results(await client.post("/tally", json=[{}, {"group": "a"}]), 201)
        assert (await client.post("/tally", json=[{"group": "b"}])).problem(403)["results"][0]["index"] == 0
        Tally(group="b").save()
        asked.clear()
        assert len(results(await change(client, "/tally?value=0", {"value": 1}), 200)) == 2
        assert [action for action, _key in asked] == ["get_list", "update_instance", "update_instance"]
        assert all(key for action, key in asked if action != "get_list")
        (await change(client, "/tally?value=1", {"group": "b"})).problem(403)
        nobody = {"X-User": "nobody", "Prefer": "max-affected=0"}
        # Not even how many there are.
        (await client.delete("/tally?value__gte=0", headers=nobody)).problem(403)
        assert len(results(await change(client, "/tally?value__gte=0"), 200)) == 2
        assert [each.group for each in Tally.objects] == ["b"]


async def test_a_queryset_by_key_is_asked_for_each(database: str) -> None:
    keys: list[str] = []

    def instance(model: Any, queryset: Any, key: str, handler: Any) -> Any:
        keys.append(key)
        return queryset.filter(group="mine")

    api = bzz.Api()
    api.add(Tally, bulk=BOTH, get_instance_queryset=instance)
    mine, other = Tally(group="mine").save(), Tally(group="other").save()
    async with serving(api) as client:
        prefer = "max-affected=5, handling=lenient"
        answer = await change(client, "/tally?value=0", {"value": 7}, prefer=prefer)
        assert answer.status in {200, 207}
        assert str(mine.pk) in keys
        assert {each.group: each.value for each in Tally.objects} == {"mine": 7, "other": 0}
        assert Tally.objects.get(pk=other.pk).value == 0


# Commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def counted(database: str, mongo_url: str) -> AsyncIterator[tuple[Client, Commands]]:
    commands = Commands()
    driver: Any = pymongo.AsyncMongoClient(
        mongo_url, uuidRepresentation="standard", event_listeners=[commands]
    )
    async with served(client=driver) as client:
        await client.post("/plan", json={"name": "first", "amount": 77})
        yield client, commands
    await driver.close()


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_ten_thousand_items_are_a_few_dozen_commands(
    counted: tuple[Client, Commands], handling: str
) -> None:
    client, commands = counted
    prefer = f"handling={handling}, return=minimal, max-affected={MANY}"
    steps: list[tuple[str, str, Any]] = [
        ("POST", "/plan", [{"name": f"p{i}"} for i in range(MANY)]),
        ("PATCH", "/plan?amount=0", {"amount": 1}),
        ("DELETE", "/plan?amount=1", None),
    ]
    for method, path, json in steps:
        commands.take()
        answer = await client.request(method, path, json=json, headers={"Prefer": prefer})
        assert (answer.json["succeeded"], answer.json["failed"]) == (MANY, 0)
        assert len(commands.names) <= 60, commands.names
    assert Plan.objects.count() == 1


async def test_others_are_served_meanwhile(client: Client) -> None:
    """While a bulk is at work, a small request has its turn many times."""
    await client.post("/plan", json={"name": "small"})
    bulk = asyncio.create_task(client.post("/plan", json=[{"name": f"p{i}"} for i in range(5000)]))
    turns = 0
    while not bulk.done():
        assert (await client.get("/plan?name=small")).status == 200
        turns += 1
    assert bulk.result().status == 201
    assert turns >= 5


# At the same time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_the_diffs_of_bulks_and_of_single_updates_form_one_chain(client: Client, handling: str) -> None:
    """Each ``from`` is the ``to`` of another change: no change is based on what another has replaced."""
    heard: dict[str, list[tuple[int, int]]] = {}

    @signals.post_update_instance.connect(sender=Tally)
    def note(instance: Tally, updated_fields: Any) -> None:
        change = updated_fields["value"]
        heard.setdefault(str(instance.pk), []).append((change["from"], change["to"]))

    answer = await client.post("/tally", json=[{"value": 0, "group": "g"}] * 5)
    keys = [each["key"] for each in results(answer, 201)]
    values = iter(range(1, 10**6))
    prefer = f"max-affected=10, handling={handling}"

    async def bulks() -> None:
        for _ in range(10 * TORTURE):
            answer = await change(client, "/tally?group=g", {"value": next(values)}, prefer=prefer)
            assert answer.status in {200, 207, 409}, answer

    async def singles(key: str) -> None:
        for _ in range(20 * TORTURE):
            answer = await client.put(f"/tally/{key}", json={"value": next(values)})
            assert answer.status == 200, answer

    await asyncio.gather(bulks(), bulks(), *(singles(key) for key in keys))
    for key in keys:
        changes = heard[key]
        at, after = 0, dict(changes)
        assert len(after) == len(changes), "two changes replaced the same value"
        for _ in changes:
            at = after.pop(at)
        assert at == Tally.objects.get(pk=key).value


async def test_what_matches_no_more_is_left_alone(client: Client) -> None:
    """Two bulks that both want what is open: each document is taken once."""
    await make(client, 40)
    taken: list[str] = []
    signals.post_update_instance.connect(
        lambda instance: taken.append(instance.name), sender=Plan, weak=False
    )
    prefer = "max-affected=100, handling=lenient"
    wanted = [{"state": "done", "amount": number} for number in (1, 2, 3)]
    answers = await asyncio.gather(
        *(change(client, "/plan?state=open", each, prefer=prefer) for each in wanted)
    )
    statuses = [each["status"] for answer in answers for each in answer.json["results"]]
    assert statuses.count(200) == 40
    assert set(statuses) <= {200, 404}
    assert sorted(taken) == sorted(f"p{i}" for i in range(40))


@pytest.mark.parametrize("handling", ["strict", "lenient"])
async def test_what_changes_between_reading_and_writing(client: Client, handling: str) -> None:
    """A writer comes in between: the bulk starts over with what matches then, and tells of each only once."""
    await make(client, 4)
    seen: list[tuple[str, int]] = []
    started: list[str] = []
    failed: list[str] = []
    api = bzz.Api()
    plans = api.add(Plan, bulk=BOTH)
    names = {str(each.pk): each.name for each in Plan.objects}
    plans.on_prerun(lambda operation: started.append(names[operation.key]))
    plans.on_failure(lambda operation: failed.append(names[operation.key]))

    @plans.on_pre_update_instance
    async def interfere(instance: Plan) -> None:
        seen.append((instance.name, instance.amount))
        if len(seen) == 4:
            await asyncio.to_thread(Plan.objects(name="p0").update, amount=5)
            await asyncio.to_thread(Plan.objects(name="p1").update, state="done")

    prefer = f"max-affected=9, handling={handling}"
    async with serving(api) as client:
        answer = await change(client, "/plan?state=open", {"amount": 9}, prefer=prefer)
    found = {names[each["key"]]: each for each in answer.json["results"]}
    assert found["p0"]["diff"] == {"amount": {"from": 5, "to": 9}}
    assert started == ["p0", "p1", "p2", "p3"]
    assert failed == ["p1"]
    if handling == "strict":
        assert answer.status == 200
        assert set(found) == {"p0", "p2", "p3"}
    else:
        assert answer.status == 207
        assert found["p1"]["status"] == 404
    assert {each.name: each.amount for each in Plan.objects} == {"p0": 9, "p1": 0, "p2": 9, "p3": 9}
    # Each was asked about again, with what it is now.
    assert seen[4] == ("p0", 5)


async def test_a_document_that_never_stands_still(database: str) -> None:
    """One document is changed whenever it is about to be written: it fails alone, when time is over."""
    api = bzz.Api()
    plans = api.add(Plan, bulk=BOTH, bulk_timeout=4, retry_seconds=0.5)

    @plans.on_pre_update_instance
    async def interfere(instance: Plan) -> None:
        if instance.name == "p1":
            await asyncio.to_thread(Plan.objects(name="p1").update, inc__amount=1)

    async with serving(api) as client:
        await make(client, 3)
        prefer = "max-affected=9, handling=lenient"
        answer = await change(client, "/plan?state=open", {"state": "done"}, prefer=prefer)
        statuses = sorted(each["status"] for each in results(answer, 207))
        assert statuses[0] == 200
        assert statuses[-1] in {409, 503}
        body = (await change(client, "/plan?state=open", {"state": "done"})).problem(409)
        assert body["type"] in {"urn:bzz:problem:conflict", "urn:bzz:problem:bulk-items"}
    assert Plan.objects.get(name="p1").state == "open"


# Without transactions, and without MongoDB ------------------------------------------------------------------


@pytest.fixture(scope="module")
def standalone() -> Iterator[str]:
    with EmbeddedMongo(replica_set=None) as server:
        yield server.url


async def test_a_standalone_server_is_only_lenient(standalone: str, database: str) -> None:
    me.connect("alone", alias="alone", host=standalone, uuidRepresentation="standard")

    class Lone(me.Document):
        name = me.StringField(required=True, unique=True)
        amount = me.IntField(default=0)
        meta = {"db_alias": "alone"}

    api = bzz.Api()
    api.add(Lone, bulk=BOTH)
    async with serving(api) as client:
        body = (await client.post("/lone", json=[{"name": "a"}])).problem(400)
        assert body["type"] == "urn:bzz:problem:bulk"
        assert "no transactions" in body["detail"]
        assert "handling=lenient" in body["detail"]
        results(await client.post("/lone", json=[{"name": "a"}, {"name": "b"}], headers=LENIENT), 201)
        (await change(client, "/lone?amount=0", {"amount": 1})).problem(400)
        prefer = "max-affected=5, handling=lenient"
        found = results(await change(client, "/lone?amount=0", {"amount": 1}, prefer=prefer), 200)
        assert [each["diff"] for each in found] == [{"amount": {"from": 0, "to": 1}}] * 2
        answers = await asyncio.gather(
            *(change(client, "/lone?amount=1", {"amount": i}, prefer=prefer) for i in range(2, 6))
        )
        statuses = [each["status"] for answer in answers for each in answer.json["results"]]
        assert statuses.count(200) == 2
        assert set(statuses) <= {200, 404}
        assert len(results(await change(client, "/lone?amount__gte=2", prefer=prefer), 200)) == 2
        assert Lone.objects.count() == 0


@pytest.fixture
def swept() -> Iterator[None]:
    """Collect what the driver of a lost server left, before another module's test is blamed for it."""
    yield
    gc.collect()


@pytest.mark.usefixtures("swept")
async def test_an_outage_ends_a_bulk(database: str) -> None:
    with EmbeddedMongo() as server:
        me.connect("lost", alias="lost", host=server.url, uuidRepresentation="standard")

        class Lost(me.Document):
            name = me.StringField()
            meta = {"db_alias": "lost"}

        class LostSaver(me.Document):
            name = me.StringField()
            meta = {"db_alias": "lost"}

            def save(self, *args: Any, **kwargs: Any) -> Any:
                return super().save(*args, **kwargs)

        patient, hurried = bzz.Api(), bzz.Api()
        for model in (Lost, LostSaver):
            patient.add(model, bulk=BOTH)
            hurried.add(model, bulk=BOTH, timeout=0.5)
        async with serving(patient) as before, serving(hurried) as client:
            results(await before.post("/lost", json=[{"name": "a"}] * 3), 201)
            results(await before.post("/lost_saver", json=[{"name": "a"}]), 201)
            server.stop()
            (await client.post("/lost", json=[{"name": "b"}] * 3)).problem(503)
            found = results(await client.post("/lost", json=[{"name": "b"}] * 3000, headers=LENIENT), 207)
            assert {each["status"] for each in found} == {503}
            found = results(await client.post("/lost_saver", json=[{"name": "b"}] * 50, headers=LENIENT), 207)
            assert {each["status"] for each in found} == {503}
            (await change(client, "/lost?name=a", {"name": "b"})).problem(503)


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("itself", [False, True])
async def test_an_outage_in_the_middle_of_a_change(database: str, itself: bool) -> None:
    with EmbeddedMongo() as server:
        alias = f"lost-{itself}"
        me.connect("lost", alias=alias, host=server.url, uuidRepresentation="standard")

        class Gone(me.Document):
            name = me.StringField()
            meta = {"db_alias": alias}
            if itself:

                def save(self, *args: Any, **kwargs: Any) -> Any:
                    return super().save(*args, **kwargs)

        api = bzz.Api()
        gone = api.add(Gone, bulk=BOTH, timeout=3.0)

        @gone.on_pre_update_instance
        def stop() -> None:
            server.stop()

        async with serving(api) as client:
            results(await client.post("/gone", json=[{"name": "a"}] * 3, headers=LENIENT), 201)
            prefer = "max-affected=9, handling=lenient"
            found = results(await change(client, "/gone?name=a", {"name": "b"}, prefer=prefer), 207)
            assert {each["status"] for each in found} == {503}


async def test_a_bulk_that_takes_too_long_ends(database: str) -> None:
    api = bzz.Api()
    api.add(Plan, bulk=BOTH, bulk_timeout=3)
    await asyncio.to_thread(Plan.ensure_indexes)

    @signals.pre_create_instance.connect(sender=Plan)
    async def slowly(data: Any) -> None:
        if data["name"] == "p1000":
            await asyncio.sleep(3.2)

    async with serving(api) as client:
        bodies = [{"name": f"p{i}"} for i in range(3000)]
        found = results(await client.post("/plan", json=bodies, headers=LENIENT), 207)
        assert found[-1]["status"] == 503
        assert "ran out of time" in found[-1]["problem"]["detail"]
        assert Plan.objects.count() == sum(each["status"] == 201 for each in found)


# Once -------------------------------------------------------------------------------------------------------


async def test_a_bulk_under_a_key_is_done_once(client: Client) -> None:
    heard: list[str] = []
    signals.post_create_instance.connect(
        lambda instance: heard.append(instance.name), sender=Plan, weak=False
    )
    headers = {"Idempotency-Key": '"one"'}
    bodies = [{"name": "a"}, {"name": "b"}]
    first, second = await asyncio.gather(*(client.post("/plan", json=bodies, headers=headers) for _ in "12"))
    assert first.status == second.status == 201
    assert first.body == second.body
    assert len(results(first, 201)) == 2
    assert sorted(heard) == ["a", "b"]
    assert Plan.objects.count() == 2
    headers = {"Idempotency-Key": '"two"', "Prefer": "max-affected=9"}
    for _ in range(2):
        answer = await client.request("PATCH", "/plan?amount=0", json={"amount": 1}, headers=headers)
        assert [each["diff"] for each in results(answer, 200)] == [{"amount": {"from": 0, "to": 1}}] * 2


async def test_a_bulk_under_a_key_that_fails_is_rolled_back(client: Client) -> None:
    failures: list[Any] = []
    api = bzz.Api()
    plans = api.add(Plan)
    plans.on_failure(lambda operation: failures.append(operation.data["name"]))
    async with serving(api) as client:
        headers = {"Idempotency-Key": '"three"'}
        (await client.post("/plan", json=[{"name": "a"}, {"name": "a"}], headers=headers)).problem(409)
        assert Plan.objects.count() == 0
        assert sorted(failures) == ["a", "a"]
        lenient = {"Idempotency-Key": '"four"', "Prefer": "handling=lenient"}
        body = (await client.post("/plan", json=[{"name": "a"}], headers=lenient)).problem(400)
        assert "handling=strict" in body["detail"]
