"""The command line, as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import mongoengine
import psutil
import pytest
from click.testing import CliRunner
from pymongo import MongoClient

import bzz
from bzz.cli import main
from bzz.target import TargetError, load_target

SHOP = """
import mongoengine, os
import bzz

class Sale(mongoengine.Document):
    amount = mongoengine.IntField()

class Shelf:
    api = bzz.Api(title="Shop")

api = Shelf.api
api.add(Sale)
seen = os.environ.get("MONGO_URL")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with somebody's program in it."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "connected.py").write_text(
        f"import mongoengine\nmongoengine.register_connection('default', 'own', port=1)\n{SHOP}"
    )
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    return tmp_path


class Command:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """Read its standard error until the pattern is in it."""
        assert self.process.stderr is not None
        async with asyncio.timeout(60):
            while not (found := re.search(pattern, self.said)):
                line = await self.process.stderr.readline()
                assert line, f"it ended: {self.said}"
                self.said += line.decode()
        return found

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.said += (await self.process.stderr.read()).decode()
        return await asyncio.wait_for(self.process.wait(), 60)


@asynccontextmanager
async def command(*arguments: str, folder: Path, **environment: str) -> AsyncIterator[Command]:
    clean = {name: value for name, value in os.environ.items() if name != "MONGO_URL"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bzz",
        *arguments,
        cwd=folder,
        env=clean | {"PYTHONPATH": str(Path(bzz.__file__).parent.parent), "COLUMNS": "200"} | environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            await process.communicate()


async def http(method: str, url: str, body: object = None) -> tuple[int, object]:
    port, path = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/.*)", url).groups()  # type: ignore[union-attr]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    answer = await reader.read()
    writer.close()
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(content)


async def test_serve_with_a_mongodb_of_its_own_whose_data_is_kept(shop: Path) -> None:
    for count in range(2):
        async with command(
            "serve", "shop:api", "--port", "0", "--address", "127.0.0.1", "--data", "kept", folder=shop
        ) as server:
            await server.until(rf"data is in {shop}/kept")
            url = (await server.until(r"serving on (http://\S+)"))[1]
            status, found = await http("GET", f"{url}/sale")
            assert (status, len(found)) == (200, count)  # type: ignore[arg-type]
            assert (await http("POST", f"{url}/sale", {"amount": 7}))[0] == 201
            assert await server.end(signal.SIGINT) == 0
            assert '"POST /sale" 201' in server.said
            assert "Traceback" not in server.said


async def test_serve_with_processes_and_a_given_mongodb(shop: Path, mongo_url: str) -> None:
    url = mongo_url.replace("/?", "/bzz_cli?")
    async with command(
        *("serve", "shop:Shelf.api", "--port", "0", "--address", "127.0.0.1", "--processes", "2"),
        *("--mongo", url, "--access-log", "json"),
        folder=shop,
    ) as server:
        where = (await server.until(r"serving on (http://\S+)"))[1]
        status, created = await http("POST", f"{where}/sale", {"amount": 7})
        assert (status, created["amount"]) == (201, 7)  # type: ignore[index]
        assert await server.end() == 0
        assert "Started a MongoDB" not in server.said
        entries = [json.loads(line) for line in server.said.splitlines() if line.startswith("{")]
        assert [entry["status"] for entry in entries] == [201]
    with MongoClient(mongo_url) as client:
        assert client.bzz_cli.sale.count_documents({}) == 1
        client.drop_database("bzz_cli")


async def test_module_that_connects_itself_wins(shop: Path) -> None:
    async with command(
        "serve", "connected:api", "--port", "0", "--access-log", "none", folder=shop
    ) as server:
        where = (await server.until(r"serving on (http://\S+)"))[1]
        assert (await http("GET", f"{where}/ready"))[0] == 503, "its own MongoDB does not exist"
        assert await server.end() == 0
        assert "Started a MongoDB" not in server.said
        assert "GET /ready" not in server.said


