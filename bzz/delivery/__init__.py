"""Who hears of a change, and how it reaches them: in this process, or in a worker through a queue."""

from __future__ import annotations

from bzz.delivery.transport import CeleryTransport
from bzz.dispatcher import set_transport

__all__ = ["CeleryTransport"]

set_transport(CeleryTransport())
