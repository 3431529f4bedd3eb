"""What is looked at when a request with an ``Idempotency-Key`` is sent again."""

from __future__ import annotations

from typing import Any

from mongoengine.connection import get_db

from bzz import signals
from tests.serving import Answer

#: What an answer and its copy have in common.
SAME = ("Content-Type", "Location", "ETag", "X-Created-Id", "Preference-Applied", "Content-Length")


def is_copy(first: Answer, second: Answer) -> None:
    """Check that the second answer is the first one again, and says so."""
    assert (first.status, first.body) == (second.status, second.body)
    assert [first.headers.get(name) for name in SAME] == [second.headers.get(name) for name in SAME]
    assert second.headers["Idempotent-Replayed"] == "true"


def receipts() -> list[dict[str, Any]]:
    """What is kept of all requests."""
    return list(get_db().bzz_receipts.find())


class Told:
    """The signals that were sent, in order, of those with one of these parts in their names."""

    def __init__(self, *parts: str) -> None:
        self.names: list[str] = []
        for signal in signals.ALL:
            if any(part in signal.name for part in parts):
                signal.connect(self.note)

    def note(self, signal: Any) -> None:
        self.names.append(signal.name)

    def take(self) -> list[str]:
        names, self.names = self.names, []
        return names
