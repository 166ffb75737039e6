"""All that changes while training, and `last.pt`, the file it is resumed from.

`last.pt` is a dictionary of tensors, numbers and text, loadable with `weights_only=True`:

    ganport_run   1
    config        RunConfig as JSON text
    generator, discriminator, ema           state_dicts (ema: None without one)
    optimizer_g, optimizer_d                Adam's state_dicts
    z_rng, torch_rng                        states of the random generators, uint8
    history, watch                          state_dicts of `History` and `gan_trainer.watch.Watch`
    step, images, seconds                   done so far; the place in the epoch follows from the step
"""

from __future__ import annotations

import copy
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_trainer.config import RunConfig
from gan_trainer.discriminators import Discriminator, initialise, start_at_zero
from gan_trainer.networks.generator import SpecGenerator, build, is_format, load_torch, save_torch, version_name
from gan_trainer.steps import STATS
from gan_trainer.watch import Watch

FORMAT = 1
MAX_HISTORY = 1 << 16
"""Of a history."""


class Ema:
    """An exponential moving average of a generator's weights and buffers; `module` draws with them, in eval mode.

        θ̄ ← β_t θ̄ + (1 - β_t) θ,    β_t = min(β, (1 + t) / (10 + t))

    It gives smoother images than any single step's weights (Yazıcı et al. 2019, arXiv:1806.04498). The ramp β_t keeps
    the random first weights out: after t updates of G it reaches back over about t / 9 steps at most (as in
    TensorFlow's ExponentialMovingAverage). BatchNorm's running statistics are averaged the same way, so that they fit
    the averaged weights; counters are copied.
    """

    def __init__(self, generator: SpecGenerator, beta: float) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.beta = beta

    def decay(self, updates: int) -> float:
        """β_t after `updates` updates."""
        return min(self.beta, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, generator: SpecGenerator, updates: int) -> None:
        """Takes the weights after step number `updates` (0 for the first) into the average."""
        average, current = self.module.state_dict(), generator.state_dict()
        floats = [name for name, tensor in average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [average[name] for name in floats], [current[name] for name in floats], 1.0 - self.decay(updates)
        )
        for name in average.keys() - floats:
            average[name].copy_(current[name])


class History:
    """The numbers of every step, for the loss curves.

    `values` is float32 (rows, 5) on the CPU: row i is the mean of `STATS` over steps i·stride … (i + 1)·stride - 1.

    At most `limit` rows are kept: when they fill, neighbours are averaged and `stride` doubles, so that the memory and
    the checkpoint stay small however long the training. Steps short of a whole row wait in `pending`.
    """

    def __init__(self, limit: int = MAX_HISTORY) -> None:
        self.limit = limit
        self.stride = 1
        self.values = torch.empty(0, len(STATS))
        self.pending = torch.empty(0, len(STATS))

    def extend(self, stats: Tensor) -> None:
        """Appends the numbers of some steps, float32 (n, 5), in order."""
        pending = torch.cat((self.pending, stats))
        whole = len(pending) - len(pending) % self.stride
        rows = pending[:whole].reshape(-1, self.stride, len(STATS)).mean(1)
        self.values = torch.cat((self.values, rows))
        self.pending = pending[whole:].clone()
        while len(self.values) >= self.limit:
            even = len(self.values) - len(self.values) % 2
            # An odd last row covers `stride` steps that a doubled row would need twice: they wait again.
            odd = self.values[even:].repeat_interleave(self.stride, 0)
            self.pending = torch.cat((odd, self.pending))
            self.values = self.values[:even].reshape(-1, 2, len(STATS)).mean(1)
            self.stride *= 2

    def state_dict(self) -> Json:
        return {"stride": self.stride, "values": self.values.clone(), "pending": self.pending.clone()}

    def load_state_dict(self, state: Json) -> None:
        self.stride = int(state["stride"])
        self.values = state["values"]
        self.pending = state["pending"]


