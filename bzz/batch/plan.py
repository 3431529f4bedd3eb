"""What a batch is asked to do, read from JSON: strictly, and all that is wrong with it at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bzz.batch.directory import METHODS, Directory, Target
from bzz.errors import FieldError, ValidationError
from bzz.model import patch
from bzz.resource import Action, Operation, Resource
from bzz.resource.etag import is_if_match
from bzz.resource.operation import DataKind

__all__ = ["BatchRequest", "Limits", "PlannedOperation", "read_request"]

#: Names that the signals of a batch use themselves; an option cannot be called like that.
RESERVED = frozenset(
    {"sender", "signal", "batch", "routine", "handler", "exception", "failed_operation", "failed_command"}
    | {"early_exit", "exit_operation", "last_operation", "last_command", "name", "operations", "atomic"}
    | {"dry_run", "continue_on_error", "switches", "options", "timeout"}
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one batch may ask for.

    ``max_operations`` counts operations as they are sent, before filtering. ``timeout`` is how many seconds
    a batch may take when it does not say, ``max_timeout`` the most it may say. MongoDB itself ends a
    transaction after 60 seconds (``transactionLifetimeLimitSeconds``), so an atomic batch cannot have more.
    """

    max_operations: int = 1000
    timeout: float = 30.0
    max_timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.max_operations < 1 or not 0 < self.timeout <= self.max_timeout:
            raise ValueError("max_operations is 1 or more, timeout is seconds above 0 and up to max_timeout")


