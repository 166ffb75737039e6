"""What a live module's latents and the values of its output mean.

The latent distribution is read from what its BatchNorms remember (`gan_export.forensics`, for code): latents of each
distribution run through the module with its BatchNorms in training mode, as its training did, and what arrives
at each is compared with its running mean and variance. Nothing in the module changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.latents import LATENT_LAWS, LatentLaw
from gan_export.answers import OUTPUT_RANGES
from gan_export.forensics.statistics import Moments, label_batch, latent_batch, median_misfit, moments, never_trained
from gan_export.live.adapter import LiveGenerator, pick

MOST, LEAST = 256, 32
PIXELS = 1 << 22
"""How many pixels to draw at once, within `LEAST` and `MOST` images."""
GOOD = 0.05
"""A misfit that speaks for a law: true ones are under 0.02, the wrong one near 0.6 at the first BatchNorm."""
CLEAR = 4.0
"""How many times worse the other law has to fit."""
STRANGE = 0.3
"""Where the first BatchNorm misfits each law by more, it saw latents of none: a variance off by a factor 2 is 0.25."""


@dataclass(frozen=True)
class LawEvidence:
    """The law that clearly fits, None where none does, and the misfit of each: the mean over BatchNorms of the median
    symmetric KL, and that of the first."""

    law: LatentLaw | None
    misfits: dict[LatentLaw, float]
    first: dict[LatentLaw, float]

    def __str__(self) -> str:
        """What the BatchNorms say, "" for nothing."""
        if self.law is not None:
            other = next(law for law in self.misfits if law != self.law)
            return (
                f"its BatchNorms remember it (mismatch {self.misfits[self.law]:.2g}, {other} {self.misfits[other]:.2g})"
            )
        if not STRANGE < min(self.first.values()) < float("inf"):
            return ""
        tried = ", ".join(f"{law} {misfit:.2g}" for law, misfit in self.first.items())
        return f"its first BatchNorm saw latents of another one (mismatch {tried}; a good one is under {GOOD:g})"


def latent_evidence(adapter: LiveGenerator) -> LawEvidence | None:
    """What the BatchNorms of `adapter` remember of the law; None when there are none."""
    norms = [part for part in adapter.modules() if _remembers(part)]
    if not norms:
        return None
    arrived = {law: _misfits(adapter, norms, law) or [float("inf")] for law in LATENT_LAWS}
    misfits = {law: sum(each) / len(each) for law, each in arrived.items()}
    best = min(LATENT_LAWS, key=lambda law: misfits[law])
    clear = misfits[best] <= GOOD and max(misfits.values()) >= CLEAR * max(misfits[best], 1e-6)
    return LawEvidence(best if clear else None, misfits, {law: each[0] for law, each in arrived.items()})


def _remembers(part: nn.Module) -> bool:
    if not isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)) or part.running_mean is None or part.running_var is None:
        return False
    return not never_trained(Moments(part.running_mean, part.running_var))


def _misfits(adapter: LiveGenerator, norms: list[nn.Module], law: LatentLaw) -> list[float]:
    """Of each BatchNorm in the order in which they run; empty for a forward that does not run so."""
    arrived: list[float] = []

    def compare(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        arrived.append(median_misfit(moments(inputs[0]), Moments(norm.running_mean, norm.running_var)))

    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    hooks = [norm.register_forward_pre_hook(compare) for norm in norms]
    assert adapter.picked is not None
    _, height, width = adapter.picked.image
    n = min(MOST, max(LEAST, PIXELS // (height * width)))
    z, label = latent_batch(adapter.call.z_dim, law, n, seed=0), label_batch(adapter.call.n_classes, n)
    try:
        for norm in norms:  # momentum 0 leaves the running statistics as they are
            norm.training, norm.momentum, norm.num_batches_tracked = True, 0.0, None  # type: ignore[assignment]
        with torch.no_grad():
            adapter.output(z, label)
    except Exception:  # it leaves no evidence
        return []
    finally:
        for hook in hooks:
            hook.remove()
        for norm, momentum, counter in kept:
            norm.training, norm.momentum, norm.num_batches_tracked = False, momentum, counter
    return arrived


SAMPLES = 16
"""How many images are looked at for the range of their values."""
OVERSHOOT = 0.1
"""Share of values that may lie outside [-1, 1] of a generator that ends without an activation."""
FAR = 4.0
_LAST: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.Hardtanh: "hardtanh"}


@dataclass(frozen=True)
class ValueRange:
    """The values of (black, white), and the assumption that this rests on, "" for none."""

    ends: tuple[float, float]
    assumption: str = ""


def find_range(
    adapter: LiveGenerator, z: Tensor, activation: str | None, given: tuple[float, float] | None
) -> ValueRange:
    """What was said, else what the last layer shows, else what the values of the images of `z` suggest.

    Raises `GanportError` for values that fit neither [-1, 1] nor [0, 1].
    """
    values, shown = _shown(adapter, z, activation, given)
    if shown is not None:
        return ValueRange(shown)
    low, high = float(values.min()), float(values.max())
    seen = f"nothing but the values seen, {low:.3g} to {high:.3g}, shows it"
    if low >= 0.0 and high <= 1.0:
        return ValueRange((0.0, 1.0), f"value range [0, 1]: {seen}")
    outside = float((values.abs() > 1.0).float().mean())
    if outside <= OVERSHOOT and max(-low, high) <= FAR:
        return ValueRange((-1.0, 1.0), f"value range [-1, 1]: {seen}")
    if low >= 0.0 and high <= 255.0 and high > 2.0:
        raise GanportError(
            f"its values run from {low:.3g} to {high:.3g}, expected images in [-1, 1] or [0, 1]",
            hint="say what they mean: `value_range` 0,255",
        )
    raise GanportError(
        f"its values run from {low:.3g} to {high:.3g}, expected images in [-1, 1] or [0, 1]: logits, or another range?",
        hint="`output_activation` sigmoid or tanh applies one to logits, `value_range` LO,HI names black and white",
    )


def image_range(
    adapter: LiveGenerator, image_NCHW: Tensor, activation: str | None, given: tuple[float, float] | None
) -> ValueRange:
    """As `find_range`, of a network that takes images: of the values that it takes and of those that it makes."""
    values, shown = _shown(adapter, image_NCHW, activation, given)
    dark = float((values < 0.0).float().mean()) > OVERSHOOT
    ends = shown or ((-1.0, 1.0) if dark else (0.0, 1.0))
    if given is not None:
        return ValueRange(given)
    shows = "nothing but the values seen" if shown is None else "its last activation alone"
    return ValueRange(
        ends, f"value range [{ends[0]:g}, {ends[1]:g}] of the images that it takes and makes: {shows} shows it"
    )


def _shown(
    adapter: LiveGenerator, z: Tensor, activation: str | None, given: tuple[float, float] | None
) -> tuple[Tensor, tuple[float, float] | None]:
    """Values float32 of the images of `z`, and the values of (black, white) that were said or that the last layer
    shows."""
    values, last = _run(adapter, z)
    name = activation or last
    return values, given or (None if name is None else OUTPUT_RANGES[name])


def _run(adapter: LiveGenerator, z: Tensor) -> tuple[Tensor, str | None]:
    """Values float32 of the images of `z`, and the activation layer that made them, None when no known layer did."""
    call = adapter.call
    label = torch.arange(len(z)) % call.n_classes if call.n_classes else None
    made: list[tuple[str, Tensor]] = []
    hooks = [
        part.register_forward_hook(lambda part, _, output: made.append((_LAST[type(part)], output)))
        for part in adapter.module.modules()
        if type(part) in _LAST
    ]
    try:
        with torch.no_grad():
            assert adapter.picked is not None
            raw: Tensor = pick(adapter.output(z, label), adapter.picked.path)
            values = adapter(z, label)
    finally:
        for hook in hooks:
            hook.remove()
    last = next((name for name, output in made if output.numel() == raw.numel() and _same(output, raw)), None)
    return values, last


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.reshape(-1), b.reshape(-1)) or torch.equal(a.flatten().sort()[0], b.flatten().sort()[0]))
