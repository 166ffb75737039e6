"""A recipe: everything that decides a training, as one frozen value. `gan_trainer.presets` has the named ones.

No torch here, so that `gan-train --help` needs none.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gan_core.errors import GanportError
from gan_trainer.augmentations import parse_augment
from gan_trainer.networks.architectures import ARCHITECTURES, SIZES

Loss = Literal["bce", "hinge", "wasserstein", "relativistic"]
Penalty = Literal["none", "gp", "r1", "r1r2"]
DNorm = Literal["batch", "spectral", "none"]
Order = Literal["d_first", "g_first"]
DLoss = Literal["sum", "mean", "joined"]
Init = Literal["dcgan", "torch", "he"]
Grid = Literal["exact", "save_image"]

UNSCALED = frozenset[Loss](("wasserstein", "relativistic"))
"""Losses that see only differences of D's outputs: D(x) may drift by any constant, and its sigmoid says nothing."""

MAX_ROWS = 20
"""A sample of a recipe with classes has a row for each, at most this many."""


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of a training. Raises `GanportError` on construction for a value out of range.

    name              the preset it started from
    arch              "mlp" or "dcgan", see `gan_trainer.networks.architectures`
    size, channels    of the images; None: as the data set has them
    width, z_dim      DCGAN's ngf = ndf (for the MLP: 64 is the tutorial's widths); components of a latent
    init              "dcgan": conv weights N(0, 0.02), BatchNorm weights N(1, 0.02); "torch": as torch makes them;
                      "he": as "dcgan", but D's weights N(0, gain² / fan_in) (He et al. 2015, arXiv:1502.01852), for a D
                      without normalisation
    conditional       G and D take the class of an image, where the data have classes
    d_norm            what normalises D: "batch" (DCGAN) or "spectral" (Miyato et al. 2018, arXiv:1802.05957),
                      or "none"
    loss              "bce" (non-saturating), "hinge", "wasserstein" or "relativistic", see `gan_trainer.losses`
    penalty           on D's gradient: "none", "gp", "r1" or "r1r2", see `gan_trainer.penalties`
    penalty_weight    λ of "gp", γ of "r1" and "r1r2" (each counts γ / 2)
    penalty_every     lazy regularisation: only every this many steps, this many times as heavy
    n_critic          steps of D for one of G; a step always is one batch of reals for D
    augment           what D sees images through: "none", "auto" or names, see `gan_trainer.augmentations`
    order             "d_first": one step of D, then one of G; "g_first": the other way. Both see the same fakes
    d_loss            "sum": real + fake, two backward passes; "mean": (real + fake) / 2, one backward pass;
                      "joined": real + fake in one batch, for a D without BatchNorm
    lr_g, lr_d        Adam's learning rates; `betas` are its two decay rates
    batch_size        images per step; the last, smaller batch of an epoch is kept
    epochs, steps     how long to train when nothing else is asked for (one of them is set)
    ema_beta          decay of the weight average that is exported, or None for the raw weights
    report_every      steps between reports: a line in log.jsonl, g.pt and last.pt
    print_every       steps between printed losses, or 0 to print with each report
    sample_every      steps between pictures of the fixed latents
    n_fixed, cols     how many fixed latents, and how many a row
    grid              "exact": pixels as an export gives them; "save_image": torchvision's, stretched to min … max
    checkpoint_every_epoch  keep a g.pt of every epoch in checkpoints/
    """

    name: str
    arch: str = "dcgan"
    size: int | None = None
    channels: int | None = None
    width: int = 64
    z_dim: int = 100
    conditional: bool = False
    init: Init = "dcgan"
    d_norm: DNorm = "batch"
    loss: Loss = "bce"
    penalty: Penalty = "none"
    penalty_weight: float = 0.0
    penalty_every: int = 1
    n_critic: int = 1
    augment: str = "none"
    order: Order = "d_first"
    d_loss: DLoss = "sum"
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.999)
    batch_size: int = 64
    epochs: int | None = None
    steps: int | None = None
    ema_beta: float | None = None
    report_every: int = 100
    print_every: int = 0
    sample_every: int = 500
    n_fixed: int = 64
    cols: int = 8
    grid: Grid = "exact"
    checkpoint_every_epoch: bool = False

    def __post_init__(self) -> None:
        _one_of("arch", self.arch, ARCHITECTURES)
        _one_of("init", self.init, get_args(Init))
        _one_of("d_norm", self.d_norm, get_args(DNorm))
        _one_of("loss", self.loss, get_args(Loss))
        _one_of("penalty", self.penalty, get_args(Penalty))
        _one_of("order", self.order, get_args(Order))
        _one_of("d_loss", self.d_loss, get_args(DLoss))
        _one_of("grid", self.grid, get_args(Grid))
        if self.d_loss == "joined" and self.d_norm == "batch":
            raise GanportError("d_loss joined mixes real and fake in D's BatchNorm", hint="d_norm spectral has none")
        self._check_penalty()
        parse_augment(self.augment, self.channels)
        if self.size is not None and self.size not in SIZES:
            raise GanportError(f"no network for size {self.size}", hint=f"sizes: {', '.join(map(str, SIZES))}")
        if self.channels not in (None, 1, 3):
            raise GanportError(
                f"channels must be 1 (grey) or 3 (RGB), got {self.channels}", hint="leave it out to take the data's own"
            )
        for name in ("width", "z_dim", "report_every", "sample_every", "n_fixed", "cols", "n_critic", "penalty_every"):
            _at_least(1, name, getattr(self, name))
        _at_least(0, "print_every", self.print_every)
        if self.batch_size < 2:
            raise GanportError(
                f"batch size must be at least 2, got {self.batch_size}",
                hint="batch normalisation cannot learn from a batch of one image",
            )
        for name in ("lr_g", "lr_d"):
            rate = getattr(self, name)
            if not (math.isfinite(rate) and rate > 0):
                raise GanportError(
                    f"a learning rate must be a finite number above 0, got {rate:g}",
                    hint="for a GAN, Adam's is 1e-4 to 1e-3",
                )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise GanportError(
                f"Adam's betas must be two numbers in [0, 1), got {self.betas}", hint="such as (0.5, 0.999)"
            )
        if self.ema_beta is not None and not 0 <= self.ema_beta < 1:
            raise GanportError(
                f"EMA's decay must lie in [0, 1), got {self.ema_beta:g}", hint="such as 0.999; 0 keeps no average"
            )
        for name in ("epochs", "steps"):
            if getattr(self, name) is not None:
                _at_least(1, name, getattr(self, name))

    def _check_penalty(self) -> None:
        if self.loss == "relativistic" and self.d_loss != "joined":
            raise GanportError(
                "the relativistic loss pairs reals with fakes", hint="d_loss joined passes them together"
            )
        if self.n_critic > 1 and self.order != "d_first":
            raise GanportError(f"{self.n_critic} steps of D for one of G need order d_first", hint="or n_critic 1")
        if not (math.isfinite(self.penalty_weight) and self.penalty_weight >= 0):
            raise GanportError(
                f"a penalty's weight must be a finite number from 0, got {self.penalty_weight:g}",
                hint="λ of gp is 10; γ of r1r2 is about 0.1 to 10",
            )
        if (self.penalty != "none") != (self.penalty_weight > 0):
            raise GanportError(
                f"penalty {self.penalty} with weight {self.penalty_weight:g}",
                hint="a recipe with a penalty, such as wgan-gp or r3gan, gives it a weight above 0; others have none",
            )
        if self.penalty == "none" and self.penalty_every != 1:
            raise GanportError("penalty_every without a penalty", hint="recipes with one: wgan-gp, r3gan")
        if self.penalty != "none" and self.d_loss != "joined":
            raise GanportError("a penalty needs reals and fakes in one pass of D", hint="d_loss joined")

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The augmentations by name, "auto" resolved for the recipe's channels."""
        return parse_augment(self.augment, self.channels)

    def trains_g(self, step: int) -> bool:
        """Whether step number `step` (from 0) trains G: the last of every `n_critic`."""
        return (step + 1) % self.n_critic == 0

    def penalises(self, step: int) -> bool:
        """Whether step number `step` (from 0) computes the penalty: the first of every `penalty_every`."""
        return self.penalty != "none" and step % self.penalty_every == 0

    def override(self, **values: Any) -> Recipe:
        """The recipe with every value that is not None put in its place."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """Reads what `to_json` wrote. Raises `GanportError` for a field that is unknown, missing or wrong."""
        try:
            return cls(**values | {"betas": tuple(values["betas"])})
        except (KeyError, TypeError) as error:
            raise GanportError(f"the recipe does not read: {error}", hint="written by another ganport?") from error


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise GanportError(f"{name} must be one of {', '.join(choices)}, got {value!r}", hint="choose one of them")


def _at_least(least: int, name: str, value: int) -> None:
    if value < least:
        raise GanportError(f"{name} must be at least {least}, got {value}", hint="leave it out to take the preset's")
