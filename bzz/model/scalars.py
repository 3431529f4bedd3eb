"""Fields of one plain value: text, truth, bytes, identifiers, enumerations, files."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from mongoengine import fields
from mongoengine.base import ObjectIdField

from bzz.errors import FieldError
from bzz.model.extended import UUID_TEXT
from bzz.model.field import FieldSpec, describes
from bzz.model.refusal import kind_of, refuse, shorten
from bzz.model.storable import check_storable, check_text
from bzz.model.untyped import encode_plain, encode_value

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source

__all__ = ["BinarySpec", "BooleanSpec", "EnumSpec", "FileSpec", "ObjectIdSpec", "StringSpec", "UUIDSpec"]


@describes(fields.StringField, fields.URLField, fields.EmailField)
class StringSpec(FieldSpec):
    """Text. JSON: a string."""

    textual = True
    plain = frozenset({str})

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return None

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield str, name

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, str):
            raise refuse(pointer, f"expected a string, not {kind_of(value)}")
        return value

    def store(self, value: Any) -> Any:
        return self.field.to_mongo(value)

    def encode(self, stored: Any) -> Any:
        return encode_value(stored)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_text(value, pointer, errors)


@describes(fields.BooleanField)
class BooleanSpec(FieldSpec):
    """Truth. JSON: ``true`` or ``false``; text also ``1`` and ``0``."""

    ordered = False
    plain = frozenset({bool})

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return None

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, bool):
            raise refuse(pointer, f"expected true or false, not {kind_of(value)}")
        return value

    def from_text(self, text: str, pointer: str) -> Any:
        if text not in ("true", "false", "1", "0"):
            raise refuse(pointer, f"expected true, false, 1 or 0, not {shorten(text)!r}")
        return text in ("true", "1")

    def load(self, stored: Any) -> Any:
        return stored

    def encode(self, stored: Any) -> Any:
        return encode_value(stored)


# Half the time of ``str()``, and the same; as long as the driver keeps the bytes under this name.
HEX = "{}._ObjectId__id.hex()" if hasattr(ObjectId, "_ObjectId__id") else "{}.__str__()"


@describes(fields.ObjectIdField, ObjectIdField)
class ObjectIdSpec(FieldSpec):
    """An ObjectId. JSON: its 24 hexadecimal digits."""

    plain = frozenset({ObjectId})

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield ObjectId, HEX.format(name)

    def decode(self, value: Any, pointer: str) -> Any:
        return decode_object_id(value, pointer)

    def store(self, value: Any) -> Any:
        return self.field.to_mongo(value)

    def encode(self, stored: Any) -> Any:
        return str(stored) if isinstance(stored, ObjectId) else encode_value(stored)


def decode_object_id(value: Any, pointer: str) -> ObjectId:
    """Read 24 hexadecimal digits."""
    if not isinstance(value, str) or len(value) != 24 or not ObjectId.is_valid(value):
        raise refuse(pointer, "expected an ObjectId: 24 hexadecimal digits")
    return ObjectId(value)


@describes(fields.UUIDField)
class UUIDSpec(FieldSpec):
    """A UUID, kept as BSON binary or as a string. JSON: a string with hyphens."""

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield uuid.UUID, f"{name}.__str__()"

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, str) or not UUID_TEXT.fullmatch(value):
            raise refuse(pointer, "expected a UUID: 32 hexadecimal digits in five groups")
        return uuid.UUID(value)

    def load(self, stored: Any) -> Any:
        return self._read(stored)

    def revive(self, stored: Any) -> Any:
        return self._read(stored)

    def encode(self, stored: Any) -> Any:
        value = self._read(stored)
        return str(value) if isinstance(value, uuid.UUID) else encode_value(value)

    def _read(self, stored: Any) -> Any:
        if isinstance(stored, uuid.UUID):
            return stored
        if isinstance(stored, str):
            return uuid.UUID(stored) if UUID_TEXT.fullmatch(stored) else stored
        # A Binary comes from a connection without a UUID representation.
        return uuid.UUID(bytes=bytes(stored)) if isinstance(stored, bytes) and len(stored) == 16 else stored


@describes(fields.BinaryField)
class BinarySpec(FieldSpec):
    """Bytes. JSON: a string in base64 with its padding (RFC 4648, section 4)."""

    ordered = False

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, str):
            raise refuse(pointer, f"expected a base64 string, not {kind_of(value)}")
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise refuse(pointer, "expected a base64 string") from None

    def load(self, stored: Any) -> Any:
        return bytes(stored) if isinstance(stored, bytes) else stored

    def revive(self, stored: Any) -> Any:
        return stored

    def encode(self, stored: Any) -> Any:
        return base64.b64encode(stored).decode() if isinstance(stored, bytes) else encode_value(stored)


@describes(fields.EnumField)
class EnumSpec(FieldSpec):
    """A member of an Enum. JSON: its value."""

    ordered = False

    @cached_property
    def _members(self) -> dict[tuple[str, str], Any]:
        members = {}
        for member in self.field._enum_cls:
            value = encode_plain(member.value)
            members[type(value).__name__, str(value)] = member
        return members

    @cached_property
    def _texts(self) -> dict[str, Any]:
        texts = {str(encode_plain(member.value)): member for member in self.field._enum_cls}
        texts.update({text.lower(): texts[text] for text in ("True", "False") if text in texts})
        return texts

    def decode(self, value: Any, pointer: str) -> Any:
        if isinstance(value, (str, int, float)):
            value = float(value) if isinstance(value, float) else value
            member = self._members.get((type(value).__name__, str(value)))
            if member is not None:
                return member
        raise refuse(pointer, f"expected one of {self._choices()}")

    def from_text(self, text: str, pointer: str) -> Any:
        member = self._texts.get(text)
        if member is None:
            raise refuse(pointer, f"expected one of {self._choices()}")
        return member

    def decode_text(self, texts: Any, pointer: str) -> Any:
        if list(texts) == [""] and "" in self._texts:
            return self._texts[""]
        return super().decode_text(texts, pointer)

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield str, name

    def encode(self, stored: Any) -> Any:
        return encode_plain(getattr(stored, "value", stored))

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_storable(self.field.to_mongo(value), pointer, errors)

    def _choices(self) -> str:
        shown = [repr(encode_plain(member.value)) for member in list(self.field._enum_cls)[:20]]
        return ", ".join(shown)


@describes(fields.FileField, fields.ImageField)
class FileSpec(FieldSpec):
    """A file in GridFS. JSON: the hexadecimal id of the file; its bytes do not travel here.

    A proxy reads from the network when asked for anything it does not have: only ``grid_id`` is touched.
    """

    ordered = False

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield ObjectId, HEX.format(name)

    def decode(self, value: Any, pointer: str) -> Any:
        return self.field.to_python(decode_object_id(value, pointer))

    def store(self, value: Any) -> Any:
        return value.grid_id if isinstance(value, fields.GridFSProxy) else None

    def load(self, stored: Any) -> Any:
        return stored

    def encode(self, stored: Any) -> Any:
        return str(stored) if isinstance(stored, ObjectId) else encode_value(stored)
