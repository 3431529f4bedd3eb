"""The same as bzz, but that it forgets what documents look like: as if each was read for the first time."""

from __future__ import annotations

from bench.peers.bzz.server import main
from bzz.resource.memo import MEMO

if __name__ == "__main__":
    MEMO.generation_bytes = 0
    main()
