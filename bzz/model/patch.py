"""Patches of JSON values: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902). They know no model.

What a client sends is checked for its shape here, and for what it may cost: a JSON Patch of 1 KiB can ask for
2**30 copies of a value.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bzz.errors import BodyError, PatchConflictError
from bzz.model.body import MAX_DEPTH
from bzz.model.refusal import shorten

__all__ = ["MAX_COPIED", "MAX_OPERATIONS", "apply_operations", "faults", "merge", "same_json"]

MAX_OPERATIONS = 1000
MAX_COPIED = 100_000  # values that the copies of one patch may have in all

_WITH_VALUE = frozenset({"add", "replace", "test"})
_WITH_FROM = frozenset({"move", "copy"})
_OPERATIONS = _WITH_VALUE | _WITH_FROM | {"remove"}


def merge(target: Any, patch: Any) -> Any:
    """Return what a merge patch makes of a JSON value, as RFC 7396 (section 2) says; both stay as they are.

    >>> merge({"a": 1, "b": {"c": 2}}, {"a": None, "b": {"d": 3}})
    {'b': {'c': 2, 'd': 3}}
    """
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def apply_operations(document: Any, operations: Any) -> Any:
    """Return what a JSON Patch makes of a JSON value, which stays as it is: all operations, or an error.

    Raises :class:`bzz.errors.BodyError` for what is no patch, or too much of one, and
    :class:`bzz.errors.PatchConflictError` for one that does not fit the document.

    >>> apply_operations({"tags": ["a"]}, [{"op": "add", "path": "/tags/-", "value": "b"}])
    {'tags': ['a', 'b']}
    """
    import jsonpatch
    from jsonpointer import JsonPointerException

    _check_shape(operations)
    budget = _Budget()
    result = copy.deepcopy(document)
    # Copied too: a value that one operation adds is what the next one changes.
    for position, operation in enumerate(copy.deepcopy(operations)):
        try:
            result = _apply(result, operation, budget)
        except jsonpatch.JsonPatchTestFailed:
            raise _conflict(position, operation, "the value there is another") from None
        except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, LookupError):
            raise _conflict(position, operation, "the document has no such place") from None
    _measure(result, None)
    return result


def _apply(document: Any, operation: dict[str, Any], budget: _Budget) -> Any:
    """Apply one operation; the library does, but for what it takes too lightly."""
    import jsonpatch
    from jsonpointer import EndOfList, JsonPointer

    if operation["op"] == "test":
        # RFC 6902, 4.6: numbers by value. In Python, True is 1 as well.
        if not same_json(JsonPointer(operation["path"]).resolve(document), operation["value"]):
            raise jsonpatch.JsonPatchTestFailed
        return document
    if operation["op"] == "copy":
        value = JsonPointer(operation["from"]).resolve(document)
        if isinstance(value, EndOfList):
            raise jsonpatch.JsonPatchConflict
        _measure(value, budget)
        operation = {"op": "add", "path": operation["path"], "value": copy.deepcopy(value)}
    patch: Any = [operation]
    return jsonpatch.JsonPatch(patch).apply(document, in_place=True)


def _conflict(position: int, operation: Mapping[str, Any], why: str) -> PatchConflictError:
    place = shorten(operation["path"])
    return PatchConflictError(f"Operation {position} ({operation['op']} {place!r}): {why}.", position)


def _check_shape(operations: Any) -> None:
    if not isinstance(operations, list):
        raise BodyError("A JSON Patch is an array of operations.")
    if len(operations) > MAX_OPERATIONS:
        raise BodyError(f"A JSON Patch has at most {MAX_OPERATIONS} operations here.")
    for position, why in faults(operations):
        raise BodyError(f"Operation {position} of the patch {why}.")


def faults(operations: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the shape of a JSON Patch: the position of an operation, and why it is none.

    >>> list(faults([{"op": "remove", "path": "/a"}, {"op": "add", "path": "/b"}]))
    [(1, 'has no "value"')]
    """
    for position, operation in enumerate(operations):
        why = _fault(operation)
        if why is not None:
            yield position, why


def _fault(operation: Any) -> str | None:
    """Say what is wrong with the shape of an operation; members that nothing asks for do not count."""
    if not isinstance(operation, dict):
        return "is not an object"
    op = operation.get("op")
    if not isinstance(op, str) or op not in _OPERATIONS:
        return f'has no "op" among {", ".join(sorted(_OPERATIONS))}'
    for member in ("path", "from") if op in _WITH_FROM else ("path",):
        if not _is_pointer(operation.get(member)):
            return f'has no "{member}" that is a JSON Pointer'
    if op in _WITH_VALUE and "value" not in operation:
        return 'has no "value"'
    if op == "move" and operation["path"].startswith(operation["from"] + "/"):
        return "moves a value into itself"
    return None


def _is_pointer(text: Any) -> bool:
    from jsonpointer import JsonPointer, JsonPointerException

    try:
        return isinstance(text, str) and JsonPointer(text) is not None
    except JsonPointerException:
        return False


class _Budget:
    """How many values the copies of one patch may still have."""

    def __init__(self) -> None:
        self.left = MAX_COPIED


def _measure(value: Any, budget: _Budget | None) -> None:
    """Refuse a value that is too deep, and take what it holds from a budget. Not recursive."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if budget is not None:
            budget.left -= len(level)
            if budget.left < 0:
                raise BodyError(f"The copies of this patch have more than {MAX_COPIED} values.")
        if any(isinstance(item, (dict, list)) for item in level):
            depth += 1
            if depth > MAX_DEPTH:
                raise BodyError(f"The patch makes more than {MAX_DEPTH} levels.")
        level = below


def same_json(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are equal: numbers by value, objects in any order.

    >>> same_json({"a": 1, "b": [True]}, {"b": [True], "a": 1.0}), same_json(1, True)
    (True, False)
    """
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and len(one) == len(other)
            and all(name in other and same_json(value, other[name]) for name, value in one.items())
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)
