"""The batches of a proof: what a file and PyTorch are both given.

Ordinary latents in batches of 1, 2, 3, 8 and 25 (a graph can be right for one batch size and wrong for the next), zero,
the far ends of the latent distribution, where activations saturate and float16 overflows, and two seeds as every class:
of large images and many classes as much as a budget of pixels allows. And other values of optional inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gan_core.arrays import I64
from gan_core.golden import example_images, inputs
from gan_core.interface import Interface
from gan_core.latents import LAW_MIDDLES, default_labels, latents, with_seeds
from gan_serve.runtime import Given

BATCHES = (1, 2, 3, 8, 25)
SEEDS = BATCHES[-1]
BUDGET = 2_100 * 128 * 128
"""Pixels (height x width, whatever the channels) that the images of a proof have together: two seeds as each of 1,000
classes at 128x128, and all else, fit in. A batch has at most a 64th of it: 25 images of 128x128, 8 of 256x256, or a
sixteenth where images are made of images, of which there are fewer."""
PRODUCTS = 1 << 39
"""Multiplications that the ordinary images of a proof take together, where they are made of images."""
LATENT_PRODUCTS = 1 << 42
"""Multiplications after which no more classes and seeds are drawn: 350 images of a BigGAN of 128x128, in minutes."""
LEAST_BATCH, LEAST_CLASSES = 3, 8
"""What is drawn however large the images are: batches of up to so many, and so many classes."""
FAR = {"normal": 4.0, "uniform": 1.0, "uniform01": 0.5}
"""How far out a component can be asked to go: 4 sigma of N(0, 1), the corners of U(-1, 1) and, from 1/2, of U(0, 1)."""
NEARER = (2.0, 1.0)
"""Where a network's own float32 is not steady so far out, all components are asked to go so many sigma."""

_BATCH_SHARE, _IMAGE_SHARE = 64, 16
_FAR_ROWS = 6


@dataclass(frozen=True, eq=False)
class Case:
    """One batch. `z` (n, z_dim) or an image's pixels (n, H, W, C), `label` (n,) or None; `rows` says what each row is:
    "seed 7", "seed 7 class 3".

    kind     "ordinary", "zero", "far" or "class"; of images "ordinary", "far" or "size"; for optional inputs "psi",
             "noise", "styles", whose `z` has the styles (n, num_ws, w_dim), and "seeded", whose `z` has seeds behind
    options  psi and noise, where they are others than the defaults
    """

    kind: str
    z: Given
    label: I64 | None
    rows: tuple[str, ...]
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def input(self) -> str:
        """The name of the input that takes `z`."""
        return "input" if self.z.ndim == 4 else "z"

    @property
    def name(self) -> str:
        if self.options:
            return f"batch of {len(self.z)} with {' and '.join(f'{k} {v:g}' for k, v in self.options.items())}"
        if self.z.ndim == 4:
            return f"batch of {len(self.z)} images of {self.z.shape[2]}x{self.z.shape[1]}"
        if self.kind in ("styles", "seeded"):
            return f"batch of {len(self.z)} {'given styles' if self.kind == 'styles' else 'with noise of their seeds'}"
        return f"batch of {len(self.z)} {'classes' if self.kind == 'class' else f'{self.kind} latents'}"


