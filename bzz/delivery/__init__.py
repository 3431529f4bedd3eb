"""Who hears of a change, and how it reaches them: in this process, or in a worker through a queue."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bzz.dispatcher import set_transport

if TYPE_CHECKING:
    from bzz.delivery.transport import CeleryTransport

__all__ = ["CeleryTransport"]


@functools.cache
def _made() -> CeleryTransport:
    from bzz.delivery.transport import CeleryTransport  # noqa: PLC0415 - most processes publish nothing

    return CeleryTransport()


class _LateTransport:
    """A transport that is imported when something is to be carried."""

    @property
    def publish(self) -> Any:
        """Publish as :class:`CeleryTransport` does."""
        return _made().publish

    @property
    def publish_blocking(self) -> Any:
        """Publish as :class:`CeleryTransport` does."""
        return _made().publish_blocking


def __getattr__(name: str) -> Any:
    if name != "CeleryTransport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return type(_made())


set_transport(_LateTransport())
