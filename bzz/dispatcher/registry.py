"""The receivers of one signal: connecting, disconnecting, and who hears whom.

The store is a snapshot that is replaced, never changed: connecting while the signal is being sent is safe, in
any thread, and takes effect with the next sending.
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, Unpack, overload

import blinker
from blinker import ANY

from bzz.dispatcher.connection import Connection, Receivers
from bzz.dispatcher.filters import SenderFilter, Transitions
from bzz.dispatcher.receiver import receiver_key
from bzz.errors import UnknownSenderWarning

__all__ = ["Options", "Registry"]

Receiver = Callable[..., Any]
F = TypeVar("F", bound=Receiver)


class Options(TypedDict, total=False):
    """What ``connect`` takes besides receiver, sender and weak.

    - ``subclasses``: subclasses of the sender count too.
    - ``when``: only these changes, for signals with ``updated_fields``; see
      :class:`~bzz.dispatcher.filters.Transitions`.
    - ``thread``: a plain receiver runs in a thread when the signal is sent asynchronously.
    - ``errors``: ``"raise"`` or ``"log"``, instead of the policy of the signal.
    - ``dispatch_uid``: the same uid and sender connect once; what comes later is ignored.
    - ``queue``: the receiver runs in a worker that takes from this queue.
    """

    subclasses: bool
    when: Mapping[str, Any] | None
    thread: bool
    errors: Literal["raise", "log"] | None
    dispatch_uid: Hashable
    queue: str | None


_numbers = itertools.count(1)


def _note_change() -> None:
    # After the change itself. Drawing a number is one step for the interpreter, so no two changes share one.
    Registry.changes = next(_numbers)


class Registry(blinker.NamedSignal):
    """The half of a signal that people connect to; :class:`~bzz.dispatcher.Signal` adds the sending.

    ``provides`` are the payload keys that receivers can count on, None if any may come.
    """

    changes: ClassVar[int] = 0
    """Another number each time somebody comes or goes, at any signal: who remembers receivers compares it."""

    def __init__(
        self,
        name: str,
        doc: str | None = None,
        *,
        provides: frozenset[str] | None = None,
        known_sender: Callable[[str], bool] | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._receivers = Receivers({})
        self._is_stale = False
        self._mutes = 0
        super().__init__(name, doc)
        self.doc = doc
        self.known_sender = known_sender
        self._provides = provides

    @property  # type: ignore[override]  # Blinker: "structure not part of the public API"
    def receivers(self) -> Receivers:
        """The receivers connected now; true if there are any. Assign ``{}`` to disconnect everything."""
        return self._live()

    @receivers.setter
    def receivers(self, value: Mapping[Any, Any]) -> None:
        if value and not isinstance(value, Receivers):
            raise TypeError("only {} or what was read from receivers can be assigned; use connect()")
        with self._lock:
            self._receivers = Receivers(value.by_key if isinstance(value, Receivers) else {})
            self._is_stale = True
            _note_change()

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Every connection, receivers in the order in which they were first connected."""
        return self._live().connections()

    @property
    def is_muted(self) -> bool:
        """Whether sending reaches nobody."""
        return self._mutes > 0

    @is_muted.setter
    def is_muted(self, value: bool) -> None:
        self._mutes = int(value)

    def reset(self) -> None:
        """Disconnect everything."""
        self.receivers = {}

    _clear_state = reset

    def _live(self) -> Receivers:
        if self._is_stale:
            with self._lock:
                self._is_stale = False
                if any(connection.is_dead for connection in self._receivers.connections()):
                    self._receivers = self._receivers.without(lambda connection: connection.is_dead)
        return self._receivers

    def _mark_stale(self, _reference: Any) -> None:
        # Called by the garbage collector, at any moment, in any thread: taking a lock here could deadlock.
        self._is_stale = True
        _note_change()

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether anybody hears this sender. It costs next to nothing; ``when`` is not looked at."""
        return bool(self._receivers.by_key) and bool(self._live().for_sender(sender))

    def wants(self, sender: Any, key: str) -> bool:
        """Tell whether anybody who hears this sender is given this key of the payload."""
        if not self._receivers.by_key:
            return False
        return any(each.wants(key) for found in self._live().for_sender(sender) for each in found)

    def receivers_for(self, sender: Any) -> Generator[Receiver, None, None]:
        """Yield what hears this sender, in order: the callables that were connected, those still alive."""
        for found in self._live().for_sender(sender):
            alive = (connection.receiver for connection in found if not connection.is_dead)
            receiver = next(alive, None)
            if receiver is not None:
                yield receiver

    @overload
    def connect(
        self, receiver: F, sender: Any = ANY, weak: bool | None = None, **options: Unpack[Options]
    ) -> F: ...

    @overload
    def connect(
        self, receiver: None = None, sender: Any = ANY, weak: bool | None = None, **options: Unpack[Options]
    ) -> Callable[[F], F]: ...

    def connect(
        self, receiver: Any = None, sender: Any = ANY, weak: bool | None = None, **options: Unpack[Options]
    ) -> Any:
        """Call ``receiver`` when ``sender`` sends the signal. Return it, so that this decorates too.

        Without a receiver, return a decorator. ``sender`` is any object, or a name: ``"User"`` is the class
        of that name. With ``weak=None`` functions are held strongly, bound methods and callable objects
        weakly; what is decorated with options is held strongly. More options are in :class:`Options`.

        A receiver is called once, also when several of its connections match. Connecting it again to the same
        sender replaces its options and keeps its place. Raises :exc:`TypeError` for what could never work: a
        receiver that needs what the signal does not provide, a generator function, ``when`` without
        ``updated_fields``.
        """
        if receiver is not None:
            self._connect(receiver, sender, weak, options)
            return receiver

        def decorate(function: F) -> F:
            self._connect(function, sender, bool(weak), options)
            return function

        return decorate

    def connect_via(
        self, sender: Any, weak: bool | None = False, **options: Unpack[Options]
    ) -> Callable[[F], F]:
        """Return a decorator that connects a receiver to this sender."""
        return self.connect(None, sender, weak, **options)

    @contextmanager
    def connected_to(
        self, receiver: Receiver, sender: Any = ANY, **options: Unpack[Options]
    ) -> Generator[None, None, None]:
        """Connect a receiver while the block runs, then undo just that: what was connected before stays."""
        connection = self._connect(receiver, sender, False, options, temporary=True)
        try:
            yield None
        finally:
            if connection is not None:
                self._undo(connection)

    def _connect(
        self, receiver: Any, sender: Any, weak: bool | None, options: Options, *, temporary: bool = False
    ) -> Connection | None:
        connection = self._new_connection(receiver, sender, weak, options)
        uid, name = connection.dispatch_uid, connection.sender.name
        if name is not None and self.known_sender is not None and not self.known_sender(name):
            message = (
                f"{connection.name} is connected to {name!r}, a name that no sender of {self.name} has yet"
            )
            warnings.warn(message, UnknownSenderWarning, stacklevel=3)
        with self._lock:
            live = self._live()
            if uid is not None and any(c.is_same_dispatch(connection) for c in live.connections()):
                return None
            if temporary:
                connection.earlier = live.replaced_by(connection)
            self._receivers = live.with_new(connection)
            _note_change()
        if "receiver_connected" in self.__dict__ and self.receiver_connected.receivers:
            try:
                self.receiver_connected.send(self, receiver=receiver, sender=sender, weak=connection.weak)
            except TypeError:  # as Blinker does
                self.disconnect(receiver, sender)
                raise
        return connection

    def _new_connection(self, receiver: Any, sender: Any, weak: bool | None, options: Options) -> Connection:
        rest: dict[str, Any] = dict(options)
        when = rest.pop("when", None)
        subclasses = rest.pop("subclasses", False)
        return Connection(
            receiver,
            SenderFilter(sender, subclasses, self._mark_stale),
            weak=weak,
            provides=self._provides,
            transitions=None if when is None else Transitions(when),
            on_death=self._mark_stale,
            **rest,
        )

    def _undo(self, connection: Connection) -> None:
        with self._lock:
            connection.is_over = True
            if connection not in self._receivers.connections():
                return
            earlier = connection.earlier
            while earlier is not None and earlier.is_over:
                earlier = earlier.earlier
            self._receivers = self._receivers.with_other(connection, earlier)
            _note_change()
        if earlier is None:
            self._tell_disconnected(connection.receiver, connection.sender.value)

    def disconnect(
        self, receiver: Receiver | None = None, sender: Any = ANY, *, dispatch_uid: Hashable = None
    ) -> None:
        """Disconnect a receiver, or whatever has this uid, from one sender or, told none, from all of them.

        What is not connected is no error.
        """
        if receiver is None and dispatch_uid is None:
            raise TypeError("disconnect() needs a receiver or a dispatch_uid")
        key = receiver_key(receiver)
        removed: list[Receiver | None] = [] if dispatch_uid is not None else [receiver]

        def is_meant(connection: Connection) -> bool:
            if sender is not ANY and not connection.sender.is_for(sender):
                return False
            if dispatch_uid is None:
                return connection.key == key
            if connection.dispatch_uid == dispatch_uid:
                removed.append(connection.receiver)
                return True
            return False

        with self._lock:
            self._receivers = self._live().without(is_meant)
            _note_change()
        for gone in removed:
            self._tell_disconnected(gone, sender)

    def _tell_disconnected(self, receiver: Receiver | None, sender: Any) -> None:
        if "receiver_disconnected" in self.__dict__ and self.receiver_disconnected.receivers:
            self.receiver_disconnected.send(self, receiver=receiver, sender=sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Let sending reach nobody while the block runs. Blocks can be nested."""
        with self._lock:
            self._mutes += 1
        try:
            yield None
        finally:
            with self._lock:
                self._mutes = max(0, self._mutes - 1)
