"""What the search says of a draft as a whole: its structure, its end, and whether anything fits at all.

A BatchNorm that no candidate fits means that the truth was not tried, or that the file's statistics are not those of
its weights. What was found before it stands. What was found at it and behind it is no stronger than weak. A latent
distribution that no spec has is the exception: the first BatchNorm normalises it away.

No BatchNorm remembers the end, what squashes the last layer's values. What can be seen is how large those are. Values
of ±4 are no picture: something squashes them. Whether that is tanh to [-1, 1] or a sigmoid to [0, 1] they hardly say,
since sigmoid(x) = (tanh(x / 2) + 1) / 2: both make a picture. One thing speaks: pictures nearly always hold some black
and some white. Where only tanh would reach them, it is tanh, probably. Values that stay within [-1, 1] and fill it may
be a picture as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gan_core.latents import LATENT_LAWS, LAW_WORDS
from gan_core.spec.layers import Conv, ConvTranspose, Linear
from gan_export.draft import Choice, Draft, Evidence, Skip
from gan_export.forensics.evidence import CLEAR, follow_habit, settle
from gan_export.forensics.runner import latent_moments
from gan_export.forensics.search import Outcome
from gan_export.forensics.statistics import (
    GOOD,
    contradicted,
    label_batch,
    latent_batch,
    run_eval,
    witnesses,
)
from gan_export.forensics.trials import segment_of
from gan_export.understanding.edit import find_choice, replaced, with_value

SOUND = 0.004
"""Below this a misfit is no reason to doubt the layers before its BatchNorm, whatever the others are."""
OUT_OF_LINE = 10.0
"""A misfit above SOUND and this many times the best of the BatchNorms before it says that something there is wrong."""
MARGIN = 4.0
"""Other structures that cost more than the best by more than this are not shown."""
RIVALS = 12


def judge_structure(draft: Draft, number: int, outcome: Outcome) -> Draft:
    """`draft` with its "structure" choice judged against the other drafts, which become its `rivals`."""
    choice = draft.structure_choice
    if choice is None:
        return draft
    fits = outcome.states[0].fits
    beside = [other for n, other in outcome.states[0].drafts if n != number]
    same = {n for n, _ in outcome.states[0].drafts}
    closest = min((margin for n, margin in outcome.margins.items() if n not in same), default=None)
    evidence, said = Evidence.STRONG, []
    if choice.evidence is Evidence.PROVED:
        evidence = Evidence.PROVED
    elif closest is not None:
        said.append(f"the next other structure fits the statistics {closest:.3g} times worse, rare ones counted up")
        family = draft.structure is None and choice.evidence is Evidence.STRONG and number == 0
        evidence = Evidence.STRONG if closest >= CLEAR or family else Evidence.WEAK
    if beside and evidence is not Evidence.PROVED:
        said.append(f"{len(beside)} more differ only where no BatchNorm remembers")
        if draft.structure is None:
            settled = choice.evidence is Evidence.STRONG
        else:
            settled = draft.structure.usual and not any(d.structure is None or d.structure.usual for d in beside)
        if settled and draft.structure is not None:
            said[-1] += ", none of them usual"
        evidence = evidence if settled else Evidence.WEAK
    if draft.structure is not None and not draft.structure.listed and evidence is Evidence.STRONG:
        evidence = Evidence.WEAK
        said.append("nobody is known to have written such strides and paddings")
    if outcome.cut and evidence is Evidence.STRONG:
        evidence = Evidence.WEAK
        said.append("there are more structures than were tried")
    if draft.skip and not _answered(draft.skip, fits):
        evidence = Evidence.WEAK
        said.append(draft.skip.reason)
    if out_of_line(fits):
        evidence = Evidence.WEAK
        k = out_of_line(fits)[0]
        worse = (
            f"far worse ({fits[k]:.2g}) than those before it ({min(fits[:k]):.2g})" if k else f"nothing ({fits[k]:.2g})"
        )
        said.append(f"BatchNorm {k + 1} fits {worse}")
    reason = "; ".join(part for part in (choice.reason, *said) if part)
    judged = replaced(draft, replace(choice, evidence=evidence, reason=reason or "shapes allow no other"))
    return replace(judged, rivals=_rivals(draft, beside, outcome) or draft.rivals)


def unwitnessed(draft: Draft) -> Draft:
    """`draft`, for which no BatchNorm speaks: a doubt stays."""
    if draft.skip is None:
        return draft
    choices = tuple(
        replace(c, evidence=Evidence.WEAK, reason=f"{c.reason}; {draft.skip.reason}") if c.field == "structure" else c
        for c in draft.choices
    )
    return replace(draft, choices=choices, contradiction=contradiction(draft, ()))


def out_of_line(fits: Sequence[float]) -> list[int]:
    """The BatchNorms that misfit though the ones before them fit, or that nothing fits."""
    return [k for k, fit in enumerate(fits) if fit > GOOD or (k and SOUND < fit > OUT_OF_LINE * min(fits[:k]))]


def contradiction(draft: Draft, fits: Sequence[float]) -> str | None:
    """Why `draft` cannot be the network, or None.

    Either the first BatchNorms fit, so law, weights and statistics belong together, and a later one fits no chain; or
    the names say that it is none, and no BatchNorm speaks for it.
    """
    norms = witnesses(draft)
    if draft.structure is not None and contradicted(fits) and _may_skip(draft, norms[out_of_line(fits)[-1]]):
        listed = ", ".join(f"{k + 1} (layer {norms[k]}): {fit:.2g}" for k, fit in enumerate(fits) if fit > GOOD)
        missing = "its names say a residual network" if draft.skip and draft.skip.told else "such as a skip"
        return (
            f"no chain of these layers brings what BatchNorm {listed} remembers, though the ones before fit: "
            f"something is missing between them, {missing}"
        )
    if draft.skip and draft.skip.told and not _answered(draft.skip, fits):
        return draft.skip.reason
    return None


def _may_skip(draft: Draft, norm: int) -> bool:
    """Whether two values in front of layer `norm` have one shape, with a linear layer or convolution between them, as
    x + f(x) wants: where none have, something else made the statistics, such as a dropout."""
    layers, shapes = draft.spec.layers, draft.spec.shapes
    weighted = [i for i in range(norm) if isinstance(layers[i], (Linear, Conv, ConvTranspose))]
    return any(shapes[i] == shapes[k + 1] for at, i in enumerate(weighted) for k in weighted[at:])


def _answered(skip: Skip, fits: Sequence[float]) -> bool:
    """Whether the BatchNorms behind the block with the skip remember what the chain brings them."""
    behind = fits[skip.witness :]
    return bool(behind) and max(behind) <= SOUND and not out_of_line(fits)


def _rivals(draft: Draft, beside: list[Draft], outcome: Outcome) -> tuple[Draft, ...]:
    """The other structures to show: those with the same trace, then those of the other states, likeliest first; each
    with what the statistics say of its choices."""
    first, *rest = outcome.states
    found = [(other, first) for other in beside if _cost(other) <= _cost(draft) + MARGIN]
    found += [(state.drafts[0][1], state) for state in rest]
    return tuple(
        settle(other, state, replace(outcome, states=(state, *(s for s in outcome.states if s is not state))))
        for other, state in found[:RIVALS]
    )


def like(rival: Draft, draft: Draft, seed: int) -> Draft:
    """`rival`, another structure than `draft`, with what was found of the choices that both share, and its own end."""
    count = len(witnesses(draft))
    known = {(c.layer, c.field): c for c in draft.choices if c.field != "structure" and segment_of(draft, c) < count}

    def shared(choice: Choice) -> Choice:
        found = known.get((choice.layer, choice.field))
        if choice.field == "structure":
            return replace(choice, evidence=Evidence.WEAK, reason="it fits about as well")
        return found if found is not None and found.value == choice.value else choice

    made = replace(rival, choices=tuple(shared(choice) for choice in rival.choices), skip=draft.skip)
    return judge_output(doubted(follow_habit(made)), seed)


def _cost(draft: Draft) -> float:
    return draft.structure.cost if draft.structure else 0.0


DISTRUSTED = 30.0
"""Odds count no more than this where nothing that was tried fits."""
ENCODED = 3.0
"""Nor than this where an encoder made the latents: they have no law, so what they bring is known roughly. Too roughly
for `SUBTLE` choices, which are then open."""
SUBTLE = ("activation", "eps", "upsample")


def shown_by(draft: Draft, fits: Sequence[float], *, contradicted: bool) -> int:
    """How many of the BatchNorms, which misfit by `fits`, show something of the choices before them: of what the others
    show, `distrusted` leaves nothing, or they say that it is another network."""
    opened = contradicted or (draft.encoder_made and draft.family == "chain" and fits[0] <= GOOD)
    return next((k for k, fit in enumerate(fits) if opened and fit > GOOD), len(fits))


def distrusted(draft: Draft, fits: Sequence[float], samples: int, seed: int) -> Draft:
    """`draft`, whose BatchNorms misfit by `fits`, with notes on what fits nothing, and evidence no stronger than it."""
    norms = witnesses(draft)
    bad = [k for k, fit in enumerate(fits) if fit > GOOD]
    if not bad:
        return draft
    notes: list[str] = []
    first = bad[0]
    if first == 0:
        solved = latent_moments(draft, samples, seed)
        if solved is not None:
            notes.append(
                f"none of {', '.join(LAW_WORDS.values())} fits: the first BatchNorm speaks of latents with mean "
                f"{solved[0]:.3g} and variance {solved[1]:.3g}"
            )
            first = (bad[1] if len(bad) > 1 else len(norms)) if solved[2] <= GOOD else 0
    listed = ", ".join(f"{k + 1} (layer {norms[k]}): {fits[k]:.2g}" for k in bad)
    notes.append(
        f"nothing that was tried fits BatchNorm {listed}; either the right candidate is missing, or the file was "
        "used in train mode, or its statistics belong to other weights (EMA weights with the raw ones' buffers)"
    )
    why = f"the statistics of this file contradict every candidate at BatchNorm {first + 1}"
    known, most = draft.family != "chain", ENCODED if draft.encoder_made else DISTRUSTED

    def believed(choice: Choice) -> Choice:
        behind = segment_of(draft, choice) >= first if choice.layer is not None else first == 0
        if choice.evidence is Evidence.PROVED or known or not behind:
            return choice
        if draft.encoder_made and choice.field in SUBTLE:
            return replace(choice, evidence=Evidence.NONE, reason=why, odds=None)
        odds = None if choice.odds is None else min(choice.odds, most)
        if choice.evidence is not Evidence.STRONG:
            return replace(choice, odds=odds)
        return replace(choice, evidence=Evidence.WEAK, reason=f"{choice.reason}; but {why}", odds=odds)

    choices = tuple(believed(choice) for choice in draft.choices)
    return replace(draft, choices=choices, notes=(*draft.notes, *notes))


SAMPLES, LEAST, WORK = 128, 16, 5e9
"""Latents of which the values before the output are looked at; fewer where these take more multiplications than `WORK`,
but not fewer than `LEAST`."""
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
    """What reaches layer `layer` in eval mode: float32 (N, …), N at most `SAMPLES`."""
    spec = draft.spec
    assert spec.interface.latent in LATENT_LAWS
    n = min(SAMPLES, max(LEAST, int(WORK // max(spec.products, 1))))
    x = latent_batch(spec.interface.z_dim, spec.interface.latent, n, seed)
    return run_eval(draft, 0, layer, x, label_batch(spec.interface.n_classes, n))


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
        edited = replaced(edited, replace(find_choice(edited, choice.layer, "output"), odds=1.0))
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
