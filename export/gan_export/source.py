"""What the exporters take: one generator module with a uniform signature, and all that is known about it.

Every way in (a checkpoint of ours, a stranger's state_dict, a live module) ends as a `Source`; everything after it
(ONNX, TorchScript, the proof) sees nothing else. What is exported of it is a `PixelModule`.
"""

from __future__ import annotations

import copy
import mmap
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_core.contract import PREFIX
from gan_core.errors import GanportError
from gan_core.files import model_file
from gan_core.files.archive import EXTRA, is_archive, read_records
from gan_core.image_input import ImageInput
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec, SpecError


@dataclass(frozen=True)
class Source:
    """A generator, ready to export.

    module       eval mode, CPU, float32; forward(z (N, z_dim)) or forward(z, label (N,) int64) → (N, C, H, W)
                 in `value_range`; where the generator takes images, float32 (N, C, H, W) of them in the place of z
    spec         the chain it was built from, or None for a live module
    weights      "ema" or "raw"
    provenance   {"file": name, "sha256": hex, …} of the checkpoint
    training     what the trainer said of the run
    assumptions  choices that nothing in the file showed, one sentence each
    answers      what the user said in the place of assumptions
    doubts       why its images are likely wrong, one sentence each
    drawn_by     what runs `module`
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
    drawn_by: str = "PyTorch"

    @cached_property
    def products(self) -> int:
        """Multiplications that one image takes, of a live module those that torch counts in a run; 0 where unknown."""
        if self.spec is not None:
            return self.spec.products
        from torch.utils.flop_counter import FlopCounterMode  # 79 modules, for live modules alone

        given, *label = example_inputs(self, 1)
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                self.module(as_taken(given, self.interface.input), *label[: bool(self.interface.n_classes)])
        except Exception:  # whatever is wrong with it, the reference says
            return 0
        return int(counter.get_total_flops()) // 2


def from_spec(spec: GeneratorSpec, module: nn.Module, **about: Any) -> Source:
    """A `Source` for a module built from `spec`; `about` are further fields of it."""
    return Source(module.eval(), spec.interface, spec=spec, name=spec.name, **about)


def check_file(path: str | os.PathLike[str], what: str) -> Path:
    """`path` as a readable file. Raises `GanportError` when it is missing, a folder, a pipe or unreadable."""
    return model_file.check_file(path, what, in_folder=lambda folder: _file_in(folder, what))


MAX_SPEC_BYTES = 16 << 20


def read_spec(path: Path) -> GeneratorSpec:
    """The spec in a file. Raises `GanportError` when there is none."""
    path = check_file(path, "spec")
    if path.stat().st_size > MAX_SPEC_BYTES:
        raise GanportError(
            f"{path} has {path.stat().st_size:,} bytes, expected a spec of at most {MAX_SPEC_BYTES:,}",
            hint="`spec` takes the JSON that gan-export inspect writes; the checkpoint goes to `ckpt`",
        )
    try:
        return GeneratorSpec.loads(path.read_bytes())
    except SpecError as error:
        raise GanportError(f"{path}: {error}", hint=error.hint) from error


JOIN_PARTS = "join its parts: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER g.pth"
"""Of a folder that torch.distributed.checkpoint wrote."""


def _file_in(folder: Path, what: str) -> str:
    """A hint that names the file in `folder` that was probably meant."""
    if what == "checkpoint" and any(folder.glob("*.distcp")):
        return JOIN_PARTS
    weights = ("g.pt", "*.pth", "*.pt", "*.ckpt", "*.safetensors", "*.pkl")
    for pattern in weights if what == "checkpoint" else ("*.spec.json", "*.json"):
        for path in sorted(folder.glob(pattern)):
            return f"name a file in it, such as {path}"
    return "name the file itself"


class PixelModule(nn.Module):
    """A generator with the artefact's two outputs.

    forward(z float32 (N, z_dim) or an image uint8 (N, H, W, C), label int64 (N,) when conditional) returns `image`
    float32 (N, C, H, W) in `value_range` and `pixels` uint8 (N, H, W, C). The arithmetic of `pixels` is that of
    `gan_core.images.to_pixels`, operation for operation, so that both round alike to the last bit.
    """

    def __init__(self, generator: nn.Module, interface: Interface) -> None:
        super().__init__()
        self.generator = generator
        self.taken = interface.input
        self.black = interface.value_range[0]
        self.scale = 255.0 / (interface.value_range[1] - interface.value_range[0])
        self.training = generator.training

    def forward(self, z: Tensor, label: Tensor | None = None) -> tuple[Tensor, ...]:
        if self.taken is not None:
            z = as_taken(z, self.taken)
        return self.pixels(self.generator(z) if label is None else self.generator(z, label))

    def pixels(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Both outputs of the images."""
        rounded = torch.floor((image_NCHW - self.black) * self.scale + 0.5)
        pixels_NCHW = torch.clamp(rounded, 0, 255).to(torch.uint8)
        return image_NCHW, pixels_NCHW.permute(0, 2, 3, 1).contiguous()


