"""The latents of an autoencoder's training: an encoder made them, so they may be wider than those it generates from.

What the first BatchNorm remembers shows by how much, where something stands before it that its normalising does not
undo. The chain is then judged on latents so wide; what it generates from stays N(0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_export.draft import Draft
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
from gan_export.forensics.train_mode import prefixes, ways
from gan_export.forensics.trials import TIE

LEAST, MOST = 1 / 16, 16.0
"""Spreads that are tried."""
ROUNDS = (256, 256, 256, 2048, 2048)
"""Latents that are run for each of the tries, which come nearer and nearer to a spread."""
MUCH = 4.0
"""So many times better than latents of the usual width must others fit."""


def spread_of(drafts: Sequence[Draft]) -> float:
    """How many times wider than N(0, 1) the latents were that the first BatchNorm of `drafts` remembers, in the one
    that fits best, of about equal ones the likeliest; 1 where latents of that width fit, or none fits much better."""
    if not witnesses(drafts[0]):
        return 1.0
    reached = [one for draft in prefixes(drafts) for one in ways(draft, witnesses(draft)[0])]
    usual = min(_tried(one, 1.0, ROUNDS[-1])[0] for one in reached)
    if usual <= GOOD:
        return 1.0
    found = [_best_spread(one) for one in reached]
    best = min(fit for fit, _ in found)
    if usual <= MUCH * best:
        return 1.0
    return next(width for fit, width in found if fit <= TIE * best + SLACK)


def _best_spread(draft: Draft) -> tuple[float, float]:
    """(misfit, spread) of the spread that fits `draft` best."""
    width, tries = 1.0, []
    for samples in ROUNDS:
        fit, factor = _tried(draft, width, samples)
        tries.append((samples < ROUNDS[-1], fit, width))
        width = min(MOST, max(LEAST, width * factor))
    return min(tries)[1:]


def _tried(draft: Draft, width: float, samples: int) -> tuple[float, float]:
    """What the first BatchNorm misfits by with latents so wide, and how many times wider its inputs should be."""
    stop = witnesses(draft)[0]
    with torch.inference_mode():
        arrived = moments(Runner(None, 0, samples, 0).run(replace(draft, spread=width), stop))
    memory = remembered(draft, stop)
    ratios = (memory.var.double() / arrived.var.clamp_min(VAR_FLOOR)).sqrt()
    return median_misfit(arrived, memory), float(ratios.nan_to_num(nan=1.0).median())
