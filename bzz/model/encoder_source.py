"""The Python source of encoders: one expression for each field, and for what is embedded in it.

A field says how stored values of the types that belong to it are written (:meth:`FieldSpec.written`); any
other value goes to its ``encoder``. The source holds names from the model (as literals) and nothing from
anybody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from bzz.model.moment import format_moment

if TYPE_CHECKING:
    from bzz.model.field import FieldSpec
    from bzz.model.schema import Schema

__all__ = ["Source"]

# How deep embedded documents are written in place, and how many fields one function may have by that.
_MAX_DEPTH = 4
_MAX_FIELDS = 200


class Source:
    """The functions that encode documents of one class, as they are written."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._above: list[Schema] = [schema]
        self._fields = 0
        self._numbers = 0
        self._functions: list[str] = []
        self._namespace: dict[str, Any] = {"dumps": orjson.dumps, "format_moment": format_moment}

    def one(self) -> Callable[[Any], dict[str, Any]]:
        """Compile the function that encodes a stored document."""
        display = self.display(self._schema, "get({!r})".format)
        function = f"def encode(stored):\n    get = stored.get\n    return {display}\n"
        encode: Callable[[Any], dict[str, Any]] = self._compile("encode", function)
        return encode

    def many(self, encode: Callable[[Any], dict[str, Any]]) -> Callable[[Any], list[dict[str, Any]]]:
        """Compile the function that encodes stored documents; ``encode`` takes those that lack a field.

        To read a field that is there takes less time than to ask for one.
        """
        self._namespace["encode"] = encode
        names = {spec.db_name for spec in self._schema.fields.values()}
        display = self.display(self._schema, "stored[{!r}]".format)
        function = (
            "def encode_many(documents):\n"
            "    encoded = []\n"
            "    append = encoded.append\n"
            "    for stored in documents:\n"
            f"        if len(stored) == {len(names)}:\n"
            "            try:\n"
            f"                append({display})\n"
            "                continue\n"
            "            except KeyError:\n"
            "                pass\n"
            "        append(encode(stored))\n"
            "    return encoded\n"
        )
        encode_many: Callable[[Any], list[dict[str, Any]]] = self._compile("encode_many", function)
        return encode_many

    def _compile(self, name: str, function: str) -> Any:
        source = "".join([*self._functions, function])
        code = compile(source, f"<encoder of {self._schema.class_name}>", "exec")
        exec(code, self._namespace)  # noqa: S102 - see above
        return self._namespace[name]

    # What the fields write with -----------------------------------------------------------------------------

    def name(self) -> str:
        """Return a name that nothing has yet."""
        self._numbers += 1
        return f"v{self._numbers}"

    def bind(self, thing: Any) -> str:
        """Return a name by which the source knows this object."""
        name = self.name()
        self._namespace[name] = thing
        return name

    def display(self, schema: Schema, read: Callable[[str], str]) -> str:
        """Write a document of exactly this class; ``read`` writes how to get a field by its stored name."""
        self._fields += len(schema.fields)
        members = [f"'_cls': {schema.class_name!r}"] if schema.polymorphic else []
        members += [
            f"{name!r}: {self.value(spec, read(spec.db_name))}" for name, spec in schema.fields.items()
        ]
        return f"{{{', '.join(members)}}}"

    def embedded(self, schema: Schema, name: str) -> str | None:
        """Write the embedded document, a dict, that a variable holds; None if a function of its own does."""
        if (
            schema.polymorphic
            or schema.dynamic
            or schema in self._above
            or len(self._above) > _MAX_DEPTH
            or self._fields + len(schema.fields) > _MAX_FIELDS
        ):
            return None
        self._above.append(schema)
        try:
            return self.display(schema, f"{name}.get({{!r}})".format)
        finally:
            self._above.pop()

    def items(self, spec: FieldSpec, name: str) -> str:
        """Write the list that a variable holds."""
        each = self.value(spec, "each")
        return f"{self._function(f'[{each} for each in values]')}({name})"

    def members(self, spec: FieldSpec, name: str) -> str:
        """Write the dict with items of one kind that a variable holds."""
        each = self.value(spec, "each")
        return f"{self._function(f'{{key: {each} for key, each in values.items()}}')}({name})"

    def value(self, spec: FieldSpec, given: str) -> str:
        """Write a value of a field, or null, that an expression or a variable gives."""
        encoder = spec.encoder
        if encoder is None:
            return given
        name = given if given.isidentifier() else self.name()
        subject = given if name == given else f"({name} := {given})"
        branches = []
        for cls, expression in spec.written(self, name):
            branches.append(f"{expression} if type({subject}) is {self.bind(cls)} else ")
            subject = name
        other = f"None if {subject} is None else {self.bind(encoder)}({name})"
        return f"({''.join(branches)}{other})"

    def _function(self, expression: str) -> str:
        name = self.name()
        self._functions.append(f"def {name}(values):\n    return {expression}\n")
        return name
