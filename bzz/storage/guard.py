"""The guard of a write that was prepared from what was read before."""

from __future__ import annotations

from typing import Any

__all__ = ["exactly"]


def exactly(stored: dict[str, Any]) -> dict[str, Any]:
    """A filter that matches only while the whole document is still what was read.

    Fields added, removed, renamed or moved to another place count as a change, at any depth; so does null in
    place of a missing field. Keys that start with ``$`` or hold dots are nothing special. The limits are
    those of MongoDB's own comparison: numbers of different types are equal when their values are (1, 1.0 and
    Decimal128 "1.00"), and in a collection with a default collation texts are compared by it. A guarded
    write must therefore take what it replaced from its own before-image, never from ``stored``. It does not
    work with ``upsert``.

    Source: https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
    """
    key = stored["_id"]
    # MongoDB keeps the key in front, wherever it stood when the document was inserted.
    return {"_id": key, "$expr": {"$eq": ["$$ROOT", {"$literal": {"_id": key, **stored}}]}}
