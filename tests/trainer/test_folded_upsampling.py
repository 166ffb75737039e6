"""Upsampling and the convolution behind it as one transposed convolution, and what it is for."""

from __future__ import annotations

import pytest
import torch

from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import build
from gan_trainer.speed import FoldedUpsampling, folded


@pytest.mark.parametrize(("arch", "size", "pairs"), [("resize", 28, 2), ("resize", 96, 3), ("resnet", 32, 0)])
def test_upsampling_is_folded_into_the_convolution_behind_it(arch: str, size: int, pairs: int) -> None:
    network = build(network_spec(arch, size, 3, width=2, z_dim=5)).double()
    called = folded(network)
    assert sum(isinstance(module, FoldedUpsampling) for module in called.modules()) == pairs
    z = torch.randn(4, 5, dtype=torch.float64)
    for one in (network, called):
        one.zero_grad()
        image = one(z)
        (image**2).sum().backward()
        found = (
            image.detach(),
            *(torch.clone(weight.grad) for weight in network.parameters() if weight.grad is not None),
        )
        if one is network:
            expected = found
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert not any(isinstance(module, FoldedUpsampling) for module in network.modules())


def test_flat_features_make_flat_images_with_resize() -> None:
    spec = network_spec("resize", 32, 1, width=2, z_dim=5)
    network = build(spec).eval()
    x = torch.ones(1, 8, 4, 4)
    for layer, module in zip(spec.layers[2:], network.layers[2:], strict=True):
        x = layer.apply(torch, module, x)
    middle = x[0, 0, 12:20, 12:20]
    assert middle.max() - middle.min() < 1e-6
