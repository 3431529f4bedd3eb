"""One line per request, for people or for machines."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

__all__ = ["AccessLog", "Entry"]

logger = logging.getLogger("bzz.access")

MAX_TEXT = 2048
# Whoever reads the log, a terminal or a program that splits lines, must not be steered by a URL.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_ESCAPES |= {ord('"'): '\\"', ord("\\"): "\\\\", 0x2028: "\\u2028", 0x2029: "\\u2029"}


@dataclass(slots=True)
class Entry:
    """What is said of a request: never a body, never a header but the request's id.

    ``size`` is the answer's body in bytes, ``seconds`` the time from the last header to the last byte given
    to the system, ``aborted`` that the client was gone before it had an answer (then ``status`` is 0).
    """

    method: str
    path: str
    remote: str
    request_id: str
    status: int
    size: int
    seconds: float
    aborted: bool = False


class AccessLog:
    """Write entries to the logger ``bzz.access``, as ``"text"`` or ``"json"`` lines.

    The logger gets a handler of its own (standard error, nothing but the line) when nobody has configured
    any.
    """

    def __init__(self, form: Literal["text", "json"]) -> None:
        if form not in {"text", "json"}:
            raise ValueError(f"access_log is 'text', 'json' or None, not {form!r}")
        self._line = _json if form == "json" else _text
        if not logger.hasHandlers():
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(message)s"))
            logger.addHandler(handler)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)

    def __call__(self, entry: Entry) -> None:
        """Write one line."""
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", self._line(entry))


def _text(entry: Entry) -> str:
    request = f"{entry.method} {entry.path}"[:MAX_TEXT].translate(_ESCAPES)
    status = "aborted" if entry.aborted else entry.status
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    times = f"{entry.seconds * 1000:.1f}ms"
    return f'{now} {entry.remote} "{request}" {status} {entry.size} {times} {entry.request_id}'


def _json(entry: Entry) -> str:
    return json.dumps(  # ASCII only, so every control character is escaped
        {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "remote": entry.remote,
            "method": entry.method[:MAX_TEXT],
            "path": entry.path[:MAX_TEXT],
            "status": entry.status,
            "bytes": entry.size,
            "ms": round(entry.seconds * 1000, 1),
            "request_id": entry.request_id,
            "aborted": entry.aborted,
        }
    )
