"""A server to be killed: it notes in a file, line by line, what it told of.

``python -m tests.batch_server MONGO_URL DATABASE NOTES`` prints the port that it serves on.
"""

from __future__ import annotations

import asyncio
import os
import sys

import mongoengine

import bzz
from tests.own_process import serve_noting


class Widget(mongoengine.Document):
    key = mongoengine.StringField(primary_key=True)
    run = mongoengine.StringField()
    number = mongoengine.IntField(default=0)


def make_api(notes: int) -> bzz.Api:
    """An Api with widgets; ``notes`` is a file descriptor, written to without any buffer."""
    api = bzz.Api()
    widgets = api.add(Widget, bulk={"PATCH", "DELETE"})

    @widgets.on_post_create_instance
    @widgets.on_post_update_instance
    def note(instance: Widget) -> None:
        os.write(notes, f"{instance.run}\n".encode())

    @api.on_success
    def note_success(operation: bzz.resource.Operation) -> None:
        os.write(notes, f"{operation.data['run']}\n".encode())

    return api


if __name__ == "__main__":
    asyncio.run(serve_noting(make_api, *sys.argv[1:]))
