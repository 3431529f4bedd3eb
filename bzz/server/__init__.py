"""Serve an application: processes, limits, a graceful end, process signals."""

from __future__ import annotations

from bzz.server.limits import Limits
from bzz.server.server import Server
from bzz.server.serving import serve

__all__ = ["Limits", "Server", "serve"]
