"""Rate limits that several processes count together, in Redis.

When Redis is out of reach, requests pass uncounted: a limit keeps a service from being overrun, and it must
not be what stops it. One request waits for at most ``timeout`` seconds, then nobody does until ``pause``
seconds later, when one request tries again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from bzz.http.rate_limit import Reading

__all__ = ["RedisMeter", "close_meters"]

logger = logging.getLogger("bzz.rate_limit")

# The same as in MemoryMeter, by the clock of Redis: those of the processes may differ. Numbers of Lua are
# doubles; all of these are whole and below 2**53.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local before = tonumber(redis.call('GET', KEYS[1])) or now
if before < now then before = now end
-- Only if the clock was put back; nobody is to wait for longer than the limit says.
if before > now + most then before = now + most end
local after = before + interval
if after - now > most then
    return {0, most - (before - now)}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, most - (after - now)}
"""

# Those that have connections; also one that nobody else holds any more has them until they are closed.
_connected: set[RedisMeter] = set()


class RedisMeter:
    """Count in a Redis, for every process that uses the same one.

    ``url`` is that of redis-py (``redis://host:6379/0``); ``prefix`` stands before the keys. ``timeout`` and
    ``pause`` are seconds, see :mod:`bzz.http.rate_limit_redis`; ``connections`` is the most that one process
    opens. It connects when it is first asked, so it may be made before a server forks.

    Raises ImportError without the package redis, which the extra ``redis`` installs.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "bzz:rate:",
        timeout: float = 0.25,
        pause: float = 1.0,
        connections: int = 32,
    ) -> None:
        import redis  # noqa: F401, PLC0415 - say here that it is not installed, not at the first request

        if timeout <= 0 or pause < 0 or connections < 1:
            raise ValueError("timeout is above 0, pause is not below it, and connections are at least 1")
        self.url = url
        self.prefix = prefix
        self.timeout = timeout
        self.pause = pause
        self.connections = connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._script: Any = None
        self._lost_until: float | None = None

    async def take(self, key: str, count: int, interval: int) -> Reading | None:
        """Use one interval, if so much is left; None if Redis does not say."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._connect(loop)
        if self._lost_until is not None:
            if loop.time() < self._lost_until:
                return None
            self._lost_until = loop.time() + self.pause  # the others need not wait for this attempt
        try:
            async with asyncio.timeout(self.timeout):
                admitted, unused = await self._script([self.prefix + key], [interval, count * interval])
        except Exception as error:
            self._lose(error, loop)
            return None
        if self._lost_until is not None:
            self._lost_until = None
            logger.warning("Redis counts for rate limits again")
        return Reading(bool(admitted), unused)

    async def close(self) -> None:
        """Close the connections; the next request makes new ones."""
        client, loop = self._client, self._loop
        self._client = self._loop = None
        _connected.discard(self)
        if loop is asyncio.get_running_loop():  # those of a loop that is over cannot be closed any more
            await client.aclose(close_connection_pool=True)

    def _lose(self, error: Exception, loop: asyncio.AbstractEventLoop) -> None:
        if self._lost_until is None:
            logger.warning(
                "rate limits do not count, as Redis does not answer: %s: %s", type(error).__name__, error
            )
        self._lost_until = loop.time() + self.pause

    def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the client of this event loop; connections belong to one."""
        from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - only who uses it needs it
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        pool: Any = BlockingConnectionPool.from_url(
            self.url,
            max_connections=self.connections,
            timeout=self.timeout,
            # A connection that Redis has closed meanwhile is seen at the first command on it.
            retry=Retry(NoBackoff(), 1),
        )
        self._client = Redis(connection_pool=pool)
        self._script = self._client.register_script(_TAKE)
        self._loop = loop
        self._lost_until = None
        _connected.add(self)


async def close_meters() -> None:
    """Close the connections of all meters of this process."""
    for meter in list(_connected):
        await meter.close()
