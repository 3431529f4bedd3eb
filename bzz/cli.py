"""The command line: thin commands around what a program can call too.

Heavy modules are imported by the command that needs them, so that ``bzz --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import bzz

__all__ = ["connected", "main", "target"]

DOCUMENTED_PORT = 3334
ADDRESS_ERRORS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES, socket.EAI_NONAME}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(bzz.__version__, prog_name="bzz")
def main() -> None:
    """REST over MongoEngine models on Tornado, with signals you can trust."""


def mongo_options(command: Any) -> Any:
    """Add the options that say which MongoDB a command uses; :func:`connected` takes them."""
    options = (
        click.option(
            "--data",
            type=click.Path(path_type=Path, file_okay=False),
            help="Where the embedded MongoDB keeps its data (implies --embedded-mongo); otherwise temporary.",
        ),
        click.option(
            "--embedded-mongo",
            is_flag=True,
            help="Start a MongoDB for this process, whatever MONGO_URL says.",
        ),
        click.option(
            "--mongo",
            "url",
            metavar="URL",
            envvar="MONGO_URL",
            show_envvar=True,
            help="The MongoDB to use. Without it one is started for this process.",
        ),
    )
    for option in options:
        command = option(command)
    return command


@main.command()
@click.argument("name", metavar="MODULE:API")
@click.option(
    "--port", default=8888, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one."
)
@click.option("--address", default="", help="The interface to listen on.  [default: all]")
@click.option(
    "--processes", default=1, show_default=True, type=click.IntRange(0), help="0: one for each processor."
)
@mongo_options
@click.option("--access-log", type=click.Choice(["text", "json", "none"]), default="text", show_default=True)
@click.option(
    "--grace", default=30.0, show_default=True, help="Seconds that requests under way get at the end."
)
@click.option("--reuse-port", is_flag=True, help="Let another server of yours listen on the port too.")
@click.option("--xheaders", is_flag=True, help="Believe X-Forwarded-For. Only behind a proxy that sets it.")
def serve(
    name: str, url: str | None, embedded_mongo: bool, data: Path | None, access_log: str, **options: Any
) -> None:
    """Serve the Api, application or list of routes that MODULE has under the name API.

    When the module has not connected mongoengine by itself, its default connection is made here: to --mongo
    or MONGO_URL, or to a MongoDB that lives as long as this process.
    """
    from bzz.server import serve as run  # noqa: PLC0415
    from bzz.server.server import application_of  # noqa: PLC0415

    log_to_standard_error()
    with friendly(), connected(name, url=url, embedded=embedded_mongo, data=data) as app:
        try:
            application = application_of(app)
        except TypeError as error:
            raise click.BadParameter(str(error), param_hint="MODULE:API") from None
        if access_log == "none":
            logging.getLogger("tornado.access").disabled = True
        run(application, access_log=None if access_log == "none" else access_log, **options)  # type: ignore[arg-type]


@main.command()
@click.option(
    "--port",
    default=DOCUMENTED_PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0 picks a free one.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where it keeps its data. Without it the data is temporary.",
)
@click.option("--test-commands", is_flag=True, help="Switch on MongoDB's fail points, for tests.")
def mongo(port: int, data: Path | None, test_commands: bool) -> None:
    """Start a MongoDB, a replica set of one, and stop it with Ctrl-C."""
    from bzz.embedded import EmbeddedMongo  # noqa: PLC0415

    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    with friendly(), EmbeddedMongo(port, data, test_commands=test_commands) as server:
        where = f"data in {server.data}" if server.data else "temporary data: --data keeps it"
        say(f"[bold]{server.url}[/bold]  ({where}; Ctrl-C stops it)")
        while not over.wait(0.5):
            if not server.running:
                raise click.ClickException("MongoDB has stopped by itself.")


@main.command()
@click.argument("name", metavar="MODULE:API")
@click.option("--queues", "-Q", metavar="A,B", help="The queues to take from.  [default: all that are used]")
@click.option("--concurrency", "-c", type=click.IntRange(1), help="[default: one for each processor]")
@click.option(
    "--pool", "-P", type=click.Choice(["prefork", "solo", "threads"]), default="prefork", show_default=True
)
@click.option(
    "--broker",
    metavar="URL",
    envvar="CELERY_BROKER_URL",
    show_envvar=True,
    help="The broker, whatever the Celery app says.",
)
@click.option(
    "--mongo", "url", metavar="URL", envvar="MONGO_URL", show_envvar=True, help="The MongoDB to read from."
)
@click.option(
    "--visibility-timeout",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds after which Redis gives the message of a killed worker to another one.",
)
@click.option("--log-level", default="INFO", show_default=True)
def worker(name: str, queues: str | None, broker: str | None, url: str | None, **options: Any) -> None:
    """Run a Celery worker for the receivers that MODULE connects to queues or to asynchronous signals."""
    from bzz.errors import DeliveryError  # noqa: PLC0415
    from bzz.worker import celery_app, work  # noqa: PLC0415

    for variable, value in (("CELERY_BROKER_URL", broker), ("MONGO_URL", url)):
        if value:
            os.environ[variable] = value
    found = target(name)
    if url and not _is_connected():
        _register(url)
    chosen = [each.strip() for each in (queues or "").split(",") if each.strip()]
    try:
        app = celery_app(found)
    except (DeliveryError, ImportError) as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(work(app, queues=chosen, **options))


@main.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--api",
    "name",
    metavar="MODULE:API",
    required=True,
    envvar="BZZ_API",
    show_envvar=True,
    help="Whose resources the paths in the file lead to.",
)
@click.option("--switch", "switches", multiple=True, help="Turn a switch of the plan on; can be repeated.")
@click.option("--dry-run", is_flag=True, help="Try everything in a transaction that is rolled back.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of each operation as JSON.")
@mongo_options
def batch(
    file: Any, name: str, switches: tuple[str, ...], dry_run: bool, as_json: bool, **mongo: Any
) -> None:
    """Run the batch of operations in FILE (JSON, as for POST /batch; - is the standard input).

    The exit status is 1 when the batch failed or the file is not a batch.
    """
    import asyncio  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415

    from bzz.batch.console import run_file  # noqa: PLC0415

    where = {"url": mongo["url"], "embedded": mongo["embedded_mongo"], "data": mongo["data"]}
    with friendly(), connected(name, **where) as api:
        if not hasattr(api, "directory"):
            raise click.BadParameter(f"{name} is not a bzz.Api.", param_hint="--api")
        options: Any = {"switches": switches, "as_json": as_json, "dry_run": dry_run}
        finished = asyncio.run(run_file(file.read(), api, Console(stderr=True), **options))
    if not finished:
        raise SystemExit(1)


@main.command()
@click.argument("name", metavar="MODULE:API")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
def openapi(name: str, output: Path | None) -> None:
    """Print the OpenAPI 3.1 description of the Api that MODULE has under the name API, as JSON.

    It is made from the models: no MongoDB is needed, unless the module itself reads from one.
    """
    import orjson  # noqa: PLC0415

    found = target(name)
    if not hasattr(found, "openapi"):
        raise click.BadParameter(f"{name} is not a bzz.Api.", param_hint="MODULE:API")
    text = orjson.dumps(found.openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_bytes(text)


# what other commands use


def target(name: str) -> Any:
    """Load ``MODULE:NAME``, or leave with a message that says what was wrong with it."""
    from bzz.target import TargetError, load_target  # noqa: PLC0415

    try:
        return load_target(name)
    except TargetError as error:
        raise click.BadParameter(str(error), param_hint="MODULE:API") from None


@contextlib.contextmanager
def connected(name: str, *, url: str | None, embedded: bool, data: Path | None) -> Iterator[Any]:
    """Load ``MODULE:NAME`` and see to it that mongoengine's default connection exists.

    The module sees the server as ``MONGO_URL`` when it is known before the import. It wins when it connects
    by itself; then no MongoDB is started. The database is the one of the URL, or ``bzz``.
    """
    with contextlib.ExitStack() as stack:
        if embedded or data is not None:
            url = stack.enter_context(_mongo(data))
        if url:
            os.environ["MONGO_URL"] = url
        app = target(name)
        if not _is_connected():
            _register(url or stack.enter_context(_mongo(None)))
        yield app


@contextlib.contextmanager
def friendly() -> Iterator[None]:
    """Turn the errors that a person can do something about into one line and status 1."""
    from bzz.errors import EmbeddedServerError  # noqa: PLC0415

    try:
        yield
    except EmbeddedServerError as error:
        raise click.ClickException(error.detail) from None
    except OSError as error:
        if error.errno not in ADDRESS_ERRORS:
            raise
        raise click.ClickException(error.strerror or str(error)) from None


def log_to_standard_error() -> None:
    """Configure logging for a server in the foreground; lines of the access log stand for themselves."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    access = logging.getLogger("bzz.access")
    access.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.addHandler(handler)


def say(line: str) -> None:
    """Print a line, in colour on a terminal."""
    from rich.console import Console  # noqa: PLC0415

    Console(stderr=True).print(line, soft_wrap=True, highlight=False)


@contextlib.contextmanager
def _mongo(data: Path | None) -> Iterator[str]:
    from bzz.embedded import EmbeddedMongo  # noqa: PLC0415

    with EmbeddedMongo(data=data) as server:
        where = f"its data is in {server.data}" if server.data else "its data is temporary: --data keeps it"
        say(f"Started a MongoDB at [bold]{server.url}[/bold]; {where}.")
        yield server.url


def _is_connected() -> bool:
    from mongoengine.connection import DEFAULT_CONNECTION_NAME, _connection_settings  # noqa: PLC0415

    return DEFAULT_CONNECTION_NAME in _connection_settings


def _register(url: str) -> None:
    import mongoengine  # noqa: PLC0415

    # Registered, not connected: the threads of a client must not exist before the workers are forked.
    mongoengine.register_connection("default", name="bzz", host=url, uuidRepresentation="standard")
