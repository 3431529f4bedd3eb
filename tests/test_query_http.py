"""Lists over real HTTP: sorts, parts, references, places, texts, counts, pages and aggregations."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

import mongoengine as me
import pymongo
import pytest
from bson import DBRef, ObjectId
from pymongo.monitoring import CommandListener

import bzz
from bzz.model import Aggregation
from bzz.mongoengine_handler import MongoEngineRestHandler
from bzz.signals import post_get_list
from tests.serving import Answer, Client, serving

MAYOR = ObjectId()


class Continent(me.Document):
    code = me.StringField(primary_key=True)
    name = me.StringField()


class Country(me.Document):
    code = me.StringField(primary_key=True)
    name = me.StringField()
    continent = me.ReferenceField(Continent)
    neighbours = me.ListField(me.ReferenceField("self"))


class Mayor(me.Document):
    name = me.StringField()

    def to_dict(self) -> dict[str, Any]:
        return {"called": self.name}


class Place(me.EmbeddedDocument):
    street = me.StringField(db_field="s")
    country = me.ReferenceField(Country, db_field="c")


class Town(me.Document):
    name = me.StringField(primary_key=True)
    population = me.IntField(db_field="pop")
    note = me.StringField()
    place = me.EmbeddedDocumentField(Place, db_field="pl")
    places = me.EmbeddedDocumentListField(Place)
    country = me.ReferenceField(Country)
    visited = me.ListField(me.ReferenceField(Country))
    cached = me.CachedReferenceField(Country, fields=["name"])
    lazy = me.LazyReferenceField(Country, dbref=True)
    mayor = me.ReferenceField(Mayor)
    location = me.PointField()
    old_location = me.GeoPointField()
    meta = {
        "indexes": [
            ("population", "name"),
            {"fields": ["$note"], "default_language": "none"},
        ]
    }


class Commands(CommandListener):
    """What was sent to MongoDB, but for what drivers say among themselves."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def started(self, event: Any) -> None:
        if event.command_name not in {"hello", "ping", "endSessions", "isMaster", "listCollections"}:
            self.sent.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def by_country(least: int) -> list[dict[str, Any]]:
    return [
        {"$match": {"pop": {"$gte": least}}},
        {"$group": {"_id": "$country", "people": {"$sum": "$pop"}}},
        {"$sort": {"_id": 1}},
    ]


OPTIONS: dict[str, Any] = {
    "filters": [
        "*",
        "name__contains",
        "note__icontains",
        "location__near",
        "location__within_circle",
        "location__within_box",
        "location__within_polygon",
        "old_location__near",
        "old_location__within_circle",
        "old_location__within_box",
        "old_location__within_polygon",
    ],
    "sorts": ["population", "note", "country", "place.street"],
    "expandable": [
        "country.continent",
        "place.country",
        "places.country",
        "visited",
        "cached",
        "lazy",
        "mayor",
        "country.neighbours",
    ],
    "search": True,
    "aggregations": {
        "by_country": Aggregation(by_country, {"least": int}),
        "all": Aggregation([{"$project": {"pop": 1}}]),
        "labels": Aggregation(
            [{"$sort": {"_id": 1}}, {"$project": {"label": "$$text", "_id": 0}}], {"text": str}, max_results=2
        ),
        "marked": Aggregation(
            lambda text: [
                {"$project": {"label": {"$concat": ["<", text, ">"]}}},
                {"$match": {"_id": "Bonn"}},
            ],
            {"text": str},
        ),
    },
    "secret": "a secret of sixteen bytes or more",
}


@pytest.fixture
async def commands(database: str, mongo_url: str) -> AsyncIterator[tuple[Commands, Any]]:
    heard = Commands()
    client: Any = pymongo.AsyncMongoClient(mongo_url, uuidRepresentation="standard", event_listeners=[heard])
    yield heard, client
    await client.close()


def town(name: str, population: int, country: str, note: str | None, location: list[float]) -> dict[str, Any]:
    place = {"s": f"{name} street", "c": country}
    return {
        "_id": name,
        "pop": population,
        "country": country,
        "note": note,
        "pl": place,
        "places": [place, place],
        "visited": [country, "XX"],
        "cached": {"_id": country, "name": "a copy"},
        "lazy": DBRef("country", country),
        "mayor": MAYOR,
        "location": {"type": "Point", "coordinates": location},
        "old_location": location,
    }


