"""A generator in torch: the module of its spec, and its checkpoint, g.pt.

The module's state_dict keys are `layers.<index>.<name>`, index and names as in `GeneratorSpec.tensors()`. What each
layer is in PyTorch, it says itself (`gan_core.spec.Layer`). The checkpoint is a spec and its weights, loadable with
`weights_only=True`:

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
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.fields import Shape
from gan_core.files.archive import damage_of
from gan_core.files.atomic import write_bytes
from gan_core.files.model_file import check_file, hint_of_missing, read_head
from gan_core.spec import Layer
from gan_core.spec.generator_spec import GeneratorSpec, SpecError
from gan_core.spec.style_layers import Noise, Styles

FORMAT = 1

_AS_AN_EXPORT = "anybody's checkpoint is evaluated as an export: gan-export"


class SpecGenerator(nn.Module):
    """The module of a spec. forward(z float32 (N, z_dim), label int64 (N,) | None) → image (N, C, H, W).

    Where the spec takes an image, that stands in the place of z: float32 (N, C, H, W) in its value range. Each of the
    interface's optional inputs may be given by name: (N, …), or (1, …) for all samples.
    """

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleList(map(build_layer, spec.layers, spec.shapes[:-1]))
        self.last_use = {name: index for index, layer in enumerate(spec.layers) for name in layer.uses}

    def forward(self, z: Tensor, label: Tensor | None = None, **options: Tensor) -> Tensor:
        return self.values(z, label, **options)[0]

    def values(self, z: Tensor, label: Tensor | None = None, **options: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `forward`, and the styles (N, num_ws, w_dim) that made the images, None for a network without."""
        x, styles = z, None
        named: dict[str, Tensor | None] = {self.spec.interface.input_name: z}
        for name, option in self.spec.interface.options.items():
            given = options.get(name)
            if given is None and not option.constant:  # a layer has a constant itself
                given = torch.from_numpy(option.row).to(z.device)
            named[name] = given
        for index, (layer, module) in enumerate(zip(self.spec.layers, self.layers, strict=True)):
            beside = (label,) if layer.classes else tuple(named[name] for name in layer.uses)
            x = layer.apply(torch, module, x, *beside)
            styles = x if isinstance(layer, Styles) else styles
            for name in layer.uses:
                if self.last_use[name] == index:
                    named.pop(name, None)  # a layer's images may take a gigabyte
            if layer.as_ in self.last_use:
                named[layer.as_] = x
        return x, styles

    def noise_maps(self) -> Tensor:
        """The constant noise of all layers, as the input `noise_maps` takes it: (1, size)."""
        placed = (isinstance(layer, Noise) and layer.at is not None for layer in self.spec.layers)
        maps = [part.get_parameter("map") for part, own in zip(self.layers, placed, strict=True) if own]
        return torch.cat([each.reshape(1, -1) for each in maps], dim=1)


def build(spec: GeneratorSpec) -> SpecGenerator:
    """A freshly initialised module for `spec` (torch's default initialisation)."""
    return SpecGenerator(spec)


def build_layer(layer: Layer, in_shape: Shape) -> nn.Module:
    """The module of one layer, given the per-sample shape that it receives; `layer.apply` runs it."""
    made: nn.Module | None = layer.module(nn, in_shape)
    return nn.Identity() if made is None else made


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
                raise GanportError(
                    f"the checkpoint lacks {name}, which its spec names",
                    hint="it was edited or is damaged: copy it again, or train again",
                )
            if found[name].shape != tensor.shape:
                raise GanportError(
                    f"{name} has shape {tuple(found[name].shape)}, its spec says {tuple(tensor.shape)}",
                    hint="it was edited or is damaged: copy it again, or train again",
                )
        extra = sorted(set(found) - set(expected))
        if extra:
            raise GanportError(
                f"the checkpoint holds {extra[0]}, which its spec does not name",
                hint="it was edited or is damaged: copy it again, or train again",
            )
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


def load_torch(path: Path, what: str, hint: str) -> Any:
    """What `torch.save` wrote to `path`, tensors on the CPU; no code in the file is run. `what` names it in messages.

    Raises `GanportError`, with `hint`, for a file that is no such thing, was cut short, or whose bytes are not those
    that were written: torch itself would load what is left.
    """
    path = check_file(path, what, in_folder=lambda folder: f"name the file in it: {folder}/g.pt")
    try:
        if reason := _why_unreadable(path):
            raise GanportError(f"{path} cannot be read as a {what}: {reason}", hint=hint)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (GanportError, MemoryError):
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        raise GanportError(
            f"{path} cannot be read as a {what}: it holds something else than tensors, numbers and text", hint=hint
        ) from error


def _why_unreadable(path: Path) -> str:
    head = read_head(path)
    if not head:
        return "it is empty"
    return damage_of(path) if head.startswith(b"PK") else "it does not begin as a file of torch.save does"


def parse_generator(content: Any, where: str) -> GeneratorCheckpoint:
    """Reads the dictionary `save_generator` wrote. Raises `GanportError` when it is of another version or damaged."""
    if not is_format(content.get("ganport"), FORMAT):
        raise GanportError(
            f"{where} is a ganport checkpoint of format {version_name(content.get('ganport'))}, "
            f"this ganport reads {FORMAT}",
            hint="install the ganport that wrote it",
        )
    weights, which = content.get("weights"), content.get("which")
    try:
        if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise ValueError("its weights are no tensors by name")
        if which not in ("ema", "raw"):
            raise ValueError("its weights are neither ema nor raw")
        training = _object(content.get("training"))
        spec = GeneratorSpec.loads(content["spec"])
        return GeneratorCheckpoint(spec, {str(name): weights[name] for name in weights}, which, training)
    except (KeyError, TypeError, ValueError, RecursionError, SpecError) as error:
        raise GanportError(f"{where} is a damaged ganport checkpoint: {error}", hint="copy it again") from error


def is_format(value: object, expected: int) -> bool:
    """Whether a file's `value` is the format `expected`; a tensor there has no truth of its own."""
    return type(value) is int and value == expected


def version_name(value: object) -> str:
    """The format that a file claims, for a message; what is no number is anything, and may be endless as text."""
    return str(value)[:20] if isinstance(value, int) else f"(a {type(value).__name__})"


def _object(text: object) -> dict[str, Any]:
    """The JSON object that `training` is, as text. Raises `ValueError` for anything else."""
    try:
        made = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        made = None
    if not isinstance(made, dict):
        raise ValueError("its training is no JSON object")
    return made


def load_generator(path: str | os.PathLike[str]) -> GeneratorCheckpoint:
    """Reads a `g.pt` of ours from disk, running no code from it. Raises `GanportError` for anything else."""
    path = Path(path)
    if not path.exists():
        raise GanportError(
            f"no file at {path}", hint=hint_of_missing(path, "check the path; a run's generator is its g.pt")
        )
    content = load_torch(path, "checkpoint", hint=f"copy it again; {_AS_AN_EXPORT} {path}")
    if not is_ours(content):
        raise GanportError(
            f"{path} is not a checkpoint written by gan-train",
            hint=f"{_AS_AN_EXPORT} {path}",
        )
    return parse_generator(content, str(path))
