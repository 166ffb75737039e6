"""A seed is an image: latents from the counter-based generator Philox4x32-10, and seeds by the billion.

Image `s` of a model is `G(z(s))`. `z(s)` depends on the seed, the dimension's index and nothing else, so a
picture is the same whatever the batch size, the thread count, the shard, the provider or the language.

The law, in full (docs/latents.md has test vectors):

- Key: the seed, 0 <= s < 2**53, split into (low 32 bits, high 32 bits).
- Counter: (block, round, 0, 0). Block `b` gives the four 32-bit words of components 4b … 4b+3. `round` is 0,
  except for truncation.
- A word w becomes u = (w + 0.5) / 2**32, in (0, 1), in float64.
- uniform: z = 2u - 1, in (-1, 1); uniform01: z = u, in (0, 1).
- normal: Box-Muller on the pairs (u0, u1) and (u2, u3): r = sqrt(-2 ln u0), z0 = r cos(2 pi u1),
  z1 = r sin(2 pi u1). Then rounded to float32.
- Truncation at t (the truncation trick, Brock et al. 2018, arXiv:1809.11096): each normal component whose
  magnitude exceeds t is drawn anew from round 1, 2, … until it does not; the others stay as they are. A
  uniform latent is scaled by min(t, 1), which is the same law on (-t, t); one of (0, 1) by its distance from 1/2.
- The noise that a generator adds inside (`noise_maps`): the same with the counter (block, 0, 1, 0).

`Seeds` is a sequence of them that is never stored; `parse_seeds` reads the text that names one (`0,4-6,100`).

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Literal, get_args

import numpy as np

from gan_core.arrays import F32, F64, I64, U32
from gan_core.errors import GanportError

LatentLaw = Literal["normal", "uniform", "uniform01"]
LATENT_LAWS: tuple[LatentLaw, ...] = get_args(LatentLaw)
LAW_WORDS: dict[LatentLaw, str] = {"normal": "N(0, 1)", "uniform": "U(-1, 1)", "uniform01": "U(0, 1)"}
"""The laws as people write them."""
LAW_MIDDLES: dict[LatentLaw, float] = {"normal": 0.0, "uniform": 0.0, "uniform01": 0.5}

SEED_LIMIT = 2**53
"""Seeds lie in [0, 2**53): exact as a float64, so exact in JSON and JavaScript."""

MAX_SEEDS_AT_ONCE = 100_000_000
"""The most seeds of a range that become an array."""

MIN_TRUNCATION = 0.05

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (np.uint32(0x9E3779B9), np.uint32(0xBB67AE85))
_ROUNDS = 10
_LOW_32 = np.uint64(0xFFFFFFFF)
_NOISE = 1
_SHIFTS, _LOW_24 = (0, 24, 48), (1 << 24) - 1


def philox4x32(counter: tuple[U32, U32, U32, U32], key: tuple[U32, U32]) -> tuple[U32, U32, U32, U32]:
    """Philox4x32-10 on arrays of counters and keys (uint32, broadcast together); returns four uint32 words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    with np.errstate(over="ignore"):
        for _ in range(_ROUNDS):
            product_0 = c0.astype(np.uint64) * _MULTIPLIERS[0]
            product_1 = c2.astype(np.uint64) * _MULTIPLIERS[1]
            c0, c1, c2, c3 = (
                (product_1 >> np.uint64(32)).astype(np.uint32) ^ c1 ^ k0,
                (product_1 & _LOW_32).astype(np.uint32),
                (product_0 >> np.uint64(32)).astype(np.uint32) ^ c3 ^ k1,
                (product_0 & _LOW_32).astype(np.uint32),
            )
            k0 = k0 + _KEY_STEPS[0]
            k1 = k1 + _KEY_STEPS[1]
    return c0, c1, c2, c3


def latents(
    seeds: Iterable[int] | I64,
    z_dim: int,
    law: LatentLaw = "normal",
    truncation: float | None = None,
) -> F32:
    """The latents z(s) of `seeds`: float32 (len(seeds), z_dim), C-contiguous.

    `law` is one of `LAW_WORDS`; `truncation`, in [0.05, inf), bounds |z| (None: no
    bound). Raises `GanportError` for a seed outside [0, 2**53), a bad law or a bad truncation.
    """
    seed_array = check_seeds(seeds)
    if law not in LATENT_LAWS:
        raise GanportError(
            f"the latent distribution must be one of {', '.join(LATENT_LAWS)}, got {law!r}",
            hint=", ".join(f"{name} is {words}" for name, words in LAW_WORDS.items()),
        )
    if z_dim < 1:
        raise GanportError(
            f"z_dim must be at least 1, got {z_dim}",
            hint="it is the number of a latent's components, contract.interface.z_dim of a loaded generator",
        )
    if truncation is None:
        return np.ascontiguousarray(_draw(seed_array, z_dim, law, round_index=0), dtype=np.float32)
    if not (np.isfinite(truncation) and truncation >= MIN_TRUNCATION):
        raise GanportError(
            f"`truncation` must be a finite number of at least {MIN_TRUNCATION}, got {truncation}",
            hint="0.5 to 1 gives safer, less varied images; leave it out for the whole latent distribution",
        )
    if law != "normal":
        middle = LAW_MIDDLES[law]
        z = middle + (_draw(seed_array, z_dim, law, 0) - middle) * min(truncation, 1.0)
        return np.ascontiguousarray(z, dtype=np.float32)
    z = _draw(seed_array, z_dim, law, 0)
    pending = np.flatnonzero((np.abs(z) > truncation).any(axis=1))
    round_index = 0
    while pending.size:
        round_index += 1
        again = _draw(seed_array[pending], z_dim, law, round_index)
        current = z[pending]
        z[pending] = np.where(np.abs(current) > truncation, again, current)
        pending = pending[(np.abs(z[pending]) > truncation).any(axis=1)]
    return np.ascontiguousarray(z, dtype=np.float32)


