"""The order of windows, and when a row rests."""

from __future__ import annotations

from collections.abc import Callable

from gan_bench.measuring.schedule import Track, interleave


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
