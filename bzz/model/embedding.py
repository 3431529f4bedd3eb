"""Fields of embedded documents: EmbeddedDocumentField, GenericEmbeddedDocumentField."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mongoengine import EmbeddedDocument, fields
from mongoengine.base import get_document
from mongoengine.errors import NotRegistered

from bzz.errors import FieldError
from bzz.model.checking import check_constraints, check_document, check_stored
from bzz.model.encoding import encoder_of
from bzz.model.field import FieldSpec, describes, known_class
from bzz.model.instances import create, decode_fields, load_fields, revive, store
from bzz.model.refusal import child, kind_of, refuse
from bzz.model.schema import Schema
from bzz.model.untyped import encode_value

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source

__all__ = ["EmbeddedSpec", "GenericEmbeddedSpec"]


class EmbeddingSpec(FieldSpec):
    """What both embedded fields share."""

    ordered = False
    compound = True
    comparable = False

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        raise refuse(pointer, "an object cannot be written as text: name its fields, or send JSON")

    def schema_for(self, name: Any, pointer: str) -> Schema:
        """Return the schema of the class that ``_cls`` names; raises ValidationError."""
        raise NotImplementedError

    def schema_of(self, loaded: dict[str, Any]) -> Schema | None:
        """Return the schema of a stored or loaded value, None if it names no known class."""
        raise NotImplementedError

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, dict):
            raise refuse(pointer, f"expected an object, not {kind_of(value)}")
        schema = self.schema_for(value.get("_cls"), child(pointer, "_cls"))
        members = {name: item for name, item in value.items() if name != "_cls"} if "_cls" in value else value
        return create(schema, decode_fields(schema, members, pointer))

    def load(self, stored: Any) -> Any:
        schema = self.schema_of(stored)
        if schema is None:
            raise ValueError("not an embedded document of a known class")
        return load_fields(schema, stored)

    def encode_loaded(self, loaded: Any) -> Any:
        schema = self.schema_of(loaded) if isinstance(loaded, dict) else None
        if schema is None:
            return encode_value(loaded)
        return {
            name: value
            if name == "_cls" or value is None
            else schema.field(name, "").encode_loaded(value)
            if name in schema.fields
            else encode_value(value)
            for name, value in loaded.items()
        }

    def validate(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        if self._validates_itself or not isinstance(value, EmbeddedDocument):
            super().validate(value, pointer, errors)
            return
        check_constraints(self.field, value, pointer, errors)
        if not self.holds(value):
            errors.append(FieldError(pointer, "this embedded document is of another class"))
        else:
            check_document(value, pointer, errors)

    @cached_property
    def _validates_itself(self) -> bool:
        return type(self.field).validate is not known_class(self.field).validate

    def holds(self, value: Any) -> bool:
        """Whether the field may hold this embedded document."""
        return True

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        if isinstance(value, EmbeddedDocument):
            check_stored(value, pointer, errors)


@describes(fields.EmbeddedDocumentField)
class EmbeddedSpec(EmbeddingSpec):
    """An embedded document. JSON: an object; a polymorphic one names its class in ``_cls``."""

    @property
    def embedded(self) -> Schema | None:
        return self._schema

    @cached_property
    def _schema(self) -> Schema:
        return Schema.of(self.field.document_type)

    def schema_for(self, name: Any, pointer: str) -> Schema:
        if name is None:
            return self._schema
        schema = self._schema.subclass(name) if self._schema.polymorphic else None
        if schema is None:
            raise refuse(pointer, "this is no class of this field")
        return schema

    def schema_of(self, loaded: dict[str, Any]) -> Schema | None:
        return self._schema.of_stored(loaded)

    def store(self, value: Any) -> Any:
        return store(value) if isinstance(value, EmbeddedDocument) else self.field.to_mongo(value)

    def revive(self, stored: Any) -> Any:
        return revive(self._schema, stored)

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        expression = source.embedded(self._schema, name)
        if expression is not None:
            yield dict, expression

    def encode(self, stored: Any) -> Any:
        return encoder_of(self._schema)(stored) if isinstance(stored, dict) else encode_value(stored)

    def holds(self, value: Any) -> bool:
        return isinstance(value, self.field.document_type)


@describes(fields.GenericEmbeddedDocumentField)
class GenericEmbeddedSpec(EmbeddingSpec):
    """An embedded document of any class, or of those in ``choices``. JSON: an object with ``_cls``."""

    @property
    def candidates(self) -> Sequence[Schema]:
        return [Schema.of(choice) for choice in self.field.choices or () if isinstance(choice, type)]

    def schema_for(self, name: Any, pointer: str) -> Schema:
        schema = self._registered(name)
        choices = self.candidates
        if schema is None or (choices and not any(issubclass(schema.model, one.model) for one in choices)):
            raise refuse(pointer, "expected the name of a class that this field may hold")
        return schema

    def schema_of(self, loaded: dict[str, Any]) -> Schema | None:
        return self._registered(loaded.get("_cls"))

    def _registered(self, name: Any) -> Schema | None:
        try:
            found = get_document(name) if isinstance(name, str) else None
        except NotRegistered:
            return None
        if found is None or found._class_name != name or not issubclass(found, EmbeddedDocument):
            return None
        return Schema.of(found)

    def store(self, value: Any) -> Any:
        return {**store(value), "_cls": value._class_name}

    def load(self, stored: Any) -> Any:
        return {"_cls": stored["_cls"], **super().load(stored)}

    def revive(self, stored: Any) -> Any:
        schema = self.schema_of(stored)
        return stored if schema is None else revive(schema, stored)

    def encode(self, stored: Any) -> Any:
        schema = self.schema_of(stored) if isinstance(stored, dict) else None
        if schema is None:
            return encode_value(stored)
        return {"_cls": schema.class_name, **encoder_of(schema)(stored)}
