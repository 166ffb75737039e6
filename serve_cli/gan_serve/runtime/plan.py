"""What to draw, in order: seeds, the latents of a file (`--latents`), or either in every class.

A plan knows the latent and the class of image i, its file's name and its label. Every output (a
grid, a folder, an array, an animation) takes a plan and its batches; a plan holds no more than the seeds' ranges,
however many images it stands for.
"""

from __future__ import annotations

import abc
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.fields import MAX_CLASSES
from gan_core.files.model_file import check_file, read_pipe
from gan_core.grids import Canvas, class_caption
from gan_core.interface import Interface, class_label
from gan_core.latents import Seeds, default_labels, with_seeds
from gan_core.printable import shorten
from gan_serve.runtime import Labels

if TYPE_CHECKING:
    from gan_serve.runtime.walk import Walk


class Plan(abc.ABC):
    """`n` images of a generator with `contract`; `classes`, where given, are taken in turn.

    cols   how many a row their grid has; None: nearly square
    tiles  images in each grid: all of them, or those of one frame
    seeds  of the images, where each has one of its own; None for given latents
    """

    cols: int | None = None
    seeds: Seeds | None = None

    @property
    def tiles(self) -> int:
        return self.n

    def __init__(self, contract: Contract, n: int, classes: Sequence[int] = ()) -> None:
        self.contract = contract
        self.n = n
        self.classes = np.asarray(classes, np.int64)

    @abc.abstractmethod
    def latents(self, start: int, stop: int) -> F32:
        """The latents of images `start` up to `stop`: float32 (stop - start, z_dim)."""

    def default_labels(self, start: int, stop: int) -> I64:
        """The classes of these images when none were asked for."""
        return np.arange(start, stop, dtype=np.int64) % self.contract.interface.n_classes

    @abc.abstractmethod
    def stem(self, index: int) -> str:
        """The name of image `index`'s file, without a suffix."""

    @abc.abstractmethod
    def text(self, index: int) -> dict[str, str]:
        """What image `index` is, as the text of its file."""

    @abc.abstractmethod
    def number(self, index: int) -> tuple[str, str]:
        """What image `index` is of its kind: ("seed", "7")."""

    def captions(self, start: int, stop: int) -> list[tuple[str, ...]]:
        """What stands under images `start` up to `stop` in a grid, the words for it from the longest to the shortest.

        Their classes where the images are of several; else their seeds.
        """
        labels = self.labels(start, stop) if self._of_several_classes else None
        if labels is None:
            return [(f"{kind} {number}", number) for kind, number in map(self.number, range(start, stop))]
        return [class_caption(self.contract.interface, label) for label in labels.tolist()]

    @cached_property
    def _of_several_classes(self) -> bool:
        labels = self.labels(0, min(self.n, MAX_CLASSES))
        return labels is not None and bool((labels != labels[0]).any())

    def fed_labels(self, start: int, stop: int) -> Labels:
        """What the generator is given for `labels`."""
        return self.labels(start, stop)

    def labels(self, start: int, stop: int) -> I64 | None:
        """The classes of images `start` up to `stop`, int64; None for an unconditional generator."""
        if not self.contract.interface.conditional:
            return None
        if not len(self.classes):
            return self.default_labels(start, stop)
        taken: I64 = self.classes[np.arange(start, stop) % len(self.classes)]
        return taken

    def describe(self) -> dict[str, str]:
        """What the images have in common, as the text of a picture."""
        return {"gan.classes": shorten(",".join(map(str, self.classes)))} if len(self.classes) else {}

    def class_text(self, index: int) -> dict[str, str]:
        """{"gan.class": "3 cat"} for a conditional generator."""
        labels = self.labels(index, index + 1)
        if labels is None:
            return {}
        return {"gan.class": class_label(self.contract.interface, int(labels[0]))}


