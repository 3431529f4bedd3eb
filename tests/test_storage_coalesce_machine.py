"""Whatever is asked at the same time, in any mixture, is answered as if in some order, one by one."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from bzz.errors import DuplicateError, StorageTimeoutError
from bzz.storage import Store
from bzz.storage.gather import Question
from tests.storage_machine import StorageMachine, made_ready, run_machine

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))


class Ticket(mongoengine.DynamicDocument):
    seat = mongoengine.IntField(unique=True, sparse=True)


keys = st.integers(0, 11)
requests = st.lists(
    st.one_of(
        st.tuples(st.just("read"), keys, st.sampled_from([None, 0, 1])),
        st.tuples(st.just("insert"), keys, keys),
        st.tuples(st.just("delete"), keys, st.none()),
        st.tuples(st.just("list"), st.integers(0, 1), st.integers(0, 6)),
        st.tuples(st.just("cancelled list"), st.integers(0, 1), st.integers(0, 4)),
        st.tuples(st.just("cancelled read"), keys, st.integers(0, 4)),
        st.tuples(st.just("cancelled insert"), keys, st.integers(0, 4)),
    ),
    min_size=1,
    max_size=24,
)
FAULTS = [{"closeConnection": True}, {"errorCode": 50}, {"errorCode": 112}, {"errorCode": 11602}]


class Coalescing(StorageMachine):
    """Waves of concurrent requests against a model: what is stored for certain, and what may be."""

    def __init__(self) -> None:
        super().__init__()
        Ticket._get_collection().delete_many({})
        self.store = Store(Ticket, timeout=5)
        self.wait(self.store.prepare())
        self.kept: dict[int, dict[str, Any]] = {}

    @rule(wave=requests)
    def wave(self, wave: list[tuple[str, int, Any]]) -> None:
        results = self.wait(self._run(wave))
        self._judge(wave, results)
        self._learn()

    @rule(wave=requests, fault=st.sampled_from(FAULTS), command=st.sampled_from(["find", "insert"]))
    def wave_with_a_fault(
        self, wave: list[tuple[str, int, Any]], fault: dict[str, Any], command: str
    ) -> None:
        with self.fault(fault, command):
            results = self.wait(self._run(wave))
        self._judge(wave, results, faulty=True)
        self._learn()

    async def _run(self, wave: list[tuple[str, int, Any]]) -> list[Any]:
        tasks = [asyncio.create_task(self._request(*each)) for each in wave]
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def _request(self, kind: str, key: int, more: Any) -> Any:
        if kind == "read":
            return await self.store.find_by_id(key, None if more is None else {"odd": more})
        if kind == "delete":
            return await self.store.delete({"_id": key})
        if kind == "list":
            for _ in range(more):
                await asyncio.sleep(0)
            return await self._list(key)
        if kind == "insert":
            return await self.store.insert({"_id": key, "seat": more, "odd": more % 2})
        if kind == "cancelled read":
            task = asyncio.create_task(self.store.find_by_id(key))
        elif kind == "cancelled list":
            task = asyncio.create_task(self._list(key))
        else:
            # MongoDB may still carry it out, whenever it likes: so it is one that touches nobody else.
            task = asyncio.create_task(self.store.insert({"_id": ObjectId()}))
        for _ in range(more):
            await asyncio.sleep(0)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    async def _list(self, odd: int) -> list[dict[str, Any]]:
        found = await self.store.find_raw(Question({"odd": odd}, [("_id", 1)], 0, 50))
        return self.store.decode(found)

    def _judge(self, wave: list[tuple[str, int, Any]], results: list[Any], *, faulty: bool = False) -> None:
        for (kind, key, more), result in zip(wave, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                assert kind.startswith("cancelled")
            elif faulty and isinstance(result, StorageTimeoutError | ConnectionError):
                continue
            elif kind == "read":
                self._judge_read(wave, key, more, result)
            elif kind == "list":
                there = {each["_id"]: each for each in result}
                assert sorted(there) == [each["_id"] for each in result]
                for each in range(12):
                    self._judge_read(wave, each, key, there.get(each))
            elif kind == "insert":
                assert result is None or isinstance(result, DuplicateError), result
        self._judge_inserts(wave, results)

    def _judge_read(self, wave: list[tuple[str, int, Any]], key: int, odd: Any, result: Any) -> None:
        born = [seat for kind, each, seat in wave if kind == "insert" and each == key]
        possible = [{"_id": key, "seat": seat, "odd": seat % 2} for seat in born]
        if key in self.kept:
            possible.append(self.kept[key])
        matching = [each for each in possible if odd is None or each["odd"] == odd]
        if result is not None:
            assert result in matching
        elif key in self.kept and self.kept[key] in matching:
            assert any(kind == "delete" and each == key for kind, each, _ in wave)

    def _judge_inserts(self, wave: list[tuple[str, int, Any]], results: list[Any]) -> None:
        deleted = {key for kind, key, _ in wave if kind == "delete"}
        for key in range(12):
            stored = [
                r
                for (kind, each, _), r in zip(wave, results, strict=True)
                if kind == "insert" and each == key
            ]
            if key not in deleted:
                assert sum(result is None for result in stored) <= (key not in self.kept)

    def _learn(self) -> None:
        self.kept = {each["_id"]: each for each in Ticket._get_collection().find({"_id": {"$lt": 12}})}
        seats = [each["seat"] for each in self.kept.values()]
        assert len(seats) == len(set(seats))

    @rule(key=keys, seat=keys)
    def alone(self, key: int, seat: int) -> None:
        taken = key in self.kept or seat in {each["seat"] for each in self.kept.values()}
        results = self.wait(self._run([("insert", key, seat)]))
        assert isinstance(results[0], DuplicateError) if taken else results == [None]
        self._learn()
        assert key in self.kept or taken

    @invariant()
    def reads_see_everything(self) -> None:
        found = self.wait(self._run([("read", key, None) for key in range(12)]))
        assert found == [self.kept.get(key) for key in range(12)]

    @invariant()
    def nothing_is_left_under_way(self) -> None:
        self.wait(self._settle())

    async def _settle(self) -> None:
        current = self.store._current()
        while lists := list(current.lists._lanes.values()):
            await asyncio.gather(*(task for each in lists for task in each._tasks))
            assert all(each._under_way for each in current.lists._lanes.values())
        for lanes in (current.reads._lanes, current.inserts._lanes):
            while lanes._tasks:
                await asyncio.gather(*lanes._tasks)
            assert (lanes._under_way, lanes._groups) == ({}, {})


@pytest.fixture
def machine(mongo_url: str) -> Iterator[type[Coalescing]]:
    with made_ready(Coalescing, mongo_url) as machine:
        yield machine


@pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_waves_of_requests(machine: type[Coalescing]) -> None:
    run_machine(machine, examples=20 * TORTURE, steps=12)
    gc.collect()  # connections that were being made when their request was cancelled: here they are ignored
