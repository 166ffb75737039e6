"""Which rows the options ask for, and what is refused."""

from __future__ import annotations

import pytest

from gan_bench.rows import MAX_ROWS, Row, make_rows, parse_batches, parse_threads
from gan_serve.errors import GanportError


def test_lists() -> None:
    assert parse_batches("1,8,25,64") == (1, 8, 25, 64)
    assert parse_batches(" 3 , 2 ") == (3, 2)
    assert parse_threads("auto") == (None,)
    assert parse_threads("auto,1,2") == (None, 1, 2)


@pytest.mark.parametrize("text", ["0", "a", "", "1,,2", "1,", ",1", "-1", "1.5", "1e3", "65537", "9" * 40, "²", "1 2"])
def test_bad_batches(text: str) -> None:
    with pytest.raises(GanportError, match="--batch takes whole numbers from 1 to 65536, got") as caught:
        parse_batches(text)
    assert "--batch 1,8,25,64" in caught.value.hint


@pytest.mark.parametrize("text", ["0", "all", "", "1,,2", "-2", "2.0", "1025", "auto,", "AUTO"])
def test_bad_threads(text: str) -> None:
    with pytest.raises(GanportError, match="--threads takes whole numbers from 1 to 1024, got") as caught:
        parse_threads(text)
    assert "auto" in caught.value.hint


def test_rows_are_every_combination_once_with_batches_fastest() -> None:
    assert make_rows(["cpu", "cuda", "cpu"], [None, 2], [1, 8, 1]) == (
        Row("cpu", None, 1), Row("cpu", None, 8), Row("cpu", 2, 1), Row("cpu", 2, 8),
        Row("cuda", None, 1), Row("cuda", None, 8), Row("cuda", 2, 1), Row("cuda", 2, 8),
    )  # fmt: skip


def test_too_many_rows() -> None:
    assert len(make_rows(["cpu"], [None], range(1, MAX_ROWS + 1))) == MAX_ROWS
    with pytest.raises(GanportError, match="65 rows asked for"):
        make_rows(["cpu"], [None], range(1, MAX_ROWS + 2))
