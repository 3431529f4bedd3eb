"""References as resources: documents associated with an owner, and taken out again. They themselves stay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bzz import model as typed
from bzz.errors import (
    DuplicateError,
    FieldError,
    MissingDocumentError,
    PreconditionFailedError,
    ValidationError,
)
from bzz.model import FieldSpec, Stored
from bzz.model.refusal import MAX_ERRORS, below, child, refuse, shorten
from bzz.resource.nested_change import Change, hears, tell
from bzz.resource.nested_path import Place, locate, session_for
from bzz.resource.operation import Operation, Outcome
from bzz.resource.resource import Resource

__all__ = ["MAX_ASSOCIATED", "Association", "Dissociation", "check_state", "find_all", "read_keys"]

#: How many documents one request can associate.
MAX_ASSOCIATED = 100


class _Referring(Change):
    """What concerns documents that are elsewhere: each of them has a signal of its own."""

    async def _ask(self, read: Callable[[], Awaitable[Stored]], documents: Sequence[Stored]) -> None:
        event, schema = f"pre_{self.action}", self.property.schema
        if not documents or not hears(event, schema.model):
            return
        owner = typed.from_stored(self.access.schema, await read())
        for each in documents:
            known = {"data": self.operation.data} if self.action == "create_instance" else {}
            await tell(
                event,
                schema.model,
                arguments=self.operation.arguments,
                instance=typed.from_stored(schema, each),
                owner=owner,
                path=self.leg.path,
                handler=self.operation.handler,
                **known,
            )

    async def _tell(self, whole: Stored | None, outcome: Outcome, documents: Sequence[Stored]) -> None:
        event, schema = f"post_{self.action}", self.property.schema
        if whole is None or not hears(event, schema.model):
            return
        owner = typed.from_stored(self.access.schema, whole)
        for each in documents:
            await tell(
                event,
                schema.model,
                instance=typed.from_stored(schema, each),
                updated_fields=outcome.updated_fields,
                owner=owner,
                path=self.leg.path,
                handler=self.operation.handler,
            )


class Association(_Referring):
    """Documents that an owner refers to from now on; in a list, those that it does not have yet.

    ``documents`` are set before the write: they exist, and whoever asks may see them. ``added`` are those
    that were not there, as far as the last attempt knows. ``alone`` says that there may be no other yet.
    """

    action = "create_instance"
    documents: Sequence[Stored] = ()
    added: Sequence[Stored] = ()
    alone = False

    def apply(self, place: Place) -> None:
        """Add the references, or set the only one."""
        spec, target, name = place.prop.item, place.prop.schema, place.prop.name
        assert target.primary is not None
        self.added = [each for each in self.documents if not _refers(place, each["_id"])]
        if self.alone and self.added and not place.prop.many and place.value is not None:
            raise DuplicateError(f"There is one {name} already.", [".".join(self.leg.fields)])
        made = [spec.take(target.primary.encode(each["_id"]), place.pointer) for each in self.added]
        if place.prop.many:
            made = [*(place.document._data.get(name) or []), *made]
        if self.added:
            typed.assign(place.document, {(name,): made if place.prop.many else made[0]})

    async def ask(self, read: Callable[[], Awaitable[Stored]]) -> None:
        """Send a pre signal for each document, in their order."""
        await self._ask(read, self.documents)

    async def tell(self, outcome: Outcome) -> None:
        """Send a post signal for each document that came."""
        await self._tell(outcome.after, outcome, self.added)


class Dissociation(_Referring):
    """A reference that is taken out of its owner, wherever it stands in the list.

    ``wanted`` is the key of the document that it points to, None for the only one; ``document`` is that
    document, None if it is there no longer.
    """

    action = "delete_instance"
    wanted: Any = None
    document: Stored | None = None

    def find_in(self, document: Any, before: Stored) -> Place:
        return locate(self.access.schema, before, self.leg.steps, document=document, wanted=self.wanted)

    def apply(self, place: Place) -> None:
        """Take it out."""
        name = place.prop.name
        if place.index is None:
            if place.value is None:
                raise MissingDocumentError(f"There is no {name}.")
            typed.assign(place.document, {(name,): None})
            return
        pairs = zip(place.document._data[name], place.items, strict=True)
        rest = [
            item
            for item, stored in pairs
            if stored is None or not typed.same(place.prop.key_in(stored), self.wanted)
        ]
        typed.assign(place.document, {(name,): rest})

    async def ask(self, read: Callable[[], Awaitable[Stored]]) -> None:
        """Send the pre signal of the document, if there still is one."""
        await self._ask(read, [] if self.document is None else [self.document])

    async def tell(self, outcome: Outcome) -> None:
        """Send the post signal of the document, if there still is one."""
        await self._tell(outcome.before, outcome, [] if self.document is None else [self.document])


def _refers(place: Place, key: Any) -> bool:
    if place.prop.many:
        return place.prop.position(place.items, key) is not None
    return place.value is not None and typed.same(place.prop.reference(place.value), key)


# Which documents --------------------------------------------------------------------------------------------


def read_keys(name: str, data: Any, spec: FieldSpec, *, many: bool) -> tuple[list[tuple[str, str]], bool]:
    """Read what a body associates: the keys as text, each with a pointer, and whether it is exactly one.

    A list is written ``users[]=KEY`` or ``{"users": [KEY]}``, one document ``{"id": KEY}``. Raises
    ValidationError with a pointer to what is none of these.
    """
    given: dict[str, Any] = {}
    if isinstance(data, Mapping):
        given = dict(data)
    else:
        for each, text in data:
            given.setdefault(each.removesuffix("[]") if many else each, []).append(text)
    unknown = [each for each in given if each not in {name, "id"}]
    if unknown:
        raise ValidationError([_refusal(each, many, name) for each in unknown[:MAX_ERRORS]])
    if len(given) != 1:
        raise refuse("", f"expected {_expected(name, many)}")
    (field, value), is_form = next(iter(given.items())), not isinstance(data, Mapping)
    several = many and field == name
    if is_form and not several:
        if len(value) != 1:
            raise refuse(child("", field), "expected one value, not several")
        value = value[0]
    if several and not isinstance(value, list):
        raise refuse(child("", field), "expected an array of keys")
    values = value if several else [value]
    if not values or len(values) > MAX_ASSOCIATED:
        raise refuse(child("", field), f"expected from 1 to {MAX_ASSOCIATED} keys")
    pointer = child("", field)
    places = [child(pointer, position) for position in range(len(values))] if several else [pointer]
    found = [
        (at, each if is_form else _text(spec, each, at)) for at, each in zip(places, values, strict=True)
    ]
    return found, not several


def _refusal(name: str, many: bool, expected: str) -> FieldError:
    return FieldError(
        child("", name), f"unknown field {shorten(name)!r}: expected {_expected(expected, many)}"
    )


def _expected(name: str, many: bool) -> str:
    return (
        f"the keys of documents as {name!r}, or one as 'id'"
        if many
        else f"the key of a document as 'id' or {name!r}"
    )


def _text(spec: FieldSpec, value: Any, pointer: str) -> str:
    """Return the text of a key that came as JSON; raises ValidationError."""
    if value is None:
        raise refuse(pointer, "expected a key, not null")
    try:
        return typed.write_key(spec, spec.store(spec.take(value, "")))
    except ValidationError as error:
        raise ValidationError(list(below(pointer, error.errors))) from error


async def find_all(
    target: Resource, owner: Resource, keys: Sequence[tuple[str, str]], operation: Operation
) -> list[Stored]:
    """Return the documents with these keys, each once; all that are not there are in one ValidationError.

    Each is read as by a GET of its own, so that only what the client may see can be associated.
    """
    session = session_for(target, owner, operation)

    async def find(text: str) -> Stored | None:
        reading = Operation("get_instance", key=text, handler=operation.handler, session=session)
        try:
            found = await target.perform(reading)
        except MissingDocumentError:
            return None
        return found.after

    if session is None:
        found = list(await asyncio.gather(*(find(text) for _, text in keys)))
    else:  # a session is for one command at a time
        found = [await find(text) for _, text in keys]
    missing = [at for (at, _), each in zip(keys, found, strict=True) if each is None]
    if missing:
        raise ValidationError([FieldError(at, "no document has this key") for at in missing])
    once: list[Stored] = []
    for each in found:
        if each is not None and not any(typed.same(each["_id"], other["_id"]) for other in once):
            once.append(each)
    return once


def check_state(target: Resource, operation: Operation, found: Stored | None) -> None:
    """Hold the conditions of an operation against the document that its URL shows (RFC 9110, 13.2.2)."""
    view, name = target.view, target.name
    if found is None:
        if operation.if_match is not None:
            raise MissingDocumentError(f"There is no {name} in any state.")
        return
    if operation.if_match is not None and not view.matches(operation.if_match, found):
        detail = f"This {name} has changed."
    elif operation.if_none_match is not None and view.matches(operation.if_none_match, found, weak=True):
        detail = f"This {name} exists, in a state that If-None-Match names."
    else:
        return
    raise PreconditionFailedError(detail, target.etag(found))
