"""The end of the network, which no BatchNorm remembers: what squashes the last layer's values, and their range.

What can be seen is how large those values are. Values of ±4 are no picture: something squashes them. Whether that is
tanh to [-1, 1] or a sigmoid to [0, 1] they hardly say, since sigmoid(x) = (tanh(x / 2) + 1) / 2: both make a picture.
One thing speaks: pictures nearly always hold some black and some white. Where only tanh would reach them, it is tanh,
probably. Values that stay within [-1, 1] and fill it may be a picture as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gan_core.spec.layers import BatchNorm
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.candidates import LAWS
from gan_export.forensics.statistics import apply_layer, label_batch, latent_batch, layer_weights, remembered
from gan_export.understanding.edit import with_value

SAMPLES = 128
BLACK, WHITE = 16 / 255, 239 / 255
"""Of a picture's values in [0, 1], the darkest hundredth is expected below BLACK and the brightest above WHITE."""
FILLS = (0.8, 1.3)
"""Values whose 99.5 % quantile of |x| lies between these fill [-1, 1] without any squashing."""
FAINT = 0.02

TANH: dict[str, Any] = {"name": "tanh", "slope": None, "value_range": [-1.0, 1.0]}
IDENTITY: dict[str, Any] = {"name": "identity", "slope": None}


@dataclass(frozen=True)
class Extremes:
    """Quantiles of what reaches the output activation: 0.5 % and 1 % from below and above, and 99.5 % of |x|."""

    least: float
    low: float
    high: float
    most: float
    size: float


def extremes(x: Tensor) -> Extremes:
    """The quantiles of `x` (float, any shape); at most a few hundred thousand of its values are looked at."""
    flat = x.detach().float().flatten()
    flat = flat[:: max(1, len(flat) // 400_000)]
    least, low, high, most = torch.quantile(flat, torch.tensor([0.005, 0.01, 0.99, 0.995])).tolist()
    return Extremes(least, low, high, most, float(torch.quantile(flat.abs(), 0.995)))


def before_output(draft: Draft, layer: int, seed: int) -> Tensor:
    """What reaches layer `layer` in eval mode: float32 (SAMPLES, …)."""
    spec = draft.spec
    assert spec.interface.latent in LAWS
    x, labels = (
        latent_batch(spec.interface.z_dim, spec.interface.latent, SAMPLES, seed),
        label_batch(spec.interface.n_classes, SAMPLES),
    )
    for i, part in enumerate(spec.layers[:layer]):
        memory = remembered(draft, i) if isinstance(part, BatchNorm) else None
        x = apply_layer(part, spec.shapes[i], layer_weights(draft, i), x, labels, memory)
    return x


def judge_output(draft: Draft, seed: int = 0) -> Draft:
    """`draft` with its "output" choice updated, unless that was proved or strong or there is none.

    Values that fill [-1, 1] as they are speak for no activation and against whatever was assumed: even odds."""
    choice = next((c for c in draft.choices if c.field == "output"), None)
    if choice is None or choice.layer is None or choice.evidence.settled:
        return draft
    seen = extremes(before_output(draft, choice.layer, seed))
    value, evidence, reason = verdict(seen, choice)
    edited = with_value(draft, choice, value, evidence=evidence, reason=reason)
    if FILLS[0] <= seen.size <= FILLS[1]:
        even = tuple(replace(c, odds=1.0) if c.field == "output" else c for c in edited.choices)
        edited = replace(edited, choices=even)
    return replace(edited, fit=draft.fit)


def doubted(draft: Draft) -> Draft:
    """`draft` with an output that a known family has as weak evidence: people edit the end of a network most, and
    neither shapes nor BatchNorms show it."""

    def judged(choice: Choice) -> Choice:
        if choice.field != "output" or choice.evidence is not Evidence.STRONG:
            return choice
        return replace(choice, evidence=Evidence.WEAK, reason=f"{choice.reason}; nothing in the file shows it")

    return replace(draft, choices=tuple(judged(choice) for choice in draft.choices))


def verdict(seen: Extremes, choice: Choice) -> tuple[dict[str, Any], Evidence, str]:
    """(value, evidence, reason) for the output, from the quantiles before it. Never stronger than weak."""
    span = f"99 in 100 of the last layer's values lie in {seen.least:.2f} … {seen.most:.2f}"
    if not (FILLS[0] <= seen.size <= FILLS[1]) or _is(choice, "identity"):
        if seen.size < FILLS[0] or _is(choice, "identity"):
            return choice.value, choice.evidence, f"{choice.reason}; {span}, which settles nothing"
        tanh_reaches = torch.tanh(torch.tensor(seen.low)) < 2 * BLACK - 1 and torch.tanh(torch.tensor(seen.high)) > 0.5
        dull = torch.sigmoid(torch.tensor(seen.low)) > BLACK and torch.sigmoid(torch.tensor(seen.high)) < WHITE
        if tanh_reaches and dull and not _is(choice, "sigmoid"):
            return TANH, Evidence.WEAK, f"{span}: a sigmoid would reach neither black nor white, tanh does"
        if choice.evidence is not Evidence.NONE:
            return choice.value, choice.evidence, f"{choice.reason}; {span}: they are squashed by something"
        return TANH, Evidence.NONE, f"{span}: squashed, by tanh or a sigmoid, which nothing shows; tanh is assumed"
    if choice.evidence is not Evidence.NONE:
        return choice.value, choice.evidence, f"{choice.reason}; {span}, which a picture needs no squashing for"
    value_range = [0.0, 1.0] if seen.least > -FAINT else [-1.0, 1.0]
    fills = f"{span}, which fill [{value_range[0]:g}, {value_range[1]:g}] as they are"
    return IDENTITY | {"value_range": value_range}, Evidence.WEAK, f"{fills}: no activation"


def _is(choice: Choice, name: str) -> bool:
    return choice.evidence is not Evidence.NONE and bool(choice.value["name"] == name)
