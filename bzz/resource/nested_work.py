"""How each kind of nested operation is done by the operations of plain resources.

What only concerns a document that somebody refers to is an operation on the resource of that document, once
it is certain that it is referred to. Everything else is an operation on the owner, the document that holds
the property: reading it, or an update of it. So whatever limits these resources limits what is below them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bzz import model as typed
from bzz.errors import MissingDocumentError, PreconditionRequiredError, QueryError
from bzz.model import ListQuery, Stored
from bzz.model.query.parameters import whole_number
from bzz.model.refusal import shorten
from bzz.resource.nested_change import hears, tell
from bzz.resource.nested_path import (
    Leg,
    key_of_reference,
    locate,
    session_for,
)
from bzz.resource.operation import Operation, Outcome
from bzz.resource.page import Page
from bzz.resource.resource import Resource

if TYPE_CHECKING:
    from bzz.resource.nested import NestedResource

__all__ = ["Delegation", "Reading", "Work"]

#: What of a list of references can be asked in the order of the list; anything else is a query.
_PLAIN = frozenset({"page", "per_page", "fields", "expand", "count"})


class Work:
    """One nested operation: ``outer`` as it was asked for, ``inner`` as ``resource`` does it."""

    outcome: Outcome

    def __init__(self, nested: NestedResource, outer: Operation, resource: Resource, action: Any) -> None:
        self.nested = nested
        self.leg: Leg = nested.legs[-1]
        self.owner = self.leg.resource
        self.outer = outer
        self.resource = resource
        self.inner = Operation(
            action,
            key=self.leg.key if resource is self.owner else self.leg.steps[-1].key,
            data=outer.data,
            data_kind=outer.data_kind,
            arguments=outer.arguments,
            handler=outer.handler,
            session=outer.session,
            if_match=outer.if_match,
            if_none_match=outer.if_none_match,
            dry_run=outer.dry_run,
        )

    async def perform(self) -> Outcome:
        """Do it, as far as the step of a resource that has this name does."""
        raise NotImplementedError

    @property
    def by_position(self) -> bool:
        """Whether the way there leads through a position in a list."""
        return any(leg.is_by_position for leg in self.nested.legs)

    def require_state(self) -> None:
        """Refuse to write by a position unless the client says in which state it does."""
        tags = self.outer.if_match
        if self.by_position and (tags is None or tags.strip(" \t") == "*"):
            raise PreconditionRequiredError(
                "This is reached by its position in a list, and positions move: send If-Match with the ETag "
                "of the state that you mean."
            )

    async def reach(self) -> str:
        """Return the key of the owner, through all documents before it; each must be there to be seen."""
        key = self.nested.legs[0].key
        for leg, _following in pairwise(self.nested.legs):
            assert key is not None
            key = await key_of_reference(leg, await self.read(leg.resource, key), self.outer)
        assert key is not None
        return key

    async def read(self, resource: Resource, key: str) -> Stored:
        """Read a document on the way as a GET of it would."""
        session = session_for(resource, self.nested.legs[0].resource, self.outer)
        reading = Operation("get_instance", key=key, handler=self.outer.handler, session=session)
        found = (await resource.perform(reading)).after
        assert found is not None
        return found

    async def run(self) -> Outcome:
        """Let the resource do the inner operation."""
        self.inner.session = session_for(self.resource, self.nested.legs[0].resource, self.outer)
        self.outcome = await self.resource.perform(self.inner)
        return self.outcome


class Delegation(Work):
    """An operation on a document that is referred to, or on all of them that a list refers to."""

    async def perform(self) -> Outcome:
        owner = await self.read(self.owner, await self.reach())
        self.inner.data = self.outer.data
        if self.inner.action == "get_list":
            return await self._list(owner)
        self.inner.key = await key_of_reference(self.leg, owner, self.outer)
        return await self.run()

    async def _list(self, owner: Stored) -> Outcome:
        place = locate(self.owner.schema, owner, self.leg.steps)
        references = [place.prop.reference(each) for each in place.items if each is not None]
        keys = list(dict.fromkeys(key for key in references if isinstance(key, Hashable)))
        arguments = self.outer.arguments
        if not _PLAIN.issuperset(arguments):
            self.inner.within = {"_id": {"$in": keys}}
            return await self.run()
        page, size = _page(self.resource, arguments)
        some = keys[(page - 1) * size : page * size]
        self.inner.within = {"_id": {"$in": some}}
        self.inner.arguments = {**arguments, "page": ["1"], "per_page": [str(size)]}
        outcome = await self.run()
        return self._ordered(outcome, some, page, len(keys))

    def _ordered(self, outcome: Outcome, keys: Sequence[Any], page: int, total: int) -> Outcome:
        found = outcome.page
        assert found is not None and found.query is not None
        at = {key: position for position, key in enumerate(keys)}
        items = sorted(found.items, key=lambda each: at[each["_id"]])
        query = dataclasses.replace(found.query, page=page)
        more = page * query.per_page < total
        counted = None if found.total is None else total
        outcome.page = dataclasses.replace(found, items=items, query=query, more=more, total=counted)
        outcome.items = items
        return outcome


class Reading(Work):
    """Embedded documents, read: one of them, or a list."""

    def __init__(self, nested: NestedResource, outer: Operation) -> None:
        super().__init__(nested, outer, nested.legs[-1].resource, "get_instance")
        self.inner.arguments = {}
        self.inner.nested = self
        self.event = outer.action

    async def perform(self) -> Outcome:
        self.inner.key = await self.reach()
        whole = (await self.run()).after
        assert whole is not None
        await self._ask(whole)
        self.place = locate(self.owner.schema, whole, self.leg.steps)
        self.nested.hold(whole)
        if self.nested.is_list:
            return self._page()
        for name in self.outer.arguments:
            raise QueryError(shorten(name), "an embedded document takes no parameters")
        if not isinstance(self.place.value, dict):
            raise MissingDocumentError(f"There is no {self.nested.name}.")
        return Outcome(after=self.place.value)

    def _page(self) -> Outcome:
        arguments = self.outer.arguments
        for name in arguments:
            if name not in {"page", "per_page"}:
                raise QueryError(shorten(name), "a list of embedded documents takes only page and per_page")
        page, size = _page(self.owner, arguments)
        skip = (page - 1) * size
        items = [each for each in self.place.items[skip : skip + size] if isinstance(each, dict)]
        query = ListQuery(filter={}, sort=[], page=page, per_page=size, skip=skip, limit=size)
        return Outcome(
            items=items, page=Page(items=items, query=query, more=len(self.place.items) > skip + size)
        )

    async def _ask(self, whole: Stored) -> None:
        event, model = f"pre_{self.event}", self.nested.model
        if hears(event, model):
            owner = typed.from_stored(self.owner.schema, whole)
            known = {"key": self.leg.steps[-1].key} if self.event == "get_instance" else {}
            asked = {"arguments": self.outer.arguments, "handler": self.outer.handler}
            await tell(event, model, owner=owner, path=self.leg.path, **asked, **known)

    async def tell(self, outcome: Outcome) -> None:
        """Send the post signal of what was read."""
        event, model = f"post_{self.event}", self.nested.model
        if not hears(event, model) or outcome.after is None:
            return
        owner = typed.from_stored(self.owner.schema, outcome.after)
        place = locate(self.owner.schema, outcome.after, self.leg.steps, document=owner)
        shown: dict[str, Any] = {"instance": place.typed}
        if self.nested.is_list:
            schema, items = place.prop.schema, self._page().items or ()
            shown = {"items": [typed.from_stored(schema, each) for each in items]}
        await tell(event, model, owner=owner, path=self.leg.path, handler=self.outer.handler, **shown)


def _page(resource: Resource, arguments: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    options, schema = resource.options, resource.schema
    size = whole_number(arguments, "per_page", options.per_page, schema)
    page = whole_number(arguments, "page", 1, schema)
    return min(max(page, 1), 2**31), min(max(size, 1), options.max_per_page)
