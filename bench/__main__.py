"""The measurements on the command line: ``python -m bench compare``, ``growth`` and ``tables``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bench.catalogue import PEERS
from bench.growth import Growth, grow
from bench.growth_report import growth_sheets, write_growth
from bench.plot import draw
from bench.report import Sheet, as_rich, sheets, write_rst
from bench.results import Results
from bench.rounds import compare as measure
from bench.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parent
DOCS = ROOT.parent / "docs"
RESULTS, OUT = ROOT / "results", ROOT / "out"
PLOTTED = 32
WIDTH = 120  # of the tables; a terminal that is narrower breaks the lines


class Several(click.ParamType):
    """Several of these, with commas between them."""

    name = "a,b"

    def __init__(self, choices: Sequence[str] | None = None) -> None:
        self.choices = choices

    def convert(
        self, value: str | list[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """Split, and refuse what is not among the choices."""
        parts = value.split(",") if isinstance(value, str) else value
        if self.choices is None:
            wrong = [part for part in parts if not part.isdecimal() or not 1 <= int(part) <= 10_000_000]
        else:
            wrong = [part for part in parts if part not in self.choices]
        if wrong:
            allowed = "numbers from 1 on" if self.choices is None else ", ".join(self.choices)
            self.fail(f"{', '.join(wrong)}: possible are {allowed}.", param, ctx)
        return parts


publishing = click.option(
    "--publish",
    is_flag=True,
    help="Write what the documentation shows: bench/results and docs/performance-*.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure what the performance claims rest on."""


@main.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds", default=1.0, show_default=True, help="How long each figure is measured in a round."
)
@click.option("--only", type=Several(list(SCENARIOS)), default=",".join(SCENARIOS), help="Scenarios.")
@click.option("--peers", type=Several(list(PEERS)), default=",".join(PEERS))
@click.option("--connections", type=Several(), default="1,32,256", show_default=True)
@click.option("--quick", is_flag=True, help="One short round over 32 connections: does it run?")
@publishing
def compare(
    rounds: int,
    seconds: float,
    only: list[str],
    peers: list[str],
    connections: list[str],
    quick: bool,
    publish: bool,
) -> None:
    """Compare bzz with what one would otherwise use, all of it on one MongoDB of their own.

    Installs the peers into bench/.envs. The whole takes about 18 minutes; run it on a machine that does
    nothing else. Everything measured goes to bench/out/comparison.json.
    """
    if quick:
        rounds, seconds, connections = 1, 0.3, ["32"]
    counts = [int(each) for each in connections]
    with telling(rounds * len(only) * len(counts) * len(peers)) as (say, done):
        results = measure(
            peers,
            only,
            counts,
            rounds=rounds,
            seconds=seconds,
            prepare=0.3 if quick else 1.0,
            say=say,
            done=done,
        )
    results.write(OUT / "comparison.json")
    show(sheets(results))
    for each in results.failures:
        click.secho(each, err=True, fg="red")
    if publish:
        results.write(RESULTS / "comparison.json")
        publish_comparison()


@main.command()
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds", default=0.4, show_default=True, help="How long each figure is measured in a round."
)
@click.option(
    "--documents",
    type=Several(),
    default="1000,10000,100000,1000000",
    show_default=True,
    help="The sizes of the collections.",
)
@publishing
def growth(rounds: int, seconds: float, documents: list[str], publish: bool) -> None:
    """Measure what grows with documents, pages, receivers, fields and connections, and imports.

    Takes about 7 minutes. Everything measured goes to bench/out/growth.json.
    """
    with telling() as (say, _):
        found = grow(rounds=rounds, seconds=seconds, documents=[int(each) for each in documents], say=say)
    found.write(OUT / "growth.json")
    show(growth_sheets(found))
    if publish:
        found.write(RESULTS / "growth.json")
        publish_growth()


@main.command()
def tables() -> None:
    """Write the tables and the plot of the documentation again, from bench/results."""
    publish_comparison()
    publish_growth()


# From what was kept, which is rounded: the pages must not change when they are written again.
def publish_comparison() -> None:
    results = Results.read(RESULTS / "comparison.json")
    write_rst(results, DOCS / "performance-comparison.inc")
    connections = results.connections()
    draw(results, PLOTTED if PLOTTED in connections else connections[0], DOCS / "performance.svg")


def publish_growth() -> None:
    write_growth(Growth.read(RESULTS / "growth.json"), DOCS / "performance-growth.inc")


def show(tables: Iterator[Sheet]) -> None:
    console = Console()
    console.width = max(console.width, WIDTH)
    for sheet in tables:
        console.print(as_rich(sheet))


@contextmanager
def telling(total: int | None = None) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Tell a person at a terminal what happens and how much is done, and a log nothing."""
    console = Console(stderr=True)
    columns = (
        BarColumn(20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # Drawn when something new happens, and not by a thread in between that would take time from the load.
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def say(text: str) -> None:
            progress.update(task, description=text)
            progress.refresh()

        yield say, lambda: progress.advance(task)


if __name__ == "__main__":
    main()
