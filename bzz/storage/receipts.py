"""Receipts: what was answered to a request, kept in MongoDB beside what the request wrote.

A receipt begins as a claim, made outside of any transaction, so that everybody sees it: somebody is at work
under this name. It is kept, with its answer, in the very transaction of the work. So an answer is there
exactly if the work is; and whoever lost the claim in between cannot commit, because both change the same
document.

The time of a claim is measured by MongoDB's own clock. One whose time is over belongs to somebody who was
killed or is stuck: it can be taken over, and the transaction that may have been left open is ended then,
which MongoDB itself would do only after a minute.
"""

from __future__ import annotations

import contextlib
import datetime
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pymongo
from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import ReadPreference
from pymongo.errors import PyMongoError

from bzz.errors import DuplicateError
from bzz.storage.connection import settings_of
from bzz.storage.limit import TimeLimit
from bzz.storage.store import Store

__all__ = ["Answer", "Receipt", "Receipts"]

T = TypeVar("T")

# Bytes of a body from which compressing it is worth the while, and what one receipt may hold of it: MongoDB
# keeps documents of up to 16 MiB.
_LARGE = 16 * 2**10
_MAX_BODY = 15 * 2**20

# Seconds for giving a claim up. A transaction that MongoDB was lost in may hold it, and somebody waits for an
# error meanwhile; the time of the claim will be over anyway.
_LEAVING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: a status, headers in order, and a body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Receipt(NamedTuple):
    """A receipt as it was found: ``answer`` is None while somebody is at work.

    ``lapsed``: the time of the claim is over. ``seconds`` is how long until then, or until all is forgotten.
    """

    fingerprint: bytes
    token: ObjectId
    answer: Answer | None
    lapsed: bool
    seconds: float
    session: Mapping[str, Any] | None


