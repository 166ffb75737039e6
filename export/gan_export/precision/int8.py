"""Static 8-bit quantisation, calibrated on latents of the model's own law, as much of it as the images bear.

The first and the last layer stay in float: they see latents and draw pixels, cost little and hurt most. (Where none of
the others can be quantised, as in a small MLP, the last is tried.) The ranges of the others are measured. How far they
reach out towards what far latents draw is searched: wide ranges are coarse for ordinary images, narrow ones cut off the
far ones. Where the worst image of the proof would still miss the limit, as few as possible of the layers that hurt most
by themselves go back to float. Layers of few products, and those that make the output `styles`, are never quantised.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from gan_core.errors import JobError
from gan_core.golden import inputs
from gan_core.limits import limits_for
from gan_export.artefact import contract_of, stamp, to_bytes
from gan_export.precision import Range, before_styles, layer_name, measure_ranges
from gan_export.precision.qdq import Layer, quantisable, quantise
from gan_export.proof.cases import PRODUCTS, Case, spread
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
MOST_GROUPS = 24
"""Layers are tried alone; of more than so many, neighbours together."""

Ranges = Mapping[str, Range]


def to_int8(model: ir.Model, reference: Reference) -> tuple[ir.Model, tuple[str, ...]]:
    """`model` (float32, of `reference.source`) with its inner layers in 8-bit integers, and the names of the others.

    Raises `JobError` when no layer can be quantised within the limit.
    """
    ordinary = measure_ranges(model, calibration(reference.source))
    inner, later = _behind_the_first(model, _worth(model, ordinary))
    if not later:
        raise JobError(
            "int8: no convolution or product behind the first layer to quantise",
            hint='`precision="fp16"`, or `store="fp16"`, halves the file',
        )
    far = [case for case in reference.cases if case.kind == "far"]
    wide = {name: seen | ordinary[name] for name, seen in measure_ranges(model, far).items()}
    trial = _Trial(model, reference, ordinary, wide)
    found = _search(trial, inner) or (_search(trial, later) if later != inner else None)
    names = {str(node.outputs[0].name): layer_name(node) for node in model.graph if node.op_type in WEIGHTED}
    if found is None:
        raise JobError(
            f"int8: not even one layer in integers keeps {limits_for('int8')} (the best: {trial.best_db:.1f} dB)",
            hint='`precision="fp16"`, or `store="fp16"`, halves the file',
        )
    chosen, reach = found
    return trial.quantised(chosen, reach), tuple(names[name] for name in names if name not in chosen)


def calibration(source: Source) -> list[Case]:
    """Latents of the model's law that are not the proof's, or images; with classes, every class in turn at least once.
    There are fewer, evenly spaced classes too, where they would take more multiplications than `PRODUCTS`."""
    n_classes = source.interface.n_classes
    wanted = max(len(CALIBRATION_SEEDS), n_classes)
    count = max(LEAST_IMAGES, min(wanted, PRODUCTS // max(source.products, 1)))
    z = inputs(source.interface, range(CALIBRATION_SEEDS.start, CALIBRATION_SEEDS.start + count))
    label = np.resize(spread(n_classes, count), count) if n_classes else None
    return [Case("calibration", z, label, ())]


def _worth(model: ir.Model, ranges: Ranges) -> list[Layer]:
    """The layers whose integers save time: not those of few products, such as styles, excitations and filters, nor
    those that make the output `styles`."""
    mapping = before_styles(model)
    products = {
        layer: layer.weight.size // layer.weight.shape[layer.axis] * ranges[layer.name].size
        for layer in quantisable(model)
        if layer.node not in mapping
    }
    least = LEAST_SHARE * sum(products.values())
    return [layer for layer, count in products.items() if count >= least]


def _behind_the_first(model: ir.Model, layers: list[Layer]) -> tuple[list[str], list[str]]:
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
    return [layer.name for layer in later if layer.node.outputs[0] in before], [layer.name for layer in later]


class _Trial:
    """Quantises some layers and draws the proof's images."""

    def __init__(self, model: ir.Model, reference: Reference, ordinary: Ranges, wide: Ranges) -> None:
        self.model, self.reference = model, reference
        self.ordinary, self.wide = ordinary, wide
        self.best_db = -np.inf

    def quantised(self, layers: Collection[str], reach: float) -> ir.Model:
        ranges = {name: _between(seen, self.wide[name], reach) for name, seen in self.ordinary.items()}
        return quantise(self.model, layers, ranges)

    def psnr_db(self, layers: Collection[str], reach: float, few: bool = False) -> float:
        """The worst image's PSNR; of a `few` of the proof's batches."""
        contract = contract_of(self.reference.source, precision="int8")
        stamped = stamp(ir.to_proto(self.quantised(layers, reach)), contract)
        differences = Differences(self.reference)
        cases = self.reference.cases
        if few:
            cases = tuple(next(case for case in cases if case.kind == kind) for kind in ("ordinary", "far"))
        failures = run_cases(OnnxGenerator(to_bytes(stamped), "cpu"), cases, [differences])
        if failures:
            raise JobError(
                f"int8: the quantised graph does not run on a {failures[0][0].name}: {failures[0][1]}",
                hint='export with `precision="fp32"` or `precision="fp16"`',
            )
        found = differences.worst_psnr_db
        self.best_db = max(self.best_db, found)
        return found

    def best_reach(self, layers: Collection[str]) -> tuple[float, float]:
        """(PSNR, reach) of the reach that draws a few batches best."""
        _, reach = max((self.psnr_db(layers, reach, few=True), reach) for reach in REACHES)
        return self.psnr_db(layers, reach), reach


def _search(trial: _Trial, inner: list[str]) -> tuple[list[str], float] | None:
    """(layers, reach) with as many of `inner` as pass, the worst of them left out; None when none pass."""
    limit = limits_for("int8").min_psnr_db or 0.0

    def tried(layers: list[str]) -> tuple[bool, float]:
        """(whether they pass, their best reach)"""
        psnr_db, reach = trial.best_reach(layers)
        return psnr_db >= limit + (MARGIN_DB if len(layers) > 1 else 0.0), reach

    if not inner:
        return None
    passes, reach = tried(inner)
    if passes or len(inner) < 2:
        return (inner, reach) if passes else None
    size = -(-len(inner) // MOST_GROUPS)
    groups = [inner[i : i + size] for i in range(0, len(inner), size)]
    alone = {group[0]: trial.psnr_db(group, reach, few=True) for group in groups}
    order = sorted((group for group in groups if alone[group[0]] >= limit), key=lambda group: alone[group[0]])
    found: tuple[list[str], float] | None = None
    low, high = int(len(order) == len(groups)), len(order)
    while low < high:
        middle = (low + high) // 2
        chosen = {name for group in order[middle:] for name in group}
        fewer = [name for name in inner if name in chosen]
        passes, reach = tried(fewer)
        if passes:
            found, high = (fewer, reach), middle
        else:
            low = middle + 1
    return found or (_search(trial, max(groups, key=lambda group: alone[group[0]])) if size > 1 else None)


def _between(ordinary: Range, wide: Range, reach: float) -> Range:
    low = ordinary.low + reach * (wide.low - ordinary.low)
    return Range(low, ordinary.high + reach * (wide.high - ordinary.high))
