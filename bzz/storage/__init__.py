"""Every byte to and from MongoDB: clients, documents, transactions, and what their errors mean."""

from __future__ import annotations

from bzz.storage.connection import client_for, close_clients, forget_after_fork
from bzz.storage.driver import Driver
from bzz.storage.store import Store, Stored, exactly
from bzz.storage.transaction import run_in_transaction, transaction

__all__ = [
    "Driver",
    "Store",
    "Stored",
    "client_for",
    "close_clients",
    "exactly",
    "forget_after_fork",
    "run_in_transaction",
    "transaction",
]
