"""What sending a signal costs: ``python bench/signals.py``.

Prints the median time of one sending, in microseconds, for 0, 1, 5 and 50 receivers that do nothing: sent
plainly and asynchronously, on Blinker itself and here. The promise: where nobody listens, under 1 µs.
"""

from __future__ import annotations

import asyncio
import statistics
import timeit
from collections.abc import Callable
from typing import Any

import blinker

from bzz.dispatcher import Signal
from bzz.signals import post_update_instance

ROUNDS, SENDS = 41, 2000


class Model:
    """The sender."""


def listen(signal: blinker.NamedSignal, count: int, kind: str) -> list[Any]:
    """Connect ``count`` receivers that do nothing, and return them."""

    def plain() -> Callable[..., Any]:
        return lambda sender, **payload: None

    def asynchronous() -> Callable[..., Any]:
        async def receiver(sender: Any, **payload: Any) -> None: ...

        return receiver

    def few_names() -> Callable[..., Any]:
        return lambda handler, instance: None

    make = {"plain": plain, "async": asynchronous, "two names": few_names}[kind]
    return [signal.connect(make(), sender=Model) for _ in range(count)]


def median(work: Callable[[], Any], sends: int) -> float:
    """Return the median time of one call in microseconds."""
    timer = timeit.Timer(work)
    return statistics.median(timer.repeat(ROUNDS, sends)) / sends * 1e6


async def median_async(work: Callable[[], Any], sends: int) -> float:
    """Return the median time of one awaited call in microseconds."""
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(ROUNDS):
        begun = loop.time()
        for _ in range(sends):
            await work()
        times.append((loop.time() - begun) / sends)
    return statistics.median(times) * 1e6


def measure(make: Callable[[str], blinker.NamedSignal], kind: str, count: int, how: str) -> float:
    """Return the median time of one sending to ``count`` receivers."""
    signal = make("changed")
    kept = listen(signal, count, kind)
    sends = SENDS // max(1, count)
    if how == "send":
        result = median(lambda: signal.send(Model, instance=1, handler=2), sends)
    else:
        work = lambda: signal.send_async(Model, instance=1, handler=2)  # noqa: E731
        result = asyncio.run(median_async(work, sends))
    assert len(kept) == count
    return result


def main() -> None:
    """Print a table."""
    print(f"{'µs for one sending to receivers':<44}" + "".join(f"{count:>9}" for count in (0, 1, 5, 50)))
    rows: list[tuple[str, Any, str, str]] = [
        ("blinker send, plain", blinker.NamedSignal, "plain", "send"),
        ("bzz     send, plain", Signal, "plain", "send"),
        ("bzz     send, plain, two names", Signal, "two names", "send"),
        ("blinker send_async, async", blinker.NamedSignal, "async", "send_async"),
        ("bzz     send_async, async", Signal, "async", "send_async"),
        ("bzz     send_async, plain", Signal, "plain", "send_async"),
    ]
    for name, make, kind, how in rows:
        cells = "".join(f"{measure(make, kind, count, how):>9.2f}" for count in (0, 1, 5, 50))
        print(f"{name:<44}{cells}")
    nobody = {
        "has_receivers_for, nobody listens": lambda: post_update_instance.has_receivers_for(Model),
        "send of a named signal, nobody listens": lambda: post_update_instance.send(Model, instance=1),
    }
    for name, work in nobody.items():
        print(f"{name:<44}{median(work, SENDS):>9.2f}")


if __name__ == "__main__":
    main()
