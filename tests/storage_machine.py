"""State machines of Hypothesis whose steps are waves of concurrent work on a store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import mongoengine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from bzz.storage import close_clients

__all__ = ["StorageMachine", "made_ready", "run_machine"]


class StorageMachine(RuleBasedStateMachine):
    """A machine with a loop and a database, which MongoDB also knows its connections by."""

    name: str
    loop: asyncio.AbstractEventLoop

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @contextmanager
    def fault(self, fault: dict[str, Any], command: str) -> Iterator[None]:
        """Let a command fail once while the block runs."""
        point = {"configureFailPoint": "failCommand"}
        admin = mongoengine.get_connection().admin
        data = {"failCommands": [command], "appName": self.name, **fault}
        admin.command({**point, "mode": {"times": 1}, "data": data})
        try:
            yield
        finally:
            admin.command({**point, "mode": "off"})


Machine = TypeVar("Machine", bound=StorageMachine)


@contextmanager
def made_ready(machine: type[Machine], url: str) -> Iterator[type[Machine]]:
    """Give the machine its loop and a fresh database, which is gone after the block."""
    machine.name = f"bzz-{uuid.uuid4().hex}"
    client = mongoengine.connect(machine.name, host=url, uuidRepresentation="standard", appname=machine.name)
    machine.loop = asyncio.new_event_loop()
    yield machine
    machine.loop.run_until_complete(close_clients())
    machine.loop.close()
    client.drop_database(machine.name)
    mongoengine.disconnect_all()


def run_machine(machine: type[StorageMachine], *, examples: int, steps: int) -> None:
    """Run a machine that is ready."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
