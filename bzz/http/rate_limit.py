"""Rate limits: how many requests somebody may send in a time, and saying how many are left.

The headers are those of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ (version 11):
``RateLimit-Policy: "default";q=100;w=60`` and ``RateLimit: "default";r=99;t=1``.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["MemoryMeter", "Meter", "Quota", "RateLimit", "Reading", "remote_address"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_WRITTEN = re.compile(r"(\d+) ?/ ?(?:(\d+) ?)?(second|minute|hour|day)s?")
_NAME = re.compile(r"[ !#-\[\]-~]{1,100}")
MILLION = 1_000_000


class Reading(NamedTuple):
    """What a meter says: was the request admitted, and how much time (in µs) is unused after it."""

    admitted: bool
    unused: int


class Meter(Protocol):
    """Where it is kept what somebody has used.

    This is the generic cell rate algorithm: of each key one moment is kept, the one at which all that it has
    used is given back. Each request puts it off by ``interval`` µs, and ``count`` intervals from now is the
    most that is allowed. A request that is refused uses nothing.
    """

    def take(self, key: str, count: int, interval: int) -> Reading | Awaitable[Reading | None] | None:
        """Use one interval, if so much is left; None if nobody can say."""


class MemoryMeter:
    """Count in the memory of this process; every process of a server counts on its own.

    Of more than ``max_keys`` keys those that were seen longest ago are forgotten, and have their whole quota
    back. ``clock`` returns nanoseconds.
    """

    def __init__(self, max_keys: int = 100_000, *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys is at least 1, not {max_keys}")
        self.max_keys = max_keys
        self._clock = clock
        self._full_at: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, count: int, interval: int) -> Reading:
        """Use one interval, if so much is left."""
        now = self._clock() // 1000
        before = max(self._full_at.get(key, now), now)
        after = before + interval
        admitted = after - now <= count * interval
        self._full_at[key] = after if admitted else before
        self._full_at.move_to_end(key)
        if len(self._full_at) > self.max_keys:
            self._full_at.popitem(last=False)
        return Reading(admitted, count * interval - (self._full_at[key] - now))


class Quota(NamedTuple):
    """Whether a request passes, how many more would, and the seconds after which there is one more."""

    admitted: bool
    remaining: int
    seconds: int


def remote_address(handler: Any) -> str:
    """Return the address of the client; of IPv6 the /64 network, as whoever has one address has all of it.

    Behind a proxy it is the proxy's, unless the server was told to believe the proxy (``xheaders=True``).
    """
    address: str = handler.request.remote_ip or ""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


class RateLimit:
    """At most ``count`` requests at once, and as many more in every ``seconds`` seconds, evenly.

    What was used comes back bit by bit, one request every ``seconds / count`` seconds: in no time t do more
    than ``count + t * count / seconds`` requests pass.

    ``by`` takes the handler and returns who is to be counted, None for whoever is not; the default is
    :func:`remote_address`. ``name`` is what the headers call this limit. ``meter`` keeps what was used: in
    memory unless told otherwise. Two limits of the same name, count and seconds on one meter are the same; so
    is one limit in two places.

    >>> RateLimit.of("100/minute")
    RateLimit(100, 60, name='default')
    >>> RateLimit.of("5000/12 hours").seconds
    43200
    """

    def __init__(
        self,
        count: int,
        seconds: int,
        *,
        by: Callable[[Any], object] = remote_address,
        name: str = "default",
        meter: Meter | None = None,
    ) -> None:
        if count < 1 or seconds < 1 or seconds != int(seconds):
            raise ValueError(f"a limit is at least one request in whole seconds, not {count} in {seconds}")
        if count > seconds * MILLION:
            raise ValueError(f"a limit is at most a million requests a second, not {count} in {seconds} s")
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot stand in a header")
        self.count = count
        self.seconds = int(seconds)
        self.name = name
        self.by = by
        self.meter = MemoryMeter() if meter is None else meter
        # Whole microseconds, so that no rounding ever lets one too many through.
        self._interval = max(1, round(seconds * MILLION / count))
        self._prefix = f"{name}:{count}/{self.seconds}:"
        self.policy = f'"{name}";q={count};w={self.seconds}'

    def __repr__(self) -> str:
        return f"RateLimit({self.count}, {self.seconds}, name={self.name!r})"

    @classmethod
    def of(cls, written: str, **options: Any) -> RateLimit:
        """Return the limit that is written as ``"COUNT/UNIT"`` or ``"COUNT/NUMBER UNITS"``.

        A unit is a second, minute, hour or day; ``options`` are those of the class. Raises ValueError.
        """
        found = _WRITTEN.fullmatch(written.strip())
        if not found:
            raise ValueError(f'a rate limit looks like "100/minute" or "1000/12 hours", not {written!r}')
        count, number, unit = found.groups()
        return cls(int(count), int(number or 1) * _SECONDS[unit], **options)

    def take(self, handler: Any) -> Quota | Awaitable[Quota | None] | None:
        """Count a request and return what is left, None if it does not count."""
        key = self.by(handler)
        if key is None:
            return None
        reading = self.meter.take(f"{self._prefix}{key}", self.count, self._interval)
        if reading is None or isinstance(reading, Reading):
            return self._quota(reading)
        return self._awaited(reading)

    def header(self, quota: Quota) -> str:
        """Return the value of the header ``RateLimit``."""
        return f'"{self.name}";r={quota.remaining};t={quota.seconds}'

    async def _awaited(self, reading: Awaitable[Reading | None]) -> Quota | None:
        return self._quota(await reading)

    def _quota(self, reading: Reading | None) -> Quota | None:
        if reading is None:
            return None
        remaining, over = divmod(reading.unused, self._interval)
        return Quota(reading.admitted, remaining, -((over - self._interval) // MILLION))
