"""How a signal reaches those who hear it: in order, plain and asynchronous, here and elsewhere.

``dispatcher``
    :class:`Signal`: a Blinker signal that sends in the order of connection
``registry``, ``connection``
    who is connected, and what is known of each
``filters``
    for which senders, and for which transitions
``receiver``
    a function as it is called: which of the payload it names, how it is held
"""

from __future__ import annotations

from bzz.dispatcher.dispatcher import ANY, Connection, Options, Signal, Transport, set_transport

__all__ = ["ANY", "Connection", "Options", "Signal", "Transport", "set_transport"]
