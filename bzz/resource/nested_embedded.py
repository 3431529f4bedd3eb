"""Embedded documents as resources: they come, change and go with the document that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bzz import model as typed
from bzz.errors import DuplicateError, ValidationError
from bzz.model import Schema, Stored
from bzz.model.refusal import below, refuse
from bzz.resource.nested_change import Change
from bzz.resource.nested_path import Place
from bzz.resource.operation import Outcome

__all__ = ["Creation", "Removal", "Revision"]


class Creation(Change):
    """A new embedded document: the only one of its property, or one more in a list."""

    action = "create_instance"

    def apply(self, place: Place) -> None:
        """Add it; raises DuplicateError if there is one already, or one with the same key."""
        name = place.prop.name
        if not place.prop.many:
            if place.value is not None:
                raise DuplicateError(f"There is one {name} already.", [".".join(self.leg.fields)])
            self._made = self._make(place, place.pointer)
            typed.assign(place.document, {(name,): self._made})
            return
        self.place = place = place.at(len(place.items))
        self._made = self._make(place, place.pointer)
        check_key(place, self._made, None)
        present = place.document._data.get(name) or []
        typed.assign(place.document, {(name,): [*present, self._made]})

    def _make(self, place: Place, pointer: str) -> Any:
        data = self.body()
        try:
            if isinstance(data, list):
                return _from_form(place, data)
            return place.prop.item.decode(data, "")
        except ValidationError as error:
            raise ValidationError(list(below(pointer, error.errors))) from error

    def written(self) -> Stored:
        return typed.to_stored(self._made)

    def before(self, outcome: Outcome) -> None:
        """Return that there was none."""


class Revision(Change):
    """Another state of an embedded document: fields set, or a patch applied."""

    action = "update_instance"

    def apply(self, place: Place) -> None:
        """Change it."""
        self._document = self._present(place).typed
        try:
            if self.operation.data_kind == "fields":
                self._assign(place)
            else:
                self._patch(place)
        except ValidationError as error:
            raise ValidationError(list(below(place.pointer, error.errors))) from error
        if place.prop.many:
            check_key(place, self._document, place.index)

    def _assign(self, place: Place) -> None:
        schema = Schema.of(type(self._document))
        data = _without_class(schema, self.body())
        assignments = (
            typed.decode_form(schema, data, creating=False)
            if isinstance(data, list)
            else typed.decode_object(schema, data, creating=False)
        )
        if self.replaces:
            assignments = {**dict(self._defaults(place, schema, assignments)), **assignments}
        typed.assign(self._document, assignments)

    def _defaults(self, place: Place, schema: Schema, given: Any) -> Iterator[Any]:
        """Yield what the fields that a full replacement does not mention are reset to."""
        named = {path[0] for path in given}
        fresh = typed.new_document(schema, {})
        seen, changeable = (
            self.access.readable.at(self.leg.fields),
            self.access.changeable.at(self.leg.fields),
        )
        for name, spec in schema.fields.items():
            hidden = not (seen.below(name).is_all and changeable.below(name).is_all)
            if name not in named and not hidden and spec is not place.prop.key:
                yield (name,), fresh._data.get(name)

    def _patch(self, place: Place) -> None:
        schema = place.prop.schema.of_stored(place.value)
        shown = typed.encode(schema, place.value)
        seen, data = self.access.readable.at(self.leg.fields), self.body()
        if self.operation.data_kind == "merge_patch":
            visible = {
                name: value if name in data else seen.below(name).cut(value)
                for name, value in shown.items()
                if name in data or name == "_cls" or not seen.below(name).is_none
            }
            typed.revise(self._document, visible, typed.merge(visible, data))
        else:
            visible = seen.cut(shown)
            typed.revise(self._document, visible, typed.apply_operations(visible, data))

    def written(self) -> Stored:
        return typed.to_stored(self._document)


class Removal(Change):
    """An embedded document that is taken out of its owner."""

    action = "delete_instance"

    def apply(self, place: Place) -> None:
        """Take it out."""
        self._present(place)
        name = place.prop.name
        if place.index is None:
            typed.assign(place.document, {(name,): None})
            return
        items = list(place.document._data[name])
        del items[place.index]
        typed.assign(place.document, {(name,): items})

    def after(self, outcome: Outcome) -> None:
        """Return that there is none."""


def check_key(place: Place, document: Any, index: int | None) -> None:
    """Refuse an item of a list whose key is missing, or that of another item; ``index`` is its own."""
    spec = place.prop.key
    if spec is None:
        return
    value = document._data.get(spec.name)
    if value is None:
        raise refuse(f"{place.pointer}{spec.pointer}", "this field is required: it is the key in the list")
    stored = spec.store(value)
    for position, item in enumerate(place.items):
        if position != index and isinstance(item, dict) and typed.same(item.get(spec.db_name), stored):
            name = place.prop.name
            raise DuplicateError(f"Another of the {name} has the same {spec.name}.", [f"{name}.{spec.name}"])


def _from_form(place: Place, pairs: list[tuple[str, str]]) -> Any:
    name = next((text for each, text in pairs if each == "_cls"), None)
    schema = place.prop.item.schema_for(name, "/_cls")  # type: ignore[attr-defined]
    rest = [(each, text) for each, text in pairs if each != "_cls"]
    return typed.new_document(schema, typed.decode_form(schema, rest, creating=True))


def _without_class(schema: Schema, data: Any) -> Any:
    """Accept the class in a body only if it is the one that the document has."""
    pairs = data if isinstance(data, list) else list(data.items())
    for name, value in pairs:
        if name == "_cls" and (not schema.polymorphic or value != schema.class_name):
            raise refuse("/_cls", "the class of a document cannot be changed")
    rest = [(name, value) for name, value in pairs if name != "_cls"]
    return rest if isinstance(data, list) else dict(rest)
