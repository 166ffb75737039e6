"""Windows: medians, percentiles and agreement on samples whose answers are known; their order, and when a row rests."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from gan_bench.windows import Spread, Track, interleave, percentile, spread, stable


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


def run(rates: dict[str, Callable[[int], float | None]], rounds: int) -> tuple[list[tuple[int, str]], list[Track[str]]]:
    tracks = [Track(name) for name in rates]
    seen: list[tuple[int, str]] = []

    def measure(name: str, number: int) -> float | None:
        seen.append((number, name))
        return rates[name](number)

    interleave(tracks, measure, rounds)
    return seen, tracks


def test_rows_take_turns_and_the_first_changes() -> None:
    seen, tracks = run({"a": lambda _n: 100.0, "b": lambda _n: 200.0, "c": lambda _n: 5.0}, rounds=9)
    assert [name for number, name in seen if number == 0] == ["a", "b", "c"]
    assert [name for number, name in seen if number == 1] == ["b", "c", "a"]
    assert [name for number, name in seen if number == 2] == ["c", "a", "b"]
    assert len(seen) == 9, "three agreeing windows each are enough"
    assert all(track.stable for track in tracks)


def test_a_stable_row_rests_while_others_go_on() -> None:
    seen, (calm, wild) = run({"calm": lambda _n: 100.0, "wild": lambda n: 100.0 if n % 2 else 300.0}, rounds=8)
    assert [number for number, name in seen if name == "calm"] == [0, 1, 2]
    assert [number for number, name in seen if name == "wild"] == list(range(8))
    assert calm.stable
    assert not wild.stable


def test_a_dropped_row_gets_no_more_windows() -> None:
    seen, (dies, lives) = run({"dies": lambda n: None if n == 1 else 1.0, "lives": lambda _n: 1.0}, rounds=5)
    assert [number for number, name in seen if name == "dies"] == [0, 1]
    assert dies.dropped
    assert dies.rates == [1.0]
    assert lives.stable


def test_nothing_to_measure_takes_no_rounds() -> None:
    assert interleave([], lambda _s, _n: 1.0, rounds=5) == 0


def test_progress_is_told_after_every_window() -> None:
    ticks: list[int] = []
    interleave([Track("a"), Track("b")], lambda _s, _n: 1.0, 3, after_window=lambda: ticks.append(1))
    assert len(ticks) == 6
