"""A limit on time holds, whoever loses a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from bzz.storage.limit import TimeLimit


async def test_it_cuts_off() -> None:
    limit = TimeLimit(0.01)
    with pytest.raises(TimeoutError):
        async with limit:
            await asyncio.Event().wait()
    assert limit.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.06)  # nothing is cancelled afterwards


async def test_no_time_at_all() -> None:
    with pytest.raises(TimeoutError):
        async with TimeLimit(-1):
            await asyncio.Event().wait()


async def test_it_insists() -> None:
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
    limit = TimeLimit(5)
    async with limit:
        await asyncio.sleep(0)
    assert not limit.expired
    with pytest.raises(ZeroDivisionError):
        async with limit:
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