def cases(
    interface: Interface, budget: int = BUDGET, far: float | None = None, most_images: int | None = None
) -> tuple[Case, ...]:
    """Every batch of a proof, the ordinary ones first, in the order of `BATCHES`.

    Within `budget` pixels, and of images from latents within `most_images`, in this order: seeds 0, 1, 2, … in every
    size of `BATCHES` that a batch has room for; zero; the far ends; seed 0 as every class; the seeds up to `SEEDS` that
    no batch had room for; seed 1 as every class. Where not every class fits, those are drawn that lie evenly from the
    first to the last.

    A generator that takes images is given `gan_core.golden.example_images`, images of nothing but black and white, and
    where it takes any size, other sizes. Optional inputs have other values than the defaults, for a few seeds.
    """
    area, z_dim, n_classes = interface.height * interface.width, interface.z_dim, interface.n_classes
    most = max(LEAST_BATCH, budget // ((_BATCH_SHARE if interface.input is None else _IMAGE_SHARE) * area))
    sizes = [size for size in BATCHES if size <= most]
    batch = sizes[-1]
    if interface.input is not None:
        several = (ordinary(range(size), interface) for size in sizes)
        return (*several, *_far_images(interface), *_sizes(interface), *_optional(interface))
    made = [ordinary(range(size), interface) for size in sizes]
    ends = [_case("zero", np.zeros((2, z_dim), np.float32), ("latent of zeros",) * 2, range(2), n_classes)]
    ends.extend(_far(interface, batch, far or FAR[interface.latent]))
    room = budget // area if most_images is None else min(budget // area, most_images)
    left = room - sum(len(case.z) for case in (*made, *ends))
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
    return (*made, *_optional(interface))


def _optional(interface: Interface) -> Iterator[Case]:
    """Other values of the optional inputs, for the latents of a few seeds: psi 0.5, styles as N(0, 1), no noise, and
    noise of the seeds."""
    few = ordinary(range(LEAST_BATCH), interface)
    if interface.styles is not None:
        yield replace(few, kind="psi", options={"psi": 0.5})
        shape = interface.options["w"].shape
        w = latents(range(LEAST_BATCH), math.prod(shape)).reshape(LEAST_BATCH, *shape)
        yield replace(few, kind="styles", z=w, rows=tuple(f"styles of seed {seed}" for seed in range(LEAST_BATCH)))
    if interface.noise:
        yield replace(few, kind="noise", options={"noise": 0.0})
    if interface.noise_maps is not None:
        yield replace(few, kind="seeded", z=with_seeds(few.z, np.arange(LEAST_BATCH)))


def ordinary(seeds: range, interface: Interface) -> Case:
    """One batch of the latents of `seeds`, each with the label of its seed."""
    rows = tuple(f"seed {seed}" for seed in seeds)
    return _case("ordinary", inputs(interface, seeds), rows, seeds, interface.n_classes)


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


def _far(interface: Interface, most: int, far: float) -> Iterator[Case]:
    """All components at +far from the middle, all at -far, and the signs of a few seeds at ±far; at most `most` in a
    batch."""
    z_dim, middle = interface.z_dim, LAW_MIDDLES[interface.latent]
    signs = np.where(interface.latents(range(_FAR_ROWS)) < middle, -1.0, 1.0)
    z = (middle + far * np.concatenate([np.ones((1, z_dim)), -np.ones((1, z_dim)), signs])).astype(np.float32)
    about = f"{middle:g} " if middle else ""
    rows = (
        f"latent of {middle + far:+g}",
        f"latent of {middle - far:+g}",
        *(f"{about}±{far:g} by the signs of seed {s}" for s in range(_FAR_ROWS)),
    )
    for start in range(0, len(z), most):
        part = slice(start, start + most)
        yield _case("far", z[part], rows[part], range(len(z))[part], interface.n_classes)


def _far_images(interface: Interface) -> Iterator[Case]:
    """The sharpest images: fields of black and white in turn, both ways, and pixels by chance.

    Fields of 8 pixels: of finer patterns an instance norm would see no variance, and enlarge what rounding leaves.
    """
    example = inputs(interface, range(1))[0]
    height, width, channels = example.shape
    turn = (np.indices((height, width)) // 8).sum(axis=0)[..., None].repeat(channels, axis=2) % 2
    chance = [np.random.default_rng(seed).integers(0, 2, example.shape) for seed in range(2)]
    for images, rows in (
        ([turn, 1 - turn], ("a chessboard", "the same, inverted")),
        (chance, ("black and white by chance, 0", "black and white by chance, 1")),
    ):
        yield Case("far", (255 * np.stack(images)).astype(np.uint8), None, rows)


def _sizes(interface: Interface) -> Iterator[Case]:
    """Images of other sizes: the least, and higher and wider ones than the example."""
    taken = interface.input
    if taken is None or taken.fixed:
        return
    (_, height, width), step, least = interface.input_shape, taken.multiple_of, taken.next_side(1)
    wide = (taken.next_side(height // 2), width + 3 * step)
    for n, (high, across) in enumerate(((least, least), (least, least + step), (height + 5 * step, least), wide), 1):
        images = example_images(range(n), high, across, taken.channels)
        yield Case("size", images, None, tuple(f"seed {seed} at {across}x{high}" for seed in range(n)))


def _case(kind: str, z: Given, rows: tuple[str, ...], counted: range, n_classes: int) -> Case:
    """Labels count through the classes, as `default_labels` does: row i has that of seed `counted[i]`."""
    if not n_classes:
        return Case(kind, z, None, rows)
    label = default_labels(np.asarray(counted, np.int64), n_classes)
    return Case(kind, z, label, tuple(f"{row} class {k}" for row, k in zip(rows, label, strict=True)))
