"""Training on from an earlier run's generator: its networks, its weights, and those of its discriminator."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.fields import Json
from gan_core.files.model_file import check_file
from gan_trainer.config import TrainRequest
from gan_trainer.networks.generator import GeneratorCheckpoint, load_generator
from gan_trainer.state import Ema, TrainState, read_last

NETWORK = ("arch", "scale", "size", "channels", "width", "z_dim", "conditional")
"""Of a recipe what the generator's shapes follow from."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What a training starts from. `discriminator` is the state_dict in the last.pt beside `path`, if any."""

    path: Path
    generator: GeneratorCheckpoint
    discriminator: dict[str, Tensor] | None

    @classmethod
    def read(cls, path: Path) -> Start:
        """Reads a g.pt of ours, and last.pt beside it. Raises `GanportError` for anything else at `path`."""
        check_file(path, "checkpoint", in_folder=lambda folder: f"name the file in it: {folder}/g.pt")
        try:
            generator = load_generator(path)
            generator.module()
        except GanportError as error:
            raise GanportError(str(error), hint="`init` takes the g.pt of a run of gan-train, whole") from error
        last = path.with_name("last.pt")
        return cls(path, generator, read_last(last)[1]["discriminator"] if last.is_file() else None)

    def networks_for(self, request: TrainRequest) -> TrainRequest:
        """`request`, with the networks of this generator. Raises `GanportError` where it asks for others."""
        made: Json = self.generator.training.get("recipe") or {}
        interface = self.generator.spec.interface
        made = {name: made[name] for name in NETWORK if name in made} | {
            "size": interface.height, "channels": interface.channels, "conditional": bool(interface.n_classes),
        }  # fmt: skip
        if interface.z_dim:
            made["z_dim"] = interface.z_dim
        else:
            made.pop("z_dim", None)
        for name, value in made.items():
            asked = request.changes.get(name)
            if asked is not None and asked != value:
                raise GanportError(
                    f"{self.path} was made with `{name}={value}`, asked is `{name}={asked}`",
                    hint="leave it out to train that network on, or leave `init` out",
                )
        task = request.task or ("upscale" if request.preset is None and interface.input is not None else None)
        return dataclasses.replace(request, task=task, changes={**request.changes, **made})

    def into(self, state: TrainState) -> None:
        """Puts the weights in the place of the random ones of `state`. Raises `GanportError` where they do not fit."""
        ours, theirs = state.generator.spec, self.generator.spec
        if ours.interface.n_classes != theirs.interface.n_classes:
            raise GanportError(
                f"{self.path} has {theirs.interface.n_classes} classes, the data {ours.interface.n_classes}",
                hint="train on data of as many classes, or leave `init` out",
            )
        misfit = _misfit(state.generator, self.generator.weights)
        if misfit or ours.layers != theirs.layers:
            raise GanportError(
                f"the generator in {self.path} is another network than {ours.name}: {misfit or 'its layers differ'}",
                hint="choose `arch` and `width` as it has them, or leave `init` out",
            )
        state.generator.load_state_dict(self.generator.weights, strict=False)
        if state.ema is not None:
            state.ema = Ema(state.generator, state.ema.beta)
        if self.discriminator is None:
            log.info(f"no last.pt lies beside {self.path}: the discriminator starts from random weights")
        elif misfit := _misfit(state.discriminator, self.discriminator):
            log.info(f"the discriminator starts from random weights: the one beside {self.path} differs ({misfit})")
        else:
            state.discriminator.load_state_dict(self.discriminator)


def _misfit(network: nn.Module, weights: dict[str, Tensor]) -> str:
    """The first tensor in which `weights` are not those of `network`, in words; "" where there is none."""
    wanted: dict[str, Any] = network.state_dict()
    for name in [*wanted, *weights]:
        if name.endswith("num_batches_tracked"):
            continue
        if name not in weights or name not in wanted:
            return f"{name} is only in {'the new one' if name in wanted else 'the old one'}"
        if weights[name].shape != wanted[name].shape:
            return f"{name} is {tuple(weights[name].shape)}, expected {tuple(wanted[name].shape)}"
    return ""
