"""The PyTorch side of a proof: its inputs, what the module draws of them, and whether it can serve as a reference.

Ordinary latents in batches of 1, 2, 3, 8 and 25 (a graph can be right for one batch size and wrong for the next), zero,
the far ends of the latent distribution, where activations saturate and float16 overflows, and two seeds as every class:
of large images and many classes as much as a budget of pixels allows.

A module that draws noise, that normalises over the batch or was left in training mode makes no fixed image of a
latent; an export that copies it faithfully is as wrong as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from gan_core.arrays import F32, I64
from gan_core.contract import Golden
from gan_core.errors import GanportError, JobError
from gan_core.golden import example_images, golden_entry, inputs
from gan_core.images import to_pixels
from gan_core.interface import Interface
from gan_core.latents import default_labels
from gan_export.proof.report import Check, at_most
from gan_export.source import Source, as_taken
from gan_serve.runtime.batches import Given

BATCHES = (1, 2, 3, 8, 25)
SEEDS = BATCHES[-1]
BUDGET = 2_100 * 128 * 128
"""Pixels (height x width, whatever the channels) that the images of a proof have together: two seeds as each of 1,000
classes at 128x128, and all else, fit in. A batch has at most a sixteenth of it: 25 images of 256x256, 8 of 512x512."""
PRODUCTS = 1 << 39
"""Multiplications that the ordinary images of a proof take together, where they are made of images."""
LEAST_BATCH, LEAST_CLASSES = 3, 8
"""What is drawn however large the images are: batches of up to so many, and so many classes."""
FAR = {"normal": 4.0, "uniform": 1.0}
"""How far out a component can be asked to go: 4 sigma of N(0, 1), the corners of U(-1, 1)."""
NEARER = (2.0, 1.0)
"""Where a network's own float32 is not steady so far out, all components are asked to go so many sigma."""

_BATCH_SHARE = 16
_FAR_ROWS = 6


@dataclass(frozen=True, eq=False)
class Case:
    """One batch. `z` (n, z_dim) or an image's pixels (n, H, W, C), `label` (n,) or None; `rows` says what each row is:
    "seed 7", "seed 7 class 3".

    kind  "ordinary", "zero", "far" or "class"; of images "ordinary", "far" or "size"
    """

    kind: str
    z: Given
    label: I64 | None
    rows: tuple[str, ...]

    @property
    def input(self) -> str:
        """The name of the input that takes `z`."""
        return "input" if self.z.ndim == 4 else "z"

    @property
    def name(self) -> str:
        if self.z.ndim == 4:
            return f"batch of {len(self.z)} images of {self.z.shape[2]}x{self.z.shape[1]}"
        return f"batch of {len(self.z)} {'classes' if self.kind == 'class' else f'{self.kind} latents'}"


