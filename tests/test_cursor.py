"""Cursors: every document that stays is shown once, whatever comes and goes; and nobody can make one up."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import os
import random
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import bson
import mongoengine as me
import pymongo
import pytest
from bson import Decimal128, Int64, MaxKey, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st

import bzz
from bzz.errors import QueryError
from bzz.model import QueryRules, Schema, compile_query
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.resource.page import Page
from tests.serving import Answer, Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
SECRET = "a secret that is long enough"


class Inner(me.EmbeddedDocument):
    score = me.FloatField(db_field="sc")


class Entry(me.Document):
    number = me.IntField(primary_key=True)
    title = me.StringField(db_field="t")
    price = me.Decimal128Field()
    moment = me.DateTimeField()
    inner = me.EmbeddedDocumentField(Inner, db_field="in")
    words = me.ListField(me.StringField())
    meta = {"indexes": [("title", "number"), ("-price", "title", "number")]}


ENTRY = Schema.of(Entry)
RULES = QueryRules(ENTRY, sorts=["title", "price", "moment", "inner.score"], secret=SECRET)


def links(answer: Answer) -> dict[str, str]:
    found = re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("Link", ""))
    return {relation: url for url, relation in found}


def compiled(cursor: str = "", rules: QueryRules = RULES, **arguments: str) -> Any:
    given = {name: [value] for name, value in arguments.items()}
    return compile_query(ENTRY, {**given, "cursor": [cursor]}, rules=rules)


@pytest.fixture(scope="module")
def entries(mongo_url: str) -> Iterator[Any]:
    with pymongo.MongoClient[Any](mongo_url, uuidRepresentation="standard") as client:
        name = f"bzz-{uuid.uuid4().hex}"
        collection = client[name]["entries"]
        collection.create_index([("t", 1), ("_id", 1)])
        collection.create_index([("price", -1), ("t", 1), ("_id", 1)])
        yield collection
        client.drop_database(name)


def read(collection: Any, query: Any) -> list[Any]:
    found: list[Any] = []
    for position in query.walk.positions:
        filter_ = {"$and": [query.filter, position]}
        found += collection.find(filter_).sort(query.sort).limit(query.limit + 1)
    return found[: query.limit + 1]


def walk(collection: Any, per_page: int, *, back: bool = False, **arguments: str) -> list[Any]:
    """Follow the cursors from the first page to the last, or from there back; return all keys in order."""
    cursor, pages = "", []
    forward = walk(collection, per_page, **arguments) if back else []
    if back:
        last = compiled(per_page=str(per_page), **arguments)
        cursor = last.walk.cursor(collection.find_one({"_id": forward[-1]}), backwards=True)
        pages.append(forward[-1:])
    while True:
        query = compiled(cursor, per_page=str(per_page), **arguments)
        found = read(collection, query)
        items = found[: query.limit]
        if back:
            items.reverse()
        page = Page(items=items, query=query, more=len(found) > query.limit).neighbours()
        pages.insert(0, [each["_id"] for each in items]) if back else pages.append(
            [each["_id"] for each in items]
        )
        if ("prev" if back else "next") not in page:
            return [key for each in pages for key in each]
        _, cursor = page["prev" if back else "next"]


# What MongoDB may have where a field is declared, and what a careless writer may have left there.
odd = st.sampled_from(
    [
        "missing", None, True, False, 0, -0.0, 1, Int64(2**62), 1.5, float("nan"), float("inf"),
        float("-inf"), Decimal128("1.5"), Decimal128("NaN"), "", "a", "b", "$a", "ä", b"", b"a",
        {}, {"a": 1}, {"$literal": 1},
        ObjectId("0" * 24), ObjectId("f" * 24), dt.datetime(1, 1, 1), dt.datetime(2020, 1, 1),
        uuid.UUID(int=1), bson.Timestamp(1, 1), bson.Regex("a"), MaxKey(),
    ]
)  # fmt: skip
keys = st.integers(0, 9) | st.sampled_from(["a", "b", 1.5, ObjectId("0" * 24), b"x", dt.datetime(2020, 1, 1)])
often = st.sampled_from(["missing", None, 1, "a"]) | odd
stored = st.fixed_dictionaries(
    {
        "t": often,
        "price": often,
        "in": st.sampled_from(["missing", None, 1]) | st.fixed_dictionaries({"sc": odd}),
    }
).map(lambda each: {name: value for name, value in each.items() if value != "missing"})
orders = st.lists(
    st.sampled_from(["title", "price", "inner.score", "number"]), min_size=1, max_size=3, unique=True
).flatmap(lambda names: st.tuples(*(st.sampled_from([name, f"-{name}"]) for name in names)))


@settings(max_examples=60 * TORTURE, deadline=None)
@given(st.dictionaries(keys, stored, max_size=12), orders, st.integers(1, 4))
def test_cursors_follow_the_order_of_mongodb_across_all_types(
    entries: Any, documents: dict[Any, Any], order: tuple[str, ...], per_page: int
) -> None:
    entries.delete_many({})
    cleaned = [
        {"_id": key, **{name: value for name, value in each.items() if not _is_missing(value)}}
        for key, each in documents.items()
    ]
    for each in cleaned:
        if isinstance(each.get("in"), dict) and _is_missing(each["in"].get("sc")):
            each["in"] = {}
    if cleaned:
        entries.insert_many(cleaned)
    sort = ",".join(order)
    whole = [each["_id"] for each in entries.find().sort(compiled(sort=sort).sort)]
    assert walk(entries, per_page, sort=sort) == whole
    if whole:
        assert walk(entries, per_page, back=True, sort=sort) == whole


def _is_missing(value: Any) -> bool:
    return isinstance(value, str) and value == "missing"


@pytest.mark.parametrize("sort", ["-price,title", "price,-title,number", "title", "-title,price,inner.score"])
def test_null_and_missing_are_one_place_in_any_order(entries: Any, sort: str) -> None:
    entries.delete_many({})
    chance = random.Random(3)
    documents = [
        {
            "t": chance.choice(["a", "b", None]),
            "price": chance.choice([1, None]),
            "in": chance.choice([None, {}]),
        }
        for _ in range(400)
    ]
    entries.insert_many(
        [
            {"_id": number, **{name: value for name, value in each.items() if chance.random() > 0.3}}
            for number, each in enumerate(documents)
        ]
    )
    whole = [each["_id"] for each in entries.find().sort(compiled(sort=sort).sort)]
    assert walk(entries, 7, sort=sort) == whole
    assert walk(entries, 7, back=True, sort=sort) == whole


def test_a_walk_has_a_beginning_and_an_end(entries: Any) -> None:
    entries.delete_many({})
    assert walk(entries, 2) == []
    entries.insert_many([{"_id": number, "t": "x"} for number in range(4)])
    first = compiled(per_page="2")
    items = list(entries.find().sort("_id").limit(2))
    assert Page(items=items, query=first, more=True).neighbours().keys() == {"first", "next"}
    assert Page(items=items, query=first, more=False).neighbours().keys() == {"first"}
    second = compiled(first.walk.cursor(items[-1], backwards=False))
    assert Page(items=items, query=second, more=False).neighbours().keys() == {"first", "prev"}
    assert Page(items=[], query=second, more=False).neighbours().keys() == {"first"}
    before = compiled(first.walk.cursor(items[-1], backwards=True))
    assert Page(items=items, query=before, more=True).neighbours().keys() == {"first", "prev", "next"}
    assert Page(items=items, query=before, more=False).neighbours().keys() == {"first", "next"}


# What a cursor is good for


def test_a_cursor_belongs_to_its_query_and_its_secret() -> None:
    document = {"_id": 1, "t": "x", "price": Decimal128("1.50")}
    same = {"sort": "title", "title__gt": "a", "number__in": "1,2"}
    cursor = compiled(**same).walk.cursor(document, backwards=False)
    assert compiled(cursor, **same).walk.start.values == ["x", 1]
    assert compiled(cursor, per_page="7", fields="title", **same).walk.start.values == ["x", 1]
    reordered = dict(reversed(same.items()))
    assert compiled(cursor, **reordered).walk.start.values == ["x", 1]
    for other in (
        {},
        {"sort": "title"},
        {**same, "title__gt": "b"},
        {**same, "sort": "-title"},
        {**same, "sort": "price"},
        {**same, "moment__exists": "true"},
    ):
        with pytest.raises(QueryError) as caught:
            compiled(cursor, **other)
        assert caught.value.parameter == "cursor"
    with pytest.raises(QueryError):
        compiled(cursor, rules=QueryRules(ENTRY, secret="another secret, long enough"), **same)
    twin = QueryRules(ENTRY, sorts=["title"], secret=SECRET.encode())
    assert compiled(cursor, rules=twin, **same).walk.start.values == ["x", 1]

    class Other(Entry.__base__):
        number = me.IntField(primary_key=True)

    schema = Schema.of(Other)
    with pytest.raises(QueryError):
        compile_query(
            schema,
            {"cursor": [compiled().walk.cursor(document, backwards=False)]},
            rules=QueryRules(schema, secret=SECRET),
        )


def test_without_a_secret_cursors_are_good_in_this_process() -> None:
    cursor = compiled(rules=QueryRules(ENTRY)).walk.cursor({"_id": 1}, backwards=False)
    assert compiled(cursor, rules=QueryRules(ENTRY)).walk.start.values == [1]


@given(st.binary(max_size=200) | st.text(max_size=50))
def test_nobody_can_make_one_up(raw: bytes | str) -> None:
    text = raw if isinstance(raw, str) else base64.urlsafe_b64encode(raw).decode()
    if text:
        with pytest.raises(QueryError):
            compiled(text)


def test_no_bit_of_a_cursor_can_be_changed() -> None:
    cursor = compiled(sort="title").walk.cursor({"_id": 1, "t": "x"}, backwards=False)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(QueryError):
            compiled(base64.urlsafe_b64encode(changed).rstrip(b"=").decode(), sort="title")
    with pytest.raises(QueryError):
        compiled(cursor + "!", sort="title")


def test_values_keep_their_types() -> None:
    for value in (
        None,
        1,
        2**62,
        1.5,
        "ä",
        b"x",
        True,
        Decimal128(Decimal("1.50")),
        dt.datetime(2020, 1, 1, 1, 1, 1, 123000),
        dt.datetime(1, 1, 1),
        ObjectId("f" * 24),
        uuid.UUID(int=7),
    ):
        cursor = compiled(sort="title").walk.cursor({"_id": 1, "t": value}, backwards=False)
        (found, _) = compiled(cursor, sort="title").walk.start.values
        assert found == value
        assert type(found) in {type(value), Int64}


def test_what_a_cursor_cannot_hold_is_said() -> None:
    for value in ("x" * 5000, ["a", "b"]):
        with pytest.raises(QueryError) as caught:
            compiled(sort="title").walk.cursor({"_id": 1, "t": value}, backwards=False)
        assert caught.value.parameter == "sort"
    with pytest.raises(QueryError):
        compiled(sort="inner.score").walk.cursor({"_id": 1, "in": [{"sc": 1}]}, backwards=False)


# What it costs


@pytest.mark.parametrize("sort", ["", "title", "-title", "-price,title", "price,-title"])
def test_the_last_page_costs_what_the_first_does(entries: Any, sort: str) -> None:
    entries.delete_many({})
    chance = random.Random(7)
    entries.insert_many(
        [
            {
                "_id": number,
                "t": chance.choice(["a", "b", None, "c"]),
                "price": chance.choice([1, 2.5, 3, None]),
            }
            for number in range(5000)
        ]
    )
    arguments = {"sort": sort} if sort else {}
    order = compiled(**arguments)
    whole = list(entries.find().sort(order.sort))
    for at in (0, 20, 2500, 4900):
        query = compiled(
            order.walk.cursor(whole[at], backwards=False) if at else "", per_page="20", **arguments
        )
        returned = keys_examined = documents_examined = 0
        for position in query.walk.positions:
            command = {
                "find": entries.name,
                "filter": position,
                "sort": dict(query.sort),
                "limit": query.limit + 1 - returned,
            }
            plan = entries.database.command("explain", command, verbosity="executionStats")
            stages = set(_stages(plan["queryPlanner"]["winningPlan"]))
            assert "IXSCAN" in stages
            assert not stages & {"SORT", "COLLSCAN", "SKIP"}, stages
            returned += plan["executionStats"]["nReturned"]
            keys_examined += plan["executionStats"]["totalKeysExamined"]
            documents_examined += plan["executionStats"]["totalDocsExamined"]
            if returned == 21:
                break
        ways = len(order.sort) + 1
        assert returned == 21
        # Each way into the index may look one document too far; null and missing are told apart twice.
        assert keys_examined <= 21 + 2 * ways
        assert documents_examined <= 2 * (21 + 2 * ways)


def _stages(plan: dict[str, Any]) -> Iterator[str]:
    yield plan["stage"]
    for below in [plan.get("inputStage"), *plan.get("inputStages", ())]:
        if below:
            yield from _stages(below)


# While others write


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    routes = MongoEngineRestHandler.routes_for(Entry, sorts=["title", "price", "inner.score"], secret=SECRET)
    async with serving(routes) as client:
        yield client


async def test_an_api_signs_for_all_its_resources(database: str) -> None:
    Entry._get_collection().insert_many([{"_id": number} for number in range(3)])
    urls = []
    for secret in (SECRET, SECRET, "another secret, as long"):
        api = bzz.Api(secret=secret)
        api.add(Entry)
        async with serving(api) as client:
            urls.append(links(await client.get("/entry?per_page=1&cursor="))["next"])
    assert urls[0] == urls[1] != urls[2]


async def test_cursors_over_http(client: Client) -> None:
    for number in range(7):
        await client.post("/entry", json={"number": number, "title": "ab"[number % 2]})
    forward, answers = [], []
    url: str | None = "/entry?sort=-title&per_page=3&cursor="
    while url:
        answers.append(await client.get(url))
        forward += [each["number"] for each in answers[-1].json]
        url = links(answers[-1]).get("next")
    assert forward == [5, 3, 1, 6, 4, 2, 0]
    assert "prev" not in links(answers[0])
    back = await client.get(links(answers[-1])["prev"])
    assert back.json == answers[1].json
    assert (await client.get(links(back)["prev"])).json == answers[0].json
    assert (await client.get(links(back)["next"])).json == answers[2].json
    assert (await client.get(links(back)["first"])).json == answers[0].json
    other = links(answers[0])["next"].replace("sort=-title", "sort=title")
    assert (await client.get(other)).problem(400)["parameter"] == "cursor"


@pytest.mark.parametrize("sort", ["", "title", "-price,title"])
async def test_what_stays_is_shown_exactly_once_while_others_write(client: Client, sort: str) -> None:
    collection = Entry._get_collection()
    chance = random.Random(11)

    def document(number: int) -> dict[str, Any]:
        found = {"_id": number, "t": chance.choice("abc"), "price": chance.choice([1, 2, None])}
        return {name: value for name, value in found.items() if chance.random() > 0.1 or name == "_id"}

    collection.insert_many([document(number) for number in range(0, 600)])
    stay = {number for number in range(600) if number % 3}
    goes_on = True

    async def disturb() -> None:
        while goes_on:
            number = chance.randrange(-300, 900)
            if number in stay:
                continue
            if chance.random() < 0.5:
                await asyncio.to_thread(
                    collection.replace_one, {"_id": number}, document(number), upsert=True
                )
            else:
                await asyncio.to_thread(collection.delete_one, {"_id": number})

    writers = [asyncio.create_task(disturb()) for _ in range(4)]
    try:
        for _ in range(2 * TORTURE):
            for relation, start in (("next", ""), ("prev", None)):
                shown = await _collect(client, sort, relation, start)
                kept = [number for number in shown if number in stay]
                assert sorted(kept) == sorted(stay)
    finally:
        goes_on = False
        await asyncio.gather(*writers)


async def _collect(client: Client, sort: str, relation: str, start: str | None) -> list[int]:
    """Return all numbers from one end to the other."""
    query = f"sort={sort}&" if sort else ""
    url: str | None = f"/entry?{query}per_page=17&cursor="
    shown: list[int] = []
    if start is None:
        answer = await client.get(url or "")
        while (following := links(answer).get("next")) is not None:
            answer = await client.get(following)
        shown += [each["number"] for each in answer.json]
        url = links(answer)["prev"]
    while url:
        answer = await client.get(url)
        assert answer.status == 200, answer
        shown += [each["number"] for each in answer.json]
        url = links(answer).get(relation)
    return shown
