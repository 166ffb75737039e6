"""The inputs of a proof: batches of every kind of latent and every class, each row with a name.

Ordinary latents in batches of 1, 2, 3, 8 and 25 (a graph can be right for one batch size and wrong for the next), zero,
the far ends of the latent law, where activations saturate and float16 overflows, and two seeds as every class: of large
images and many classes as much as a budget of pixels allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gan_core.interface import Interface
from gan_core.latents import default_labels
from gan_serve.runtime.generator import F32, I64

BATCHES = (1, 2, 3, 8, 25)
SEEDS = BATCHES[-1]
BUDGET = 2_100 * 128 * 128
"""Pixels (height x width, whatever the channels) that the images of a proof have together: two seeds as each of 1,000
classes at 128x128, and all else, fit in. A batch has at most a sixteenth of it: 25 images of 256x256, 8 of 512x512."""
LEAST_BATCH, LEAST_CLASSES = 3, 8
"""What is drawn however large the images are: batches of up to so many, and so many classes."""
FAR = {"normal": 4.0, "uniform": 1.0}
"""How far out a component can be asked to go: 4 sigma of N(0, 1), the corners of U(-1, 1)."""

_BATCH_SHARE = 16
_FAR_ROWS = 6


@dataclass(frozen=True, eq=False)
class Case:
    """One batch. `z` (n, z_dim), `label` (n,) or None; `rows` says what each row is: "seed 7", "seed 7 class 3".

    kind  "ordinary", "zero", "far" or "class"
    """

    kind: str
    z: F32
    label: I64 | None
    rows: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"batch of {len(self.z)} {'classes' if self.kind == 'class' else f'{self.kind} latents'}"


def cases(interface: Interface, budget: int = BUDGET) -> tuple[Case, ...]:
    """Every batch of a proof, the ordinary ones first, in the order of `BATCHES`.

    Within `budget` pixels, in this order: seeds 0, 1, 2, … in every size of `BATCHES` that a batch has room for; zero;
    the far ends; seed 0 as every class; the seeds up to `SEEDS` that no batch had room for; seed 1 as every class.
    Where not every class fits, those are drawn that lie evenly from the first to the last.
    """
    area, z_dim, n_classes = interface.height * interface.width, interface.z_dim, interface.n_classes
    most = max(LEAST_BATCH, budget // (_BATCH_SHARE * area))
    sizes = [size for size in BATCHES if size <= most]
    batch = sizes[-1]
    made = [ordinary(range(size), interface) for size in sizes]
    ends = [_case("zero", np.zeros((2, z_dim), np.float32), ("latent of zeros",) * 2, range(2), n_classes)]
    ends.extend(_far(interface, batch))
    left = budget // area - sum(len(case.z) for case in (*made, *ends))
    first = spread(n_classes, max(left, LEAST_CLASSES))
    left = max(left - len(first), 0)
    further = range(batch, min(SEEDS, batch + left))
    second = spread(n_classes, left - len(further))
    made += [ordinary(further[i : i + batch], interface) for i in range(0, len(further), batch)]
    made += ends
    for seed, classes in ((0, first), (1, second)):
        z = interface.latents([seed])
        for start in range(0, len(classes), batch):
            label = classes[start : start + batch]
            rows = tuple(f"seed {seed} class {k}" for k in label)
            made.append(Case("class", np.repeat(z, len(label), axis=0), label, rows))
    return tuple(made)


def ordinary(seeds: range, interface: Interface) -> Case:
    """One batch of the latents of `seeds`, each with the label of its seed."""
    rows = tuple(f"seed {seed}" for seed in seeds)
    return _case("ordinary", interface.latents(seeds), rows, seeds, interface.n_classes)


def spread(n: int, count: int) -> I64:
    """`count` of the numbers 0 … n-1 that lie evenly, the first and the last among them; all where `count` allows."""
    if count >= n:
        return np.arange(n, dtype=np.int64)
    return np.linspace(0, n - 1, max(count, 0)).round().astype(np.int64)


def widest(made: Iterable[Case]) -> Case:
    """The largest batch of ordinary latents."""
    return max((case for case in made if case.kind == "ordinary"), key=lambda case: len(case.z))


def alone(case: Case) -> I64:
    """The rows of a batch that are drawn once more by themselves: four, the first and the last among them."""
    return spread(len(case.z), 4)


def _far(interface: Interface, most: int) -> Iterator[Case]:
    """All components at +far, all at -far, and the signs of a few seeds at ±far; at most `most` in a batch."""
    far, z_dim = FAR[interface.latent], interface.z_dim
    signs = np.where(interface.latents(range(_FAR_ROWS)) < 0, -1.0, 1.0)
    z = (far * np.concatenate([np.ones((1, z_dim)), -np.ones((1, z_dim)), signs])).astype(np.float32)
    rows = (
        f"latent of +{far:g}",
        f"latent of -{far:g}",
        *(f"±{far:g} by the signs of seed {s}" for s in range(_FAR_ROWS)),
    )
    for start in range(0, len(z), most):
        part = slice(start, start + most)
        yield _case("far", z[part], rows[part], range(len(z))[part], interface.n_classes)


def _case(kind: str, z: F32, rows: tuple[str, ...], counted: range, n_classes: int) -> Case:
    """Labels count through the classes, as `default_labels` does: row i has that of seed `counted[i]`."""
    if not n_classes:
        return Case(kind, z, None, rows)
    label = default_labels(np.asarray(counted, np.int64), n_classes)
    return Case(kind, z, label, tuple(f"{row} class {k}" for row, k in zip(rows, label, strict=True)))