async def test_embedded_mongo_beats_the_environment(shop: Path) -> None:
    async with command(
        "serve", "shop:api", "--port", "0", "--embedded-mongo", folder=shop, MONGO_URL="mongodb://127.0.0.1:1"
    ) as server:
        await server.until(r"temporary: --data keeps it")
        where = (await server.until(r"serving on (http://\S+)"))[1]
        assert (await http("GET", f"{where}/ready"))[0] == 200
        assert await server.end() == 0


async def test_taken_port_is_said_in_one_line(shop: Path) -> None:
    async with command("serve", "connected:api", "--port", "0", "--address", "127.0.0.1", folder=shop) as one:
        port = (await one.until(r"serving on http://127.0.0.1:(\d+)"))[1]
        async with command(
            "serve", "connected:api", "--port", port, "--address", "127.0.0.1", folder=shop
        ) as two:
            await two.until(rf"Error: Port {port} is already in use")
            assert await asyncio.wait_for(two.process.wait(), 60) == 1
            assert "Traceback" not in two.said


async def test_mongo_in_the_foreground(tmp_path: Path) -> None:
    async with command(
        "mongo", "--port", "0", "--data", "kept", "--test-commands", folder=tmp_path
    ) as server:
        found = await server.until(r"(mongodb://\S+) +\(data in (\S+);")
        assert found[2] == str(tmp_path / "kept")
        with MongoClient(found[1]) as client:
            client.admin.command("configureFailPoint", "failCommand", mode="off")
        assert await server.end(signal.SIGINT) == 0
    async with command("mongo", "--port", "0", folder=tmp_path) as server:
        await server.until("temporary data")
        [guardian] = psutil.Process(server.process.pid).children()
        [mongod] = guardian.children()
        mongod.kill()
        await server.until("Error: MongoDB has stopped by itself")
        assert await asyncio.wait_for(server.process.wait(), 60) == 1


def run(*arguments: str, **environment: str | None) -> tuple[int, str]:
    result = CliRunner().invoke(main, arguments, env=environment)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop", "is not MODULE:NAME"),
        (":api", "is not MODULE:NAME"),
        ("no_shop:api", "no module 'no_shop'. Python looked in"),
        ("shop.deep:api", "no module 'shop.deep'"),
        ("deep/shop.py:api", "not the file: deep.shop."),
        ("shop:apy", "nothing named 'apy'. Did you mean api?"),
        ("shop:what", "nothing named 'what'. Did you mean api?"),
        ("shop:seen.deeper", "nothing named 'deeper'"),
        ("shop:bzz", "Cannot serve <module 'bzz'"),
    ],
)
def test_what_cannot_be_served_is_explained(
    name: str, expected: str, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    monkeypatch.syspath_prepend(shop)
    status, said = run("serve", name, "--mongo", "mongodb://127.0.0.1:1")
    sys.modules.pop("shop", None)
    assert status in {1, 2}
    assert expected in said
    assert "Traceback" not in said


def test_error_of_the_module_itself_keeps_its_traceback(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shop)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_target("broken:api")
    with pytest.raises(TargetError):
        load_target("no_such_module:api")


def test_current_folder_is_searched(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (shop / "only_here.py").write_text("api = 1")
    for _ in range(2):
        assert load_target("only_here:api") == 1
    assert sys.path.count(str(shop)) == 1


def test_no_mongod_is_said(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    status, said = run("mongo", BZZ_MONGOD="/nowhere/mongod")
    assert (status, "BZZ_MONGOD=/nowhere/mongod" in said) == (1, True)


def test_address_that_does_not_exist_is_said(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(shop)
    for address in ("192.0.2.1", "no.such.name.invalid"):
        status, said = run("serve", "connected:api", "--port", "0", "--address", address)
        assert (status, said.startswith("Error: ")) == (1, True)
    mongoengine.disconnect_all()


def test_other_errors_keep_their_traceback(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "unlucky.py").write_text("open('/nowhere/file')")
    monkeypatch.syspath_prepend(shop)
    with pytest.raises(FileNotFoundError):
        CliRunner().invoke(main, ["serve", "unlucky:api"], catch_exceptions=False)


def test_help_lists_the_commands_without_importing_them() -> None:
    status, said = run("--help")
    assert status == 0
    assert {"serve", "mongo"} <= set(said.split())
    assert run("--version")[1].endswith(bzz.__version__)
