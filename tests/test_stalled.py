"""A test that nothing else ends is ended, and named; so is a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT

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


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=ROOT)


def test_a_loop_that_swallows_its_cancellation_ends_with_a_word_about_its_tasks() -> None:
    ended = run(STALLED)

    assert ended.returncode == 1
    assert "this test did not end within 0.5 s" in ended.stderr
    assert "never_ends" in ended.stderr


IN_TIME = """
import time
from tests.stalled import ended_after

with ended_after(1, "this test"):
    pass
time.sleep(1.5)
"""


def test_what_ends_in_time_is_left_alone() -> None:
    ended = run(IN_TIME)

    assert (ended.returncode, ended.stderr) == (0, "")


FAMILY = """
import subprocess, sys, time
from tests.stalled import end_after

code = "import time; print('here', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
end_after(0.5, "this run")
time.sleep(600)
"""


def test_nobody_is_left_who_holds_the_output_open() -> None:
    ended = run(FAMILY)

    assert ended.returncode == 1
    assert "this run did not end within 0.5 s" in ended.stderr


HOOKS = """
from tests import conftest
from tests.conftest import pytest_configure, pytest_runtest_protocol

conftest.PATIENCE = 1
"""
TESTS = """
import time, pytest

@pytest.fixture
def stuck():
    yield
    time.sleep(600)

def test_failed(stuck):
    assert False

@pytest.mark.parametrize("number", range(10))
def test_others(number):
    pass
"""


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (["--timeout=1"], "test_failed did not end within 2 s"),
        (["--timeout=600", "--session-timeout=12"], "The run of all tests did not end within 14 s"),
    ],
    ids=["test", "run"],
)
def test_a_failed_test_whose_fixture_never_ends_does_not_keep_the_run(
    tmp_path: Path, limits: list[str], said: str
) -> None:
    """pytest-timeout limits nothing any more once a test has failed."""
    (tmp_path / "conftest.py").write_text(HOOKS)
    (tmp_path / "test_stuck.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "-n", "2", *limits, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert ended.returncode == 1, ended.stdout
    assert said in ended.stderr
    assert "in stuck" in ended.stderr, "where it stood"
    assert "--timeout=1" not in limits or "10 passed" in ended.stdout, ended.stdout
