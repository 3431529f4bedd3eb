"""The JSON Schema of one field: the form of its values, and what the field asks of them.

Three sides of one value: ``output`` is what the codec writes, ``input`` what it takes from a JSON body, and
``text`` what it takes from a form, a query or a URL. :func:`form` says which JSON each field has, for every
class of :class:`~bzz.model.field.FieldSpec`; :func:`described` adds length, range, choices and words.

What JSON Schema cannot say (a decimal's range, that a ring is closed) is left to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any, Literal, Protocol

from bzz.model.containers import ListSpec, MapSpec
from bzz.model.dynamic import UntypedSpec
from bzz.model.embedding import EmbeddedSpec, GenericEmbeddedSpec
from bzz.model.field import CustomSpec, FieldSpec
from bzz.model.generic import GenericReferenceSpec, document_named, primary_of
from bzz.model.geo import _LEVELS, GeoJsonSpec, GeoPointSpec
from bzz.model.json_limits import choices_of, constrained
from bzz.model.json_untyped import BASE64, FREE_KEY, MOMENT_INPUT, UUID_INPUT
from bzz.model.numeric import Decimal128Spec, DecimalSpec, FloatSpec, IntegerSpec, SequenceSpec
from bzz.model.references import KeyedSpec, ReferenceSpec
from bzz.model.scalars import (
    BinarySpec,
    BooleanSpec,
    EnumSpec,
    FileSpec,
    ObjectIdSpec,
    StringSpec,
    UUIDSpec,
)
from bzz.model.schema import Schema
from bzz.model.temporal import ComplexDateTimeSpec, DateSpec, DateTimeSpec
from bzz.model.untyped import encode_plain

__all__ = ["Json", "Referrer", "Side", "described", "form", "is_textual", "nullable", "or_empty"]

Json = dict[str, Any]
Side = Literal["output", "input", "text"]

INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}
KEY_TYPES = ["string", "number", "boolean", "object"]
DECIMAL_INPUT = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
DECIMAL_OUTPUT = r"^-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?$"
UTC = "RFC 3339; without an offset it is UTC."


class Referrer(Protocol):
    """Where the schemas of whole classes are kept, see :class:`bzz.model.json_schema.Catalog`."""

    def embedded(self, schema: Schema, side: Side) -> Json:
        """Return the schema of an embedded document of this class or one below it."""

    def tagged(self, schema: Schema, side: Side) -> Json:
        """Return the schema of an embedded document of exactly this class, which it names in ``_cls``."""

    def untyped(self, side: Side) -> Json:
        """Return the schema of a value that no field says anything about."""


def nullable(schema: Json) -> Json:
    """Return a schema that also takes null."""
    if "$ref" in schema or "oneOf" in schema or "anyOf" in schema:
        words: Json = {name: schema[name] for name in ("title", "description") if name in schema}
        return {"anyOf": [{k: v for k, v in schema.items() if k not in words}, {"type": "null"}], **words}
    if "type" not in schema and "enum" not in schema:
        return schema
    result = dict(schema)
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        result["type"] = [*kinds, *(["null"] if "null" not in kinds else [])]
    if "enum" in schema and None not in schema["enum"]:
        result["enum"] = [*schema["enum"], None]
    return result


def described(spec: FieldSpec, side: Side, refer: Referrer) -> Json:
    """Return the schema of a field's values (null is not one of them), limits and words included."""
    if isinstance(spec, CustomSpec):
        # The limits are those of the typed value, and what that is only the user's class knows.
        return form(spec, side, refer) | _words(spec)
    return constrained(spec, side, form(spec, side, refer)) | _words(spec)


def _words(spec: FieldSpec) -> Json:
    found = {"title": "verbose_name", "description": "help_text"}
    words = {name: getattr(spec.field, attribute, None) for name, attribute in found.items()}
    return {name: str(each) for name, each in words.items() if each}


def is_textual(spec: FieldSpec) -> bool:
    """Whether the values of a field can be written in a form or a query at all."""
    if isinstance(spec, CustomSpec):
        return is_textual(spec.origin)
    if isinstance(spec, ListSpec):
        return is_textual(spec.items)
    return not isinstance(spec, (MapSpec, EmbeddedSpec, GenericEmbeddedSpec, GeoJsonSpec, GeoPointSpec))


