"""Parts of one job done side by side by threads that stay."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from gan_serve.runtime.crew import Crew


def test_results_come_in_order_whatever_finishes_first() -> None:
    def work(n: int) -> int:
        time.sleep(0.01 * (3 - n))
        return 10 * n

    assert Crew(2).map(work, [0, 1, 2]) == [0, 10, 20]


def test_two_work_at_a_time() -> None:
    """Neither of the two gets past the barrier alone."""
    barrier = threading.Barrier(2, timeout=10)
    assert Crew(2).map(lambda _item: barrier.wait() >= 0, [0, 1]) == [True, True]


def test_one_thread_and_one_item_start_no_threads() -> None:
    before = set(threading.enumerate())
    assert Crew(1).map(str, [1, 2, 3]) == ["1", "2", "3"]
    assert Crew(8).map(str, [1]) == ["1"]
    assert Crew(8).map(str, []) == []
    assert set(threading.enumerate()) <= before


def test_threads_stay_between_jobs_and_end_with_the_crew() -> None:
    before = set(threading.enumerate())
    crew = Crew(3)
    for _ in range(5):
        assert crew.map(abs, [-1, -2, -3, -4]) == [1, 2, 3, 4]
    assert len(set(threading.enumerate()) - before) == 2
    del crew
    gc.collect()
    for _ in range(200):
        if set(threading.enumerate()) <= before:
            break
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_exception_is_raised_and_no_more_is_begun(threads: int) -> None:
    begun: list[int] = []

    def work(n: int) -> None:
        begun.append(n)
        if n == 1:
            raise ValueError(f"item {n}")
        time.sleep(0.005)

    crew = Crew(threads)
    with pytest.raises(ValueError, match="item 1"):
        crew.map(work, range(1000))
    assert len(begun) < 500
    assert crew.map(abs, [-1, -2]) == [1, 2]  # and it is none the worse for it


def test_many_callers_share_one_crew() -> None:
    crew = Crew(2)
    results: list[list[int]] = []

    def call(start: int) -> None:
        results.append(crew.map(abs, range(-start, 0)))

    callers = [threading.Thread(target=call, args=(n,)) for n in (5, 6, 7, 8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert sorted(map(len, results)) == [5, 6, 7, 8]
