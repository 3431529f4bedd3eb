"""Fields of numbers: IntField, LongField, FloatField, DecimalField, Decimal128Field, SequenceField."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bson import Decimal128
from mongoengine import fields

from bzz.errors import FieldError
from bzz.model.extended import DECIMAL, INT64
from bzz.model.field import FieldSpec, describes
from bzz.model.refusal import kind_of, refuse, shorten
from bzz.model.storable import check_finite, check_integer, check_storable
from bzz.model.untyped import encode_plain, encode_value

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source

__all__ = ["Decimal128Spec", "DecimalSpec", "FloatSpec", "IntegerSpec", "SequenceSpec"]

_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)


def decode_integer(value: Any, pointer: str) -> int:
    """Read a JSON number without a fraction that fits into 64 bits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refuse(pointer, f"expected an integer, not {kind_of(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise refuse(pointer, "expected an integer, not a fraction")
    if int(value) not in INT64:
        raise refuse(pointer, "the number does not fit into 64 bits")
    return int(value)


def integer_from_text(text: str, pointer: str) -> int:
    """Read decimal digits with an optional sign."""
    if not _INTEGER.fullmatch(text):
        raise refuse(pointer, f"expected an integer, not {shorten(text)!r}")
    return decode_integer(int(text), pointer)


@describes(fields.IntField, fields.LongField)
class IntegerSpec(FieldSpec):
    """An integer of 64 bits. JSON: a number without a fraction."""

    def __init__(self, field: Any, name: str | None = None) -> None:
        super().__init__(field, name)
        if not isinstance(field, fields.LongField):  # which is stored as an Int64
            self.plain = frozenset({int})

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return None

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield int, name

    def decode(self, value: Any, pointer: str) -> Any:
        return decode_integer(value, pointer)

    def from_text(self, text: str, pointer: str) -> Any:
        return integer_from_text(text, pointer)

    def store(self, value: Any) -> Any:
        return self.field.to_mongo(value)

    def load(self, stored: Any) -> Any:
        return int(stored) if isinstance(stored, int) and not isinstance(stored, bool) else stored

    def encode(self, stored: Any) -> Any:
        return encode_value(stored)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_integer(int(value), pointer, errors)


@describes(fields.FloatField)
class FloatSpec(FieldSpec):
    """A double. JSON: a number."""

    plain = frozenset({float})

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return None

    def decode(self, value: Any, pointer: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise refuse(pointer, f"expected a number, not {kind_of(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise refuse(pointer, "the number is not finite")
        return number

    def from_text(self, text: str, pointer: str) -> Any:
        if len(text) > 400 or not DECIMAL.fullmatch(text):
            raise refuse(pointer, f"expected a number, not {shorten(text)!r}")
        return self.decode(float(text), pointer)

    def load(self, stored: Any) -> Any:
        return float(stored) if isinstance(stored, (int, float)) else stored

    def encode(self, stored: Any) -> Any:
        return encode_plain(stored) if isinstance(stored, float) else encode_value(stored)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_finite(float(value), pointer, errors)


@describes(fields.DecimalField)
class DecimalSpec(FieldSpec):
    """A decimal kept as a double, or as a string with ``force_string``. JSON: a string of its digits.

    mongoengine rounds to ``precision`` digits. A value with more digits than a double can hold is refused:
    MongoDB would give back another one.
    """

    def __init__(self, field: Any, name: str | None = None) -> None:
        super().__init__(field, name)
        self.ordered = not field.force_string  # texts compare by their digits: "10" is less than "9"

    def decode(self, value: Any, pointer: str) -> Any:
        number = decode_decimal(value, pointer)
        try:
            typed = self.field.to_python(number)
            if self.field.to_python(self.field.to_mongo(typed)) == typed:
                return typed
        except (ArithmeticError, ValueError):
            pass  # too many digits to be rounded, or too large for a double
        raise refuse(pointer, "the number has more digits than this field can keep")

    def load(self, stored: Any) -> Any:
        return self._read(stored)

    def revive(self, stored: Any) -> Any:
        return self._read(stored)

    def encode(self, stored: Any) -> Any:
        number = self._read(stored)
        return str(number) if isinstance(number, decimal.Decimal) else encode_value(number)

    def _read(self, stored: Any) -> Any:
        try:
            return self.field.to_python(stored)
        except ArithmeticError:  # too large to be rounded: nothing to round then
            return decimal.Decimal(str(stored))

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        try:
            check_storable(self.field.to_mongo(value), pointer, errors)
        except (ArithmeticError, ValueError, TypeError):
            errors.append(FieldError(pointer, "the number has more digits than this field can keep"))


def decode_decimal(value: Any, pointer: str) -> decimal.Decimal:
    """Read the digits of a JSON string, or of a JSON number exactly as they were written."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        text = getattr(value, "text", None) or repr(value)
    else:
        raise refuse(pointer, f"expected a decimal as a string or a number, not {kind_of(value)}")
    if len(text) > 400 or not DECIMAL.fullmatch(text):
        raise refuse(pointer, f"expected a decimal number, not {shorten(text)!r}")
    return decimal.Decimal(text)


@describes(fields.Decimal128Field)
class Decimal128Spec(FieldSpec):
    """A decimal of 34 digits. JSON: a string of its digits; nothing is rounded."""

    def decode(self, value: Any, pointer: str) -> Any:
        number = decode_decimal(value, pointer)
        try:
            return Decimal128(number).to_decimal()
        except ArithmeticError:
            raise refuse(pointer, "the number has more than 34 digits or too large an exponent") from None

    def store(self, value: Any) -> Any:
        return self.field.to_mongo(value)

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield Decimal128, f"{name}.__str__()"

    def load(self, stored: Any) -> Any:
        return stored.to_decimal() if isinstance(stored, Decimal128) else stored

    def revive(self, stored: Any) -> Any:
        return self.load(stored)

    def encode(self, stored: Any) -> Any:
        if isinstance(stored, (Decimal128, decimal.Decimal)):
            return str(stored)
        return encode_value(stored)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        try:
            self.field.to_mongo(value)
        except (ArithmeticError, ValueError, TypeError):
            errors.append(FieldError(pointer, "the number does not fit into 34 digits"))


@describes(fields.SequenceField)
class SequenceSpec(FieldSpec):
    """A counter that mongoengine keeps. JSON: its value, an integer or what ``value_decorator`` makes."""

    @cached_property
    def _numeric(self) -> bool:
        decorate = self.field.value_decorator
        try:
            return decorate is int or isinstance(decorate(1), int)
        except Exception:  # a user's decorator may fail in any way; its values are taken as text then
            return False

    def decode(self, value: Any, pointer: str) -> Any:
        if self._numeric:
            return decode_integer(value, pointer)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise refuse(pointer, f"expected a string or a number, not {kind_of(value)}")
        return float(value) if isinstance(value, float) else value

    def from_text(self, text: str, pointer: str) -> Any:
        return integer_from_text(text, pointer) if self._numeric else text

    def store(self, value: Any) -> Any:
        return value

    def load(self, stored: Any) -> Any:
        return stored

    def revive(self, stored: Any) -> Any:
        return stored

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield int, name
        yield str, name

    def encode(self, stored: Any) -> Any:
        return encode_plain(stored)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        check_storable(value, pointer, errors)
