"""Eve, on gunicorn with one process and 40 threads."""

from __future__ import annotations

import sys
from typing import Any

from eve import Eve
from gunicorn.app.base import BaseApplication

THREADS = 40

port, url, database = sys.argv[1:]
heard = [0]

SCHEMA = {
    "name": {"type": "string", "required": True, "maxlength": 50},
    "age": {"type": "integer", "min": 0, "max": 150},
    "email": {"type": "string", "regex": r"[^@\s]+@[^@\s]+\.[^@\s]+"},
    "tags": {"type": "list", "schema": {"type": "string"}},
    "address": {
        "type": "dict",
        "schema": {
            "city": {"type": "string", "required": True, "maxlength": 80},
            "zip": {"type": "string"},
        },
    },
    "active": {"type": "boolean"},
    "score": {"type": "float"},
    "since": {"type": "datetime"},
}

SETTINGS = {
    "MONGO_URI": url.replace("/?", f"/{database}?"),
    "MONGO_WRITE_CONCERN": {"w": "majority"},
    "DOMAIN": {
        "user": {
            "schema": SCHEMA,
            "datasource": {"source": "user", "default_sort": [("_id", 1)]},
            "mongo_write_concern": {"w": "majority"},
        }
    },
    "RESOURCE_METHODS": ["GET", "POST"],
    "ITEM_METHODS": ["GET", "PATCH", "DELETE"],
    "RENDERERS": ["eve.render.JSONRenderer"],
    "DATE_FORMAT": "%Y-%m-%dT%H:%M:%SZ",
    "QUERY_MAX_RESULTS": "per_page",
    "PAGINATION_LIMIT": 100,
    "OPTIMIZE_PAGINATION_FOR_SPEED": True,
    # What the others do not do either, and what would cost Eve time.
    "HATEOAS": False,
    "IF_MATCH": False,
    "BULK_ENABLED": False,
    # Answers with the whole document, as the others do.
    "BANDWIDTH_SAVER": False,
}


def changed(updates: dict[str, Any], original: dict[str, Any]) -> None:
    """Listen to changes: work out what differs, an address by its parts, and count it."""
    found = {}
    for name in updates.keys() & SCHEMA.keys():
        old, new = original.get(name), updates[name]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old.keys() | new.keys():
                if old.get(key) != new.get(key):
                    found[f"{name}.{key}"] = {"from": old.get(key), "to": new.get(key)}
        else:
            found[name] = {"from": old, "to": new}
    heard[0] += len(found)


def created(items: list[dict[str, Any]]) -> None:
    """Listen to new documents."""
    heard[0] += len(items)


class Server(BaseApplication):
    """gunicorn, told by a program what its command line would tell it."""

    def load_config(self) -> None:
        options = {
            "bind": f"127.0.0.1:{port}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": THREADS,
            "worker_connections": 2000,
            "keepalive": 75,
            "loglevel": "warning",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Eve:
        # In the worker, after the fork, so that PyMongo's client belongs to it.
        app = Eve(settings=SETTINGS)
        app.on_updated_user += changed
        app.on_inserted_user += created
        return app


if __name__ == "__main__":
    Server().run()
