"""Networks that take an image: super-resolvers, image-to-image networks, autoencoders.

A super-resolver runs on one pixel as well as on any image, so that "a latent of 3 numbers" seems to work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gan_core.errors import GanportError
from gan_core.interface import IMAGE_CHANNELS
from gan_core.latents import latents
from gan_export.live.adapter import LiveGenerator
from gan_export.live.call import Call
from gan_export.live.constants import Constant
from gan_export.quiet import quiet
from gan_export.understanding.refusal import TAKES_IMAGE

HINT = f"{TAKES_IMAGE}; if its input is noise all the same, say so: --z-shape CxHxW"
_WEIGHTED = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)


def check_latent(module: nn.Module, call: Call, constants: Sequence[Constant], label: str) -> None:
    """Raises `GanportError` when the layer of `module` that runs first, called as `call` says, takes an image."""
    first: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not first and inputs and isinstance(inputs[0], Tensor):
            first.append((layer, tuple(inputs[0].shape[1:])))

    handles = [part.register_forward_pre_hook(note) for part in module.modules() if isinstance(part, _WEIGHTED)]
    try:
        z = torch.from_numpy(latents(range(2), call.z_dim))
        labels = torch.zeros(2, dtype=torch.int64) if call.n_classes else None
        with torch.no_grad(), quiet():
            LiveGenerator(module, call, constants, noise="zero").output(z, labels)
    finally:
        for handle in handles:
            handle.remove()
    conv, shape = first[0] if first else (None, ())
    if isinstance(conv, nn.Conv2d):
        of_pixel = len(shape) == 3 and shape[1:] == (1, 1) and conv.kernel_size != (1, 1)
        if conv.in_channels in IMAGE_CHANNELS or of_pixel:
            raise _takes_image(module, conv, label)


def check_first_layer(module: nn.Module, label: str) -> None:
    """Raises `GanportError` when the first layer with weights, in the order of registration, takes an image."""
    conv = next((part for part in module.modules() if isinstance(part, _WEIGHTED)), None)
    if isinstance(conv, nn.Conv2d) and conv.in_channels in IMAGE_CHANNELS:
        raise _takes_image(module, conv, label)


def _takes_image(module: nn.Module, conv: nn.Conv2d, label: str) -> GanportError:
    name = next(name for name, part in module.named_modules() if part is conv)
    return GanportError(
        f"{label}: expected a generator, whose input is a latent; {name} takes an image of {conv.in_channels} channels",
        hint=HINT,
    )
