"""Fields of many values: ListField, SortedListField, EmbeddedDocumentListField, DictField, MapField."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mongoengine import fields

from bzz.errors import FieldError, ValidationError
from bzz.model.checking import attempt, check_constraints
from bzz.model.extended import check_key
from bzz.model.field import FieldSpec, describes, known_class, spec_for
from bzz.model.instances import load
from bzz.model.refusal import MAX_ERRORS, below, child, kind_of, refuse
from bzz.model.schema import Schema
from bzz.model.storable import check_text
from bzz.model.untyped import encode_value

if TYPE_CHECKING:
    from bzz.model.encoder_source import Source

__all__ = ["ListSpec", "MapSpec"]


class ContainerSpec(FieldSpec):
    """What lists and maps share: items that all travel like one field."""

    ordered = False
    comparable = False  # of a list, each item is compared
    compound = True

    @cached_property
    def items(self) -> FieldSpec:
        """How the items travel, also the untyped ones."""
        return (
            spec_for(self.field.field, self.name)
            if self.field.field is not None
            else Schema.untyped(self.name)
        )

    @property
    def item(self) -> FieldSpec | None:
        return self.items if self.field.field is not None else None

    @property
    def encoder(self) -> Callable[[Any], Any] | None:
        return None if self.items.encoder is None else self.encode

    @cached_property
    def _validates_itself(self) -> bool:
        return type(self.field).validate is not known_class(self.field).validate

    def decode_item(self, value: Any) -> Any:
        """Decode one item; null is an item of untyped containers only. Pointers start at the item."""
        if value is None and self.field.field is not None:
            raise refuse("", "null is not allowed here")
        return self.items.take(value, "")

    def validate(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        if self._validates_itself:
            super().validate(value, pointer, errors)
            return
        check_constraints(self.field, value, pointer, errors)
        before = len(errors)
        self.validate_items(value, pointer, errors)
        if len(errors) == before and self.field.required and not value:
            errors.append(FieldError(pointer, "this field is required and cannot be empty"))

    def validate_items(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        """Collect what is wrong with the items, each at its place."""
        raise NotImplementedError

    def validate_item(self, item: Any, errors: list[FieldError]) -> None:
        """Collect what is wrong with one item; pointers start at it."""
        if item is not None:
            self.items.validate(item, "", errors)
        elif self.field.field is not None:
            errors.append(FieldError("", "null is not allowed here"))


@describes(fields.ListField, fields.SortedListField, fields.EmbeddedDocumentListField)
class ListSpec(ContainerSpec):
    """A list. JSON: an array; forms and queries: the name repeated."""

    repeatable = True

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, list):
            raise refuse(pointer, f"expected an array, not {kind_of(value)}")
        result: list[Any] = []
        errors: list[FieldError] = []
        for index, item in enumerate(value):
            try:
                result.append(self.decode_item(item))
            except ValidationError as error:
                errors.extend(below(child(pointer, index), error.errors))
                if len(errors) >= MAX_ERRORS:
                    break
        if errors:
            raise ValidationError(errors[:MAX_ERRORS])
        return result

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        if list(texts) == [""] and not self.items.textual:
            return []  # the only way in which a form can say: empty
        values = [self.items.decode_text([text], child(pointer, index)) for index, text in enumerate(texts)]
        if None in values:
            raise refuse(pointer, "an item must not be empty")
        return values

    def store(self, value: Any) -> Any:
        plain, store = self.items.plain, self.items.store
        items = [item if item is None or type(item) in plain else store(item) for item in list(value)]
        if isinstance(self.field, fields.SortedListField):
            ordering = self.field._ordering
            by = None if ordering is None else lambda item: item[ordering]
            items.sort(key=by, reverse=self.field._order_reverse)
        return items

    def load(self, stored: Any) -> Any:
        if not isinstance(stored, list):
            return load(self.items, stored)
        return [None if item is None else load(self.items, item) for item in stored]

    def revive(self, stored: Any) -> Any:
        plain, revive = self.items.plain, self.items.revive
        return [item if item is None or type(item) in plain else revive(item) for item in stored]

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield list, source.items(self.items, name)

    def encode(self, stored: Any) -> Any:
        if not isinstance(stored, list):
            return encode_value(stored)
        encode = self.items.encode
        return [None if item is None else encode(item) for item in stored]

    def encode_loaded(self, loaded: Any) -> Any:
        if not isinstance(loaded, list):
            return encode_value(loaded)
        return [None if item is None else self.items.encode_loaded(item) for item in loaded]

    def validate_items(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        if not isinstance(value, (list, tuple)):
            attempt(lambda: self.field.validate(value), pointer, errors, value)
            return
        if self.field.max_length is not None and len(value) > self.field.max_length:
            errors.append(FieldError(pointer, "List is too long"))
        before = len(errors)
        found: list[FieldError] = []
        for index, item in enumerate(list(value)):
            self.validate_item(item, found)
            if found:
                errors.extend(below(child(pointer, index), found))
                found.clear()
                if len(errors) >= MAX_ERRORS:
                    break
        if len(errors) == before and isinstance(self.field, fields.SortedListField):
            self.check(value, pointer, errors)

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        before = len(errors)
        for index, item in enumerate(list(value)):
            if item is not None:
                self.items.check(item, child(pointer, index), errors)
        if len(errors) == before and isinstance(self.field, fields.SortedListField):
            try:
                self.store(value)
            except (TypeError, KeyError, ValueError):
                errors.append(FieldError(pointer, "the items cannot be sorted"))


@describes(fields.DictField, fields.MapField)
class MapSpec(ContainerSpec):
    """A dict with free keys. JSON: an object; its keys may not look like operators or paths."""

    def decode(self, value: Any, pointer: str) -> Any:
        if not isinstance(value, dict):
            raise refuse(pointer, f"expected an object, not {kind_of(value)}")
        result: dict[str, Any] = {}
        errors: list[FieldError] = []
        for key, item in value.items():
            try:
                check_key(key, "")
                result[key] = self.decode_item(item)
            except ValidationError as error:
                errors.extend(below(child(pointer, key), error.errors))
                if len(errors) >= MAX_ERRORS:
                    break
        if errors:
            raise ValidationError(errors[:MAX_ERRORS])
        return result

    def decode_text(self, texts: Sequence[str], pointer: str) -> Any:
        raise refuse(pointer, "an object cannot be written as text: send JSON")

    def store(self, value: Any) -> Any:
        return {key: None if item is None else self.items.store(item) for key, item in dict(value).items()}

    def load(self, stored: Any) -> Any:
        return {key: None if item is None else load(self.items, item) for key, item in stored.items()}

    def revive(self, stored: Any) -> Any:
        return {key: None if item is None else self.items.revive(item) for key, item in stored.items()}

    def written(self, source: Source, name: str) -> Iterator[tuple[type, str]]:
        yield dict, source.members(self.items, name)

    def encode(self, stored: Any) -> Any:
        if not isinstance(stored, dict):
            return encode_value(stored)
        return {key: None if item is None else self.items.encode(item) for key, item in stored.items()}

    def encode_loaded(self, loaded: Any) -> Any:
        if not isinstance(loaded, dict):
            return encode_value(loaded)
        return {key: None if item is None else self.items.encode_loaded(item) for key, item in loaded.items()}

    def validate_items(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            attempt(lambda: self.field.validate(value), pointer, errors, value)
            return
        for key, item in dict(value).items():
            found: list[FieldError] = []
            check_text(key, "", found)
            if key.startswith("$") or "\0" in key:
                found.append(FieldError("", 'a key must not start with "$" or hold NUL'))
            self.validate_item(item, found)
            if found:
                errors.extend(below(child(pointer, key), found))
                if len(errors) >= MAX_ERRORS:
                    break

    def check(self, value: Any, pointer: str, errors: list[FieldError]) -> None:
        for key, item in dict(value).items():
            if item is not None:
                self.items.check(item, child(pointer, key), errors)
