"""Once, however often it is asked for: work under a key that a client chose.

The answer is kept in the same transaction as the work, see :mod:`bzz.storage.receipts`. Who comes with a key
that is in use waits for whoever is at work with it, and then gets the answer that was kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from bzz.errors import (
    BzzError,
    HeaderError,
    IdempotencyKeyInUseError,
    IdempotencyKeyReusedError,
)
from bzz.storage.receipts import Answer, Receipt, Receipts

__all__ = ["Idempotency", "Once", "settings"]

logger = logging.getLogger("bzz.resource")

#: A transaction that ran out of time needs a moment to be rolled back.
_MARGIN_SECONDS = 0.5
_LONGEST_PAUSE = 0.1

_turns: weakref.WeakValueDictionary[tuple[int, str], asyncio.Lock] = weakref.WeakValueDictionary()


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """How requests with an ``Idempotency-Key`` are done once.

    With ``required`` there is no POST or PATCH without the header. ``keep`` is how many seconds an answer is
    known, ``timeout`` how many one write under a key may take, receivers included: of a server that was
    killed, another takes the work over after that. A request whose key is in use waits ``wait`` seconds.

    ``who`` tells clients apart, so that nobody gets the answer of somebody else: it is called with the
    handler and returns a text. Unless given, that is the ``Authorization`` header. ``collection`` is where
    the answers are kept, in the database of the resource.
    """

    required: bool = False
    keep: float = 24 * 3600.0
    timeout: float = 10.0
    wait: float = 15.0
    who: Callable[[Any], str] | None = None
    collection: str = "bzz_receipts"

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.wait < 0 or self.keep < self.timeout:
            raise ValueError("timeout is seconds above 0, wait is not below 0, keep not below timeout")
        if not self.collection:
            raise ValueError("the collection of the answers has a name")


def settings(given: Idempotency | bool) -> Idempotency | None:
    """Return what an option means: True is all defaults, False is that the header does not count."""
    if isinstance(given, bool):
        return Idempotency() if given else None
    if not isinstance(given, Idempotency):
        raise TypeError(f"idempotency is an Idempotency, True or False, not {given!r}")
    return given


class _Occupied(Exception):  # noqa: N818 - not an error: how an attempt ends that finds the key in use
    def __init__(self, receipt: Receipt) -> None:
        super().__init__()
        self.receipt = receipt


class Once:
    """One piece of work under a key.

    ``name`` is the key in the form in which it is kept, ``fingerprint`` what the request says besides.
    ``seconds`` is how long the work may take; None if it cannot be in a transaction: then nobody takes it
    over, and the key stays in use when the server is killed. ``refused`` tells of an error whether it
    certainly came before anything was written; it is asked only where there is no transaction.
    """

    def __init__(
        self,
        receipts: Receipts,
        name: str,
        fingerprint: bytes,
        *,
        seconds: float | None,
        wait: float,
        refused: Callable[[BaseException], bool],
    ) -> None:
        self.receipts = receipts
        self.name = name
        self.fingerprint = fingerprint
        self.seconds = None if seconds is None else seconds + _MARGIN_SECONDS
        self.wait = wait
        self.token = ObjectId()
        self.claimed = False
        #: Whether parts of the work are done and kept; then the key stays with this request.
        self.partial = False
        self._refused = refused
        self._session: Any = None

    @property
    def parts(self) -> str:
        """The name under which parts of this very work are kept."""
        return f"{self.name}:{self.fingerprint.hex()}"

    async def run(self, work: Callable[[], Awaitable[Answer]]) -> tuple[Answer, bool]:
        """Return the answer, and whether it was kept before.

        ``work`` calls :meth:`begin` before anything else, with the session of its transaction, and
        :meth:`keep` last of all in it. It may raise: then nothing is kept, and the key is free again. Raises
        :class:`bzz.errors.IdempotencyKeyReusedError` and :class:`bzz.errors.IdempotencyKeyInUseError`.
        """
        give_up = time.monotonic() + self.wait
        async with self._turn():
            while True:
                try:
                    return await work(), False
                except _Occupied as occupied:
                    receipt: Receipt | None = occupied.receipt
                except BaseException as error:
                    await self._leave(error)
                    raise
                receipt = await self._settled(receipt, give_up)
                if receipt is not None and receipt.answer is not None:
                    return receipt.answer, True
                if receipt is not None and self.seconds is not None:
                    self.claimed = await self.receipts.take_over(
                        self.name, receipt, self.token, seconds=self.seconds
                    )
                    self._session = None

    async def begin(self, session: Any = None) -> None:
        """Claim the key, or see that it is still ours; whoever has it already ends the work here."""
        found = None
        if not self.claimed:
            found = await self.receipts.claim(
                self.name, self.fingerprint, self.token, seconds=self.seconds, session=session
            )
        elif (
            session is not None
            and session.session_id != self._session
            and not await self.receipts.move(self.name, self.token, session)
        ):
            raise self._lost()
        if found is not None:
            raise _Occupied(found)
        self.claimed = True
        self._session = None if session is None else session.session_id

    async def hold(self, session: Any) -> None:
        """Make the transaction of a part of the work depend on the claim, which somebody may have taken."""
        if not await self.receipts.hold(self.name, self.token, session):
            raise self._lost()

    async def keep(self, answer: Answer, session: Any = None) -> None:
        """Keep the answer; raises what ends the transaction if the claim was lost to somebody else."""
        try:
            kept = await self.receipts.keep(self.name, self.token, answer, session)
        except ValueError as error:
            if isinstance(error, BzzError):
                raise
            if self.seconds is None:
                # Done is done; who asks again is told that the key is in use.
                logger.warning("an answer to a request with an Idempotency-Key is too large to be kept")
                return
            raise HeaderError(
                "Idempotency-Key",
                "The answer is too large to be kept: ask for less at once, or for return=minimal.",
            ) from error
        if not kept:
            raise self._lost()

    async def _settled(self, receipt: Receipt | None, give_up: float) -> Receipt | None:
        """Wait until the work of somebody else is done or given up, or its time is over; bounded."""
        pause = 0.005
        while receipt is not None:
            if receipt.fingerprint != self.fingerprint:
                raise IdempotencyKeyReusedError("This Idempotency-Key was sent with another request.")
            if receipt.answer is not None or (receipt.lapsed and self.seconds is not None):
                break
            if time.monotonic() + pause > give_up:
                raise IdempotencyKeyInUseError(
                    "A request with this Idempotency-Key is being worked on.", receipt.seconds
                )
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, 1.3 * pause)
            receipt = await self.receipts.find(self.name)
        return receipt

    def _lost(self) -> IdempotencyKeyInUseError:
        self.claimed = False
        return IdempotencyKeyInUseError("Another request with this Idempotency-Key took the work over.", 1.0)

    async def _leave(self, error: BaseException) -> None:
        """Free the key, unless something may have been written that cannot be rolled back."""
        if self.claimed and (self.seconds is not None or self._refused(error)):
            # Out of reach: the time of the claim will be over some day.
            with contextlib.suppress(BzzError, TimeoutError):
                if self.partial:
                    await self.receipts.lapse(self.name, self.token)
                else:
                    await self.receipts.release(self.name, self.token)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Let requests of one process take turns, which costs MongoDB nothing."""
        turn = _turns.setdefault((id(asyncio.get_running_loop()), self.name), asyncio.Lock())
        try:
            async with asyncio.timeout(self.wait):
                await turn.acquire()
        except TimeoutError:
            detail = "A request with this Idempotency-Key is being worked on."
            raise IdempotencyKeyInUseError(detail, 1.0) from None
        try:
            yield
        finally:
            turn.release()
