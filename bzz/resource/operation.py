"""What is asked of a resource and what came of it: the values that every way in hands to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bzz.model import Aggregation, Change, Stored
from bzz.model.query.rules import secret_of
from bzz.resource.idempotency import Idempotency
from bzz.resource.page import Page

__all__ = ["Action", "DataKind", "Operation", "Options", "Outcome"]

DataKind = Literal["fields", "merge_patch", "json_patch"]
Action = Literal["get_list", "get_instance", "create_instance", "update_instance", "delete_instance"]


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen for one resource; each is a keyword of ``routes_for``.

    ``per_page`` and ``max_per_page`` are documents a page, ``timeout`` the seconds that one command may take
    and ``retry_seconds`` how long a guarded write tries again while other writers win. ``put`` says what a
    PUT does with fields it is not given: ``merge`` leaves them, ``replace`` resets them. With
    ``require_if_match`` nobody changes or deletes a document without saying which state of it they know.

    At most ``max_bulk`` documents are created by one POST of an array (none, if it is 0), and changed or
    deleted by one PATCH or DELETE of the collection, which is there only for the methods named in ``bulk``.
    ``bulk_timeout`` is the seconds that all of it may take. With ``ndjson`` the whole of a list can be read,
    and any number of documents created, as a stream.

    ``nested`` are the names of the properties (embedded documents and references) that are resources of
    their own below each document (None: all); see :mod:`bzz.resource.nested`.

    ``filters``, ``sorts``, ``expandable``, ``expand_depth``, ``search``, ``aggregations`` and ``secret`` say
    what may be asked of its lists; see :class:`bzz.model.QueryRules`.

    ``methods`` are the HTTP methods that it has (None: all; HEAD goes with GET). ``readable`` and
    ``writable`` are the dotted names of the fields that clients may see and set (None: all); those of
    ``write_once`` may be set when a document is created, those of ``write_only`` are never shown.
    ``authorize`` is called with each operation before anything is read, and refuses it by raising or with
    False. ``rows`` is a dict of field and value, or a function of the operation that returns one: the
    resource has no other documents. ``get_list_queryset(queryset, handler)`` and
    ``get_instance_queryset(model, queryset, key, handler)`` limit them by a queryset of mongoengine; by
    default those of the model, if it has them.

    ``idempotency`` is how requests with an ``Idempotency-Key`` are done once
    (:class:`bzz.resource.idempotency.Idempotency`); False, and the header does not count.
    """

    per_page: int = 20
    max_per_page: int = 100
    put: Literal["merge", "replace"] = "merge"
    timeout: float = 5.0
    retry_seconds: float = 10.0
    require_if_match: bool = False
    bulk: Collection[str] = ()
    max_bulk: int = 10_000
    bulk_timeout: float = 30.0
    ndjson: bool = False
    filters: Collection[str] | None = None
    sorts: Collection[str] | None = None
    expandable: Collection[str] = ()
    expand_depth: int = 2
    search: bool = False
    aggregations: Mapping[str, Aggregation] | None = None
    secret: str | bytes | None = field(default=None, repr=False)
    methods: Collection[str] | None = None
    readable: Collection[str] | None = None
    writable: Collection[str] | None = None
    write_once: Collection[str] = ()
    write_only: Collection[str] = ()
    authorize: Callable[[Operation], Any] | None = None
    rows: Mapping[str, Any] | Callable[[Operation], Any] | None = None
    get_list_queryset: Callable[..., Any] | None = None
    get_instance_queryset: Callable[..., Any] | None = None
    nested: Collection[str] | None = None
    idempotency: Idempotency | bool = True

    def allowed(self, methods: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the HTTP methods of a URL that the resource has."""
        if self.methods is None:
            return methods
        chosen = {*self.methods, "OPTIONS", *(["HEAD"] if "GET" in self.methods else [])}
        return tuple(each for each in methods if each in chosen)

    @property
    def tag_key(self) -> bytes:
        """What the tags of documents are made with that are not shown as a whole."""
        return secret_of(self.secret)

    def __post_init__(self) -> None:
        if self.put not in {"merge", "replace"}:
            raise ValueError(f"put is 'merge' or 'replace', not {self.put!r}")
        if self.methods is not None and (
            isinstance(self.methods, str) or not _METHODS.issuperset(self.methods)
        ):
            raise ValueError(f"methods are some of {', '.join(sorted(_METHODS))}, not {self.methods!r}")
        if not 1 <= self.per_page <= self.max_per_page:
            raise ValueError(
                f"per_page must be from 1 to max_per_page ({self.max_per_page}), not {self.per_page}"
            )
        if self.timeout <= 0 or self.retry_seconds <= 0 or self.bulk_timeout <= 0:
            raise ValueError("timeout, retry_seconds and bulk_timeout are seconds above 0")
        if isinstance(self.bulk, str) or not {"PATCH", "DELETE"}.issuperset(self.bulk):
            raise ValueError(f"bulk names methods, PATCH and DELETE, not {self.bulk!r}")
        if self.bulk and self.require_if_match:
            raise ValueError("a bulk change cannot name the states that require_if_match asks for")
        if self.max_bulk < 0:
            raise ValueError(f"max_bulk is a number of documents, not {self.max_bulk}")


@dataclass(slots=True, eq=False)
class Operation:
    """One operation on one resource, as it was asked for.

    ``data`` is the parsed body: a dict from JSON, or a list of ``(name, value)`` pairs from a form. A
    ``pre_`` receiver may change it in place, and what it leaves is what is decoded. ``data_kind`` says what
    it means: ``fields`` are set, a ``merge_patch`` (RFC 7396, a dict) or a ``json_patch`` (RFC 6902, a list
    of operations) is applied. ``session`` is the session of the transaction that the operation is part of.

    ``if_match`` and ``if_none_match`` are the values of these headers (RFC 9110, 13.1): the operation then
    concerns the document only in a state that the first names and the second does not. The check is part of
    the write.

    With ``dry_run`` everything happens up to the write, and nothing from there on: receivers of ``pre_``
    signals may veto, the result is validated, the outcome says what would be stored. Prerun, success or
    failure, and postrun are sent, as something did run; they can see ``operation.dry_run``. Inside of a
    transaction a dry run writes, for those after it to see, but never by the model's own ``save()`` or
    ``delete()``: whoever began the transaction rolls it back.

    ``resource`` is the :class:`bzz.resource.Resource` that it runs on, from its prerun on.
    """

    action: Action
    key: str | None = None
    data: Any = None
    data_kind: DataKind = "fields"
    arguments: Mapping[str, list[str]] = field(default_factory=dict)
    handler: Any = None
    session: Any = None
    if_match: str | None = None
    if_none_match: str | None = None
    dry_run: bool = False
    #: Whether who asks only shows what is read: a list then comes as a page of BSON, without ``items``.
    only_shown: bool = False
    resource: Any = None
    #: Called when its work is done and somebody is about to hear of it.
    before_telling: Callable[[Operation], None] | None = field(default=None, repr=False)
    #: What it can reach, as long as it runs; see :mod:`bzz.resource.rows`.
    scope: Any = field(default=None, repr=False)
    #: The fields that cannot be changed and that the client named; see :mod:`bzz.resource.access`.
    frozen: frozenset[tuple[Any, ...]] = field(default=frozenset(), repr=False)
    #: What it is about if that is a property of the document; see :mod:`bzz.resource.nested`.
    nested: Any = field(default=None, repr=False)
    #: A filter that documents must match besides, None for no other.
    within: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def args(self) -> tuple[Any, ...]:
        """What the operation works on, in order: the key, then the data, as far as it has them."""
        return tuple(each for each in (self.key, self.data) if each is not None)

    @property
    def writes(self) -> bool:
        """Whether it comes to writing: a dry run does so in a transaction only, which is then rolled back."""
        return not self.dry_run or self.session is not None

    @property
    def is_conditional(self) -> bool:
        """Whether the operation depends on the state that the document is in."""
        return self.if_match is not None or self.if_none_match is not None


@dataclass(slots=True, eq=False)
class Outcome:
    """What an operation did, in the form in which MongoDB keeps documents.

    ``before`` is what this very write replaced, ``after`` what it stored; a read has only ``after`` or
    ``items``, and ``page`` has what belongs to a list. An aggregation has a ``page`` and no ``items``, nor
    has a list that is only shown.
    ``is_new`` is false of what was to be created and was there already.
    """

    before: Stored | None = None
    after: Stored | None = None
    items: list[Stored] | None = None
    page: Page | None = None
    updated_fields: dict[str, Change] = field(default_factory=dict)
    is_new: bool = True
