"""``python -m examples.atlas``: the whole service on a MongoDB of its own."""

from __future__ import annotations

from examples.atlas.service import main

main()
