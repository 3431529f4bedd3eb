"""Lists that are asked for by several at the same time are read once.

Who asks what nobody is asking goes straight out. Who asks what is on its way already waits until that is
back, as a document may have changed since it was sent; then one command answers all who wait. See
:mod:`bzz.storage.lanes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import bson
from bson.codec_options import CodecOptions

from bzz.errors import BzzError
from bzz.storage.driver import Driver
from bzz.storage.errors import ENCODING_ERRORS
from bzz.storage.lanes import Lanes, Waiting

__all__ = ["ListSharer", "Shared"]

Stored = dict[str, Any]
Options = CodecOptions[dict[str, Any]]
Ask = Callable[[], Awaitable[list[Stored]]]

# Seconds after which those who wait do not wait any longer for a command that is under way.
SLOW_LIST = 0.02


class Shared(list[Stored]):
    """Documents that several may hold, and nobody may change.

    ``memo`` is where one of them leaves what the others need as well, under a key of its own.
    """

    __slots__ = ("memo",)

    def __init__(self, documents: Sequence[Stored]) -> None:
        super().__init__(documents)
        self.memo: dict[Any, Any] = {}


class ListSharer:
    """Ask for lists of one collection, with one read preference and no sessions."""

    def __init__(self, driver: Driver, options: Options, seconds: float) -> None:
        self._driver = driver
        self._options = options
        self._seconds = seconds
        self._lanes: dict[bytes, Lanes[Ask]] = {}

    async def find(self, question: Mapping[str, Any], ask: Ask) -> Shared:
        """Return what ``ask`` returns, from one call for all who wait with the same ``question``."""
        try:
            key = bson.encode(question, codec_options=self._options)
        except ENCODING_ERRORS:
            return Shared(await ask())  # which knows how to say what is wrong
        lanes = self._lanes.get(key)
        if lanes is None:
            lanes = self._lanes[key] = Lanes(
                _send,
                self._driver,
                self._seconds,
                under_way=1,
                slow=SLOW_LIST,
                on_idle=partial(self._forget, key),
            )
        if lanes.free:
            return Shared(await lanes.straight(ask()))
        found: Shared = await lanes.together(None, ask)
        return found

    def _forget(self, key: bytes) -> None:
        self._lanes.pop(key, None)


async def _send(requests: Sequence[Waiting[Ask]]) -> None:
    try:
        found = Shared(await requests[0].item())
    except BzzError as error:
        for each in requests:
            # An exception of its own for each: tracebacks grow where they are raised.
            own = type(error)(error.detail)
            own.__cause__ = error.__cause__
            each.settle(own)
    else:
        for each in requests:
            each.settle(found)
