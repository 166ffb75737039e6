"""A network that takes a generator's images, read from its weights: a discriminator, or the encoder of a VAE.

It was trained with this generator's images or with those that the generator learnt from. So it tells a candidate that
generates such images from one that generates others, without any statistics in the generator. What its weights do not
carry (strides, paddings, pooling, where the label enters) is found as a path from the image to what it makes that uses
every tensor; its activation is tried, but for PReLU, whose slope is in the file.

It does not know: skips, attention and minibatch statistics. A network with those is not read. Of an instance norm
without weights nothing is seen, and it is left out.
"""

from __future__ import annotations

import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_export.forensics.statistics import Moments, median_misfit, moments
from gan_export.understanding.units import EMBEDDING_NAME, Gap, Unit, gap_between, units_of

STRIDED: dict[int, tuple[tuple[int, int, float], ...]] = {
    1: ((1, 0, 0.0),),
    2: ((2, 0, 0.0), (1, 0, 1.0)),
    3: ((2, 1, 0.0), (1, 1, 0.2), (2, 0, 0.6), (1, 0, 0.8)),
    4: ((2, 1, 0.0), (1, 0, 0.3), (2, 0, 0.6), (1, 1, 0.8), (1, 2, 1.0), (4, 0, 1.5)),
    5: ((2, 2, 0.0), (1, 2, 0.3), (1, 0, 0.6), (2, 0, 0.8), (3, 1, 1.0), (2, 1, 1.0)),
    7: ((1, 3, 0.3), (2, 3, 0.3), (1, 0, 0.3), (7, 0, 0.5)),
}  # fmt: skip
"""Kernel → (stride, padding, cost) of a convolution that takes images."""
POOLED, AVERAGED = 0.7, 1.5
"""What a pooling and a mean over places cost."""
UNNAMED = 2.0
"""What it costs to pool where the names have no place for it, or not to where they have one for nothing else."""
MIXED = 1.0
"""What it costs to pool in one place and to stride in another."""
MOST_PATHS, MOST_STEPS = 4, 4000
"""Paths kept, and steps of the search for them."""

Image = tuple[int, int, int]
Slopes = Mapping[float | str, float]
"""Slopes of a LeakyReLU (0 is ReLU) and names of other activations in torch.nn.functional, the likeliest first, and
what they cost in nats."""
Ends = Callable[[tuple[int, ...]], float | None]
"""Shape → what it costs, in nats, that a network ends with it; None where it does not."""
NUMBERS = 6
"""What a network says of images, as numbers: a discriminator the first four, an encoder the other two."""


@dataclass(frozen=True)
class _Path:
    """A way from an image through some units. `shape` is what the last of them makes: (C, H, W) or (n,)."""

    shape: tuple[int, ...]
    moves: tuple[tuple[str, int, int, int], ...] = ()
    """(what, unit, stride, padding): "conv", "linear", "norm", "prelu", "pool", "flatten", "mean"."""
    cost: float = 0.0
    label: str = ""


