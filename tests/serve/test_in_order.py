"""Work ahead in threads: order, bounds, failures, and an end that waits."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from gan_serve.runtime.generator import in_order


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(threads: int, count: int) -> None:
    def slow_when_even(item: int) -> int:
        if item % 2 == 0:
            time.sleep(0.001)
        return item * item

    before = set(threading.enumerate())
    assert list(in_order(slow_when_even, range(count), threads)) == [item * item for item in range(count)]
    assert set(threading.enumerate()) <= before


def test_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(in_order(lambda _: meeting.wait() >= 0, range(3), 3)) == [True] * 3


def test_no_more_is_taken_than_said() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    for number, _ in enumerate(in_order(lambda item: item, items(), 3), 1):
        assert taken <= number + 4
    assert taken == 100


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_is_raised_in_its_place(threads: int) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise ValueError("five")
        return item

    seen: list[int] = []
    with pytest.raises(ValueError, match="five"):
        seen.extend(in_order(work, range(1000), threads))
    assert seen == [0, 1, 2, 3, 4]
    assert len(begun) < 15


def test_a_failure_of_the_items_ends_the_threads() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    before = set(threading.enumerate())
    with pytest.raises(KeyError):
        list(in_order(lambda item: item, items(), 2))
    gc.collect()
    assert set(threading.enumerate()) <= before


def test_closing_waits_for_what_is_under_way_and_begins_no_more() -> None:
    ended = []

    def work(item: int) -> int:
        time.sleep(0.02)
        ended.append(item)
        return item

    before = set(threading.enumerate())
    results = in_order(work, range(100), 2)
    assert next(results) == 0
    assert len(set(threading.enumerate()) - before) == 2
    results.close()
    assert set(threading.enumerate()) <= before
    count = len(ended)
    time.sleep(0.05)
    assert len(ended) == count < 8
