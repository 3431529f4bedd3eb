"""How what is below a document is written: each time as an update of the document that holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bzz import model as typed
from bzz.errors import MissingDocumentError, ValidationError, Veto
from bzz.model import Stored
from bzz.resource.nested_change import Change, translated, wrap
from bzz.resource.nested_embedded import Creation, Removal, Revision
from bzz.resource.nested_path import Leg, Step, locate, primary_key, session_for
from bzz.resource.nested_reference import Association, Dissociation, check_state, find_all, read_keys
from bzz.resource.nested_work import Delegation, Reading, Work
from bzz.resource.operation import Operation, Outcome
from bzz.resource.page import Page
from bzz.resource.resource import Resource

if TYPE_CHECKING:
    from bzz.resource.nested import NestedResource

__all__ = ["work_for"]


class _Writing(Work):
    """An update of the owner."""

    change: Change
    #: Whether the body is the value at the path, so that errors within it point into the body.
    sends_part = False

    def __init__(self, nested: NestedResource, outer: Operation, kind: Any) -> None:
        super().__init__(nested, outer, nested.legs[-1].resource, "update_instance")
        replaces = self.owner.options.put == "replace" and outer.data_kind == "fields"
        self.change = kind(self.leg, self.owner.fields, self.inner, replaces=replaces)
        self.inner.nested = self.change
        self.inner.data = self.terms()

    def terms(self) -> Any:
        """Return what the client sent in the terms of the owner."""
        data, kind = self.outer.data, self.outer.data_kind
        # A form without fields is an empty list as well, and as a patch that is one that does nothing.
        return wrap(self.leg, data if data or kind == "json_patch" else {}, kind)

    async def write(self) -> Outcome:
        """Let the owner do it; errors speak of what the client sent."""
        try:
            return await self.run()
        except ValidationError as error:
            place = self.change.place
            raise translated(self.leg, place, error, part=self.sends_part) from error


class Embedded(_Writing):
    """An embedded document that comes, changes or goes."""

    sends_part = True

    async def perform(self) -> Outcome:
        self.inner.data = self.terms()
        self.inner.key = await self.reach()
        inner = await self.write()
        change, after = self.change, self.change.after(inner)
        if after is None and self.outer.action != "delete_instance":
            after = change.written()
        before = change.before(inner)
        self.nested.hold(inner.after, inner.before, before)
        if after is not None and self.outer.action == "create_instance":
            place = change.find(inner.after)
            self.nested.name_created(after, None if place is None else place.index)
        return Outcome(before=before, after=after, updated_fields=inner.updated_fields)

    def terms(self) -> Any:
        if self.outer.action == "delete_instance":
            *above, last = self.leg.steps
            whole = Leg(self.owner, None, (*above, Step(last.property, None)))
            return wrap(whole, [] if last.property.many else None, "fields")
        return super().terms()


class Associating(_Writing):
    """Documents that come to be referred to."""

    change: Association

    async def perform(self) -> Outcome:
        nested, outer, target = self.nested, self.outer, self.nested.target
        assert target is not None
        keys, is_one = read_keys(nested.name, outer.data or {}, target.schema.key, many=nested.is_list)
        self.change.documents = documents = await find_all(target, self.owner, keys, outer)
        self.change.alone = outer.action == "create_instance"
        spec = target.schema.key
        shown = [spec.encode(each[spec.db_name]) for each in documents]
        self.inner.data = wrap(self.leg, shown if nested.is_list else shown[0], "fields")
        self.inner.key = await self.reach()
        if not nested.is_list and outer.is_conditional and not self.by_position:
            await self._check(target)
        inner = await self.write()
        nested.hold(inner.after, inner.before)
        outcome = Outcome(updated_fields=inner.updated_fields, is_new=bool(self.change.added))
        if not is_one:
            outcome.items, outcome.page = documents, Page(items=documents)
            return outcome
        outcome.after = documents[0]
        if nested.is_list:
            nested.created = typed.key_to_text(target.schema, documents[0])
        return outcome

    def terms(self) -> Any:
        # The keys are not read yet, and what they stand below is all that anybody can tell of them.
        data = self.outer.data
        return {self.leg.fields[0]: data} if isinstance(data, Mapping) else data

    async def _check(self, target: Resource) -> None:
        """Hold the conditions against the document that is referred to now."""
        assert self.inner.key is not None
        place = locate(self.owner.schema, await self.read(self.owner, self.inner.key), self.leg.steps)
        found = None
        if place.value is not None:
            found = await find_raw(target, place.prop.reference(place.value), self.owner, self.outer)
        check_state(target, self.outer, found)
        # The owner may be in any state; that somebody knows one is what it may demand.
        self.inner.if_match, self.inner.if_none_match = "*", None


class Dissociating(_Writing):
    """A document that is referred to no more."""

    change: Dissociation

    async def perform(self) -> Outcome:
        target, step = self.nested.target, self.leg.steps[-1]
        assert target is not None
        self.inner.key = await self.reach()
        if step.key is not None:
            wanted = await primary_key(target, step.key, self.outer)
        else:
            place = locate(self.owner.schema, await self.read(self.owner, self.inner.key), self.leg.steps)
            if place.value is None:
                raise MissingDocumentError(f"There is no {self.nested.name}.")
            wanted = place.prop.reference(place.value)
        found = await find_raw(target, wanted, self.owner, self.outer)
        if self.outer.is_conditional and not self.by_position:
            check_state(target, self.outer, found)
            self.inner.if_match, self.inner.if_none_match = "*", None
        self.change.wanted, self.change.document = wanted, found
        inner = await self.write()
        self.nested.hold(inner.after, inner.before)
        shown = await self._shown(target, wanted, found) if self.outer.dry_run else found
        return Outcome(before=shown, updated_fields=inner.updated_fields)

    async def _shown(self, target: Resource, wanted: Any, found: Stored | None) -> Stored:
        """Return what the client may see of the document: of one that it may not, that it was named."""
        if found is not None:
            with contextlib.suppress(MissingDocumentError, Veto):
                return await self.read(target, typed.key_to_text(target.schema, found))
        return {"_id": wanted}

    def terms(self) -> Any:
        *above, last = self.leg.steps
        whole = Leg(self.owner, None, (*above, Step(last.property, None)))
        return wrap(whole, [] if last.property.many else None, "fields")


async def find_raw(target: Resource, key: Any, owner: Resource, operation: Operation) -> Stored | None:
    """Read a document by its primary key, for receivers and conditions, not for a client."""
    return await target.store.find_one({"_id": key}, session=session_for(target, owner, operation))


def work_for(nested: NestedResource, operation: Operation) -> Work:
    """Return how an operation on a nested resource is done."""
    action, target = operation.action, nested.target
    if target is None:
        kinds: Mapping[str, Any] = {
            "create_instance": Creation,
            "update_instance": Revision,
            "delete_instance": Removal,
        }
        kind = kinds.get(action)
        return Reading(nested, operation) if kind is None else Embedded(nested, operation, kind)
    if action == "delete_instance":
        return Dissociating(nested, operation, Dissociation)
    is_patch = operation.data_kind != "fields"
    associates = action == "create_instance" or (
        action == "update_instance" and nested.is_only and not is_patch
    )
    if associates:
        return Associating(nested, operation, Association)
    return Delegation(nested, operation, target, action)
