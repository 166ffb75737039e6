"""A recipe: everything that decides a training, as one frozen value; `gan_trainer.presets` has the named ones.

No torch here, so that help and reports need none.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from gan_core.errors import GanportError
from gan_core.fields import Json, check_fields
from gan_trainer.networks.architectures import ARCHITECTURES, UPSCALER, Arch, check_image

Loss = Literal["bce", "hinge", "wasserstein", "relativistic"]
Penalty = Literal["none", "gp", "r1", "r1r2"]
DNorm = Literal["batch", "spectral", "none"]
Order = Literal["d_first", "g_first"]
DLoss = Literal["sum", "mean", "joined"]
Init = Literal["dcgan", "torch", "he", "bilinear"]
Grid = Literal["exact", "save_image"]
Task = Literal["generate", "upscale"]

SCALES = (2, 4)
"""By how much an upscaler enlarges."""

UNSCALED = frozenset[Loss](("wasserstein", "relativistic"))
"""Losses that see only differences of D's outputs: D(x) may drift by any constant, and its sigmoid says nothing."""

AUGMENTATIONS = {"flip": 1, "colour": 3, "translation": 2, "cutout": 2}
"""Every augmentation, in the order in which they are applied, and how many random numbers an image of it takes."""

LEAST = {
    "width": 1, "z_dim": 1, "report_every": 1, "sample_every": 1, "n_fixed": 1, "cols": 1, "n_critic": 1,
    "penalty_every": 1, "print_every": 0, "batch_size": 2, "epochs": 1, "steps": 1,
}  # fmt: skip
"""The least value of a recipe's whole numbers; BatchNorm learns nothing from a batch of one image."""

LARGE = 256
"""From this side on a sample shows 16 images."""