@pytest.fixture
async def towns(commands: tuple[Commands, Any]) -> AsyncIterator[Client]:
    Continent._get_collection().insert_many(
        [{"_id": "EU", "name": "Europe"}, {"_id": "SA", "name": "South America"}]
    )
    Country._get_collection().insert_many(
        [
            {"_id": "DE", "name": "Germany", "continent": "EU", "neighbours": ["FR", "XX"]},
            {"_id": "PE", "name": "Peru", "continent": "SA"},
            {"_id": "FR", "name": "France", "continent": "EU"},
        ]
    )
    Mayor._get_collection().insert_one({"_id": MAYOR, "name": "Ann"})
    Town._get_collection().insert_many(
        [
            town("Berlin", 3400, "DE", "big (very) $City", [13.4, 52.5]),
            town("Bonn", 330, "DE", "on the Rhine", [7.1, 50.7]),
            town("Lima", 7700, "PE", None, [-77.0, -12.0]),
            town("Paris", 2100, "FR", "on the Seine", [2.35, 48.85]),
            {"_id": "Nowhere"},
        ]
    )
    routes = MongoEngineRestHandler.routes_for(Town, client=commands[1], **OPTIONS)
    async with serving(routes) as client:
        yield client


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer
    return [each["name"] for each in answer.json]


def links(answer: Answer) -> dict[str, str]:
    found = re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("Link", ""))
    return {relation: url for url, relation in found}


async def ask(client: Client, **arguments: Any) -> Answer:
    return await client.get("/town?" + urlencode(arguments, doseq=True))


# Filters that a resource opts into


OPTED_INTO: list[Any] = [
    ({"name__contains": "im"}, ["Lima"]),
    ({"name__contains": "IM"}, []),
    ({"note__icontains": "ON THE"}, ["Bonn", "Paris"]),
    ({"note__icontains": "(VERY) $c"}, ["Berlin"]),
    ({"note__icontains": ".*"}, []),
    ({"search": "rhine"}, ["Bonn"]),
    ({"search": "rhine seine"}, ["Bonn", "Paris"]),
    ({"search": "on -rhine", "population__gte": "1"}, ["Paris"]),
    ({"location__near": "7,50"}, ["Bonn", "Paris", "Berlin", "Lima"]),
    ({"location__near": "7,50", "per_page": "1", "page": "2"}, ["Paris"]),
    ({"location__near": "7,50,400000"}, ["Bonn", "Paris"]),
    ({"old_location__near": "7,50,400000"}, ["Bonn", "Paris"]),
    ({"old_location__near": "7,50"}, ["Bonn", "Paris", "Berlin", "Lima"]),
    ({"location__within_circle": "7,50,400000", "sort": "population"}, ["Bonn", "Paris"]),
    ({"old_location__within_circle": "7,50,400000", "sort": "-population"}, ["Paris", "Bonn"]),
    ({"location__within_box": "0,45,10,51"}, ["Bonn", "Paris"]),
    ({"old_location__within_box": "0,45,10,51"}, ["Bonn", "Paris"]),
    ({"location__within_polygon": "0,45,10,45,10,52,0,52"}, ["Bonn", "Paris"]),
    ({"location__within_polygon": "5,45, 10,45, 10,52, 5,52, 5,45"}, ["Bonn"]),
    ({"old_location__within_polygon": "0,45,10,45,10,52,0,52"}, ["Bonn", "Paris"]),
    ({"location__exists": "false"}, ["Nowhere"]),
    ({"location__near": "7,50,400000", "location__within_box": "5,45,10,55"}, ["Bonn"]),
    (
        {"location__near": "7,50", "location__exists": "true", "old_location__within_circle": "0,50,1e6"},
        ["Bonn", "Paris", "Berlin"],
    ),
    ({"location__near": "7,50", "name__ne": "Bonn", "name__in": "Bonn,Paris", "name__nin": "x"}, ["Paris"]),
    ({"old_location__near": "7,50", "old_location__exists": "true", "name": "Bonn"}, ["Bonn"]),
]


async def test_operators_that_a_resource_opts_into(towns: Client) -> None:
    for arguments, found in OPTED_INTO:
        assert names(await ask(towns, **arguments)) == found, arguments


