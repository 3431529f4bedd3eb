"""The compiled way in: JSON values to what MongoDB keeps, without a document between.

mongoengine builds a document, validates it field by field and takes it apart again. A class all of whose
fields are mongoengine's own, and which overrides nothing, needs none of that: for each field there is one
function here, which reads, checks and stores a value at once. It knows what is right, never what is wrong:
whatever it does not accept is left to the usual way (:mod:`bzz.model.document`, :mod:`bzz.model.direct`),
which has words for it. So every error, and every value that is seldom, is treated there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bson import Int64
from mongoengine import fields, signals
from mongoengine.base import BaseDocument, BaseField, ComplexBaseField

from bzz.errors import FieldError
from bzz.model.body import Number
from bzz.model.construct import is_plain
from bzz.model.embedding import EmbeddedSpec
from bzz.model.field import FieldSpec, known_class
from bzz.model.instances import stores_plainly
from bzz.model.moment import parse_moment, to_milliseconds
from bzz.model.schema import Schema, Stored
from bzz.model.update import Update

__all__ = ["Decoder", "decoder_of"]

Convert = Callable[[Any], Any]

_decoders: dict[Schema, Decoder | None] = {}
_embedded_decoders: dict[Schema, Decoder] = {}

# What a field does with a value; a field that has any of it on itself is not as its class is.
_METHODS = frozenset({"_validate", "to_mongo", "to_python", "validate"})
# Setting a value that is typed already changes nothing about it with these.
_SETTERS = (BaseField.__set__, ComplexBaseField.__set__, fields.EnumField.__set__, fields.BinaryField.__set__)
# Fields that need more than their value: the network, a counter, the document around them.
_ELSEWHERE = (
    fields.CachedReferenceField,
    fields.FileField,
    fields.GenericEmbeddedDocumentField,
    fields.SequenceField,
)
# Callable defaults of which nobody can tell how often they were called.
_UNSEEN = (list, dict)


class _RefusedError(Exception):
    """Nothing that is known to be right."""


class _Member(NamedTuple):
    """A field: under which names, how a value is stored, and what stands there when there is none.

    ``absent`` makes the stored default, None if there is none after all.
    """

    name: str
    db_name: str
    convert: Convert
    absent: Callable[[], Any] | None
    required: bool
    null: bool


class Decoder:
    """Decode, check and store what JSON says of the documents of one class.

    Both methods take a dict of values by field name, which they leave as it is, and return None for what is
    to go the usual way.
    """

    def __init__(self, schema: Schema, members: list[_Member]) -> None:
        primary = schema.primary
        made_up = primary.name if primary is not None and schema.automatic_key else None
        self._members = [each for each in members if each.name != made_up]
        self._names = frozenset(each.name for each in self._members)
        kept = {"_id", *schema.model._meta.get("shard_key", ())}
        self._settable = {each.name: each for each in members if not kept & {each.name, each.db_name}}

    def make(self, data: Mapping[str, Any]) -> Stored | None:
        """Return what is stored of a new document: ``_id`` in front if it has one, defaults filled in."""
        if is_watched():
            return None
        try:
            stored = self.convert(data)
        except Exception:  # the usual way meets it too, and can say what it is
            return None
        return {"_id": stored.pop("_id"), **stored} if "_id" in stored else stored

    def change(self, data: Mapping[str, Any]) -> Update | None:
        """Return the update that sets these fields, each as a whole."""
        if not data or is_watched():
            return None
        settable, sets = self._settable, {}
        try:
            for name, value in data.items():
                member = settable[name]
                if value is None:
                    return None  # a default takes its place, or nothing
                sets[member.db_name] = member.convert(value)
        except Exception:  # the usual way meets it too, and can say what it is
            return None
        return Update(sets)

    def convert(self, data: Mapping[str, Any]) -> Stored:
        """Return what is stored of a document or embedded document; raises any exception for the rest."""
        if not self._names.issuperset(data):
            raise _RefusedError
        get, result, late = data.get, {}, []
        for member in self._members:
            name, db_name, convert, absent, required, null = member
            value = get(name)
            if value is not None:
                result[db_name] = convert(value)
            elif absent is not None:
                result[db_name] = None  # it keeps the place of the field
                late.append((db_name, absent, required))
            elif required:
                raise _RefusedError
            elif null:
                result[db_name] = None
        # A default may be somebody's function, which is not to be called twice for what is refused.
        for db_name, absent, required in late:
            result[db_name] = stored = absent()
            if stored is None:
                if required:
                    raise _RefusedError
                del result[db_name]
        return result


def is_watched() -> bool:
    """Tell whether anybody hears of instances that mongoengine makes, and so would miss them."""
    return bool(signals.pre_init.receivers or signals.post_init.receivers)


def decoder_of(schema: Schema) -> Decoder | None:
    """Return what decodes the documents of a class; None if that takes mongoengine's own way."""
    try:
        return _decoders[schema]
    except KeyError:
        return _decoders.setdefault(schema, _compile(schema))


def _compile(schema: Schema) -> Decoder | None:
    # Not schema.reachable(): of two classes of one name, mongoengine knows only one.
    seen = [schema]
    for each in seen:
        if not _is_usual(each, below=each is not schema):
            return None
        embedded = (at.embedded for spec in each.fields.values() for at in _with_items(spec))
        seen.extend(at for at in embedded if at is not None and at not in seen)
    return _decoder(schema)


def _decoder(schema: Schema) -> Decoder:
    return Decoder(schema, [_member(spec) for spec in schema.fields.values()])


