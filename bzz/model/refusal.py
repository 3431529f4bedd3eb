"""How this room refuses a value: a JSON Pointer to it (RFC 6901) and one sentence about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import mongoengine
from mongoengine.base import NON_FIELD_ERRORS

from bzz.errors import FieldError, ValidationError

__all__ = ["MAX_ERRORS", "below", "child", "describe", "flatten", "kind_of", "refuse", "shorten"]

# Nobody reads more; an answer must not be larger than the body that it refuses.
MAX_ERRORS = 100
ECHO_LIMIT = 60
DETAIL_LIMIT = 240

_KINDS = (
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
)


def child(pointer: str, token: object) -> str:
    """Point one step deeper; ``~`` and ``/`` are escaped as RFC 6901 asks."""
    text = shorten(str(token))
    if "~" in text or "/" in text:
        text = text.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{text}"


def shorten(text: str) -> str:
    """Cut a client's text so that an answer never echoes more than 60 characters of it.

    Lone surrogates become ``?``: an answer has to be UTF-8.
    """
    if len(text) > ECHO_LIMIT:
        text = text[: ECHO_LIMIT - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def kind_of(value: object) -> str:
    """Name the JSON type of a decoded value, with its article."""
    if value is None:
        return "null"
    return next((name for cls, name in _KINDS if isinstance(value, cls)), type(value).__name__)


def refuse(pointer: str, detail: str) -> ValidationError:
    """Build the error of one refused value, ready to be raised."""
    return ValidationError([FieldError(pointer, detail)])


def below(place: str, errors: Iterable[FieldError]) -> Iterator[FieldError]:
    """Move errors with pointers of their own to the place where their value stands."""
    for pointer, detail in errors:
        yield FieldError(place + pointer, detail)


def describe(error: BaseException, value: object = None) -> str:
    """Put an exception of a validator into one short sentence.

    Validators like to print the value: a long one is replaced by its shortened form.
    """
    if not isinstance(error, (AssertionError, ValueError)):  # mongoengine's own is an AssertionError
        return f"the value was refused ({type(error).__name__})"
    text = str(error) or type(error).__name__
    for echoed in _echoes(value):
        if len(echoed) > ECHO_LIMIT:
            text = text.replace(echoed, shorten(echoed))
    if len(text) > DETAIL_LIMIT:
        text = text[: DETAIL_LIMIT - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def flatten(error: Exception, pointer: str, value: object = None) -> Iterator[FieldError]:
    """Spread a mongoengine error over the places it names: fields, list positions, map keys."""
    nested = getattr(error, "errors", None)
    if isinstance(nested, Mapping) and nested:
        for name, below in nested.items():
            place = pointer if name == NON_FIELD_ERRORS else child(pointer, name)
            if isinstance(below, Mapping):
                yield from flatten(mongoengine.ValidationError(errors=below), place, value)
            else:
                yield from flatten(below, place, value)
        return
    yield FieldError(pointer, describe(error, value))


def _echoes(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if value is None or isinstance(value, (bool, bytes)):
        return ()
    return _texts_of(value)


def _texts_of(value: Any) -> tuple[str, ...]:
    # Only plain values are printed here: the text of a document or a file may read from the network.
    if isinstance(value, (int, float, list, tuple, dict)):
        try:
            return (repr(value), str(value))
        except Exception:  # an item's own repr may fail; then nothing of it was echoed either
            return ()
    return ()
