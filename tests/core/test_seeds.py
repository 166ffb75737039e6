"""Seeds: as numbers, as text, and by the billion."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest

from gan_core.errors import GanportError
from gan_core.latents import (
    MAX_SEEDS_AT_ONCE,
    Seeds,
    check_seeds,
    count_from,
    parse_seeds,
)


def test_check_seeds_takes_every_kind_of_sequence() -> None:
    for seeds in ([3, 4], (3, 4), range(3, 5), np.array([3, 4], np.uint8), iter([3, 4])):
        checked = check_seeds(seeds)
        assert checked.dtype == np.int64
        assert checked.tolist() == [3, 4]
    assert check_seeds([]).tolist() == []
    assert check_seeds(range(0)).tolist() == []
    assert check_seeds(range(9, 2, -3)).tolist() == [9, 6, 3]
    assert MAX_SEEDS_AT_ONCE >= 10**6


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", [0]),
        ("7,7", [7, 7]),
        ("0,4-6,100", [0, 4, 5, 6, 100]),
        (" 3 , 1-2 ", [3, 1, 2]),
        ("5-5", [5]),
        ("007", [7]),
        ("9007199254740991", [2**53 - 1]),
    ],
)
def test_text(text: str, seeds: list[int]) -> None:
    parsed = parse_seeds(text)
    assert list(parsed) == seeds
    assert len(parsed) == len(seeds)
    assert list(parse_seeds(str(parsed))) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "seeds are numbers and ranges such as 0,4-6,100, got ''"),
        (",", "got ''"),
        ("1,,2", "got ''"),
        ("-1", "got '-1'"),
        ("1--3", "got '1--3'"),
        ("6-4", "the range 6-4 runs backwards"),
        ("1.5", "got '1.5'"),
        ("1e3", "got '1e3'"),
        ("0x10", "got '0x10'"),
        ("seven", "got 'seven'"),
        ("1 2", "got '1 2'"),
        ("٣", "got '٣'"),
        ("9007199254740992", "a seed must lie in 0 … 2**53 - 1"),
        ("0-9007199254740992", "a seed must lie in 0 … 2**53 - 1"),
        ("9" * 6000, "a seed must lie in 0 … 2**53 - 1"),
    ],
)
def test_wrong_text(text: str, message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        parse_seeds(text)


def test_a_trillion_seeds_take_no_memory() -> None:
    tracemalloc.start()
    seeds = Seeds([range(10**12), range(5)])
    assert len(seeds) == 10**12 + 5
    assert seeds.array(10**12 - 2, 10**12 + 2).tolist() == [10**12 - 2, 10**12 - 1, 0, 1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_slices_cross_parts_and_stop_at_the_end() -> None:
    seeds = Seeds([range(3), np.array([50, 40]), range(0), range(9, 11)])
    every = [0, 1, 2, 50, 40, 9, 10]
    assert list(seeds) == every
    for start in range(8):
        for stop in range(start, 10):
            assert seeds.array(start, stop).tolist() == every[start:stop]
    assert str(seeds) == "0-2,50,40,9-10"


def test_of_takes_any_iterable() -> None:
    once = Seeds.of([4, 2])
    assert Seeds.of(once) is once
    assert list(once) == [4, 2]
    assert len(Seeds.of(range(10**15))) == 10**15
    assert len(Seeds.of([])) == 0
    with pytest.raises(GanportError, match="a seed must lie"):
        Seeds.of(range(-1, 4))
    with pytest.raises(GanportError, match="integers"):
        Seeds.of([1.5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("seed", "n", "message"),
    [
        (0, 0, "n must be at least 1, got 0"),
        (0, -3, "n must be at least 1, got -3"),
        (-1, 2, "a seed must lie in 0 … 2**53 - 1, got -1"),
        (2**53 - 1, 2, "2 seeds from 9007199254740991 run past the last one"),
        (0, 10**30, "run past the last one"),
    ],
)
def test_wrong_counts(seed: int, n: int, message: str) -> None:
    with pytest.raises(GanportError, match=re.escape(message)):
        count_from(seed, n)


def test_count_reaches_the_last_seed() -> None:
    assert list(count_from(2**53 - 2, 2)) == [2**53 - 2, 2**53 - 1]


def test_one_seed_by_its_number() -> None:
    seeds = parse_seeds("9,4-6,100,0")
    assert [seeds[number] for number in range(len(seeds))] == [9, 4, 5, 6, 100, 0]
    assert count_from(10**15, 10**12)[10**12 - 1] == 10**15 + 10**12 - 1
    assert Seeds.of(np.array([3, 1]))[1] == 1
    assert type(Seeds.of(np.array([3, 1]))[1]) is int
    for number in (-1, 6):
        with pytest.raises(IndexError, match=f"seed number {number} of 6"):
            seeds[number]
