"""What a nested operation makes of the document that holds the property: always an update of that document.

So it is checked, guarded and written like any other, and its diff is the one that the same change by a PUT
would have had. What the client sent is handed on in the terms of that document, ``{"address": {"city": …}}``
for ``PUT /user/KEY/address``: whoever decides about its fields needs to know nothing of nested resources.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bzz import model as typed
from bzz.delivery.hooks import Hooks, announce, is_heard
from bzz.errors import FieldError, MissingDocumentError, ValidationError
from bzz.model import Schema, Stored
from bzz.model.refusal import child
from bzz.resource.access import FieldAccess
from bzz.resource.nested_path import Leg, Place, Step, locate
from bzz.resource.operation import Action, Operation, Outcome

__all__ = [
    "Change",
    "hears",
    "tell",
    "translated",
    "unwrap",
    "wrap",
]

#: Nobody in particular: nested signals are those of a model, and no circle of listeners is the model's.
_NOBODY = Hooks(owner=None)


async def tell(event: str, model: type, **payload: Any) -> None:
    """Send a signal of a nested resource: the sender is the model of the property."""
    await announce(event, model, _NOBODY, **payload)


def hears(event: str, model: type) -> bool:
    """Tell whether anybody would hear it."""
    return is_heard(event, model, _NOBODY)


class Change:
    """A change of one property of one document; one of these for each operation.

    ``leg`` says where in the document the property is. ``operation`` is the update of the document, and
    ``arguments`` and ``handler`` in it what receivers are told.
    """

    action: Action

    def __init__(
        self, leg: Leg, access: FieldAccess, operation: Operation, *, replaces: bool = False
    ) -> None:
        self.leg = leg
        self.property = leg.steps[-1].property
        self.access = access
        self.operation = operation
        self.replaces = replaces
        self.place: Place | None = None  # of what was changed, in the document as it was read last

    def apply(self, place: Place) -> None:
        """Change the typed document at a place."""
        raise NotImplementedError

    def revise(self, document: Any, before: Stored) -> None:
        """Change the typed document that ``before`` is; raises ValidationError, MissingDocumentError …"""
        place = self.find_in(document, before)
        self.place = place
        self._take_more(document)
        self.apply(place)

    def find_in(self, document: Any, before: Stored) -> Place:
        """Find the place of the property, or of the item, in the document as it is."""
        return locate(self.access.schema, before, self.leg.steps, document=document)

    def body(self) -> Any:
        """Return what the client sent, and receivers have left of it, in its own terms."""
        return unwrap(self.leg, self.operation.data, self.operation.data_kind)

    def _take_more(self, document: Any) -> None:
        """Set what a receiver has added to the data of the whole document."""
        data, name = self.operation.data, self.leg.fields[0]
        if isinstance(data, Mapping) and data.keys() - {name}:
            more = {each: value for each, value in data.items() if each != name}
            schema = Schema.of(type(document))
            typed.assign(document, typed.decode_object(schema, more, creating=False))

    # What came of it ----------------------------------------------------------------------------------------

    def before(self, outcome: Outcome) -> Stored | None:
        """Return the nested document as it was."""
        return None if self.place is None or outcome.before is None else self.place.value

    def after(self, outcome: Outcome) -> Stored | None:
        """Return the nested document as it is now."""
        place = self.find(outcome.after)
        return None if place is None else place.value

    def find(self, after: Stored | None, document: Any = None) -> Place | None:
        """Find what was changed in the document as it is now; None if it is not there."""
        assert self.place is not None and after is not None
        *above, last = self.leg.steps
        try:
            place = locate(self.access.schema, after, [*above, Step(last.property, None)], document=document)
        except MissingDocumentError:
            return None  # a save() of the model's own made something else of it
        index = self.index(place)
        if self.property.many and (index is None or index >= len(place.items)):
            return None
        return place.at(index)

    def index(self, place: Place) -> int | None:
        """Return where in a list the nested document stands after the write."""
        assert self.place is not None
        if self.property.is_sorted:
            written = self.written()
            found = (i for i, each in enumerate(place.items) if typed.same(each, written))
            return next(found, None)
        return self.place.index

    def written(self) -> Stored | None:
        """Return the nested document as it was to be stored."""
        return None

    # Who is told --------------------------------------------------------------------------------------------

    async def ask(self, read: Callable[[], Awaitable[Stored]]) -> None:
        """Send the pre signal of the nested document; ``read`` reads the whole one."""
        model, operation = self.property.schema.model, self.operation
        event = f"pre_{self.action}"
        if not hears(event, model):
            return
        before = await read()
        owner = typed.from_stored(self.access.schema, before)
        place = locate(self.access.schema, before, self.leg.steps, document=owner)
        known = {"arguments": operation.arguments, "handler": operation.handler, "owner": owner}
        if self.action != "create_instance":
            known["instance"] = self._present(place).typed
        if self.action != "delete_instance":
            known["data"] = self.body()
        await tell(event, model, path=self.leg.path, **known)

    async def tell(self, outcome: Outcome) -> None:
        """Send the post signal of the nested document."""
        model, operation = self.property.schema.model, self.operation
        event = f"post_{self.action}"
        if not hears(event, model):
            return
        gone = self.action == "delete_instance"
        whole = outcome.before if gone else outcome.after
        assert whole is not None and self.place is not None
        owner = typed.from_stored(self.access.schema, whole)
        if gone:
            place: Place | None = locate(self.access.schema, whole, self.leg.steps, document=owner)
        else:
            place = self.find(whole, owner)
        if place is None:
            return
        payload = {
            "instance": place.typed,
            "owner": owner,
            "path": self.leg.path,
            "handler": operation.handler,
        }
        await tell(event, model, updated_fields=outcome.updated_fields, **payload)

    def _present(self, place: Place) -> Place:
        """Refuse a place where there is no document."""
        if not isinstance(place.value, dict) or isinstance(place.typed, dict):
            raise MissingDocumentError(f"There is no {self.property.name}.")
        return place


# In whose terms --------------------------------------------------------------------------------------------


def wrap(leg: Leg, data: Any, kind: str) -> Any:
    """Return what concerns a property in the terms of the whole document."""
    if kind == "json_patch":
        prefix = "".join(f"/{name}" for name in leg.fields)
        return [_moved(each, lambda path: prefix + path) for each in data] if isinstance(data, list) else data
    if _is_form(data):
        prefix = ".".join(leg.fields)
        return [(f"{prefix}.{name}", text) for name, text in data]
    for step in reversed(leg.steps):
        one = step.key is not None or isinstance(data, dict)
        data = {step.property.name: [data] if step.property.many and one else data}
    return data


def unwrap(leg: Leg, data: Any, kind: str) -> Any:
    """Return what :func:`wrap` was given, as far as receivers have left it."""
    if kind == "json_patch":
        prefix = "".join(f"/{name}" for name in leg.fields)
        if not isinstance(data, list):
            return data  # what is no patch is refused where patches are
        return [_moved(each, lambda path: path.removeprefix(prefix)) for each in data]
    if _is_form(data):
        prefix = f"{'.'.join(leg.fields)}."
        return [(name.removeprefix(prefix), text) for name, text in data if name.startswith(prefix)]
    for step in leg.steps:
        data = data.get(step.property.name) if isinstance(data, dict) else None
        if step.property.many and isinstance(data, list):
            data = data[0] if data else None
    return {} if data is None else data


def _is_form(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], tuple)


def _moved(operation: Any, move: Any) -> Any:
    if not isinstance(operation, dict):
        return operation
    places = {
        each: move(operation[each]) for each in ("path", "from") if isinstance(operation.get(each), str)
    }
    return {**operation, **places}


def translated(leg: Leg, place: Place | None, error: ValidationError, *, part: bool) -> ValidationError:
    """Return an error that speaks of what the client sent: pointers into it, not into the whole document.

    ``part``: what was sent is the value at the place.
    """
    plain = "".join(child("", name) for name in leg.fields)
    wrapped = "".join(
        child("", step.property.name) + ("/0" if step.property.many else "") for step in leg.steps
    )
    prefixes = [f"{each}/" for each in ("" if place is None else place.pointer, wrapped, plain) if each]
    if not part:
        prefixes = []
    found = []
    for pointer, detail in error.errors:
        prefix = next((each for each in prefixes if pointer.startswith(each)), None)
        if prefix is not None:
            found.append(FieldError(pointer[len(prefix) - 1 :], detail))
        else:
            where = pointer.replace("/", ".")
            found.append(FieldError("", f"{leg.resource.name}{where}: {detail}"))
    return ValidationError(found)
