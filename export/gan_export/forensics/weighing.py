"""How sure one candidate is against another: odds, with the noise of the evidence in them.

A misfit that is smaller need not mean anything: the running statistics average over some 1,200 training samples, and
what is run here is a sample too. Both err, and channels err together, since the same latents reach them all. So the
noise is measured and not assumed. What arrives is split into `GROUPS` groups of rows: how their moments differ is what
sampling does to all channels of all BatchNorms at once. Each group's difference, scaled to the misfit that is observed,
makes a memory that a BatchNorm might have had if the candidate were true, and one if its rival were. By how much the
candidate fits these memories better than its rival is one number; where the file's own memory falls among these numbers
gives the odds.

Every BatchNorm behind the first difference takes part, and the latents are others than the search ran on.

`reweigh` does so for every choice that the search settled. It makes nothing surer: it takes back what was called strong
and is not, and what overruled a known family without the odds for it.

A share of the latents is run first. Odds that are beyond `OBVIOUS` even so are taken; closer ones are computed again
with all latents.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.draft import Choice, Draft, Evidence
from gan_export.forensics.evidence import IDENTITY, value_text
from gan_export.forensics.runner import Runner
from gan_export.forensics.statistics import (
    VAR_FLOOR,
    Moments,
    moments,
    remembered,
    rows_between,
    symmetric_kl,
    witnesses,
)
from gan_export.forensics.trials import alike, same, segment_of, values_to_try
from gan_export.understanding.edit import find_choice, with_choice, with_value, with_values

log = logging.getLogger(__name__)

STRONG = 100.0
"""Odds over which evidence is called strong."""
FAMILY = 100.0
"""What a known family's keys are worth, as odds: statistics that overrule it are strong from STRONG times this on."""
HABIT = 100.0
"""How much more usual ReLU is than LeakyReLU 0.01, which makes almost the same network."""
OBVIOUS = 1e6
"""Odds at which no further BatchNorm is asked, and no more latents are run."""
SHARES = (8, 1)
"""An eighth of the latents is run first, then all; only all where those are few."""
TIED = 600.0
"""How much more usual one eps, or one activation, throughout a network is than another in one place."""
GROUPS = 17
"""A prime: labels run through the classes in turn, and each group shall see all of them."""
LEAST = 3 * GROUPS
"""Latents that are run at least."""
REMEMBERED = 1216
"""Samples that running statistics average over: momentum 0.1 is worth 19 batches, here of 64."""
TRUSTED = 0.75
"""Share of the channels that is compared: those that fit best. Some are dead, or moved since."""
MOST = 1e9
"""Odds beyond this are this: no model of the noise is as good as that."""


@dataclass(frozen=True)
class Arrival:
    """What arrives at one BatchNorm: moments of all rows (C,), of each group (GROUPS, C), and the rows themselves."""

    whole: Moments
    groups: Moments
    rows: Tensor

    def imagined(self, scale: float) -> Moments:
        """Memories with the noise of each group, `scale` times as large: (GROUPS, C)."""
        growth = (self.groups.var.clamp_min(VAR_FLOOR) / self.whole.var.clamp_min(VAR_FLOOR)).log()
        mean = self.whole.mean + scale * (self.groups.mean - self.whole.mean)
        return Moments(mean, self.whole.var * (scale * growth).exp())


def reweigh(draft: Draft, asked: Mapping[tuple[int | None, str], Choice], weigher: Weigher) -> Draft:
    """`draft`, which `weigher` weighs, with the odds of each choice in `asked`, and with evidence and value as they
    allow.

    asked  (layer, field) → the choice as it was before the search; strong ones are a known family's
    """
    for place, before in asked.items():
        choice = find_choice(draft, *place)
        if choice.evidence is Evidence.PROVED or segment_of(draft, choice) >= len(witnesses(draft)):
            continue
        judged = _judged(weigher, draft, choice, before if before.evidence is Evidence.STRONG else None)
        log.debug("weighing: %s of layer %s", choice.field, choice.layer)
        draft = with_choice(draft, judged)
        weigher.turn_to(draft)
    return draft


def tied(draft: Draft, weigher: Weigher, shown: int) -> Draft:
    """`draft`, which `weigher` weighs, with one eps, and one activation, throughout where the first `shown` BatchNorms
    do not speak clearly for several.

    Fitting each BatchNorm by itself finds small differences everywhere; an author writes one value.
    """
    for field in ("activation", "eps"):
        choices = [
            c
            for c in draft.choices
            if c.field == field
            and c.evidence is not Evidence.PROVED
            and not c.habit
            and segment_of(draft, c) < shown
            and c.value != IDENTITY
        ]
        values = [c.value for c in choices]
        if all(same(field, value, values[0]) for value in values):
            continue
        first = min(segment_of(draft, choice) for choice in choices)
        usual: list[Any] = []
        for value in (*values, values_to_try(choices[0])[0]):
            usual += [] if any(same(field, value, known) for known in usual) else [value]
        against = [
            (weigher.odds(with_values(draft, choices, [v] * len(choices)), first, TIED), i) for i, v in enumerate(usual)
        ]
        least, best = min(against)
        if least >= TIED / STRONG:
            continue
        for choice in choices:
            if not same(field, choice.value, usual[best]):
                reason = f"{value_text(choice.value)} fits best by itself, {value_text(usual[best])} throughout as well"
                draft = with_choice(draft, _exchanged(choice, usual[best], Evidence.STRONG, reason, TIED / least))
        weigher.turn_to(draft)
    return draft


