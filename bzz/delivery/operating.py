"""Which operation of which resource is running here, for what is sent from within it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from bzz.delivery.hooks import Hooks

__all__ = ["Running", "operating", "running"]


class Running(NamedTuple):
    """A running operation, and the circle of listeners of its resource."""

    hooks: Hooks
    operation: Any

    @property
    def celery(self) -> Any:
        """The Celery app of the API that the resource belongs to; None if it names none."""
        circle: Hooks | None = self.hooks
        while circle is not None:
            if circle.celery is not None:
                return circle.celery
            circle = circle.outer
        return None


_running: ContextVar[Running | None] = ContextVar("bzz_running", default=None)


@contextmanager
def operating(hooks: Hooks, operation: Any) -> Iterator[None]:
    """Say that the block, and every task that it starts, belongs to this operation."""
    token = _running.set(Running(hooks, operation))
    try:
        yield
    finally:
        _running.reset(token)


def running() -> Running | None:
    """Return the operation that this code belongs to."""
    return _running.get()
