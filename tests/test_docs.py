"""What Sphinx does not notice: an example that it would not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bzz.cli import main
from tests.program import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.rst"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_of_a_page_is_run(page: Path) -> None:
    """A bare ``>>>`` is printed and never run; only what is inside a doctest directive is."""
    assert re.findall(r"^>>> .*", page.read_text(), re.MULTILINE) == []


def test_python_that_is_only_shown_cannot_be_run() -> None:
    """``code-block:: python`` is for the one line that never returns; everything else is a testcode."""
    shown = [
        line.strip()
        for page in PAGES
        for block in re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", page.read_text())
        for line in block.splitlines()
        if line.strip()
    ]
    assert set(shown) == {"bzz.serve(api, port=8888)"}


def test_every_command_is_described() -> None:
    running = (ROOT / "docs" / "running.rst").read_text()
    assert [name for name in main.commands if f"\n``bzz {name}" not in running] == []
