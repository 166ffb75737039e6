"""How likely each whole generator is: what it draws, what the discriminator says of that, and habit, as odds.

A conditional logit: a hypothesis scores the sum of its weighted measurements, and is as likely as e to its score among
all of its file. The weights (`weights.json`) were fitted to generators whose truth is known, trained here and found in
public repositories; `python -m lab.odds fit` fits them anew, and says how often the odds are right.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor

from gan_core.spec.layers import Activation
from gan_export.draft import Draft
from gan_export.forensics.runner import side_by_side
from gan_export.forensics.statistics import label_batch, latent_batch, run_eval
from gan_export.hypotheses import naturalness
from gan_export.hypotheses.discriminator import Discriminator
from gan_export.hypotheses.likeness import RealOf, distance, scores
from gan_export.hypotheses.listing import Hypothesis, aspects_of, cheapest, structure_cost

log = logging.getLogger(__name__)

IMAGES, FEWEST = 64, 12
"""Images drawn of each hypothesis; fewer where they are large."""
WORK = 6e10
"""Multiplications spent on all images of one file, about."""
SLOPED, FAINT = 8, 5.0
"""On the likeliest hypotheses, so many, each way to run the discriminator is tried; those that score lower than another
by so many nats on each are left out."""
FEW, FIRST, RULED_OUT = 16, 4, 12.0
"""Images that the discriminator sees first, in so many ways, and by how many nats a hypothesis may fall behind then."""
REACH = 8.0
"""An option that costs so much more than the usual one is not drawn, unless it is the only other."""
MOST = 96
"""Hypotheses that are drawn: the likeliest by habit."""
UNREAD = -30.0
"""What a way to run a discriminator scores that does not take the images."""


Draw = Callable[[Draft], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Weights:
    """What each measurement counts.

    cost           nats of habit
    centre, scale  of the looks, which are compared as (x - centre) / scale
    looks          of those and of their squares: float32 (2 * len(naturalness.NAMES),)
    says           of a discriminator's four numbers
    """

    cost: float
    centre: Tensor
    scale: Tensor
    looks: Tensor
    says: Tensor

    def of_looks(self, statistics: Tensor) -> Tensor:
        """What images score by `naturalness.statistics` of them, float32 (…, len(naturalness.NAMES)): (…)."""
        seen = ((statistics - self.centre) / self.scale).clamp(-4.0, 4.0)
        return torch.cat((seen, seen.square()), dim=-1) @ self.looks


@dataclass(frozen=True)
class Weighed:
    """A hypothesis and how likely it is among those of its file.

    by_looks, by_discriminator, by_likeness  what the images, the discriminator and real images add to its score, nats
    """

    hypothesis: Hypothesis
    likelihood: float
    by_looks: float
    by_discriminator: float
    by_likeness: float = 0.0


@lru_cache(1)
def weights() -> Weights:
    """The weights that come with the package."""
    held = json.loads(files(__package__).joinpath("weights.json").read_text(encoding="utf-8"))
    made = {name: torch.tensor(held[name], dtype=torch.float32) for name in ("centre", "scale", "looks", "says")}
    return Weights(float(held["cost"]), **made)


def likeliest(drafts: Sequence[Draft], most: int = MOST) -> list[Hypothesis]:
    """The `most` whole generators that cost least, of `drafts` and what is open in each."""
    found: list[Hypothesis] = []
    for draft in drafts:
        aspects = [
            replace(a, options=tuple(o for i, o in enumerate(a.options) if i < 2 or o.cost - a.options[0].cost < REACH))
            for a in aspects_of(draft)
        ]
        found += cheapest(draft, aspects, structure_cost(draft), most)
    alike: dict[object, Hypothesis] = {}
    for one in sorted(found, key=lambda hypothesis: hypothesis.cost):
        alike.setdefault(one.draft.spec, one)
    return list(alike.values())[:most]


def weigh(
    listed: Sequence[Hypothesis],
    discriminators: Sequence[Discriminator],
    real: RealOf = lambda _: None,
    by: Weights | None = None,
) -> list[Weighed]:
    """`listed` with how likely each is, the likeliest first."""
    by = by or weights()
    draw = drawer(listed)

    def seen(part: Sequence[Hypothesis]) -> list[tuple[float, float]]:
        found = []
        for hypothesis in part:
            image, _ = draw(hypothesis.draft)
            black, white = hypothesis.draft.spec.interface.value_range
            plain = (image - black) / (white - black)
            shown = real(hypothesis.draft.spec.interface.image)
            looks = float(by.of_looks(naturalness.statistics(plain)))
            found.append((looks, 0.0 if shown is None else distance(plain, shown)))
        return found

    with torch.inference_mode():
        log.debug("the images of %d generators", len(listed))
        looks, far = zip(*side_by_side(seen, listed), strict=True)
        others = [look - by.cost * one.cost for one, look in zip(listed, looks, strict=True)]
        verdicts = _verdicts(listed, others, discriminators, draw, by)
    near = scores(far, [one.taken.get("output") for one in listed])
    totals = torch.tensor(
        [other + said + like for other, said, like in zip(others, verdicts, near, strict=True)], dtype=torch.float64
    )
    likelihoods = torch.softmax(totals, dim=0).tolist()
    found = [Weighed(*one) for one in zip(listed, likelihoods, looks, verdicts, near, strict=True)]
    return sorted(found, key=lambda weighed: -weighed.likelihood)


def _verdicts(
    listed: Sequence[Hypothesis], others: Sequence[float], ways: Sequence[Discriminator], draw: Draw, by: Weights
) -> list[float]:
    """What the discriminator adds to the score of each of `listed`, of which everything else comes to `others`. Each of
    its `ways` to run is tried on a few images of the likeliest, the best few on all, and where these do not rule a
    hypothesis out, those that tell of it on all of its images."""
    if not ways:
        return [0.0] * len(listed)

    def said(asked: Sequence[tuple[Hypothesis, Sequence[int]]], images: int) -> list[list[float]]:
        """What some of `ways` add to the score of each, by its first images."""

        def part(some: Sequence[tuple[Hypothesis, Sequence[int]]]) -> list[list[float]]:
            found = []
            for one, numbers in some:
                image, labels = draw(one.draft)
                labels = None if labels is None else labels[:images]
                found.append(_said(one, [ways[i] for i in numbers], image[:images], labels, by))
            return found

        return side_by_side(part, asked)

    each = said([(one, range(len(ways))) for one in listed[:SLOPED]], FEW)
    telling = sorted({i for scores in each for i in _telling(scores)})
    first = sorted(telling, key=lambda i: -_joint([scores[i] for scores in each]))[:FIRST]
    log.debug("the discriminator on %d generators", len(listed))
    found = [_joint(scores) for scores in said([(one, first) for one in listed], FEW)]
    least = max(score + other for score, other in zip(found, others, strict=True)) - RULED_OUT
    left = [i for i, (score, other) in enumerate(zip(found, others, strict=True)) if score + other >= least]
    each = said([(listed[i], telling) for i in left], FEW)
    asked = [(listed[i], [telling[j] for j in _telling(scores)]) for i, scores in zip(left, each, strict=True)]
    for i, heard in zip(left, said(asked, IMAGES), strict=True):
        found[i] = _joint(heard)
    return found


def _telling(scores: list[float]) -> list[int]:
    return [i for i, score in enumerate(scores) if score > max(scores) - FAINT]


def _joint(scores: list[float]) -> float:
    return float(torch.tensor(scores).logsumexp(dim=0))


def _said(
    hypothesis: Hypothesis, discriminators: Sequence[Discriminator], image: Tensor, labels: Tensor | None, by: Weights
) -> list[float]:
    """What each of the discriminators, ways to run the same one, adds to the score."""
    scores = []
    for one in discriminators:
        interface = hypothesis.draft.spec.interface
        if one.image != interface.image or one.classes not in (0, interface.n_classes):
            scores.append(UNREAD)
            continue
        scores.append(float(verdict(one, image, labels) @ by.says) - one.cost)
    return scores


def verdict(discriminator: Discriminator, image_NCHW: Tensor, labels: Tensor | None) -> Tensor:
    """What a discriminator says of images, as four numbers: how far from undecided the middle one is, how far apart
    they lie, how far its BatchNorms' memory is from them, and the first by the second."""
    logits, misfits = discriminator.logits(image_NCHW, labels)
    low, middle, high = logits.float().quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    spread, off = high - low + 0.05, sum(misfits) / len(misfits) if misfits else 0.0
    numbers = (
        math.log1p(abs(middle)),
        math.log(spread),
        math.log(off + 0.003),
        math.log1p(min(abs(middle) / spread, 20)),
    )
    return torch.tensor(numbers).nan_to_num(20.0, 20.0, -20.0)