def or_empty(shown: Json) -> Json:
    """Return the schema of a text that may also be empty, which is how a form or a query says null."""
    if shown.get("type") == "string" and shown.keys().isdisjoint({"pattern", "minLength", "enum", "format"}):
        return shown
    return {"anyOf": [shown, {"const": "", "description": "None."}]}


@singledispatch
def form(spec: FieldSpec, side: Side, refer: Referrer) -> Json:
    """Return the schema of the JSON form of a field's values, without what the field asks of them.

    A class of spec that is not registered says nothing: every value fits.
    """
    return {}


@form.register
def _(spec: CustomSpec, side: Side, refer: Referrer) -> Json:
    return form(spec.origin, side, refer)


@form.register
def _(spec: StringSpec, side: Side, refer: Referrer) -> Json:
    return {"type": "string"}


@form.register
def _(spec: BooleanSpec, side: Side, refer: Referrer) -> Json:
    return {"type": "boolean"}


@form.register(ObjectIdSpec)
@form.register(FileSpec)
def _(spec: FieldSpec, side: Side, refer: Referrer) -> Json:
    digits = "0-9a-f" if side == "output" else "0-9a-fA-F"
    return {"type": "string", "pattern": f"^[{digits}]{{24}}$", "examples": ["507f1f77bcf86cd799439011"]}


@form.register
def _(spec: UUIDSpec, side: Side, refer: Referrer) -> Json:
    shown = {"type": "string", "format": "uuid", "examples": ["7f2c1a9e-3b64-4d21-9c0e-5a1b2c3d4e5f"]}
    return shown if side == "output" else {**shown, "pattern": UUID_INPUT}


@form.register
def _(spec: BinarySpec, side: Side, refer: Referrer) -> Json:
    return {"type": "string", "contentEncoding": "base64", "pattern": BASE64, "examples": ["AAECAw=="]}


@form.register
def _(spec: EnumSpec, side: Side, refer: Referrer) -> Json:
    # A filter may look for any member, also for one that the field itself does not take.
    members = spec.field._enum_cls if side == "text" else choices_of(spec)
    values = [encode_plain(member.value) for member in members]
    if side != "output":
        values = [each for each in values if isinstance(each, (str, int, float))]
    return {"enum": values}


@form.register
def _(spec: DateTimeSpec, side: Side, refer: Referrer) -> Json:
    return _moment(side, "2024-02-29T12:30:00.000Z")


@form.register
def _(spec: ComplexDateTimeSpec, side: Side, refer: Referrer) -> Json:
    return _moment(side, "2024-02-29T12:30:00.000000Z")


@form.register
def _(spec: DateSpec, side: Side, refer: Referrer) -> Json:
    shown = {"type": "string", "format": "date", "examples": ["2024-02-29"]}
    return shown if side == "output" else {**shown, "pattern": MOMENT_INPUT}


def _moment(side: Side, example: str) -> Json:
    shown = {"type": "string", "format": "date-time", "examples": [example]}
    return shown if side == "output" else {**shown, "pattern": MOMENT_INPUT, "description": UTC}


@form.register
def _(spec: IntegerSpec, side: Side, refer: Referrer) -> Json:
    return {"type": "integer", "format": "int64", **INT64}


@form.register
def _(spec: FloatSpec, side: Side, refer: Referrer) -> Json:
    return {"type": "number", "format": "double"}


@form.register(DecimalSpec)
@form.register(Decimal128Spec)
def _(spec: FieldSpec, side: Side, refer: Referrer) -> Json:
    shown = {"type": "string", "format": "decimal", "examples": ["12.50"]}
    if side == "output":
        return {**shown, "pattern": DECIMAL_OUTPUT}
    kinds = ["string", "number"] if side == "input" else "string"
    return {**shown, "type": kinds, "pattern": DECIMAL_INPUT, "maxLength": 400}


@form.register
def _(spec: SequenceSpec, side: Side, refer: Referrer) -> Json:
    if spec._numeric:
        return {"type": "integer", "format": "int64", **INT64}
    return {"type": "string"} if side == "text" else {"type": ["string", "number"]}


