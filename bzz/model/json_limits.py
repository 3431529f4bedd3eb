"""What a field asks of its values, in the keywords of JSON Schema: length, range, pattern, choices."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from mongoengine import fields

from bzz.errors import ValidationError
from bzz.model.containers import ListSpec, MapSpec
from bzz.model.field import FieldSpec
from bzz.model.numeric import Decimal128Spec, DecimalSpec, FloatSpec, IntegerSpec
from bzz.model.scalars import BinarySpec, BooleanSpec, StringSpec

__all__ = ["choices_of", "constant_default", "constrained", "portable"]

Json = dict[str, Any]

# Python's groups and anchors that ECMA-262 writes otherwise or lacks, and escapes that its u flag refuses.
_FOREIGN = re.compile(r"\(\?(?![:=!])|(?<=[*+?}])\+|\{,|\\(?![\\dDwWsSbBtnrfv0^$.*+?()\[\]{}|/-])")
_DOUBLED = re.compile(r"\\\\")


def portable(pattern: re.Pattern[str] | None) -> str | None:
    """Return a compiled regular expression as one for JSON Schema, None if it cannot be told as one.

    mongoengine looks at the beginning of a text only, JSON Schema anywhere in it.

    >>> portable(re.compile("[A-Z]{2}$"))
    '^(?:[A-Z]{2}$)'
    """
    if pattern is None or pattern.flags & ~re.UNICODE:
        return None
    if _FOREIGN.search(_DOUBLED.sub("", pattern.pattern)):
        return None
    return f"^(?:{pattern.pattern})"


def constrained(spec: FieldSpec, side: Literal["output", "input", "text"], shown: Json) -> Json:
    """Return the schema of a field's form with the field's own limits in it."""
    field = spec.field
    result = dict(shown)
    if isinstance(spec, StringSpec):
        _limit(result, minLength=field.min_length, maxLength=field.max_length)
        result.update(_text(field))
    elif isinstance(spec, (IntegerSpec, FloatSpec, DecimalSpec, Decimal128Spec)):
        exact = isinstance(spec, (IntegerSpec, FloatSpec))
        # Of a decimal, only what was sent as a number is compared.
        if exact or side == "input":
            limits = {"minimum": field.min_value, "maximum": field.max_value}
            _limit(result, **{name: _number(each) for name, each in limits.items()})
    elif isinstance(spec, BinarySpec) and field.max_bytes is not None:
        _limit(result, maxLength=(field.max_bytes + 2) // 3 * 4)
    elif isinstance(spec, ListSpec):
        _limit(result, maxItems=field.max_length, minItems=1 if field.required else None)
    elif isinstance(spec, MapSpec) and field.required:
        _limit(result, minProperties=1)
    return _chosen(spec, side, result)


def _limit(result: Json, **limits: Any) -> None:
    result.update({name: each for name, each in limits.items() if each is not None})


def _number(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float)) else float(value)


def _text(field: Any) -> Json:
    if isinstance(field, fields.EmailField):
        return {"format": "idn-email" if field.allow_utf8_user else "email"}
    if isinstance(field, fields.URLField):
        schemes = "|".join(re.escape(each) for each in field.schemes)
        return {
            "format": "uri",
            "pattern": f"^({schemes})://",
            "examples": [f"{field.schemes[0]}://a.example"],
        }
    pattern = portable(field.regex)
    return {} if pattern is None else {"pattern": pattern}


def choices_of(spec: FieldSpec) -> list[Any]:
    """Return the values that a field may have, without their labels; empty if it may have any."""
    values = list(spec.field.choices or ())
    paired = bool(values) and isinstance(values[0], (list, tuple))
    return [each[0] for each in values] if paired else values


def _chosen(spec: FieldSpec, side: str, shown: Json) -> Json:
    if isinstance(spec, ListSpec):
        item = spec.items
        if not spec.field.choices or not _is_plain(item):
            return shown
        return {**shown, "items": {**shown["items"], "enum": _encoded(item, choices_of(spec))}}
    # Of other types one value has many forms in a body; an enum would refuse all but one.
    if not spec.field.choices or not (_is_plain(spec) or side == "output"):
        return shown
    if spec.compound or "enum" in shown or "oneOf" in shown:
        return shown
    encoded = _encoded(spec, choices_of(spec))
    return {**shown, "enum": encoded} if encoded else shown


def _is_plain(spec: FieldSpec) -> bool:
    return isinstance(spec, (StringSpec, IntegerSpec, FloatSpec, BooleanSpec))


def _encoded(spec: FieldSpec, values: Iterable[Any]) -> list[Any]:
    return [encoded for each in values if (encoded := _encode(spec, each)) is not None]


def _encode(spec: FieldSpec, value: Any) -> Any:
    try:
        return spec.encode(spec.store(value))
    except Exception:  # what a user wrote into the model may be anything; then there is nothing to show
        return None


def constant_default(spec: FieldSpec) -> Any:
    """Return the JSON of a default that is always the same, None if there is none.

    A callable is not asked: it may count, read the clock, or the database.
    """
    default = spec.field.default
    encoded = None if default is None or callable(default) else _encode(spec, default)
    try:
        spec.take(encoded, "")
    except ValidationError:  # the author's slip; nobody should copy it
        return None
    return encoded
