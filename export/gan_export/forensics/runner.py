"""Runs candidates from BatchNorm to BatchNorm, sharing what they have in common, and solves for the latent's moments.

Where only linear layers stand before the first BatchNorm, the mean of every channel is a known multiple of E[z] plus a
constant, and its variance a known multiple of Var[z] (components independent, one law) plus what its places differ by
on average. So a law that is none of those tried can be named: U(0, 2) has mean 1 and variance 0.33.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from gan_core.process import usable_cores
from gan_core.spec.layers import Activation, Conv, ConvTranspose, Layer, Linear, PixelShuffle, Reshape, Shape, Upsample
from gan_export.draft import Draft
from gan_export.forensics import shortcuts
from gan_export.forensics.statistics import (
    Moments,
    apply_layer,
    label_batch,
    layer_weights,
    median_misfit,
    moments,
    remembered,
    steps,
    symmetric_kl,
    training_batch,
    witnesses,
)

T = TypeVar("T")
R = TypeVar("R")
MOST_SIDES = 4
"""Parts at the same time, at most: each keeps the path of its candidates in memory."""
_here = threading.local()

SOME_CHANNELS = 64
"""Channels of a BatchNorm that a rough run computes where there are more: the median over them is about the same."""


def side_by_side(work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """`work(items)`, done by parts of `items` on several cores at the same time; each result is of its item alone.

    One candidate at a time keeps no two cores busy: its layers are small, and much of the time is Python's.
    """
    count = min(usable_cores(), MOST_SIDES, len(items))
    if count < 2 or getattr(_here, "aside", False):
        return work(items)
    bounds = [len(items) * side // count for side in range(count + 1)]
    threads = torch.get_num_threads()

    def begin() -> None:
        _here.aside = True
        torch.set_num_threads(max(1, threads // count))

    def done(side: int) -> list[R]:
        with torch.inference_mode():
            return work(items[bounds[side] : bounds[side + 1]])

    try:
        with ThreadPoolExecutor(count, initializer=begin) as pool:
            return list(itertools.chain.from_iterable(pool.map(done, range(count))))
    finally:
        torch.set_num_threads(threads)


class Runner:
    """Runs candidates over one segment: from the latent, or from what arrived at a BatchNorm, to the next BatchNorm.

    arrived  float32 (N, …), what arrived at layer `start`; None for the first segment, which starts with the latent
    rows     how many of those (or of the latents from `seed` on) to run; the BatchNorm at `start` sees these alone, as
             it saw its batches: the first few of a generator that draws much the same may be far from all

    The path of the last candidate is kept; the next one starts where its layers first differ. So run them in an
    order in which neighbours share their first layers. With `rough`, convolutions that differ in their padding alone
    are run once, with all there is, and cut, and the last one computes some of its channels only, about `channels`:
    right for many candidates on few rows. With `few`, it computes some places of each image only
    (`gan_export.forensics.shortcuts`).
    """

    def __init__(
        self, arrived: Tensor | None, start: int, rows: int, seed: int, *, rough: bool = False,
        few: shortcuts.Few | None = None, channels: int = SOME_CHANNELS,
    ) -> None:  # fmt: skip
        self._rough, self._few, self._channels = rough, few, channels
        self._arrived = None if arrived is None else arrived[:rows]
        self._moments: Moments | None = None if arrived is None else moments(arrived[:rows], correction=0)
        self._start, self._rows, self._seed = start, rows, seed
        self._path: list[tuple[object, Tensor | shortcuts.Places]] = []

    def misfits(self, draft: Draft, stop: int) -> Tensor:
        """How far what arrives at the BatchNorm at layer `stop` lies from what it remembers: float64 (channels run,),
        in nats, infinite where a number is not finite."""
        arrived, memory = moments(self.run(draft, stop)), remembered(draft, stop)
        every = len(memory.mean) // len(arrived.mean)
        memory = Moments(memory.mean[::every], memory.var[::every])
        return symmetric_kl(arrived, memory).nan_to_num(nan=float("inf"))

    def run(self, draft: Draft, stop: int) -> Tensor:
        """What arrives at layer `stop` in `draft`: float32 (rows, *shape), with `rough` every so manieth channel, and
        (1, channels, places of all rows) where some places were computed."""
        spec = draft.spec
        parts: list[_Part] = []
        short = self._rough or self._few is not None
        thin = shortcuts.last_convolution(spec.layers, self._start, stop) if short else None
        every = 1
        for i, layer, shape, held in steps(draft, self._start, stop):
            if i == thin and self._rough:
                every = shortcuts.every(layer, self._channels)
                layer = shortcuts.thinned(layer, every)
            elif every > 1:
                shape = (shape[0] // every, *shape[1:])
            taken = every if i == thin else 1
            whole, cut = (shortcuts.widest(layer) if self._rough or i == thin else None) or (layer, None)
            worth = i == thin and self._rows * whole.products(shape) >= shortcuts.WORTH
            few = self._few if worth else None
            if few and not shortcuts.sampled(whole, shape, cut, self._rows, spec.layers[i + 1 : stop], few):
                few = None
            if not (few or self._rough):
                whole, cut = layer, None
            before = parts.pop() if few and parts and isinstance(parts[-1].layer, Upsample) else None
            parts.append(_Part(i, shape, whole, held, every=taken, few=few, first=before))
            if cut or few:
                parts.append(_Part(i, shape, layer, held, cut or (0, 0), taken, few))
        keys: list[object] = [(spec.interface.latent, spec.interface.z_dim, draft.trained), *parts]
        common = 0
        while common < min(len(keys), len(self._path)) and keys[common] == self._path[common][0]:
            common += 1
        del self._path[common:]
        if not self._path:
            first = self._arrived
            if first is None:
                first = training_batch(draft, self._rows, self._seed)
            self._path.append((keys[0], first))
        for part in parts[len(self._path) - 1 :]:
            self._path.append((part, self._apply(part, draft, self._path[-1][1])))
        made = self._path[-1][1]
        assert isinstance(made, Tensor)
        return made

    def _apply(self, part: _Part, draft: Draft, x: Tensor | shortcuts.Places) -> Tensor | shortcuts.Places:
        if isinstance(x, shortcuts.Places):
            assert part.cut is not None
            return x.cut(part.cut)
        weights = shortcuts.thinned_weights(part.layer, part.weights, part.every)
        if part.cut is not None:
            return shortcuts.cut_out(x, part.cut, weights.get("bias"))
        if part.few:
            first = part.first
            before = None if first is None else lambda some: apply_layer(first.layer, first.shape, {}, some, None, None)
            return shortcuts.places(part.layer, weights, x, part.shape, part.few, before)
        arrived = self._moments if part.index == self._start else None
        labels = label_batch(draft.spec.interface.n_classes, self._rows)
        made = apply_layer(part.layer, part.shape, weights, x, labels, arrived)
        # Upsampling and convolutions are several times faster with the channels last.
        return made.contiguous(memory_format=torch.channels_last) if made.dim() == 4 else made


@dataclass(frozen=True)
class _Part:
    """One layer, or what is cut off (places at the start, at the end) of a convolution run with more padding; of the
    layer's channels each `every`th, and `few` of its places. `first` is an upsampling in front, run with it."""

    index: int
    shape: Shape
    layer: Layer
    weights: dict[str, Tensor] = field(compare=False, repr=False)
    cut: tuple[int, int] | None = None
    every: int = 1
    few: shortcuts.Few | None = None
    first: _Part | None = None


