"""The weights of the evidence, fitted to examples by conditional logit, and how often the odds they give are right.

Each file counts as 1 / sqrt(files of its author): authors write alike. Odds are judged on authors that the weights were
not fitted to.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan_core.fields import Json
from gan_export.hypotheses.companion import NUMBERS
from gan_export.hypotheses.judging import MOST_ODDS
from gan_export.hypotheses.odds import UNREAD, Weights
from lab.odds.measuring import Measured

KEPT_LOOKS, KEPT_SAYS, KEPT_COST = 0.15, 0.05, 0.1
"""How strongly each group of weights is held where it begins."""
FIRST_SAYS = -0.5
STEPS, FOLDS = 200, 8
BINS = (1.0, 3.0, 10.0, 30.0, 100.0, 1000.0, math.inf)
"""Bounds of the odds that are counted together."""
SURE = 100.0


@dataclass(frozen=True)
class Case:
    """A measured file. `weight` is what it counts; `held` the number of those it is held out with."""

    name: str
    author: str
    origin: str
    measured: Measured
    weight: float = 1.0
    fold: int = 0


@dataclass(frozen=True)
class Seen:
    """Which measurements are looked at."""

    looks: bool = True
    says: bool = True


ALL = Seen()


@dataclass(frozen=True)
class Finding:
    """What the odds say of one thing, and whether it is right: a whole generator ("whole"), or one aspect of it."""

    name: str
    origin: str
    aspect: str
    odds: float
    right: bool
    said: str
    truth: str


def weighted(cases: Iterable[Case]) -> list[Case]:
    """`cases` with their weights and folds: all files of an author in one."""
    found = list(cases)
    files = Counter(case.author for case in found)
    authors = sorted(files)
    random.Random(0).shuffle(authors)
    fold = {author: number % FOLDS for number, author in enumerate(authors)}
    return [replace(case, weight=files[case.author] ** -0.5, fold=fold[case.author]) for case in found]


def scale_of(cases: Sequence[Case]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the looks of all hypotheses."""
    looks = torch.cat([case.measured.looks for case in cases])
    return looks.mean(dim=0), looks.std(dim=0) + 1e-6


def scores(measured: Measured, weights: Weights, seen: Seen = ALL) -> Tensor:
    """The score of each hypothesis, as `gan_export.hypotheses.odds.weigh` adds it up: float (H,)."""
    total = -weights.cost * measured.cost
    if seen.looks:
        total = total + weights.of_looks(measured.looks)
    if seen.says and measured.says.shape[1]:
        unread = measured.says.isnan().any(dim=2)
        said = measured.says.nan_to_num(0.0) @ weights.says - measured.slopes
        total = total + said.masked_fill(unread, UNREAD).logsumexp(dim=1)
    return total


def surprise(case: Case, weights: Weights, seen: Seen = ALL) -> Tensor:
    """−log of how likely the true generator is, in nats: float ()."""
    found = scores(case.measured, weights, seen)
    return found.logsumexp(dim=0) - found[case.measured.right].logsumexp(dim=0)


def fit(cases: Sequence[Case], scale: tuple[Tensor, Tensor], seen: Seen = ALL) -> Weights:
    """The weights under which the true generators of `cases` are likeliest; those without one teach nothing."""
    known = [case for case in cases if bool(case.measured.right.any())]
    cost = torch.zeros((), requires_grad=True)
    looks = torch.zeros(2 * len(scale[0]), requires_grad=True)
    says = torch.full((NUMBERS,), FIRST_SAYS, requires_grad=True)
    optimiser = torch.optim.LBFGS([cost, looks, says], max_iter=STEPS, line_search_fn="strong_wolfe")

    def weights() -> Weights:
        return Weights(cost.exp(), scale[0], scale[1], looks, says)  # type: ignore[arg-type]

    def closure() -> Tensor:
        optimiser.zero_grad()
        now = weights()
        loss = torch.stack([case.weight * surprise(case, now, seen) for case in known]).sum() / len(known)
        held = KEPT_LOOKS * looks.square().sum() + KEPT_SAYS * (says - FIRST_SAYS).square().sum()
        loss = loss + held + KEPT_COST * cost.square()
        loss.backward()
        return loss

    optimiser.step(closure)
    return Weights(float(cost.detach().exp()), *scale, looks.detach(), says.detach())


def held_out(cases: Sequence[Case], seen: Seen = ALL) -> Callable[[Case], Weights]:
    """A function that gives the weights to judge a case by: fitted to the other authors."""
    scale = scale_of(cases)
    fitted = {fold: fit([c for c in cases if c.fold != fold], scale, seen) for fold in {case.fold for case in cases}}
    return lambda case: fitted[case.fold]


def habit_alone(cases: Sequence[Case]) -> Weights:
    """What is usual, and nothing else."""
    centre, scale = scale_of(cases)
    return Weights(1.0, centre, scale, torch.zeros(2 * len(centre)), torch.zeros(NUMBERS))


