"""What a signal says, as one JSON text, and back: types survive, and user data is never taken for ours.

A value that JSON has is itself. Every other is an object with the one key ``"~"`` and ``[tag, …]`` as its
value; a dict of the user's that has such a key travels as the tag ``dict`` with its items, so nothing that a
user sends can look like a tag. The text travels as a single string, so a serializer underneath never sees
into it either.

A document travels as its model and key and is read again on arrival. Nothing is ever imported on arrival:
classes are found among the models that are known and the modules that are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from bson import DBRef
from bson.errors import BSONError
from mongoengine.base import BaseDocument

from bzz.delivery.summaries import ExceptionSummary, Gone, RequestSummary
from bzz.delivery.tags import (
    SCALARS,
    SIMPLE,
    TAG,
    class_name_of,
    is_handler,
    is_model,
    known_class,
    known_model,
    model_name,
    tagged,
)
from bzz.errors import PayloadError, UnsendableError
from bzz.model import Schema, Stored, from_stored, to_stored

__all__ = ["MAX_DEPTH", "MAX_SIZE", "Message", "dumps", "loads"]

#: How many containers may stand within each other.
MAX_DEPTH = 64
#: How many bytes the JSON text of one signal may have.
MAX_SIZE = 8 * 1024 * 1024

_SUMMARIES = {each.__name__: each for each in (ExceptionSummary, RequestSummary)}

_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

Read = Callable[[Any, list[Any]], list[Stored | None]]


class Message(NamedTuple):
    """What one signal says: who sent it, and its payload."""

    sender: Any
    payload: dict[str, Any]


def dumps(message: Message, *, whole: bool = False) -> str:
    """Return the JSON text (ASCII) of a message.

    Documents must be stored already. With ``whole`` they travel as they are now, for those that can never be
    read again. Raises UnsendableError, with the place of what cannot travel: ``order.items[2]``.
    """
    writer = _Writer(whole)
    tree = {
        "sender": writer.sender(message.sender),
        "payload": {key: writer.value(value, key, 1) for key, value in message.payload.items()},
    }
    try:
        text = json.dumps(tree, allow_nan=False, separators=(",", ":"))
    except ValueError as error:  # an int with more digits than Python turns into text
        raise UnsendableError(str(error)) from None
    if len(text) > MAX_SIZE:
        raise UnsendableError(f"it is {len(text)} bytes as JSON, and at most {MAX_SIZE} can be sent")
    return text


class _Writer:
    """Turns values into what JSON can hold."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def sender(self, sender: Any) -> Any:
        """Write a sender: any value, a class of any kind, or an object with a name, which goes by it."""
        name = getattr(sender, "name", None)
        if isinstance(sender, type) and not is_model(sender):
            return tagged("class", class_name_of(sender, "sender"))
        if isinstance(name, str) and not isinstance(sender, type | BaseDocument | Enum):
            return name
        return self.value(sender, "sender", 1)

    def value(self, value: Any, place: str, depth: int) -> Any:  # noqa: PLR0911 - one return for each kind
        """Write any value; ``place`` is where it stands."""
        kind = type(value)
        if value is None or kind is bool or kind is str or kind is int:
            return value
        if kind in SCALARS:
            return SCALARS[kind](value)
        if depth > MAX_DEPTH:
            raise UnsendableError(f"more than {MAX_DEPTH} levels, or a circle", place[:200])
        if isinstance(value, dict):
            return self.mapping(value, place, depth)
        if isinstance(value, tuple):
            return tagged("tuple", self.items(value, place, depth))
        if isinstance(value, list):
            return self.items(value, place, depth)
        if isinstance(value, set | frozenset):
            kind = frozenset if isinstance(value, frozenset) else set
            return tagged(kind.__name__, self.items(value, place, depth))
        if isinstance(value, Enum):
            return tagged("enum", class_name_of(kind, place), self.value(value.value, place, depth + 1))
        if isinstance(value, BaseDocument):
            return self.document(value, place, depth)
        if is_model(value):
            return tagged("model", model_name(value, place))
        if isinstance(value, Gone):
            return tagged("gone", model_name(value.model, place), self.value(value.key, place, depth))
        return self.other(value, place, depth)

    def items(self, items: Any, place: str, depth: int) -> list[Any]:
        return [self.value(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(items)]

    def mapping(self, value: dict[Any, Any], place: str, depth: int) -> Any:
        written: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise UnsendableError(f"a key of a dict must be a text, not {key!r:.60}", place)
            below = f"{place}.{key}" if key.isidentifier() else f"{place}[{key[:60]!r}]"
            written[str(key)] = self.value(item, below, depth + 1)
        if TAG in written:
            return tagged("dict", [[key, item] for key, item in written.items()])
        return written

    def document(self, value: Any, place: str, depth: int) -> Any:
        name = model_name(type(value), place)
        schema = Schema.of(type(value))
        if self.whole or schema.primary is None:
            return tagged("whole", name, self.mapping(to_stored(value), place, depth))
        # Reading .pk could read a referenced document from the network.
        key = value._data.get(schema.primary.name)
        if key is None or value._created:
            raise UnsendableError(f"this {name} is not stored, so nobody else could read it", place)
        return tagged("document", name, self.value(schema.primary.store(key), place, depth + 1))

    def other(self, value: Any, place: str, depth: int) -> Any:
        """Write what travels as a summary, or as the plain value that it is a special kind of."""
        if isinstance(value, BaseException):
            value = ExceptionSummary.of(value)
        elif is_handler(value):
            value = RequestSummary.of(value)
        if isinstance(value, ExceptionSummary | RequestSummary):
            fields = {name: getattr(value, name) for name in value.__slots__}
            if "user" in fields:
                fields["user"] = self.user(fields["user"], place, depth)
            return tagged(type(value).__name__, fields)
        for kind, write in SCALARS.items():
            if isinstance(value, kind) and not isinstance(value, DBRef):
                return write(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(value)
        raise UnsendableError(f"{type(value).__module__}.{type(value).__qualname__} cannot be sent", place)

    def user(self, user: Any, place: str, depth: int) -> Any:
        try:
            return self.value(user, place, depth + 1)
        except UnsendableError:
            return None


def loads(text: str, read: Read) -> Message:
    """Return the message of a JSON text.

    ``read(model, keys)`` gives the stored documents with these primary keys, in order, None for those that
    are gone; it is called once for each model. Raises PayloadError for what :func:`dumps` has not written
    here or in a program with the same models, and whatever ``read`` raises.
    """
    try:
        tree = json.loads(text)
        documents = _read_all(tree, read)
        reader = _Reader(documents)
        payload = {key: reader.value(value) for key, value in tree["payload"].items()}
        return Message(reader.value(tree["sender"]), payload)
    except PayloadError:
        raise
    except (*_MALFORMED, BSONError) as error:
        raise PayloadError(f"this is not the text of a signal: {error!r:.200}") from error


def _read_all(tree: Any, read: Read) -> dict[tuple[str, str], Any]:
    """Read every document that the tree speaks of, each once."""
    wanted: dict[str, dict[str, Any]] = {}
    for name, key in _documents(tree):
        wanted.setdefault(name, {})[_canonical(key)] = key
    found: dict[tuple[str, str], Any] = {}
    plain = _Reader({})
    for name, texts in wanted.items():
        model = known_model(name)
        keys = [plain.value(key) for key in texts.values()]
        for each, key, stored in zip(texts, keys, read(model, keys), strict=True):
            found[name, each] = Gone(model, key) if stored is None else from_stored(Schema.of(model), stored)
    return found


def _documents(tree: Any) -> Iterator[tuple[str, Any]]:
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, dict):
            tagged = each.get(TAG)
            if tagged and tagged[0] == "document":
                yield tagged[1], tagged[2]
            else:
                waiting.extend(each.values())


def _canonical(key: Any) -> str:
    return json.dumps(key, separators=(",", ":"))


class _Reader:
    """Turns what :class:`_Writer` wrote into the values again."""

    def __init__(self, documents: Mapping[tuple[str, str], Any]) -> None:
        self.documents = documents

    def value(self, raw: Any) -> Any:
        if isinstance(raw, list):
            return [self.value(each) for each in raw]
        if not isinstance(raw, dict):
            return raw
        if TAG not in raw:
            return {key: self.value(each) for key, each in raw.items()}
        tag, *values = raw[TAG]
        if tag in SIMPLE:
            return SIMPLE[tag](*values)
        if tag in _SUMMARIES:
            return _SUMMARIES[tag](**self.value(values[0]))
        return getattr(self, f"_{tag}")(*values) if tag in _NESTED else _unknown(tag)

    def _dict(self, items: list[Any]) -> dict[str, Any]:
        return {key: self.value(each) for key, each in items}

    def _tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self.value(each) for each in items)

    def _set(self, items: list[Any]) -> set[Any]:
        return {self.value(each) for each in items}

    def _frozenset(self, items: list[Any]) -> frozenset[Any]:
        return frozenset(self._set(items))

    def _enum(self, name: str, value: Any) -> Any:
        return known_class(name, Enum)(self.value(value))

    def _document(self, name: str, key: Any) -> Any:
        return self.documents[name, _canonical(key)]

    def _whole(self, name: str, stored: Any) -> Any:
        return from_stored(Schema.of(known_model(name)), self.value(stored))

    def _gone(self, name: str, key: Any) -> Gone:
        return Gone(known_model(name), self.value(key))


def _unknown(tag: Any) -> Any:
    raise PayloadError(f"there is no tag {tag!r:.60}: was it sent by a newer bzz?")


_NESTED = frozenset({"dict", "document", "enum", "frozenset", "gone", "set", "tuple", "whole"})
