"""What documents look like, remembered by what is stored.

The same bytes from MongoDB always make the same JSON, so what was written once need not be decoded and
written again. Nothing in here can be out of date: a document that has changed has other bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

__all__ = ["MEMO", "Memo"]

# Bytes of one generation; there are two.
GENERATION_BYTES = 16 * 2**20
# Larger documents are not asked for so often that they should take the place of many.
MAX_DOCUMENT_BYTES = 16 * 2**10
# Roughly what Python needs for an entry beside its bytes.
_ENTRY_BYTES = 250


class Memo:
    """Remember what the documents of many owners look like, and forget what was not asked for lately.

    When the young generation is full it becomes the old one, which is forgotten: all but what is asked for
    meanwhile.

    >>> memo = Memo()
    >>> memo.shown("users", [b"ab", b"c", b"ab"], lambda raws: [each.upper() for each in raws])
    [b'AB', b'C', b'AB']
    """

    def __init__(self, generation_bytes: int = GENERATION_BYTES) -> None:
        self.generation_bytes = generation_bytes
        self._size = 0
        self._young: dict[tuple[Hashable, bytes], bytes] = {}
        self._old: dict[tuple[Hashable, bytes], bytes] = {}

    def shown(
        self, owner: Hashable, raws: Sequence[bytes], show: Callable[[Sequence[bytes]], Sequence[bytes]]
    ) -> list[bytes]:
        """Return what each of the documents looks like to ``owner``; ``show`` finds out for some."""
        known = self._young.get
        found = [known((owner, raw)) for raw in raws]
        if None not in found:
            return found  # type: ignore[return-value]
        missing = {
            raw: self._old.get((owner, raw)) for raw, each in zip(raws, found, strict=True) if each is None
        }
        unknown = [raw for raw, each in missing.items() if each is None]
        missing |= zip(unknown, show(unknown), strict=True)
        for raw, each in missing.items():
            assert each is not None
            self._keep((owner, raw), each)
        return [missing[raw] if each is None else each for raw, each in zip(raws, found, strict=True)]  # type: ignore[misc]

    def _keep(self, key: tuple[Hashable, bytes], shown: bytes) -> None:
        if len(key[1]) > MAX_DOCUMENT_BYTES:
            return
        self._size += len(key[1]) + len(shown) + _ENTRY_BYTES
        if self._size > self.generation_bytes:
            self._old, self._young, self._size = self._young, {}, 0
        # A copy: orjson leaves what it writes in a buffer that is far larger, and here it stays for long.
        self._young[key] = bytes(memoryview(shown))


#: Of this process: what is not asked for in one resource makes room for another.
MEMO = Memo()
