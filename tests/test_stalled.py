"""A test that nothing else ends is ended, and named."""

from __future__ import annotations

import subprocess
import sys

STALLED = """
import asyncio
from tests.stalled import ended_after

async def never_ends():
    while True:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            pass

with ended_after(0.5, "this test"):
    asyncio.run(never_ends())
"""


def test_a_loop_that_swallows_its_cancellation_ends_with_a_word_about_its_tasks() -> None:
    ended = subprocess.run([sys.executable, "-c", STALLED], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert "this test did not end within 0.5 s" in ended.stderr
    assert "never_ends" in ended.stderr


IN_TIME = """
import time
from tests.stalled import ended_after

with ended_after(0.2, "this test"):
    pass
time.sleep(0.4)
"""


def test_what_ends_in_time_is_left_alone() -> None:
    ended = subprocess.run([sys.executable, "-c", IN_TIME], capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, "")
