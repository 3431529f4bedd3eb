"""The table of what bzz does of the standards it builds on, each row with the test that holds it.

``python -m tests.conformance`` writes ``docs/conformance.rst`` from the tests; one of them checks that the
page is what that would write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.program import ROOT

__all__ = ["PAGE", "ROWS", "Row", "conforms", "held_by", "page"]

PAGE: Path = ROOT / "docs" / "conformance.rst"

TITLES = {
    "9110": "HTTP Semantics",
    "9457": "Problem Details",
    "5789": "PATCH",
    "7396": "JSON Merge Patch",
    "6902": "JSON Patch",
    "8288": "Web Linking",
    "7240": "Prefer",
    "6585": "Additional HTTP Status Codes",
}
INTRODUCTION = """\
.. Written by ``python -m tests.conformance`` from the tests; change the rows there.

Standards
=========

What the RFCs that bzz builds on ask of a server, and what bzz does. Each row names the test that holds it,
against a running server. Where bzz does something else than a SHOULD says, the row says so.

Tests without a module are in ``tests/test_conformance.py``. Limits of a connection (413, 431) are those of
``bzz.serve``; another Tornado server has its own.
"""


class Row(NamedTuple):
    """What a section asks, what bzz does, and the test that holds it."""

    rfc: str
    section: str
    asks: str
    does: str
    test: str


ROWS: list[Row] = []

_Test = TypeVar("_Test", bound=Callable[..., Any])


def conforms(rfc: str, section: str, asks: str, does: str) -> Callable[[_Test], _Test]:
    """Make a row of the test that this decorates."""

    def register(test: _Test) -> _Test:
        ROWS.append(Row(rfc, section, asks, does, test.__name__))
        return test

    return register


def held_by(test: str, rfc: str, section: str, asks: str, does: str) -> None:
    """Make a row of a test elsewhere: ``test_patch.py::test_appendix_a``."""
    ROWS.append(Row(rfc, section, asks, does, test))


def page() -> str:
    """Write the page."""
    parts = [INTRODUCTION]
    for rfc, title in TITLES.items():
        heading = f"RFC {rfc}: {title}"
        rows = [each for each in ROWS if each.rfc == rfc]
        parts.append(f"{heading}\n{'-' * len(heading)}\n")
        parts.append(".. list-table::\n   :header-rows: 1\n   :widths: 12 36 32 20\n")
        parts.append("   * - Section\n     - Asks\n     - bzz\n     - Test")
        parts += [
            f"   * - :rfc:`{row.section} <{rfc}#{_anchor(row.section)}>`\n"
            f"     - {row.asks}\n     - {row.does}\n     - ``{row.test}``"
            for row in sorted(rows, key=_order)
        ]
        parts.append("")
    return "\n".join(parts)


def _anchor(section: str) -> str:
    return f"appendix-{section}" if section[0].isalpha() else f"section-{section}"


def _order(row: Row) -> tuple[Any, ...]:
    return tuple((0, int(each), "") if each.isdigit() else (1, 0, each) for each in row.section.split("."))


if __name__ == "__main__":
    from tests import conformance, test_conformance  # it fills the rows of that module, not of this one

    assert test_conformance.ROWS
    PAGE.write_text(conformance.page())
