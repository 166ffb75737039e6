"""A discriminator, read from its weights: what it says of images, whoever drew them.

It was trained on this generator's images. So it tells a candidate that draws those from one that draws others, without
any statistics in the generator. What its weights do not carry (strides, paddings, pooling, where the label enters) is
found as a path from the image to one number that uses every tensor; its activation is tried, but for PReLU, whose slope
is in the file.

It does not know: skips, attention and minibatch statistics. A discriminator with those is not read. Of an instance norm
without weights nothing is seen, and it is left out.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gan_export.forensics.statistics import Moments, median_misfit, moments
from gan_export.understanding.units import Unit, units_of

SLOPE_COSTS: dict[float | str, float] = {
    0.2: 0.0, 0.0: 2.0, 0.01: 2.0, 0.1: 3.0, 0.05: 4.0, 0.3: 4.0, "elu": 4.5, "selu": 4.5, "gelu": 4.5,
}  # fmt: skip
"""The slopes that people give a discriminator's LeakyReLU (0 is ReLU), other activations, and their costs in nats."""
STRIDED: dict[int, tuple[tuple[int, int, float], ...]] = {
    1: ((1, 0, 0.0),),
    2: ((2, 0, 0.0), (1, 0, 1.0)),
    3: ((2, 1, 0.0), (1, 1, 0.2), (2, 0, 0.6), (1, 0, 0.8)),
    4: ((2, 1, 0.0), (1, 0, 0.3), (2, 0, 0.6), (1, 1, 0.8), (1, 2, 1.0), (4, 0, 1.5)),
    5: ((2, 2, 0.0), (1, 2, 0.3), (1, 0, 0.6), (2, 0, 0.8), (3, 1, 1.0), (2, 1, 1.0)),
    7: ((1, 3, 0.3), (2, 3, 0.3), (1, 0, 0.3), (7, 0, 0.5)),
}  # fmt: skip
"""Kernel → (stride, padding, cost) of a discriminator's convolutions."""
POOLED, AVERAGED, PATCHES = 0.7, 1.5, 1.5
"""What a pooling, a mean over places and a verdict on each place cost."""
MIXED = 1.0
"""What it costs to pool in one place and to stride in another."""
MOST_PATHS, MOST_STEPS = 4, 4000
"""Paths kept, and steps of the search for them."""

MOST_CLASSES = 100

Image = tuple[int, int, int]


@dataclass(frozen=True)
class _Path:
    """A way from an image through some units. `shape` is what the last of them makes: (C, H, W) or (n,)."""

    shape: tuple[int, ...]
    moves: tuple[tuple[str, int, int, int], ...] = ()
    """(what, unit, stride, padding): "conv", "linear", "norm", "prelu", "pool", "flatten", "mean"."""
    cost: float = 0.0
    label: str = ""


@dataclass(frozen=True)
class Discriminator:
    """One way to run a discriminator on images of one shape.

    image    (C, H, W) of the images
    classes  how many classes it is told of, 0 where none
    slope    of its LeakyReLU; 0 is ReLU; or the name of its activation in torch.nn.functional
    given    whether the file holds that slope
    """

    image: Image
    classes: int
    slope: float | str
    given: bool
    _units: tuple[Unit, ...] = field(repr=False)
    _path: _Path = field(repr=False)

    @property
    def cost(self) -> float:
        """How unusual it is to run it so, in nats."""
        return self._path.cost + (0.0 if self.given else SLOPE_COSTS[self.slope])

    @property
    def norms(self) -> int:
        """How many BatchNorms it has."""
        return sum(unit.kind == "batch_norm" for unit in self._units)

    def logits(self, image_NCHW: Tensor, label: Tensor | None = None) -> tuple[Tensor, list[float]]:
        """(what it says of each image, float (N,), before any sigmoid; how far each BatchNorm's running statistics lie
        from these images, in nats)."""
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
                    x = _normalised(x, self._units[i], misfits)
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
        return x.flatten(1).mean(dim=1), misfits


def read_discriminators(tensors: Mapping[str, Tensor], image: Image, classes: int) -> list[Discriminator]:
    """The likeliest ways to run the discriminator with the weights `tensors` on images of `image`; none where none
    takes them. Each comes with the likeliest slope; `sloped` gives the others."""
    units = units_of(tensors)
    slopes = [unit for unit in units if unit.kind == "slope"]
    shared = slopes[0].tensors["weight"] if len(slopes) == 1 and slopes[0].shape == (1,) else None
    if shared is not None:  # one PReLU, for all layers
        units.remove(slopes[0])
    if any(unit.kind == "unknown" for unit in units):
        return []
    slope = next(iter(SLOPE_COSTS)) if shared is None else float(shared)
    for ordered in (units, _norms_behind(units)):
        found = list(itertools.islice(_paths(ordered, image, classes), MOST_PATHS))
        if found:
            known = bool(slopes)
            return [Discriminator(image, classes if p.label else 0, slope, known, tuple(ordered), p) for p in found]
    return []


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