def drawer(listed: Sequence[Hypothesis]) -> Draw:
    """A function that draws the images of a draft, one of `listed`, in eval mode: float32 (N, C, H, W) in its range,
    with their labels; what drafts have in common up to the output activation is drawn once."""
    specs = [hypothesis.draft.spec for hypothesis in listed]
    distinct = len({(*_up_to_output(spec.layers), spec.interface.latent) for spec in specs})
    count = int(WORK / (max(spec.products for spec in specs) * distinct + 1))
    n = max(FEWEST, min(IMAGES, count))
    kept: dict[object, Tensor] = {}

    def drawn(draft: Draft) -> tuple[Tensor, Tensor | None]:
        spec = draft.spec
        key = _up_to_output(spec.layers), spec.interface.z_dim, spec.interface.latent
        before = len(key[0])
        x = kept.get(key)
        if x is None:
            x = kept[key] = _run(draft, 0, before, None, n)
        return _run(draft, before, len(spec.layers), x, n), label_batch(spec.interface.n_classes, n)

    return drawn


def _up_to_output(layers: tuple[object, ...]) -> tuple[object, ...]:
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, Activation)), default=len(layers))
    return layers[:last]


def _run(draft: Draft, start: int, stop: int, x: Tensor | None, n: int) -> Tensor:
    interface = draft.spec.interface
    if x is None:
        x = latent_batch(interface.z_dim, interface.latent, n, 0)
    return run_eval(draft, start, stop, x, label_batch(interface.n_classes, n))
