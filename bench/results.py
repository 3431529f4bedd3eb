"""What was measured, and what follows from it: medians over rounds."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.catalogue import REFERENCE

__all__ = ["Cell", "Results", "machine"]


@dataclass(frozen=True)
class Cell:
    """One peer, one scenario, one number of connections, one round.

    ``rate`` is answers a second; ``cpu`` and ``database_cpu`` are microseconds of the server's processor time
    and of mongod's for one answer; ``p50`` and ``p99`` are milliseconds; ``busy`` is the share of the time in
    which the load was busy itself.
    """

    round: int
    scenario: str
    connections: int
    peer: str
    answers: int
    rate: float
    cpu: float
    database_cpu: float
    p50: float
    p99: float
    busy: float


@dataclass
class Results:
    """All cells, and under which circumstances they came about.

    ``missing`` says of each peer that did not run why, ``failures`` what went wrong on the way; a figure that
    failed in one round is the median of the others. ``memory`` is bytes of each peer when it had started
    and when all was over.
    """

    machine: dict[str, str]
    settings: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    memory: dict[str, list[int]] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)

    def values(self, what: str, peer: str, scenario: str, connections: int) -> dict[int, float]:
        """One property of the cells, by round."""
        return {
            cell.round: getattr(cell, what)
            for cell in self.cells
            if (cell.peer, cell.scenario, cell.connections) == (peer, scenario, connections)
        }

    def median(self, what: str, peer: str, scenario: str, connections: int) -> float | None:
        """The median over the rounds, None where nothing was measured."""
        found = self.values(what, peer, scenario, connections)
        return statistics.median(found.values()) if found else None

    def ratios(
        self, peer: str, scenario: str, connections: int, to: str = REFERENCE, what: str = "rate"
    ) -> list[float]:
        """What a peer reaches of another one, each time in the same round."""
        own = self.values(what, peer, scenario, connections)
        other = self.values(what, to, scenario, connections)
        return [own[number] / other[number] for number in sorted(own.keys() & other.keys())]

    def peers(self) -> list[str]:
        """The peers that were measured or are missing, in the order of the catalogue."""
        return list(self.versions | self.missing)

    def scenarios(self) -> list[str]:
        return list(dict.fromkeys(cell.scenario for cell in self.cells))

    def connections(self) -> list[int]:
        return sorted({cell.connections for cell in self.cells})

    def write(self, path: Path) -> None:
        """Write JSON with one line for each cell."""
        path.parent.mkdir(parents=True, exist_ok=True)
        head = asdict(self)
        head["cells"] = {"columns": [each.name for each in fields(Cell)], "rows": []}
        text = json.dumps(head, indent=1, ensure_ascii=False)
        rows = ",\n   ".join(json.dumps(list(_rounded(cell))) for cell in self.cells)
        path.write_text(text.replace('"rows": []', f'"rows": [\n   {rows}\n  ]') + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what :meth:`write` has written."""
        given = json.loads(path.read_text())
        cells = given.pop("cells")
        return cls(
            **given, cells=[Cell(**dict(zip(cells["columns"], row, strict=True))) for row in cells["rows"]]
        )


def _rounded(cell: Cell) -> Iterator[Any]:
    for value in astuple(cell):
        yield float(f"{value:.5g}") if isinstance(value, float) else value


def machine(mongod: str) -> dict[str, str]:
    """Where and when this runs."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": f"{_processor()}, {os.cpu_count()} processors",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "mongod": mongod,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
