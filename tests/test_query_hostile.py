"""Hostile query strings and bodies over real HTTP: no dict, operator or pattern of theirs reaches the driver.

What is sent to MongoDB is heard by a listener, and every command must be one that bzz itself could have
written: its operators where bzz puts operators, its paths where paths stand, and everything else a value.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import mongoengine as me
import pymongo
import pytest
from bson import DBRef, Regex
from pymongo.monitoring import CommandListener

from bzz.model import Aggregation
from bzz.mongoengine_handler import MongoEngineRestHandler
from tests.serving import Client, serving

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
REQUESTS = 100_000 if TORTURE >= 10 else 2000
SEED = int(os.environ.get("BZZ_SEED", "4"))


class Leaf(me.EmbeddedDocument):
    text = me.StringField(db_field="t")
    number = me.IntField()


class Bait(me.Document):
    name = me.StringField(db_field="n")
    number = me.IntField()
    words = me.ListField(me.StringField(), db_field="w")
    leaf = me.EmbeddedDocumentField(Leaf, db_field="lf")
    leaves = me.EmbeddedDocumentListField(Leaf)
    boss = me.ReferenceField("self")
    free = me.DictField()
    place = me.PointField()
    meta = {"indexes": ["number", {"fields": ["$name"], "default_language": "none"}]}


class Listener(CommandListener):
    def __init__(self) -> None:
        self.commands: list[Mapping[str, Any]] = []

    def started(self, event: Any) -> None:
        self.commands.append(event.command)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


OPTIONS: dict[str, Any] = {
    "filters": [
        "*",
        *("name__contains", "name__icontains", "leaves.text__contains"),
        *("place__near", "place__within_circle", "place__within_box", "place__within_polygon"),
    ],
    "sorts": ["name", "number", "leaf.number", "boss"],
    "expandable": ["boss.boss"],
    "search": True,
    "aggregations": {
        "bound": Aggregation([{"$match": {"$expr": {"$eq": ["$n", "$$text"]}}}], {"text": str}),
        "built": Aggregation(
            lambda text: [{"$match": {"n": text}}, {"$project": {"label": text}}], {"text": me.StringField()}
        ),
    },
}

# What a client may send -------------------------------------------------------------------------------------

FIELDS = [
    *("id", "name", "number", "words", "leaf.text", "leaf.number"),
    *("leaves.text", "leaves.number", "boss", "free", "place", "leaf"),
    "leaves",
]
OPERATORS = [
    *("eq", "ne", "in", "nin", "lt", "lte"),
    *("gt", "gte", "exists", "startswith", "contains", "icontains"),
    *("near", "within_circle", "within_box", "within_polygon"),
]
PARAMETERS = [
    *("page", "per_page", "sort", "fields", "cursor", "count"),
    *("expand", "search", "aggregate", "text"),
]
ODD_NAMES = [
    *(
        "$where",
        "$expr",
        "$or",
        "$and",
        "$text",
        "$comment",
        "_id",
        "_cls",
        "n",
        "lf.t",
        "name.$ne",
        "$$ROOT",
    ),
    *("name[$ne]", "name[]", "leaf[text]", "name__$ne", "name__regex", "name__where", "__proto__", "", "__"),
    *(
        "name__eq__eq",
        "leaf",
        "leaf.text.x",
        "leaves.0.text",
        "\0",
        "name\0",
        "ä",
        "%",
        "name.$",
        "let",
        "hint",
    ),
]
ODD_VALUES = [
    *(
        '{"$ne":null}',
        '{"$gt":""}',
        "[$ne]",
        "$where",
        "$$ROOT",
        "$n",
        "this.n==1",
        ".*",
        "^a",
        "a|b",
        "(a+)+$",
    ),
    *("/a/i", '{"$regex":".*"}', '{"$oid":"' + "0" * 24 + '"}', "0" * 24, "null", "undefined", "true", "NaN"),
    *(
        "1e999",
        "-1",
        "9" * 30,
        "0",
        "1,2",
        "",
        ",",
        "\0",
        "\r\n",
        "a\\",
        "\\E.*",
        "(?i)a",
        "-",
        "--name",
        "-$n",
    ),
    *(
        "name",
        "-number,name",
        "number,-leaf.number",
        "boss",
        "boss.boss",
        "exact",
        "estimated",
        "bound",
        "built",
    ),
    *(
        "0,0",
        "1,2,3",
        "0,0,1,1",
        "0,0,1,1,1,0",
        "$",
        "function(){}",
        '";return true//',
        "x" * 1100,
        "ä\ud7ff",
    ),
    *('"a b" -c', "*", "2020-01-01", "name,$where", "leaf.text"),
]


# With these any text is a value, and with those a fitting one.
FITTING_NAMES = [
    "name",
    "words",
    "leaf.text",
    "leaves.text",
    "name__contains",
    "name__icontains",
    "search",
] + [
    f"{name}__{operator}"
    for name in ("name", "words", "leaves.text")
    for operator in ("ne", "in", "gt", "startswith")
]
FITTING = [
    *(("sort", "-number,name"), ("sort", "boss"), ("cursor", ""), ("count", "exact"), ("number__in", "1,2")),
    *(("fields", "name,leaf.text"), ("expand", "boss.boss"), ("boss", "0" * 24), ("number__gte", "-1")),
    *(("place__near", "1,2,3"), ("place__within_box", "0,0,1,1"), ("leaves.number__exists", "true")),
]
AGGREGATES = ("bound", "built")


def query_string(chance: random.Random) -> str:
    pairs = []
    for _ in range(chance.choice([1, 1, 2, 3])):
        if chance.random() < 0.5:
            pairs.append((chance.choice(FITTING_NAMES), chance.choice(ODD_VALUES)))
            continue
        if chance.random() < 0.3:
            pairs.append(chance.choice(FITTING))
            continue
        name = chance.choice([chance.choice(FIELDS), chance.choice(PARAMETERS), chance.choice(ODD_NAMES)])
        if name in FIELDS and chance.random() < 0.7:
            name += "__" + chance.choice(OPERATORS)
        pairs.append((name, chance.choice(ODD_VALUES)))
    if chance.random() < 0.1:
        pairs = [("aggregate", chance.choice(AGGREGATES)), ("text", chance.choice(ODD_VALUES)), *pairs[:1]]
    text = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
    if chance.random() < 0.1:
        at = chance.randrange(len(text) + 1)
        text = (
            text[:at] + chance.choice(["%", "%00", "%ff", "&", "=", ";", "[$ne]", "%u0000", "+"]) + text[at:]
        )
    return text


def any_json(chance: random.Random, depth: int = 3) -> Any:
    if depth == 0 or chance.random() < 0.5:
        return chance.choice([*ODD_VALUES, None, True, 1, -1, 2**63, 1.5, [], {}])
    if chance.random() < 0.3:
        return [any_json(chance, depth - 1) for _ in range(chance.randrange(3))]
    names = [
        "a",
        "text",
        "$ne",
        "$set",
        "$where",
        "a.b",
        "$oid",
        "$regularExpression",
        "_cls",
        "type",
        *ODD_NAMES,
    ]
    return {chance.choice(names): any_json(chance, depth - 1) for _ in range(chance.randrange(1, 3))}


def body(chance: random.Random) -> dict[str, Any]:
    found = {}
    for _ in range(chance.randrange(1, 4)):
        name = chance.choice(
            ["name", "number", "words", "leaf", "leaves", "boss", "free", "place", *ODD_NAMES[:6]]
        )
        found[name] = (
            {
                "name": chance.choice(ODD_VALUES),
                "words": [chance.choice(ODD_VALUES)],
                "leaf": {"text": chance.choice(ODD_VALUES)},
                "free": {"a": chance.choice(ODD_VALUES)},
            }.get(name, any_json(chance))
            if chance.random() < 0.5
            else any_json(chance)
        )
    return found


async def send(client: Client, chance: random.Random, key: str) -> int:
    kind = chance.random()
    if kind < 0.75:
        return (await client.get(f"/bait?{query_string(chance)}")).status
    path = f"/bait/{key}" if kind < 0.9 else "/bait"
    method = chance.choice(["PUT", "PATCH"]) if kind < 0.9 else "POST"
    if kind > 0.95:
        names = [chance.choice([*FIELDS, *ODD_NAMES, "words[]", "leaf.$set"]) for _ in range(2)]
        given = "&".join(f"{quote(name)}={quote(chance.choice(ODD_VALUES))}" for name in names)
        return (await client.request(method, path, form=given)).status
    content_type = "application/json"
    data: Any = body(chance)
    if method == "PATCH" and chance.random() < 0.5:
        content_type = "application/json-patch+json"
        data = [
            {"op": chance.choice(["add", "replace", "test"]), "path": f"/{name}", "value": value}
            for name, value in data.items()
        ]
    return (
        await client.request(method, path, body=json.dumps(data).encode(), content_type=content_type)
    ).status


# What bzz may send ------------------------------------------------------------------------------------------

PATHS = frozenset(
    [
        *("_id", "n", "number", "w", "lf", "lf.t"),
        *("lf.number", "leaves", "leaves.t", "leaves.number", "boss", "free"),
        *("place",),
    ]
)
COMPARISONS = frozenset({"$eq", "$ne", "$lt", "$lte", "$gt", "$gte"})
TYPES = frozenset(
    [
        *("number", "string", "object", "array", "binData", "objectId"),
        *("bool", "date", "regex", "timestamp", "javascript", "javascriptWithScope"),
        *("symbol", "dbPointer", "minKey", "maxKey"),
    ]
)


def check_scalar(value: Any) -> None:
    assert not isinstance(value, (dict, list, tuple, Regex, re.Pattern, DBRef)), value


def check_filter(found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if name in ("$and", "$or"):
            for each in value:
                check_filter(each)
        elif name == "$text":
            assert set(value) == {"$search"}
            assert isinstance(value["$search"], str)
        elif name == "$expr":
            check_comparison(value)
        else:
            assert name in PATHS, name
            check_condition(value)


def check_comparison(expression: Mapping[str, Any]) -> None:
    ((operator, (left, right)),) = expression.items()
    if left == "$$ROOT":  # the whole document, as it was read
        assert operator == "$eq"
        assert set(right) == {"$literal"}
        check_document(right["$literal"])
        return
    assert operator in ("$gt", "$lt")
    assert left.startswith("$")
    assert left[1:] in PATHS
    assert set(right) == {"$literal"}
    check_scalar(right["$literal"])


def check_condition(condition: Any) -> None:
    if not isinstance(condition, dict):
        check_scalar(condition)
        return
    for operator, value in condition.items():
        if operator in COMPARISONS:
            check_scalar(value)
        elif operator in ("$in", "$nin"):
            for each in value:
                check_scalar(each)
        elif operator == "$exists":
            assert value is True
        elif operator == "$type":
            assert value in ("object", "array") or set(value) == TYPES
        elif operator == "$not":
            assert set(value) == {"$type"}
            check_condition(value)
        elif operator == "$regex":
            text = value.removeprefix("^")
            assert re.escape(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)) == text
        elif operator == "$options":
            assert value == "i"
        else:
            assert operator in ("$near", "$geoWithin"), operator
            check_place(value)


def check_place(value: Mapping[str, Any]) -> None:
    assert set(value) <= {"$geometry", "$maxDistance", "$centerSphere", "$box"}
    flat = json.dumps(value)
    words = "geometry|maxDistance|centerSphere|box|type|coordinates|Point|Polygon"
    assert re.fullmatch(rf'(?:[\[\]{{}}:, \d.e+-]|"\$?(?:{words})")*', flat), flat


def check_document(value: Any) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            assert not name.startswith("$")
            assert "\0" not in name
            check_document(each)
    elif isinstance(value, list):
        for each in value:
            check_document(each)


def check_update(update: Mapping[str, Any]) -> None:
    assert set(update) <= {"$set", "$unset"}
    for path, value in [*update.get("$set", {}).items(), *update.get("$unset", {}).items()]:
        parts = path.split(".")
        assert parts[0] in PATHS
        assert (
            parts[0] == "free" or path in PATHS or re.fullmatch(r"(leaves|w)(\.\d+)?(\.(t|number))?", path)
        ), path
        assert not any(part.startswith("$") for part in parts)
        check_document(value)


def check_pipeline(command: Mapping[str, Any]) -> None:
    match, *rest = command["pipeline"] if command["pipeline"] else ({},)
    if "let" in command:
        assert set(command["let"]) == {"text"}
        assert set(command["let"]["text"]) == {"$literal"}
        assert isinstance(command["let"]["text"]["$literal"], str | None)
    for stage in (match, *rest):
        ((name, value),) = stage.items()
        if name == "$match" and value == {"$expr": {"$eq": ["$n", "$$text"]}}:
            continue
        if name == "$match":
            check_filter(value)
        elif name == "$project":
            assert set(value) == {"label"}
            label = value["label"]
            assert (
                label == {"$literal": label["$literal"]}
                if isinstance(label, dict)
                else not str(label).startswith("$")
            )
        else:
            assert stage in ({"$limit": 1000}, {"$group": {"_id": 1, "n": {"$sum": 1}}}), stage


def check(command: Mapping[str, Any]) -> str:
    """Check that bzz itself could have written a command, and return its name."""
    name = next(iter(command))
    if name == "find":
        check_filter(command["filter"])
        assert set(command.get("sort", {})) <= PATHS
        assert set(command.get("projection", {})) <= PATHS | {"_cls", "lf._cls", "leaves._cls"}
        assert "let" not in command
    elif name == "aggregate":
        check_pipeline(command)
    elif name == "insert":
        for document in command["documents"]:
            assert set(document) <= PATHS
            check_document(dict(document))
    elif name == "findAndModify":
        check_filter(command["query"])
        check_update(command["update"])
    else:
        assert name in {"count", "getMore", "ping", "hello", "endSessions", "killCursors"}, command
    assert not {"$where", "mapReduce", "eval"} & command.keys()
    return name


@pytest.fixture
async def heard(database: str, mongo_url: str) -> AsyncIterator[tuple[Listener, Any]]:
    listener = Listener()
    client: Any = pymongo.AsyncMongoClient(
        mongo_url, uuidRepresentation="standard", event_listeners=[listener]
    )
    yield listener, client
    await client.close()


@pytest.mark.timeout(60 + REQUESTS // 50)
async def test_nothing_of_a_client_reaches_the_driver_but_values(heard: tuple[Listener, Any]) -> None:
    listener, mongo = heard
    chance = random.Random(SEED)
    seen: dict[str, int] = {}
    statuses: dict[int, int] = {}
    async with serving(MongoEngineRestHandler.routes_for(Bait, client=mongo, **OPTIONS)) as client:
        created = await client.post("/bait", json={"name": "a", "number": 1, "leaf": {"text": "x"}})
        key = created.json["id"]
        for _ in range(0, REQUESTS, 20):
            for status in await asyncio.gather(*(send(client, chance, key) for _ in range(20))):
                statuses[status] = statuses.get(status, 0) + 1
            for command in listener.commands:
                name = check(command)
                seen[name] = seen.get(name, 0) + 1
            listener.commands.clear()
    assert not [status for status in statuses if status >= 500], statuses
    # Hostile, but not so strange that nothing came through.
    assert statuses[200] > REQUESTS / 10
    assert statuses[400] > REQUESTS / 10
    assert min(seen[name] for name in ("find", "aggregate", "insert", "findAndModify")) > REQUESTS / 500, seen


@pytest.mark.parametrize(
    "command",
    [
        {"find": "bait", "filter": {"n": {"$eq": {"$ne": None}}}},
        {"find": "bait", "filter": {"n": {"$regex": ".*"}}},
        {"find": "bait", "filter": {"n": {"$where": "1"}}},
        {"find": "bait", "filter": {"$where": "1"}},
        {"find": "bait", "filter": {"other": 1}},
        {"find": "bait", "filter": {"n": Regex("a")}},
        {"find": "bait", "filter": {"n": {"$in": [{"a": 1}]}}},
        {"find": "bait", "filter": {"$expr": {"$gt": ["$n", "$number"]}}},
        {"find": "bait", "filter": {}, "sort": {"$natural": 1}},
        {"find": "bait", "filter": {}, "projection": {"label": "$n"}},
        {"aggregate": "bait", "pipeline": [{"$project": {"label": "$n"}}]},
        {"aggregate": "bait", "pipeline": [{"$out": "x"}]},
        {"insert": "bait", "documents": [{"n": {"$ne": 1}}]},
        {"findAndModify": "bait", "query": {"_id": 1}, "update": {"$set": {"$where": 1}}},
        {"findAndModify": "bait", "query": {"_id": 1}, "update": {"$rename": {"n": "m"}}},
        {"dropDatabase": 1},
    ],
)
def test_the_check_would_notice(command: dict[str, Any]) -> None:
    with pytest.raises((AssertionError, TypeError, ValueError)):
        check(command)
