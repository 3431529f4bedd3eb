"""Resources below a document: its embedded documents and what it refers to, to any depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bzz.model import Change, Stored
from bzz.model.json_schema import takes_null
from bzz.resource.etag import form_of
from bzz.resource.nested_path import Leg, check_names, names_of, related, resolve
from bzz.resource.nested_work import Work
from bzz.resource.nested_writing import work_for
from bzz.resource.operation import Operation, Outcome
from bzz.resource.resource import Resource
from bzz.resource.view import View

__all__ = ["NestedResource", "check_names", "names_of", "nested_at"]

_GET = ("GET", "HEAD")


def nested_at(resource: Resource, key: str, names: Sequence[str]) -> NestedResource:
    """Return what a path below the document with this key leads to; nothing is read.

    Raises MissingDocumentError where a name is no property that is a resource.
    """
    return NestedResource(resolve(resource, key, names))


class NestedResource(Resource):
    """One property of one document, or one item of it, as a resource; made for one operation.

    Its operations are those of :class:`~bzz.resource.Resource`, and are done by those of the document that
    holds the property, or of the one that it refers to: see :mod:`bzz.resource.nested_work`. ``target`` is
    the resource of what is referred to, None for embedded documents. ``created`` is the key of what an
    operation has created in a list.
    """

    is_nested = True

    def __init__(self, legs: tuple[Leg, ...]) -> None:
        leg = legs[-1]
        step = leg.steps[-1]
        owner, prop = leg.resource, step.property
        self.legs = legs
        self.owner = owner
        self.property = prop
        self.target = related(owner, prop.schema.model) if prop.refers else None
        self.is_list = prop.many and step.key is None
        self.is_only = not prop.many
        self.schema = prop.schema
        self.model = prop.schema.model
        self.name = prop.name
        self.options = owner.options if self.target is None else self.target.options
        self.store = owner.store
        self.client = owner.client
        self.hooks = owner.hooks
        self.idempotency = owner.idempotency
        self.siblings = owner.siblings
        self.view: View = (
            _EmbeddedView(owner, leg) if self.target is None else _ReferenceView(owner, self.target)
        )
        self.created: str | None = None
        self._before: Stored | None = None
        self._old: Stored | None = None

    @property
    def parts(self) -> tuple[Resource, ...]:
        """The resources whose documents its operations may write."""
        holders = tuple(leg.resource for leg in self.legs)
        return holders if self.target is None else (*holders, self.target)

    def __repr__(self) -> str:
        return f"<NestedResource {'/'.join(self.legs[-1].path)!r} of {self.owner!r}>"

    # What there is ------------------------------------------------------------------------------------------

    @property
    def key(self) -> str | None:
        """The key of the item; None of a list, and ``""`` of a document that is the only one there is."""
        return None if self.is_list else self.legs[-1].steps[-1].key or ""

    def methods(self) -> tuple[str, ...]:
        """Return the HTTP methods that there are, OPTIONS among them; perhaps none."""
        found = self.allowed(self._methods())
        return (*found, "OPTIONS") if found else ()

    def allowed(self, methods: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the HTTP methods that the resources have by which they are done."""
        return tuple(each for each in methods if each in self._methods() and self._has(each))

    def _has(self, method: str) -> bool:
        owner, fields = self.owner, self.legs[-1].fields
        if method in _GET and not owner.options.allowed(_GET):
            return False
        if owner.fields.readable.at(fields).is_none:
            return False  # what there is and what is not would tell of what cannot be seen
        if method in _GET or self._is_delegated(method):
            return self.target is None or bool(self.target.options.allowed((method,)))
        changeable = not owner.fields.changeable.at(fields).is_none
        return changeable and bool(owner.options.allowed(("PUT", "PATCH")))

    def _methods(self) -> tuple[str, ...]:
        if self.is_list:
            return (*_GET, "POST")
        if not self.is_only:
            return (*_GET, "PUT", "PATCH", "DELETE")
        # What the owner cannot be without is replaced, never taken out.
        return (*_GET, "POST", "PUT", "PATCH", *(["DELETE"] if takes_null(self.property.spec) else []))

    def _is_delegated(self, method: str) -> bool:
        """Tell whether a method concerns only a document that is referred to."""
        return self.target is not None and (method == "PATCH" or (method == "PUT" and not self.is_only))

    # The life of an operation -------------------------------------------------------------------------------

    async def start(self, operation: Operation) -> None:
        """Announce it, as the operation that it is on a plain resource, in the circles of that one."""
        work = self._work(operation)
        await work.resource.start(work.inner)

    async def perform(self, operation: Operation) -> Outcome:
        """Do it; see :meth:`bzz.resource.Resource.perform`."""
        work = self._work(operation)
        if operation.action not in {"get_list", "get_instance"}:
            work.require_state()
        return await work.perform()

    async def complete(self, operation: Operation, outcome: Outcome) -> None:
        """Tell of it: of the nested document first, then of the one that holds it."""
        work = self._work(operation)
        await work.resource.complete(work.inner, work.outcome)

    async def fail(self, operation: Operation) -> None:
        """Tell that it failed."""
        work = self._work(operation)
        await work.resource.fail(work.inner)

    def _work(self, operation: Operation) -> Work:
        if operation.nested is None:
            operation.nested = work_for(self, operation)
        found: Work = operation.nested
        return found

    # What came of it ----------------------------------------------------------------------------------------

    def hold(self, whole: Stored | None, before: Stored | None = None, old: Stored | None = None) -> None:
        """Take the document that holds the property: as it is now, and as it was before a write.

        ``old`` is what that write replaced of it.
        """
        self.view.whole = whole  # type: ignore[attr-defined]
        self._before, self._old = before, old

    def name_created(self, stored: Stored, index: int | None) -> None:
        """Take the key of an embedded document that is new in a list."""
        if self.is_list and (index is not None or self.property.key is not None):
            self.created = self.property.key_text(stored, index or 0)

    def key_of(self, stored: Stored) -> str | None:
        """Return the key of what was created, as text; None where it has none below its own URL."""
        return self.created

    def etag(self, stored: Stored) -> str:
        """Return the tag of a nested document: as it was before a write, if that is what is asked about."""
        if self.target is None and stored is self._old and self._before is not None:
            return self.owner.etag(self._before)
        return self.view.etag(stored)


