"""`LiveGenerator`: any generator behind the one signature that the exporters and the proof take."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_export.live.call import Call, Picked, pick
from gan_export.live.constants import Constant
from gan_export.live.grouped import UngroupBatch
from gan_export.live.noise import Cleared, Still
from gan_export.live.symbolic import symbolic_batch

_ACTIVATIONS = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hardtanh": F.hardtanh,
    "identity": None,
}


class LiveGenerator(nn.Module):
    """forward(z float32 (N, z_dim), label int64 (N,) when conditional) → float32 (N, C, H, W).

    Reshapes the latent, makes the label what the module wants, passes the constants, picks the image out of what comes
    back, brings it to NCHW and applies `activation`. `noise` is None, or what replaces the draws of the forward
    (`gan_export.live.noise`); `fixed` are the tensors of "fixed" noise. `symbolic`, set by an exporter that met a fixed
    batch, traces with `gan_export.live.symbolic`. Constants and noise are buffers of the
    adapter's, so that they move and change precision with it.
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
            if self.noise is not None:
                fixed = [getattr(self, f"noise_{index}") for index in range(self.fixed)]
                modes.enter_context(Still(fixed if self.noise == "fixed" else None))
            if not isinstance(z.shape[0], int) or torch._C._get_tracing_state() is not None:
                modes.enter_context(UngroupBatch())
                if self.symbolic:
                    modes.enter_context(symbolic_batch(self.module))
            return self.module(*arguments, **keywords)

    def _latent(self, z: Tensor) -> Any:
        shape = self.call.z_shape
        shaped = z if len(shape.sides) == 1 else z.reshape(z.shape[0], *shape.sides)
        return [shaped] if shape.listed else shaped

    def _label(self, label: Tensor | None, z: Tensor) -> Tensor | None:
        form = self.call.label_form
        if label is None or form is None or form == "index":
            return label
        if form == "column":
            return label.unsqueeze(1)
        one_hot = (label.unsqueeze(1) == torch.arange(self.call.n_classes, device=label.device)).to(z.dtype)
        return one_hot if form == "one-hot" else one_hot.reshape(z.shape[0], -1, 1, 1)
