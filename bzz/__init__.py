"""bzz: REST over MongoEngine models on Tornado, with signals you can trust."""

from __future__ import annotations

__version__ = "0.1.0"