def _judged(weigher: Weigher, draft: Draft, choice: Choice, family: Choice | None) -> Choice:
    """`choice` as its odds allow. With a `family`, its value speaks for itself, and is left for good reasons only."""
    first = segment_of(draft, choice)

    def odds(value: Any, obvious: float = OBVIOUS) -> float:
        return weigher.odds(with_value(draft, choice, value), first, obvious)

    rival = next((v for v in choice.alternatives if not alike(draft, choice, v, choice.value)), None)
    least = None if rival is None else odds(rival)
    choice = replace(choice, odds=least)
    if family is not None and same(choice.field, choice.value, family.value):
        return choice
    if family is not None:
        against = odds(family.value)
        if against < STRONG * FAMILY:
            evidence = Evidence.STRONG if against * STRONG <= FAMILY else Evidence.WEAK
            said = f"{value_text(choice.value)} fits with odds of {_said(against)}, too little to overrule it"
            return _exchanged(choice, family.value, evidence, f"{family.reason}; {said}", 1 / against)
    if least is not None and least * STRONG < 1:
        reason = (
            f"it fits all BatchNorms together better than {value_text(choice.value)}, which fits the next one better"
        )
        return _exchanged(choice, rival, Evidence.WEAK, reason, 1 / least)
    if choice.evidence is Evidence.STRONG and least is not None and least < STRONG:
        reason = f"{choice.reason}; by sampling noise alone the odds are no better than {_said(least)}"
        choice = replace(choice, evidence=Evidence.WEAK, reason=reason)
    if choice.field == "activation" and choice.evidence is Evidence.STRONG:
        near = [v for v in choice.alternatives if alike(draft, choice, v, choice.value)]
        usual = HABIT if choice.value in values_to_try(choice)[:1] else 1.0
        closest = min((odds(value, 10 * STRONG / usual) for value in near), default=math.inf)
        if closest * usual < STRONG:
            reason = f"{choice.reason}; the odds over {near[0]['name']}, almost the same network, are {_said(closest)}"
            choice = replace(choice, evidence=Evidence.WEAK, reason=reason, odds=closest)
    return choice


def _exchanged(choice: Choice, value: Any, evidence: Evidence, reason: str, odds: float) -> Choice:
    others = tuple(v for v in (choice.value, *choice.alternatives) if not same(choice.field, v, value))
    return replace(choice, value=value, evidence=evidence, reason=reason, alternatives=others, odds=odds)


def _said(odds: float) -> str:
    return f"{odds:.2g} : 1" if odds >= 1 else f"1 : {1 / odds:.2g}"