REFUSED: list[Any] = [
    ("location__near", {"location__near": "1"}),
    ("location__near", {"location__near": "1,2,3,4"}),
    ("location__near", {"location__near": "a,b"}),
    ("location__near", {"location__near": "nan,0"}),
    ("location__near", {"location__near": "181,0"}),
    ("location__near", {"location__near": "0,-91"}),
    ("location__near", {"location__near": "0,0,-1"}),
    ("location__near", {"location__near": "0,0,1e300"}),
    ("location__near", {"location__near": ["0,0", "1,1"]}),
    ("location__within_circle", {"location__within_circle": "0,0"}),
    ("location__within_box", {"location__within_box": "0,0,1"}),
    ("location__within_box", {"location__within_box": "1,0,0,1"}),
    ("location__within_polygon", {"location__within_polygon": "0,0,1,1"}),
    ("location__within_polygon", {"location__within_polygon": "0,0,0,0,0,0"}),
    ("location__within_polygon", {"location__within_polygon": "0,0,1"}),
    ("location__within_polygon", {"location__within_polygon": "0,0," * 101 + "1,1"}),
    ("location__within_polygon", {"location__within_polygon": "0,0,10,10,10,0,0,10"}),
    ("location__within_polygon", {"location__within_polygon": "1" * 5000}),
    ("sort", {"location__near": "0,0", "sort": "population"}),
    ("cursor", {"location__near": "0,0", "cursor": ""}),
    ("count", {"location__near": "0,0", "count": "exact"}),
    ("search", {"location__near": "0,0", "search": "x"}),
    ("country__near", {"country__near": "0,0"}),
    ("old_location__near", {"location__near": "0,0", "old_location__near": "0,0"}),
    (
        "location__within_polygon",
        {"aggregate": "by_country", "least": "1", "location__within_polygon": "0,0,10,10,10,0,0,10"},
    ),
    ("population__contains", {"population__contains": "0"}),
    ("place.street__contains", {"place.street__contains": "0"}),
    ("name__contains", {"name__contains": "a\0"}),
    ("search", {"search": ["a", "b"]}),
    ("search", {"search": "x" * 1025}),
    ("sort", {"sort": "name,name"}),
    ("sort", {"sort": "population,-population"}),
    ("sort", {"sort": "mayor"}),
    ("sort", {"sort": "--population"}),
    ("sort", {"sort": "$natural"}),
    ("sort", {"sort": "place"}),
    ("sort", {"sort": ""}),
    ("sort", {"sort": ["name", "note"]}),
    ("sort", {"sort": ",".join(f"f{number}" for number in range(40))}),
    ("fields", {"fields": "nothing"}),
    ("fields", {"fields": "name,"}),
    ("fields", {"fields": "pop"}),
    ("fields", {"fields": "$where"}),
    ("fields", {"fields": "country.name"}),
    ("expand", {"expand": "nothing"}),
    ("expand", {"expand": "name"}),
    ("expand", {"expand": "country.continent.nothing"}),
    ("expand", {"expand": "country.neighbours.continent"}),
    ("expand", {"expand": "place"}),
    ("count", {"count": "many"}),
    ("count", {"count": "estimated", "name": "Bonn"}),
    ("cursor", {"cursor": "x"}),
    ("cursor", {"cursor": "ключ"}),
    ("cursor", {"cursor": "x" * 5000}),
    ("page", {"cursor": "", "page": "1"}),
    ("aggregate", {"aggregate": "nothing"}),
    ("least", {"aggregate": "by_country"}),
    ("least", {"aggregate": "by_country", "least": "many"}),
    ("least", {"aggregate": "by_country", "least": "1" * 30}),
    ("least", {"aggregate": "by_country", "least": ["1", "2"]}),
    ("sort", {"aggregate": "by_country", "least": "1", "sort": "name"}),
    ("per_page", {"aggregate": "by_country", "least": "1", "per_page": "1"}),
    ("most", {"aggregate": "by_country", "least": "1", "most": "1"}),
    ("aggregate", {"aggregate": "by_country", "least": "1", "location__near": "0,0"}),
    ("text", {"aggregate": "labels", "text": "x" * 1025}),
    ("least", {"least": "1"}),
]


async def test_what_is_unknown_or_malformed_is_named(towns: Client) -> None:
    for parameter, arguments in REFUSED:
        problem = (await ask(towns, **arguments)).problem(400)
        assert problem["parameter"] == parameter, (arguments, problem)
        assert problem["type"] == "urn:bzz:problem:query"
        assert problem["detail"]


