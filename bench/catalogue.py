"""The peers: how each is installed and started, and in what it differs from the others."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["PEERS", "REFERENCE", "Peer", "UnavailableError"]

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".envs"
REFERENCE = "handwritten"


class UnavailableError(RuntimeError):
    """A peer cannot be installed here, and why."""


@dataclass(frozen=True)
class Peer:
    """A server to compare with, in the folder ``peers/<name>``.

    ``packages`` are those whose versions are told, ``note`` says in what it differs. ``update`` is the method
    that changes a part of a document, ``equals`` the filter of a list by age, ``items`` the member of a
    list's answer that holds the documents, ``key`` that of a document that holds its key. A peer that does
    not ``store`` anything answers constants.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    note: str = ""
    kind: str = "here"
    update: str = "PUT"
    equals: str = "age={age}"
    items: str | None = None
    key: str = "id"
    stores: bool = True
    module: str = ""

    @property
    def folder(self) -> Path:
        return HERE / "peers" / self.name

    @property
    def environment(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def ready(self) -> bool:
        """Whether it is installed, as its folder asks for now."""
        stamp = self.environment / ".installed"
        return self.kind == "here" or (stamp.exists() and stamp.read_text() == self._wanted())

    def install(self) -> None:
        """Make its environment unless there is one; raise :class:`UnavailableError` when that fails."""
        if self.ready:
            return
        if self.kind == "node" and not (shutil.which("node") and shutil.which("npm")):
            raise UnavailableError("there is no node and npm here")
        shutil.rmtree(self.environment, ignore_errors=True)
        self.environment.mkdir(parents=True)
        try:
            self._install()
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout or "").strip().splitlines()
            raise UnavailableError(said[-1] if said else "its installation failed") from None
        (self.environment / ".installed").write_text(self._wanted())

    def command(self) -> list[str]:
        """How it is started; its port, MongoDB's URL and the name of its database follow."""
        if self.kind == "here":
            return [sys.executable, "-m", self.module or f"bench.peers.{self.name}.server"]
        if self.kind == "python":
            return [str(self.environment / "bin" / "python"), str(self.folder / "server.py")]
        # Node looks for packages beside the file that imports them.
        place = self.environment / "server.js"
        shutil.copyfile(self.folder / "server.js", place)
        return [shutil.which("node") or "node", str(place)]

    def versions(self) -> dict[str, str]:
        """The versions of what it is made of."""
        if self.kind == "here":
            return {name: version(name) for name in self.packages}
        if self.kind == "python":
            code = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
            command = [str(self.environment / "bin" / "python"), "-c", code, *self.packages]
            return dict(zip(self.packages, run(command).split(), strict=True))
        found = {"node": run(["node", "--version"]).strip().removeprefix("v")}
        for name in self.packages:
            package = self.environment / "node_modules" / name / "package.json"
            found[name] = json.loads(package.read_text())["version"]
        return found

    def _install(self) -> None:
        if self.kind == "python":
            run([sys.executable, "-m", "venv", str(self.environment)])
            pip = [str(self.environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
            run([*pip, "install", "--quiet", "-r", str(self.folder / "requirements.txt")])
        else:
            shutil.copyfile(self.folder / "package.json", self.environment / "package.json")
            run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=self.environment)

    def _wanted(self) -> str:
        wanted = self.folder / ("requirements.txt" if self.kind == "python" else "package.json")
        return hashlib.sha256(wanted.read_bytes()).hexdigest()


def run(command: list[str], cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout


PEERS = {
    each.name: each
    for each in (
        Peer(
            "constant",
            "Tornado, a constant",
            ("tornado",),
            "constants of the same sizes, without MongoDB, validation or receivers: Tornado's own cost",
            stores=False,
        ),
        Peer(
            "bzz", "bzz", ("bzz", "tornado", "mongoengine", "pymongo"), "``bzz.serve``, nothing switched off"
        ),
        Peer(
            "bzz_forgetful",
            "bzz, all documents new",
            ("bzz",),
            "the same, remembering nothing of what documents look like, as if each was new to the server",
        ),
        Peer(
            "handwritten",
            "hand-written",
            ("tornado", "pymongo", "orjson"),
            "Tornado and PyMongo Async, one command a request, validation in plain functions",
        ),
        Peer(
            "handwritten_motor",
            "hand-written, Motor",
            ("tornado", "motor", "pymongo"),
            "the same with Motor",
        ),
        Peer(
            "fastapi_beanie",
            "FastAPI + Beanie",
            ("fastapi", "beanie", "pymongo", "uvicorn", "uvloop"),
            "pydantic validates; uvicorn with uvloop and httptools",
            kind="python",
        ),
        Peer(
            "eve",
            "Eve",
            ("Eve", "pymongo", "gunicorn"),
            "gunicorn with 40 threads; PATCH instead of PUT; reads before it updates, so that the old values "
            "in its difference are those of an earlier read; its receivers are plain functions",
            kind="python",
            update="PATCH",
            equals="where=%7B%22age%22:{age}%7D",
            items="_items",
            key="_id",
        ),
        Peer(
            "express_mongoose",
            "Express + Mongoose",
            ("express", "mongoose"),
            "lean reads, validators on updates",
            kind="node",
        ),
        Peer(
            "fastify",
            "Fastify + Node driver",
            ("fastify", "mongodb"),
            "JSON schemas for what comes in and what goes out",
            kind="node",
        ),
    )
}
