"""What most tests need: a real MongoDB, and in it a database of one's own."""

from __future__ import annotations

import gc
import os
import sys
import uuid
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from types import ModuleType
from typing import Any, TypeGuard

import mongoengine
import pytest
from hypothesis import HealthCheck, settings
from mongoengine.base import BaseDocument
from mongoengine.base.common import _document_registry

from bzz import signals
from bzz.embedded import EmbeddedMongo
from tests import stalled

# How long an example takes says something about the machine, and nothing about the property.
settings.register_profile("bzz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bzz")

#: Seconds for which what has taken too long may go on, before its process is ended.
PATIENCE = 60.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that its timeout cannot end cost its process, and not the whole run."""
    marker, given = item.get_closest_marker("timeout"), item.config.getoption("timeout")
    limit = float(marker.args[0] if marker else item.config.getini("timeout") if given is None else given)
    if not limit:
        return (yield)
    with stalled.ended_after(limit + PATIENCE, item.nodeid):
        return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Let a run end by itself whatever keeps its processes: pytest-timeout looks between tests only."""
    stalled.speak_here()
    given = config.getoption("session_timeout")
    limit = float((config.getini("session_timeout") if given is None else given) or 0)
    if limit and not hasattr(
        config, "workerinput"
    ):  # the processes of xdist end with the one that started them
        stalled.end_after(limit + 2 * PATIENCE, "The run of all tests")


def pytest_enter_pdb() -> None:
    """Leave alone what is debugged."""
    stalled.debugged = True


@pytest.fixture(autouse=True, scope="session")
def _unhurried() -> None:
    """Wait longer than a server does where a test sets no limit: a busy machine is not what it is about."""
    from bzz.mongoengine_handler import MongoEngineRestHandler  # noqa: PLC0415 - lower rooms run without it
    from bzz.resource.operation import Options  # noqa: PLC0415
    from bzz.storage import Store  # noqa: PLC0415

    limits = {"timeout": 40.0, "retry_seconds": 60.0, "bulk_timeout": 90.0}
    for made, values in ((Store.__init__, {"timeout": 40.0}), (Options.__init__, limits)):
        assert values.keys() <= made.__kwdefaults__.keys()
        made.__kwdefaults__.update(values)
    for name, value in limits.items():
        setattr(MongoEngineRestHandler, name, value)


@pytest.fixture(autouse=True, scope="module")
def _swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what a module leaves that ignores warnings about it, before another one is blamed."""
    yield
    if any(each.name == "filterwarnings" for each in request.node.iter_markers()):
        gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _own_models(request: pytest.FixtureRequest) -> None:
    """Let mongoengine, which finds models by their names, find those of the module whose tests run now."""
    own = getattr(request.node, "obj", None)
    if own is None:
        return
    lenders = {each.__module__ for each in vars(own).values() if _is_model(each)} | {
        each.__name__ for each in vars(own).values() if isinstance(each, ModuleType)
    }
    _register(each for each in sorted(lenders) if each.startswith("tests."))
    _register([own.__name__])


def pytest_collectstart() -> None:
    """Let a test module that looks at models while it is imported find those of modules that lend them."""
    _register(name for name in sorted(sys.modules) if name.startswith("tests.") and ".test_" not in name)


def _register(names: Iterable[str]) -> None:
    for name in names:
        for each in filter(_is_model, vars(sys.modules[name]).values()):
            _document_registry[each._class_name] = each


def _is_model(value: object) -> TypeGuard[type[Any]]:
    return isinstance(value, type) and issubclass(value, BaseDocument) and hasattr(value, "_class_name")


@pytest.fixture(scope="session")
def mongo_url() -> Iterator[str]:
    """The URL of a MongoDB replica set: ``MONGO_URL``, or one started for this session, with fail points."""
    if given := os.environ.get("MONGO_URL"):
        yield given
        return
    with EmbeddedMongo(test_commands=True) as server:
        yield server.url


@pytest.fixture
async def database(mongo_url: str) -> AsyncIterator[str]:
    """The name of a fresh database, connected as mongoengine's default, gone after the test."""
    name = f"bzz-{uuid.uuid4().hex}"
    client = mongoengine.connect(name, host=mongo_url, uuidRepresentation="standard")
    yield name
    await _close_clients()
    if "MONGO_URL" not in os.environ:
        # Of a transaction that was cut off with its test the locks would stay, and the database with them.
        client.admin.command("killAllSessions", [])
    client.drop_database(name)
    mongoengine.disconnect_all()
    _forget_collections(mongoengine.Document)


def _forget_collections(model: type) -> None:
    """Do for every model what disconnecting does for those whose name nobody else has taken since."""
    for each in model.__subclasses__():
        each._collection = None
        _forget_collections(each)


@pytest.fixture(autouse=True)
def _own_receivers() -> Iterator[None]:
    """Each test finds the named signals as the modules left them, whatever the one before has reset."""
    before = {signal: signal.receivers for signal in signals.ALL}
    yield
    for signal, connected in before.items():
        signal.receivers = connected


async def _close_clients() -> None:
    from bzz.storage.connection import close_clients  # noqa: PLC0415 - tests of lower rooms run without it

    await close_clients()