class SeedPlan(Plan):
    """The images of seeds; `noisy`: each with noise of its own. Raises `GanportError` for a truncation out of range."""

    seeds: Seeds

    def __init__(
        self,
        contract: Contract,
        seeds: Seeds,
        classes: Sequence[int] = (),
        truncation: float | None = None,
        *,
        noisy: bool = False,
    ) -> None:
        super().__init__(contract, len(seeds), classes)
        self.seeds, self.truncation, self.noisy = seeds, truncation, noisy
        contract.interface.latents([], truncation)

    def latents(self, start: int, stop: int) -> F32:
        seeds = self.seeds.array(start, stop)
        z = self.contract.interface.latents(seeds, self.truncation)
        return with_seeds(z, seeds) if self.noisy else z

    def default_labels(self, start: int, stop: int) -> I64:
        return default_labels(self.seeds.array(start, stop), self.contract.interface.n_classes)

    def number(self, index: int) -> tuple[str, str]:
        return "seed", str(self.seeds[index])

    def stem(self, index: int) -> str:
        name = f"seed{self.seeds[index]:06d}"
        if len(self.classes):
            name += f"-class{self.classes[index % len(self.classes)]}"
        return name

    def describe(self) -> dict[str, str]:
        text = {"gan.seeds": shorten(str(self.seeds))} | super().describe()
        return text if self.truncation is None else text | {"gan.truncation": f"{self.truncation:g}"}

    def text(self, index: int) -> dict[str, str]:
        text = {"gan.seed": str(self.seeds[index])} | self.class_text(index)
        return text if self.truncation is None else text | {"gan.truncation": f"{self.truncation:g}"}


class LatentPlan(Plan):
    """The images of given latents: float (n, z_dim), which may be mapped from a file. `source` names them."""

    def __init__(self, contract: Contract, z: npt.NDArray[Any], source: str, classes: Sequence[int] = ()) -> None:
        super().__init__(contract, len(z), classes)
        self._z = z
        self._source = source

    def latents(self, start: int, stop: int) -> F32:
        with np.errstate(over="ignore"):
            z: F32 = np.ascontiguousarray(self._z[start:stop], np.float32)
        if not np.isfinite(z).all():
            row = start + int(np.flatnonzero(~np.isfinite(z).all(axis=1))[0])
            raise GanportError(f"{self._source}: latent {row} holds NaN or infinity", hint="save finite numbers")
        return z

    def number(self, index: int) -> tuple[str, str]:
        return "row", str(index)

    def stem(self, index: int) -> str:
        return f"latent{index:06d}"

    def describe(self) -> dict[str, str]:
        return {"gan.latents": self._source} | super().describe()

    def text(self, index: int) -> dict[str, str]:
        return {"gan.latents": f"{self._source} row {index}"} | self.class_text(index)


