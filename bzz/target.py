"""Find what the command line names as ``MODULE:NAME``."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from typing import Any

__all__ = ["TargetError", "load_target"]


class TargetError(LookupError):
    """What was named cannot be found; the message says what was wrong and what to do."""


def load_target(target: str) -> Any:
    """Import ``MODULE`` and return its ``NAME``; dots in the name go into attributes.

    The current folder is searched first, as with ``python -m``. An error of the module itself is raised as it
    is, with its traceback; a :class:`TargetError` means that the target names nothing.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise TargetError(
            f"{target!r} is not MODULE:NAME. Write the module, a colon, and the name of the Api: shop:api."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and lacks something that it imports
        raise TargetError(_no_module(module_name, error.name)) from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise TargetError(_no_name(found, module_name, part))
        found = getattr(found, part)
    return found


def _no_module(wanted: str, missing: str) -> str:
    if wanted.endswith(".py") or "/" in wanted:
        hint = f" Name the module, not the file: {wanted.removesuffix('.py').replace('/', '.')}."
    else:
        hint = f" Python looked in {Path.cwd()} and in what is installed."
    return f"There is no module {missing!r}.{hint}"


def _no_name(found: Any, module_name: str, name: str) -> str:
    names = [each for each in vars(found) if not each.startswith("_")] if hasattr(found, "__dict__") else []
    served = [each for each in names if callable(getattr(vars(found)[each], "application", None))]
    close = difflib.get_close_matches(name, names, n=1) or served[:1]
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"The module {module_name!r} was imported, and has nothing named {name!r}.{hint}"
