"""Medians, percentiles and agreement on samples whose answers are known."""

from __future__ import annotations

import math
import random

import pytest

from gan_bench.shared.stats import Spread, percentile, spread, stable


def test_spread_discards_nothing() -> None:
    assert spread([3.0, 1.0, 100.0]) == Spread(3.0, 1.0, 100.0)
    assert spread([2.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="no values"):
        spread([])


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        (100, 50, 50), (100, 95, 95), (100, 99, 99), (1000, 99, 990), (101, 99, 100), (20, 95, 19),
        (99, 99, None), (19, 95, None), (10, 99, None),  # the rank would be the maximum itself
        (1, 50, 1), (2, 50, 1), (3, 50, 2), (1, 95, None), (0, 50, None), (0, 99, None),
    ],
)  # fmt: skip
def test_percentile_is_the_nearest_rank(count: int, percent: int, expected: int | None) -> None:
    assert percentile([float(value) for value in range(1, count + 1)], percent) == expected


def test_percentile_is_always_a_sample_below_the_maximum() -> None:
    generator = random.Random(0)
    for count in range(1, 400):
        samples = sorted(generator.random() for _ in range(count))
        for percent in (95, 99):
            value = percentile(samples, percent)
            assert value is None or (value in samples and value < samples[-1])
            if value is not None:
                assert sum(sample <= value for sample in samples) >= count * percent / 100


@pytest.mark.parametrize("percent", [0, 100, -1, 150])
def test_percentile_refuses(percent: int) -> None:
    with pytest.raises(ValueError, match="percent"):
        percentile([1.0], percent)


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([], False),
        ([100.0, 100.0], False),
        ([100.0, 100.0, 100.0], True),
        ([95.0, 100.0, 105.0], True),
        ([94.9, 100.0, 105.0], False),
        ([50.0, 100.0, 101.0, 102.0], True),  # a slow start is forgotten once three agree
        ([100.0, 101.0, 102.0, 50.0], False),  # agreement of the past is not
        ([50.0, 60.0, 100.0, 101.0, 102.0], True),
        ([50.0, 60.0, 70.0, 100.0, 101.0, 102.0], False),  # half is not most
        ([50.0, 60.0, 70.0, 100.0, 101.0, 102.0, 100.0], True),
        ([562.0, 206.0, 575.0, 660.0, 209.0, 379.0, 382.0, 369.0], False),  # agreement by accident
        ([0.0, 0.0, 0.0], False),
        ([100.0, math.nan, 100.0], False),
    ],
)
def test_stable_is_three_that_agree_and_most_of_all(windows: list[float], expected: bool) -> None:
    assert stable(windows) is expected


def test_the_median_of_a_stable_row_is_near_its_last_three() -> None:
    generator = random.Random(0)
    settled = 0
    for _ in range(20_000):
        windows = [generator.choice((40.0, 70.0, 100.0)) * generator.uniform(0.95, 1.05) for _ in range(9)]
        for count in range(3, len(windows) + 1):
            if stable(windows[:count]):
                settled += 1
                agreed = spread(windows[count - 3 : count]).median
                assert abs(spread(windows[:count]).median - agreed) <= 0.1 * agreed + 1e-9
                break
    assert 1000 < settled < 20_000
