"""Bodies: bytes from a stranger to JSON or form values, and nothing in between."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from bzz.errors import BodyError
from bzz.model.refusal import shorten

__all__ = ["Number", "parse_form", "parse_json"]

MAX_DEPTH = 32
MAX_PAIRS = 1000

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Number(float):
    """A JSON number with more digits than a double can hold; ``text`` is how it was written.

    A decimal field takes the digits, every other field the double.
    """

    __slots__ = ("text",)
    text: str


def parse_json(data: bytes, *, max_depth: int = MAX_DEPTH) -> object:
    """Parse a JSON text strictly (RFC 8259 and more).

    Refused with BodyError: bytes that are not UTF-8, a byte order mark, a key twice in one object, NUL in
    a key, NaN and infinities (also by overflow), integers beyond 64 bits, lone surrogates, more than
    ``max_depth`` levels. The depth is checked before parsing, so a hostile text costs one pass.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyError(f"The body is not UTF-8 (byte {error.start}).") from None
    if text.startswith("\ufeff"):
        raise BodyError("The body starts with a byte order mark (BOM), which JSON does not have.")
    if not text.strip(" \t\r\n"):
        raise BodyError("The body is empty, expected JSON.")
    _check_depth(data, max_depth)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise BodyError(f"The body is not JSON: {error.msg} ({place}).") from None
    except RecursionError:
        raise BodyError(f"The body has more than {max_depth} levels.") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_depth(data: bytes, max_depth: int) -> None:
    if data.count(b"[") + data.count(b"{") <= max_depth:
        return
    brackets = _STRINGS.sub(b"", data).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(max_depth):
        # Every pass takes the innermost level away.
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return
    raise BodyError(f"The body has more than {max_depth} levels, or brackets that do not match.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise BodyError(f"The key {shorten(key)!r} stands twice in one object.")
            seen.add(key)
    for key in result:
        if "\0" in key:
            raise BodyError("A key holds NUL.")
    return result


def _integer(text: str) -> int:
    if len(text) <= 20:
        value = int(text)
        if -(2**63) <= value < 2**63:
            return value
    raise BodyError(f"The number {shorten(text)} does not fit into 64 bits.")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BodyError(f"The number {shorten(text)} is too large.")
    if len(text) > 16:
        exact = Number(value)
        exact.text = text
        return exact
    return value


def _constant(text: str) -> NoReturn:
    raise BodyError(f"{text} is not JSON.")


# The C scanner calls these; one decoder serves all, it keeps nothing between calls.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check_surrogates(value: Any) -> None:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise BodyError("A string holds a lone surrogate.") from None
        elif isinstance(item, dict):
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)


def parse_form(data: bytes) -> list[tuple[str, str]]:
    """Parse ``application/x-www-form-urlencoded`` strictly: UTF-8, whole percent escapes, ≤ 1000 pairs.

    ``+`` is a space. Pairs keep their order; a name without ``=`` has an empty value. Raises BodyError.
    """
    if data.count(b"&") >= MAX_PAIRS:
        raise BodyError(f"The form has more than {MAX_PAIRS} values.")
    if _BROKEN_PERCENT.search(data):
        raise BodyError("The form has a percent sign without two hexadecimal digits.")
    pairs = []
    for part in data.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((_unquote(name), _unquote(value)))
    return pairs


def _unquote(part: bytes) -> str:
    try:
        return unquote_to_bytes(part.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise BodyError("The form is not UTF-8.") from None
