"""The asynchronous client of a mongoengine alias.

``mongoengine.connect()`` is all the configuration there is: the settings that it registers are given to
:class:`pymongo.AsyncMongoClient` in the way ``mongoengine.connection.get_connection`` gives them to
:class:`pymongo.MongoClient`. A client belongs to one event loop, is made when that loop first asks (so after
a fork), and is shared by all aliases with equal settings, as mongoengine shares its own.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import mongoengine
from mongoengine import connection as registry
from mongoengine.base.common import _document_registry
from pymongo import AsyncMongoClient
from pymongo.driver_info import DriverInfo
from pymongo.errors import PyMongoError

from bzz.errors import StorageError
from bzz.storage.driver import Driver
from bzz.storage.preparation import forget_preparations

__all__ = [
    "client_for",
    "client_options",
    "close_clients",
    "forget_after_fork",
    "settings_of",
]

Settings = dict[str, Any]

# What mongoengine calls them, and what PyMongo does (mongoengine.connection.get_connection).
_RENAMED = {"authentication_source": "authSource", "authentication_mechanism": "authMechanism"}


class _Client(NamedTuple):
    settings: Settings
    driver: Driver


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Client]] = WeakKeyDictionary()
_lock = threading.Lock()
# A forked child must not run the finalizers of its parent's clients: they would speak on shared sockets.
_left_to_the_parent: list[Any] = []


def settings_of(alias: str) -> Settings:
    """The settings that ``mongoengine.connect()`` registered for ``alias``.

    The very object is returned, so that identity tells whether the alias was connected anew. Raises
    :class:`~bzz.errors.StorageError` when nobody has connected it.
    """
    settings: Settings | None = registry._connection_settings.get(alias)
    if settings is None:
        which = "" if alias == registry.DEFAULT_CONNECTION_NAME else f", alias={alias!r}"
        raise StorageError(
            f"The connection {alias!r} is not known: call mongoengine.connect(<database>{which}) first."
        )
    return settings


def client_options(alias: str) -> dict[str, Any]:
    """What to call :class:`pymongo.AsyncMongoClient` with to get the twin of mongoengine's own client.

    The trap: an alias made for another class of client (``mongo_client_class``, say mongomock's) has no
    asynchronous twin; that is a :class:`~bzz.errors.StorageError`.
    """
    settings = settings_of(alias)
    if "mongo_client_class" in settings:
        raise StorageError(
            f"The connection {alias!r} was made with mongo_client_class={settings['mongo_client_class']!r}, "
            "which has no asynchronous twin: give the resource an asynchronous client (client=…)."
        )
    options = {
        _RENAMED.get(name, name): value
        for name, value in settings.items()
        if name != "name" and value is not None
    }
    options.setdefault("driver", DriverInfo("MongoEngine", mongoengine.__version__))
    return options


def client_for(alias: str, client: Any = None) -> Driver:
    """The driver for ``alias`` in the running event loop, or one around an explicit ``client``.

    Costs nothing but a look-up after the first call in a loop. Nothing is connected here: the client does
    that at its first command.
    """
    if client is not None:
        return Driver(client)
    settings = settings_of(alias)
    loop = asyncio.get_running_loop()
    with _lock:
        for known in _clients.get(loop, ()):
            if _same_client(known.settings, settings):
                return known.driver
        _drop_closed_loops()
        driver = Driver(_create(alias))
        _clients.setdefault(loop, []).append(_Client(settings, driver))
        return driver


def _create(alias: str) -> AsyncMongoClient[dict[str, Any]]:
    options = client_options(alias)
    try:
        return AsyncMongoClient(**options)
    except (PyMongoError, TypeError, ValueError) as error:
        # PyMongo's own words quote option values, a password among them if it stands in the wrong place.
        raise StorageError(
            f"The settings of the connection {alias!r} do not make an asynchronous client "
            f"({type(error).__name__})."
        ) from error


def _same_client(one: Settings, other: Settings) -> bool:
    return one is other or {**one, "name": None} == {**other, "name": None}


def _drop_closed_loops() -> None:
    # A client holds its loop, so the weak key alone would never let it go.
    for loop in [loop for loop in _clients if loop.is_closed()]:
        del _clients[loop]


async def close_clients() -> None:
    """Close what :func:`client_for` made for the running loop; explicit clients stay their owner's."""
    with _lock:
        clients = _clients.pop(asyncio.get_running_loop(), [])
    for client in clients:
        await client.driver.close()


def forget_after_fork() -> None:
    """Cut a freshly forked child loose from every connection of its parent.

    Call it first thing in the child. mongoengine's clients, databases and collections are dropped without
    being closed (the sockets are the parent's), the registered settings stay, so that they connect again
    when first used. The asynchronous clients of the parent's loops are forgotten too.
    """
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()  # another thread of the parent may have held it
    _left_to_the_parent.extend(registry._connections.values())
    _left_to_the_parent.extend(client for clients in _clients.values() for client in clients)
    _clients.clear()
    for model in list(_document_registry.values()):
        if getattr(model, "_collection", None) is not None:
            model._collection = None
    registry._connections.clear()
    registry._dbs.clear()
    forget_preparations()
