"""The comparison as tables: on the terminal, and as the generated part of docs/performance.rst."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich.table import Table

from bench.catalogue import PEERS, REFERENCE
from bench.results import Results
from bench.scenarios import SCENARIOS

__all__ = ["NOT_RUN", "Sheet", "as_rich", "as_rst", "measured", "sheets", "write_rst"]

CALM = 32  # the number of connections at which claims are made
NOT_RUN = "-"
GENERATED = ".. Written by python -m bench; what is changed here by hand is lost.\n\n"


class Sheet:
    """A table: its title, the heads of its columns, its rows."""

    def __init__(self, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self.title = title
        self.heads = list(heads)
        self.rows = [list(row) for row in rows]


def sheets(results: Results) -> Iterator[Sheet]:
    """Everything that there is to say about a comparison, as tables."""
    connections = results.connections()
    if REFERENCE in results.versions:
        for count in connections:
            title = f"Answers a second, hand-written = 1.00, {_over(count)}"
            yield _sheet(results, title, count, _ratio)
    calm = CALM if CALM in connections else connections[0]
    yield _sheet(results, f"Answers a second, {_over(calm)}", calm, _rate)
    yield _sheet(results, f"µs of processor time for one answer: server + mongod, {_over(calm)}", calm, _cpu)
    for count in connections:
        title = f"Milliseconds until the answer: median / 99 of 100, {_over(count)}"
        yield _sheet(results, title, count, _times)
    yield Sheet(
        "Memory of the process, MB that it shares with nobody",
        ["peer", "started", "after the run"],
        ([_title(name), *(f"{each / 1e6:.0f}" for each in found)] for name, found in results.memory.items()),
    )


def _over(count: int) -> str:
    return f"{count} connections" if count > 1 else "1 connection"


def _title(name: str) -> str:
    return PEERS[name].title


def _sheet(results: Results, title: str, count: int, cell: object) -> Sheet:
    assert callable(cell)
    scenarios = results.scenarios()
    rows = []
    for name in results.peers():
        if name in results.missing:
            rows.append([_title(name), *[NOT_RUN] * len(scenarios)])
        else:
            rows.append([_title(name), *(cell(results, name, each, count) for each in scenarios)])
    return Sheet(title, ["peer", *(SCENARIOS[each].title for each in scenarios)], rows)


def _ratio(results: Results, name: str, scenario: str, count: int) -> str:
    found = results.ratios(name, scenario, count)
    return f"{statistics.median(found):.2f}" if found else NOT_RUN


def _rate(results: Results, name: str, scenario: str, count: int) -> str:
    found = results.median("rate", name, scenario, count)
    return NOT_RUN if found is None else f"{found:.0f}"


def _cpu(results: Results, name: str, scenario: str, count: int) -> str:
    # Over all rounds at once: the kernel counts in hundredths of a second.
    cells = [
        each
        for each in results.cells
        if (each.peer, each.scenario, each.connections) == (name, scenario, count)
    ]
    answers = sum(each.answers for each in cells)
    if not answers:
        return NOT_RUN
    own = sum(each.cpu * each.answers for each in cells) / answers
    database = sum(each.database_cpu * each.answers for each in cells) / answers
    return f"{own:.0f} + {database:.0f}"


def _times(results: Results, name: str, scenario: str, count: int) -> str:
    half = results.median("p50", name, scenario, count)
    most = results.median("p99", name, scenario, count)
    return NOT_RUN if half is None or most is None else f"{_short(half)} / {_short(most)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def as_rich(sheet: Sheet) -> Table:
    """A table for the terminal."""
    table = Table(title=sheet.title, title_justify="left", title_style="bold")
    for number, head in enumerate(sheet.heads):
        table.add_column(head, justify="right" if number else "left")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def as_rst(sheet: Sheet) -> Iterator[str]:
    """A table for the pages, in lines."""
    yield f".. csv-table:: {sheet.title}"
    yield "   :header-rows: 1"
    yield "   :stub-columns: 1"
    yield ""
    for row in [sheet.heads, *sheet.rows]:
        yield "   " + ", ".join(f'"{cell}"' for cell in row)
    yield ""


def measured(about: dict[str, str]) -> str:
    """Where and when something was measured, in a sentence."""
    return (
        f"Measured on {about['date']}: {about['processor']}, {about['memory']} of memory, {about['system']}, "
        f"Python {about['python']}, MongoDB {about['mongod']}."
    )


def write_rst(results: Results, path: Path) -> None:
    """Write the tables and what must be known to read them."""
    settings = results.settings
    lines = [
        f"{measured(results.machine)} Rounds: {settings['rounds']}, of {settings['seconds']:g} s for each "
        f"figure, {settings['documents']:,} documents. The load was busy itself for at most "
        f"{max(cell.busy for cell in results.cells):.0%} of the time.",
        "",
    ]
    for sheet in sheets(results):
        lines += as_rst(sheet)
    if results.failures:
        lines += ["What went wrong:", "", *(f"- ``{each}``" for each in results.failures), ""]
    lines += ["What the peers are, and in what they differ:", ""]
    for name in results.peers():
        lines.append(f"- **{_title(name)}**{_particulars(results, name)}")
    path.write_text(GENERATED + "\n".join(lines) + "\n")


def _particulars(results: Results, name: str) -> str:
    if name in results.missing:
        return f" was not measured: {results.missing[name]}."
    versions = ", ".join(f"{package} {version}" for package, version in results.versions[name].items())
    return f" ({versions}): {PEERS[name].note}."
