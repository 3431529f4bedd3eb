"""A server that grows: ``python -m bench.growing PORT URL DATABASE``, with FIELDS or RECEIVERS set."""

from __future__ import annotations

import os
import sys
from typing import Any

import mongoengine as me

import bzz
from bench.peers.bzz.server import User


def receiver(number: int) -> Any:
    """One receiver of many, each a function of its own."""

    async def changed(instance: Any, updated_fields: dict[str, Any]) -> None: ...

    return changed


def wide(count: int) -> Any:
    """A model with so many fields."""
    fields = {f"field{number}": me.StringField(max_length=50) for number in range(count)}
    return type("User", (me.Document,), fields)


def main() -> None:
    """Serve ``/user``: the documents of the comparison, or ones with so many text fields."""
    port, url, database = sys.argv[1:]
    me.connect(database, host=url, uuidRepresentation="standard")
    api = bzz.Api()
    count = os.environ.get("FIELDS")
    users = api.add(wide(int(count)) if count else User)
    for number in range(int(os.environ.get("RECEIVERS", "1"))):
        users.on_post_update_instance(receiver(number))
    bzz.serve(api, port=int(port), address="127.0.0.1", access_log=None)


if __name__ == "__main__":
    main()