def cases(interface: Interface, budget: int = BUDGET, far: float | None = None) -> tuple[Case, ...]:
    """Every batch of a proof, the ordinary ones first, in the order of `BATCHES`.

    Within `budget` pixels, in this order: seeds 0, 1, 2, … in every size of `BATCHES` that a batch has room for; zero;
    the far ends; seed 0 as every class; the seeds up to `SEEDS` that no batch had room for; seed 1 as every class.
    Where not every class fits, those are drawn that lie evenly from the first to the last.

    A generator that takes images is given `gan_core.golden.example_images`, images of nothing but black and white, and
    where it takes any size, other sizes.
    """
    area, z_dim, n_classes = interface.height * interface.width, interface.z_dim, interface.n_classes
    most = max(LEAST_BATCH, budget // (_BATCH_SHARE * area))
    sizes = [size for size in BATCHES if size <= most]
    batch = sizes[-1]
    if interface.input is not None:
        return (*(ordinary(range(size), interface) for size in sizes), *_far_images(interface), *_sizes(interface))
    made = [ordinary(range(size), interface) for size in sizes]
    ends = [_case("zero", np.zeros((2, z_dim), np.float32), ("latent of zeros",) * 2, range(2), n_classes)]
    ends.extend(_far(interface, batch, far or FAR[interface.latent]))
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
    """All components at +far, all at -far, and the signs of a few seeds at ±far; at most `most` in a batch."""
    z_dim = interface.z_dim
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


def _far_images(interface: Interface) -> Iterator[Case]:
    """The sharpest images: pixels of black and white in turn, both ways, and by chance."""
    example = inputs(interface, range(1))[0]
    height, width, channels = example.shape
    turn = np.indices((height, width)).sum(axis=0)[..., None].repeat(channels, axis=2) % 2
    chance = [np.random.default_rng(seed).integers(0, 2, example.shape) for seed in range(2)]
    for images, rows in (
        ([turn, 1 - turn], ("a chessboard of pixels", "the same, inverted")),
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


SECTION = "reference"

ROUNDING_FACTOR = 4.0
"""A file may be this much further from PyTorch than PyTorch's float32 is from exact arithmetic, where that is more than
the usual limit: two right computations differ by the sum of their roundings."""
STEADY = 1e-4
"""The usual limit of max |Δ|, which decides how far the far latents go."""
KEPT_BYTES = 1 << 26
"""Images that are kept for the next file that is compared (int8 tries dozens): all of small ones."""
GOLDEN_IMAGES = 4


class Reference:
    """Draws the cases of a proof, within `budget` pixels, with a source's module on the CPU.

    Networks that take images may spend thousands of times as much on a pixel as others; theirs are fewer then.
    """

    def __init__(self, source: Source, budget: int = BUDGET) -> None:
        self.source = source
        if source.interface.input is not None and source.spec is not None:
            area = source.interface.height * source.interface.width
            budget = min(budget, PRODUCTS // max(source.spec.products // area, 1))
        self._budget = budget
        self._kept: dict[Case, F32] = {}
        self._roundings: dict[Case, float | None] = {}
        self._room = KEPT_BYTES

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases of its interface. Networks that multiply what they make of z (BigGAN) are not steady at 4 sigma."""
        interface = self.source.interface
        made = cases(interface, self._budget)
        self.images(made[0])  # a single latent, whose error is the plainest
        for far in NEARER if interface.input is None and interface.latent == "normal" else ():
            if max(self._rounding(case) or 0.0 for case in made if case.kind == "far") <= ROUNDING_FACTOR * STEADY:
                break
            made = cases(interface, self._budget, far)
        return made

    def images(self, case: Case) -> F32:
        """float32 (n, C, H, W), not to be changed. Raises `JobError` when the module cannot draw them."""
        image_NCHW = self._kept.get(case)
        if image_NCHW is None:
            image_NCHW = self.draw(case)
            if image_NCHW.nbytes <= self._room:
                self._room -= image_NCHW.nbytes
                self._kept[case] = image_NCHW
        return image_NCHW

    @cached_property
    def rounding(self) -> float | None:
        """How far the module's own float32 images are from the same computed in float64: max |Δ|.

        Measured on the far latents and the widest ordinary batch. None for a module that does not run in float64.
        """
        asked = (*(case for case in self.cases if case.kind == "far"), widest(self.cases))
        found = [rounding for case in asked if (rounding := self._rounding(case)) is not None]
        return max(found) if len(found) == len(asked) else None

    def _rounding(self, case: Case) -> float | None:
        """`rounding` of one case."""
        if case not in self._roundings:
            exact = copy.deepcopy(self.source.module).double()
            arguments = [as_taken(torch.from_numpy(case.z), self.source.interface.input, torch.float64)]
            arguments += [] if case.label is None else [torch.from_numpy(case.label)]
            image_NCHW = self.images(case)
            try:
                with torch.no_grad():
                    truth_NCHW = exact(*arguments).numpy()
                self._roundings[case] = float(np.nan_to_num(np.abs(image_NCHW - truth_NCHW), nan=0.0).max())
            except Exception:  # a module with float32 written into it; its rounding stays unknown
                self._roundings[case] = None
        return self._roundings[case]

    @cached_property
    def again(self) -> tuple[F32, F32]:
        """The widest ordinary batch drawn again, and a few of its rows alone: max |Δ| of each image."""
        wide = widest(self.cases)
        together, rows = self.images(wide), alone(wide)
        again = self.run(wide.z, wide.label)
        singles = [self.run(wide.z[i : i + 1], None if wide.label is None else wide.label[i : i + 1]) for i in rows]
        return _per_row(again, together), _per_row(np.concatenate(singles), together[rows])

    def allow(self, tolerance: float) -> float:
        """`tolerance`, or a few times the module's own rounding where that is more.

        Latents at four sigma drive a steep generator far out; there PyTorch's float32 can be 1e-4 from exact
        arithmetic itself, and no file can be closer to it than that.
        """
        return max(tolerance, ROUNDING_FACTOR * (self.rounding or 0.0))

    @property
    def weight_bytes(self) -> int:
        """Size of the module's parameters and buffers."""
        return sum(tensor.nbytes for tensor in self.source.module.state_dict().values())

    def run(self, z: Given, label: I64 | None) -> F32:
        """One batch: float32 (n, C, H, W) in `value_range`."""
        arguments = [as_taken(torch.from_numpy(z), self.source.interface.input)] + (
            [] if label is None else [torch.from_numpy(label)]
        )
        with torch.no_grad():
            image: F32 = self.source.module(*arguments).float().numpy()
        return image

    def draw(self, case: Case) -> F32:
        """float32 (n, C, H, W), drawn now and not kept. Raises as `images`."""
        try:
            image = self.run(case.z, case.label)
        except GanportError:
            raise
        except Exception as error:
            raise JobError(
                f"the PyTorch generator fails on a {case.name}: {str(error).strip().splitlines()[0][:200]}",
                hint="a generator must take any number of latents, or of images",
            ) from error
        expected = (len(case.z), *self.source.interface.made_of(case.z.shape))
        if image.shape != expected:
            raise JobError(
                f"the PyTorch generator makes {image.shape} of a {case.name}, expected {expected}",
                hint="a generator must make one image a latent, of one size; `image` says another size",
            )
        return image


def make_golden(reference: Reference) -> tuple[Golden, ...]:
    """A file's golden set: the first seeds as PyTorch draws them, with the labels that count through the classes."""
    source = reference.source
    entries = []
    for seed in range(GOLDEN_IMAGES):
        case = ordinary(range(seed, seed + 1), source.interface)
        pixels_HWC = to_pixels(reference.draw(case), source.interface.value_range)[0]
        entries.append(golden_entry(seed, None if case.label is None else int(case.label[0]), pixels_HWC))
    return tuple(entries)


def check_reference(reference: Reference, tolerance: float) -> list[Check]:
    """Whether the module is in eval mode, repeats itself, draws each latent whatever its neighbours, and is steady."""
    training = [name or "the module" for name, part in reference.source.module.named_modules() if part.training]
    wide = widest(reference.cases)
    repeat, neighbour = reference.again
    names, where = ", ".join(training[:3]), "in training" if training else ""
    return [
        Check(SECTION, "reference eval mode", not training, len(training) or "none", "none", where, names),
        _limited("reference repeats", repeat, 0.0, wide.rows),
        _limited("reference neighbours", neighbour, reference.allow(tolerance), [wide.rows[i] for i in alone(wide)]),
        _rounding(reference.rounding, ROUNDING_FACTOR * tolerance),
    ]


def _rounding(rounding: float | None, limit: float) -> Check:
    """A module that float32 cannot hold steady has no image that an export could be held to."""
    name = "reference rounding"
    if rounding is None:
        return Check(SECTION, name, True, "unknown", "", "", "does not run in float64")
    return at_most(SECTION, name, rounding, limit, "max |Δ|", "float32 against float64")


def _per_row(a: F32, b: F32) -> F32:
    """max |Δ| of each image; NaN counts as infinite."""
    difference = np.abs(a - b).reshape(len(a), -1).max(axis=1)
    found: F32 = np.where(np.isnan(difference), np.float32(np.inf), difference)
    return found


def _limited(name: str, per_row: F32, limit: float, rows: Sequence[str]) -> Check:
    worst = int(per_row.argmax())
    value = float(per_row[worst])
    return at_most(SECTION, name, value, limit, "max |Δ|", "" if value <= limit else rows[worst])
