"""JSON Schema 2020-12 of models: of the JSON that goes out, and of the bodies that may come in.

>>> import mongoengine
>>> class Stamp(mongoengine.Document):
...     country = mongoengine.StringField(required=True, max_length=2)
>>> json_schema(Stamp, "create")["$defs"]["StampCreate"]["properties"]
{'country': {'type': 'string', 'maxLength': 2}}
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from bzz.model.field import FieldSpec
from bzz.model.json_forms import Json, Side, described, nullable
from bzz.model.json_limits import constant_default
from bzz.model.json_untyped import FREE_KEY, untyped_input
from bzz.model.schema import Schema
from bzz.model.selection import ALL, Selection

__all__ = ["DIALECT", "Catalog", "Form", "is_needed", "json_schema", "takes_null"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: ``output``: what answers hold. ``create``: the body of a POST. ``update``: of a PUT that changes what it
#: names. ``replace``: of a PUT that resets what it does not name.
Form = Literal["output", "create", "update", "replace"]

_SUFFIXES: Mapping[str, str] = {"output": "", "create": "Create", "update": "Update", "replace": "Replace"}
_DYNAMIC_NAME = {"pattern": r"^[^_$.\u0000-\u001f\u007f][^.\u0000-\u001f\u007f]*$"}


def json_schema(model: Any, form: Form = "output") -> Json:
    """Return one self-contained JSON Schema (2020-12) of a document class, seen from one side.

    ``output`` is what answers hold, ``create``, ``update`` and ``replace`` are bodies.
    """
    catalog = Catalog("#/$defs/")
    reference = catalog.document(Schema.of(model), form)
    return {"$schema": DIALECT, **reference, "$defs": catalog.definitions}


class Catalog:
    """Schemas of classes under names, each made once and referred to from then on.

    ``root`` is what a reference begins with, ``definitions`` is filled while schemas are asked for.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.definitions: dict[str, Json] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def document(self, schema: Schema, form: Form) -> Json:
        """Return a reference to the schema of a whole document; an answer may hold any class below it."""
        if form != "output":
            return self._change(schema, form)
        if "to_dict" in schema.overrides:
            words = {"description": f"What {schema.name}.to_dict() makes of it."}
            return self._refer((schema, form), schema.name, lambda: words)
        return self._family(schema, "output")

    def embedded(self, schema: Schema, side: Side) -> Json:
        """Return a reference to the schema of an embedded document of this class or one below it."""
        return self._family(schema, side)

    def tagged(self, schema: Schema, side: Side) -> Json:
        """Return a reference to the schema of exactly this class, named in ``_cls``."""
        if schema.polymorphic:
            return self._exact(schema, side, "required")
        name = f"{schema.name}Tagged{_of(side)}"
        return self._refer((schema, side, "tagged"), name, self._object, schema, side, "required")

    def untyped(self, side: Side) -> Json:
        """Return the schema of what no field describes; out it is anything, in it has no operators."""
        if side == "output":
            return {}
        return self._refer(("untyped",), "Untyped", lambda: untyped_input(f"{self.root}Untyped"))

    def refer(self, key: Any, name: str, schema: Json) -> Json:
        """Keep a schema of somebody else's under this name, or one that is free, and return a reference."""
        return self._refer((key,), name, lambda: schema)

    def members(self, schema: Schema) -> dict[str, Json]:
        """Return the schema of each member that an answer has of a document of exactly this class."""
        shown = self._object(schema, "output", "required" if schema.polymorphic else None)
        properties: dict[str, Json] = shown["properties"]
        return properties

    def resolve(self, schema: Json) -> Json:
        """Return what a reference of this catalog leads to; any other schema is itself."""
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].removeprefix(self.root)]
        return schema

    # What a catalog may leave out --------------------------------------------------------------------------

    def named(self, form: Form) -> Selection:
        """Return the fields that a form of a document has."""
        return ALL

    def within(self, selection: Selection) -> AbstractContextManager[None]:
        """Describe, for a while, only these fields of the object in hand."""
        return nullcontext()

    def chosen(self, schema: Schema) -> Iterable[tuple[str, FieldSpec]]:
        """Return the fields of the object in hand that are described."""
        return schema.fields.items()

    def takes_more(self, schema: Schema) -> bool:
        """Whether an object may have members that no field describes."""
        return schema.dynamic

    def more(self, schema: Schema) -> Iterable[str]:
        """Return the members that no field describes, and that are taken nevertheless."""
        return ()

    def aside(self) -> Catalog:
        """Return a catalog like this one whose definitions nobody sees."""
        return Catalog("#/")

    def _is_required(self, spec: FieldSpec) -> bool:
        return True

    def _change(self, schema: Schema, form: Form) -> Json:
        name = schema.name + _SUFFIXES[form]
        # A document is made in the class of its resource, and changed in the class that it has.
        classes = [Schema.of(cls) for cls in schema.subclasses.values()] if schema.polymorphic else []
        if form == "create" or len(classes) < 2:
            return self._refer((schema, form, "body"), name, self._body, schema, form)
        bodies = [
            self._refer((each, form, "body"), f"{each.name}Only{_SUFFIXES[form]}", self._body, each, form)
            for each in classes
        ]
        return self._refer((schema, form), name, lambda: {"anyOf": bodies})

    # How they are made --------------------------------------------------------------------------------------

    def _refer(self, key: tuple[Any, ...], wanted: str, make: Any, *arguments: Any) -> Json:
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = _free(wanted, self.definitions)
            self.definitions[name] = {}  # its place, while it is made: a class may hold itself
            self.definitions[name] = make(*arguments)
        return {"$ref": self.root + name}

    def _family(self, schema: Schema, side: Side) -> Json:
        if not schema.polymorphic:
            return self._refer((schema, side), schema.name + _of(side), self._object, schema, side, None)
        classes = [Schema.of(cls) for cls in schema.subclasses.values()]
        if len(classes) == 1:
            return self._exact(schema, side, "required" if side == "output" else "optional")
        return self._refer(
            (schema, side), schema.name + _of(side), self._any_of_family, schema, classes, side
        )

    def _any_of_family(self, schema: Schema, classes: list[Schema], side: Side) -> Json:
        shown = {
            each.class_name: self._exact(
                each, side, "optional" if each is schema and side != "output" else "required"
            )
            for each in classes
        }
        mapping = {name: reference["$ref"] for name, reference in shown.items()}
        return {
            "oneOf": list(shown.values()),
            "discriminator": {"propertyName": "_cls", "mapping": mapping},
            **_words(schema),
        }

    def _exact(self, schema: Schema, side: Side, tag: Literal["required", "optional"]) -> Json:
        family = len(schema.subclasses) > 1
        name = f"{schema.name}{'Only' if family else ''}{_of(side)}"
        return self._refer((schema, side, tag), name, self._object, schema, side, tag)

    def _object(self, schema: Schema, side: Side, tag: str | None) -> Json:
        """Return the schema of an object of exactly this class."""
        properties: dict[str, Json] = {}
        required: list[str] = []
        if tag is not None:
            properties["_cls"] = {"type": "string", "const": schema.class_name}
            required += ["_cls"] if tag == "required" else []
        for name, spec in self.chosen(schema):
            properties[name] = self._member(schema, spec, side)
            if side == "output" or is_needed(spec):
                required.append(name)
        return self._closed(schema, side, properties, required)

    def _body(self, schema: Schema, form: Form) -> Json:
        """Return the schema of the body of a request; the class is always that of the resource."""
        properties: dict[str, Json] = {}
        required: list[str] = []
        for name, spec in self.chosen(schema):
            is_key = spec is schema.primary
            if is_key and schema.automatic_key and form == "create":
                continue
            shown = self._member(schema, spec, "input")
            if form == "update":
                shown.pop("default", None)
            if is_key and form != "create":
                shown["description"] = "Only to say which document is meant: it cannot be changed."
                shown["readOnly"] = True
            elif form != "update" and is_needed(spec) and self._is_required(spec):
                required.append(name)
            properties[name] = shown
        properties |= {name: self.untyped("input") for name in self.more(schema)}
        return self._closed(schema, "input", properties, required)

    def _member(self, schema: Schema, spec: FieldSpec, side: Side) -> Json:
        shown = described(spec, side, self)
        is_key = spec is schema.primary
        if side == "output":
            if is_key and schema.automatic_key:
                shown = {**shown, "readOnly": True}
            return shown if is_key or spec.required else nullable(shown)
        shown = shown if is_key or not takes_null(spec) else nullable(shown)
        default = constant_default(spec)
        return shown if default is None else {**shown, "default": default}

    def _closed(self, schema: Schema, side: Side, properties: dict[str, Json], required: list[str]) -> Json:
        shown: Json = {"type": "object", **_words(schema), "properties": properties}
        if required:
            shown["required"] = required
        if side == "output":
            return {**shown, "additionalProperties": True} if schema.dynamic else shown
        if not self.takes_more(schema):
            return {**shown, "additionalProperties": False}
        names = {"anyOf": [{"enum": [*properties]}, {**_DYNAMIC_NAME, **_hidden(schema)}]}
        return {**shown, "additionalProperties": self.untyped(side), "propertyNames": names}