@dataclass(frozen=True)
class Companion(ABC):
    """One way to run a network beside a generator on images of one shape.

    image    (C, H, W) of the images
    classes  how many classes it is told of, 0 where none
    slope    of its LeakyReLU; 0 is ReLU; or the name of its activation in torch.nn.functional
    cost     how unusual it is to run it so, in nats
    given    whether the file holds that slope
    """

    image: Image
    classes: int
    slope: float | str
    cost: float
    given: bool
    _units: tuple[Unit, ...] = field(repr=False)
    _path: _Path = field(repr=False)

    name = "the network beside it"

    @property
    def norms(self) -> int:
        """How many BatchNorms it has."""
        return sum(unit.kind == "batch_norm" for unit in self._units)

    @abstractmethod
    def says(self, image_NCHW: Tensor, label: Tensor | None, z: Tensor, /) -> Tensor:
        """What it says of images, float32 (N, C, H, W), generated from latents `z`, float32 (N, D), and labels, int64
        (N,): float32 (NUMBERS,), each smaller where these are more likely the images that it knows."""

    def outputs(
        self, image_NCHW: Tensor, label: Tensor | None = None, *, training: bool = False
    ) -> tuple[Tensor, list[float]]:
        """(what it makes of each image, float (N, …), before any last activation; how far each BatchNorm's running
        statistics lie from these images, in nats). In training BatchNorms normalise with what arrives."""
        x = _with_label(self._path.label, self._units, image_NCHW, label, self.classes)
        misfits: list[float] = []
        last = max(i for what, i, _, _ in self._path.moves if what in ("conv", "linear"))
        behind = False
        for at, (what, i, stride, padding) in enumerate(self._path.moves):
            held = self._units[i].tensors
            match what:
                case "conv":
                    x = F.conv2d(x, held["weight"], held.get("bias"), stride, padding)
                case "linear":
                    x = F.linear(x, held["weight"], held.get("bias"))
                case "norm":
                    x = _normalised(x, self._units[i], misfits, training=training)
                case "prelu":
                    x = F.prelu(x, held["weight"])
                case "pool":
                    x = F.max_pool2d(x, 2)
                case "flatten":
                    x = x.flatten(1)
                case "mean":
                    x = x.mean(dim=(2, 3))
            behind = behind or (what in ("conv", "linear") and i == last)
            ahead = self._path.moves[at + 1][0] if at + 1 < len(self._path.moves) else ""
            if what in ("conv", "linear", "norm") and ahead not in ("norm", "prelu") and not behind:
                x = F.leaky_relu(x, self.slope) if isinstance(self.slope, float) else getattr(F, self.slope)(x)
        return x, misfits


Read = TypeVar("Read", bound=Companion)


def read_companions(
    tensors: Mapping[str, Tensor], image: Image, classes: int, make: Callable[..., Read], ends: Ends, slopes: Slopes
) -> list[Read]:
    """The likeliest ways to run the network with the weights `tensors` on images of `image`, made by `make`; none where
    none takes them. Each comes with the likeliest slope; `sloped` gives the others."""
    units = [_as_table(unit, classes) for unit in units_of(tensors)]
    held = [unit for unit in units if unit.kind == "slope"]
    shared = held[0].tensors["weight"] if len(held) == 1 and held[0].shape == (1,) else None
    if shared is not None:  # one PReLU, for all layers
        units.remove(held[0])
    if any(unit.kind == "unknown" for unit in units):
        return []
    slope = next(iter(slopes)) if shared is None else float(shared)
    known = bool(held)
    for ordered in (units, _norms_behind(units)):
        found = itertools.islice(_paths(ordered, image, classes, ends), MOST_PATHS)
        ways = [
            make(
                image=image, classes=classes if path.label else 0, slope=slope,
                cost=path.cost + (0.0 if known else slopes[slope]), given=known, _units=tuple(ordered), _path=path,
            )
            for path in found
        ]  # fmt: skip
        if ways:
            return ways
    return []


def _as_table(unit: Unit, classes: int) -> Unit:
    """`unit`, a linear layer that takes a one-hot label by its name and shape, as the table of what it makes."""
    if not (classes and unit.kind == "linear" and unit.bias and unit.shape[1] == classes):
        return unit
    if not EMBEDDING_NAME.search(unit.name.rpartition(".")[2]):
        return unit
    return replace(unit, kind="embedding", tensors={"weight": unit.tensors["weight"].T + unit.tensors["bias"]})


def _norms_behind(units: Sequence[Unit]) -> list[Unit]:
    """`units` with each norm behind the first convolution or linear layer of its width that has none: who registers
    all layers and then all norms runs them so."""
    norms = [unit for unit in units if unit.kind in ("batch_norm", "norm")]
    ordered: list[Unit] = []
    for unit in units:
        if unit.kind in ("batch_norm", "norm"):
            continue
        ordered.append(unit)
        own = next((i for i, norm in enumerate(norms) if norm.shape[0] == unit.shape[0]), None)
        if own is not None and unit.kind in ("conv", "linear"):
            ordered.append(norms.pop(own))
    return ordered + norms


