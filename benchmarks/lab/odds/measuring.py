"""What the product measures of every whole generator that a file may be, with the truth of each.

The file is read by `gan_export.identify`, as a user's is. Where that would judge the hypotheses, they are measured
instead: their cost by habit, the look of their images, and what the discriminator says.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import TypeVar
from unittest.mock import patch

import torch
from torch import Tensor

import gan_export
from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path
from gan_core.files.model_file import sha256_of
from gan_core.latents import LATENT_LAWS
from gan_export.answers import Answers
from gan_export.draft import STRUCTURE, Draft
from gan_export.forensics.statistics import training_batch
from gan_export.hypotheses import naturalness
from gan_export.hypotheses.companion import NUMBERS, Companion
from gan_export.hypotheses.likeness import RealOf
from gan_export.hypotheses.listing import Hypothesis
from gan_export.hypotheses.odds import drawer, likeliest
from gan_export.identify import identify
from lab.odds.examples import Example, Reference

JOBS = 2
READERS = ("hypotheses/*.py", "forensics/*.py", "understanding/*.py", "reading/*.py", "identify.py")
"""The modules whose change makes measurements stale."""
Done = TypeVar("Done")


@dataclass(frozen=True)
class Measured:
    """Every hypothesis of a file; empty where nothing in it was open, or it could not be read.

    outcome  "measured", "settled" (nothing was open), or why there is nothing: the error, "too long"
    taken    aspect → what it says there, of each hypothesis; its structure is an aspect, too
    right    whether it draws what the true network draws: bool (H,)
    cost     by habit, in nats: float32 (H,)
    looks    `naturalness.statistics`: float32 (H, S)
    says     what each way to run the network beside says: float32 (H, D, companion.NUMBERS), NaN where it does not take
             the images; D is 0 without one
    slopes   what each of these ways costs in nats: float32 (D,)
    """

    outcome: str
    taken: tuple[dict[str, str], ...]
    right: Tensor
    cost: Tensor
    looks: Tensor
    says: Tensor
    slopes: Tensor


def nothing(outcome: str) -> Measured:
    """No hypotheses, because of `outcome`."""
    return Measured(
        outcome, (), torch.zeros(0, dtype=torch.bool), torch.zeros(0), torch.zeros(0, len(naturalness.NAMES)),
        torch.zeros(0, 0, NUMBERS), torch.zeros(0),
    )  # fmt: skip


def measure(example: Example) -> Measured:
    """Every hypothesis that the product weighs for this file."""
    seen: list[Measured] = []
    truth = example.truth()

    def instead(
        drafts: Sequence[Draft],
        companions: Callable[[Draft], Sequence[Companion]],
        may_be: Callable[[Draft], bool],
        _: RealOf,
    ) -> Draft:
        seen.append(_of(drafts, companions, may_be, truth, example.law))
        return drafts[0]

    with patch("gan_export.identify.judge", instead):
        try:
            identify(example.checkpoint, Answers())
        except GanportError as error:
            return seen[0] if seen else nothing(str(error))
    return seen[0] if seen else nothing("no chain fits, or it is a checkpoint of ganport's own")


def _of(
    drafts: Sequence[Draft],
    companions: Callable[[Draft], Sequence[Companion]],
    may_be: Callable[[Draft], bool],
    truth: Reference,
    law: str,
) -> Measured:
    listed = [one for one in likeliest(drafts) if may_be(one.draft)] if drafts[0].open_choices else []
    if not listed:
        return nothing("settled")
    shapes = {(one.spec.interface.image, one.spec.interface.n_classes): one for one in drafts}
    ways = [way for one in shapes.values() for way in companions(one)]
    draw = drawer(listed)
    looks, says = [], []
    with torch.inference_mode():
        for hypothesis in listed:
            interface = hypothesis.draft.spec.interface
            image, labels = draw(hypothesis.draft)
            black, white = interface.value_range
            looks.append(naturalness.statistics((image - black) / (white - black)))
            image, labels = draw(hypothesis.draft, trained=True)
            z = training_batch(hypothesis.draft, len(image), 0)
            fits = [w.image == interface.image and w.classes in (0, interface.n_classes) for w in ways]
            said = [
                way.says(image, labels, z) if fit else torch.full((NUMBERS,), torch.nan)
                for way, fit in zip(ways, fits, strict=True)
            ]
            says.append(torch.stack(said) if said else torch.zeros(0, NUMBERS))
    return Measured(
        "measured",
        tuple(one.taken | _structure(one) for one in listed),
        torch.tensor([_right(one, truth, law) for one in listed]),
        torch.tensor([one.cost for one in listed]),
        torch.stack(looks).clone(),
        torch.stack(says).clone(),
        torch.tensor([way.cost for way in ways]),
    )


def _right(hypothesis: Hypothesis, truth: Reference, law: str) -> bool:
    """Whether it draws the true images, of latents of the true law where a spec can say that one."""
    return (law not in LATENT_LAWS or hypothesis.draft.spec.interface.latent == law) and truth.drawn_by(
        hypothesis.draft
    )


def _structure(hypothesis: Hypothesis) -> dict[str, str]:
    structure = hypothesis.draft.structure_said
    return {} if structure is None else {STRUCTURE: str(structure)}


def measure_all(examples: Sequence[Example], cache: Path | None, limit_s: float) -> Iterator[tuple[Example, Measured]]:
    """Each example, measured, as they are done. What is in the folder `cache` already is not measured again, unless the
    code that reads checkpoints was changed."""
    places = {one.reference: None if cache is None else cache / _cache_name(one) for one in examples}
    missing = []
    for example in examples:
        place = places[example.reference]
        if place is None or not place.exists():
            missing.append(example)
            continue
        held = torch.load(place, weights_only=True)
        yield example, Measured(**held | {"taken": tuple(held["taken"])})
    for example, found in side_by_side(measure, missing, limit_s):
        done = nothing("too long") if found is None else found
        place = places[example.reference]
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(place) as target:
                torch.save(vars(done) | {"taken": list(done.taken)}, target)
        yield example, done


def _cache_name(example: Example) -> str:
    inputs = [example.checkpoint, example.reference, *([example.discriminator] if example.discriminator else [])]
    digest = hashlib.sha256("".join([_code(), example.law, *map(sha256_of, inputs)]).encode())
    return f"{example.name}-{digest.hexdigest()[:16]}.pt"


@lru_cache(1)
def _code() -> str:
    """A digest of the modules that decide what is measured."""
    root = Path(str(files(gan_export)))
    found = hashlib.sha256()
    for path in sorted(path for pattern in READERS for path in root.glob(pattern)):
        found.update(path.read_bytes())
    return found.hexdigest()


class TooLong(BaseException):
    """An example took more processor time than it may. No `Exception`: nothing on its way may catch it and go on."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `TooLong` in the block after `seconds` of processor time."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def side_by_side(
    work: Callable[[Example], Done], examples: Sequence[Example], limit_s: float
) -> Iterator[tuple[Example, Done | None]]:
    """`work` on each example, as they are done, two at a time; None for one that took more than `limit_s` of processor
    time."""
    if min(JOBS, len(examples)) < 2:
        yield from ((example, pickle.loads(_within(work, limit_s, (0, example))[1])) for example in examples)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(JOBS, initializer=torch.set_num_threads, initargs=(1,), maxtasksperchild=20) as pool:
        for at, done in pool.imap_unordered(partial(_within, work, limit_s), enumerate(examples)):
            yield examples[at], pickle.loads(done)


def _within(work: Callable[[Example], Done], limit_s: float, item: tuple[int, Example]) -> tuple[int, bytes]:
    """(which example, what `work` made of it or None, pickled: tensors go by value then)."""
    done: Done | None = None
    with contextlib.suppress(TooLong), limited(limit_s):
        done = work(item[1])
    return item[0], pickle.dumps(done)
