"""A drafted generator: a spec guessed from a stranger's weights, and how each guess is founded.

`gan_export.understanding` makes drafts from names and shapes, `gan_export.forensics` tests what shapes cannot show
against the statistics that the BatchNorms remember, the command line shows and asks.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from gan_core.spec.generator_spec import GeneratorSpec

STRUCTURE = "structure"
"""The field of the choice of strides, paddings and upsamplings."""


Latents = Callable[[int, int], Tensor]
"""(n, seed) → latents, float32 (n, z_dim), not to be changed."""


class Evidence(enum.StrEnum):
    """How a choice is founded, best first."""

    PROVED = "proved"
    """Follows from keys and shapes, or is written in the file."""
    STRONG = "strong"
    """The statistics fit this value and clearly no other, or a known family's keys and shapes match throughout."""
    WEAK = "weak"
    """The statistics prefer this value, not by much; or it is a family's habit."""
    NONE = "none"
    """Nothing in the file shows it: an assumption."""

    @property
    def settled(self) -> bool:
        """Whether an export may rest on it without being asked."""
        return self in (Evidence.PROVED, Evidence.STRONG)


@dataclass(frozen=True)
class Choice:
    """One thing the spec says that the weights do not carry.

    layer         index into `spec.layers`, or None for a field of the spec itself ("latent", "value_range")
    field         the field's name: "stride", "eps", "activation" (name and slope together), "latent" …
    value         what the draft says, JSON-able (an activation is {"name": …, "slope": …})
    evidence      how that is founded
    reason        one sentence for people, with the number where there is one
    alternatives  the other values that were possible, best first
    odds          what the statistics say for `value` against the best different one, as a ratio (100.0 is 100 : 1);
                  None where they say nothing. Below 1 they speak against it
    habit         whether it rests on what authors usually write, a known family's code or custom, and not on the file
    """

    layer: int | None
    field: str
    value: Any
    evidence: Evidence
    reason: str
    alternatives: tuple[Any, ...] = ()
    odds: float | None = None
    habit: bool = False


class Variants(Protocol):
    """The structures that agree with a draft's up to one BatchNorm and differ before the next."""

    def shared(self, k: int) -> Hashable:
        """What the variants at BatchNorm `k` have in common: drafts that share it have the same ones."""

    def drafts(self, k: int) -> list[Draft]:
        """Every structure that agrees with the draft's up to the BatchNorm before `k` (of those that saw training) and
        differs up to `k`, likeliest first; where `k` is their number, in what comes after the last."""


@dataclass(frozen=True)
class Skip:
    """Why a draft may be no chain.

    reason   one sentence for people
    told     whether names say so; else it is shapes alone
    witness  the number of the first BatchNorm (of those that saw training) that would show it
    """

    reason: str
    told: bool
    witness: int


@dataclass(frozen=True)
class Structure:
    """How a draft's strides, paddings and upsamplings compare with what people write.

    cost      how unusual they are; 0 is what nearly everybody writes
    stretch   the part of `cost` in which it differs from its variants, as a factor: how many times better it must fit
    usual     whether the part of them in which it differs from its variants is what many generators have
    listed    whether somebody is known to have written each of them
    cut       whether the list that it comes from was cut
    variants  the other structures, a stretch at a time
    """

    cost: float
    stretch: float
    usual: bool
    listed: bool
    cut: bool
    variants: Variants


@dataclass(frozen=True)
class Alternative:
    """A whole generator that the file may be, beside a draft.

    likelihood  among all of the file: 0 … 1
    words       what it says of what is open, in a line
    """

    draft: Draft
    likelihood: float
    words: str


@dataclass(frozen=True)
class Draft:
    """A complete candidate: `weights` has the tensors of each layer of `spec`, by their names there.

    family   the name of a known family ("pytorch-examples-dcgan", "pytorch-gan-cgan" …) or "chain"
    fit      forensics' misfit (mean over BatchNorms of the median symmetric KL), None before forensics or without BNs
    fits     the misfit of each BatchNorm that remembers anything, in order; empty before forensics
    notes    sentences for people that are not about one choice
    rivals   the other structures that shapes allow, likeliest first: drafts of their own
    contradiction  why the file cannot be this network, in words; None where nothing speaks against it
    skip     why it may be no chain, until a BatchNorm settles that
    structure  how its sizes were found, None where a family or the user says them
    ranked     every whole generator that was drawn, the likeliest (this draft) first; empty where nothing was open
    odds       of this whole generator against all others; None where nothing was open
    recomputed how many latents its running statistics are computed again from; 0 leaves the file's
    batches    how many batches its BatchNorms have seen, by the file's counters; None where these do not say it
    knows_classes  whether its family says what the author's own classes in a pickle of modules compute
    trained    how many times wider than those that it takes its latents were in training, where an encoder made them,
               or what gives such latents
    """

    spec: GeneratorSpec
    weights: tuple[dict[str, Tensor], ...]
    choices: tuple[Choice, ...] = ()
    family: str = "chain"
    fit: float | None = None
    notes: tuple[str, ...] = field(default=())
    rivals: tuple[Draft, ...] = ()
    fits: tuple[float, ...] = ()
    contradiction: str | None = None
    skip: Skip | None = None
    structure: Structure | None = field(default=None, compare=False, repr=False)
    ranked: tuple[Alternative, ...] = field(default=(), compare=False, repr=False)
    odds: float | None = None
    recomputed: int = 0
    trained: float | Latents = 1.0
    batches: int | None = None
    knows_classes: bool = False

    @property
    def structure_choice(self) -> Choice | None:
        """The choice of strides, paddings and upsamplings; None where there is none."""
        return next((choice for choice in self.choices if choice.field == STRUCTURE), None)

    @property
    def structure_said(self) -> Any:
        """What that choice says; None where there is none."""
        choice = self.structure_choice
        return None if choice is None else choice.value

    def trained_as(self, other: Draft) -> Draft:
        """This draft with the latents and batches of the training of `other`."""
        return replace(self, trained=other.trained, batches=other.batches)

    @property
    def encoder_made(self) -> bool:
        """Whether an encoder made the latents of its training, and they were not like those that it takes."""
        return self.trained != 1.0

    @property
    def open_choices(self) -> tuple[Choice, ...]:
        """The choices that an export may not rest on unasked."""
        return tuple(choice for choice in self.choices if not choice.evidence.settled)