def sloped(found: Sequence[Read], slopes: Slopes) -> list[Read]:
    """The first of `found` with each of `slopes`, the others with the two likeliest; as they are where the file holds
    the slope."""
    return [
        replace(one, slope=slope, cost=one.cost - slopes[one.slope] + slopes[slope]) if not one.given else one
        for i, one in enumerate(found)
        for slope in ([one.slope] if one.given else list(slopes) if i == 0 else list(slopes)[:2])
    ]


def remembered(misfits: Sequence[float]) -> float:
    """How far images are from what a network's BatchNorms remember, as one of its numbers."""
    return math.log(sum(misfits) / len(misfits) + 0.003) if misfits else math.log(0.003)


def _paths(units: Sequence[Unit], image: Image, classes: int, ends: Ends) -> Iterator[_Path]:
    """Ways from the image to an end through all of `units`, the cheapest first."""
    body = [i for i, unit in enumerate(units) if unit.kind != "embedding"]
    count = itertools.count()
    waiting = [(path.cost, next(count), 0, path) for path in _starts(units, image, classes)]
    heapq.heapify(waiting)
    steps = 0
    while waiting and steps < MOST_STEPS:
        steps += 1
        _, _, at, path = heapq.heappop(waiting)
        if at > len(body):
            yield path
            continue
        if at == len(body):
            more = ends(path.shape)
            if more is not None:
                heapq.heappush(waiting, (path.cost + more, next(count), at + 1, replace(path, cost=path.cost + more)))
            continue
        room = gap_between(units[body[at - 1]].name, units[body[at]].name) if at else Gap()
        for following in _onward(path, units, body[at], room):
            heapq.heappush(waiting, (following.cost, next(count), at + 1, following))
        another_head = at == len(body) - 1 and units[body[at]].kind == "linear"  # an auxiliary classifier
        if path.moves and another_head and ends(path.shape) == 0.0:
            heapq.heappush(waiting, (path.cost + 0.5, next(count), len(body), path))


def _starts(units: Sequence[Unit], image: Image, classes: int) -> list[_Path]:
    channels, height, width = image
    found = [_Path(image)]
    embedded = [unit.shape for unit in units if unit.kind == "embedding"]
    if embedded and embedded[0][0] == classes:
        dim = embedded[0][1]
        if dim == height * width:
            found = [_Path((channels + 1, height, width), label="plane")]
        else:
            flat = math.prod(image) + dim
            found = [
                _Path((flat,), label="embedded behind"),
                _Path((flat,), label="embedded before", cost=0.5),
                _Path((channels + dim, height, width), label="embedded planes", cost=0.5),
            ]
    elif embedded:
        return []
    elif classes:
        flat = math.prod(image) + classes
        found += [
            _Path((flat,), label="one-hot behind"),
            _Path((flat,), label="one-hot before", cost=0.5),
            _Path((channels + classes, height, width), label="one-hot planes", cost=0.5),
        ]
    return found


