"""What the fits say of the file as a whole: where nothing fits, no evidence is strong, and the draft says why.

A BatchNorm that no candidate fits means that the truth was not tried, or that the file's statistics are not those of
its weights. What was found before it stands. What was found at it and behind it rests on a network that does not fit,
and is no stronger than weak. A latent law that no spec has is the exception: the first BatchNorm normalises it away.

Running variances that are off by one factor in one channel and by ten times that in another are nobody's network: the
author trained and drew in train mode, with the statistics of each batch, and the running ones are of no use. In eval
mode such a network draws something else than its author saw. Then not even a known family is believed unasked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.candidates import segment_of
from gan_export.forensics.divergence import GOOD
from gan_export.forensics.latent import latent_moments
from gan_export.forensics.runner import Runner
from gan_export.forensics.statistics import moments, remembered, witnesses

SCATTERED = 10.0
"""Variances off by factors that differ by more than this between channels (a tenth from either end) fit no network."""


def distrusted(draft: Draft, fits: Sequence[float], samples: int, seed: int) -> Draft:
    """`draft`, whose BatchNorms misfit by `fits`, with notes on what fits nothing, and evidence no stronger than it."""
    norms = witnesses(draft)
    bad = [k for k, fit in enumerate(fits) if fit > GOOD]
    if not bad:
        return draft
    notes: list[str] = []
    first, scatter = bad[0], 1.0
    if first == 0:
        scatter = _scatter(draft, samples, seed)
        solved = latent_moments(draft, samples, seed)
        if solved is not None and scatter <= SCATTERED:
            notes.append(
                "neither N(0, 1) nor U(-1, 1) fits: the first BatchNorm speaks of latents with mean "
                f"{solved[0]:.3g} and variance {solved[1]:.3g}"
            )
            first = (bad[1] if len(bad) > 1 else len(norms)) if solved[2] <= GOOD else 0
    listed = ", ".join(f"{k + 1} (layer {norms[k]}): {fits[k]:.2g}" for k in bad)
    if scatter > SCATTERED:
        notes.append(
            f"the running statistics are of no use: nothing that was tried fits BatchNorm {listed}, and its variances "
            f"are off by factors that differ {scatter:.0f} times between channels; its author probably never called "
            "eval(), and in eval mode it does not draw what the author saw"
        )
    else:
        notes.append(
            f"nothing that was tried fits BatchNorm {listed}; either the right candidate is missing, or the file was "
            "used in train mode, or its statistics belong to other weights (EMA weights with the raw ones' buffers)"
        )
    why = f"the statistics of this file contradict every candidate at BatchNorm {first + 1}"

    known = draft.family != "chain" and scatter <= SCATTERED

    def believed(choice: Choice) -> Choice:
        behind = segment_of(draft, choice) >= first if choice.layer is not None else first == 0
        if choice.evidence is Evidence.PROVED or known or not behind:
            return choice
        if choice.evidence is not Evidence.STRONG:
            return replace(choice, odds=None)
        return replace(choice, evidence=Evidence.WEAK, reason=f"{choice.reason}; but {why}", odds=None)

    choices = tuple(believed(choice) for choice in draft.choices)
    return replace(draft, choices=choices, notes=(*draft.notes, *notes))


def _scatter(draft: Draft, samples: int, seed: int) -> float:
    """By how much the factors that the first BatchNorm's variances are off by differ between channels, from the tenth
    to the ninetieth hundredth."""
    stop = witnesses(draft)[0]
    arrived = moments(Runner(None, 0, min(samples, 256), seed).run(draft, stop))
    factors = (remembered(draft, stop).var.double().clamp_min(1e-12) / arrived.var.clamp_min(1e-12)).log()
    low, high = factors.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
    return float(torch.tensor(high - low).exp())
