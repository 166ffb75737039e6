"""Running statistics that no network brings: their author trained and drew in train mode, and never used them.

The variance that reaches each channel of the first BatchNorm follows from the weights before it: under N(0, 1), under
U(-1, 1), and, up to one factor, under any other law whose components are alike. Running variances that are off by one
factor in one channel and by ten times that in another are nobody's. In eval mode such a file draws something else than
its author saw. Then such a BatchNorm is not asked, and none where what the others remember fits nothing either; what is
open then is decided as in a file without BatchNorm, on images drawn with statistics that are computed again
(`gan_export.recompute`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_core.spec.layers import BatchNorm
from gan_export.answers import Answers
from gan_export.assumptions import AS_YOU_SAID, STATISTICS
from gan_export.draft import Choice, Draft, Evidence, Latents
from gan_export.forensics.runner import Runner
from gan_export.forensics.search import SLACK
from gan_export.forensics.statistics import (
    GOOD,
    VAR_FLOOR,
    median_misfit,
    moments,
    remembered,
    witnesses,
)
from gan_export.forensics.trials import TIE
from gan_export.recompute import latents_for, latents_said, nothing_to_recompute
from gan_export.understanding.edit import with_values

SCATTERED = 10.0
"""Variances off by factors that differ by more than this between channels (a tenth from either end) fit no network.
Of 68 files of strangers and of our own, the worst of the good ones has 4.5, one without eval() 500."""
SAMPLES = 256
PREFIXES = 8
"""Ways to reach the first BatchNorm that are tried."""
BEFORE = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "gelu")
"""Activations that are tried where some are open before the first BatchNorm."""


def useless(drafts: Sequence[Draft]) -> float | None:
    """How scattered the first BatchNorm's variances are, in the best of `drafts`, where that is nobody's; else None."""
    found = float("inf")
    for draft in prefixes(drafts):
        found = min(found, _scatter(draft))
        if found <= SCATTERED:
            return None
    return found


def prefixes(drafts: Sequence[Draft]) -> list[Draft]:
    """Of the first of `drafts`, one for each way to reach the first BatchNorm."""

    def prefix(draft: Draft) -> object:
        norms = witnesses(draft)
        return draft.spec.layers[: norms[0]] if norms else ()

    found: dict[object, Draft] = {}
    for draft in drafts[:PREFIXES]:
        found.setdefault(prefix(draft), draft)
    return list(found.values())


def _scatter(draft: Draft) -> float:
    """By how much the factors that the first BatchNorm's variances are off by differ between channels, from the tenth
    to the ninetieth hundredth; infinite where they are no numbers, 1 without any that remembers."""
    norms = witnesses(draft)
    if not norms:
        return 1.0
    memory, found = remembered(draft, norms[0]), []
    for one in ways(draft, norms[0]):
        with torch.inference_mode():
            arrived = moments(Runner(None, 0, SAMPLES, 0).run(one, norms[0]))
        factors = (memory.var.double().clamp_min(1e-12) / arrived.var.clamp_min(1e-12)).log()
        if not bool(torch.isfinite(factors).all() and torch.isfinite(memory.mean).all()):
            return float("inf")
        low, high = factors.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
        found.append(float(torch.tensor(high - low).exp()))
    return min(found)


def ways(draft: Draft, stop: int) -> list[Draft]:
    """`draft` with each activation of `BEFORE` in the places before layer `stop` where it is open."""
    open_ones = [c for c in draft.choices if c.field == "activation" and not c.evidence.settled]
    before = [c for c in open_ones if c.layer is not None and c.layer < stop]
    if not before:
        return [draft]
    return [with_values(draft, before, [{"name": n, "slope": None}] * len(before)) for n in BEFORE]


def forgotten(tensors: Mapping[str, Tensor], draft: Draft, *, every: bool = False) -> dict[str, Tensor]:
    """`tensors`, of which `draft` was made, with its BatchNorms as new: each, or those up to the first whose variances
    a network could bring."""
    gone: dict[int, Tensor] = {}
    while witnesses(draft) and (every or _scatter(draft) > SCATTERED):
        at = witnesses(draft)[0]
        held = draft.weights[at]
        new = {
            "running_mean": torch.zeros_like(held["running_mean"]),
            "running_var": torch.ones_like(held["running_var"]),
        }
        gone |= {id(held[name]): tensor for name, tensor in new.items()}
        draft = replace(draft, weights=(*draft.weights[:at], held | new, *draft.weights[at + 1 :]))
    return {name: gone.get(id(tensor), tensor) for name, tensor in tensors.items()}


def of_no_use(factor: float, latents: int) -> str:
    """What is said of such a file, in a line."""
    off = f"off by factors that differ {factor:.0f} times between channels" if factor < float("inf") else "no numbers"
    return (
        "the running statistics are of no use: the author used train mode; `recompute_stats` re-estimates them from "
        f"{latents} latents (the variances at the first BatchNorm are {off})"
    )


@dataclass(frozen=True)
class Anew:
    """That running statistics are computed again: from how many latents, and why."""

    latents: int
    evidence: Evidence
    reason: str


def statistics_anew(
    drafts: list[Draft], answers: Answers, on_note: Callable[[str], None], *, decoder: bool = False
) -> Anew | None:
    """Whether the running statistics are to be computed again: the user says so, or they are of no use. Those of a
    `decoder`, which had other latents in training than N(0, 1), are taken as they are."""
    interface = drafts[0].spec.interface
    if answers.recompute_stats:
        if not any(isinstance(layer, BatchNorm) for layer in drafts[0].spec.layers):
            raise nothing_to_recompute()
        return Anew(latents_said(answers, interface), Evidence.PROVED, AS_YOU_SAID)
    factor = None if decoder or answers.recompute_stats is False else useless(drafts)
    if factor is None:
        return None
    n = latents_for(interface)
    on_note(of_no_use(factor, n))
    return Anew(n, Evidence.WEAK, of_no_use(factor, n))


def restated(draft: Draft, anew: Anew | None) -> Draft:
    """`draft` as `anew` says, where that is not None, and with a choice for it."""
    if anew is None:
        return draft
    value = f"recomputed from {anew.latents} latents"
    choice = Choice(None, STATISTICS, value, anew.evidence, anew.reason)
    return replace(draft, recomputed=anew.latents, choices=(*draft.choices, choice))


LEAST, MOST = 1 / 16, 16.0
"""Spreads that are tried."""
ROUGH, FINE = (256, 256, 256), (2048, 2048)
"""Latents that are run for each of the tries, which come nearer and nearer to a spread."""
MUCH = 4.0
"""So many times better than latents of the usual width must others fit."""


def spread_of(drafts: Sequence[Draft]) -> float:
    """How many times wider than N(0, 1) the latents were that the first BatchNorm of `drafts` remembers, in the one
    that fits best, of about equal ones the likeliest; 1 where latents of that width fit, or none fits much better.

    An encoder made the latents of an autoencoder's training, so they may be wider than those it generates from. It
    shows where something stands before the BatchNorm that normalising does not undo. The chain is then judged on
    latents so wide; what it generates from stays N(0, 1).
    """
    if not witnesses(drafts[0]):
        return 1.0
    reached = _reached(drafts)
    usual = min(_tried(one, 1.0, FINE[-1])[0] for one in reached)
    if usual <= GOOD:
        return 1.0
    rough = [_best_spread(one, 1.0, ROUGH) for one in reached]
    limit = TIE * min(fit for fit, _ in rough) + GOOD
    found = [_best_spread(one, at, FINE) for one, (fit, at) in zip(reached, rough, strict=True) if fit <= limit]
    best = min(fit for fit, _ in found)
    if usual <= MUCH * best:
        return 1.0
    return next(width for fit, width in found if fit <= TIE * best + SLACK)


def _reached(drafts: Sequence[Draft]) -> list[Draft]:
    """One draft for each way to reach the first BatchNorm."""
    return [one for draft in prefixes(drafts) for one in ways(draft, witnesses(draft)[0])]


def encoded_of(drafts: Sequence[Draft], encoded: Sequence[Latents]) -> Latents | None:
    """The one of `encoded`, latents that an encoder may have made in training, that the first BatchNorm of `drafts`
    remembers; None where N(0, 1) fits, or none of them much better."""
    if not encoded or not witnesses(drafts[0]):
        return None
    reached = _reached(drafts)
    usual = min(_tried(one, 1.0, ROUGH[0])[0] for one in reached)
    if usual <= GOOD:
        return None
    found = [min(_tried(one, latents, ROUGH[0])[0] for one in reached) for latents in encoded]
    best = min(range(len(found)), key=found.__getitem__)
    return encoded[best] if found[best] <= min(GOOD, usual / MUCH) else None


def _best_spread(draft: Draft, width: float, rounds: Sequence[int]) -> tuple[float, float]:
    """(misfit, spread) of the spread that fits `draft` best, from `width` on."""
    tries = []
    for samples in rounds:
        fit, factor = _tried(draft, width, samples)
        tries.append((fit, width))
        width = min(MOST, max(LEAST, width * factor))
    return min(tries)


def _tried(draft: Draft, trained: float | Latents, samples: int) -> tuple[float, float]:
    """What the first BatchNorm misfits by with such latents, and how many times wider its inputs should be."""
    stop = witnesses(draft)[0]
    with torch.inference_mode():
        arrived = moments(Runner(None, 0, samples, 0).run(replace(draft, trained=trained), stop))
    memory = remembered(draft, stop)
    ratios = (memory.var.double() / arrived.var.clamp_min(VAR_FLOOR)).sqrt()
    return median_misfit(arrived, memory), float(ratios.nan_to_num(nan=1.0).median())
