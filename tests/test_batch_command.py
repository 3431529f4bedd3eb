"""``bzz batch FILE``: the same as over HTTP, with something to look at and an exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest

ROOT = Path(__file__).resolve().parent.parent

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def create(key: Any) -> dict[str, Any]:
    return {"method": "POST", "path": "/widget", "body": {"key": key, "run": "r"}}


@pytest.fixture
def run(mongo_url: str, database: str, tmp_path: Path) -> Run:
    (tmp_path / "shop.py").write_text(
        "import mongoengine, os\n"
        "import bzz\n"
        "from bzz import signals\n"
        f"mongoengine.connect({database!r}, host=os.environ['MONGO_URL'], uuidRepresentation='standard')\n"
        "class Widget(mongoengine.Document):\n"
        "    key = mongoengine.StringField(primary_key=True)\n"
        "    run = mongoengine.StringField()\n"
        "api = bzz.Api(prefix='/api')\n"
        "widgets = api.add(Widget)\n"
        "nothing = 3\n"
        "@widgets.on_pre_create_instance\n"
        "def leave(data, handler):\n"
        "    assert handler is None\n"
        "    if data['key'] == 'leave':\n"
        "        raise bzz.ExitEarly\n"
    )

    def run(batch: Any, *arguments: str, api: str = "shop:api") -> subprocess.CompletedProcess[str]:
        text = batch if isinstance(batch, str) else json.dumps(batch)
        return subprocess.run(
            [sys.executable, "-m", "bzz", "batch", "-", "--api", api, *arguments],
            cwd=tmp_path,
            env={**os.environ, "MONGO_URL": mongo_url, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def keys(mongo_url: str, database: str) -> list[str]:
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        return sorted(each["_id"] for each in client[database].widget.find())


def test_a_batch_that_finishes(run: Run, mongo_url: str, database: str) -> None:
    plan = [create("a"), {**create("b"), "switches": ["more"]}, {"method": "GET", "path": "/api/widget/a"}]
    done = run({"name": "nightly", "operations": plan, "atomic": True}, "--switch", "more", "--json")
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert [each["status"] for each in told["operations"]] == [201, 201, 200]
    assert "nightly" in done.stderr
    assert "POST widget" in done.stderr
    assert "GET widget" in done.stderr
    assert "3/3" in done.stderr
    assert keys(mongo_url, database) == ["a", "b"]


def test_a_batch_that_fails(run: Run, mongo_url: str, database: str) -> None:
    done = run({"operations": [create("a"), create("a"), create("b")], "switches": []})
    assert done.returncode == 1
    assert "The batch failed." in done.stderr
    assert "1: POST /widget" in done.stderr
    assert done.stdout == ""
    assert keys(mongo_url, database) == ["a"]


def test_many_errors_are_counted_and_the_rest_is_done(run: Run, mongo_url: str, database: str) -> None:
    plan = [create(f"{number % 2}") for number in range(30)]
    done = run({"operations": plan, "continue_on_error": True}, "--switch", "x")
    assert done.returncode == 0
    assert "… and 8 more" in done.stderr
    assert keys(mongo_url, database) == ["0", "1"]


@pytest.mark.parametrize(("plan", "said"), [(["a", "leave", "b"], "at 1"), (["leave"], "at 0")])
def test_an_early_exit(run: Run, plan: list[str], said: str) -> None:
    done = run({"operations": [create(each) for each in plan]})
    assert done.returncode == 0
    assert f"ended early, {said}" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ("[]", "must be an object"),
        (
            '{"operations": [{"method": "POST", "path": "/nothing"}]}',
            "/operations/0/path: there is no resource",
        ),
        ('{"operations": [], "switches": 3}', "/switches"),
    ],
)
def test_a_file_that_is_not_a_batch(run: Run, text: str, said: str) -> None:
    done = run(text, "--switch", "x")
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize(("api", "said"), [("shop:nothing", "is not a bzz.Api"), ("shop:absent", "absent")])
def test_something_else_than_an_api(run: Run, api: str, said: str) -> None:
    done = run({"operations": []}, api=api)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_dry_run(run: Run, mongo_url: str, database: str) -> None:
    tried = run({"operations": [create("a"), create("a")]}, "--dry-run", "--json")
    assert (tried.returncode, "nothing is stored" in tried.stderr) == (1, True), tried.stderr
    report = json.loads(tried.stdout)
    assert (report["dry_run"], [each["state"] for each in report["operations"]]) == (True, ["done", "failed"])
    assert run({"operations": [create("a")]}, "--dry-run").returncode == 0
    blocking: Any = pymongo.MongoClient(mongo_url)
    assert blocking[database].list_collection_names() == []
    blocking.close()
