"""A limit on time holds, whoever loses a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from bzz.storage import limit
from bzz.storage.limit import TimeLimit


async def test_it_cuts_off() -> None:
    short = TimeLimit(0.01)
    with pytest.raises(TimeoutError):
        async with short:
            await asyncio.Event().wait()
    assert short.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_no_time_at_all() -> None:
    with pytest.raises(TimeoutError):
        async with TimeLimit(-1):
            await asyncio.Event().wait()


async def test_it_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "_AGAIN_SECONDS", 0.01)
    lost = 0
    with pytest.raises(TimeoutError):
        async with TimeLimit(0.01):
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    lost += 1
                    if lost == 3:
                        raise
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    long = TimeLimit(5)
    async with long:
        await asyncio.sleep(0)
    assert not long.expired
    with pytest.raises(ZeroDivisionError):
        async with long:
            raise ZeroDivisionError


async def test_a_block_that_ends_all_the_same_keeps_its_result() -> None:
    async def stubborn() -> int:
        async with TimeLimit(0.01):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return 7
        return 0

    assert await stubborn() == 7


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def limited() -> None:
        async with TimeLimit(5):
            await asyncio.Event().wait()

    async def cut_off() -> None:
        async with TimeLimit(0.01):
            try:
                await asyncio.Event().wait()
            finally:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()

    for work in (limited(), cut_off()):
        task = asyncio.create_task(work)
        await asyncio.sleep(0)
        if work.__name__ == "limited":
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_only_the_innermost_limit_is_at_work() -> None:
    outer, inner = TimeLimit(0.01), TimeLimit(5)
    cancellations = 0
    with pytest.raises(TimeoutError):
        async with outer:
            try:
                async with inner:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        cancellations += 1
                        for _ in range(20):
                            await asyncio.sleep(0.001)  # cleaning up, undisturbed
                        raise
            finally:
                assert inner.expired
                assert not outer.expired
    assert cancellations == 1


async def test_an_outer_limit_goes_on_after_an_inner_one() -> None:
    outer = TimeLimit(0.05)
    with pytest.raises(TimeoutError):
        async with outer:
            async with TimeLimit(5):
                await asyncio.sleep(0)
            with pytest.raises(TimeoutError):
                async with TimeLimit(0.001):
                    await asyncio.Event().wait()
            await asyncio.Event().wait()
    assert outer.expired


async def test_a_task_of_its_own_has_a_limit_of_its_own() -> None:
    async def other() -> int:
        async with TimeLimit(5):
            await asyncio.sleep(0.05)
        return 7

    task: asyncio.Task[int] | None = None
    with pytest.raises(TimeoutError):
        async with TimeLimit(0.01):
            task = asyncio.create_task(other())
            await asyncio.Event().wait()
    assert task is not None
    assert await task == 7
