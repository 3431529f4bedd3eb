"""The life of one operation on one resource, in order.

Every way in (a request, a batch, the command line) makes an :class:`Operation` and gives it to
:meth:`Resource.run`, or takes its parts one by one, as a batch does that must tell of nothing before its
commit::

    prerun → pre signal → decode → validate → write → diff → post signal → success or failure → postrun

No step knows HTTP. What is done to documents is in :mod:`~bzz.resource.documents` and
:mod:`~bzz.resource.updates`.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from bzz import model as typed
from bzz.delivery.audience import Audience
from bzz.delivery.hooks import Hooks
from bzz.delivery.operating import operating
from bzz.errors import DuplicateError, ExitEarly, PreconditionRequiredError, ValidationError, Veto
from bzz.model import Schema, Stored
from bzz.resource.documents import Documents
from bzz.resource.glance import Glance
from bzz.resource.idempotency import settings
from bzz.resource.listing import Listing
from bzz.resource.operation import Action, Operation, Options, Outcome
from bzz.resource.page import Page
from bzz.resource.updates import Updates
from bzz.storage import Store

__all__ = ["Action", "Operation", "Options", "Outcome", "Resource"]

Result = TypeVar("Result")


class Resource:
    """A model that can be reached: its schema, its store, its options and who hears of it.

    ``takes_many``: an array creates as many documents as it has items. ``streams``: lists and what is created
    may be NDJSON. ``is_only``: it has one document at most, without a key. ``is_nested``: others announce its
    operations, see :mod:`bzz.resource.nested`. ``path`` is where it is, if not at its name.
    """

    is_only = False
    is_nested = False
    path: str | None = None

    takes_many = False
    streams = False

    def __init__(
        self,
        model: type,
        *,
        name: str,
        options: Options | None = None,
        client: Any = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.options = options or Options()
        self.schema = Schema.of(model)
        self.store = Store(model, client=client, timeout=self.options.timeout)
        self.hooks = hooks or Hooks(owner=self)
        self.takes_many = self.options.max_bulk > 0
        self.streams = self.options.ndjson
        self.idempotency = settings(self.options.idempotency)
        #: The resources that this one lives with, by name; what it expands is shown as they show it.
        self.siblings: Mapping[str, Resource] = {name: self}
        self._documents = Documents(self.schema, self.store, name=name, options=self.options)
        self._listing = Listing(self._documents, self._peers, client=client)
        #: How its documents are shown, which there are for whom, and what may be asked of lists of them.
        self.view = self._documents.view
        self.rows = self._documents.rows
        self.rules = self._listing.rules
        self.fields = self._documents.fields
        self.client = client
        self._authorize = _authorizing(self.hooks, self.options)
        #: Whether somebody is asked who may do what, or there is anything that clients may not see or set.
        self.is_guarded = bool(self._authorize) or not self._documents.fields.is_open
        #: The short way to its documents.
        self.glance = Glance(self._documents, self.rules, self.audience, is_restricted=bool(self._authorize))
        self._updates = Updates(self._documents)
        self._audiences: dict[Action, Audience] = {}
        self._steps: dict[Action, Callable[[Operation], Awaitable[Outcome]]] = {
            "get_list": self._get_list,
            "get_instance": self._get_instance,
            "create_instance": self._create,
            "update_instance": self._update,
            "delete_instance": self._delete,
        }

    def _peers(self) -> Iterable[Documents]:
        return [each._documents for each in self.siblings.values()]

    @property
    def parts(self) -> tuple[Resource, ...]:
        """The resources whose documents its operations may write."""
        return (self,)

    def __repr__(self) -> str:
        return f"<Resource {self.name!r} of {self.model.__name__}>"

    # One operation ------------------------------------------------------------------------------------------

    async def run(self, operation: Operation) -> Outcome:
        """Run an operation with all that belongs to it, and return what it did.

        Raises what the operation raised, unchanged: any of :mod:`bzz.errors`, or what a receiver raised.
        """
        try:
            if not self.is_nested and self.audience(operation.action).is_quiet:
                operation.resource = self
            else:
                await self.start(operation)
            outcome = await self.perform(operation)
        except BaseException:
            await self.fail(operation)
            raise
        if not self._is_silent(operation):
            if operation.before_telling is not None:
                operation.before_telling(operation)
            # A receiver that wants to end a batch: here there is none, and what is stored stays.
            with contextlib.suppress(ExitEarly):
                await self.complete(operation, outcome)
        return outcome

    def _is_silent(self, operation: Operation) -> bool:
        """Tell whether nobody at all would hear that an operation succeeded."""
        if operation.nested is not None:
            return False
        audience = self.audience(operation.action)
        return audience.is_quiet and not audience.hears

    @operating
    async def start(self, operation: Operation) -> None:
        """Announce that an operation starts; whoever raises ends it, which is a failure like any other."""
        operation.resource = self
        await self._event("prerun", operation)

    @operating
    async def complete(self, operation: Operation, outcome: Outcome) -> None:
        """Tell of what an operation did, once it is certain that it stays done.

        :class:`bzz.errors.ExitEarly` from a receiver is raised when everybody was told: it may end a batch,
        but the operation succeeded.
        """
        early = None
        try:
            await self.tell(operation, outcome)
        except ExitEarly as error:
            early = error
        except BaseException:
            await self.fail(operation)
            raise
        if not self.audience(operation.action).is_quiet:
            try:
                await self._event("success", operation, return_value=outcome)
            finally:
                await self._event("postrun", operation)
        if early is not None:
            raise early

    @operating
    async def fail(self, operation: Operation) -> None:
        """Tell that an operation that had started failed; call it while its exception is being handled."""
        try:
            await self._event("failure", operation, exc_info=sys.exc_info())
        finally:
            await self._event("postrun", operation)

    async def _event(self, event: str, operation: Operation, **more: Any) -> None:
        args, kwargs = operation.args, operation.arguments
        await self.hooks.run_event(
            event, operation=operation, task=operation, args=args, kwargs=kwargs, **more
        )

    @operating
    async def perform(self, operation: Operation) -> Outcome:
        """Do the work of an operation, from its pre signal to its write, without telling of it afterwards."""
        operation.resource, operation.scope = self, None
        if self.is_guarded:
            await self.admit(operation)
        if not operation.dry_run and not self.store.is_prepared:  # it makes indexes, which is writing
            await self.store.prepare()
        work = self._steps[operation.action](operation)
        return await (work if self.view.readable.is_all else self._discreetly(operation, work))

    async def _discreetly(self, operation: Operation, work: Awaitable[Result]) -> Result:
        """Await work whose errors must not repeat what the client cannot see."""
        try:
            return await work
        except ValidationError as error:
            masked = self._documents.fields.masked(error, operation)
            if masked is error:
                raise
            raise masked from error

    async def admit(self, operation: Operation) -> None:
        """Let an operation in, or raise: who asks is authorized, what they send may be set.

        It comes before anything is read, and before ``pre_`` receivers change the data.
        """
        operation.resource, operation.scope = self, None
        for authorize in self._authorize:
            verdict = authorize(operation)
            if inspect.isawaitable(verdict):
                verdict = await verdict
            if verdict is False:
                raise Veto(403, "This is not allowed.")
        self._documents.fields.admit(operation)

    def refusals(self, method: str) -> list[int]:
        """Return the statuses of requests that are refused for who sends them, or for where they lead."""
        if self._authorize:
            return [401, 403]
        return [403] if self.rows.is_checked and method in {"POST", "PUT", "PATCH"} else []

    async def scope(self, operation: Operation) -> dict[str, Any]:
        """Return the filter of the documents that an operation reaches; every read and write carries it."""
        return dict((await self._documents.scope(operation)).filter)

    @operating
    async def plan(
        self, operation: Operation, found: Stored | None = None, scope: Any = None
    ) -> tuple[Outcome, typed.Update]:
        """Do the work of an operation up to its write, for who writes many at once.

        ``found`` is the document that it changes or deletes, as it will be when the write comes, and lies
        within ``scope``, what the operation reaches. Return what the outcome of the write will be, and what
        an update has to write (nothing, if nothing changes).
        """
        await self.admit(operation)
        operation.scope = scope
        work = self._plan(operation, found)
        return await (work if self.view.readable.is_all else self._discreetly(operation, work))

    async def _plan(self, operation: Operation, found: Stored | None) -> tuple[Outcome, typed.Update]:
        if found is None:
            await self._ask(operation, data=operation.data)
            return await self._documents.plan(operation), typed.Update()
        if self.audience(operation.action).decides:
            known = {"instance": typed.from_stored(self.schema, found)}
            if operation.action == "update_instance":
                known["data"] = operation.data
            await self._ask(operation, **known)
        if operation.action == "delete_instance":
            return Outcome(before=found), typed.Update()
        update = await self._updates.plan(found, operation)
        return self._updates.outcome(found, update), update

    def named(self, error: Exception) -> Exception:
        """Return the error of a write as one that speaks of fields by the names that clients know."""
        return self._documents.spoken(error) if isinstance(error, DuplicateError) else error

    def allowed(self, methods: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the HTTP methods of a URL that it has."""
        return self.options.allowed(methods)

    def key_of(self, stored: Stored) -> str | None:
        """Return the key of a document as it stands in URLs, before percent-encoding; None if it has none."""
        return typed.key_to_text(self.schema, stored)

    def etag(self, stored: Stored) -> str:
        """Return the tag of a stored document, as far as it can be told without its ``to_dict()``."""
        return self._documents.etag(stored)

    async def tell(self, operation: Operation, outcome: Outcome) -> None:
        """Send the post signal of what an operation did; none if it changed nothing, or was not to."""
        if operation.nested is None:
            await self._tell(operation, outcome)
        elif not operation.dry_run and (operation.action != "update_instance" or outcome.updated_fields):
            try:
                await operation.nested.tell(outcome)
            finally:
                await self._tell(operation, outcome)

    async def _tell(self, operation: Operation, outcome: Outcome) -> None:
        action, handler, audience = operation.action, operation.handler, self.audience(operation.action)
        if (action == "update_instance" and not outcome.updated_fields) or not audience.hears:
            return
        if operation.dry_run:
            return
        if action == "get_list":
            if outcome.items is None:
                return  # the rows of an aggregation are nobody's documents
            items = [typed.from_stored(self.schema, each) for each in outcome.items or ()]
            await audience.tell(items=items, handler=handler)
            return
        stored = outcome.before if action == "delete_instance" else outcome.after
        assert stored is not None
        payload: dict[str, Any] = {"instance": typed.from_stored(self.schema, stored), "handler": handler}
        if action == "update_instance":
            payload["updated_fields"] = outcome.updated_fields
        await audience.tell(**payload)

    # The steps ----------------------------------------------------------------------------------------------

    @operating
    async def open_list(self, operation: Operation) -> None:
        """Do what comes before the reading of a list, for who reads it piece by piece."""
        await self.admit(operation)
        await self._ask(operation)

    @operating
    async def read_piece(self, operation: Operation, query: typed.ListQuery) -> Page:
        """Read a piece of a list, and tell of its documents."""
        page = await self._listing.page(query, operation, whole=self.audience("get_list").hears)
        if page.items:
            await self.tell(operation, Outcome(items=list(page.items), page=page))
        return page

    async def _get_list(self, operation: Operation) -> Outcome:
        await self._ask(operation)
        audience = self.audience("get_list")
        whole = audience.hears
        shown = operation.only_shown and not whole and audience.is_quiet
        return await self._listing.read(operation, whole=whole, shared=shown)

    async def _get_instance(self, operation: Operation) -> Outcome:
        if self.audience("get_instance").decides:
            await self._ask(operation, key=operation.key)
        if operation.arguments:
            return await self._listing.parts(operation)
        return Outcome(after=await self._documents.find_as_named(operation))

    async def _create(self, operation: Operation) -> Outcome:
        await self._ask(operation, data=operation.data)
        return await self._documents.create(operation)

    async def _update(self, operation: Operation) -> Outcome:
        self._require_if_match(operation)
        if self.audience("update_instance").decides:
            found = await self._documents.find_as_named(operation)
            instance = typed.from_stored(self.schema, found)
            more = {} if operation.nested is None else {"path": operation.nested.leg.path}
            await self._ask(operation, data=operation.data, instance=instance, **more)
        if operation.nested is not None:
            await operation.nested.ask(lambda: self._documents.find_as_named(operation))
        return await self._updates.run(operation)

    async def _delete(self, operation: Operation) -> Outcome:
        self._require_if_match(operation)
        if self.audience("delete_instance").decides:
            found = await self._documents.find_as_named(operation)
            await self._ask(operation, instance=typed.from_stored(self.schema, found))
        return await self._documents.delete(operation)

    def _require_if_match(self, operation: Operation) -> None:
        if self.options.require_if_match and operation.if_match is None:
            raise PreconditionRequiredError(
                f"Say which state of this {self.name} you know: send If-Match with its ETag."
            )

    # What the steps share -----------------------------------------------------------------------------------

    async def _ask(self, operation: Operation, **known: Any) -> None:
        """Send the pre signal; whoever raises ends the operation before anything is written."""
        audience = self.audience(operation.action)
        if audience.decides:
            known = {"arguments": operation.arguments, "handler": operation.handler, **known}
            await audience.ask(**known)

    def audience(self, action: Action) -> Audience:
        """Return who hears of an operation now."""
        found = self._audiences.get(action)
        if found is None or not found.is_present:
            found = self._audiences[action] = Audience(action, self.model, self.hooks)
        return found


def _authorizing(hooks: Hooks, options: Options) -> list[Callable[[Operation], Any]]:
    """Return who is asked before an operation runs, the outermost circle first."""
    found = [] if options.authorize is None else [options.authorize]
    circle: Hooks | None = hooks
    while circle is not None:
        if circle.authorize is not None:
            found.insert(0, circle.authorize)
        circle = circle.outer
    return found
