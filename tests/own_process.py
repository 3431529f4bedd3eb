"""Servers in processes of their own, to be killed; both sides of them.

A module of a server calls :func:`serve_until_killed` when it is run; a test has it run by :func:`program`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mongoengine
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

import bzz
from tests.program import ROOT, running
from tests.serving import Client


@asynccontextmanager
async def program(module: str, *arguments: str) -> AsyncIterator[tuple[Any, Client]]:
    """Run a module of the tests until the block ends; give the process and a client of the port it prints.

    The process may be killed before. One that prints no port in time, or ends, fails with what it printed.
    """
    with running(["-m", f"tests.{module}", *arguments], ROOT) as started:
        client = Client(int(await asyncio.to_thread(started.wait_for, str.isdigit)))
        try:
            yield started.process, client
        finally:
            client.close()
            started.process.kill()
            print(started.last_words())  # which is shown of a test that fails


async def serve_until_killed(application: Any) -> None:
    """Serve on a free port, and print which one that is."""
    server = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def serve_noting(make_api: Callable[[int], bzz.Api], url: str, database: str, path: str) -> None:
    """Serve an Api that notes in a file what is there also when the process is killed right after."""
    connect(url, database)
    notes = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    await serve_until_killed(make_api(notes).application())


def connect(url: str, database: str) -> None:
    """Connect mongoengine; MongoDB knows the connections by the name of the database."""
    mongoengine.connect(database, host=url, uuidRepresentation="standard", appname=database)