class Receipts:
    """The receipts in one collection of the database of a store, gone ``keep_seconds`` after their claim."""

    def __init__(self, store: Store, collection: str, keep_seconds: float) -> None:
        self.store = store
        self.name = collection
        self.keep_seconds = keep_seconds

    async def claim(
        self, name: str, fingerprint: bytes, token: ObjectId, *, seconds: float | None, session: Any = None
    ) -> Receipt | None:
        """Claim a name; return the receipt that was there already, None when the claim is made.

        ``seconds`` after which others may take it over; None for never. ``session`` is the one in whose
        transaction the work will be.
        """
        await self._prepare()
        fresh = {"state": "claimed", "fingerprint": fingerprint, "expires": self._expiry()}
        try:
            # No document has both: what this name has already is never changed by it, but in its way.
            await self._run(
                lambda receipts: receipts.update_one(
                    {"_id": name, "token": token},
                    {"$currentDate": {"since": True}, "$setOnInsert": {**fresh, **_by(session, seconds)}},
                    upsert=True,
                )
            )
        except DuplicateError:
            return await self.find(name) or await self.claim(
                name, fingerprint, token, seconds=seconds, session=session
            )
        return None

    async def find(self, name: str) -> Receipt | None:
        """Return the receipt of a name."""
        ends = {"$ifNull": [{"$add": ["$since", "$lease_ms"]}, "$expires"]}
        shown = {
            **dict.fromkeys(("fingerprint", "token", "answer", "session"), 1),
            "left_ms": {"$subtract": [ends, "$$NOW"]},
        }
        found = await self._run(lambda receipts: receipts.find_one({"_id": name}, shown), reads=True)
        if found is None:
            return None
        left = found["left_ms"] / 1000
        return Receipt(
            bytes(found["fingerprint"]),
            found["token"],
            None if found.get("answer") is None else _unpacked(found["answer"]),
            left <= 0,
            max(0.0, left),
            found.get("session"),
        )

    async def take_over(
        self, name: str, lapsed: Receipt, token: ObjectId, *, seconds: float, session: Any = None
    ) -> bool:
        """Take over a claim whose time is over; False if somebody else was faster."""
        if lapsed.session is not None:
            await self._end_transaction(lapsed.session)
        ours = {"token": token, "expires": self._expiry(), **_by(session, seconds)}
        changed = {"$set": ours, "$currentDate": {"since": True}}
        return await self._change({"_id": name, "token": lapsed.token, "state": "claimed"}, changed)

    async def move(self, name: str, token: ObjectId, session: Any) -> bool:
        """Note that the work is in another session now; False if the claim was lost."""
        changed = {"$set": {"session": session.session_id}}
        return await self._change({"_id": name, "token": token, "state": "claimed"}, changed)

    async def hold(self, name: str, token: ObjectId, session: Any) -> bool:
        """Let the transaction of the session commit only if the claim is not lost; False if it is already."""
        return await self._change(
            {"_id": name, "token": token, "state": "claimed"}, {"$inc": {"parts": 1}}, session
        )

    async def keep(self, name: str, token: ObjectId, answer: Answer, session: Any = None) -> bool:
        """Keep the answer, in the transaction of the session; False if the claim was lost.

        Raises ValueError for an answer that is too large to be kept.
        """
        changed = {
            "$set": {"state": "kept", "answer": _packed(answer), "expires": self._expiry()},
            "$unset": {"lease_ms": 1},
        }
        return await self._change({"_id": name, "token": token, "state": "claimed"}, changed, session)

    async def release(self, name: str, token: ObjectId) -> None:
        """Give a claim up: nothing was done. What is kept already stays."""
        claimed = {"_id": name, "token": token, "state": "claimed"}
        async with TimeLimit(_LEAVING_SECONDS):
            await self._run(lambda receipts: receipts.delete_one(claimed))

    async def lapse(self, name: str, token: ObjectId) -> None:
        """Let the time of a claim be over: parts of the work are done, and the same request may go on."""
        claimed = {"_id": name, "token": token, "state": "claimed"}
        async with TimeLimit(_LEAVING_SECONDS):
            await self._change(claimed, {"$set": {"lease_ms": 0}})

    # The parts of a piece of work ---------------------------------------------------------------------------

    async def record(self, name: str, position: int, part: bytes, session: Any) -> None:
        """Keep the answer of one part of the work; raises DuplicateError if there is one already."""
        answer = _packed(Answer(200, body=part))
        document = {"_id": _part(name, position), "answer": answer, "expires": self._expiry()}
        await self._run(lambda receipts: receipts.insert_one(document, session=session), session)

    async def recorded(self, name: str) -> dict[int, bytes]:
        """Return the parts that are there, by position."""
        wanted = {"_id": {"$gte": f"{name}:", "$lt": f"{name};"}}
        driver = self.store.driver()
        found = await self._run(lambda receipts: driver.to_list(receipts.find(wanted)), reads=True)
        return {int(each["_id"].rpartition(":")[2]): _unpacked(each["answer"]).body for each in found}

    async def forget_parts(self, name: str) -> None:
        """Delete the parts, when the whole is kept."""
        wanted = {"_id": {"$gte": f"{name}:", "$lt": f"{name};"}}
        await self._run(lambda receipts: receipts.delete_many(wanted))

    # How it gets there --------------------------------------------------------------------------------------

    def _expiry(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.keep_seconds)

    async def _change(
        self, which: Mapping[str, Any], changed: Mapping[str, Any], session: Any = None
    ) -> bool:
        result = await self._run(
            lambda receipts: receipts.update_one(which, changed, session=session), session
        )
        return bool(result.matched_count)

    async def _end_transaction(self, session: Mapping[str, Any]) -> None:
        # Refused or out of reach: MongoDB ends the transaction by itself, when its minute is over.
        with contextlib.suppress(PyMongoError), pymongo.timeout(self.store.timeout):
            await self.store.driver().client.admin.command({"killSessions": [session]})

    async def _prepare(self) -> None:
        driver = self.store.driver()
        known = (settings_of(self.store.alias)["name"], self.name)
        if known not in driver.prepared:
            await self._run(lambda receipts: receipts.create_index("expires", expireAfterSeconds=0))
            driver.prepared.add(known)

    async def _run(
        self, call: Callable[[Any], Awaitable[T]], session: Any = None, *, reads: bool = False
    ) -> T:
        def in_receipts(collection: Any) -> Awaitable[T]:
            # A receipt of a moment ago must be seen, and its values come back as they were written.
            receipts = collection.database.get_collection(
                self.name, codec_options=CodecOptions(), read_preference=ReadPreference.PRIMARY
            )
            return call(receipts)

        return await self.store._run(in_receipts, session, reads=reads)


def _by(session: Any, seconds: float | None) -> dict[str, Any]:
    """Return who is at work, and for how long they may be."""
    return {
        "session": None if session is None else session.session_id,
        "lease_ms": None if seconds is None else int(seconds * 1000),
    }


def _part(name: str, position: int) -> str:
    return f"{name}:{position:08d}"


def _packed(answer: Answer) -> dict[str, Any]:
    body, packed = answer.body, len(answer.body) >= _LARGE
    if packed:
        body = zlib.compress(body, 1)
    if len(body) > _MAX_BODY:
        raise ValueError("the answer is too large to be kept")
    headers = [list(each) for each in answer.headers]
    return {"status": answer.status, "headers": headers, "body": body, "packed": packed}


def _unpacked(kept: Mapping[str, Any]) -> Answer:
    body = zlib.decompress(kept["body"]) if kept["packed"] else bytes(kept["body"])
    return Answer(kept["status"], tuple((name, value) for name, value in kept["headers"]), body)
