"""How likely each whole generator is: what it draws, what the network beside it says of that, and habit, as odds.

A conditional logit: a hypothesis scores the sum of its weighted measurements, and is as likely as e to its score among
all of its file. The weights (`weights.json`) were fitted to generators whose truth is known, trained here and found in
public repositories; `python -m lab.odds fit` fits them anew, and says how often the odds are right.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files

import torch
from torch import Tensor

from gan_core.spec.layers import Activation
from gan_export.draft import Draft
from gan_export.forensics.runner import side_by_side
from gan_export.forensics.statistics import label_batch, latent_batch, run_eval, training_batch
from gan_export.hypotheses import naturalness
from gan_export.hypotheses.companion import Companion
from gan_export.hypotheses.likeness import RealOf, distance, scores
from gan_export.hypotheses.listing import Hypothesis, aspects_of, cheapest, structure_cost

log = logging.getLogger(__name__)

IMAGES, FEWEST = 64, 12
"""Images drawn of each hypothesis; fewer where they are large."""
WORK = 6e10
"""Multiplications spent on all images of one file, about."""
SLOPED, FAINT = 8, 5.0
"""On the likeliest hypotheses, so many, each way to run the network beside is tried; those that score lower than
another by so many nats on each are left out."""
FEW, FIRST, RULED_OUT, BEHIND = 8, 4, 12.0, 7.0
"""Images of each hypothesis that are looked at first; in how many ways the network beside sees those of all; by how
many nats one may fall behind then to be seen in more ways, and by how many to be judged on all images."""
REACH = 8.0
"""An option that costs so much more than the usual one is not drawn, unless it is the only other."""
MOST = 96
"""Hypotheses that are drawn: the likeliest by habit."""
UNREAD = -30.0
"""What a way to run a network scores that does not take the images."""


Draw = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Weights:
    """What each measurement counts.

    cost           nats of habit
    centre, scale  of the looks, which are compared as (x - centre) / scale
    looks          of those and of their squares: float32 (2 * len(naturalness.NAMES),)
    says           of what a network beside says, float32 (companion.NUMBERS,)
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

    by_looks, by_companion, by_likeness  what the images, the network beside and real images add to its score, nats
    """

    hypothesis: Hypothesis
    likelihood: float
    by_looks: float
    by_companion: float
    by_likeness: float = 0.0


@lru_cache(1)
def weights() -> Weights:
    """The weights that come with the package."""
    held = json.loads(files(__package__).joinpath("weights.json").read_text(encoding="utf-8"))
    made = {name: torch.tensor(held[name], dtype=torch.float32) for name in ("centre", "scale", "looks", "says")}
    return Weights(float(held["cost"]), **made)


def likeliest(drafts: Sequence[Draft], most: int = MOST) -> list[Hypothesis]:
    """The `most` whole generators that cost least, of `drafts` and what is open in each."""
    found: list[tuple[float, Callable[[], Hypothesis]]] = []
    for draft in drafts:
        aspects = [
            replace(a, options=tuple(o for i, o in enumerate(a.options) if i < 2 or o.cost - a.options[0].cost < REACH))
            for a in aspects_of(draft)
        ]
        found += cheapest(draft, aspects, structure_cost(draft), most)
    alike: dict[object, Hypothesis] = {}
    for _, made in sorted(found, key=lambda pair: pair[0]):
        one = made()
        alike.setdefault(one.draft.spec, one)
        if len(alike) == most:
            break
    return list(alike.values())


def weigh(
    listed: Sequence[Hypothesis],
    companions: Sequence[Companion],
    real: RealOf = lambda _: None,
    by: Weights | None = None,
) -> list[Weighed]:
    """`listed` with how likely each is, the likeliest first.

    `companions` are ways to run one network beside the generator. Those that are ruled out on a few images of each keep
    what they scored on these; the others are judged on all. With real images, all are compared with them.
    """
    by = by or weights()
    draw, every = drawer(listed), range(len(listed))
    outputs = [one.taken.get("output") for one in listed]

    def seen(numbers: Sequence[int], images: int) -> list[tuple[float, float]]:
        """(what its looks score, how far it is from the real images) of each of `listed` that `numbers` names."""

        def part(some: Sequence[int]) -> list[tuple[float, float]]:
            found = []
            for i in some:
                interface = listed[i].draft.spec.interface
                image, _ = draw(listed[i].draft, images)
                black, white = interface.value_range
                plain, shown = (image - black) / (white - black), real(interface.image)
                looks = float(by.of_looks(naturalness.statistics(plain)))
                found.append((looks, 0.0 if shown is None else distance(plain, shown)))
            return found

        return side_by_side(part, numbers)

    def totals() -> list[float]:
        near = scores([far for _, far in shown], outputs)
        terms = zip(listed, shown, verdicts, near, strict=True)
        return [looks - by.cost * one.cost + said + like for one, (looks, _), said, like in terms]

    with torch.inference_mode():
        log.debug("some images of %d generators", len(listed))
        shown, verdicts = seen(every, FEW), [0.0] * len(listed)
        telling: dict[int, list[int]] = {}
        if companions:
            verdicts, telling = _verdicts(listed, totals(), companions, draw, by)
        few = totals()
        left = [i for i in telling or every if few[i] >= max(few) - BEHIND]
        log.debug("all images of %d generators", len(left))
        compared = every if real(listed[0].draft.spec.interface.image) is not None else left
        for i, found in zip(compared, seen(compared, IMAGES), strict=True):
            shown[i] = found
        if companions:
            asked = [(listed[i], telling[i]) for i in left]
            for i, heard in zip(left, _said(asked, companions, draw, IMAGES, by), strict=True):
                verdicts[i] = _joint(heard)
    near, final = scores([far for _, far in shown], outputs), totals()
    less = max(few) - max(final[i] for i in left)
    scored = torch.tensor([final[i] if i in left else few[i] - less for i in every], dtype=torch.float64)
    likelihoods = torch.softmax(scored, dim=0).tolist()
    looks = [look for look, _ in shown]
    weighed = [Weighed(*one) for one in zip(listed, likelihoods, looks, verdicts, near, strict=True)]
    return sorted(weighed, key=lambda one: -one.likelihood)


def _verdicts(
    listed: Sequence[Hypothesis], others: Sequence[float], ways: Sequence[Companion], draw: Draw, by: Weights
) -> tuple[list[float], dict[int, list[int]]]:
    """(what the network beside adds to the score of each of `listed` on a few images, of which everything else comes to
    `others`; those that this does not rule out, with which of its `ways` to run tell of each). Each way is tried on the
    likeliest, the best few on all, and those that told of any on what is left."""
    known: dict[tuple[int, int], float] = {}

    def said(some: Sequence[int], numbers: Sequence[int]) -> list[list[float]]:
        lacking = ((i, [j for j in numbers if (i, j) not in known]) for i in some)
        new = [(i, asked) for i, asked in lacking if asked]
        found = _said([(listed[i], asked) for i, asked in new], ways, draw, FEW, by)
        for (i, asked), each in zip(new, found, strict=True):
            known.update(zip(((i, j) for j in asked), each, strict=True))
        return [[known[i, j] for j in numbers] for i in some]

    each = said(range(len(listed[:SLOPED])), range(len(ways)))
    telling = sorted({i for found in each for i in _telling(found)})
    first = sorted(telling, key=lambda i: -_joint([found[i] for found in each]))[:FIRST]
    log.debug("the network beside on %d generators", len(listed))
    verdicts = [_joint(found) for found in said(range(len(listed)), first)]
    least = max(score + other for score, other in zip(verdicts, others, strict=True)) - RULED_OUT
    left = [i for i, (score, other) in enumerate(zip(verdicts, others, strict=True)) if score + other >= least]
    each = said(left, telling)
    for i, found in zip(left, each, strict=True):
        verdicts[i] = _joint(found)
    return verdicts, {i: [telling[j] for j in _telling(found)] for i, found in zip(left, each, strict=True)}


def _telling(scores: list[float]) -> list[int]:
    return [i for i, score in enumerate(scores) if score > max(scores) - FAINT]


def _joint(scores: list[float]) -> float:
    return float(torch.tensor(scores).logsumexp(dim=0))


def _said(
    asked: Sequence[tuple[Hypothesis, Sequence[int]]],
    ways: Sequence[Companion],
    draw: Draw,
    images: int,
    by: Weights,
) -> list[list[float]]:
    """What some of `ways` to run the network beside add to the score of each hypothesis, by its first images."""

    def part(some: Sequence[tuple[Hypothesis, Sequence[int]]]) -> list[list[float]]:
        found = []
        for one, numbers in some:
            seen = draw(one.draft, images, trained=True)
            found.append([_score(one, ways[i], *seen, by) for i in numbers])
        return found

    return side_by_side(part, asked)


def _score(hypothesis: Hypothesis, way: Companion, image: Tensor, labels: Tensor | None, by: Weights) -> float:
    interface = hypothesis.draft.spec.interface
    if way.image != interface.image or way.classes not in (0, interface.n_classes):
        return UNREAD
    z = training_batch(hypothesis.draft, len(image), 0)
    return float(way.says(image, labels, z) @ by.says) - way.cost


def drawer(listed: Sequence[Hypothesis]) -> Draw:
    """A function that draws the first images of a draft, one of `listed`, in eval mode, as many as it is asked for, or
    fewer where they are large, of latents that it takes or of those of its training: float32 (N, C, H, W) in its range,
    with their labels; what drafts have in common up to the output activation is drawn once."""
    specs = [hypothesis.draft.spec for hypothesis in listed]
    distinct = len({(*_up_to_output(spec.layers), spec.interface.latent) for spec in specs})
    count = int(WORK / (max(spec.products for spec in specs) * distinct + 1))
    n = max(FEWEST, min(IMAGES, count))
    kept: dict[object, Tensor] = {}

    def drawn(draft: Draft, images: int = IMAGES, *, trained: bool = False) -> tuple[Tensor, Tensor | None]:
        spec = draft.spec
        some = min(n, images)
        if draft.recomputed:  # its BatchNorms take the statistics of what arrives
            some = max(some, n // 2)
        trained = trained and draft.encoder_made
        key = _up_to_output(spec.layers), spec.interface.z_dim, spec.interface.latent, some, trained
        before = len(key[0])
        x = kept.get(key)
        if x is None:
            face = spec.interface
            z = training_batch(draft, some, 0) if trained else latent_batch(face.z_dim, face.latent, some, 0)
            x = kept[key] = _run(draft, 0, before, z, some)
        image, labels = _run(draft, before, len(spec.layers), x, some), label_batch(spec.interface.n_classes, some)
        return image[:images], None if labels is None else labels[:images]

    return drawn


def _up_to_output(layers: tuple[object, ...]) -> tuple[object, ...]:
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, Activation)), default=len(layers))
    return layers[:last]


def _run(draft: Draft, start: int, stop: int, x: Tensor, n: int) -> Tensor:
    return run_eval(draft, start, stop, x, label_batch(draft.spec.interface.n_classes, n))
