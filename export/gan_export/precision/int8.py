"""Static 8-bit quantisation, calibrated on latents of the model's own law, as much of it as the images bear.

The first and the last layer stay in float: they see latents and draw pixels, cost little and hurt most. (Where none of
the others can be quantised, as in a small MLP, the last is tried.) The ranges of the others are measured. How far they
reach out towards what far latents draw is searched: wide ranges are coarse for ordinary images, narrow ones cut off the
far ones. Where the worst image of the proof would still miss the limit, as few as possible of the layers that hurt most
by themselves go back to float. Layers of few products, and those that make the output `styles`, are never quantised.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from gan_core.arrays import F32, F64
from gan_core.errors import JobError
from gan_core.golden import inputs
from gan_core.limits import limits_for
from gan_export.artefact import contract_of, stamp, to_bytes
from gan_export.passes.graph import nodes_of, used_once
from gan_export.precision import Range, before_styles, layer_name, measure, range_of
from gan_export.precision.qdq import Layer, quantisable, quantise, store
from gan_export.proof.cases import PRODUCTS, Case, spread, widest
from gan_export.proof.parity import Differences, run_cases
from gan_export.proof.prove import WEIGHTED
from gan_export.proof.reference import Reference
from gan_export.source import Source
from gan_serve.runtime.onnx_generator import OnnxGenerator

CALIBRATION_SEEDS = range(1_000_000, 1_000_128)
"""Not the seeds of the proof."""
LEAST_IMAGES = 8
LEAST_SHARE = 1 / 200
"""Of all multiplications: a layer with fewer is not worth its rounding."""
REACHES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
"""Where a range ends between the ordinary latents' (0) and the far ones' (1)."""
MARGIN_DB = 1.0
"""The search goes on until the limit is passed by so much: other machines round a little differently."""
FAR_DB = 5.0
"""What images of far latents may be worse by than ordinary ones: nobody gets one by accident."""
STORED_DB = 0.5
"""What the weights of layers in float32, saved in 8 bits, may cost the worst image."""
MOST_GROUPS = 24
"""Layers are tried alone; of more than so many, neighbours together."""

Unit = list[str]
"""Layers that are in integers or in float32 together, by name."""

_SHIFT = 19
"""float32 without so many last bits: its sign, its exponent and four more bits."""
_PLACES = ((np.arange(1 << (32 - _SHIFT), dtype=np.uint32) << _SHIFT) + (1 << (_SHIFT - 1))).view(np.float32)
_PARTS = np.linspace(1, 0.1, 37)
"""Of a range, to end it nearer to zero."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tensor was in some images.

    counts  how many values fell between each two of `_PLACES`
    sums    of each channel (axis 1), over `images` images and all places
    """

    range: Range
    counts: npt.NDArray[np.int64]
    sums: F64
    images: int

    @classmethod
    def of(cls, value: F32) -> Seen:
        """Of (batch, …)."""
        counts = np.bincount(np.ascontiguousarray(value).view(np.uint32).ravel() >> _SHIFT, minlength=_PLACES.size)
        images = len(value) if value.ndim else 1
        sums = value.mean((0, *range(2, value.ndim)), dtype=np.float64) * images if value.ndim > 1 else np.zeros(1)
        return cls(range_of(value), counts, sums, images)

    def __or__(self, other: Seen) -> Seen:
        sums = self.sums + other.sums if self.sums.shape == other.sums.shape else self.sums
        return Seen(self.range | other.range, self.counts + other.counts, sums, self.images + other.images)

    def fitted(self, slope: float = 1.0) -> Range:
        """The range in which 8 bits err least in the square, over all values; errors below 0 weigh `slope` as much."""
        if not math.isfinite(self.range.largest):
            return self.range
        places = np.flatnonzero(self.counts)
        x = _PLACES[places].astype(np.float64)
        weight = self.counts[places] * np.where(x < 0, slope**2, 1.0)
        lows, highs = min(self.range.low, 0.0) * _PARTS, max(self.range.high, 0.0) * _PARTS
        below = np.square(np.minimum(x - lows[:, None], 0)) @ weight
        above = np.square(np.maximum(x - highs[:, None], 0)) @ weight
        rounding = np.square((highs - lows[:, None]) / 255) / 12 * weight[np.abs(x) > 1e-30].sum()  # 0 is exact
        low, high = np.unravel_index(np.argmin(below[:, None] + above + rounding), rounding.shape)
        return Range(lows[low], highs[high], self.range.size)


def to_int8(model: ir.Model, reference: Reference) -> tuple[ir.Model, tuple[str, ...]]:
    """`model` (float32, of `reference.source`) with its inner layers in 8-bit integers, and the names of the others.

    Raises `JobError` when no layer can be quantised within the limit.
    """
    seen = measure(model, calibration(reference.source), Seen.of)
    inner, later = _behind_the_first(model, _worth(model, seen))
    if not later:
        raise JobError(
            "int8: no convolution or product behind the first layer to quantise",
            hint='`precision="fp16"`, or `store="fp16"`, halves the file',
        )
    far = [case for case in reference.cases if case.kind == "far"]
    trial = _Trial(model, reference, seen, measure(model, far, Seen.of))
    found = _search(trial, inner) or (_search(trial, later) if later != inner else None)
    if found is None:
        raise JobError(
            f"int8: not even one layer in integers keeps {limits_for('int8')} (the best: {trial.best_db:.1f} dB)",
            hint='`precision="fp16"`, or `store="fp16"`, halves the file',
        )
    chosen, reach = found
    names = {str(node.outputs[0].name): layer_name(node) for node in model.graph if node.op_type in WEIGHTED}
    kept = tuple(dict.fromkeys(names[name] for name in names if name not in chosen))
    return trial.with_stored_weights(chosen, reach, but={name for unit in later for name in unit}), kept


def calibration(source: Source) -> list[Case]:
    """Latents of the model's law that are not the proof's, or images; with classes, every class in turn at least once.
    There are fewer, evenly spaced classes too, where they would take more multiplications than `PRODUCTS`."""
    n_classes = source.interface.n_classes
    wanted = max(len(CALIBRATION_SEEDS), n_classes)
    count = max(LEAST_IMAGES, min(wanted, PRODUCTS // max(source.products, 1)))
    z = inputs(source.interface, range(CALIBRATION_SEEDS.start, CALIBRATION_SEEDS.start + count))
    label = np.resize(spread(n_classes, count), count) if n_classes else None
    return [Case("calibration", z, label, ())]


def _worth(model: ir.Model, seen: Mapping[str, Seen]) -> list[Layer]:
    """The layers whose integers save time: not those of few products, such as styles, excitations and filters, nor
    those that make the output `styles`."""
    mapping = before_styles(model)
    products = {
        layer: layer.weight.size // layer.weight.shape[layer.axis] * seen[layer.name].range.size
        for layer in quantisable(model)
        if layer.node not in mapping
    }
    least = LEAST_SHARE * sum(products.values())
    return [layer for layer, count in products.items() if count >= least]


def _behind_the_first(model: ir.Model, layers: list[Layer]) -> tuple[list[Unit], list[Unit]]:
    """The layers that have a weighted node before them and one after, and all that have one before, by name."""
    behind: set[ir.Value] = set()
    for node in model.graph:
        if node.op_type in WEIGHTED or behind.intersection(node.inputs):
            behind.update(node.outputs)
    before: set[ir.Value | None] = set()
    for node in reversed(model.graph):
        if node.op_type in WEIGHTED or before.intersection(node.outputs):
            before.update(node.inputs)
    later = [layer for layer in layers if layer.node.inputs[0] in behind]
    return _units(layer for layer in later if layer.node.outputs[0] in before), _units(later)


def _units(layers: Iterable[Layer]) -> list[Unit]:
    """By the weight in the checkpoint: the phases of a transposed convolution are one layer."""
    found: dict[str, Unit] = {}
    for layer in layers:
        found.setdefault(layer_name(layer.node), []).append(layer.name)
    return list(found.values())


class _Trial:
    """Quantises some layers and draws the proof's images."""

    def __init__(
        self, model: ir.Model, reference: Reference, ordinary: Mapping[str, Seen], far: Mapping[str, Seen]
    ) -> None:
        self.model, self.reference = model, reference
        slopes = {
            str(node.inputs[0].name): node.attributes.get_float("alpha", 0.01)
            for node in nodes_of(model, "LeakyRelu") if node.inputs[0] is not None and used_once(node.inputs[0])
        }  # fmt: skip
        self.ordinary = {name: seen.fitted(slopes.get(name, 1.0)) for name, seen in ordinary.items()}
        self.wide = {name: self.ordinary[name] | seen.fitted(slopes.get(name, 1.0)) for name, seen in far.items()}
        self.means = {name: seen.sums / seen.images for name, seen in ordinary.items()}
        self.best_db = -np.inf
        self._known: dict[tuple[tuple[str, ...], float], float] = {}

    def quantised(self, layers: Collection[str], reach: float) -> ir.Model:
        ranges = {name: _between(seen, self.wide[name], reach) for name, seen in self.ordinary.items()}
        return quantise(self.model, layers, ranges, self.means)

    def with_stored_weights(self, layers: Collection[str], reach: float, but: Collection[str]) -> ir.Model:
        """The model with those layers in integers; the weights of the others in 8 bits, too, `but` those of some, where
        that costs the images next to nothing."""
        made = self.quantised(layers, reach)
        stored = store(made, [layer for layer in quantisable(made) if layer.name not in but])
        if stored is made:
            return made
        lost = self.psnr_db(layers, reach) - self._worst_db(self._generator(stored), self.reference.cases)
        return stored if lost <= STORED_DB else made

    def psnr_db(self, layers: Collection[str], reach: float) -> float:
        """The worst image's PSNR."""
        key = tuple(layers), reach
        if key not in self._known:
            self._known[key] = self._worst_db(self._generator(self.quantised(layers, reach)), self.reference.cases)
            self.best_db = max(self.best_db, self._known[key])
        return self._known[key]

    def few(self, layers: Collection[str], reach: float) -> tuple[float, float]:
        """The PSNR of the worst image of a few ordinary latents, and of as many far ones; or of images."""
        generator, cases = self._generator(self.quantised(layers, reach)), self.reference.cases
        far = next(case for case in cases if case.kind == "far")
        enough = (case for case in cases if case.kind == "ordinary" and len(case.z) >= len(far.z))
        ordinary = min(enough, key=lambda case: len(case.z), default=widest(cases))
        return self._worst_db(generator, [ordinary]), self._worst_db(generator, [far])

    def best_reach(self, layers: Collection[str], least: float) -> tuple[bool, float]:
        """(whether no image of the proof falls below `least`, the reach that draws ordinary images best where that is
        so, or by a few images else)."""
        found = {reach: self.few(layers, reach) for reach in REACHES}
        self.best_db = max(self.best_db, *map(min, found.values()))
        order = sorted(found, key=lambda reach: min(found[reach][0], found[reach][1] + FAR_DB), reverse=True)
        for reach in order:
            if min(found[reach]) >= least and self.psnr_db(layers, reach) >= least:
                return True, reach
        return False, max(found, key=lambda reach: min(found[reach]))

    def _generator(self, model: ir.Model) -> OnnxGenerator:
        contract = contract_of(self.reference.source, precision="int8")
        return OnnxGenerator(to_bytes(stamp(ir.to_proto(model), contract)), "cpu")

    def _worst_db(self, generator: OnnxGenerator, cases: Iterable[Case]) -> float:
        differences = Differences(self.reference)
        failures = run_cases(generator, cases, [differences])
        if failures:
            raise JobError(
                f"int8: the quantised graph does not run on a {failures[0][0].name}: {failures[0][1]}",
                hint='export with `precision="fp32"` or `precision="fp16"`',
            )
        return differences.worst_psnr_db


