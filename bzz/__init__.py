"""bzz: REST over MongoEngine models on Tornado, with signals you can trust.

A name is imported when it is first used, so that who needs one pays for no other.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bzz.api import Api
    from bzz.errors import BzzError, CeleryNotConfiguredWarning, ExitEarly, UnknownSenderWarning, Veto
    from bzz.http.cors import Cors
    from bzz.http.rate_limit import RateLimit
    from bzz.mongoengine_handler import MongoEngineRestHandler
    from bzz.resource.idempotency import Idempotency
    from bzz.server import serve

__all__ = [
    "Api",
    "BzzError",
    "CeleryNotConfiguredWarning",
    "Cors",
    "ExitEarly",
    "Idempotency",
    "MongoEngineRestHandler",
    "RateLimit",
    "UnknownSenderWarning",
    "Veto",
    "serve",
]

__version__ = "0.1.0"

#: Where each name comes from; those of bzz.errors need not be told.
_HOMES = {
    "Api": "bzz.api",
    "Cors": "bzz.http.cors",
    "Idempotency": "bzz.resource.idempotency",
    "MongoEngineRestHandler": "bzz.mongoengine_handler",
    "RateLimit": "bzz.http.rate_limit",
    "serve": "bzz.server",
}


def __getattr__(name: str) -> Any:
    """Import a public name, or a module of bzz, at its first use."""
    if name in __all__:
        found = getattr(importlib.import_module(_HOMES.get(name, "bzz.errors")), name)
        globals()[name] = found
        return found
    if not name.startswith("_") and importlib.util.find_spec(f"bzz.{name}") is not None:
        return importlib.import_module(f"bzz.{name}")
    raise AttributeError(f"module 'bzz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
