"""A command or two under way, and what waits meanwhile goes out together.

Nothing waits for a time to pass. While there is room a request goes straight out, in its own task, at no
cost; what comes while there is none waits, and leaves as one command as soon as one that is under way is
back. Nothing ever joins a command that was already sent. A command that takes long, because it waits for a
lock perhaps, no longer counts after a while: nobody waits for what does not concern them.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from bzz.errors import BzzError
from bzz.storage.driver import Driver
from bzz.storage.errors import too_late

__all__ = ["Lanes", "Waiting", "fail_all"]

Item = TypeVar("Item")
Result = TypeVar("Result")

UNDER_WAY = 2
MAX_COUNT = 1000
# Seconds after which a command that is under way makes room for the next.
SLOW = 0.1
# MongoDB takes messages of 48 MB; what is around the documents needs a little room.
MAX_BYTES = 40_000_000


class Waiting(NamedTuple, Generic[Item]):
    """A request that waits: what it asks for, where its answer goes, and its size in bytes."""

    item: Item
    answer: asyncio.Future[Any]
    size: int

    def settle(self, result: Any) -> None:
        """Give the answer, an exception if it is one, unless nobody waits for it any more."""
        if self.answer.done():
            return
        if isinstance(result, BaseException):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


def fail_all(requests: Sequence[Waiting[Any]], error: BzzError) -> None:
    """Settle each with an error of its own: tracebacks grow where they are raised."""
    for each in requests:
        own = type(error)(error.detail)
        own.args = error.args
        vars(own).update(vars(error))
        own.__cause__ = error.__cause__
        each.settle(own)


class Lanes(Generic[Item]):
    """Lead the requests of one collection, in one event loop, to the server.

    ``send(requests)`` gives one command for all of ``requests``, which belong to one group, and settles
    each, or leaves it to a task of its own (:meth:`start`). What it raises settles those that are left.
    A request waits at most ``seconds``; it may be cancelled at any time, which concerns nobody else.
    ``on_idle`` is called when nobody is under way any more, and so nobody waits.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Waiting[Item]]], Awaitable[None]],
        driver: Driver,
        seconds: float,
        *,
        under_way: int = UNDER_WAY,
        max_count: int = MAX_COUNT,
        slow: float = SLOW,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self._send = send
        self._driver = driver
        self._seconds = seconds
        self._room = under_way
        self._max_count = max_count
        self._slow = slow
        self._on_idle = on_idle
        # When what is under way becomes slow, and one look at the clock for the first: a timer for each would
        # cost as much as all the rest here.
        self._under_way: dict[int, float] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._last_place = 0
        self._groups: dict[Hashable, list[Waiting[Item]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # When the patience of those who wait ends, in the order of its ends, and one alarm for the first.
        self._ends: deque[tuple[float, weakref.ref[asyncio.Future[Any]]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def free(self) -> bool:
        """Whether a request can go straight."""
        return len(self._under_way) < self._room

    async def straight(self, work: Awaitable[Result]) -> Result:
        """Do the work of one request in the task of its caller."""
        place = self._take_place()
        try:
            return await work
        finally:
            self._leave(place)

    async def together(self, group: Hashable, item: Item, size: int = 0) -> Any:
        """Wait for the answer of a command that leaves later and serves the whole group."""
        return await self.join(group, item, size)

    def join(self, group: Hashable, item: Item, size: int = 0) -> asyncio.Future[Any]:
        """Return where the answer of :meth:`together` will be; there must be somebody under way."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._groups.setdefault(group, []).append(Waiting(item, answer, size))
        ends = self._ends
        while ends and _is_over(ends[0][1]):
            ends.popleft()
        ends.append((loop.time() + self._seconds, weakref.ref(answer)))
        if self._alarm is None:
            self._alarm = loop.call_at(ends[0][0], self._end)
        return answer

    def _end(self) -> None:
        """Tell those who have waited too long, and set the alarm for the next."""
        loop = asyncio.get_running_loop()
        self._alarm = None
        while self._ends:
            end, each = self._ends[0]
            if not _is_over(each) and end > loop.time():
                self._alarm = loop.call_at(end, self._end)
                return
            self._ends.popleft()
            answer = each()
            if answer is not None and not answer.done():
                answer.set_exception(too_late(self._driver.sees_a_server))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Work on, beside the lanes."""
        # In a context of its own: the deadline of the request that happens to be back is not theirs.
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_place(self) -> int:
        self._last_place = place = self._last_place + 1
        loop = asyncio.get_running_loop()
        self._under_way[place] = slow = loop.time() + self._slow
        if self._watch is None:
            self._watch = loop.call_at(slow, self._pass_slow)
        return place

    def _pass_slow(self) -> None:
        """Let those pass who wait behind what has become slow."""
        self._watch = None
        loop = asyncio.get_running_loop()
        for place, slow in list(self._under_way.items()):
            if slow <= loop.time():
                self._leave(place)
        if self._under_way and self._watch is None:
            self._watch = loop.call_at(min(self._under_way.values()), self._pass_slow)

    def _leave(self, place: int) -> None:
        if self._under_way.pop(place, None) is None:
            return  # it was slow
        while self._groups and self.free:
            if requests := self._next():
                self.start(self._travel(requests, self._take_place()))
        if self._on_idle is not None and not self._under_way:
            self._on_idle()

    def _next(self) -> list[Waiting[Item]]:
        group = next(iter(self._groups))
        queue = self._groups.pop(group)
        taken, size = 0, 0
        requests: list[Waiting[Item]] = []
        for each in queue:
            if requests and (len(requests) == self._max_count or size + each.size > MAX_BYTES):
                break
            taken += 1
            if not each.answer.done():
                requests.append(each)
                size += each.size
        if taken < len(queue):
            self._groups[group] = queue[taken:]  # behind the other groups: each has its turn
        return requests

    async def _travel(self, requests: Sequence[Waiting[Item]], place: int) -> None:
        try:
            await self._send(requests)
        except asyncio.CancelledError:
            for each in requests:
                each.answer.cancel()
            raise
        except Exception as error:
            for each in requests:
                each.settle(error)
        finally:
            self._leave(place)


def _is_over(answer: weakref.ref[asyncio.Future[Any]]) -> bool:
    found = answer()
    return found is None or found.done()