@dataclass
class TrainState:
    """The networks on their device, their optimisers, the random streams and the counters.

    bf16  whether the steps so far were computed in bfloat16; None before the first
    """

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
    bf16: bool | None = None

    @classmethod
    def fresh(cls, config: RunConfig, device: torch.device) -> TrainState:
        """The state before the first step; the weights follow from the seed alone. Seeds torch's global generator."""
        recipe = config.recipe
        torch.manual_seed(config.seed)
        generator, discriminator = _networks(config)
        for network in (generator, discriminator):
            initialise(network, recipe.init)
        if recipe.task == "upscale":
            start_at_zero(generator)
        for network in (generator, discriminator):
            network.to(device)
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

    def _parts(self) -> dict[str, Any]:
        """What has a state_dict, under its name in the file."""
        parts = {
            "generator": self.generator, "discriminator": self.discriminator, "optimizer_g": self.optimizer_g,
            "optimizer_d": self.optimizer_d, "history": self.history, "watch": self.watch,
        }  # fmt: skip
        return parts if self.ema is None else {**parts, "ema": self.ema.module}

    def save(self, target: str | os.PathLike[str]) -> None:
        """Writes `last.pt`, whole or not at all. Raises `GanportError` when it cannot be written."""
        content = {
            "ganport_run": FORMAT,
            "config": json.dumps(self.config.to_json()),
            **{name: part.state_dict() for name, part in self._parts().items()},
            "z_rng": self.z_rng.get_state(),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds,
            "bf16": self.bf16,
        }
        save_torch({"ema": None} | content, target)

    def restore(self, content: Json, where: str) -> None:
        """Takes over what `read_last` read. Raises `GanportError` when it does not fit the config."""
        try:
            for name, part in self._parts().items():
                part.load_state_dict(content.get(name, {}) if name == "watch" else content[name])
            self.z_rng.set_state(content["z_rng"])
            torch.set_rng_state(content["torch_rng"])
            self.step, self.images = int(content["step"]), int(content["images"])
            self.seconds = float(content["seconds"])
            self.bf16 = content.get("bf16")
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            raise GanportError(
                f"{where} does not fit its own configuration: {str(error).partition(chr(10))[0]}",
                hint="it is damaged or of another ganport; start a new run with another `out`",
            ) from error


_KINDS: dict[str, type] = {
    "generator": dict, "discriminator": dict, "optimizer_g": dict, "optimizer_d": dict, "history": dict,
    "z_rng": torch.Tensor, "torch_rng": torch.Tensor, "step": int, "images": int, "seconds": float,
}  # fmt: skip
"""What `last.pt` holds, by type."""


def read_last(path: Path) -> tuple[RunConfig, Json]:
    """Reads a `last.pt` (tensors on the CPU), running no code from it.

    Raises `GanportError` when it is missing, damaged, or not of this format.
    """
    if not path.exists():
        raise GanportError(f"nothing to resume: no {path}", hint="start it without `resume`")
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
        if not isinstance(content.get("bf16"), bool | None):
            raise TypeError("its bf16 is neither true nor false")
        if min(content["step"], content["images"], content["seconds"]) < 0 or not math.isfinite(content["seconds"]):
            raise ValueError("it counts steps, images or seconds below zero, or without end")
        return config, content
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise GanportError(f"{path} is damaged: {error}", hint="start a new run") from error


def load_networks(path: str | os.PathLike[str]) -> tuple[SpecGenerator, nn.Module]:
    """Both trained networks of a `last.pt`, G (raw weights) and D, on the CPU in eval mode. Raises as `read_last`."""
    config, content = read_last(Path(path))
    generator, discriminator = _networks(config)
    generator.load_state_dict(content["generator"])
    discriminator.load_state_dict(content["discriminator"])
    return generator.eval(), discriminator.eval()


def _networks(config: RunConfig) -> tuple[SpecGenerator, Discriminator]:
    """G and D as torch initialises them."""
    recipe, spec = config.recipe, config.spec()
    arch = recipe.arch if recipe.task == "generate" else "dcgan"
    width = recipe.width if recipe.adversarial else 1  # where it is not trained
    return build(spec), Discriminator(arch, spec.interface.image, width, recipe.d_norm, config.n_classes)