MAX_ROWS = 20
"""A sample of a recipe with classes has a row for each, at most this many."""


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of a training. Raises `GanportError` on construction for a value out of range.

    name              the preset it started from
    arch              see `gan_trainer.networks.architectures`: "espcn" is the upscaler's
    size, channels    of the images; None: as the data set has them
    scale             how many times as large an upscaler makes images; 1 for a generator that takes a latent
    adversarial       weight of the adversarial loss beside the L1 loss of an upscaler; 0: without D
    width, z_dim      DCGAN's ngf = ndf (for the MLP: 64 is the tutorial's widths); components of a latent
    init              "dcgan": conv weights N(0, 0.02), BatchNorm weights N(1, 0.02); "torch": as torch makes them;
                      "he": as "dcgan", but D's weights N(0, gain² / fan_in) (He et al. 2015, arXiv:1502.01852), for a D
                      without normalisation; "bilinear": as "dcgan", but G's layers of kernel 4 and stride 2 (5 and 3)
                      begin as bilinear enlargements between random channels, which leave no checkerboard
    conditional       G and D take the class of an image, where the data have classes
    d_norm            what normalises D: "batch" (DCGAN) or "spectral" (Miyato et al. 2018, arXiv:1802.05957),
                      or "none"
    loss              "bce" (non-saturating), "hinge", "wasserstein" or "relativistic", see `gan_trainer.losses`
    penalty           on D's gradient: "none", "gp", "r1" or "r1r2", see `gan_trainer.losses`
    penalty_weight    λ of "gp", γ of "r1" and "r1r2" (each counts γ / 2)
    penalty_every     lazy regularisation: only every this many steps, this many times as heavy
    n_critic          steps of D for one of G; a step always is one batch of reals for D
    augment           what D sees images through: "none", "auto" or names, see `parse_augment`
    order             "d_first": one step of D, then one of G; "g_first": the other way. Both see the same fakes
    d_loss            "sum": real + fake, two backward passes; "mean": (real + fake) / 2, one backward pass;
                      "joined": real + fake in one batch, for a D without BatchNorm
    lr_g, lr_d        Adam's learning rates; `betas` are its two decay rates
    batch_size        images per step; the last, smaller batch of an epoch is kept
    epochs, steps     how long to train when nothing else is asked for (at most one is set)
    ema_beta          decay of the weight average that is exported, or None for the raw weights
    report_every      steps between reports: a line in log.jsonl, g.pt and last.pt
    print_every       steps between printed losses, or 0 to print with each report
    sample_every      steps between pictures of the fixed latents
    n_fixed, cols     how many fixed latents, and how many a row
    grid              "exact": pixels as an export gives them; "save_image": torchvision's, stretched to min … max
    checkpoint_every_epoch  keep a g.pt of every epoch in checkpoints/
    """

    name: str
    arch: Arch = "dcgan"
    size: int | None = None
    channels: int | None = None
    scale: int = 1
    adversarial: float = 1.0
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
        for rate in (self.lr_g, self.lr_d):
            if not (math.isfinite(rate) and rate > 0):
                raise GanportError(
                    f"a learning rate must be a finite number above 0, got {rate:g}",
                    hint="for a GAN, Adam's is 1e-4 to 1e-3",
                )
        self._check_penalty()
        self._check_task()
        check_fields(self, GanportError, "leave it out to take the preset's")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise GanportError(
                    f"`{name}` must be at least {least}, got {value}", hint="leave it out to take the preset's"
                )
        if self.d_loss == "joined" and self.d_norm == "batch":
            raise GanportError("d_loss joined mixes real and fake in D's BatchNorm", hint="d_norm spectral has none")
        parse_augment(self.augment, self.channels)
        check_image(self.size, self.channels)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise GanportError(
                f"Adam's betas must be two numbers in [0, 1), got {self.betas}", hint="such as (0.5, 0.999)"
            )
        if self.ema_beta is not None and not 0 <= self.ema_beta < 1:
            raise GanportError(
                f"EMA's decay must lie in [0, 1), got {self.ema_beta:g}", hint="such as 0.999; 0 keeps no average"
            )

    def _check_task(self) -> None:
        if self.arch not in (*ARCHITECTURES, UPSCALER):
            raise GanportError(
                f"arch must be one of {', '.join(ARCHITECTURES)}, got {self.arch!r}",
                hint="leave it out to take the preset's",
            )
        if (self.arch == UPSCALER) != (self.scale != 1):
            raise GanportError(
                f"`arch={self.arch}` does not go with `scale={self.scale}`: to upscale is a task of its own",
                hint='`task="upscale"`, without `arch`',
            )
        if self.scale == 1:
            if self.adversarial != 1:
                raise GanportError("`adversarial` is for upscalers", hint="leave it out")
            return
        if self.scale not in SCALES:
            raise GanportError(f"`scale` must be 2 or 4, got {self.scale}", hint="leave it out for 2")
        if not (math.isfinite(self.adversarial) and self.adversarial >= 0):
            raise GanportError(
                f"`adversarial` must be a finite number from 0, got {self.adversarial:g}", hint="such as 0.002"
            )
        if self.conditional:
            raise GanportError("an upscaler takes no classes", hint="leave `conditional` out")
        if not self.adversarial and (self.augment != "none" or self.n_critic != 1):
            raise GanportError(
                "`augment` and `n_critic` are about D, which this recipe does not train", hint='`preset="upscale-gan"`'
            )

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
    def task(self) -> Task:
        """What the generator is for."""
        return "generate" if self.scale == 1 else "upscale"

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The augmentations by name, "auto" resolved for the recipe's channels."""
        return parse_augment(self.augment, self.channels)

    @property
    def shown(self) -> tuple[int, int]:
        """How many fixed latents a sample shows, and how many a row: of large images few."""
        large = (self.size or 0) >= LARGE
        return (min(self.n_fixed, 16), min(self.cols, 4)) if large else (self.n_fixed, self.cols)

    def trains_g(self, step: int) -> bool:
        """Whether step number `step` (from 0) trains G: the last of every `n_critic`."""
        return (step + 1) % self.n_critic == 0

    def penalises(self, step: int) -> bool:
        """Whether step number `step` (from 0) computes the penalty: the first of every `penalty_every`."""
        return self.penalty != "none" and step % self.penalty_every == 0

    def override(self, **values: Any) -> Recipe:
        """The recipe with every value that is not None put in its place."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})

    def trained_for(self, unit: str, amount: float) -> Recipe:
        """The recipe of a training that ends after this many "steps", "epochs" or "minutes": what it would have trained
        for otherwise is gone."""
        epochs, steps = (int(amount) if unit == each else None for each in ("epochs", "steps"))
        return dataclasses.replace(self, epochs=epochs, steps=steps)

    def to_json(self) -> Json:
        return dataclasses.asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_json(cls, values: Json) -> Recipe:
        """Reads what `to_json` wrote. Raises `GanportError` for a field that is unknown, missing or wrong."""
        try:
            return cls(**values | {"betas": tuple(values["betas"])})
        except (KeyError, TypeError) as error:
            raise GanportError(f"the recipe does not read: {error}", hint="written by another ganport?") from error


def parse_augment(text: str, channels: int | None) -> tuple[str, ...]:
    """The augmentations that `text` names, in the order of `AUGMENTATIONS`; () for "none".

    "auto" is translation and cutout, and colour for RGB. Flips are never automatic (a mirrored 7 is no digit), but
    "auto,flip" asks for them. Raises `GanportError` for a name that does not exist, and for colour on grey images
    (`channels` 1).
    """
    known = f"none, or of auto, {', '.join(AUGMENTATIONS)} with commas between"
    names = [name.strip() for name in text.split(",")]
    if names == ["none"]:
        return ()
    if "none" in names:
        raise GanportError(f'`augment="none"` stands alone, got {text}', hint=known)
    if "auto" in names:
        names.remove("auto")
        names += [name for name in AUGMENTATIONS if name != "flip" and (name != "colour" or channels == 3)]
    for name in names:
        if name not in AUGMENTATIONS:
            raise GanportError(f"no augmentation is called {name!r}", hint=known)
    if len(set(names)) < len(names):
        raise GanportError(f"`augment` names one twice: {text}", hint=known)
    if "colour" in names and channels == 1:
        raise GanportError("the augmentation colour is for RGB, the images are grey", hint="leave colour out")
    return tuple(name for name in AUGMENTATIONS if name in names)


def columns(names: tuple[str, ...]) -> int:
    """How many uniform numbers these augmentations take for an image."""
    return sum(AUGMENTATIONS[name] for name in names)