class ByClassPlan(Plan):
    """`base`'s images in the first of `classes`, then all of them in the next, and so on.

    base     whose latents are taken; its own classes are not
    classes  in the order of the rows; empty: all that the generator has
    Raises `GanportError` for a generator without classes.
    """

    def __init__(self, base: Plan, classes: Sequence[int] = ()) -> None:
        chosen = every_class(base.contract.interface, classes)
        super().__init__(base.contract, base.n * len(chosen), chosen)
        self._base = base
        self.cols = base.n
        self.seeds = None if base.seeds is None else Seeds(base.seeds.parts * len(chosen))

    def latents(self, start: int, stop: int) -> F32:
        width, rows = self._base.n, [self._base.latents(0, 0)]
        while start < stop:
            row, column = divmod(start, width)
            end = min(stop, (row + 1) * width)
            rows.append(self._base.latents(column, column + end - start))
            start = end
        return np.concatenate(rows)

    def labels(self, start: int, stop: int) -> I64:
        labels: I64 = self.classes[np.arange(start, stop) // self._base.n]
        return labels

    def number(self, index: int) -> tuple[str, str]:
        return self._base.number(index % self._base.n)

    def stem(self, index: int) -> str:
        row, column = divmod(index, self._base.n)
        return f"{self._base.stem(column)}-class{self.classes[row]}"

    def text(self, index: int) -> dict[str, str]:
        return self._base.text(index % self._base.n) | self.class_text(index)

    def describe(self) -> dict[str, str]:
        return self._base.describe() | super().describe() | {"gan.rows": "classes"}


def every_class(interface: Interface, classes: Sequence[int] = ()) -> Sequence[int]:
    """`classes`, or all that there are. Raises `GanportError` for a generator without classes."""
    if not interface.conditional:
        raise GanportError("this generator has no classes", hint="leave `by_class` out")
    return classes or range(interface.n_classes)


class WalkPlan(Plan):
    """The images of a walk: frame by frame, and in each the images of its `tiles`.

    walk   `classes` and `seeds` are what it was made of
    cols   tiles a row of a frame
    """

    seeds: Seeds

    def __init__(
        self, contract: Contract, walk: Walk, seeds: Seeds, classes: Sequence[int] = (), cols: int | None = None
    ) -> None:
        super().__init__(contract, len(walk), classes)
        self.walk, self.seeds, self.cols = walk, seeds, cols

    @property
    def tiles(self) -> int:
        return self.walk.tiles

    def latents(self, start: int, stop: int) -> F32:
        return self.walk.latents(start, stop)

    def labels(self, start: int, stop: int) -> I64 | None:
        return self.walk.nearest_classes(start, stop)

    def fed_labels(self, start: int, stop: int) -> Labels:
        return self.walk.labels(start, stop)

    def number(self, index: int) -> tuple[str, str]:
        return "walk", str(index % self.tiles)

    def stem(self, index: int) -> str:
        return f"frame{index // self.tiles:06d}-walk{index % self.tiles}"

    def describe(self) -> dict[str, str]:
        return {"gan.seeds": shorten(str(self.seeds))} | super().describe()

    def text(self, index: int) -> dict[str, str]:
        return {"gan.frame": str(index // self.tiles)} | self.class_text(index)


def pictures(plan: Plan, canvas: Canvas, batches: Iterable[U8], *, captioned: bool) -> Iterator[U8]:
    """The grids of the plan's images, uint8 (H', W', C), one after the other: each `plan.tiles` of them.

    The array is the canvas's own, and drawn over by the next.
    """
    done = 0
    for pixels_NHWC in batches:
        while len(pixels_NHWC):
            part = pixels_NHWC[: plan.tiles - done % plan.tiles]
            canvas.add(part, plan.captions(done, done + len(part)) if captioned else ())
            done, pixels_NHWC = done + len(part), pixels_NHWC[len(part) :]
            if done % plan.tiles == 0:
                yield canvas.picture_HWC
                canvas.restart()


def open_latents(path: Path) -> npt.NDArray[Any]:
    """The numbers of a .npy file, of any shape; mapped and not read, so that there may be many, but for a pipe's.

    Raises `GanportError` for a file that is missing, or no .npy of numbers.
    """
    piped = read_pipe(path)
    if piped is None:
        check_file(
            path,
            "latents",
            lambda folder: f"name the file in it: {folder}/z.npy",
            missing="check the path; numpy.save writes such a file",
        )
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # NumPy's, of a shape beyond what a number holds
            z = np.load(path, mmap_mode="r", allow_pickle=False) if piped is None else np.load(io.BytesIO(piped))
    except Exception as error:  # NumPy reads the header as Python's literals, and raises whatever that does
        raise GanportError(f"{path} is not a .npy file of numbers", hint="numpy.save writes one") from error
    if not isinstance(z, np.ndarray):
        raise GanportError(f"{path} is an archive of arrays, expected one array (.npy)", hint="numpy.save writes one")
    if z.dtype.kind not in "fiu":
        raise GanportError(
            f"{path} holds {z.dtype}, expected numbers", hint="save it as floats: numpy.save(file, z.astype('float32'))"
        )
    if z.ndim == 0:
        raise GanportError(
            f"{path} holds latents of shape (), expected numbers of shape (n, z_dim)", hint="save one row a latent"
        )
    latents: npt.NDArray[Any] = z
    return latents


def fit_latents(z: npt.NDArray[Any], path: Path, z_dim: int) -> npt.NDArray[Any]:
    """The latents of `path` as (n, z_dim).

    (n, z_dim, 1, 1), as the DCGAN tutorial has them, and (z_dim,) for one are taken too. Raises `GanportError` for
    another shape.
    """
    expected = f"expected numbers of shape (n, {z_dim})"
    shape = z.shape
    if z.ndim == 1 and len(z) == z_dim:
        z = z[None]
    if z.ndim == 4 and z.shape[2:] == (1, 1):
        z = z[:, :, 0, 0]
    if z.ndim != 2 or z.shape[1] != z_dim:
        raise GanportError(
            f"{path} holds latents of shape {shape}, {expected}",
            hint="gan-gen --model FILE --info says how many components a latent of this generator has",
        )
    if not len(z):
        raise GanportError(f"{path} holds no latents, {expected} with n at least 1", hint="save one row a latent")
    return z
