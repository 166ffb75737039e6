"""What the values of an output mean: which is black and which is white."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.latents import LatentLaw, latents
from gan_export.answers import OUTPUT_RANGES
from gan_export.live.adapter import LiveGenerator
from gan_export.live.call import pick

SAMPLES = 16
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
    adapter: LiveGenerator, law: LatentLaw, activation: str | None, given: tuple[float, float] | None
) -> ValueRange:
    """What was said, else what the last layer shows, else what the values of `SAMPLES` images suggest.

    Raises `GanportError` for values that fit neither [-1, 1] nor [0, 1].
    """
    values, last = _run(adapter, law)
    if given is not None:
        return ValueRange(given)
    if activation is not None:
        return ValueRange(OUTPUT_RANGES[activation])
    if last is not None:
        return ValueRange(OUTPUT_RANGES[last])
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
            hint="say what they mean: --value-range 0,255",
        )
    raise GanportError(
        f"its values run from {low:.3g} to {high:.3g}, expected images in [-1, 1] or [0, 1]: logits, or another range?",
        hint="--output-activation sigmoid or tanh applies one to logits, --value-range LO,HI names black and white",
    )


def _run(adapter: LiveGenerator, law: LatentLaw) -> tuple[Tensor, str | None]:
    """Values float32 of `SAMPLES` images, and the activation layer that made them, None when no known layer did."""
    call = adapter.call
    z = torch.from_numpy(latents(range(SAMPLES), call.z_dim, law))
    label = torch.arange(SAMPLES) % call.n_classes if call.n_classes else None
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
