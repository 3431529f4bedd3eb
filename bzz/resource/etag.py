"""Entity tags: which state of a document somebody means (RFC 9110, 8.8.3 and 13.1).

A tag has two parts, ``"<state>.<form>"``. The state is a hash of the document as MongoDB keeps it: nothing is
stored for it, and who writes past bzz changes it as well. The form says how that state is shown: it changes
when the fields of the model do, or what ``to_dict()`` makes of the document. A cache needs both to be the
same; a write only asks for the state, so a new release of an application does not make every client's tag
stale.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

from bzz.model import Schema

__all__ = ["etag_of", "form_of", "form_of_parts", "is_if_match", "matches", "matches_weakly"]

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# RFC 9110, 5.6.1: a recipient accepts empty elements of a list.
_TAGS = re.compile(rf"\*|[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")


def etag_of(stored: Mapping[str, Any], form: str = "", *, key: bytes = b"") -> str:
    """Return the strong tag of a document, quotes included.

    The hash is one of the BSON as it is, without sorting anything: a third of the cost. The order of fields
    counts, therefore, but for ``_id``, which MongoDB keeps in front. With a ``key`` nobody can find out what
    is in a document by trying.

    >>> etag_of({"_id": 1, "name": "Ann"}) == etag_of({"name": "Ann", "_id": 1})
    True
    >>> etag_of({"_id": 1, "name": "Ann"}) == etag_of({"_id": 1, "name": "Bo"})
    False
    """
    if "_id" in stored and next(iter(stored)) != "_id":
        stored = {"_id": stored["_id"], **stored}
    digest = hashlib.blake2b(bson.encode(stored, codec_options=_OPTIONS), digest_size=16, key=key).hexdigest()
    return f'"{digest}.{form}"' if form else f'"{digest}"'


def form_of(schema: Schema, body: bytes = b"") -> str:
    """Return the part of a tag that says how documents of this class are shown.

    With a ``to_dict()``, only the bytes of the answer say that; ``""`` as long as there are none.
    """
    if "to_dict" not in schema.overrides:
        return _shape(schema)
    return hashlib.blake2b(body, digest_size=4).hexdigest() if body else ""


def form_of_parts(body: bytes) -> str:
    """Return the part of a tag that says what is shown: some fields, or also what the document refers to.

    What it refers to has states of its own, so it takes all that is shown to tell.
    """
    return hashlib.blake2b(body, digest_size=8).hexdigest()


@functools.cache
def _shape(schema: Schema) -> str:
    classes = [
        (
            each.class_name,
            each.polymorphic,
            [(spec.name, type(spec).__name__) for spec in each.fields.values()],
        )
        for each in schema.reachable()
    ]
    return hashlib.blake2b(repr(classes).encode(), digest_size=4).hexdigest()


def is_if_match(text: str) -> bool:
    """Tell whether a text is the value of ``If-Match`` or ``If-None-Match``: ``*``, or tags with commas."""
    return _TAGS.fullmatch(text.strip(" \t")) is not None


def matches(tags: str, stored: Mapping[str, Any], *, weak: bool = False, key: bytes = b"") -> bool:
    """Tell whether a document is in a state that one of the tags names.

    The form of a tag does not count. A weak tag names a state only if ``weak``.

    >>> matches("*", {"_id": 1}), matches('"abc", "def"', {"_id": 1})
    (True, False)
    """
    if tags.strip(" \t") == "*":
        return True
    state = etag_of(stored, key=key)[1:-1]
    named = re.findall(_TAG, tags)
    return any(
        tag.removeprefix("W/")[1:-1].partition(".")[0] == state
        for tag in named
        if weak or not tag.startswith("W/")
    )


def matches_weakly(tags: str, etag: str) -> bool:
    """Tell whether ``If-None-Match`` names this tag: weak or strong makes no difference.

    >>> matches_weakly('"a", W/"b"', '"b"'), matches_weakly("*", '"b"')
    (True, True)
    """
    return tags.strip(" \t") == "*" or etag in (tag.removeprefix("W/") for tag in re.findall(_TAG, tags))
