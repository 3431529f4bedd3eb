"""Which fields of a resource clients may see and set: decided once, held everywhere.

A field that cannot be set may still be sent as it is, so that what a GET gave can be sent back; one that
cannot be seen either may not be sent at all, or it could be found out by trying.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from bzz import model as typed
from bzz.errors import FieldError, ValidationError
from bzz.model import ALL, NONE, Assignments, Path, Schema, Selection, Stored
from bzz.model.query.paths import Found, find
from bzz.model.refusal import MAX_ERRORS, child
from bzz.resource.operation import Operation, Options

__all__ = ["FieldAccess"]

_UNCHANGEABLE = "this field cannot be changed"
_UNSETTABLE = "this field cannot be set"


class FieldAccess:
    """What may be seen (``readable``), set in a new document (``creatable``) and changed (``changeable``).

    The key of a document can always be seen, and never changed. Raises ValueError for names that the model
    does not have, and for what contradicts itself.
    """

    def __init__(self, schema: Schema, options: Options) -> None:
        self.schema = schema
        readable = _names(schema, "readable", options.readable)
        writable = _names(schema, "writable", options.writable, alone=True)
        once = _names(schema, "write_once", options.write_once, alone=True) or []
        hidden = _names(schema, "write_only", options.write_only) or []
        keys = {each.name for each in (schema.primary, schema.key) if each is not None}
        if both := {*(readable or ()), *keys} & {*hidden}:
            raise ValueError(f"write_only: {', '.join(sorted(both))} cannot be readable and write_only")
        for name in hidden:
            _check_list(schema, name, writable)
        self.readable = _selection(None if readable is None else [*readable, *keys], hidden)
        self.creatable = _selection(None if writable is None else [*writable, *hidden, *once])
        self.changeable = _selection(None if writable is None else [*writable, *hidden], once)
        #: What a client may both see and change: of anything else, an update leaves what it does not name.
        self.is_open = self.readable.is_all and self.creatable.is_all and self.changeable.is_all
        self._keys = {(name,) for name in keys}

    # What clients send --------------------------------------------------------------------------------------

    def admit(self, operation: Operation) -> None:
        """Refuse what the client may not set, before anybody has changed what it sent.

        Of what may be sent as it is (see above), ``operation.frozen`` is told: :meth:`check` looks at it.
        """
        operation.frozen = frozenset()
        if self.is_open:
            return
        if operation.action == "create_instance":
            refused = [path for path, _ in _named(self.creatable, operation) if self._is_field(path)]
            if refused:
                raise _refusal(refused, _UNSETTABLE)
        elif operation.action == "update_instance":
            named = [(path, given) for path, given in _named(self.changeable, operation, partly=True)]
            named = [each for each in named if each[0] not in self._keys and self._is_field(each[0])]
            unseen = [path for path, given in named if given and self.readable.at(path).is_none]
            if unseen:
                raise _refusal(unseen, _UNCHANGEABLE)
            operation.frozen = frozenset(path for path, _ in named)

    def _is_field(self, path: tuple[Any, ...]) -> bool:
        """Tell whether a path may lead to a field; of any other it is said later that there is none."""
        if not path or self.schema.dynamic or path[0] in self.schema.fields:
            return True
        return self.schema.polymorphic and _find(self.schema, str(path[0])) is not None

    def check(self, operation: Operation, before: Stored, after: Stored) -> None:
        """Refuse an update that gives another value to a field that cannot be changed and that it named.

        What the server changed besides is its own affair.
        """
        if not operation.frozen:
            return
        schema = self.schema.of_stored(before)
        changed = [
            path
            for path in typed.changed_outside(self.changeable, schema, before, after)
            if any(path[: len(each)] == each[: len(path)] for each in operation.frozen)
        ]
        if changed:
            raise _refusal(changed, _UNCHANGEABLE)

    def needs_document(self, operation: Operation, assignments: Assignments) -> bool:
        """Tell whether these assignments cannot be judged, or carried out, without the stored document."""
        return bool(operation.frozen) or any(
            len(path) == 1 and self.is_partial(path[0]) for path in assignments
        )

    def is_partial(self, name: str) -> bool:
        """Tell whether a field of the document has parts that a client cannot see or change."""
        seen, changeable = self.readable.below(name), self.changeable.below(name)
        if changeable.is_all:
            return not (seen.is_all or seen.is_none)
        return not changeable.is_none

    def known(self, name: str, shown: Any, given: Any) -> Any:
        """Return of the JSON of a field what an update that names it is about, so that the rest stays."""
        return _known(shown, given, self.readable.below(name), self.changeable.below(name))

    def seen(self, shown: dict[str, Any], given: Any) -> dict[str, Any]:
        """Return of the JSON of a document what can be seen, and what a merge patch names."""
        found: dict[str, Any] = _known(shown, given, self.readable, ALL)
        return found

    def resets(self, name: str) -> bool:
        """Tell whether a replacement resets a field of the document that it does not mention."""
        return self.readable.below(name).is_all and self.changeable.below(name).is_all

    # What errors say ----------------------------------------------------------------------------------------

    def masked(self, error: ValidationError, operation: Operation) -> ValidationError:
        """Return an error that does not repeat what the client cannot see, unless it was just sent."""
        if self.readable.is_all or not any(map(self._is_hidden, error.errors)):
            return error
        sent = {path[:1] for path, _ in _named(NONE, operation)}
        return ValidationError(
            [
                each._replace(detail="the value is not valid")
                if self._is_hidden(each) and _names_in(each.pointer)[:1] not in sent
                else each
                for each in error.errors
            ]
        )

    def _is_hidden(self, error: FieldError) -> bool:
        names = _names_in(error.pointer)
        return bool(names) and not self.readable.at(names).is_all


def _known(shown: Any, given: Any, seen: Selection, changeable: Selection) -> Any:
    if seen.is_all and changeable.is_all:
        return shown
    if isinstance(shown, list):
        return [_known(each, None, seen, changeable) for each in shown]
    if not isinstance(shown, dict):
        return shown
    named = given if isinstance(given, Mapping) else {}
    return {
        name: _known(value, named.get(name), seen.below(name), changeable.below(name))
        for name, value in shown.items()
        if name == "_cls" or name in named or not (seen.below(name).is_none or changeable.below(name).is_none)
    }


def _selection(only: Collection[str] | None, without: Collection[str] = ()) -> Selection:
    return ALL if only is None and not without else Selection(only, without)


def _names(
    schema: Schema, option: str, names: Collection[str] | None, *, alone: bool = False
) -> Collection[str] | None:
    """Check the names of an option; ``alone``: none of them may be in a list, which is set as a whole."""
    if isinstance(names, str):
        raise TypeError(f"{option} is a collection of names, not one text")
    for name in names or ():
        found = _find(schema, name)
        if found is None and not (schema.dynamic and schema.accepts(name)):
            raise ValueError(f"{option}: {schema.name} has no field {name!r}")
        if alone and found is not None and found.below_list:
            raise ValueError(f"{option}: {name!r} is in a list, which is set as a whole")
    return names


def _check_list(schema: Schema, name: str, writable: Collection[str] | None) -> None:
    """Refuse to have a part of the items of a list set by who cannot set the list."""
    found = _find(schema, name)
    if writable is None or found is None or not found.below_list:
        return
    parts = name.split(".")
    if not any(".".join(parts[:end]) in writable for end in range(1, len(parts))):
        raise ValueError(f"write_only: {name!r} is in a list, which is set as a whole: it must be writable")


def _find(schema: Schema, name: str) -> Found | None:
    """Find a field by its dotted name, also one that only a class below the model has."""
    classes = [Schema.of(cls) for cls in schema.subclasses.values()] if schema.polymorphic else []
    return next((found for each in [schema, *classes] if (found := find(each, name))), None)


def _named(
    selection: Selection, operation: Operation, *, partly: bool = False
) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Yield the path of what the data of an operation sets outside, and whether it sets all of that.

    ``partly``: also of what lies outside in part; of an object it is then said what to change.
    """
    data = operation.data
    if operation.data_kind == "json_patch":
        yield from _patched(selection, data)
    elif isinstance(data, list):
        for name, _ in data:
            path = tuple(name.removesuffix("[]").split("."))
            if selection.at(path).is_none:  # an object, of which a part may be, cannot be written as text
                yield path, True
    elif isinstance(data, Mapping):
        for path in typed.named_outside(selection, data):
            yield path, True
        if partly:
            for name, value in data.items():
                below = selection.below(name)
                if not below.is_all and not below.is_none:
                    yield (name,), not isinstance(value, Mapping)


def _patched(selection: Selection, data: Any) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Yield the same of a JSON Patch; its shape is looked at later."""
    for each in data if isinstance(data, list) else ():
        given = each if isinstance(each, dict) else {}
        pointers = {"move": ("from", "path"), "test": ()}.get(str(given.get("op")), ("path",))
        for pointer in pointers:
            path = _names_in(str(given.get(pointer, "")))
            below = selection.at(path)
            if below.is_none:
                yield path, True
            elif not below.is_all:
                yield path, True
                for inner in typed.named_outside(below, given.get("value")):
                    yield (*path, *inner), True


def _names_in(pointer: str) -> Path:
    """Return the names of fields in a JSON Pointer, without positions in lists."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    return tuple(part for part in parts if part != "-" and not part.isdigit())


def _refusal(paths: Iterable[Iterable[Any]], detail: str) -> ValidationError:
    pointers = dict.fromkeys("".join(child("", str(name)) for name in path) for path in paths)
    return ValidationError([FieldError(each, detail) for each in pointers][:MAX_ERRORS])