class _EmbeddedView(View):
    """How embedded documents are shown: as a part of what can be seen of the document that holds them.

    The tag of each is that of the whole, because only that is ever written.
    """

    def __init__(self, owner: Resource, leg: Leg) -> None:
        schema = leg.steps[-1].property.schema
        super().__init__(schema, owner.view.readable.at(leg.fields), key=owner.options.tag_key)
        self._owner = owner
        self.whole: Stored | None = None

    def etag(self, stored: Stored, body: bytes = b"") -> str:
        """Return the tag of the whole, in the form in which the part is shown."""
        assert self.whole is not None
        return self._owner.view.tagged(self.whole, form_of(self.schema.of_stored(stored), body))

    def diff(self, stored: Stored, updated_fields: Mapping[str, Change]) -> dict[str, Any]:
        """Return of the diff of the whole what may be seen."""
        assert self.whole is not None
        return self._owner.view.diff(self.whole, updated_fields)


class _ReferenceView(View):
    """How documents that are referred to are shown: as anywhere. A diff may be that of who refers to them."""

    def __init__(self, owner: Resource, target: Resource) -> None:
        super().__init__(target.schema, target.view.readable, key=target.options.tag_key)
        self._owner = owner
        self.whole: Stored | None = None

    def diff(self, stored: Stored, updated_fields: Mapping[str, Change]) -> dict[str, Any]:
        """Return of a diff what may be seen."""
        if self.whole is None:
            return super().diff(stored, updated_fields)
        return self._owner.view.diff(self.whole, updated_fields)
