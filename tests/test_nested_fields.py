"""Nested resources over every kind of field that embeds or refers, and over models with ways of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest
from bson import DBRef

import bzz
from bzz import signals
from bzz.testing import capture
from tests.serving import Client, serving


class Person(me.Document):
    """Known in URLs by something else than its primary key."""

    slug = me.StringField(unique=True)
    mail = me.StringField()

    @classmethod
    def get_id_field_name(cls) -> str:
        return "slug"


class Shape(me.EmbeddedDocument):
    title = me.StringField(primary_key=True)
    meta = {"allow_inheritance": True}


class Circle(Shape):
    radius = me.FloatField()


class Inner(me.EmbeddedDocument):
    size = me.IntField()


class Box(Shape):
    inner = me.EmbeddedDocumentField(Inner)


class Score(me.EmbeddedDocument):
    points = me.IntField(unique=True, sparse=True)


class Line(me.EmbeddedDocument):
    text = me.StringField()


class Upper(me.ListField):
    """A list class of a user's own."""

    def to_python(self, value: Any) -> Any:
        return super().to_python(value)


class Abstract(me.Document):
    meta = {"abstract": True}


class Base(me.Document):
    name = me.StringField(primary_key=True)
    meta = {"allow_inheritance": True}


class Everything(Base):
    lazy = me.LazyReferenceField(Person)
    cached = me.CachedReferenceField(Person, fields=["mail"])
    dbref = me.ReferenceField(Person, dbref=True)
    needed = me.ReferenceField(Person, required=False)
    lazies = me.ListField(me.LazyReferenceField(Person))
    cacheds = me.ListField(me.CachedReferenceField(Person, fields=["mail"]))
    dbrefs = me.ListField(me.ReferenceField(Person, dbref=True))
    customs = Upper(me.ReferenceField(Person))
    shape = me.EmbeddedDocumentField(Shape)
    shapes = me.ListField(me.EmbeddedDocumentField(Shape))
    scores = me.SortedListField(me.EmbeddedDocumentField(Score), ordering="points", reverse=True)
    lines = me.SortedListField(me.EmbeddedDocumentField(Line), ordering="text")
    nowhere = me.ReferenceField(Abstract)
    anything = me.GenericReferenceField()
    any_embedded = me.GenericEmbeddedDocumentField()
    table = me.MapField(me.EmbeddedDocumentField(Line))
    grid = me.ListField(me.ListField(me.EmbeddedDocumentField(Line)))


class Strict(me.Document):
    code = me.StringField(primary_key=True)
    boss = me.ReferenceField(Person, required=True)
    staff = me.ListField(me.ReferenceField(Person), required=True)
    seal = me.EmbeddedDocumentField(Line, required=True)


class Saving(me.Document):
    code = me.StringField(primary_key=True)
    lines = me.ListField(me.EmbeddedDocumentField(Line))
    count = me.IntField(default=0)

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.count = len(self.lines)
        return super().save(*args, **kwargs)


class Clearing(me.Document):
    """What comes of a write is the model's own affair."""

    code = me.StringField(primary_key=True)
    lines = me.ListField(me.EmbeddedDocumentField(Line))

    def save(self, *args: Any, **kwargs: Any) -> Any:
        self.lines = []
        return super().save(*args, **kwargs)


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    for slug in ("ann", "bo"):
        Person(slug=slug, mail=f"{slug}@x").save()
    Everything(name="e").save()
    people = [each.pk for each in Person.objects.order_by("slug")]
    Strict(code="s", boss=people[0], staff=[people[0]], seal=Line(text="x")).save()
    Saving(code="s").save()
    api = bzz.Api()
    for model in (Person, Base, Everything, Strict, Saving):
        api.add(model)
    async with serving(api) as client:
        yield client


def stored() -> Any:
    return Base._get_collection().find_one({"_id": "e"})


