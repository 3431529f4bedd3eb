"""What importing bzz costs beside importing what it stands on: fresh interpreters, taking turns."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["IMPORTS", "import_times"]

# The first is the yardstick.
IMPORTS = {
    "tornado, mongoengine and pymongo alone": "import tornado.web, tornado.httpserver, mongoengine, pymongo",
    "import bzz": "import bzz",
    "import bzz, and what serves an Api": "import bzz; bzz.Api, bzz.serve",
}
TIMED = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"


def import_times(rounds: int) -> dict[str, list[float]]:
    """Time each statement in milliseconds, once a round; the first round, which fills caches, is not told."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for number in range(rounds + 1):
        for name, statement in IMPORTS.items():
            command = [sys.executable, "-c", TIMED.format(statement)]
            took = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if number:
                times[name].append(took * 1000)
    return times
