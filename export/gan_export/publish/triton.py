"""A model repository of NVIDIA Triton Inference Server: NAME/config.pbtxt and NAME/VERSION/model.onnx.

The fields are those of Triton's ModelConfig message. A tensor with one number for each image, such as a label, has the
shape (batch,) in the file; Triton's `dims` may not be empty, so that it is declared as [1] and reshaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.atomic import write_text
from gan_export.publish import check_folder, copy, name_of, open_exported

Device = Literal["auto", "cpu", "gpu"]
Accelerator = Literal["none", "tensorrt", "openvino"]
MAX_BATCH, MAX_DELAY_MS, MAX_INSTANCES, MAX_VERSION = 1 << 16, 10_000.0, 1024, 1 << 31


class _Enum(str):
    """A word of the text format that is no string."""


_Value = str | int | Sequence[int] | Mapping[str, "_Value"] | Sequence[Mapping[str, "_Value"]]


@dataclass(frozen=True)
class TritonOptions:
    """How Triton is to run a model.

    name         of the model; None for the file's
    version      the folder that the file goes to
    max_batch    images of one run; requests are put together up to it
    delay_ms     how long a request waits for others, in milliseconds
    instances    copies of the model on each device
    device       where they run; auto: on the GPUs, if there are any
    accelerator  runs the graph in the place of onnxruntime's own kernels, in the file's precision

    Raises `GanportError` on construction for values out of range.
    """

    name: str | None = None
    version: int = 1
    max_batch: int = 64
    delay_ms: float = 2.0
    instances: int = 1
    device: Device = "auto"
    accelerator: Accelerator = "none"

    def __post_init__(self) -> None:
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", self.name):
            raise GanportError(
                f"a model is not named {self.name!r} in Triton", hint="letters, digits, dots, dashes, underscores"
            )
        for field, most in (("max_batch", MAX_BATCH), ("instances", MAX_INSTANCES), ("version", MAX_VERSION)):
            if not 1 <= getattr(self, field) <= most:
                raise GanportError(f"`{field}` must be 1 to {most:,}, got {getattr(self, field)}", hint="leave it out")
        if not 0 <= self.delay_ms <= MAX_DELAY_MS:
            raise GanportError(f"`delay_ms` must be 0 to {MAX_DELAY_MS:,.0f}, got {self.delay_ms:g}", hint="2 is usual")
        for field, words in (("device", get_args(Device)), ("accelerator", get_args(Accelerator))):
            if getattr(self, field) not in words:
                raise GanportError(
                    f"`{field}` must be one of {', '.join(words)}, got {getattr(self, field)!r}", hint="leave it out"
                )
        if (self.device, self.accelerator) in (("cpu", "tensorrt"), ("gpu", "openvino")):
            raise GanportError(f"{self.accelerator} does not run on a {self.device.upper()}", hint="leave one out")


def write_repository(model: Path, folder: Path, options: TritonOptions = TritonOptions()) -> list[Path]:
    """Writes the model into the repository `folder`, beside the models that are there. Returns the files.

    An older file of the same name and version is replaced. Raises `GanportError` for a file that is no export.
    """
    check_folder(folder, model)
    with open_exported(model) as generator:
        name = options.name or name_of(model)
        text = config(generator.contract, name, options)
    files = [folder / name / "config.pbtxt", folder / name / str(options.version) / "model.onnx"]
    copy(model, files[1])
    write_text(files[0], text)
    return files


def config(contract: Contract, name: str, options: TritonOptions = TritonOptions()) -> str:
    """The text of config.pbtxt."""
    interface = contract.interface
    kind = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}[options.device]
    said: dict[str, _Value] = {
        "name": name,
        "backend": "onnxruntime",
        "default_model_filename": "model.onnx",
        "max_batch_size": options.max_batch,
        "input": _inputs(contract),
        "output": _outputs(contract),
        "instance_group": [{"count": options.instances, "kind": _Enum(kind)}],
        "dynamic_batching": {"max_queue_delay_microseconds": round(options.delay_ms * 1000)},
    }
    if options.accelerator != "none":
        target = "gpu" if options.accelerator == "tensorrt" else "cpu"
        precision = {"key": "precision_mode", "value": contract.precision.upper()}
        parameters: dict[str, _Value] = {"parameters": [precision]} if target == "gpu" else {}
        accelerator: dict[str, _Value] = {"name": options.accelerator} | parameters
        said["optimization"] = {"execution_accelerators": {f"{target}_execution_accelerator": [accelerator]}}
    about = f"{interface.picture}, from {interface.taken}".replace("\n", " ")
    return f"# {about.encode('ascii', 'replace').decode()}; written by gan-export triton\n{_text(said)}"


def _inputs(contract: Contract) -> list[Mapping[str, _Value]]:
    interface = contract.interface
    if interface.input is not None:
        channels, *sides = interface.input_shape
        first = _tensor("input", "UINT8", [*(sides if interface.input.fixed else (-1, -1)), channels])
    else:
        first = _tensor("z", "FP32", [interface.z_dim])
    labels = [_tensor("label", "INT64", [])] if interface.conditional else []
    types = {"float32": "FP32", "bool": "BOOL"}
    others = [
        _tensor(option, types[str(found.default.dtype)], list(found.shape)) | {"optional": _Enum("true")}
        for option, found in interface.options.items()
    ]
    return [first, *labels, *others]


def _outputs(contract: Contract) -> list[Mapping[str, _Value]]:
    interface = contract.interface
    channels, *sides = interface.image
    if interface.input is not None and not interface.input.fixed:
        sides = [-1, -1]
    shapes = {"image": ("FP32", [channels, *sides]), "pixels": ("UINT8", [*sides, channels])}
    if interface.styles is not None:
        shapes["styles"] = ("FP32", [interface.styles.num_ws, interface.styles.w_dim])
    return [_tensor(name, *shapes[name]) for name in interface.outputs]


def _tensor(name: str, kind: str, dims: list[int]) -> dict[str, _Value]:
    shape: dict[str, _Value] = {"dims": dims} if dims else {"dims": [1], "reshape": {"shape": []}}
    return {"name": name, "data_type": _Enum(f"TYPE_{kind}"), **shape}


def _text(fields: Mapping[str, _Value], indent: str = "") -> str:
    """A message in protobuf's text format."""
    lines: list[str] = []
    for name, value in fields.items():
        if isinstance(value, _Enum | int):
            lines.append(f"{name}: {value}")
        elif isinstance(value, str):
            lines.append(f"{name}: {json.dumps(value)}")
        elif isinstance(value, Mapping):
            lines.append(f"{name} {{\n{_text(value, '  ')}}}")
        elif all(isinstance(item, int) for item in value):
            lines.append(f"{name}: [{', '.join(map(str, value))}]")
        else:
            lines += [f"{name} {{\n{_text(item, '  ')}}}" for item in value if isinstance(item, Mapping)]
    return "".join(f"{indent}{line}\n" for entry in lines for line in entry.splitlines())