def _search(trial: _Trial, units: list[Unit]) -> tuple[Unit, float] | None:
    """(layers, reach) with as many of `units` as pass, the worst of them left out; None when none pass."""
    limit = limits_for("int8").min_psnr_db or 0.0

    def tried(units: list[Unit]) -> tuple[bool, float, Unit]:
        """(whether they pass, the best reach, their layers)"""
        layers = [name for unit in units for name in unit]
        return *trial.best_reach(layers, limit + (MARGIN_DB if len(units) > 1 else 0.0)), layers

    if not units:
        return None
    passes, reach, layers = tried(units)
    if passes or len(units) < 2:
        return (layers, reach) if passes else None
    size = -(-len(units) // MOST_GROUPS)
    groups = [units[i : i + size] for i in range(0, len(units), size)]
    alone = [min(trial.few([name for unit in group for name in unit], reach)) for group in groups]
    order = sorted((place for place, psnr_db in enumerate(alone) if psnr_db >= limit), key=alone.__getitem__)
    found: tuple[Unit, float] | None = None
    low, high = int(len(order) == len(groups)), len(order)
    while low < high:
        middle = (low + high) // 2
        passes, reach, layers = tried([unit for place in sorted(order[middle:]) for unit in groups[place]])
        if passes:
            found, high = (layers, reach), middle
        else:
            low = middle + 1
    return found or (_search(trial, groups[int(np.argmax(alone))]) if size > 1 else None)


def _between(ordinary: Range, wide: Range, reach: float) -> Range:
    low = ordinary.low + reach * (wide.low - ordinary.low)
    return Range(low, ordinary.high + reach * (wide.high - ordinary.high))
