"""Which operation of which resource is running here, for what is sent from within it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from bzz.delivery.hooks import Hooks

__all__ = ["Running", "operating", "running"]


class _Owner(Protocol):
    hooks: Hooks


_Resource = TypeVar("_Resource", bound=_Owner)
_Operation = TypeVar("_Operation")
_Result = TypeVar("_Result")
_More = ParamSpec("_More")


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


def operating(
    step: Callable[Concatenate[_Resource, _Operation, _More], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[_Resource, _Operation, _More], Coroutine[Any, Any, _Result]]:
    """Decorate a step of a resource: the step, and every task that it starts, belongs to its operation."""

    @functools.wraps(step)
    async def run(
        resource: _Resource, operation: _Operation, /, *args: _More.args, **kwargs: _More.kwargs
    ) -> _Result:
        token = _running.set(Running(resource.hooks, operation))
        try:
            return await step(resource, operation, *args, **kwargs)
        finally:
            _running.reset(token)

    return run


def running() -> Running | None:
    """Return the operation that this code belongs to."""
    return _running.get()