class PixelModuleWithOptions(PixelModule):
    """As `PixelModule`, for the module of a spec with optional inputs.

    forward takes all that `interface.inputs` names, in that order, each with a row for each image, and returns what
    `interface.outputs` names: `styles` float32 (N, num_ws, w_dim) is the third of a network with styles.
    """

    def __init__(self, generator: nn.Module, interface: Interface) -> None:
        super().__init__(generator, interface)
        self.names = interface.inputs[1:]

    def forward(self, z: Tensor, *given: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        if self.taken is not None:
            z = as_taken(z, self.taken)
        image_NCHW, styles = self.generator.values(
            z,  # type: ignore[operator]
            **dict(zip(self.names, given, strict=True)),
        )
        return *self.pixels(image_NCHW), *([] if styles is None else [styles])


def as_taken(given: Tensor, taken: ImageInput | None, dtype: torch.dtype = torch.float32) -> Tensor:
    """A batch as the generator's layers see it: latents, or pixels uint8 (N, H, W, C) as (N, C, H, W) of `dtype`."""
    if taken is None:
        return given.to(dtype)
    black, white = taken.value_range
    values: Tensor = given.permute(0, 3, 1, 2).to(dtype) * ((white - black) / 255.0)
    return values + black if black else values


def export_module(source: Source) -> PixelModule:
    """A copy of the source's generator with its reparametrisations resolved, wrapped; the source stays as it is.

    The mode (eval or training) is kept, not set: a module in training mode is for the proof to refuse, not for
    the exporter to hide.
    """
    plain, interface = without_parametrizations(source.module), source.interface
    return (PixelModuleWithOptions if interface.options else PixelModule)(plain, interface)


def without_parametrizations(module: nn.Module) -> nn.Module:
    """A copy whose weight_norm and spectral_norm (hooks and parametrizations) are replaced by the weights they make."""
    plain = copy.deepcopy(module)
    with torch.no_grad():
        for part in plain.modules():
            if parametrize.is_parametrized(part):
                # A copy shares the class that holds its parametrised properties, which the removal deletes.
                shared = type(part)
                part.__class__ = type(shared.__name__, shared.__bases__, dict(shared.__dict__))
                for name in list(part.parametrizations):  # type: ignore[arg-type]
                    parametrize.remove_parametrizations(part, name, leave_parametrized=True)
            for key, hook in list(part._forward_pre_hooks.items()):
                if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):
                    hook.remove(part)  # type: ignore[attr-defined]
                    del part._forward_pre_hooks[key]
    return plain


def example_inputs(source: Source, batch: int = 3) -> tuple[Tensor, ...]:
    """What `source.interface.inputs` names, to trace with. Three rows: 0 and 1 are sizes that tracers specialise on, 2
    a common factor. Images of any size are higher than wide, for the same reason."""
    interface, taken = source.interface, source.interface.input
    given = [torch.zeros(batch, interface.z_dim)]
    if taken is not None:
        _, height, width = interface.input_shape
        height += 0 if taken.fixed else taken.multiple_of
        given = [torch.zeros(batch, height, width, taken.channels, dtype=torch.uint8)]
    if interface.n_classes:
        given.append(torch.arange(batch, dtype=torch.int64) % interface.n_classes)
    given += [torch.from_numpy(option.row.repeat(batch, axis=0)) for option in interface.options.values()]
    return tuple(given)


_HEAD_BYTES = 64
_TRAINING_STATE = b"ganport_run"


def check_checkpoint(path: Path) -> Path:
    """`path`, when it may be a checkpoint.

    Raises `GanportError` when the file is missing, or is a model that was exported already, a training state
    (last.pt) or text. What else is no checkpoint, the reader says (`gan_export.reading`).
    """
    path = check_file(path, "checkpoint")
    with path.open("rb") as handle:
        head = handle.read(_HEAD_BYTES)
    if path.suffix == ".distcp":
        raise GanportError(f"{path} is a part of a checkpoint", hint=JOIN_PARTS)
    if not head:
        raise GanportError(f"{path} is empty, expected a checkpoint", hint="copy or download it again")
    if head.lstrip()[:1] in (b"{", b"["):
        raise GanportError(f"{path} is JSON, expected a checkpoint", hint="name the weights, such as runs/NAME/g.pt")
    if head[:1] == b"\x08" and head[:3] != b"\x08\x01\x12":  # this is TensorFlow's
        raise GanportError(
            f"{path} is an ONNX model already, expected a checkpoint",
            hint=f"to prove it: gan-export verify {path}",
        )
    if is_archive(path):
        _refuse_archives(path)
    return path


def _refuse_archives(path: Path) -> None:
    """Zip archives that are no generator checkpoint: TorchScript of ours, and gan-train's last.pt."""
    try:
        with path.open("rb") as handle:
            records = read_records(handle, memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)))
    except (GanportError, OSError, ValueError):
        return  # damaged: the reader says so, in its own words
    exported = any(f"/{EXTRA}/{PREFIX}" in name for name in records)
    pickles = [record for name, record in records.items() if name.endswith("data.pkl")]
    training = bool(pickles) and _TRAINING_STATE in bytes(pickles[0].data[: 1 << 16])
    if exported:
        raise GanportError(
            f"{path} is an exported TorchScript model already, expected a checkpoint",
            hint=f"to prove it: gan-export verify {path}",
        )
    if training:
        generator = path.with_name("g.pt")
        raise GanportError(
            f"{path} is a training state, made to resume from, expected a generator",
            hint=f"gan-train keeps the generator beside it: `ckpt` {generator}",
        )