def _onward(path: _Path, units: Sequence[Unit], i: int, room: Gap) -> Iterator[_Path]:
    """`path`, taken through the unit `i`, before which the names show `room` for modules without tensors."""
    unit, shape = units[i], path.shape
    held = _pool_cost(path, room, pools=False), _pool_cost(path, room, pools=True)
    if unit.kind in ("batch_norm", "norm"):
        alone = unit.kind == "norm" and shape[1:] == (1, 1)  # an instance norm of one place: torch refuses to train it
        if unit.shape[0] == shape[0] and not alone:
            yield _moved(path, shape, 0.0, ("norm", i, 0, 0))
    elif unit.kind == "layer_norm":
        if unit.shape == shape:
            yield _moved(path, shape, 0.0, ("norm", i, 0, 0))
    elif unit.kind == "slope":
        if path.moves and unit.shape[0] in (1, shape[0]):
            yield _moved(path, shape, 0.0, ("prelu", i, 0, 0))
    elif unit.kind == "conv" and len(shape) == 3:
        makes, takes, kernel = unit.shape[:3]
        for side, pools in ((shape[1], 0), (shape[1] // 2, 1)):
            if takes != shape[0] or (pools and (not path.moves or side < 2)):
                continue
            before = [("pool", i, 0, 0)] * pools
            for stride, padding, cost in STRIDED.get(kernel, ((1, kernel // 2, 0.5), (2, kernel // 2, 0.5))):
                grown = (side + 2 * padding - kernel) // stride + 1
                if side + 2 * padding >= kernel and grown >= 1:
                    more = cost + held[pools] + _irregular(path, units, kernel, stride, padding)
                    yield _moved(path, (makes, grown, grown), more, *before, ("conv", i, stride, padding))
    elif unit.kind == "linear":
        makes, takes = unit.shape
        through = ("linear", i, 0, 0)
        if len(shape) == 1:
            if shape[0] == takes:
                yield _moved(path, (makes,), 0.0, through)
            return
        if math.prod(shape) == takes:
            yield _moved(path, (makes,), held[0], ("flatten", i, 0, 0), through)
        elif path.moves and shape[0] * (shape[1] // 2) * (shape[2] // 2) == takes:
            yield _moved(
                path, (makes,), _pool_cost(path, room, pools=True), ("pool", i, 0, 0), ("flatten", i, 0, 0), through
            )
        if path.moves and shape[0] == takes and shape[1] > 1:
            yield _moved(path, (makes,), AVERAGED, ("mean", i, 0, 0), through)


def _pool_cost(path: _Path, room: Gap, *, pools: bool) -> float:
    """What it costs to pool or not to. Who pools once pools throughout; a pooling leaves a hole in the names."""
    hole = room.most is None and room.least > 0 and bool(path.moves)  # a block begins with something without tensors
    if not pools:
        return UNNAMED if hole else 0.0
    strided = any(what == "conv" and stride > 1 for what, _, stride, _ in path.moves)
    usual = 0.1 if hole or any(what == "pool" for what, *_ in path.moves) else POOLED
    return usual + MIXED * strided + (UNNAMED if room.most is not None and room.most < 2 else 0.0)


def _irregular(path: _Path, units: Sequence[Unit], kernel: int, stride: int, padding: int) -> float:
    """What it costs to do otherwise than with the convolution of the same kernel before, or to stride after pooling."""
    if stride > 1 and any(what == "pool" for what, *_ in path.moves):
        return MIXED
    for what, i, was_stride, was_padding in reversed(path.moves):
        if what == "conv" and units[i].shape[-1] == kernel:
            return 0.0 if (was_stride, was_padding) == (stride, padding) else 0.3
    return 0.0


def _moved(path: _Path, shape: tuple[int, ...], cost: float, *moves: tuple[str, int, int, int]) -> _Path:
    return replace(path, shape=shape, moves=(*path.moves, *moves), cost=path.cost + cost)


def _with_label(how: str, units: Sequence[Unit], image: Tensor, label: Tensor | None, classes: int) -> Tensor:
    """What the first layer takes: the image, with its label where the path says so."""
    if not how:
        return image
    assert label is not None
    if how.startswith("one-hot"):
        said = F.one_hot(label, classes).to(image)
    else:
        said = next(unit for unit in units if unit.kind == "embedding").tensors["weight"][label]
    if how == "plane":
        return torch.cat((image, said.reshape(len(image), 1, *image.shape[2:])), dim=1)
    if how.endswith("planes"):
        return torch.cat((image, said[:, :, None, None].expand(-1, -1, *image.shape[2:])), dim=1)
    parts = (image.flatten(1), said)
    return torch.cat(parts if how.endswith("behind") else parts[::-1], dim=1)


def _normalised(x: Tensor, unit: Unit, misfits: list[float], *, training: bool) -> Tensor:
    """`x` through a BatchNorm, by what it remembers, or through an instance or layer norm."""
    held = unit.tensors
    if unit.kind == "norm" and x.dim() == 4:
        return F.instance_norm(x, weight=held["weight"], bias=held["bias"])
    if unit.kind in ("norm", "layer_norm"):
        return F.layer_norm(x, x.shape[1:], held["weight"], held["bias"])
    known = Moments(held["running_mean"], held["running_var"])
    misfits.append(median_misfit(moments(x, correction=0), known))
    mean, var = (None, None) if training else (known.mean, known.var)
    return F.batch_norm(x, mean, var, held.get("weight"), held.get("bias"), training)