async def test_what_a_resource_does_not_opt_into_is_unknown(database: str) -> None:
    narrowed = MongoEngineRestHandler.routes_for(Town, filters=["note", "population__gte"], sorts=[])
    async with serving(narrowed) as client:
        for arguments in ({"note": "x"}, {"note__in": "x"}, {"population__gte": "1"}, {"sort": "-name"}):
            assert (await ask(client, **arguments)).status == 200, arguments
        for arguments in (
            {"name": "x"},
            {"population": "1"},
            {"population__lt": "1"},
            {"note__contains": "x"},
            {"sort": "population"},
            {"search": "x"},
            {"expand": "country"},
            {"aggregate": "by_country"},
        ):
            (await ask(client, **arguments)).problem(400)


async def test_by_default_indexed_fields_are_sortable(database: str) -> None:
    async with serving(MongoEngineRestHandler.routes_for(Town)) as client:
        for name in ("name", "-name", "population", "-population,name"):
            assert (await ask(client, sort=name)).status == 200, name
        for name in ("note", "country", "location", "place.street"):
            assert (await ask(client, sort=name)).problem(400)["parameter"] == "sort"


# Sorts and parts


SORTS: list[Any] = [
    ("name", ["Berlin", "Bonn", "Lima", "Nowhere", "Paris"]),
    ("-name", ["Paris", "Nowhere", "Lima", "Bonn", "Berlin"]),
    ("population", ["Nowhere", "Bonn", "Paris", "Berlin", "Lima"]),
    ("-population", ["Lima", "Berlin", "Paris", "Bonn", "Nowhere"]),
    ("country,-population", ["Nowhere", "Berlin", "Bonn", "Paris", "Lima"]),
    ("-country", ["Lima", "Paris", "Bonn", "Berlin", "Nowhere"]),
    ("-place.street", ["Paris", "Lima", "Bonn", "Berlin", "Nowhere"]),
]


async def test_sorts(towns: Client) -> None:
    for sort, found in SORTS:
        assert names(await ask(towns, sort=sort)) == found, sort
        walked = []
        url: str | None = f"/town?sort={sort}&per_page=2&cursor="
        while url:
            answer = await towns.get(url)
            walked += names(answer)
            url = links(answer).get("next")
        assert walked == found, sort


async def test_only_the_fields_that_are_asked_for_are_read_and_shown(
    towns: Client, commands: tuple[Commands, Any]
) -> None:
    commands[0].sent.clear()
    answer = await ask(towns, fields="population,place.street,places.street", name="Bonn")
    street = {"street": "Bonn street"}
    assert answer.json == [{"name": "Bonn", "population": 330, "place": street, "places": [street] * 2}]
    (command,) = commands[0].sent
    assert {name for name in command["projection"] if not name.endswith("_cls")} == {
        "_id",
        "pop",
        "pl.s",
        "places.s",
    }
    answer = await ask(towns, fields="note,place.street,place", sort="-name", per_page=3)
    assert answer.json[1] == {"name": "Nowhere", "note": None, "place": None}
    assert answer.json[2]["place"] == {"street": "Lima street", "country": "PE"}


async def test_parts_can_be_paged_by_a_field_that_is_not_shown(towns: Client) -> None:
    first = await ask(towns, fields="name", sort="-population", cursor="", per_page=2)
    assert first.json == [{"name": "Lima"}, {"name": "Berlin"}]
    second = await towns.get(links(first)["next"])
    assert second.json == [{"name": "Paris"}, {"name": "Bonn"}]


async def test_receivers_hear_of_whole_documents(towns: Client) -> None:
    heard: list[Any] = []

    def receive(items: list[Any]) -> None:
        heard.extend(items)

    with post_get_list.connected_to(receive, sender=Town):
        answer = await ask(towns, fields="note", name="Bonn")
        rows = await ask(towns, aggregate="labels", text="x")
    assert answer.json == [{"name": "Bonn", "note": "on the Rhine"}]
    assert [(each.name, each.population) for each in heard] == [("Bonn", 330)]
    assert len(rows.json) == 2


class Vehicle(me.Document):
    name = me.StringField()
    size = me.IntField()
    meta = {"allow_inheritance": True}


class Bus(Vehicle):
    seats = me.IntField()


