"""Seeds by the billion: a sequence that is never stored, and the text that names one (`0,4-6,100`)."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from gan_core.errors import GanportError
from gan_core.latents import SEED_LIMIT, check_seed_range, check_seeds

I64 = npt.NDArray[np.int64]

_PART = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_MOST_DIGITS = len(str(SEED_LIMIT))


class Seeds:
    """Seeds in order, as parts that are ranges or arrays; repeats are kept. `len`, iteration, one by its number and
    `array` are all it has."""

    def __init__(self, parts: Iterable[range | I64]) -> None:
        """Raises `GanportError` when a seed leaves [0, 2**53)."""
        checked = []
        for part in parts:
            if isinstance(part, range):
                check_seed_range(part)
            checked.append(part if isinstance(part, range) else check_seeds(part))
        self.parts = tuple(part for part in checked if len(part))
        self._ends = list(accumulate(len(part) for part in self.parts))

    @classmethod
    def of(cls, seeds: Iterable[int] | Seeds) -> Seeds:
        """Any iterable of integers; a range is kept as it is. Raises `GanportError` for what is no seed."""
        if isinstance(seeds, Seeds):
            return seeds
        return cls([seeds if isinstance(seeds, range) else check_seeds(seeds)])

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[int]:
        for part in self.parts:
            yield from (part if isinstance(part, range) else part.tolist())

    def __getitem__(self, index: int) -> int:
        """Seed number `index`, from 0. Raises `IndexError` for one that there is not."""
        if not 0 <= index < len(self):
            raise IndexError(f"seed number {index} of {len(self)}")
        part = bisect.bisect_right(self._ends, index)
        return int(self.parts[part][index - self._ends[part]])

    def __str__(self) -> str:
        """The seeds as the command line takes them: "0,4-6,100"."""
        return ",".join(
            f"{part[0]}-{part[-1]}" if isinstance(part, range) and len(part) > 1 else ",".join(map(str, part))
            for part in self.parts
        )

    def array(self, start: int, stop: int) -> I64:
        """Seeds number `start` up to `stop` (clipped to the end) as int64."""
        pieces: list[I64] = [np.zeros(0, np.int64)]
        index = bisect.bisect_right(self._ends, start)
        while index < len(self.parts) and start < stop:
            part = self.parts[index]
            before = self._ends[index] - len(part)
            piece = part[start - before : stop - before]
            pieces.append(check_seeds(piece))
            start, index = self._ends[index], index + 1
        return np.concatenate(pieces)


def parse_seeds(text: str) -> Seeds:
    """Seeds from text: numbers and inclusive ranges with commas between, as in "0,4-6,100".

    Raises `GanportError` for anything else, for a range that runs backwards and for a seed of 2**53 or more.
    """
    parts: list[range | I64] = []
    for piece in text.split(","):
        match = _PART.fullmatch(piece.strip())
        if match is None:
            raise GanportError(
                f"seeds are numbers and ranges such as 0,4-6,100, got {piece.strip()[:40]!r}",
                hint="negative seeds do not exist; a range is written 4-6",
            )
        first, last = (_number(digits) for digits in (match[1], match[2] or match[1]))
        if last < first:
            raise GanportError(f"the range {piece.strip()} runs backwards", hint=f"write {last}-{first}")
        parts.append(range(first, last + 1))
    return Seeds(parts)


def _number(digits: str) -> int:
    """A seed from its digits; any that is too long is one past the last (int() refuses thousands of digits)."""
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) <= _MOST_DIGITS else SEED_LIMIT


def count_from(seed: int, n: int) -> Seeds:
    """`n` seeds from `seed` on. Raises `GanportError` for n < 1, or when they run past 2**53 - 1."""
    if n < 1:
        raise GanportError(f"n must be at least 1, got {n}", hint="ask for one image or more")
    if seed >= 0 and seed + n > SEED_LIMIT:
        raise GanportError(
            f"{n} seeds from {seed} run past the last one, 2**53 - 1", hint="use a smaller `seed` or `n`"
        )
    return Seeds([range(seed, seed + n)])
