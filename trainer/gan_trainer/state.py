"""All that changes while training, and `last.pt`, the file it is resumed from.

`last.pt` is a dictionary of tensors, numbers and text, loadable with `weights_only=True`:

    ganport_run   1
    config        RunConfig as JSON text
    generator, discriminator, ema           state_dicts (ema: None without one)
    optimizer_g, optimizer_d                Adam's state_dicts
    z_rng, torch_rng                        states of the random generators, uint8
    history, watch  see `gan_trainer.history`, `gan_trainer.watch`
    step, images, seconds                   done so far; the place in the epoch follows from the step
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Adam

from gan_core.errors import GanportError
from gan_trainer.config import RunConfig
from gan_trainer.discriminators import Discriminator, initialise
from gan_trainer.ema import Ema
from gan_trainer.history import History
from gan_trainer.networks.build import SpecGenerator, build
from gan_trainer.networks.checkpoint import is_format, load_torch, save_torch, version_name
from gan_trainer.watch import Watch

FORMAT = 1


@dataclass
class TrainState:
    """The networks on their device, their optimisers, the random streams and the counters."""

    config: RunConfig
    generator: SpecGenerator
    discriminator: Discriminator
    optimizer_g: Adam
    optimizer_d: Adam
    ema: Ema | None
    z_rng: torch.Generator
    history: History = field(default_factory=History)
    watch: Watch = field(default_factory=Watch)
    step: int = 0
    images: int = 0
    seconds: float = 0.0

    @classmethod
    def fresh(cls, config: RunConfig, device: torch.device) -> TrainState:
        """The state before the first step; the weights follow from the seed alone. Seeds torch's global generator."""
        recipe = config.recipe
        spec = config.spec()
        torch.manual_seed(config.seed)
        generator = build(spec)
        discriminator = Discriminator(recipe.arch, spec.interface.image, recipe.width, recipe.d_norm, config.n_classes)
        initialise(generator, recipe.init)
        initialise(discriminator, recipe.init)
        generator.to(device)
        discriminator.to(device)
        return cls(
            config=config,
            generator=generator,
            discriminator=discriminator,
            optimizer_g=Adam(generator.parameters(), lr=recipe.lr_g, betas=recipe.betas),
            optimizer_d=Adam(discriminator.parameters(), lr=recipe.lr_d, betas=recipe.betas),
            ema=Ema(generator, recipe.ema_beta) if recipe.ema_beta is not None else None,
            z_rng=torch.Generator().manual_seed(config.seed),
        )

    @property
    def which(self) -> str:
        """Which weights are exported: "ema" or "raw"."""
        return "raw" if self.ema is None else "ema"

    @property
    def exported(self) -> SpecGenerator:
        """The generator that g.pt holds and that the sample pictures are drawn with."""
        return self.generator if self.ema is None else self.ema.module

    def not_finite(self) -> str | None:
        """The name of a network with a NaN or infinite weight or statistic, or None. Waits for the device."""
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        if self.ema is not None:
            networks["generator's average"] = self.ema.module
        for name, network in networks.items():
            floats = [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
            if not bool(torch.stack([tensor.isfinite().all() for tensor in floats]).all()):
                return name
        return None

    def save(self, target: str | os.PathLike[str]) -> None:
        """Writes `last.pt`, whole or not at all. Raises `GanportError` when it cannot be written."""
        content = {
            "ganport_run": FORMAT,
            "config": json.dumps(self.config.to_json()),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "z_rng": self.z_rng.get_state(),
            "torch_rng": torch.get_rng_state(),
            "history": self.history.state_dict(),
            "watch": self.watch.state_dict(),
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
        }
        save_torch(content, target)

    def restore(self, content: dict[str, Any], where: str) -> None:
        """Takes over what `read_last` read. Raises `GanportError` when it does not fit the config."""
        try:
            self.generator.load_state_dict(content["generator"])
            self.discriminator.load_state_dict(content["discriminator"])
            self.optimizer_g.load_state_dict(content["optimizer_g"])
            self.optimizer_d.load_state_dict(content["optimizer_d"])
            if self.ema is not None:
                self.ema.module.load_state_dict(content["ema"])
            self.z_rng.set_state(content["z_rng"])
            torch.set_rng_state(content["torch_rng"])
            self.history.load_state_dict(content["history"])
            self.watch.load_state_dict(content.get("watch", {}))
            self.step, self.images = int(content["step"]), int(content["images"])
            self.seconds = float(content["seconds"])
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            raise GanportError(
                f"{where} does not fit its own configuration: {str(error).partition(chr(10))[0]}",
                hint="it is damaged or of another ganport; start a new run with --out",
            ) from error


_KINDS: dict[str, type] = {
    "generator": dict, "discriminator": dict, "optimizer_g": dict, "optimizer_d": dict, "history": dict,
    "z_rng": torch.Tensor, "torch_rng": torch.Tensor, "step": int, "images": int, "seconds": float,
}  # fmt: skip
"""What `last.pt` holds, by type."""


def read_last(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Reads a `last.pt` (tensors on the CPU), running no code from it.

    Raises `GanportError` when it is missing, damaged, or not of this format.
    """
    if not path.exists():
        raise GanportError(f"nothing to resume: no {path}", hint="start it without --resume")
    lost = f"put a copy of it back, or start a new run; {path.with_name('g.pt')} still holds the generator"
    content = load_torch(path, "training state", hint=lost if path.with_name("g.pt").exists() else "start a new run")
    if not isinstance(content, dict) or "ganport_run" not in content:
        raise GanportError(f"{path} is not a training state written by gan-train", hint="start a new run")
    if not is_format(content["ganport_run"], FORMAT):
        raise GanportError(
            f"{path} has format {version_name(content['ganport_run'])}, this ganport reads {FORMAT}",
            hint="resume it with the ganport that wrote it",
        )
    try:
        config = RunConfig.from_json(json.loads(content["config"]))
        for field, kind in _KINDS.items():
            if not isinstance(content[field], kind):
                raise TypeError(f"its {field} is of type {type(content[field]).__name__}, expected {kind.__name__}")
        if min(content["step"], content["images"], content["seconds"]) < 0 or not math.isfinite(content["seconds"]):
            raise ValueError("it counts steps, images or seconds below zero, or without end")
        return config, content
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise GanportError(f"{path} is damaged: {error}", hint="start a new run") from error


def load_networks(path: str | os.PathLike[str]) -> tuple[SpecGenerator, nn.Module]:
    """Both trained networks of a `last.pt`, G (raw weights) and D, on the CPU in eval mode. Raises as `read_last`."""
    config, content = read_last(Path(path))
    recipe, spec = config.recipe, config.spec()
    generator = build(spec)
    discriminator = Discriminator(recipe.arch, spec.interface.image, recipe.width, recipe.d_norm, config.n_classes)
    generator.load_state_dict(content["generator"])
    discriminator.load_state_dict(content["discriminator"])
    return generator.eval(), discriminator.eval()