def sloped(found: Sequence[Discriminator]) -> list[Discriminator]:
    """The first of `found` with each of `SLOPE_COSTS`, the others with the two likeliest; as they are where the file
    holds the slope."""
    slopes = list(SLOPE_COSTS)
    return [
        replace(one, slope=slope)
        for i, one in enumerate(found)
        for slope in ([one.slope] if one.given else slopes if i == 0 else slopes[:2])
    ]


def _paths(units: Sequence[Unit], image: Image, classes: int) -> Iterator[_Path]:
    """Ways from the image to one number through all of `units`, the cheapest first."""
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
            if path.shape[0] == 1 and math.prod(path.shape) <= 1024:
                more = PATCHES if len(path.shape) == 3 and path.shape[1] > 1 else 0.0
                heapq.heappush(waiting, (path.cost + more, next(count), at + 1, replace(path, cost=path.cost + more)))
            continue
        for following in _onward(path, units, body[at]):
            heapq.heappush(waiting, (following.cost, next(count), at + 1, following))
        if at and _is_head(units, body, at, path):
            heapq.heappush(waiting, (path.cost + 0.5, next(count), len(body), path))


def _is_head(units: Sequence[Unit], body: Sequence[int], at: int, path: _Path) -> bool:
    """Whether the one unit left is a second head (an auxiliary classifier), and a number is there already."""
    return at == len(body) - 1 and math.prod(path.shape) == 1 and units[body[at]].kind == "linear"


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


def _onward(path: _Path, units: Sequence[Unit], i: int) -> Iterator[_Path]:
    """`path`, taken through the unit `i`."""
    unit, shape = units[i], path.shape
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
                    more = cost + _pool_cost(path) * pools + _irregular(path, units, kernel, stride, padding)
                    yield _moved(path, (makes, grown, grown), more, *before, ("conv", i, stride, padding))
    elif unit.kind == "linear":
        makes, takes = unit.shape
        through = ("linear", i, 0, 0)
        if len(shape) == 1:
            if shape[0] == takes:
                yield _moved(path, (makes,), 0.0, through)
            return
        if math.prod(shape) == takes:
            yield _moved(path, (makes,), 0.0, ("flatten", i, 0, 0), through)
        elif path.moves and shape[0] * (shape[1] // 2) * (shape[2] // 2) == takes:
            yield _moved(path, (makes,), _pool_cost(path), ("pool", i, 0, 0), ("flatten", i, 0, 0), through)
        if path.moves and shape[0] == takes and shape[1] > 1:
            yield _moved(path, (makes,), AVERAGED, ("mean", i, 0, 0), through)


def _pool_cost(path: _Path) -> float:
    """What a pooling costs; who pools once pools throughout."""
    strided = any(what == "conv" and stride > 1 for what, _, stride, _ in path.moves)
    return (0.1 if any(what == "pool" for what, *_ in path.moves) else POOLED) + MIXED * strided


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


def _normalised(x: Tensor, unit: Unit, misfits: list[float]) -> Tensor:
    """`x` through a BatchNorm, by what it remembers, or through an instance or layer norm."""
    held = unit.tensors
    if unit.kind == "norm" and x.dim() == 4:
        return F.instance_norm(x, weight=held["weight"], bias=held["bias"])
    if unit.kind in ("norm", "layer_norm"):
        return F.layer_norm(x, x.shape[1:], held["weight"], held["bias"])
    mean, var = held["running_mean"], held["running_var"]
    misfits.append(median_misfit(moments(x, correction=0), Moments(mean, var)))
    return F.batch_norm(x, mean, var, held.get("weight"), held.get("bias"))


def label_beside(discriminator: Mapping[str, Tensor], generator: Mapping[str, Tensor]) -> int:
    """Classes of a one-hot label that a discriminator of flat images takes beside them, from what its first layer takes
    and the generator's last one makes; 0 where it shows none."""
    if any(unit.kind == "embedding" for unit in units_of(discriminator)):
        return 0
    takes = next((tensor.shape[1] for tensor in discriminator.values() if tensor.dim() in (2, 4)), 0)
    makes = [tensor for tensor in generator.values() if tensor.dim() in (2, 4)]
    if not makes or makes[-1].dim() != 2:
        return 0
    beside = int(takes) - int(makes[-1].shape[0])
    return beside if 1 < beside <= MOST_CLASSES else 0
