"""``python -m bzz``: the command line."""

from __future__ import annotations

from bzz.cli import main

main(prog_name="bzz")
