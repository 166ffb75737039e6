"""What the exporters take: one generator module with a uniform signature, and all that is known about it.

Every way in (a checkpoint of ours, a stranger's state_dict, a live module) ends as a `Source`; everything after it
(ONNX, TorchScript, the proof) sees nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gan_core.files import model_file
from gan_core.files.model_file import sha256_of
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec


@dataclass(frozen=True)
class Source:
    """A generator, ready to export.

    module       eval mode, CPU, float32; forward(z (N, z_dim)) or forward(z, label (N,) int64) → (N, C, H, W)
                 in `value_range`
    spec         the chain it was built from, or None for a live module
    weights      "ema" or "raw"
    provenance   {"file": name, "sha256": hex, …} of the checkpoint
    training     what the trainer said of the run
    assumptions  choices that nothing in the file showed, one sentence each
    answers      what the user said in the place of assumptions
    doubts       why its images are likely wrong, one sentence each
    """

    module: nn.Module
    interface: Interface
    spec: GeneratorSpec | None = None
    weights: str = "raw"
    name: str = "generator"
    provenance: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def from_spec(
    spec: GeneratorSpec,
    module: nn.Module,
    *,
    weights: str = "raw",
    provenance: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    assumptions: tuple[str, ...] = (),
    answers: tuple[str, ...] = (),
    doubts: tuple[str, ...] = (),
) -> Source:
    """A `Source` for a module built from `spec`."""
    return Source(
        module.eval(),
        spec.interface,
        spec=spec,
        weights=weights,
        name=spec.name,
        provenance=provenance or {},
        training=training or {},
        assumptions=assumptions,
        answers=answers,
        doubts=doubts,
    )


def check_file(path: str | os.PathLike[str], what: str) -> Path:
    """`path` as a readable file. Raises `GanportError` when it is missing, a folder, a pipe or unreadable."""
    return model_file.check_file(path, what, in_folder=lambda folder: _file_in(folder, what))


def _file_in(folder: Path, what: str) -> str:
    """A hint that names the file in `folder` that was probably meant."""
    weights = ("g.pt", "*.pth", "*.pt", "*.ckpt", "*.safetensors", "*.pkl")
    for pattern in weights if what == "checkpoint" else ("*.spec.json", "*.json"):
        for path in sorted(folder.glob(pattern)):
            return f"name a file in it, such as {path}"
    return "name the file itself"


def file_provenance(path: Path) -> dict[str, Any]:
    """{"file": name, "sha256": hex digest, "size_bytes": n} of a file."""
    return {"file": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