async def test_parts_of_documents_of_several_classes(database: str) -> None:
    Vehicle(name="a", size=1).save()
    Bus(name="b", size=2, seats=3).save()
    routes = [*MongoEngineRestHandler.routes_for(Vehicle), *MongoEngineRestHandler.routes_for(Bus)]
    async with serving(routes) as client:
        found = (await client.get("/vehicle?fields=name")).json
        assert [{**each, "id": ""} for each in found] == [
            {"_cls": "Vehicle", "id": "", "name": "a"},
            {"_cls": "Vehicle.Bus", "id": "", "name": "b"},
        ]
        assert (await client.get("/bus?fields=seats&count=estimated")).headers["X-Total-Count"] == "1"
        (await client.get("/vehicle?fields=seats")).problem(400)


# References


async def test_references_are_expanded_in_one_command_for_each_model_and_level(
    towns: Client, commands: tuple[Commands, Any]
) -> None:
    commands[0].sent.clear()
    answer = await ask(
        towns,
        expand="country.continent,country.neighbours,place.country,places.country,visited,cached,lazy,mayor",
    )
    assert answer.status == 200, answer
    sent = [
        (each["find"], sorted(map(str, each["filter"].get("_id", {}).get("$in", []))))
        for each in commands[0].sent
    ]
    assert sent[0] == ("town", [])
    assert sorted(sent[1:3]) == [
        ("country", ["DE", "FR", "PE", "XX"]),
        ("mayor", [str(MAYOR)]),
    ]
    assert sorted(sent[3:]) == [("continent", ["EU", "SA"]), ("country", ["FR", "XX"])]
    berlin = answer.json[0]
    germany = {"code": "DE", "name": "Germany", "continent": "EU", "neighbours": ["FR", "XX"]}
    france = {"code": "FR", "name": "France", "continent": "EU", "neighbours": None}
    assert berlin["country"] == {
        **germany,
        "continent": {"code": "EU", "name": "Europe"},
        "neighbours": [france, "XX"],
    }
    assert berlin["place"] == {"street": "Berlin street", "country": germany}
    assert berlin["places"] == [berlin["place"]] * 2
    assert berlin["visited"] == [germany, "XX"]
    assert berlin["cached"] == berlin["lazy"] == germany
    assert berlin["mayor"] == {"called": "Ann"}
    assert [each["country"] for each in answer.json if each["name"] == "Nowhere"] == [None]


async def test_a_part_of_an_expandable_path_can_be_expanded_and_cut(
    towns: Client, commands: tuple[Commands, Any]
) -> None:
    commands[0].sent.clear()
    answer = await ask(towns, expand="country", fields="population", name="Lima")
    peru = {"code": "PE", "name": "Peru", "continent": "SA", "neighbours": None}
    assert answer.json == [{"name": "Lima", "population": 7700, "country": peru}]
    assert len(commands[0].sent) == 2


async def test_nothing_to_expand_costs_nothing(towns: Client, commands: tuple[Commands, Any]) -> None:
    commands[0].sent.clear()
    answer = await ask(towns, expand="country.continent", name="Nowhere")
    assert answer.json[0]["country"] is None
    assert len(commands[0].sent) == 1


async def test_expansion_is_bounded(towns: Client) -> None:
    many = [f"c{number}" for number in range(1001)]
    Town._get_collection().update_one({"_id": "Bonn"}, {"$set": {"visited": many}})
    assert (await ask(towns, expand="visited")).problem(400)["parameter"] == "expand"
    assert (await ask(towns, expand="visited", name="Lima")).status == 200


# Pages and counts


async def test_pages_are_linked(towns: Client) -> None:
    first = await ask(towns, per_page=2, name__startswith="", sort="name")
    assert links(first) == {
        "first": "/town?per_page=2&name__startswith=&sort=name&page=1",
        "next": "/town?per_page=2&name__startswith=&sort=name&page=2",
    }
    second = await towns.get(links(first)["next"])
    assert names(second) == ["Lima", "Nowhere"]
    assert links(second)["prev"].endswith("page=1")
    last = await towns.get(links(second)["next"])
    assert links(last).keys() == {"first", "prev"}
    whole = await ask(towns, per_page=5)
    assert links(whole).keys() == {"first"}


