"""The module that is exported: the generator, with `pixels` computed inside the graph."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_export.source import Source


class PixelModule(nn.Module):
    """A generator with the artefact's two outputs.

    forward(z float32 (N, z_dim), label int64 (N,) when conditional) returns `image` float32 (N, C, H, W) in
    `value_range` and `pixels` uint8 (N, H, W, C). The arithmetic of `pixels` is that of `gan_core.images.to_pixels`,
    operation for operation, so that both round alike to the last bit.
    """

    def __init__(self, generator: nn.Module, value_range: tuple[float, float]) -> None:
        super().__init__()
        self.generator = generator
        self.black = value_range[0]
        self.scale = 255.0 / (value_range[1] - value_range[0])
        self.training = generator.training

    def forward(self, z: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        image_NCHW = self.generator(z) if label is None else self.generator(z, label)
        rounded = torch.floor((image_NCHW - self.black) * self.scale + 0.5)
        pixels_NCHW = torch.clamp(rounded, 0, 255).to(torch.uint8)
        return image_NCHW, pixels_NCHW.permute(0, 2, 3, 1).contiguous()


def export_module(source: Source) -> PixelModule:
    """A copy of the source's generator with its reparametrisations resolved, wrapped; the source stays as it is.

    The mode (eval or training) is kept, not set: a module in training mode is for the proof to refuse, not for
    the exporter to hide.
    """
    return PixelModule(without_parametrizations(source.module), source.interface.value_range)


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
    """(z,) or (z, label) to trace with. Three rows: 0 and 1 are sizes that tracers specialise on, 2 a common factor."""
    z = torch.zeros(batch, source.interface.z_dim)
    if not source.interface.n_classes:
        return (z,)
    return z, torch.arange(batch, dtype=torch.int64) % source.interface.n_classes
