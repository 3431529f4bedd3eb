"""Cursors: the text that says where a page begins, so that nobody can make one up.

A cursor is a keyset, the values that the last document of a page is sorted by, as BSON, and a signature over
it and over the query that it belongs to. It is signed, not encrypted: who holds it can read those values,
which they were shown already, unless the fields are hidden from them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion

from bzz.errors import QueryError
from bzz.model.query.sorting import SortKey, beyond, position_of, reverse

__all__ = ["Keyset", "Walk", "bind", "read_cursor", "write_cursor"]

MAX_LENGTH = 4096
MAC_BYTES = 16

# Dates that Python cannot hold come back as the driver's own type.
_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


class Keyset(NamedTuple):
    """A position in a sorted list, and which way the page lies from it."""

    values: Sequence[Any]
    backwards: bool


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A walk through a sorted list: its order, where this page begins, and what signs the next cursor.

    ``start`` is None on the first page.
    """

    keys: Sequence[SortKey]
    start: Keyset | None
    binding: bytes
    secret: bytes

    @property
    def backwards(self) -> bool:
        """Whether this page is read in the opposite order."""
        return self.start is not None and self.start.backwards

    @property
    def order(self) -> Sequence[SortKey]:
        """The order in which this page is read."""
        return reverse(self.keys) if self.backwards else self.keys

    @property
    def positions(self) -> list[dict[str, Any]]:
        """The filters of what lies beyond the start, to be read one after another."""
        return [{}] if self.start is None else beyond(self.order, self.start.values)

    def cursor(self, stored: Mapping[str, Any], *, backwards: bool) -> str:
        """Return the cursor of the page after this document, or of the one before it."""
        return write_cursor(self.secret, self.binding, Keyset(position_of(self.keys, stored), backwards))


def bind(collection: str, filter_: Sequence[tuple[str, Any]], sort: Sequence[tuple[str, int]]) -> bytes:
    """Return what makes a query the same: its collection, conditions in any order, and its sort order."""
    conditions = sorted(bson.encode({path: condition}, codec_options=_OPTIONS) for path, condition in filter_)
    return bson.encode({"in": collection, "by": [list(key) for key in sort], "where": conditions})


def write_cursor(secret: bytes, query: bytes, keyset: Keyset) -> str:
    """Return the text of a cursor; raises QueryError for values that are too long to travel."""
    payload = bson.encode({"v": list(keyset.values), "b": keyset.backwards}, codec_options=_OPTIONS)
    text = base64.urlsafe_b64encode(_sign(secret, query, payload) + payload).rstrip(b"=").decode()
    if len(text) > MAX_LENGTH:
        raise QueryError("sort", "A document has a value where this sorts that is too long for a cursor.")
    return text


def read_cursor(secret: bytes, query: bytes, text: str) -> Keyset:
    """Return the keyset of a cursor that was made here for this query; raises QueryError."""
    raw = _raw(text)
    mac, payload = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if not hmac.compare_digest(mac, _sign(secret, query, payload)):
        raise QueryError("cursor", "This is no cursor of this query: begin again with an empty one.")
    found = bson.decode(payload, codec_options=_OPTIONS)
    return Keyset(found["v"], found["b"])


def _raw(text: str) -> bytes:
    if len(text) > MAX_LENGTH:
        return b""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:  # not ASCII, or not base64
        return b""


def _sign(secret: bytes, query: bytes, payload: bytes) -> bytes:
    message = len(query).to_bytes(4, "big") + query + payload
    return hmac.new(secret, message, hashlib.sha256).digest()[:MAC_BYTES]