def first_rows(cases: Sequence[Case], by: Callable[[Case], Weights], seen: Seen = ALL) -> Json:
    """How often the likeliest generator is right, and the mean surprise where the true one is listed."""
    known = [case for case in cases if bool(case.measured.right.any())]
    right = sum(bool(c.measured.right[scores(c.measured, by(c), seen).argmax()]) for c in known)
    nats = sum(float(surprise(case, by(case), seen)) for case in known) / max(1, len(known))
    return {
        "files": len(cases),
        "listed": len(known),
        "row_1": right,
        "row_1_share": round(right / max(1, len(cases)), 4),
        "negative_log_likelihood": round(nats, 4),
    }


def findings(case: Case, weights: Weights, seen: Seen = ALL) -> list[Finding]:
    """What the odds say of this file: of the likeliest whole generator, and of each aspect of it.

    A whole generator is wrong where the true one is not listed; its aspects are then not judged.
    """
    measured = case.measured
    likely = scores(measured, weights, seen).double().softmax(dim=0)
    top, right = int(likely.argmax()), measured.right
    truth = measured.taken[int(torch.where(right, likely, -1.0).argmax())] if bool(right.any()) else {}
    wrong = {k: v for k, v in measured.taken[top].items() if truth and truth.get(k) != v and not bool(right[top])}
    said = ", ".join(f"{k} {v}" for k, v in (wrong or measured.taken[top]).items())
    true = ", ".join(f"{k} {truth.get(k, 'none')}" for k in wrong) if truth else "not listed"
    found = [Finding(case.name, case.origin, "whole", _odds(float(likely[top])), bool(right[top]), said, true)]
    for aspect, words in measured.taken[top].items():
        same = torch.tensor([one.get(aspect) == words for one in measured.taken])
        if truth and not bool(same.all()):
            good = bool((same & right).any())
            odds = _odds(float(likely[same].sum()))
            found.append(Finding(case.name, case.origin, aspect, odds, good, words, truth.get(aspect, "none")))
    return found


def _odds(likelihood: float) -> float:
    return min(MOST_ODDS, likelihood / max(1.0 - likelihood, 1e-12))


def calibration(found: Iterable[tuple[float, bool]]) -> list[Json]:
    """How many of `found`, (odds, whether it is right), claim odds in each of `BINS`, and how many of those are right.
    Odds below 1 come first."""
    claims = list(found)
    rows = []
    for low, high in zip((0.0, *BINS[:-1]), BINS, strict=True):
        inside = [right for odds, right in claims if low <= odds < high]
        rows.append({"from": low, "to": high if high < math.inf else None, "all": len(inside), "right": sum(inside)})
    return rows


def sure_and_wrong(found: Iterable[Finding]) -> list[Finding]:
    """Those that claim 100 : 1 or more and are wrong."""
    return sorted((one for one in found if one.odds >= SURE and not one.right), key=lambda one: -one.odds)


def as_json(weights: Weights) -> Mapping[str, object]:
    """The weights as `weights.json` holds them."""
    tensors = ((name, getattr(weights, name)) for name in ("centre", "scale", "looks", "says"))
    return {"cost": round(weights.cost, 4)} | {name: [round(v, 4) for v in tensor.tolist()] for name, tensor in tensors}


def summary(cases: Sequence[Case]) -> Json:
    """What a record says of `cases`: rows that are right without each kind of evidence and with all, of real files and
    of all; how often claimed odds are right, held out; those that are sure and wrong."""
    by = held_out(cases)
    habit = habit_alone(cases)
    blind, mute = Seen(looks=False), Seen(says=False)
    without_looks, without_says = held_out(cases, blind), held_out(cases, mute)
    told = [case for case in cases if case.measured.says.shape[1]]

    def rows(some: Sequence[Case]) -> Json:
        return {
            "habit alone": first_rows(some, lambda _: habit, Seen(looks=False, says=False)),
            "without discriminators": first_rows(some, without_says, mute),
            "without looks": first_rows(some, without_looks, blind),
            "all": first_rows(some, by),
        }

    def claims(some: Iterable[Finding]) -> list[tuple[float, bool]]:
        return [(one.odds, one.right) for one in some]

    real = [case for case in cases if case.origin == "real"]
    found = [one for case in cases for one in findings(case, by(case))]
    wholes = [one for one in found if one.aspect == "whole"]
    singles = [one for one in found if one.aspect != "whole"]
    return {
        "real": rows(real) if real else {},
        "all": rows(cases),
        "with_discriminator": rows(told) if told else {},
        "calibration": {"whole": calibration(claims(wholes)), "single": calibration(claims(singles))}
        | ({"whole_real": calibration(claims(one for one in wholes if one.origin == "real"))} if real else {}),
        "sure": SURE,
        "sure_and_wrong": [vars(one) for one in sure_and_wrong(found)],
        "wrong": [vars(one) for one in sorted(wholes, key=lambda one: -one.odds) if not one.right],
    }