def _hidden(schema: Schema) -> Json:
    """Return what no dynamic field may be called, because it is called that in MongoDB."""
    taken = {"id", "pk", *schema.by_db_name} - set(schema.fields)
    return {"not": {"enum": sorted(taken | set(FREE_KEY["not"]["enum"]))}}


def is_needed(spec: FieldSpec) -> bool:
    """Whether a body that makes a new document has to have this member."""
    return spec.required and not spec.automatic and not _fills_itself(spec)


def takes_null(spec: FieldSpec) -> bool:
    """Whether a body may say that this member has no value."""
    return not spec.required or spec.automatic or (_fills_itself(spec) and not spec.field.null)


def _fills_itself(spec: FieldSpec) -> bool:
    # mongoengine gives every list and dict the default of being empty, and refuses it where one is required.
    return spec.field.default not in (None, list, dict)


def _of(side: Side) -> str:
    return "" if side == "output" else "Input"


def _words(schema: Schema) -> Json:
    """Return the first paragraph of the class's own docstring as its description."""
    own = vars(schema.model).get("__doc__")
    text = inspect.cleandoc(own).split("\n\n")[0] if own else ""
    return {"description": " ".join(text.split())} if text else {}


def _free(wanted: str, taken: Mapping[str, Any]) -> str:
    """Return a name that OpenAPI allows for a component and nobody has yet."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", wanted)
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}{number}", number + 1
    return name
