"""What arrives at each BatchNorm of a candidate network, what that BatchNorm remembers, and how far the two lie apart.

A BatchNorm in training keeps a running mean and variance of its input. Latents drawn from the right law and run through
the right network bring the same mean and variance; through another network they do not.

The candidate is run as in training: each BatchNorm normalises with the moments of what arrives here, not with those
it remembers. Training did the same, so this is the network whose statistics the file holds. It also keeps an error
where it arises: a latent distribution of the wrong width is normalised away at the first BatchNorm and does not blur
the search behind it, nor do running statistics that lag behind the last weights.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.latents import LatentLaw, latents
from gan_core.spec.layers import BatchNorm, Conv, ConvTranspose, Layer, Shape, Upsample
from gan_export.draft import Draft
from gan_trainer.networks.generator import build_layer

GOOD = 0.02
"""A misfit below this is good: the right network leaves 0.0001 to 0.005."""
FITS = 0.005
"""What a BatchNorm misfits by at most for its fit to count as one that the chain explains."""
VAR_FLOOR = 1e-12
"""Smallest variance that counts: a dead channel divides by this and not by zero."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each channel: two float tensors (C,)."""

    mean: Tensor
    var: Tensor


def symmetric_kl(a: Moments, b: Moments) -> Tensor:
    """KL(a‖b) + KL(b‖a) of the normal distributions with these moments, per channel: (C,), in nats, 0 when equal.

    ½ [(σa² + δ²) / σb² + (σb² + δ²) / σa²] - 1 with δ = μa - μb (Jeffreys 1946). It does not change when a channel is
    scaled or shifted, so channels and layers compare. 0.02 is a standard deviation off by 10 %; a variance off by a
    factor 3, as between U(-1, 1) and N(0, 1), is 0.67.
    """
    var_a, var_b = a.var.double().clamp_min(VAR_FLOOR), b.var.double().clamp_min(VAR_FLOOR)
    gap = (a.mean.double() - b.mean.double()).square()
    return 0.5 * ((var_a + gap) / var_b + (var_b + gap) / var_a) - 1.0


def median_misfit(a: Moments, b: Moments) -> float:
    """The median over channels of `symmetric_kl`: a few dead or drifted channels do not move it."""
    return float(symmetric_kl(a, b).nan_to_num(nan=torch.inf).median())


APART = 5.0
"""A misfit so many times the worst before it is not what a few bad statistics bring."""


def contradicted(fits: Sequence[float]) -> bool:
    """Whether a BatchNorm misfits behind ones that fit: law, weights and statistics belong together, and the layers
    between them do not."""
    first = next((k for k, fit in enumerate(fits) if fit > GOOD), 0)
    return first > 0 and min(fits[:first]) <= FITS and fits[first] > APART * max(fits[:first])


ELEMENTS = 4 << 20
"""Numbers an activation may hold (16 MiB of float32): the sample shrinks as the images grow."""
MIN_SAMPLES = 128
MOST_ELEMENTS = 32 * ELEMENTS
"""Where `MIN_SAMPLES` would hold more numbers than this, fewer are run, but at least `LEAST_SAMPLES`."""
LEAST_SAMPLES = 8
SUMMED = 1 << 13
"""Numbers of a channel that are added up in float32."""
WORK, LEAST_WORKED = 1e10, 64
"""Multiplications from one BatchNorm to the next, about; but so many samples are run whatever they take."""


