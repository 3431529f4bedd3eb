"""The model, and what bzz makes of it."""

from __future__ import annotations

import sys
from typing import Any

import mongoengine as me

import bzz


class Address(me.EmbeddedDocument):
    city = me.StringField(required=True, max_length=80)
    zip = me.StringField()


class User(me.Document):
    name = me.StringField(required=True, max_length=50)
    age = me.IntField(min_value=0, max_value=150)
    email = me.EmailField()
    tags = me.ListField(me.StringField())
    address = me.EmbeddedDocumentField(Address)
    active = me.BooleanField()
    score = me.FloatField()
    since = me.DateTimeField()


heard = [0]


async def changed(instance: User, updated_fields: dict[str, Any]) -> None:
    """Listen to changes, as the receivers of all peers do: count what differs."""
    heard[0] += len(updated_fields)


async def created(instance: User) -> None:
    """Listen to new documents."""
    heard[0] += 1


def main() -> None:
    """Serve ``/user``."""
    port, url, database = sys.argv[1:]
    me.connect(database, host=url, uuidRepresentation="standard")
    api = bzz.Api()
    users = api.add(User)
    users.on_post_create_instance(created)
    users.on_post_update_instance(changed)
    bzz.serve(api, port=int(port), address="127.0.0.1", access_log=None)


if __name__ == "__main__":
    main()
