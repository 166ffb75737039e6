"""How a foreign forward is called, and `LiveGenerator`: any generator behind the one signature that exporters take."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.said import Inputs
from gan_export.live.kernels import UngroupBatch
from gan_export.live.tracing import Cleared, FullPrecision, Still, symbolic_batch

LabelForm = Literal["index", "one-hot", "column", "one-hot map"]
Layout = Literal["NCHW", "NHWC", "flat"]

LABEL_FORMS: tuple[LabelForm, ...] = ("index", "one-hot", "column", "one-hot map")
"""A label as int64 (N,), float32 (N, classes), int64 (N, 1), float32 (N, classes, 1, 1)."""
ONE_HOT_FORMS: tuple[LabelForm, ...] = ("one-hot", "one-hot map")
LABEL_SHAPES: dict[LabelForm, str] = {
    "index": "(N,)",
    "one-hot": "one-hot (N, classes)",
    "column": "(N, 1)",
    "one-hot map": "one-hot (N, classes, 1, 1)",
}
IMAGE_CHANNELS = (1, 3)


@dataclass(frozen=True)
class ZShape:
    """The shape of one latent as forward takes it, without sides for an image of any size; `listed`: in a list, as
    rosinality's StyleGAN2 wants it."""

    sides: tuple[int, ...]
    listed: bool = False

    def __str__(self) -> str:
        text = "x".join(map(str, self.sides))
        return f"[{text}]" if self.listed else text


@dataclass(frozen=True)
class Call:
    """One way to call a forward; `label_form`, how a label is given, is None without classes."""

    inputs: Inputs
    z_dim: int
    z_shape: ZShape
    n_classes: int = 0
    label_form: LabelForm | None = None

    def __str__(self) -> str:
        """For people: "forward(z (N, 100), labels=label (N,))"."""
        if not self.z_shape.sides:
            return "forward(image (N, C, H, W))"
        z = ", ".join(("N", *map(str, self.z_shape.sides)))
        z = f"[({z})]" if self.z_shape.listed else f"({z})"
        shapes = {"z": z, "label": LABEL_SHAPES[self.label_form] if self.label_form else ""}
        parts = [f"{name + '=' if name else ''}{role} {shapes[role]}" for role, name in self.inputs]
        return f"forward({', '.join(parts)})"


@dataclass(frozen=True)
class Picked:
    """Where the image is: `path` of indices, keys and attributes into the output, its layout, and (C, H, W)."""

    path: tuple[int | str, ...]
    layout: Layout
    image: tuple[int, int, int]