def noise_maps(seeds: I64, size: int, law: LatentLaw) -> F32:
    """The noise of `seeds` inside a generator: float32 (n, size) of N(0, 1), or of U(0, 1) for both uniform laws."""
    made = np.empty((len(seeds), size), np.float32)
    for row in range(len(seeds)):  # 3 million numbers for an image of 1024x1024
        drawn = _draw(seeds[row : row + 1], size, law, 0, _NOISE)[0]
        made[row] = drawn / 2 + 0.5 if law == "uniform" else drawn
    return made


def with_seeds(z: F32, seeds: I64) -> F32:
    """Latents (n, z_dim) as (n, z_dim + 3): behind them the seeds of their noise, in parts of 24 bits, which float32
    has exactly."""
    parts = [(seeds >> shift) & _LOW_24 for shift in _SHIFTS]
    return np.concatenate([z, np.stack(parts, axis=1).astype(np.float32)], axis=1)


def without_seeds(given: F32, z_dim: int) -> tuple[F32, I64 | None]:
    """What `with_seeds` made, taken apart: the latents and the seeds; None for latents alone, or styles."""
    if given.shape[1:] != (z_dim + len(_SHIFTS),):
        return given, None
    parts = given[:, z_dim:].astype(np.int64)
    return given[:, :z_dim], (parts << np.array(_SHIFTS)).sum(axis=1)


def default_labels(seeds: I64, n_classes: int) -> I64:
    """The class of seed s where none is asked for: s mod n_classes, so that any run of seeds shows every class."""
    return seeds % n_classes


def check_seeds(seeds: Iterable[int] | I64) -> I64:
    """`seeds` as an int64 array. Raises `GanportError` for anything that is not an integer in [0, 2**53).

    A range is checked before a single seed of it is stored; one of more than `MAX_SEEDS_AT_ONCE` is refused
    (`Generator.stream` takes it).
    """
    if isinstance(seeds, range):
        check_seed_range(seeds)
        if len(seeds) > MAX_SEEDS_AT_ONCE:
            raise GanportError(
                f"{len(seeds)} seeds at once, the most is {MAX_SEEDS_AT_ONCE}",
                hint="take them in parts, or stream them",
            )
        return np.arange(seeds.start, seeds.stop, seeds.step, dtype=np.int64)
    array = np.asarray(seeds if isinstance(seeds, np.ndarray) else list(seeds))
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise GanportError(
            "seeds must be a one-dimensional sequence of integers",
            hint="give a list, a range or an array of whole numbers",
        )
    _check_bounds(int(array.min()), int(array.max()))
    return array.astype(np.int64)


def check_seed_range(seeds: range) -> None:
    """Raises `GanportError` when a range of seeds leaves [0, 2**53), however long it is."""
    if seeds:
        _check_bounds(min(seeds[0], seeds[-1]), max(seeds[0], seeds[-1]))


def _check_bounds(low: int, high: int) -> None:
    if low < 0 or high >= SEED_LIMIT:
        raise GanportError(
            f"a seed must lie in 0 … 2**53 - 1, got {low if low < 0 else high}",
            hint="a seed is an image's number; use any whole number from 0",
        )


def _draw(seeds: I64, z_dim: int, law: LatentLaw, round_index: int, purpose: int = 0) -> F64:
    """Float64 (len(seeds), z_dim) from one Philox round index; `purpose` is the counter's third word."""
    blocks = -(-z_dim // 4)
    key_low = (seeds & 0xFFFFFFFF).astype(np.uint32)[:, None]
    key_high = (seeds >> 32).astype(np.uint32)[:, None]
    shape = (len(seeds), blocks)
    counter_0 = np.broadcast_to(np.arange(blocks, dtype=np.uint32), shape)
    counter_1 = np.full(shape, round_index, np.uint32)
    counter_2, counter_3 = np.full(shape, purpose, np.uint32), np.zeros(shape, np.uint32)
    words = philox4x32((counter_0, counter_1, counter_2, counter_3), (key_low, key_high))
    uniform = (np.stack(words, axis=-1).astype(np.float64) + 0.5) / 2.0**32  # (n, blocks, 4)
    if law == "uniform":
        z = 2.0 * uniform - 1.0
    elif law == "uniform01":
        z = uniform
    else:
        radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
        angle = 2.0 * np.pi * uniform[..., 1::2]
        z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return z.reshape(len(seeds), 4 * blocks)[:, :z_dim]


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
            f"{n} seed{'s' * (n > 1)} from {seed} run{'s' * (n == 1)} past the last one, 2**53 - 1",
            hint="use a smaller `seed` or `n`",
        )
    return Seeds([range(seed, seed + n)])


def seeds_of(seeds: int | Iterable[int]) -> Seeds:
    """The seeds that are meant: of a number n, 0 … n - 1. Raises `GanportError` for what is no seed."""
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        return count_from(0, int(seeds))
    if not isinstance(seeds, Iterable):
        raise GanportError(f"`seeds` must be a number of images or their seeds, got {seeds!r}", hint="25, or range(25)")
    return Seeds.of(seeds)
