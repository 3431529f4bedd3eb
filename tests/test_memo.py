"""What documents look like is remembered, as long as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bzz.resource.memo import MAX_DOCUMENT_BYTES, Memo


class Shown:
    """Show bytes as themselves, backwards, and count how often."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, raws: Sequence[bytes]) -> list[bytes]:
        self.asked += raws
        return [each[::-1] for each in raws]


def test_what_is_known_is_not_shown_again() -> None:
    memo, show = Memo(), Shown()
    assert memo.shown("a", [b"12", b"34"], show) == [b"21", b"43"]
    assert memo.shown("a", [b"34", b"56", b"12"], show) == [b"43", b"65", b"21"]
    assert show.asked == [b"12", b"34", b"56"]
    assert memo.shown("a", [b"7", b"8", b"7"], show) == [b"7", b"8", b"7"]
    assert show.asked[3:] == [b"7", b"8"]


def test_each_owner_has_its_own_way() -> None:
    memo = Memo()
    assert memo.shown("a", [b"12"], lambda _: [b"a"]) == [b"a"]
    assert memo.shown("b", [b"12"], lambda _: [b"b"]) == [b"b"]
    assert memo.shown("a", [b"12"], lambda _: [b"c"]) == [b"a"]


def test_what_nobody_asks_for_is_forgotten() -> None:
    memo, show = Memo(generation_bytes=10_000), Shown()
    often = b"often"
    for number in range(1000):
        memo.shown("a", [often, b"%d" % number], show)
        assert memo._size <= 10_000 + 300
    assert show.asked.count(often) == 1
    assert len(memo._young) + len(memo._old) < 100
    memo.shown("a", [b"0"], show)
    assert show.asked.count(b"0") == 2


def test_large_documents_take_nobodys_place() -> None:
    memo, show = Memo(), Shown()
    large = bytes(MAX_DOCUMENT_BYTES + 1)
    for _ in range(2):
        assert memo.shown("a", [large], show) == [large]
    assert len(show.asked) == 2
    assert memo._size == 0


@given(st.lists(st.lists(st.binary(max_size=3), max_size=5), max_size=20))
def test_it_never_shows_anything_else(pages: list[list[bytes]]) -> None:
    memo = Memo(generation_bytes=800)
    for page in pages:
        assert memo.shown("a", page, lambda raws: [each * 2 for each in raws]) == [raw * 2 for raw in page]
