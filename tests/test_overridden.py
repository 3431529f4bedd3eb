"""A model that overrides save(), delete() or clean(), or uses mongoengine's signals and rules, keeps its
behaviour."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from typing import Any

import mongoengine as me
import pytest
from mongoengine import signals as model_signals

from bzz import signals
from bzz.mongoengine_handler import MongoEngineRestHandler
from tests.serving import Client, serving


class Slugged(me.Document):
    title = me.StringField(required=True)
    slug = me.StringField(unique=True)
    saves = me.IntField(default=0)

    def save(self, *args: Any, **kwargs: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        self.slug = self.title.lower()
        self.saves += 1
        return super().save(*args, **kwargs)


class SavesTwice(me.Document):
    title = me.StringField()
    note = me.StringField()

    def save(self, *args: Any, **kwargs: Any) -> Any:
        super().save(*args, **kwargs)
        self.note = f"note on {self.title}"
        return super().save(*args, **kwargs)


class SavesNever(me.Document):
    title = me.StringField()

    def save(self, *args: Any, **kwargs: Any) -> Any:
        return self


class Marked(me.Document):
    title = me.StringField()
    deleted = me.BooleanField(default=False)

    def delete(self, *args: Any, **kwargs: Any) -> None:
        self.deleted = True
        self.save()

    @me.queryset_manager
    def objects(doc_cls: Any, queryset: Any) -> Any:
        return queryset.filter(deleted=False)


class Cleaned(me.Document):
    low = me.IntField()
    high = me.IntField()
    label = me.StringField()

    def clean(self) -> None:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise me.ValidationError("low is above high")
        self.label = f"{self.low}..{self.high}"


class Base(me.Document):
    name = me.StringField()
    meta = {"allow_inheritance": True}


class Special(Base):
    extra = me.IntField(min_value=0)


class Numbered(me.Document):
    number = me.SequenceField(primary_key=True)
    name = me.StringField()


class Author(me.Document):
    name = me.StringField()


class Denied(me.Document):
    author = me.ReferenceField(Author, reverse_delete_rule=me.DENY)


class Publisher(me.Document):
    name = me.StringField()


class Cascaded(me.Document):
    publisher = me.ReferenceField(Publisher, reverse_delete_rule=me.CASCADE)


tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="a")


class TenantQuerySet(me.QuerySet):  # type: ignore[misc]
    @property
    def _query(self) -> Any:
        return {**super()._query, "tenant": "a"}


class Tenanted(me.Document):
    tenant = me.StringField()
    name = me.StringField()
    meta = {"queryset_class": TenantQuerySet}


MODELS = (
    Slugged,
    SavesTwice,
    SavesNever,
    Marked,
    Cleaned,
    Base,
    Special,
    Numbered,
    Author,
    Publisher,
    Tenanted,
)


@pytest.fixture
async def client(database: str) -> AsyncIterator[Client]:
    async with serving(
        [rule for each in MODELS for rule in MongoEngineRestHandler.routes_for(each)]
    ) as client:
        yield client


async def test_save_runs_as_written(client: Client) -> None:
    heard: list[Any] = []

    def receiver(updated_fields: Any) -> None:
        heard.append(updated_fields)

    created = await client.post("/slugged", json={"title": "One"})
    assert created.status == 201, created
    assert (created.json["slug"], created.json["saves"]) == ("one", 1)
    with signals.post_update_instance.connected_to(receiver):
        changed = await client.put(f"/slugged/{created.json['id']}", json={"title": "Two"})
    assert (changed.json["slug"], changed.json["saves"]) == ("two", 2)
    assert heard == [
        {
            "title": {"from": "One", "to": "Two"},
            "slug": {"from": "one", "to": "two"},
            "saves": {"from": 1, "to": 2},
        }
    ]
    assert Slugged.objects.get().to_mongo().to_dict() == Slugged._get_collection().find_one()


async def test_save_validates_and_knows_duplicates(client: Client) -> None:
    first = (await client.post("/slugged", json={"title": "One"})).json
    await client.post("/slugged", json={"title": "Two"})
    assert (await client.post("/slugged", json={"title": "ONE"})).problem(409)["fields"] == ["slug"]
    assert (await client.put(f"/slugged/{first['id']}", json={"title": "TWO"})).problem(409)["fields"] == [
        "slug"
    ]
    (await client.post("/slugged", json={"title": "x", "saves": "many"})).problem(400)
    assert Slugged.objects.count() == 2


async def test_concurrent_saves_lose_nothing(client: Client) -> None:
    key = (await client.post("/slugged", json={"title": "One"})).json["id"]
    await asyncio.gather(*(client.put(f"/slugged/{key}", json={"title": f"t{n}"}) for n in range(30)))
    assert Slugged.objects.get().saves == 31


async def test_a_save_that_saves_twice_has_one_diff(client: Client) -> None:
    heard: list[Any] = []

    def receiver(updated_fields: Any) -> None:
        heard.append(updated_fields)

    created = (await client.post("/saves_twice", json={"title": "a"})).json
    assert created["note"] == "note on a"
    with signals.post_update_instance.connected_to(receiver):
        await client.put(f"/saves_twice/{created['id']}", json={"title": "b"})
    assert heard == [
        {"title": {"from": "a", "to": "b"}, "note": {"from": "note on a", "to": "note on b"}},
    ]


async def test_a_save_that_stores_nothing_is_no_success(client: Client) -> None:
    heard: list[Any] = []

    def receiver(instance: Any) -> None:
        heard.append(instance)

    with signals.post_create_instance.connected_to(receiver):
        (await client.post("/saves_never", json={"title": "a"})).problem(500)
    assert heard == []


async def test_delete_runs_as_written_and_the_manager_hides(client: Client) -> None:
    key = (await client.post("/marked", json={"title": "a"})).json["id"]
    assert len((await client.get("/marked")).json) == 1
    assert (await client.delete(f"/marked/{key}")).status == 204
    assert Marked._get_collection().count_documents({"deleted": True}) == 1
    assert (await client.get("/marked")).json == []
    (await client.get(f"/marked/{key}")).problem(404)
    (await client.put(f"/marked/{key}", json={"title": "b"})).problem(404)
    (await client.delete(f"/marked/{key}")).problem(404)


async def test_clean_sees_the_whole_document(client: Client) -> None:
    created = (await client.post("/cleaned", json={"low": 1, "high": 5})).json
    assert created["label"] == "1..5"
    refused = await client.put(f"/cleaned/{created['id']}", json={"low": 6})
    assert refused.problem(400)["errors"] == [{"pointer": "", "detail": "low is above high"}]
    assert (await client.put(f"/cleaned/{created['id']}", json={"low": 2})).json["label"] == "2..5"
    (await client.post("/cleaned", json={"low": 6, "high": 5})).problem(400)


async def test_clean_holds_under_concurrency(client: Client) -> None:
    """Each of two updates alone is valid, both together are not: one of them must be refused."""
    for _round in range(20):
        key = (await client.post("/cleaned", json={"low": 0, "high": 10})).json["id"]
        answers = await asyncio.gather(
            client.put(f"/cleaned/{key}", json={"low": 7}), client.put(f"/cleaned/{key}", json={"high": 3})
        )
        assert sorted(each.status for each in answers) == [200, 400]


async def test_inheritance(client: Client) -> None:
    base = (await client.post("/base", json={"name": "b"})).json
    special = (await client.post("/special", json={"name": "s", "extra": 1})).json
    assert (base["_cls"], special["_cls"]) == ("Base", "Base.Special")
    assert len((await client.get("/base")).json) == 2
    assert [each["extra"] for each in (await client.get("/special")).json] == [1]
    (await client.get(f"/special/{base['id']}")).problem(404)
    assert (await client.put(f"/base/{special['id']}", json={"name": "t"})).json["extra"] == 1
    (await client.put(f"/base/{base['id']}", json={"extra": 1})).problem(400)


async def test_sequences_are_unique_under_concurrency(client: Client) -> None:
    answers = await asyncio.gather(*(client.post("/numbered", json={"name": "x"}) for _ in range(30)))
    assert sorted(each.json["number"] for each in answers) == list(range(1, 31))


async def test_deny_is_a_conflict(client: Client) -> None:
    key = (await client.post("/author", json={"name": "a"})).json["id"]
    Denied(author=key).save()
    (await client.delete(f"/author/{key}")).problem(409)
    assert Author.objects.count() == 1
    Denied.objects.delete()
    assert (await client.delete(f"/author/{key}")).status == 204
    (await client.delete(f"/author/{key}")).problem(404)


async def test_cascade(client: Client) -> None:
    heard: list[str] = []

    def receiver(instance: Any) -> None:
        heard.append(instance.name)

    key = (await client.post("/publisher", json={"name": "p"})).json["id"]
    Cascaded(publisher=key).save()
    with signals.post_delete_instance.connected_to(receiver):
        assert (await client.delete(f"/publisher/{key}")).status == 204
    assert Cascaded.objects.count() == 0
    assert heard == ["p"]


async def test_concurrent_deletions_of_a_model_with_rules_delete_once(client: Client) -> None:
    key = (await client.post("/publisher", json={"name": "p"})).json["id"]
    answers = await asyncio.gather(*(client.delete(f"/publisher/{key}") for _ in range(10)))
    assert sorted(each.status for each in answers) == [204] + [404] * 9


async def test_a_queryset_class_filters(client: Client) -> None:
    mine = Tenanted(tenant="a", name="mine").save()
    other = Tenanted(tenant="b", name="other").save()
    assert [each["name"] for each in (await client.get("/tenanted")).json] == ["mine"]
    assert (await client.get(f"/tenanted/{mine.id}")).status == 200
    (await client.delete(f"/tenanted/{other.id}")).problem(404)


async def test_mongoengines_own_signals(client: Client) -> None:
    calls: list[str] = []

    def record(name: str) -> Any:
        def receiver(sender: Any, document: Any, **kwargs: Any) -> None:
            calls.append(f"{name} {document.name} {kwargs.get('created', '')}".strip())
            if name == "pre_save":
                document.name = document.name.title()

        return receiver

    names = ("pre_save", "post_save", "pre_delete", "post_delete")
    receivers = {name: record(name) for name in names}
    for name, receiver in receivers.items():
        getattr(model_signals, name).connect(receiver, sender=Author)
    try:
        author = (await client.post("/author", json={"name": "ana"})).json
        assert author["name"] == "Ana"
        assert (await client.put(f"/author/{author['id']}", json={"name": "bea"})).json["name"] == "Bea"
        assert (await client.delete(f"/author/{author['id']}")).status == 204
    finally:
        for name, receiver in receivers.items():
            getattr(model_signals, name).disconnect(receiver, sender=Author)
    assert calls == [
        "pre_save ana",
        "post_save Ana True",
        "pre_save bea",
        "post_save Bea False",
        "pre_delete Bea",
        "post_delete Bea",
    ]