_LINEAR = (Linear, Conv, ConvTranspose, Reshape, Upsample, PixelShuffle)


def latent_moments(draft: Draft, samples: int, seed: int) -> tuple[float, float, float] | None:
    """(mean, variance, misfit) of a component of z by least squares over channels and the median over channels, and how
    the first witness fits latents of these moments; None where it does not show them: an activation, a norm or a label
    stands before it."""
    spec, stop = draft.spec, witnesses(draft)[0]
    for layer in spec.layers[:stop]:
        if not isinstance(layer, _LINEAR) and not (isinstance(layer, Activation) and layer.name == "identity"):
            return None
    memory = remembered(draft, stop)

    def answer(value: float) -> Tensor:
        """What reaches each channel at each place, (C, places), when every component of z is `value`."""
        x = torch.full((1, spec.interface.z_dim), value)
        for i in range(stop):
            x = apply_layer(spec.layers[i], spec.shapes[i], layer_weights(draft, i), x, None, None)
        return x.transpose(0, 1).flatten(1).double()

    constant = answer(0.0)
    slope = answer(1.0) - constant
    means = slope.mean(dim=1)
    gap = memory.mean.double() - constant.mean(dim=1)
    mean = float((gap * means).sum() / means.square().sum().clamp_min(1e-30))

    def between_places(value: float) -> Tensor:
        """The part of a channel's variance that comes from its places differing on average."""
        return (constant + value * slope).var(dim=1, correction=0)

    arrived = moments(Runner(None, 0, samples, seed).run(draft, stop))
    unit = {"normal": 1.0, "uniform": 1.0 / 3.0, "uniform01": 1.0 / 12.0}[spec.interface.latent]
    ratio = (memory.var.double() - between_places(mean)) / (arrived.var - between_places(0.0))
    times = float(ratio.median())
    var = between_places(mean) + times * (arrived.var - between_places(0.0))
    return mean, unit * times, median_misfit(Moments(constant.mean(dim=1) + mean * means, var), memory)
