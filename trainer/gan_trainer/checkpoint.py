"""Generator checkpoints of ours: a spec and its weights, loadable with `weights_only=True`.

{"ganport": 1, "spec": JSON text, "weights": {"layers.0.weight": tensor, …},
 "which": "ema" | "raw", "training": JSON text}
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_serve.atomic import write_bytes
from gan_serve.errors import GanportError
from gan_trainer.build import SpecGenerator, build
from gan_trainer.spec import GeneratorSpec

FORMAT = 1


@dataclass(frozen=True)
class GeneratorCheckpoint:
    """What `g.pt` holds. `weights` are CPU tensors keyed as in `GeneratorSpec.tensors()`; `training` is provenance."""

    spec: GeneratorSpec
    weights: dict[str, Tensor]
    which: str = "raw"
    training: dict[str, Any] = field(default_factory=dict)

    def module(self) -> SpecGenerator:
        """The generator in eval mode. Raises `GanportError` when the weights do not fit the spec."""
        generator = build(self.spec)
        expected, found = generator.state_dict(), self.weights
        for name, tensor in expected.items():
            if name not in found:
                if name.endswith("num_batches_tracked"):
                    continue
                raise GanportError(f"the checkpoint lacks {name}, which its spec names")
            if found[name].shape != tensor.shape:
                raise GanportError(f"{name} has shape {tuple(found[name].shape)}, its spec says {tuple(tensor.shape)}")
        extra = sorted(set(found) - set(expected))
        if extra:
            raise GanportError(f"the checkpoint holds {extra[0]}, which its spec does not name")
        generator.load_state_dict(found, strict=False)
        return generator.eval()


def is_ours(content: object) -> bool:
    """Whether `content`, as loaded from a file, is a generator checkpoint of ours."""
    return isinstance(content, dict) and "ganport" in content and "spec" in content


def save_generator(checkpoint: GeneratorCheckpoint, target: str | os.PathLike[str]) -> None:
    """Writes `g.pt`, whole or not at all. Raises `GanportError` when it cannot be written."""
    content = {
        "ganport": FORMAT,
        "spec": json.dumps(checkpoint.spec.to_json()),
        "weights": {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()},
        "which": checkpoint.which,
        "training": json.dumps(checkpoint.training),
    }
    save_torch(content, target)


def save_torch(content: dict[str, Any], target: str | os.PathLike[str]) -> None:
    """`torch.save` to a file that is written whole or not at all. Raises `GanportError` when it cannot be written.

    By way of memory: torch's own file writer turns a full disk into a RuntimeError without an errno.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(target, buffer.getvalue())


def parse_generator(content: Any, where: str) -> GeneratorCheckpoint:
    """Reads the dictionary `save_generator` wrote. Raises `GanportError` when it is of another version or damaged."""
    if content.get("ganport") != FORMAT:
        raise GanportError(
            f"{where} is a ganport checkpoint of format {content.get('ganport')!r}, this ganport reads {FORMAT}",
            hint="install the ganport that wrote it",
        )
    try:
        return GeneratorCheckpoint(
            spec=GeneratorSpec.from_json(json.loads(content["spec"])),
            weights=dict(content["weights"]),
            which=str(content["which"]),
            training=dict(json.loads(content["training"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise GanportError(f"{where} is a damaged ganport checkpoint: {error}") from error


def load_generator(path: str | os.PathLike[str]) -> GeneratorCheckpoint:
    """Reads a `g.pt` of ours from disk, running no code from it. Raises `GanportError` for anything else."""
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise GanportError(f"no file at {path}", hint="check the path; a run's generator is its g.pt") from error
    except Exception as error:
        raise GanportError(f"{path} cannot be read as a checkpoint: {type(error).__name__}") from error
    if not is_ours(content):
        raise GanportError(f"{path} is not a checkpoint written by gan-train")
    return parse_generator(content, str(path))
