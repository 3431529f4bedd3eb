"""Run a batch from a file, and show a person how it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bzz import model as typed
from bzz.batch.directory import Directory
from bzz.batch.plan import Limits, read_request
from bzz.batch.report import report
from bzz.batch.runner import Batch
from bzz.errors import BodyError, BzzError, ValidationError
from bzz.storage import close_clients

__all__ = ["run_file"]

#: Of more errors than this, only the number is shown.
SHOWN_ERRORS = 20

_STATES = {"done": "green", "failed": "red", "rolled_back": "yellow", "unknown": "red", "not_run": "dim"}


class Api(Protocol):
    """What a batch needs to know of an Api."""

    @property
    def directory(self) -> Directory:
        """The resources that paths lead to."""

    @property
    def batch_limits(self) -> Limits:
        """What one batch may ask for."""


async def run_file(
    data: bytes,
    api: Api,
    console: Console,
    *,
    switches: Sequence[str] = (),
    as_json: bool = False,
    dry_run: bool = False,
) -> bool:
    """Run the batch that is written in ``data``, JSON as in ``POST /batch``; tell whether it finished.

    ``switches`` are turned on besides those of the file. With ``dry_run`` nothing is stored. A progress bar
    and a table go to ``console``; with ``as_json`` the report, as over HTTP, goes to the standard output.
    There is no HTTP request: ``handler`` in the payload of signals is None.
    """
    try:
        request = read_request(_with(switches, typed.parse_json(data)), api.directory, api.batch_limits)
    except (BodyError, ValidationError) as error:
        _show_error(console, error)
        return False
    with _progress(console) as progress:
        bar = progress.add_task(escape(request.name), total=len(request.plan))
        batch = Batch(request, dry_run=dry_run, progress=lambda count: progress.update(bar, completed=count))
        ended_by: Exception | None = None
        try:
            await batch.run()
        except Exception as error:
            ended_by = error
        finally:
            progress.stop()
            console.print(_table(batch))
            if as_json:
                print(orjson.dumps(await report(batch)).decode())  # noqa: T201
            await close_clients()
    _show_end(console, batch, ended_by)
    return ended_by is None


def _with(switches: Sequence[str], data: object) -> object:
    if not switches or not isinstance(data, dict) or not isinstance(data.get("switches", []), list):
        return data
    return {**data, "switches": [*data.get("switches", []), *switches]}


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _table(batch: Batch) -> Table:
    """Count what became of the operations, by method and resource."""
    counts: dict[str, Counter[str]] = {}
    for entry in batch.entries:
        what = f"{entry.planned.method} {entry.planned.resource.name}"
        counts.setdefault(what, Counter())[entry.state] += 1
    present = [state for state in _STATES if any(state in each for each in counts.values())]
    table = Table(title=escape(batch.name))
    table.add_column("operations")
    for state in present:
        table.add_column(state.replace("_", " "), style=_STATES[state], justify="right")
    for what, found in counts.items():
        table.add_row(escape(what), *(str(found[state] or "") for state in present))
    return table


def _show_end(console: Console, batch: Batch, ended_by: Exception | None) -> None:
    failed = [(index, entry) for index, entry in enumerate(batch.entries) if entry.error is not None]
    for index, entry in failed[:SHOWN_ERRORS]:
        where = f"{index}: {entry.planned.method} {entry.planned.path}"
        console.print(f"[red]{escape(where)}[/red]  {escape(_detail(entry.error))}", soft_wrap=True)
    if len(failed) > SHOWN_ERRORS:
        console.print(f"… and {len(failed) - SHOWN_ERRORS} more")
    if batch.dry_run:
        console.print("This was a dry run: nothing is stored.")
    if ended_by is not None:
        console.print("[bold red]The batch failed.[/bold red]")
        _show_error(console, ended_by)
    elif batch.early_exit:
        at = "before its first operation" if batch.exit_operation is None else f"at {batch.exit_operation}"
        console.print(f"The batch ended early, {at}.")


def _show_error(console: Console, error: Exception) -> None:
    console.print(f"[red]{escape(_detail(error))}[/red]", soft_wrap=True)
    for each in getattr(error, "errors", ()):
        console.print(f"  {escape(each.pointer or '/')}: {escape(each.detail)}", soft_wrap=True)


def _detail(error: Any) -> str:
    return error.detail if isinstance(error, BzzError) else f"{type(error).__name__}: {error}"
