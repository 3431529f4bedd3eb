"""bzz: REST over MongoEngine models on Tornado, with signals you can trust."""

from __future__ import annotations

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
