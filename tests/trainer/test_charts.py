"""The curves of a run's page: round ticks, finite numbers, every logged point in little text."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from gan_trainer.report.charts import Curve, chart, number, ticks


def test_ticks_are_round() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.13, 0.41, 5) == pytest.approx([0.2, 0.3, 0.4])
    assert ticks(-1.5, 1.5, 3) == [-1, 0, 1]
    assert ticks(3, 3, 5) == [3]
    assert [number(value) for value in (0, 0.5, 1500, 2.5e6, -3e9, 1e30)] == [
        "0",
        "0.5",
        "1.5k",
        "2.5M",
        "-3G",
        "1e+18T",
    ]


@pytest.mark.parametrize(
    "values", [[1.0], [math.nan], [math.inf, 1.0], [2.0] * 100, [1e30, -1e30], [math.nan, 1.0, math.nan] * 30]
)
def test_charts_hold_only_finite_numbers(values: list[float]) -> None:
    drawn = chart("losses", [float(step) for step in range(len(values))], [Curve("a", values)])
    assert not re.search(r"nan|inf", drawn)
    assert 'role="img"' in drawn


def test_long_curves_stay_small() -> None:
    drawn = chart("losses", list(range(100_000)), [Curve("a", np.random.default_rng(0).normal(size=100_000).tolist())])
    assert len(drawn) < 80_000
    every = chart("losses", list(range(3000)), [Curve("a", [float(step % 7) for step in range(3000)])])
    raw = re.search(r'class="raw c0" points="([^"]*)"', every)
    assert raw
    assert len(raw[1].split()) == 3000, "every logged point is drawn"
    few = chart("losses", list(range(10)), [Curve("a", [float(step) for step in range(10)])])
    assert few.count("<circle") == 10