class Weigher:
    """Weighs rivals against one candidate. `seed` is the first latent's; `samples` as in `investigate`."""

    def __init__(self, draft: Draft, samples: int, seed: int) -> None:
        self._draft, self._samples, self._seed = draft, samples, seed
        self._norms = witnesses(draft)
        spans = zip((0, *self._norms), self._norms, strict=False)
        few = any(rows_between(draft, start, stop, samples) < 2 * LEAST for start, stop in spans)
        self._shares = SHARES[-1:] if few else SHARES
        self._own: dict[int, list[Arrival]] = {share: [] for share in SHARES}
        self._found: dict[GeneratorSpec, tuple[float, float]] = {}

    def turn_to(self, draft: Draft) -> None:
        """Goes on with another candidate with the same BatchNorms; what arrives before the first difference is kept."""
        was, self._draft = self._draft.spec, draft
        if draft.spec == was:
            return
        self._found.clear()
        alike = was.interface == draft.spec.interface
        same_up_to = [alike and was.layers[:norm] == draft.spec.layers[:norm] for norm in self._norms]
        for arrivals in self._own.values():
            del arrivals[sum(same_up_to) :]

    def odds(self, rival: Draft, first: int, obvious: float = OBVIOUS) -> float:
        """The odds of the candidate over `rival`, which has the same BatchNorms and differs before BatchNorm `first`.

        1 is even; below 1 the rival is likelier. From 1 / MOST to MOST. Beyond `obvious`, those of a share are taken.
        """
        found, beyond = self._found.get(rival.spec, (1.0, 0.0))
        if beyond >= obvious:
            return found
        for share in self._shares:
            found = self._odds(rival, first, share)
            if not 1 / OBVIOUS < found < obvious:
                break
        self._found[rival.spec] = found, obvious
        return found

    def _odds(self, rival: Draft, first: int, share: int) -> float:
        observed: list[float] = []
        if_own: list[Tensor] = []
        if_rival: list[Tensor] = []
        found, b = 1.0, self._own_arrival(first - 1, share) if first else None
        for k in range(first, len(self._norms)):
            a, b = self._own_arrival(k, share), self._arrival(rival, k, b, share)
            memory = remembered(self._draft, self._norms[k])
            misfits = [float(symmetric_kl(arrival.whole, memory).median()) for arrival in (a, b)]
            scale = _scale(a, min(misfits))
            observed.append(float(_better(a.whole, b.whole, memory)))
            if_own.append(_better(a.whole, b.whole, a.imagined(scale)))
            if_rival.append(_better(a.whole, b.whole, b.imagined(scale)))
            found = _odds(torch.tensor(observed, dtype=torch.float64), torch.stack(if_own), torch.stack(if_rival))
            if found > OBVIOUS:
                break
        return found

    def _own_arrival(self, k: int, share: int) -> Arrival:
        """What arrives at BatchNorm `k` of the candidate; kept."""
        own = self._own[share]
        while len(own) <= k:
            own.append(self._arrival(self._draft, len(own), own[-1] if own else None, share))
        return own[k]

    def _arrival(self, draft: Draft, k: int, before: Arrival | None, share: int) -> Arrival:
        """What arrives at BatchNorm `k` of `draft` when `before` arrived at the one in front of it; of a `share`th of
        the latents."""
        stop, start = self._norms[k], self._norms[k - 1] if k else 0
        most = self._samples if before is None else len(before.rows)
        whole = rows_between(draft, start, stop, self._samples)
        rows = min(most, max(min(LEAST, whole), whole // share))
        x = Runner(None if before is None else before.rows, start, rows, self._seed).run(draft, stop)
        arrived = moments(x)
        return Arrival(arrived, _in_groups(x, arrived), x)


def _in_groups(x: Tensor, whole: Moments) -> Moments:
    """The moments of each group of rows of `x` (N, C, …), whose own are `whole`: float64 (GROUPS, C)."""
    flat = x.movedim(1, -1).reshape(len(x), -1, x.shape[1])
    away = flat - whole.mean.to(flat)
    sums = torch.zeros(2, GROUPS, x.shape[1], dtype=torch.float64)
    group = torch.arange(len(x)) % GROUPS
    sums[0].index_add_(0, group, away.sum(dim=1).double())
    sums[1].index_add_(0, group, away.square().sum(dim=1).double())
    counts = (torch.bincount(group, minlength=GROUPS) * flat.shape[1]).clamp_min(1)[:, None]
    shift = sums[0] / counts
    var = (sums[1] - counts * shift.square()).clamp_min(0.0) / (counts - 1).clamp_min(1)
    return Moments(whole.mean + shift, var)


def _scale(arrival: Arrival, misfit: float) -> float:
    """How many times a group's noise that of the comparison is: from the misfit, and no less than a good memory has."""
    imagined = symmetric_kl(arrival.whole, arrival.imagined(1.0)).median(dim=-1).values
    typical = max(float(imagined.mean()), 1e-12)
    least = len(arrival.rows) / GROUPS / REMEMBERED
    return math.sqrt(max(misfit / typical, least))


def _better(own: Moments, rival: Moments, memory: Moments) -> Tensor:
    """How much better the candidate fits `memory` (…, C) than its rival does: nats per channel, over the better
    channels, float64 (…)."""
    a, b = symmetric_kl(own, memory).nan_to_num(nan=math.inf), symmetric_kl(rival, memory).nan_to_num(nan=math.inf)
    nearest = torch.minimum(a, b)
    kept = nearest <= nearest.quantile(TRUSTED, dim=-1, keepdim=True)
    return ((b.clamp(max=100.0) - a.clamp(max=100.0)) * kept).sum(dim=-1) / kept.sum(dim=-1)


def _odds(observed: Tensor, if_own: Tensor, if_rival: Tensor) -> float:
    """Odds from one number per BatchNorm: what was observed, (K,), and what either hypothesis brings, (K, groups).

    The BatchNorms are weighed as a linear discriminant does; Student's distribution allows for so few groups.
    """
    gap = if_own.mean(dim=1) - if_rival.mean(dim=1)
    noise = 0.5 * (if_own.var(dim=1) + if_rival.var(dim=1)) + 1e-30
    weights = gap / noise
    value = float((weights * observed).sum())
    own, rival = weights @ if_own, weights @ if_rival
    log_odds = _log_density(value, own) - _log_density(value, rival)
    return math.exp(min(max(log_odds, -math.log(MOST)), math.log(MOST)))


def _log_density(value: float, sample: Tensor) -> float:
    """Of Student's distribution with the mean, the spread and the freedom of `sample`, up to a constant."""
    freedom = len(sample) - 1
    spread = max(float(sample.std()), 1e-15)
    away = (value - float(sample.mean())) / spread
    return -math.log(spread) - 0.5 * (freedom + 1) * math.log1p(away**2 / freedom)
