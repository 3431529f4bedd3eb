"""Real servers for development, tests and demonstrations: no Docker, nothing to administer.

Each runs as a child of this process, on the loopback interface only, and ends with it, however it ends.
"""

from __future__ import annotations

from bzz.embedded.mongod import EmbeddedMongo
from bzz.embedded.redis import EmbeddedRedis

__all__ = ["EmbeddedMongo", "EmbeddedRedis"]