def parse_z_shape(text: str, z_dim: int | None) -> tuple[ZShape | None, int | None]:
    """ "D", "Dx1x1", "[D]", "14x512" → (the shape or None while D is not known, z_dim). Raises `GanportError`."""
    match = re.fullmatch(r"(\[?)((?:\d+|D)(?:x(?:\d+|D))*)(\]?)", text.strip().replace("×", "x"))
    if match is None or bool(match[1]) != bool(match[3]) or match[2].count("D") > 1:
        raise GanportError(
            f"`z_shape` must be such as D, Dx1x1, [D] or 14x512, got {text!r}",
            hint="D stands for what is left of z's numbers",
        )
    sides = match[2].split("x")
    fixed = math.prod(int(side) for side in sides if side != "D")
    if fixed < 1:
        raise GanportError(f"`z_shape` has a side of 0: {text!r}", hint="every side is 1 or more")
    if "D" not in sides:
        if z_dim is not None and z_dim != fixed:
            raise GanportError(
                f"`z_shape` {text} holds {fixed} numbers, `z_dim` says {z_dim}", hint="leave out one of them"
            )
        z_dim = fixed
    if z_dim is None:
        return None, None
    if z_dim % fixed:
        raise GanportError(
            f"`z_shape` {text} cannot hold {z_dim} numbers",
            hint="z's numbers must be a multiple of the sides that are given",
        )
    shape = tuple(z_dim // fixed if side == "D" else int(side) for side in sides)
    return ZShape(shape, bool(match[1])), z_dim


def parts(output: Any, path: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Tensor]]:
    """Every tensor in what a forward returned, with its path: tuples, lists, dictionaries, dataclasses."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from parts(value, (*path, str(key)))
    elif isinstance(output, (tuple, list)):
        for index, value in enumerate(output):
            yield from parts(value, (*path, index))
    elif is_dataclass(output) and not isinstance(output, type):
        for field in fields(output):
            yield from parts(getattr(output, field.name), (*path, field.name))
    elif hasattr(output, "__dict__"):
        for name, value in vars(output).items():
            if isinstance(value, Tensor):
                yield (*path, name), value


def pick(output: Any, path: tuple[int | str, ...]) -> Any:
    """The part of `output` at `path`."""
    for step in path:
        output = output[step] if isinstance(step, int) or isinstance(output, Mapping) else getattr(output, step)
    return output


def layout_of(
    shape: tuple[int, ...], n: int, image: tuple[int, int, int] | None
) -> tuple[Layout, tuple[int, int, int]] | None:
    """What images a tensor of `shape` holds, of a batch of `n`; `image`, when given, has to be theirs. None: none."""
    if len(shape) < 2 or shape[0] != n:
        return None
    sides = tuple(shape[1:])
    size = math.prod(sides)
    found: tuple[Layout, tuple[int, int, int]] | None = None
    if len(sides) == 3 and sides[0] in IMAGE_CHANNELS and min(sides[1:]) > 3:
        found = "NCHW", (sides[0], sides[1], sides[2])
    elif len(sides) == 3 and sides[2] in IMAGE_CHANNELS and min(sides[:2]) > 3:
        found = "NHWC", (sides[2], sides[0], sides[1])
    elif len(sides) == 2 and min(sides) > 3:
        found = "flat", (1, sides[0], sides[1])
    elif len(sides) == 1 or size == max(sides):
        found = _square(size)
    if image is None:
        return found
    if found is not None and found[1] == image:
        return found
    whole = math.prod(image) == size
    return ("flat", image) if whole and (len(sides) == 1 or size == max(sides)) else None


def _square(size: int) -> tuple[Layout, tuple[int, int, int]] | None:
    """A flat output as the one square image, grey or RGB, that it can be: 784 is 1x28x28, 3072 is 3x32x32."""
    for channels in IMAGE_CHANNELS:
        side = int((size / channels) ** 0.5 + 0.5)
        if side >= 8 and channels * side * side == size:
            return "flat", (channels, side, side)
    return None


_FILLED = re.compile(r"(zeros|ones)\(([N\d,\s]*)\)")
_FILL = {"zeros": 0.0, "ones": 1.0}
HINT = "such as noise=0, truncation=0.7, return_latents=false or noise=zeros(N,1,32,32)"


class Constant:
    """One constant. `value` is a tensor, or what is passed as it is; `batched`: its first side is the batch's."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.batched = False
        self.value: Any = None
        filled = _FILLED.fullmatch(text.strip())
        if filled is None:
            self.value = self._plain(text)
            return
        sides = [side.strip() for side in filled[2].split(",") if side.strip()]
        self.batched = sides[:1] == ["N"]
        if "N" in sides[1:]:
            raise GanportError(f"`constant` {name}={text}: only the first side can be N, the batch", hint=HINT)
        shape = [1 if side == "N" else int(side) for side in sides]
        if torch.Size(shape).numel() > 1 << 28:
            raise GanportError(f"`constant` {name}={text} is larger than 1 GiB", hint=HINT)
        self.value = torch.full(shape, _FILL[filled[1]])

    def _plain(self, text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise GanportError(f"`constant` {self.name}={text} is not JSON: {error}", hint=HINT) from error
        if isinstance(value, list):
            try:
                return torch.tensor(value, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError) as error:
                raise GanportError(
                    f"`constant` {self.name}={text} is no tensor: a list must hold numbers, in rows of one length",
                    hint=HINT,
                ) from error
        if isinstance(value, dict):
            raise GanportError(
                f"`constant` {self.name} is an object, which no forward is given in a graph",
                hint="write a factory that returns a module with a plain forward",
            )
        return value

    def at(self, batch: Any, tensor: Tensor | None) -> Any:
        """What is passed for a batch of `batch`; `tensor` stands in for a tensor value (a buffer of the adapter's)."""
        if tensor is None:
            return self.value
        return tensor.expand(batch, *tensor.shape[1:]) if self.batched else tensor


_ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hardtanh": F.hardtanh,
    "identity": None,
}


