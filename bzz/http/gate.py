"""What a request meets before its handler: cross-origin rules and rate limits, decided once for all."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from bzz.errors import RateLimitError
from bzz.http.cors import Cors, is_preflight
from bzz.http.rate_limit import Quota, RateLimit

__all__ = ["UNSET", "Gate"]

#: What stands for an option that nobody has given; None is something that one can choose.
UNSET: Any = object()


class Gate:
    """The cross-origin rules and the rate limit of one or more handlers."""

    def __init__(self, cors: Cors | None = None, limit: RateLimit | None = None) -> None:
        self.cors = cors
        self.limit = limit

    @classmethod
    def within(cls, outer: Gate | None, cors: Any = UNSET, limit: Any = UNSET, *, name: str) -> Gate | None:
        """Return the gate of a part: that of the whole but for what is given, where None is nothing at all.

        A limit that is written as a text gets this name. Raises TypeError or ValueError for what is neither
        rules nor a limit.
        """
        if cors is UNSET:
            cors = outer and outer.cors
        if limit is UNSET:
            limit = outer and outer.limit
        if cors is not None and not isinstance(cors, Cors):
            raise TypeError(f"cors is a Cors, not {cors!r}")
        if isinstance(limit, str):
            limit = RateLimit.of(limit, name=name)
        if limit is not None and not isinstance(limit, RateLimit):
            raise TypeError(f'rate_limit is a RateLimit or a text like "100/minute", not {limit!r}')
        return None if cors is None and limit is None else cls(cors, limit)

    def mark(self, handler: Any) -> None:
        """Put the headers on an answer that has none yet: a fresh one, or that of an error."""
        if self.cors is not None:
            self.cors.mark(handler)
        if self.limit is not None:
            handler.set_header("RateLimit-Policy", self.limit.policy)
            if handler.quota is not None:
                handler.set_header("RateLimit", self.limit.header(handler.quota))

    def is_preflight(self, handler: Any) -> bool:
        """Tell whether a request is a preflight; it is answered at once, it counts for nobody."""
        return self.cors is not None and is_preflight(handler.request)

    def answer_preflight(self, handler: Any) -> None:
        """Answer a preflight."""
        assert self.cors is not None
        self.cors.answer_preflight(handler)

    def admit(self, handler: Any) -> Awaitable[None] | None:
        """Count a request; raises RateLimitError (perhaps when awaited) if it is one too many."""
        if self.limit is None:
            return None
        quota = self.limit.take(handler)
        if isinstance(quota, Quota) or quota is None:
            self._note(handler, quota)
            return None
        return self._later(handler, quota)

    async def _later(self, handler: Any, quota: Awaitable[Quota | None]) -> None:
        self._note(handler, await quota)

    def _note(self, handler: Any, quota: Quota | None) -> None:
        assert self.limit is not None
        handler.quota = quota
        if quota is None:
            return
        if not quota.admitted:
            raise RateLimitError(
                f"No more than {self.limit.count} requests in {self.limit.seconds} seconds.",
                policies=[self.limit.name],
                seconds=quota.seconds,
            )
        handler.set_header("RateLimit", self.limit.header(quota))