def moments(x: Tensor, correction: int = 1) -> Moments:
    """Mean and variance per channel (dimension 1) of `x` (N, C, …): float64 (C,).

    `correction` 1 gives the unbiased variance, which BatchNorm remembers, 0 the biased one, with which it normalises.
    """
    each = x[0, 0].numel()
    parts = x.split(max(1, SUMMED // each))
    seen = [torch.batch_norm_update_stats(part, None, None, 0.0) for part in parts]  # torch.var_mean takes far longer
    means, variances = (torch.stack(one).double() for one in zip(*seen, strict=True))
    shares = torch.tensor([len(part) / len(x) for part in parts], dtype=torch.float64)
    mean, n = shares @ means, len(x) * each
    return Moments(mean, shares @ (variances + (means - mean).square()) * (n / max(1, n - correction)))


MOMENTUM = 0.1
"""The share of the running statistics that a batch takes, where nobody chose another."""
VANISHED = 1e-8
"""So small a share of the values that they began with is not taken out of the running statistics."""


def stored(draft: Draft, index: int) -> Moments:
    """The running statistics that the weights hold for the BatchNorm at layer `index`."""
    return Moments(draft.weights[index]["running_mean"].float(), draft.weights[index]["running_var"].float())


def remembered(draft: Draft, index: int) -> Moments:
    """What these statistics say of training: after few batches they hold some of the mean 0 and variance 1 that they
    began with, which is taken out."""
    weights = draft.weights[index]
    return _without_begin(weights["running_mean"], weights["running_var"], draft.batches or 0)


@functools.lru_cache(1024)
def _without_begin(mean: Tensor, var: Tensor, batches: int) -> Moments:
    """As they are where the variances show another momentum. Kept, by the tensors themselves, as in `never_trained`."""
    mean, var, left = mean.float(), var.float(), (1 - MOMENTUM) ** batches
    if not batches or left < VANISHED or bool((var < left * (1 - 1e-4)).any()):
        return Moments(mean, var)
    return Moments(mean / (1 - left), ((var - left) / (1 - left)).clamp_min(0.0))


@functools.lru_cache(4096)
def never_trained(memory: Moments) -> bool:
    """Whether these are the values a new BatchNorm starts with: mean 0 and variance 1 in every channel. Kept, by the
    tensors themselves: a search asks this of the same BatchNorms for each candidate."""
    return bool((memory.mean == 0).all() and (memory.var == 1).all())


def branched(draft: Draft) -> bool:
    """Whether its network is more than a chain: a layer takes what an earlier one made."""
    return any(layer.uses for layer in draft.spec.layers)


def witnesses(draft: Draft) -> tuple[int, ...]:
    """Indices of the BatchNorm layers that have seen training, where the network is a chain; the others remember
    nothing, and what reaches one behind a branch cannot be said layer by layer."""
    if branched(draft):
        return ()
    norms = (i for i, layer in enumerate(draft.spec.layers) if isinstance(layer, BatchNorm))
    return tuple(i for i in norms if not never_trained(stored(draft, i)))


@functools.lru_cache(8)
def latent_batch(z_dim: int, law: LatentLaw, n: int, seed: int) -> Tensor:
    """Latents of the seeds `seed` … `seed + n - 1`: float32 (n, z_dim), kept, not to be changed."""
    with torch.inference_mode(mode=False):  # it may be used where gradients are recorded, too
        return torch.from_numpy(latents(range(seed, seed + n), z_dim, law))


def training_batch(draft: Draft, n: int, seed: int) -> Tensor:
    """Latents like those of the training of `draft`: float32 (n, z_dim), not to be changed."""
    interface = draft.spec.interface
    if callable(draft.trained) and interface.latent == "normal":
        return draft.trained(n, seed)
    width = 1.0 if callable(draft.trained) else draft.trained
    return width * latent_batch(interface.z_dim, interface.latent, n, seed)


def label_batch(n_classes: int, n: int) -> Tensor | None:
    """Every class in turn, so each as often as the others: int64 (n,); None without classes."""
    return torch.arange(n) % n_classes if n_classes else None


def rows_for(shape: Shape, samples: int) -> int:
    """How many of `samples` rows to run where the per-sample shape is `shape`: images average over space too."""
    numbers = math.prod(shape)
    least = max(LEAST_SAMPLES, min(MIN_SAMPLES, MOST_ELEMENTS // numbers))
    return min(samples, max(least, ELEMENTS // numbers))


def rows_between(draft: Draft, start: int, stop: int, samples: int) -> int:
    """How many of `samples` rows to run from layer `start` to `stop`: fewer where images are large or take much."""
    spec = draft.spec
    work = sum(spec.layers[i].products(spec.shapes[i]) for i in range(start, stop))
    return min(rows_for(spec.shapes[stop], samples), max(LEAST_WORKED, int(WORK) // max(work, 1)))


def apply_layer(
    layer: Layer,
    in_shape: Shape,
    weights: dict[str, Tensor],
    x: Tensor,
    labels: Tensor | None,
    arrived: Moments | None,
    used: Sequence[Tensor] = (),
) -> Tensor:
    """One layer of a candidate. `weights` are the layer's own tensors; a BatchNorm normalises with `arrived`.

    `used` has the values that `layer.uses` names.

    Returns float32 (N, *out_shape).
    """
    if isinstance(layer, BatchNorm):
        arrived = arrived or moments(x, correction=0)
        scale = weights.get("weight"), weights.get("bias")
        return F.batch_norm(x, arrived.mean.to(x), arrived.var.to(x), *scale, eps=layer.eps)
    module = _module(layer, in_shape)
    if weights:
        module.load_state_dict(weights, assign=True)
    made: Tensor = layer.apply(torch, module, x, *((labels,) if layer.classes else used))
    return made


@functools.lru_cache(512)
def _module(layer: Layer, in_shape: Shape) -> nn.Module:
    """The module of a layer, its weights still to be assigned; kept, as a search runs the same layer many times."""
    with torch.device("meta"):  # no time lost on initial weights
        return build_layer(layer, in_shape)


def steps(draft: Draft, start: int, stop: int) -> Iterator[tuple[int, Layer, Shape, dict[str, Tensor]]]:
    """(index, layer, the shape that it takes, its tensors) of what is run from layer `start` to `stop`: nearest
    upsampling and the convolution behind it as one transposed convolution, in about half the time."""
    layers, shapes = draft.spec.layers, draft.spec.shapes
    for i in range(start, stop):
        whole = joined(layers[i - 1], layers[i]) if i > start else None
        if whole is not None:
            held = layer_weights(draft, i)
            yield i, whole, shapes[i - 1], held | {"weight": _joined_weight(held["weight"], whole.stride)}
        elif i + 1 == stop or joined(layers[i], layers[i + 1]) is None:
            yield i, layers[i], shapes[i], layer_weights(draft, i)


@functools.lru_cache(1024)
def joined(up: Layer, conv: Layer) -> ConvTranspose | None:
    """The layer that does what `up` and `conv` behind it do; None where no transposed convolution does."""
    if not (isinstance(up, Upsample) and isinstance(conv, Conv)) or up.mode != "nearest" or up.size or up.as_:
        return None
    plain = conv.stride == conv.dilation == conv.groups == 1 and conv.padding_mode == "zeros"
    if not plain or conv.padding >= conv.kernel:
        return None
    kernel, padding = conv.kernel + up.factor - 1, conv.kernel - 1 - conv.padding
    return ConvTranspose(conv.in_channels, conv.out_channels, kernel, up.factor, padding, bias=conv.bias)


@functools.lru_cache(8)
def _joined_weight(weight: Tensor, factor: int) -> Tensor:
    """That layer's weight, from the convolution's. Kept, as a search runs the same layer many times."""
    places = itertools.product(range(factor), repeat=2)
    with torch.inference_mode(mode=False):  # as in `latent_batch`
        flipped = weight.transpose(0, 1).flip(2, 3)
        wider = (F.pad(flipped, (i, factor - 1 - i, j, factor - 1 - j)) for i, j in places)
        return sum(wider, torch.zeros(()))


def run_eval(
    draft: Draft, start: int, stop: int, x: Tensor, labels: Tensor | None, misfits: list[float] | None = None
) -> Tensor:
    """`x`, which reaches layer `start`, at layer `stop` in eval mode; where the statistics are to be recomputed, each
    BatchNorm takes those of `x`, which are not far from them. With `start` above 0 no layer may use a named value.

    With `misfits`, as in training: each BatchNorm normalises with what arrives, and those that saw training add their
    misfit to the list.
    """
    named = {draft.spec.interface.input_name: x}
    named |= {name: torch.from_numpy(option.row) for name, option in draft.spec.interface.options.items()}
    for i, part, shape, held in steps(draft, start, stop):
        memory = stored(draft, i) if isinstance(part, BatchNorm) and not draft.recomputed else None
        if memory is not None and misfits is not None:
            misfits += [] if never_trained(memory) else [median_misfit(moments(x), remembered(draft, i))]
            memory = None
        used = [named[name] for name in part.uses]
        x = apply_layer(part, shape, held, x, labels, memory, used)
        if name := draft.spec.layers[i].as_:
            named[name] = x
    return x


def misfits_of(draft: Draft, samples: int, seed: int = 0) -> tuple[float, ...]:
    """How far what reaches each BatchNorm that saw training lies from what it remembers, in order, in one run of the
    whole network as it stands, of at most `samples` latents of the seeds from `seed` on."""
    spec, found = draft.spec, list[float]()
    rows = min(rows_for(shape, samples) for shape in spec.shapes)
    with torch.inference_mode():
        z, label = training_batch(draft, rows, seed), label_batch(spec.interface.n_classes, rows)
        run_eval(draft, 0, len(spec.layers), z, label, found)
    return tuple(found)


def layer_weights(draft: Draft, index: int) -> dict[str, Tensor]:
    """The tensors of the layer at `index` under their own names, as float32."""
    return {name: tensor.float() for name, tensor in draft.weights[index].items()}