@dataclass(frozen=True, eq=False, kw_only=True)
class PlannedOperation:
    """One operation of a plan. ``pointer`` is its place in the request, which has all that was filtered out.

    ``collection`` is the path of the resource's collection, for the URL of what is created there.
    """

    method: str
    path: str
    body: dict[str, Any] | list[Any] | None
    if_match: str | None
    switches: frozenset[str]
    pointer: str
    resource: Resource
    collection: str
    action: Action
    key: str | None
    arguments: Mapping[str, list[str]]

    @property
    def command_name(self) -> str:
        """What the operation does, under the name that django-routines gives it."""
        return self.action

    @property
    def data_kind(self) -> DataKind:
        """What the body means: that of PATCH is a JSON Patch if it is an array, else a merge patch."""
        if self.method != "PATCH":
            return "fields"
        return "json_patch" if isinstance(self.body, list) else "merge_patch"

    def operation(self, handler: Any, *, dry_run: bool = False) -> Operation:
        """Return an operation to run, with data of its own that receivers may change."""
        return Operation(
            self.action,
            key=self.key,
            data=copy.deepcopy(self.body),
            data_kind=self.data_kind,
            dry_run=dry_run,
            arguments=self.arguments,
            handler=handler,
            if_match=self.if_match,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchRequest:
    """A batch as it was asked for; ``plan`` is what remains of its operations after filtering."""

    name: str
    plan: tuple[PlannedOperation, ...]
    atomic: bool = False
    continue_on_error: bool = False
    switches: frozenset[str] = frozenset()
    timeout: float = Limits.timeout
    options: Mapping[str, Any] = field(default_factory=dict)


def read_request(data: object, directory: Directory, limits: Limits | None = None) -> BatchRequest:
    """Read ``{"name", "operations", "atomic", "continue_on_error", "switches", "timeout", "options"}``.

    Every operation is checked, also one that its switches leave out: it runs when it has no ``switches``,
    or when the batch has one of them too. Raises :class:`bzz.errors.ValidationError` with a pointer to each
    value that is wrong.
    """
    limits = limits or Limits()
    reader = _Reader()
    given = reader.object(data, "", required={"operations"}, optional=_BATCH)
    switches = frozenset(given.get("switches", ()))
    timeout = given.get("timeout", limits.timeout)
    if timeout > limits.max_timeout:
        reader.refuse("/timeout", f"at most {limits.max_timeout:g} seconds")
    operations = given.get("operations", [])
    if len(operations) > limits.max_operations:
        reader.refuse("/operations", f"at most {limits.max_operations} operations")
        operations = []
    planned = [_read_operation(reader, each, i, directory) for i, each in enumerate(operations)]
    if reader.errors:
        raise ValidationError(reader.errors)
    return BatchRequest(
        name=given.get("name", "batch"),
        plan=tuple(each for each in planned if each and (not each.switches or each.switches & switches)),
        atomic=given.get("atomic", False),
        continue_on_error=given.get("continue_on_error", False),
        switches=switches,
        timeout=float(timeout),
        options=given.get("options", {}),
    )


class _Reader:
    """Take values of the right shape, and collect what is wrong with the others."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def refuse(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, detail))

    def object(
        self, data: object, pointer: str, *, required: set[str], optional: Mapping[str, _Check]
    ) -> dict[str, Any]:
        """Return the members that are as they must be; ``optional`` has the check of every one."""
        if not isinstance(data, dict):
            self.refuse(pointer, "must be an object")
            return {}
        for name in required - data.keys():
            self.refuse(f"{pointer}/{name}", "is required")
        taken: dict[str, Any] = {}
        for name, value in data.items():
            place = f"{pointer}/{_escaped(name)}"
            detail = optional[name](value) if name in optional else "unknown member"
            if detail is None:
                taken[name] = value
            else:
                self.refuse(place, detail)
        return taken


_Check = Callable[[Any], str | None]


def _read_operation(
    reader: _Reader, data: object, position: int, directory: Directory
) -> PlannedOperation | None:
    pointer = f"/operations/{position}"
    before = len(reader.errors)
    given = reader.object(data, pointer, required={"method", "path"}, optional=_OPERATION)
    if len(reader.errors) > before:
        return None
    method, path = given["method"], given["path"]
    try:
        target = directory.find(path)
    except ValueError as error:
        reader.refuse(f"{pointer}/path", str(error))
        return None
    action = target.action(method)
    if action is None:
        place = "one document" if target.key is not None else "a collection"
        reader.refuse(f"{pointer}/method", f"{method} does not exist on {place}")
        return None
    if method not in target.resource.allowed((method,)):
        reader.refuse(f"{pointer}/method", f"{method} is not allowed on {target.resource.name}")
        return None
    body = given.get("body")
    _check_members(reader, pointer, action, given, target)
    return PlannedOperation(
        method=method,
        path=path,
        body=({} if body is None else body) if action in _WITH_BODY else None,
        if_match=given.get("if_match"),
        switches=frozenset(given.get("switches", ())),
        pointer=pointer,
        resource=target.resource,
        collection=directory.collection(target.resource),
        action=action,
        key=target.key,
        arguments=target.arguments,
    )


_WITH_BODY = frozenset({"create_instance", "update_instance"})
_WITH_IF_MATCH = frozenset({"update_instance", "delete_instance"})


def _check_members(
    reader: _Reader, pointer: str, action: Action, given: Mapping[str, Any], target: Target
) -> None:
    """Refuse what an operation of this kind has no use for."""
    # What is added below a document changes it, and that has a state.
    has_state = action in _WITH_IF_MATCH or (action == "create_instance" and target.resource.path is not None)
    body = given.get("body")
    if body is not None and action not in _WITH_BODY:
        reader.refuse(f"{pointer}/body", f"{given['method']} takes no body")
    elif isinstance(body, list):
        _check_patch(reader, f"{pointer}/body", given["method"], body)
    if given.get("if_match") is not None and not has_state:
        reader.refuse(f"{pointer}/if_match", f"{given['method']} takes no if_match")
    if target.arguments and action != "get_list":
        reader.refuse(f"{pointer}/path", "takes no query parameters")


def _check_patch(reader: _Reader, pointer: str, method: str, body: list[Any]) -> None:
    """Refuse an array that is no JSON Patch; whether it fits the document is known when its turn comes."""
    if method != "PATCH":
        reader.refuse(pointer, "must be an object; an array is a JSON Patch, for PATCH")
    elif len(body) > patch.MAX_OPERATIONS:
        reader.refuse(pointer, f"at most {patch.MAX_OPERATIONS} operations")
    else:
        for position, why in patch.faults(body):
            reader.refuse(f"{pointer}/{position}", why)


# The checks: what is wrong with a value, or None ------------------------------------------------------------


def _name(value: Any) -> str | None:
    fits = isinstance(value, str) and 1 <= len(value) <= 100 and value.isprintable()
    return None if fits else "must be a text of 1 to 100 printable characters"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _seconds(value: Any) -> str | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return None if fits else "must be a number of seconds above 0"


def _list(value: Any) -> str | None:
    return None if isinstance(value, list) else "must be an array"


def _names(value: Any) -> str | None:
    fits = isinstance(value, list) and len(value) <= 100 and all(_name(each) is None for each in value)
    return None if fits else "must be an array of up to 100 texts"


def _options(value: Any) -> str | None:
    if not isinstance(value, dict) or len(value) > 100:
        return "must be an object of up to 100 members"
    unfit = [each for each in value if not each.isidentifier() or each.startswith("_") or each in RESERVED]
    return f"cannot have a member named {unfit[0][:60]!r}" if unfit else None


def _method(value: Any) -> str | None:
    known = list(dict.fromkeys(method for method, _ in METHODS))
    return None if value in known else f"must be one of {', '.join(known)}"


def _path(value: Any) -> str | None:
    return None if isinstance(value, str) and len(value) <= 4096 else "must be a text, the path of a URL"


def _body(value: Any) -> str | None:
    fits = value is None or isinstance(value, dict | list)
    return None if fits else "must be an object, or an array of the operations of a JSON Patch"


def _if_match(value: Any) -> str | None:
    fits = value is None or (isinstance(value, str) and is_if_match(value))
    return None if fits else 'must be an entity tag in quotes, several with commas, or "*"'


_BATCH: Mapping[str, _Check] = {
    "name": _name,
    "operations": _list,
    "atomic": _boolean,
    "continue_on_error": _boolean,
    "switches": _names,
    "timeout": _seconds,
    "options": _options,
}
_OPERATION: Mapping[str, _Check] = {
    "method": _method,
    "path": _path,
    "body": _body,
    "if_match": _if_match,
    "switches": _names,
}


def _escaped(name: str) -> str:
    return name[:60].replace("~", "~0").replace("/", "~1")
