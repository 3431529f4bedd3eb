"""What importing bzz costs beside importing what it stands on: fresh interpreters, taking turns."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

__all__ = ["IMPORTS", "import_times"]

# The first is the yardstick.
IMPORTS = {
    "tornado, mongoengine and pymongo alone": "import tornado.web, tornado.httpserver, mongoengine, pymongo",
    "import bzz": "import bzz",
    "import bzz, and what serves an Api": "import bzz; bzz.Api, bzz.serve",
}
TIMED = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"


def import_times(rounds: int) -> dict[str, list[float]]:
    """Time each statement in milliseconds, once a round; the first round, which fills caches, is not told.

    All of them run from bytecode, as installed packages do, wherever they lie and whatever the environment
    says: compiling the source of one and not of the other would be all that is measured.
    """
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as bytecode:
        environment["PYTHONPYCACHEPREFIX"] = bytecode
        for number in range(rounds + 1):
            for name, statement in IMPORTS.items():
                command = [sys.executable, "-c", TIMED.format(statement)]
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                if number:
                    times[name].append(float(done.stdout) * 1000)
    return times