def _is_usual(schema: Schema, *, below: bool) -> bool:
    """Tell whether a class, and all fields that it names itself, is as mongoengine has made it."""
    if schema.polymorphic or schema.dynamic or not is_plain(schema) or not stores_plainly(schema):
        return False
    if schema.model.clean is not BaseDocument.clean or schema.model.validate is not BaseDocument.validate:
        return False
    for spec in schema.fields.values():
        if below and callable(spec.field.default) and spec.field.default not in _UNSEEN:
            return False
        if type(spec.field).__set__ not in _SETTERS or not all(
            _is_own(each.field) for each in _with_items(spec)
        ):
            return False
    return True


def _with_items(spec: FieldSpec | None) -> Iterator[FieldSpec]:
    while spec is not None:
        yield spec
        spec = spec.item


def _is_own(field: Any) -> bool:
    return (
        type(field) is known_class(field)
        and not isinstance(field, _ELSEWHERE)
        and field.validation is None
        and _METHODS.isdisjoint(vars(field))
    )


def _member(spec: FieldSpec) -> _Member:
    field = spec.field
    has_default = field.default is not None and not field.null
    return _Member(
        spec.name,
        spec.db_name,
        _converter(spec),
        _absent(spec) if has_default else None,
        spec.required,
        bool(field.null) and spec.db_name != "_id",
    )


def _absent(spec: FieldSpec) -> Callable[[], Any]:
    default = spec.field.default

    def absent() -> Any:
        value = default() if callable(default) else default
        return None if value is None else _stored(spec, value)

    return absent


def _stored(spec: FieldSpec, value: Any) -> Any:
    errors: list[FieldError] = []
    spec.validate(value, "", errors)
    stored = None if errors else value if type(value) in spec.plain else spec.store(value)
    if stored is None:
        raise _RefusedError
    return stored


# One function a kind of field -----------------------------------------------------------------------------


def _converter(spec: FieldSpec) -> Convert:
    """Return the function that stores a JSON value (never null), or raises any exception."""
    if not spec.field.choices:
        if isinstance(spec, EmbeddedSpec):
            return _embedded(spec)
        special = _CONVERTERS.get(type(spec.field))
        if special is not None:
            return special(spec)
    return _usual(spec)


def _usual(spec: FieldSpec) -> Convert:
    return lambda value: _stored(spec, spec.take(value, ""))


def _text(spec: FieldSpec) -> Convert:
    field = spec.field
    most, least = field.max_length, field.min_length or 0
    matches = field.regex.match if field.regex is not None else None

    def convert(value: Any) -> Any:
        if (
            value.__class__ is not str
            or not least <= len(value)
            or (most is not None and len(value) > most)
            or (matches is not None and matches(value) is None)
        ):
            raise _RefusedError
        if not value.isascii():
            value.encode()  # half of a character cannot be
        return value

    return convert


def _email(spec: FieldSpec) -> Convert:
    text, field = _text(spec), spec.field
    is_user = (field.UTF8_USER_REGEX if field.allow_utf8_user else field.USER_REGEX).match
    is_domain, validate = field.DOMAIN_REGEX.match, field.validate

    def convert(value: Any) -> Any:
        text(value)
        user, at, domain = value.rpartition("@")
        if not at or not is_user(user) or not is_domain(domain):
            validate(value)  # there are more of them than that
        return value

    return convert


def _integer(spec: FieldSpec) -> Convert:
    least, most = _bounds(spec.field, -(2**63), 2**63 - 1)
    wide = isinstance(spec.field, fields.LongField)

    def convert(value: Any) -> Any:
        if value.__class__ is not int or not least <= value <= most:
            raise _RefusedError
        return Int64(value) if wide else value

    return convert


_LARGEST = 1.7976931348623157e308


def _float(spec: FieldSpec) -> Convert:
    least, most = _bounds(spec.field, -_LARGEST, _LARGEST)

    def convert(value: Any) -> Any:
        if value.__class__ is not float:
            if value.__class__ is not int and value.__class__ is not Number:
                raise _RefusedError
            value = float(value)
        if not least <= value <= most:
            raise _RefusedError
        return value

    return convert


def _bounds(field: Any, least: Any, most: Any) -> tuple[Any, Any]:
    return (
        least if field.min_value is None else max(least, field.min_value),
        most if field.max_value is None else min(most, field.max_value),
    )


def _boolean(spec: FieldSpec) -> Convert:
    def convert(value: Any) -> Any:
        if value.__class__ is not bool:
            raise _RefusedError
        return value

    return convert


def _moment(spec: FieldSpec) -> Convert:
    def convert(value: Any) -> Any:
        return to_milliseconds(parse_moment(value))

    return convert


def _list(spec: FieldSpec) -> Convert:
    field, item = spec.field, spec.item
    most, required = field.max_length, bool(field.required)
    if item is None:
        return _usual(spec)
    convert_item = _converter(item)

    def convert(value: Any) -> Any:
        if (
            value.__class__ is not list
            or (most is not None and len(value) > most)
            or (required and not value)
            or None in value
        ):
            raise _RefusedError
        return [convert_item(each) for each in value]

    return convert


def _embedded(spec: EmbeddedSpec) -> Convert:
    def convert(value: Any) -> Any:
        if value.__class__ is not dict:
            raise _RefusedError
        schema = spec.embedded
        assert schema is not None
        decoder = _embedded_decoders.get(schema)
        if decoder is None:  # not before: a class may hold itself
            decoder = _embedded_decoders[schema] = _decoder(schema)
        return decoder.convert(value)

    return convert


_CONVERTERS: dict[type, Callable[[FieldSpec], Convert]] = {
    fields.StringField: _text,
    fields.EmailField: _email,
    fields.IntField: _integer,
    fields.LongField: _integer,
    fields.FloatField: _float,
    fields.BooleanField: _boolean,
    fields.DateTimeField: _moment,
    fields.ListField: _list,
}
