"""Entity tags: which state of a document somebody means (RFC 9110, 8.8.3 and 13.1.1).

A tag is a hash of the document as MongoDB keeps it. Nothing is stored for it, and who writes past bzz changes
the tag as well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

__all__ = ["etag_of", "is_if_match", "matches"]

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_IF_MATCH = re.compile(rf"\*|{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")


def etag_of(stored: Mapping[str, Any]) -> str:
    """Return the strong tag of a document, quotes included.

    The order of fields does not count, at any depth: bzz sees no change in it, and MongoDB chooses a new
    field's place by itself.

    >>> etag_of({"_id": 1, "name": "Ann"}) == etag_of({"name": "Ann", "_id": 1})
    True
    >>> etag_of({"_id": 1, "name": "Ann"}) == etag_of({"_id": 1, "name": "Bo"})
    False
    """
    digest = hashlib.blake2b(bson.encode(_ordered(stored), codec_options=_OPTIONS), digest_size=16)
    return f'"{digest.hexdigest()}"'


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_ordered(each) for each in value]
    return value


def is_if_match(text: str) -> bool:
    """Tell whether a text is the value of an ``If-Match`` header: ``*``, or tags separated by commas."""
    return _IF_MATCH.fullmatch(text.strip(" \t")) is not None


def matches(if_match: str, stored: Mapping[str, Any]) -> bool:
    """Tell whether a document is in a state that ``If-Match`` names; a weak tag names none.

    >>> matches("*", {"_id": 1}), matches('"abc", "def"', {"_id": 1})
    (True, False)
    """
    if if_match.strip(" \t") == "*":
        return True
    current = etag_of(stored)
    return any(tag == current for tag in re.findall(_TAG, if_match))
