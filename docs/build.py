"""Build the pages, and run every example in them against a real MongoDB on port 3334.

``make docs`` runs this. Where nothing listens on the port, bzz's own embedded MongoDB does for the duration.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from bzz.embedded import EmbeddedMongo

PORT = 3334
HERE = Path(__file__).resolve().parent


@contextmanager
def mongodb() -> Iterator[None]:
    """Have a MongoDB on the port that the examples name; one that runs there already is used as it is."""
    if not listening():
        with EmbeddedMongo(port=PORT):
            yield
        return
    try:
        with MongoClient("localhost", PORT, directConnection=True, serverSelectionTimeoutMS=3000) as client:
            client.admin.command("hello")
    except PyMongoError:
        sys.exit(
            f"Port {PORT} is taken by something that is not MongoDB. The examples need it: stop that, please."
        )
    print(f"The examples use the MongoDB that runs on port {PORT}.", flush=True)
    yield


def listening() -> bool:
    """Tell whether anybody accepts connections on the port."""
    try:
        socket.create_connection(("localhost", PORT), timeout=3).close()
    except OSError:
        return False
    return True


def sphinx(builder: str, *more: str) -> int:
    """Run one of Sphinx's builders, every warning an error."""
    folders = [str(HERE), str(HERE / "_build" / builder)]
    options = ["-n", "-W", "--keep-going", "-q", "-b", builder, "-d", str(HERE / "_build" / "doctrees")]
    return subprocess.run([sys.executable, "-m", "sphinx", *options, *more, *folders], check=False).returncode


def main() -> int:
    """Build the pages, then run the examples; return the first exit status that is not 0."""
    # Afresh each time (-E): what a build has warned of once, the next one would pass over.
    if status := sphinx("html", "-E"):
        return status
    print(
        f"The pages are in {(HERE / '_build' / 'html' / 'index.html').relative_to(HERE.parent)}.", flush=True
    )
    with mongodb():
        status = sphinx("doctest")
    report = HERE / "_build" / "doctest" / "output.txt"
    print(report.read_text().rstrip() if status else "Every example does what the pages say.")
    return status


if __name__ == "__main__":
    sys.exit(main())
