"""Whatever is changed at the same time, with whatever fault: the changes of each document form one chain."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from bson import ObjectId
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from bzz.errors import DuplicateError, StorageTimeoutError, StorageUnavailableError
from bzz.storage import Store
from tests.storage_drivers import everything_arrived
from tests.storage_machine import StorageMachine, made_ready, run_machine

TORTURE = int(os.environ.get("BZZ_TORTURE", "1"))
KEYS = range(8)


class Link(mongoengine.DynamicDocument):
    seat = mongoengine.IntField(unique=True, sparse=True)


keys = st.integers(0, max(KEYS))
changes = st.lists(
    st.one_of(
        st.tuples(st.just("update"), keys, st.none()),
        st.tuples(st.just("guarded update"), keys, st.booleans()),
        st.tuples(st.just("taken seat"), keys, st.none()),
        st.tuples(st.just("delete"), keys, st.none()),
        st.tuples(st.just("cancelled update"), keys, st.integers(0, 6)),
        st.tuples(st.just("another's update"), keys, st.none()),
    ),
    min_size=1,
    max_size=24,
)
FAULTS: list[dict[str, Any]] = [
    {"closeConnection": True},
    {"errorCode": 112},
    {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
    {"errorCode": 10107},
    {"errorCode": 11602},
]
COMMANDS = ["find", "update", "delete", "commitTransaction", "findAndModify"]
UNKNOWN = (StorageTimeoutError, StorageUnavailableError)


class Grouping(StorageMachine):
    """Waves of concurrent changes; each sets a mark of its own and is told which mark it replaced."""

    def __init__(self) -> None:
        super().__init__()
        Link._get_collection().delete_many({})
        Link._get_collection().insert_one({"_id": -1, "seat": -1})
        self.store = Store(Link, timeout=5)
        # Another process, as far as the store can tell.
        self.other = Store(Link, timeout=5)
        self.wait(self.store.prepare())
        self.kept: dict[int, ObjectId] = {}
        self.fill()

    @rule()
    def fill(self) -> None:
        """Bring back what was deleted."""
        for key in KEYS:
            if key not in self.kept:
                self.kept[key] = ObjectId()
                Link._get_collection().insert_one({"_id": key, "mark": self.kept[key], "open": True})

    @rule(wave=changes)
    def wave(self, wave: list[tuple[str, int, Any]]) -> None:
        self._judge(wave, *self.wait(self._run(wave)))

    @rule(wave=changes, fault=st.sampled_from(FAULTS), command=st.sampled_from(COMMANDS))
    def wave_with_a_fault(self, wave: list[tuple[str, int, Any]], fault: Any, command: str) -> None:
        with self.fault(fault, command):
            marks, results = self.wait(self._run(wave))
        self._judge(wave, marks, results)

    async def _run(self, wave: list[tuple[str, int, Any]]) -> tuple[list[ObjectId], list[Any]]:
        marks = [ObjectId() for _ in wave]
        tasks = [
            asyncio.create_task(self._request(*each, mark)) for each, mark in zip(wave, marks, strict=True)
        ]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await self._settle()
        return marks, results

    async def _request(self, kind: str, key: int, more: Any, mark: ObjectId) -> Any:
        command: dict[str, Any] = {"$set": {"mark": mark}}
        if kind == "delete":
            return await self.store.delete({"_id": key})
        if kind == "another's update":
            return await self.other.update({"_id": key}, command)
        if kind == "guarded update":
            return await self.store.update({"_id": key, "open": more}, command)
        if kind == "taken seat":
            return await self.store.update({"_id": key}, {"$set": {"mark": mark, "seat": -1}})
        if kind == "update":
            return await self.store.update({"_id": key}, command)
        task = asyncio.create_task(self.store.update({"_id": key}, command))
        for _ in range(more):
            await asyncio.sleep(0)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    def _judge(self, wave: list[tuple[str, int, Any]], marks: list[ObjectId], results: list[Any]) -> None:
        stored = {each["_id"]: each["mark"] for each in Link._get_collection().find({"_id": {"$gte": 0}})}
        for key in KEYS:
            mine = [
                (kind, more, mark, result)
                for (kind, each, more), mark, result in zip(wave, marks, results, strict=True)
                if each == key
            ]
            self._judge_chain(self.kept.get(key), stored.get(key), mine)
        self.kept = stored

    def _judge_chain(
        self, first: ObjectId | None, last: ObjectId | None, mine: list[tuple[str, Any, ObjectId, Any]]
    ) -> None:
        successor: dict[ObjectId, ObjectId | None] = {}
        possible: set[ObjectId] = set()
        may_be_gone = first is None
        for kind, more, mark, result in mine:
            if isinstance(result, dict):
                assert kind != "taken seat"
                assert not (kind == "guarded update" and not more)
                assert result["mark"] not in successor, "two changes replaced the same state"
                successor[result["mark"]] = None if kind == "delete" else mark
                may_be_gone = may_be_gone or kind == "delete"
            elif isinstance(result, (*UNKNOWN, asyncio.CancelledError)):
                may_be_gone = may_be_gone or kind == "delete"
                possible.add(mark)
        for kind, more, _mark, result in mine:
            if result is None:
                assert may_be_gone or (kind == "guarded update" and not more)
            elif kind == "taken seat" and not isinstance(result, dict):
                assert isinstance(result, (DuplicateError, *UNKNOWN))
            else:
                assert isinstance(result, (dict, *UNKNOWN, asyncio.CancelledError)), result
        self._follow(first, last, successor, possible)

    def _follow(
        self,
        first: ObjectId | None,
        last: ObjectId | None,
        successor: dict[ObjectId, ObjectId | None],
        possible: set[ObjectId],
    ) -> None:
        """Go from the first state to the last; whoever was not told may be a link that nobody saw."""
        told = set(successor)
        seen = set()
        at = first
        for _ in itertools.repeat(None, len(successor) + len(possible) + 1):
            while at is not None and at in successor:
                seen.add(at)
                at = successor[at]
            if at == last or not possible:
                break
            # An unseen link: its mark was replaced by somebody who says so, or it is the last.
            at = next((mark for mark in possible if mark in told - seen), last)
            possible = possible - {at} if at is not None else possible
        if not possible:
            assert at == last
            assert seen == told

    @invariant()
    def changes_go_through(self) -> None:
        wave = [("update", key, None) for key in KEYS]
        marks, results = self.wait(self._run(wave))
        assert [each and each["mark"] for each in results] == [self.kept.get(key) for key in KEYS]
        self.kept = {key: marks[key] for key in KEYS if results[key] is not None}

    async def _settle(self) -> None:
        for store in (self.store, self.other):
            lanes = store._current().writes._lanes
            while lanes._tasks:
                await asyncio.gather(*lanes._tasks)
            writes = store._current().writes
            assert (writes._writers, lanes._groups) == ({}, {})
            assert not lanes._under_way
        # What was cancelled may still be on its way to the server: it is done when this is.
        client = self.store.driver().client
        await everything_arrived(client, self.name)
        while await self._operations(client):
            await asyncio.sleep(0.002)

    async def _operations(self, client: Any) -> list[Any]:
        pipeline = [
            {"$currentOp": {"allUsers": True, "idleSessions": True}},
            {"$match": {"appName": self.name, "$or": [{"active": True}, {"transaction": {"$exists": True}}]}},
            {"$match": {"command.aggregate": {"$exists": False}, "command.hello": {"$exists": False}}},
        ]
        cursor = await client.admin.aggregate(pipeline)
        return list(await cursor.to_list())


@pytest.fixture
def machine(mongo_url: str) -> Iterator[type[Grouping]]:
    with made_ready(Grouping, mongo_url) as machine:
        yield machine


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
def test_waves_of_changes(machine: type[Grouping]) -> None:
    run_machine(machine, examples=15 * TORTURE, steps=10)
