"""What can be evaluated, as one interface: a checkpoint, a module, an exported file, each a `gan_serve` Generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files.model_file import sha256_of
from gan_core.images import to_pixels
from gan_core.said import UNSAID
from gan_core.spec.generator_spec import GeneratorSpec
from gan_serve.runtime import Given, check_drawn, runtimes
from gan_serve.runtime.generator import Generator
from gan_trainer.data import BUILTIN
from gan_trainer.devices import describe
from gan_trainer.networks.generator import GeneratorCheckpoint, SpecGenerator, load_generator

EXPORTED = (".onnx", ".ts")


class ModuleGenerator(Generator):
    """A torch generator on its own device, drawn in eval mode without gradients; its own mode is put back.

    module  forward(z) or forward(z, label), as `SpecGenerator`; z is an image where it takes one
    spec    None: the module's own `spec`
    """

    def __init__(self, module: nn.Module, spec: GeneratorSpec | None = None, *, training: Json | None = None):
        spec = spec or module.spec  # type: ignore[assignment]
        assert isinstance(spec, GeneratorSpec)
        self.module = module
        self.device = next(module.parameters()).device
        self.provider = f"torch {describe(self.device)}"
        self.sha256 = ""
        self.contract = Contract(spec.interface, name=spec.name, training=training or {})

    @torch.no_grad()
    def run(self, z: Given, label: I64 | None = None) -> tuple[F32, U8]:
        given = torch.from_numpy(np.array(z, np.float32)).to(self.device)
        if (taken := self.contract.interface.input) is not None:
            black, white = taken.value_range
            given = given.permute(0, 3, 1, 2) / 255 * (white - black) + black
        arguments = [given]
        if label is not None:
            arguments.append(torch.from_numpy(np.array(label, np.int64)).to(self.device))
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            image = self.module(*arguments).float().cpu().numpy()
        finally:
            for part, mode in modes:
                part.training = mode
        if not np.isfinite(image).all():
            raise JobError("the generator generates NaN or infinity", hint="its weights are damaged or it diverged")
        check_drawn(self.contract, z.shape, image_NCHW=image)
        return image, to_pixels(image, self.contract.interface.value_range)


def open_model(
    path: str | os.PathLike[str],
    *,
    device: torch.device,
    provider: str = "auto",
    threads: int | None = None,
    trust_script: bool = False,
) -> tuple[Generator, Json]:
    """A g.pt of ours (on `device`), or an exported .onnx or .ts (on `provider`), and what an evaluation says of it.

    Raises `GanportError` for a file that is missing or none of them.
    """
    path = Path(path)
    if str(path) in BUILTIN and not path.exists():
        raise GanportError(f"{path} is a data set, expected a model", hint=f"--data {path}")
    if path.is_dir():
        inside = [f"{path}/{name}" for name in ("g.pt", "g.onnx") if (path / name).exists()]
        hint = f"name the file in it: {inside[0]}" if inside else f"to compare with its images: --data {path}"
        raise GanportError(f"{path} is a folder, expected a model file", hint=hint)
    if path.suffix.lower() in EXPORTED:
        try:
            generator = runtimes.load(path, provider, threads, trust_script=trust_script)
        except GanportError as error:
            if error.code == UNSAID:
                error.hint = f"gan-export adopt {path} makes a copy that says it"
            raise
    else:
        if provider != "auto":
            raise GanportError(
                f"`provider` is for exported files, {path} is a checkpoint", hint="`device` says where torch runs"
            )
        if path.name == "last.pt":
            raise GanportError(
                f"{path} is the state of a training, expected its generator", hint=f"name {path.with_name('g.pt')}"
            )
        generator = _of_checkpoint(load_generator(path), device)
        generator.sha256 = sha256_of(path)
    return generator, about(generator) | {"file": path.name}


def _of_checkpoint(checkpoint: GeneratorCheckpoint, device: torch.device) -> Generator:
    return ModuleGenerator(checkpoint.module().to(device), checkpoint.spec, training=checkpoint.training)


def as_generator(
    source: Generator | SpecGenerator | GeneratorCheckpoint | str | os.PathLike[str], device: torch.device
) -> Generator:
    """`source` as a Generator: a module stays on its own device, a checkpoint's goes to `device`, a file is opened."""
    if isinstance(source, str | os.PathLike):
        return open_model(source, device=device)[0]
    if isinstance(source, GeneratorCheckpoint):
        return _of_checkpoint(source, device)
    return source if isinstance(source, Generator) else ModuleGenerator(source)


def about(generator: Generator) -> Json:
    """What is known of a generator: network, precision, digest, where it ran, how long it was trained."""
    contract = generator.contract
    training = contract.training
    return {
        "file": None,
        "sha256": generator.sha256 or None,
        "network": contract.name,
        "precision": contract.precision,
        "conditional": contract.interface.conditional,
        "provider": generator.provider,
        "steps": training.get("steps"),
        "recipe": recipe.get("name") if isinstance(recipe := training.get("recipe"), dict) else None,
    }