@form.register
def _(spec: KeyedSpec, side: Side, refer: Referrer) -> Json:
    return {"title": f"Key of a {spec.target.__name__}", **form(spec.key, side, refer)}


@form.register
def _(spec: ReferenceSpec, side: Side, refer: Referrer) -> Json:
    if not spec.field.document_type._meta.get("abstract"):
        return form.dispatch(KeyedSpec)(spec, side, refer)
    return _generic({}, side)


@form.register
def _(spec: GenericReferenceSpec, side: Side, refer: Referrer) -> Json:
    models = {name: document_named(name) for name in spec.field.choices or ()}
    return _generic({name: _key(model, side, refer) for name, model in models.items()}, side)


def _key(model: Any, side: Side, refer: Referrer) -> Json:
    return {"type": KEY_TYPES} if model is None else form(primary_of(model), side, refer)


def _generic(keys: Mapping[str, Json], side: Side) -> Json:
    """Return the schema of a reference that names the class; ``keys`` has those that it may name."""
    if side == "text":
        return {"type": "string", "pattern": "^[^:]+:", "description": "CLASS:KEY"}
    choices: list[tuple[Json, Json]] = [({"const": name}, key) for name, key in keys.items()]
    shown = [
        {
            "type": "object",
            "properties": {"_cls": name, "_ref": key},
            "required": ["_cls", "_ref"],
            "additionalProperties": False,
        }
        for name, key in choices or [({"type": "string"}, {"type": KEY_TYPES})]
    ]
    return shown[0] if len(shown) == 1 else {"oneOf": shown}


@form.register
def _(spec: ListSpec, side: Side, refer: Referrer) -> Json:
    if spec.item is None:
        return {"type": "array", "items": {"type": "string"} if side == "text" else refer.untyped(side)}
    return {"type": "array", "items": described(spec.item, side, refer)}


@form.register
def _(spec: MapSpec, side: Side, refer: Referrer) -> Json:
    values = refer.untyped(side) if spec.item is None else described(spec.item, side, refer)
    shown: Json = {"type": "object", "additionalProperties": values}
    return shown if side == "output" else {**shown, "propertyNames": FREE_KEY}


@form.register
def _(spec: UntypedSpec, side: Side, refer: Referrer) -> Json:
    if side == "output":
        return refer.untyped(side)
    return {"type": "string"} if side == "text" else {**refer.untyped(side), "not": {"type": "null"}}


@form.register
def _(spec: EmbeddedSpec, side: Side, refer: Referrer) -> Json:
    assert spec.embedded is not None
    return refer.embedded(spec.embedded, side)


@form.register
def _(spec: GenericEmbeddedSpec, side: Side, refer: Referrer) -> Json:
    classes = {cls: Schema.of(cls) for choice in spec.candidates for cls in choice.subclasses.values()}
    if not classes:
        return {"type": "object", "properties": {"_cls": {"type": "string"}}, "required": ["_cls"]}
    shown = [refer.tagged(schema, side) for schema in classes.values()]
    return shown[0] if len(shown) == 1 else {"oneOf": shown}


@form.register
def _(spec: GeoPointSpec, side: Side, refer: Referrer) -> Json:
    return _coordinates(1)


@form.register
def _(spec: GeoJsonSpec, side: Side, refer: Referrer) -> Json:
    levels = _LEVELS.get(spec.field._type)
    if levels is None:  # a user's own kind: its validate() knows
        return refer.untyped(side)
    places = _coordinates(levels, on_globe=side != "output" and spec.on_globe)
    shown: Json = {
        "type": "object",
        "properties": {"type": {"const": spec.field._type}, "coordinates": places},
        "required": ["type", "coordinates"],
        "additionalProperties": False,
    }
    return shown if side == "output" else {"anyOf": [shown, places]}


def _coordinates(levels: int, *, on_globe: bool = False) -> Json:
    if levels > 1:
        return {"type": "array", "items": _coordinates(levels - 1, on_globe=on_globe), "minItems": 1}
    position: Json = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    if on_globe:
        longitude, latitude = (
            {"type": "number", "minimum": -most, "maximum": most, "description": name}
            for name, most in (("Longitude.", 180), ("Latitude.", 90))
        )
        position["prefixItems"] = [longitude, latitude]
    return position