async def test_links_say_every_text_as_it_was(towns: Client) -> None:
    odd = 'ä&b=c#"<>\\ \r\n'
    answer = await ask(towns, note__ne=odd, per_page=1)
    assert quote(odd, safe="").replace("%20", "+") in links(answer)["next"]
    assert names(await towns.get(links(answer)["next"])) == ["Bonn"]


async def test_counts_are_told_only_when_asked(towns: Client, commands: tuple[Commands, Any]) -> None:
    commands[0].sent.clear()
    assert "X-Total-Count" not in (await ask(towns)).headers
    assert len(commands[0].sent) == 1
    for arguments, total in (
        ({"count": "exact"}, "5"),
        ({"count": "exact", "country": "DE", "per_page": "1", "page": "2"}, "2"),
        ({"count": "exact", "country": "DE", "cursor": ""}, "2"),
        ({"count": "exact", "search": "rhine"}, "1"),
        ({"count": "exact", "location__within_circle": "7,50,400000"}, "2"),
        ({"count": "estimated"}, "5"),
    ):
        answer = await ask(towns, **arguments)
        assert answer.headers["X-Total-Count"] == total, answer
    assert "count" in commands[0].sent[-1]


async def test_head_tells_the_same(towns: Client) -> None:
    got = await ask(towns, count="exact", per_page=2, cursor="")
    head = await towns.request("HEAD", "/town?count=exact&per_page=2&cursor=")
    assert head.body == b""
    for name in ("X-Total-Count", "Link", "Content-Length"):
        assert head.headers[name] == got.headers[name]


# Aggregations


async def test_aggregations(towns: Client, commands: tuple[Commands, Any]) -> None:
    answer = await ask(towns, aggregate="by_country", least="1000")
    assert answer.json == [
        {"_id": "DE", "people": 3400},
        {"_id": "FR", "people": 2100},
        {"_id": "PE", "people": 7700},
    ]
    assert "Link" not in answer.headers
    narrowed = await ask(towns, aggregate="by_country", least="1", country__ne="PE", search="rhine")
    assert narrowed.json == [{"_id": "DE", "people": 330}]


async def test_many_rows_come_in_one_command(towns: Client, commands: tuple[Commands, Any]) -> None:
    Town._get_collection().insert_many([{"_id": f"t{number}", "pop": 1} for number in range(1200)])
    commands[0].sent.clear()
    assert len((await ask(towns, aggregate="marked", text="x")).json) == 1
    assert len((await ask(towns, aggregate="all")).json) == 1000
    assert [next(iter(each)) for each in commands[0].sent] == ["aggregate"] * 2


async def test_what_a_client_sends_to_an_aggregation_is_a_value(towns: Client) -> None:
    for text in ("$pop", "$$ROOT", "plain", "$", '{"$ne": 1}', ""):
        assert (await ask(towns, aggregate="labels", text=text)).json == [{"label": text}] * 2
        marked = await ask(towns, aggregate="marked", text=text)
        assert marked.json == [{"_id": "Bonn", "label": f"<{text}>"}]


async def test_a_batch_can_ask_for_all_of_it(towns: Client, commands: tuple[Commands, Any]) -> None:
    api = bzz.Api()
    api.add(Town, client=commands[1], **OPTIONS)
    paths = [
        "/town?sort=-population&fields=name&per_page=2",
        "/town?aggregate=by_country&least=5000",
        "/town?expand=country&name=Lima&fields=name",
    ]
    async with serving(api) as client:
        answer = await client.post(
            "/batch", json={"operations": [{"method": "GET", "path": path} for path in paths]}
        )
    bodies = [each["body"] for each in answer.json["operations"]]
    assert bodies[0] == [{"name": "Lima"}, {"name": "Berlin"}]
    assert bodies[1] == [{"_id": "PE", "people": 7700}]
    assert bodies[2][0]["country"]["name"] == "Peru"


async def test_every_command_has_a_time_limit(towns: Client, commands: tuple[Commands, Any]) -> None:
    commands[0].sent.clear()
    for arguments in (
        {"sort": "population", "cursor": "", "expand": "country", "count": "exact"},
        {"count": "estimated"},
        {"aggregate": "by_country", "least": "1"},
        {"location__near": "0,0"},
    ):
        assert (await ask(towns, **arguments)).status == 200
    assert len(commands[0].sent) == 7
    assert all(each["maxTimeMS"] > 0 for each in commands[0].sent), commands[0].sent
