"""`GeneratorSpec` → torch module.

The module's state_dict keys are `layers.<index>.<name>`, index and names as in `GeneratorSpec.tensors()`. What each
layer is in PyTorch, it says itself (`gan_core.spec.Layer`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gan_core.fields import Shape
from gan_core.spec import Layer
from gan_core.spec.generator_spec import GeneratorSpec
from gan_core.spec.style_layers import Noise, Styles


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
