"""Who hears of one kind of operation, looked for once as long as nobody comes or goes.

Most of the cost of a signal is to find out that nobody listens. That seldom changes between two operations,
so it is remembered until anybody connects to or disconnects from any signal of the process.
"""

from __future__ import annotations

from typing import Any

from bzz.delivery.hooks import Hooks, announce, is_heard, is_wanted
from bzz.dispatcher import Signal

__all__ = ["Audience"]


class Audience:
    """Those who hear of an ``action`` on the documents of a ``model``, as they are now.

    ``decides``: somebody is asked before. ``hears``: somebody is told afterwards. ``is_quiet``: nobody
    listens to how operations run. ``wants_handler``: somebody of all these is given the handler.
    """

    __slots__ = (
        "_action",
        "_changes",
        "_hooks",
        "_model",
        "_signals",
        "decides",
        "hears",
        "is_quiet",
        "wants_handler",
    )

    def __init__(self, action: str, model: type, hooks: Hooks) -> None:
        # First the number, then the look: who comes in between is seen at the next look at the latest.
        self._changes = Signal.changes
        self._action = action
        self._model = model
        self._hooks = hooks
        before, after = f"pre_{action}", f"post_{action}"
        self.decides = is_heard(before, model, hooks)
        self.hears = is_heard(after, model, hooks)
        self.is_quiet = hooks.is_quiet
        self.wants_handler = not self.is_quiet or any(
            is_wanted("handler", each, model, hooks) for each in (before, after)
        )

    @property
    def is_present(self) -> bool:
        """Whether nobody has come or gone since."""
        return self._changes == Signal.changes

    async def ask(self, **payload: Any) -> None:
        """Send the signal before the work; whoever raises ends it."""
        await announce(f"pre_{self._action}", self._model, self._hooks, **payload)

    async def tell(self, **payload: Any) -> None:
        """Send the signal after the work to everybody, then raise the first error that is to be raised."""
        await announce(f"post_{self._action}", self._model, self._hooks, **payload)
