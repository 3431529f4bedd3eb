"""What is imported by who needs only a part of bzz. Modules are counted, not seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bzz

# What an application needs that serves models and nothing else.
USUAL = "import bzz; bzz.Api; bzz.MongoEngineRestHandler; bzz.serve; bzz.Veto; bzz.errors; bzz.signals"
SPARED = {
    "bzz.batch", "bzz.cli", "bzz.delivery.transport", "bzz.embedded", "bzz.http.rate_limit_redis",
    "bzz.openapi", "bzz.server.processes", "bzz.testing", "bzz.worker",
    "celery", "click", "ctypes", "jsonpatch", "jsonpointer", "kombu", "motor", "redis", "rich",
}  # fmt: skip


def imported(code: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_alone_imports_nothing() -> None:
    assert {each for each in imported("import bzz") if each.startswith("bzz")} == {"bzz"}
    assert not imported("import bzz") & {"tornado", "mongoengine", "pymongo"}


def test_what_nobody_uses_is_not_imported() -> None:
    found = imported(USUAL)
    assert "bzz.api" in found
    assert not {each for each in found if any(f"{each}.".startswith(f"{name}.") for name in SPARED)}


def test_an_error_is_found_without_a_server() -> None:
    assert not imported("from bzz import BzzError, Veto") & {"tornado", "mongoengine", "bzz.api"}


@pytest.mark.parametrize("name", bzz.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(bzz, name) is getattr(bzz, name)
    assert name in dir(bzz)


def test_a_module_is_found_as_a_name() -> None:
    imported("import bzz; bzz.signals.post_create_instance; bzz.testing; bzz.storage.Store")


def test_what_is_not_there_is_not_there() -> None:
    for name in ("nothing", "_nothing", "tornado"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(bzz, name)