@pytest.mark.parametrize("name", ["lazy", "cached", "dbref", "needed"])
async def test_single_references_of_every_kind(client: Client, name: str) -> None:
    path = f"/everything/e/{name}"
    (await client.get(path)).problem(404)
    made = await client.put(path, json={"id": "bo"})
    assert made.status == 200 and made.json["slug"] == "bo"
    assert (await client.get(path)).json == made.json
    assert (await client.put(path, form=f"{name}=ann")).json["slug"] == "ann"
    (await client.put(path, json={"id": "none"})).problem(400)
    assert (await client.request("PATCH", path, json={"mail": "new"})).json["mail"] == "new"
    assert (await client.delete(path)).status == 204
    assert name not in stored()


@pytest.mark.parametrize("name", ["lazies", "cacheds", "dbrefs", "customs"])
async def test_lists_of_references_of_every_kind(client: Client, name: str) -> None:
    path = f"/everything/e/{name}"
    assert (await client.post(path, form=f"{name}[]=bo&{name}[]=ann")).status == 201
    assert (await client.post(path, json={"id": "bo"})).status == 200
    assert [each["slug"] for each in (await client.get(path)).json] == ["bo", "ann"]
    assert (await client.get(f"{path}/ann")).json["mail"] == "ann@x"
    assert (await client.delete(f"{path}/bo")).status == 204
    (await client.get(f"{path}/bo")).problem(404)
    (await client.delete(f"{path}/none")).problem(404)
    key = Person.objects.get(slug="ann").pk
    assert stored()[name] == [
        {"_id": key, "mail": "ann@x"}
        if name == "cacheds"
        else DBRef("person", key)
        if name == "dbrefs"
        else key
    ]


async def test_the_key_of_urls_is_what_associates(client: Client) -> None:
    key = str(Person.objects.get(slug="ann").pk)
    (await client.post("/everything/e/lazies", json={"id": key})).problem(400)
    made = await client.post("/everything/e/lazies", json={"id": "ann"})
    assert made.headers["Location"] == "/everything/e/lazies/ann"


@pytest.mark.parametrize("name", ["nowhere", "anything", "any_embedded", "table", "grid", "name"])
async def test_what_has_no_collection_or_no_class_is_no_resource(client: Client, name: str) -> None:
    assert (await client.get(f"/everything/e/{name}")).status == 404


async def test_embedded_documents_of_several_classes(client: Client) -> None:
    made = await client.post("/everything/e/shapes", json={"_cls": "Circle", "title": "c", "radius": 1})
    assert made.status == 201 and made.json == {"_cls": "Circle", "title": "c", "radius": 1.0}
    assert made.headers["Location"] == "/everything/e/shapes/c"
    made = await client.post("/everything/e/shapes", form="_cls=Box&title=b&inner.size=3")
    assert made.json == {"_cls": "Box", "title": "b", "inner": {"size": 3}}
    assert (await client.post("/everything/e/shapes", json={"title": "s"})).json == {
        "_cls": "Shape",
        "title": "s",
    }
    assert (await client.get("/everything/e/shapes/b/inner")).json == {"size": 3}
    (await client.get("/everything/e/shapes/c/inner")).problem(404)
    (await client.post("/everything/e/shapes/c/inner", json={"size": 1})).problem(404)
    body = {"_cls": "Circle", "radius": 2}
    assert (await client.put("/everything/e/shapes/c", json=body)).json["radius"] == 2.0
    body["_cls"] = "Box"
    assert (await client.put("/everything/e/shapes/c", json=body)).problem(400)["errors"][0][
        "pointer"
    ] == "/_cls"
    refused = await client.request("PATCH", "/everything/e/shapes/c", json={"_cls": "Shape"})
    assert refused.problem(400)["errors"][0]["pointer"] == "/_cls"
    refused = await client.post("/everything/e/shape", json={"_cls": "Line", "text": "x"})
    assert refused.problem(400)["errors"][0]["pointer"] == "/_cls"
    assert (await client.post("/everything/e/shape", form="_cls=Nothing")).problem(400)
    with capture(signals.post_create_instance) as captured:
        assert (await client.post("/everything/e/shape", json={"_cls": "Box", "title": "x"})).status == 201
    assert captured.only().sender is Shape and isinstance(captured.only().payload["instance"], Box)


