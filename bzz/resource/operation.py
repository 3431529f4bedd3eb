"""What is asked of a resource and what came of it: the values that every way in hands to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bzz.model import Aggregation, Change, Stored
from bzz.resource.page import Page

__all__ = ["Action", "DataKind", "Operation", "Options", "Outcome"]

DataKind = Literal["fields", "merge_patch", "json_patch"]
Action = Literal["get_list", "get_instance", "create_instance", "update_instance", "delete_instance"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen for one resource; each is a keyword of ``routes_for``.

    ``per_page`` and ``max_per_page`` are documents a page, ``timeout`` the seconds that one command may take
    and ``retry_seconds`` how long a guarded write tries again while other writers win. ``put`` says what a
    PUT does with fields it is not given: ``merge`` leaves them, ``replace`` resets them. With
    ``require_if_match`` nobody changes or deletes a document without saying which state of it they know.

    ``filters``, ``sorts``, ``expandable``, ``expand_depth``, ``search``, ``aggregations`` and ``secret`` say
    what may be asked of its lists; see :class:`bzz.model.QueryRules`.
    """

    per_page: int = 20
    max_per_page: int = 100
    put: Literal["merge", "replace"] = "merge"
    timeout: float = 5.0
    retry_seconds: float = 10.0
    require_if_match: bool = False
    filters: Collection[str] | None = None
    sorts: Collection[str] | None = None
    expandable: Collection[str] = ()
    expand_depth: int = 2
    search: bool = False
    aggregations: Mapping[str, Aggregation] | None = None
    secret: str | bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.put not in {"merge", "replace"}:
            raise ValueError(f"put is 'merge' or 'replace', not {self.put!r}")
        if not 1 <= self.per_page <= self.max_per_page:
            raise ValueError(
                f"per_page must be from 1 to max_per_page ({self.max_per_page}), not {self.per_page}"
            )
        if self.timeout <= 0 or self.retry_seconds <= 0:
            raise ValueError("timeout and retry_seconds are seconds above 0")


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
    failure, and postrun are sent, as something did run; they can see ``operation.dry_run``.
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

    @property
    def args(self) -> tuple[Any, ...]:
        """What the operation works on, in order: the key, then the data, as far as it has them."""
        return tuple(each for each in (self.key, self.data) if each is not None)

    @property
    def is_conditional(self) -> bool:
        """Whether the operation depends on the state that the document is in."""
        return self.if_match is not None or self.if_none_match is not None


@dataclass(slots=True, eq=False)
class Outcome:
    """What an operation did, in the form in which MongoDB keeps documents.

    ``before`` is what this very write replaced, ``after`` what it stored; a read has only ``after`` or
    ``items``, and ``page`` has what belongs to a list. An aggregation has a ``page`` and no ``items``.
    """

    before: Stored | None = None
    after: Stored | None = None
    items: list[Stored] | None = None
    page: Page | None = None
    updated_fields: dict[str, Change] = field(default_factory=dict)
