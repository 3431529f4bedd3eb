"""Models with properties of every kind that is a resource of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mongoengine as me
from bson import ObjectId

import bzz
from tests.serving import Client, serving


class Address(me.EmbeddedDocument):
    city = me.StringField(required=True, max_length=20)
    zip_code = me.StringField(db_field="z")


class Module(me.EmbeddedDocument):
    name = me.StringField()
    lines = me.IntField(min_value=0)


class Project(me.EmbeddedDocument):
    """Addressed by what its class says."""

    name = me.StringField(required=True)
    stars = me.IntField(default=1, db_field="s")
    module = me.EmbeddedDocumentField(Module)

    @classmethod
    def get_id_field_name(cls) -> Any:
        return cls.name


class Badge(me.EmbeddedDocument):
    """Addressed by a key that it makes up."""

    id = me.ObjectIdField(default=ObjectId, required=True)
    title = me.StringField()


class Note(me.EmbeddedDocument):
    """Addressed by its position only."""

    text = me.StringField()


class User(me.Document):
    name = me.StringField(primary_key=True)
    age = me.IntField(min_value=0)
    address = me.EmbeddedDocumentField(Address)
    friends = me.ListField(me.ReferenceField("self"))


class Team(me.Document):
    code = me.StringField(primary_key=True)
    motto = me.StringField()
    owner = me.ReferenceField(User, db_field="o")
    members = me.ListField(me.ReferenceField(User), db_field="m")
    projects = me.EmbeddedDocumentListField(Project, db_field="p")
    badges = me.ListField(me.EmbeddedDocumentField(Badge))
    notes = me.ListField(me.EmbeddedDocumentField(Note))
    meta = {"strict": False}

    def clean(self) -> None:
        if len(self.projects) > 5:
            raise me.ValidationError("a team has at most 5 projects")


class Box(me.EmbeddedDocument):
    """Known by its position, and not empty."""

    inner = me.EmbeddedDocumentField(Note)
    user = me.ReferenceField(User)


class Shelf(me.Document):
    code = me.StringField(primary_key=True)
    boxes = me.ListField(me.EmbeddedDocumentField(Box))


@asynccontextmanager
async def serving_teams() -> AsyncIterator[Client]:
    """Serve a team with two members, an owner and a project, and what is around it."""
    _store()
    api = bzz.Api()
    api.add(User)
    api.add(Team)
    async with serving(api) as client:
        yield client


def stored(code: str = "t") -> Any:
    """A team as it is stored, or None."""
    return Team._get_collection().find_one({"_id": code})


def _store() -> None:
    User(name="ann", age=30).save()
    User(name="bo", age=40, address=Address(city="Rio")).save()
    User(name="cy").save()
    Team(code="t", owner="ann", members=["ann", "bo"], projects=[Project(name="bzz")]).save()
    Team(code="empty").save()
