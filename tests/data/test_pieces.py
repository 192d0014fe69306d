"""JSON read in pieces against `json.loads` of the whole."""

import io
import json
import random
from typing import Any

import pytest

from prism.data.pieces import JsonPieces

BOM = b"\xef\xbb\xbf"
VALUES: list[Any] = [
    {}, [], "", "a\\\"\n\u2028", "ü☀🦊" * 9, 0, -1.5e-300, 12345678901234567890, True, False, None, float("inf"),
    {"messages": [{"role": "user", "content": "x" * 50}], "n": [1, [2, [3]]]}, "\ud800",
]  # fmt: skip


def array(raw: bytes, piece: int) -> list[Any]:
    return list(JsonPieces(io.BytesIO(raw), piece).array())


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize("start", [b"", BOM, BOM + b" \r\n\t"])
def test_arrays(piece: int, indent: int | None, start: bytes) -> None:
    draw = random.Random(piece)
    for count in (0, 1, 2, 30):
        values = [draw.choice(VALUES) for _ in range(count)]
        for ascii_only in (True, "\ud800" in values):
            raw = start + json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode() + b" \n"
            assert array(raw, piece) == values


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
@pytest.mark.parametrize("value", VALUES)
def test_single_values(value: Any, piece: int) -> None:
    assert JsonPieces(io.BytesIO(json.dumps(value).encode()), piece).single() == value


@pytest.mark.parametrize("piece", [1, 4, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        "", " ", "[", "[1", "[1,", '["a', '[{"a": 1}\n{"b": 2}]', "[1 2]", "[1] 2", "[tru]", "[nul", "[-]", '["\\x"]',
        '[{"a" 1}]', '[1,\n\n {"prompt": oops}]', '["a\nb"]', "x", '["\\ud8"]', "[1.5.2]", "[{'a': 1}]",
    ],
)  # fmt: skip
def test_faults_lie_where_json_finds_them(text: str, piece: int) -> None:
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(text)
    with pytest.raises(json.JSONDecodeError) as caught:
        array(text.encode(), piece)
    assert str(caught.value) == str(expected.value)


def test_only_arrays_are_arrays() -> None:
    with pytest.raises(json.JSONDecodeError, match=r"Expecting value: line 1 column 1 \(char 0\)"):
        array(b'{"a": 1}', 1 << 20)


@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_bytes_that_are_not_utf8(piece: int) -> None:
    for raw in ('["ü☀'.encode() + b'\xff"]', '["ü'.encode() + b'\xe2\x98"]', b'["a\xc3'):
        with pytest.raises(UnicodeDecodeError) as expected:
            raw.decode()
        with pytest.raises(UnicodeDecodeError) as caught:
            array(raw, piece)
        assert caught.value.start == expected.value.start


def test_what_lies_before_a_fault_is_yielded() -> None:
    pieces = JsonPieces(io.BytesIO(b'[{"a": 1}, {"b": 2}, oops]'), 4).array()
    assert [next(pieces), next(pieces)] == [{"a": 1}, {"b": 2}]
    with pytest.raises(json.JSONDecodeError):
        next(pieces)


def test_a_fault_is_seen_without_reading_on() -> None:
    file = io.BytesIO(b"[oops," + b" " * 1_000_000)
    with pytest.raises(json.JSONDecodeError):
        list(JsonPieces(file, 100).array())
    assert file.tell() < 1000


def test_nesting_beyond_python() -> None:
    with pytest.raises(RecursionError):
        array(b"[" * 200_000, 1 << 20)
