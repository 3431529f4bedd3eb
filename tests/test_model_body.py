"""Bodies: strict JSON and forms, from any bytes."""

from __future__ import annotations

import json
import math
import os
import time
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bzz.errors import BodyError
from bzz.model import parse_form, parse_json
from bzz.model.body import Number

EXAMPLES = int(os.environ.get("BZZ_TORTURE", "1"))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts.filter(lambda key: "\0" not in key), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200 * EXAMPLES, deadline=None)
@given(values, st.booleans())
def test_what_json_writes_is_read(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


fragments = st.lists(
    st.sampled_from(
        [
            "{",
            "}",
            "[",
            "]",
            '"a"',
            ":",
            ",",
            "1",
            "-",
            "1e999",
            "NaN",
            "null",
            "true",
            '"\\ud800"',
            '"\\',
            " ",
            "\ufeff",
            '"\\u0000"',
            "9" * 25,
            "0.5",
            '{"a":1,"a":2}',
            '"',
        ]
    ),
    max_size=12,
).map(lambda parts: "".join(parts).encode())


@settings(max_examples=400 * EXAMPLES, deadline=None)
@given(
    st.binary(max_size=30)
    | fragments
    | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_bytes_are_read_as_json_does_or_refused(data: bytes) -> None:
    try:
        value = parse_json(data)
    except BodyError as error:
        assert len(error.detail) < 200
        error.detail.encode()
    else:
        assert value == json.loads(data)
        _check(value)


def _check(value: Any) -> None:
    """What passes holds nothing of what is refused."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            assert "\0" not in key
            _check(key)
            _check(item)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff", "UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a":1,"a":2}', "'a' stands twice"),
        (b'[{"b":{"a":1,"a":1}}]', "'a' stands twice"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "too large"),
        (b"9223372036854775808", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"1" * 5000, "64 bits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff":1}', "surrogate"),
        (b'[{"a":["\\ud83dx"]}]', "surrogate"),
        (b'{"a\\u0000":1}', "NUL"),
        (b'"a\nb"', "not JSON"),
        (b'{"k' + b"x" * 500 + b'":1,"k' + b"x" * 500 + b'":1}', "twice"),
    ],
)
def test_refused_with_a_reason(data: bytes, detail: str) -> None:
    with pytest.raises(BodyError, match=detail) as caught:
        parse_json(data)
    assert len(caught.value.detail) < 200


def test_bounds_that_are_still_inside() -> None:
    assert parse_json(b"[9223372036854775807,-9223372036854775808]") == [2**63 - 1, -(2**63)]
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert parse_json(b'"\\u0000"') == "\0"
    assert parse_json(b"[" * 32 + b"]" * 32)
    assert parse_json(b'{"a":' * 32 + b"1" + b"}" * 32)
    assert parse_json(b'["' + b"[{" * 100 + b'"]') == ["[{" * 100]
    assert parse_json(b"[" + b",".join([b"{}"] * 1000) + b"]") == [{}] * 1000


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'["\\"[",'])
@pytest.mark.parametrize("closed", [True, False])
def test_depth_is_refused_before_parsing(opening: bytes, closed: bool) -> None:
    for levels in (33, 10_000, 200_000):
        data = opening * levels
        if closed:
            data += b"1" + bytes(
                b"]"[0] if byte in b"[" else b"}"[0] for byte in reversed(data) if byte in b"[{"
            )
        start = time.process_time()
        with pytest.raises(BodyError):
            parse_json(data)
        assert time.process_time() - start < 10  # 200 000 levels; what is quadratic takes minutes


def test_a_smaller_depth_can_be_asked_for() -> None:
    assert parse_json(b"[[1]]", max_depth=2) == [[1]]
    with pytest.raises(BodyError, match="more than 2 levels"):
        parse_json(b"[[[1]]]", max_depth=2)
    with pytest.raises(BodyError):
        parse_json(b"[" * 5000 + b"]" * 5000, max_depth=100_000)


def test_long_numbers_keep_their_digits() -> None:
    value = parse_json(b"0.10000000000000000000000000001")
    assert isinstance(value, Number)
    assert value.text == "0.10000000000000000000000000001"
    assert value == 0.1
    assert type(parse_json(b"0.1")) is float


pairs = st.lists(st.tuples(texts, texts), max_size=6)


@settings(max_examples=200 * EXAMPLES, deadline=None)
@given(pairs)
def test_what_browsers_write_is_read(form: list[tuple[str, str]]) -> None:
    data = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in form)
    assert parse_form(data.encode()) == form


@settings(max_examples=200 * EXAMPLES, deadline=None)
@given(st.binary(max_size=40) | st.text("a%+&=;2[].Ff", max_size=20).map(str.encode))
def test_any_bytes_are_a_form_or_refused(data: bytes) -> None:
    try:
        found = parse_form(data)
    except BodyError:
        return
    for name, value in found:
        (name + value).encode()


def test_forms() -> None:
    assert parse_form(b"name=Bernardo%20Heynemann&a+b=c%2Bd&&e&f=g=h") == [
        ("name", "Bernardo Heynemann"),
        ("a b", "c+d"),
        ("e", ""),
        ("f", "g=h"),
    ]
    assert parse_form(b"") == []
    for bad in (b"a=%", b"a=%zz", b"%e9=1", b"a=\xff"):
        with pytest.raises(BodyError):
            parse_form(bad)
    assert len(parse_form(b"&".join([b"a=1"] * 1000))) == 1000
    with pytest.raises(BodyError, match="1000"):
        parse_form(b"&".join([b"a=1"] * 1001))
