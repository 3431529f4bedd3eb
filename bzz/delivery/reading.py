"""Read documents again in a worker, in mongoengine's blocking way: there is no event loop to hold up."""

from __future__ import annotations

from typing import Any

from pymongo.errors import AutoReconnect

from bzz.errors import DeliveryError
from bzz.model import Stored

__all__ = ["UnreadableError", "read_stored"]

#: How many keys one query asks for; each may be a whole embedded document.
_AT_ONCE = 500


class UnreadableError(DeliveryError):
    """The documents of a message could not be read; nothing else has happened, so it can be tried again."""


def read_stored(model: Any, keys: list[Any]) -> list[Stored | None]:
    """Return the stored documents with these primary keys, in order; None for those that are gone.

    The connection is the one of the model's alias, made by mongoengine when first used. Raises
    UnreadableError when MongoDB is out of reach, and anything else that PyMongo raises.
    """
    try:
        return _read(model, keys)
    except AutoReconnect as error:
        raise UnreadableError(f"MongoDB is out of reach: {type(error).__name__}") from error


def _read(model: Any, keys: list[Any]) -> list[Stored | None]:
    collection = model._get_db()[model._get_collection_name()]
    found: list[tuple[Any, Stored]] = []
    for start in range(0, len(keys), _AT_ONCE):
        cursor = collection.find({"_id": {"$in": keys[start : start + _AT_ONCE]}})
        found.extend((stored["_id"], stored) for stored in cursor)
    # A key may be a dict, which cannot be looked up; one key is the usual case.
    return [next((stored for key, stored in found if key == wanted), None) for wanted in keys]