class LiveGenerator(nn.Module):
    """forward(z float32 (N, z_dim) or an image (N, C, H, W), label int64 (N,) when conditional) → float32 (N, C, H, W).

    Reshapes the latent, makes the label what the module wants, passes the constants, picks the image out of what comes
    back, brings it to NCHW and applies `activation`. `noise` is None, or what replaces the draws of the forward
    (`tracing.Still`); `fixed` are the tensors of "fixed" noise. `symbolic`, set by an exporter that met a fixed batch,
    traces with `tracing.symbolic_batch`. `halves` are the types of half precision that its forward asked for, and that
    it computes in float32 here. Constants and noise are buffers, so that they move with the adapter.
    """

    def __init__(
        self,
        module: nn.Module,
        call: Call,
        constants: Sequence[Constant] = (),
        *,
        picked: Picked | None = None,
        activation: str | None = None,
        noise: str | None = None,
        fixed: Sequence[Tensor] = (),
    ) -> None:
        super().__init__()
        self.module = module
        self.call = call
        self.constants = tuple(constants)
        self.picked = picked
        self.activation = _ACTIVATIONS[activation or "identity"]
        self.noise = noise
        self.fixed = len(fixed)
        for index, constant in enumerate(self.constants):
            if isinstance(constant.value, Tensor):
                self.register_buffer(f"constant_{index}", constant.value, persistent=False)
        for index, tensor in enumerate(fixed):
            self.register_buffer(f"noise_{index}", tensor, persistent=False)
        self.training = module.training
        self.symbolic = False
        self.halves: set[torch.dtype] = set()

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        assert self.picked is not None
        image: Tensor = pick(self.output(z, label), self.picked.path)
        image = image.to(z.dtype)
        if self.picked.layout == "flat":
            image = image.reshape(z.shape[0], *self.picked.image)
        elif self.picked.layout == "NHWC":
            image = image.permute(0, 3, 1, 2)
        return image if self.activation is None else self.activation(image)

    def output(self, z: Tensor, label: Tensor | None = None) -> Any:
        """What the module itself returns for a batch."""
        roles = {"z": self._latent(z), "label": self._label(label, z)}
        arguments = [roles[role] for role, name in self.call.inputs if name is None]
        keywords = {name: roles[role] for role, name in self.call.inputs if name is not None}
        for index, constant in enumerate(self.constants):
            keywords[constant.name] = constant.at(z.shape[0], getattr(self, f"constant_{index}", None))
        with contextlib.ExitStack() as modes:
            modes.enter_context(Cleared())
            halves = modes.enter_context(FullPrecision(z.dtype))
            if self.noise is not None:
                fixed = [getattr(self, f"noise_{index}") for index in range(self.fixed)]
                modes.enter_context(Still(fixed if self.noise == "fixed" else None))
            if not isinstance(z.shape[0], int) or torch._C._get_tracing_state() is not None:
                modes.enter_context(UngroupBatch())
                if self.symbolic:
                    modes.enter_context(symbolic_batch(self.module))
            made = self.module(*arguments, **keywords)
        self.halves |= halves.found
        return made

    def _latent(self, z: Tensor) -> Any:
        shape = self.call.z_shape
        shaped = z if len(shape.sides) <= 1 else z.reshape(z.shape[0], *shape.sides)
        return [shaped] if shape.listed else shaped

    def _label(self, label: Tensor | None, z: Tensor) -> Tensor | None:
        form = self.call.label_form
        if label is None or form is None or form == "index":
            return label
        if form == "column":
            return label.unsqueeze(1)
        one_hot = (label.unsqueeze(1) == torch.arange(self.call.n_classes, device=label.device)).to(z.dtype)
        return one_hot if form == "one-hot" else one_hot.reshape(z.shape[0], -1, 1, 1)
