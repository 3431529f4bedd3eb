"""One document over real HTTP, shown in parts and with what it refers to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest

import bzz
from bzz.signals import post_get_instance
from bzz.testing import capture
from tests.serving import Answer, Client, serving


class Publisher(me.Document):
    name = me.StringField(primary_key=True)
    city = me.StringField()


class Author(me.Document):
    name = me.StringField(primary_key=True)
    publisher = me.ReferenceField(Publisher)
    secret = me.StringField()


class Shape(me.EmbeddedDocument):
    pages = me.IntField(db_field="p")
    colour = me.StringField()


class Tome(me.Document):
    title = me.StringField(primary_key=True)
    stock = me.IntField(db_field="s")
    shape = me.EmbeddedDocumentField(Shape)
    author = me.ReferenceField(Author)
    others = me.ListField(me.ReferenceField(Author))


class Drawn(me.Document):
    name = me.StringField(primary_key=True)
    author = me.ReferenceField(Author)

    def to_dict(self) -> dict[str, Any]:
        return {"drawn": self.name}


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    api = bzz.Api()
    api.add(Tome, expandable=["author.publisher", "others"])
    api.add(Author, readable=["name", "publisher"])
    api.add(Drawn)
    Publisher(name="Sur", city="Buenos Aires").save()
    Author(name="Borges", publisher="Sur", secret="blind").save()
    shape = Shape(pages=174, colour="red")
    Tome(title="Ficciones", stock=3, shape=shape, author="Borges", others=["Borges", "Nobody"]).save()
    Drawn(name="x").save()
    async with serving(api) as client:
        yield client


async def ask(client: Client, asked: str, **headers: str) -> Answer:
    return await client.get(f"/tome/Ficciones?{asked}", headers=headers)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("fields=stock", {"title": "Ficciones", "stock": 3}),
        ("fields=title", {"title": "Ficciones"}),
        ("fields=shape.pages,stock", {"title": "Ficciones", "stock": 3, "shape": {"pages": 174}}),
        (
            "fields=stock&expand=author",
            {"title": "Ficciones", "stock": 3, "author": {"name": "Borges", "publisher": "Sur"}},
        ),
        (
            "fields=title&expand=author.publisher",
            {
                "title": "Ficciones",
                "author": {"name": "Borges", "publisher": {"name": "Sur", "city": "Buenos Aires"}},
            },
        ),
        (
            "fields=title&expand=others",
            {"title": "Ficciones", "others": [{"name": "Borges", "publisher": "Sur"}, "Nobody"]},
        ),
    ],
)
async def test_it_is_shown_as_it_would_be_in_a_list(
    client: Client, asked: str, shown: dict[str, Any]
) -> None:
    one = await ask(client, asked)
    listed = await client.get(f"/tome?title=Ficciones&{asked}")
    assert one.json == listed.json[0] == shown
    head = await client.request("HEAD", f"/tome/Ficciones?{asked}")
    assert (head.status, head.headers["ETag"]) == (200, one.headers["ETag"])


async def test_expanded_it_has_all_its_fields(client: Client) -> None:
    plain, expanded = (await client.get("/tome/Ficciones")).json, (await ask(client, "expand=author")).json
    assert expanded == {**plain, "author": {"name": "Borges", "publisher": "Sur"}}


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ("fields=nothing", "fields"),
        ("fields=", "fields"),
        ("fields=author.secret", "fields"),
        ("expand=stock", "expand"),
        ("expand=author.name", "expand"),
        ("stock=3", "stock"),
        ("sort=stock", "sort"),
        ("per_page=1", "per_page"),
        ("stock__gte=3", "stock__gte"),
    ],
)
async def test_what_cannot_be_asked_is_refused(client: Client, asked: str, parameter: str) -> None:
    assert (await ask(client, asked)).problem(400)["parameter"] == parameter


async def test_a_field_that_is_not_readable_does_not_exist(client: Client) -> None:
    assert (await client.get("/author/Borges?fields=secret")).problem(400)["parameter"] == "fields"
    assert (await client.get("/author/Borges?fields=publisher")).json == {
        "name": "Borges",
        "publisher": "Sur",
    }


async def test_a_model_with_a_form_of_its_own_has_no_parts(client: Client) -> None:
    assert (await client.get("/drawn/x?fields=name")).problem(400)["parameter"] == "fields"


async def test_no_document_is_no_document(client: Client) -> None:
    (await client.get("/tome/None?fields=stock")).problem(404)


async def test_writes_take_no_parameters(client: Client) -> None:
    answer = await client.put("/tome/Ficciones?fields=stock", json={"stock": 1})
    assert answer.problem(400)["parameter"] == "fields"


async def test_each_form_has_a_tag_that_names_the_same_state(client: Client) -> None:
    forms = ["fields=stock", "fields=title", "expand=author", "fields=stock&expand=author", ""]
    tags = [(await ask(client, each)).headers["ETag"] for each in forms]
    assert len(set(tags)) == len(forms)
    assert len({each.strip('"').partition(".")[0] for each in tags}) == 1
    for each, tag in zip(forms, tags, strict=True):
        assert (await ask(client, each, **{"If-None-Match": tag})).status == 304
        others = ", ".join(other for other in tags if other != tag)
        assert (await ask(client, each, **{"If-None-Match": others})).status == 200
        assert (await ask(client, each, **{"If-Match": tags[0]})).status == 200
    answer = await client.put("/tome/Ficciones", json={"stock": 4}, headers={"If-Match": tags[2]})
    assert answer.status == 200
    assert (await ask(client, "fields=stock", **{"If-Match": tags[0]})).problem(412)
    assert (await ask(client, "fields=title", **{"If-None-Match": tags[1]})).status == 200, "a new state"


async def test_the_tag_changes_with_what_is_expanded(client: Client) -> None:
    tag = (await ask(client, "expand=author.publisher")).headers["ETag"]
    Publisher.objects(name="Sur").update(city="Rosario")
    fresh = await ask(client, "expand=author.publisher", **{"If-None-Match": tag})
    assert fresh.json["author"]["publisher"]["city"] == "Rosario"
    assert fresh.headers["ETag"] != tag


async def test_a_receiver_gets_the_whole_document(client: Client) -> None:
    with capture(post_get_instance) as events:
        await ask(client, "fields=stock")
    assert events.only().payload["instance"].shape.colour == "red"