async def test_a_property_that_only_a_class_below_has(client: Client) -> None:
    Base(name="plain").save()
    assert (await client.post("/base/e/shape", json={"title": "x"})).status == 201
    assert (await client.get("/base/e/shape")).json["title"] == "x"
    (await client.get("/base/plain/shape")).problem(404)
    (await client.post("/base/plain/shape", json={"title": "x"})).problem(404)


async def test_sorted_lists(client: Client) -> None:
    for points in (3, 9, 5):
        made = await client.post("/everything/e/scores", json={"points": points})
        assert made.headers["Location"] == f"/everything/e/scores/{points}"
    assert [each["points"] for each in (await client.get("/everything/e/scores")).json] == [9, 5, 3]
    with capture(signals.post_update_instance) as captured:
        changed = await client.put("/everything/e/scores/3", json={"points": 7})
    assert changed.json == {"points": 7}
    assert captured.events[0].sender is Score and captured.events[0].payload["instance"].points == 7
    for text, position in (("b", 0), ("c", 1), ("a", 0)):
        made = await client.post("/everything/e/lines", json={"text": text})
        assert made.headers["Location"] == f"/everything/e/lines/{position}"
        assert (await client.get(made.headers["Location"])).json == {"text": text}


async def test_what_the_owner_needs_cannot_be_taken_out(client: Client) -> None:
    for path in ("/strict/s/boss", "/strict/s/seal"):
        refused = await client.delete(path)
        refused.problem(405)
        assert refused.headers["Allow"] == "GET, HEAD, POST, PUT, PATCH, OPTIONS"
    last = (await client.delete("/strict/s/staff/ann")).problem(400)["errors"][0]
    assert last["pointer"] == "" and last["detail"].startswith("strict.staff: this field is required")
    assert (await client.post("/strict/s/staff", json={"id": "bo"})).status == 201
    assert (await client.delete("/strict/s/staff/ann")).status == 204


async def test_an_owner_with_a_save_of_its_own(client: Client) -> None:
    with capture(signals.post_create_instance, signals.post_update_instance) as captured:
        made = await client.post("/saving/s/lines", json={"text": "x"})
    assert made.status == 201 and made.headers["Location"] == "/saving/s/lines/0"
    assert [each.sender for each in captured.events] == [Line, Saving]
    diff = captured.events[-1].payload["updated_fields"]
    assert diff["count"] == {"from": 0, "to": 1} and diff["lines"]["to"] == [{"text": "x"}]
    assert (await client.get("/saving/s")).json["count"] == 1


async def test_an_owner_that_keeps_nothing(database: str) -> None:
    Clearing(code="c").save()
    api = bzz.Api()
    api.add(Clearing)
    async with serving(api) as client:
        with capture(signals.post_create_instance) as captured:
            made = await client.post("/clearing/c/lines", json={"text": "x"})
        assert made.status == 201 and made.headers["Location"] == "/clearing/c/lines"
        assert "X-Created-Id" not in made.headers and captured.events == []
        assert (await client.get("/clearing/c/lines")).json == []


async def test_values_of_an_older_model(client: Client) -> None:
    Base._get_collection().update_one(
        {"_id": "e"},
        {
            "$set": {
                "shape": "round",
                "shapes": [None, "x", {"_id": "c", "_cls": "Shape"}],
                "lazies": [None, "odd"],
            }
        },
    )
    (await client.get("/everything/e/shape")).problem(404)
    (await client.put("/everything/e/shape", json={"title": "x"})).problem(404)
    (await client.post("/everything/e/shape", json={"title": "x"})).problem(409)
    assert [each["title"] for each in (await client.get("/everything/e/shapes")).json] == ["c"]
    assert (await client.get("/everything/e/shapes/c")).json["title"] == "c"
    assert (await client.get("/everything/e/lazies")).json == []
    Base._get_collection().update_one({"_id": "e"}, {"$set": {"shapes": "none", "lazies": {"a": 1}}})
    assert (await client.get("/everything/e/shapes")).json == []
    assert (await client.get("/everything/e/lazies")).json == []
    (await client.get("/everything/e/shapes/c")).problem(404)
