"""The README's example does what the README prints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.program import ROOT, free_port, running, type_at_a_terminal

README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """The only fenced block of a language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"the README has {len(found)} blocks of {language}"
    return found[0]


def session() -> list[tuple[str, str]]:
    """The commands of the console block, each with what it prints."""
    lines = block("console").splitlines()
    assert len(lines) % 2 == 0
    pairs = list(zip(lines[::2], lines[1::2], strict=True))
    assert all(command.startswith("$ ") for command, _ in pairs)
    return [(command.removeprefix("$ "), printed) for command, printed in pairs]


def test_the_example_runs_as_printed(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("python"))
    port = free_port()
    with running(["shop.py"], tmp_path, PORT=str(port)) as shop:
        shop.wait_until_it_listens(port)
        for command, printed in session():
            status, body = type_at_a_terminal(command.replace("8888", str(port)))
            assert status in {200, 201}, body
            assert body == printed
        for line in block("text").splitlines():
            shop.wait_for(line.__eq__)
        assert shop.stop() == 0, shop.printed


def test_the_continuous_integration_runs_the_command_of_the_readme() -> None:
    command = re.search(r"^    (make test)\b", README, re.MULTILINE)
    assert command is not None
    assert f"exec {command[1]}\n" in (ROOT / ".ci" / "run").read_text()


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("line", [command for command, _ in session()])
def test_the_curl_lines_can_be_done_without_curl(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there; what counts is that the line is understood up to the connection."""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(ConnectionRefusedError):
        type_at_a_terminal(line.replace("8888", str(free_port())))
