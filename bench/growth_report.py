"""The growth as tables: on the terminal, and as the generated part of docs/performance.rst."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from bench.catalogue import PEERS
from bench.growth import Growth
from bench.report import GENERATED, Sheet, as_rst, measured

__all__ = ["growth_sheets", "write_growth"]

TITLES = {
    "documents": "Median milliseconds by the number of documents",
    "depth": "Median milliseconds by the depth of a page that a cursor leads to",
    "receivers": "Median milliseconds by the number of receivers",
    "fields": "Median milliseconds by the number of fields",
}


def growth_sheets(growth: Growth) -> Iterator[Sheet]:
    """Everything that there is to say about growth, as tables.

    After the first row of each table stands what the others are of it: medians of ratios within one round.
    """
    for table, rows in growth.times.items():
        columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
        first = next(iter(rows.values()), {})
        lines = []
        for row, cells in rows.items():
            shown = [_time(cells[column], first[column]) for column in columns]
            lines.append([row, *shown])
        yield Sheet(f"{TITLES[table]} (and as a multiple of the first row)", ["", *columns], lines)
    yield Sheet(
        "Memory of one idle connection, KB",
        ["server", "KB"],
        ([PEERS[name].title, f"{found / 1000:.1f}"] for name, found in growth.connections.items()),
    )
    yardstick = next(iter(growth.imports.values()))
    yield Sheet(
        "Importing, median milliseconds (and as a multiple of the first row)",
        ["", "ms"],
        ([name, _time(times, yardstick)] for name, times in growth.imports.items()),
    )


def _time(times: list[float], first: list[float]) -> str:
    middle = statistics.median(times)
    text = f"{middle:.2f}" if middle < 10 else f"{middle:.0f}"
    if times is first:
        return text
    return f"{text} ({statistics.median(a / b for a, b in zip(times, first, strict=True)):.2f})"


def write_growth(growth: Growth, path: Path) -> None:
    """Write the tables and what must be known to read them."""
    settings = growth.settings
    lines = [
        f"{measured(growth.machine)} Rounds: {settings['rounds']}, of {settings['seconds']:g} s for each "
        "figure, over one connection.",
        "",
    ]
    for sheet in growth_sheets(growth):
        lines += as_rst(sheet)
    path.write_text(GENERATED + "\n".join(lines).rstrip() + "\n")
