"""Residual, U-shaped and skip-to-RGB networks as specs with named values: built, exported, proved and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gan_serve
from export.tiny import lively_generator, source_of
from gan_core.interface import Interface
from gan_core.latents import latents
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.exporting import export_onnx, export_torchscript
from gan_export.torchscript_export import fold_modules
from gan_export.understanding.understand import drafts_with_spec
from gan_trainer.networks.generator import SpecGenerator, build


def residual() -> GeneratorSpec:
    """A block as ResNets have it: the skip is upsampled and convolved, the norms are named by nobody."""
    block: list[L.Layer] = [
        L.Activation("identity", as_="start"),
        L.BatchNorm(8),
        L.Activation("relu"),
        L.Upsample(2),
        L.Conv(8, 6, 3, padding=1),
        L.BatchNorm(6),
        L.Activation("relu"),
        L.Conv(6, 6, 3, padding=1, as_="body"),
        L.Load("start"),
        L.Upsample(2),
        L.Conv(8, 6, 1),
        L.Add("body", scale=0.7),
    ]
    end = [L.Activation("leaky_relu", 0.2), L.Conv(6, 3, 3, padding=1), L.Activation("tanh")]
    return GeneratorSpec(
        Interface(5, (3, 8, 8)), (L.Linear(5, 128), L.Reshape((8, 4, 4)), *block, *end), name="residual"
    )


def u_shaped() -> GeneratorSpec:
    """Down and up again, with the features of the way down beside those of the way up."""
    layers = (
        L.Linear(6, 64),
        L.Reshape((1, 8, 8)),
        L.Conv(1, 4, 3, padding=1),
        L.Activation("leaky_relu", 0.2, as_="wide"),
        L.Conv(4, 6, 4, stride=2, padding=1),
        L.BatchNorm(6),
        L.Activation("leaky_relu", 0.2, as_="narrow"),
        L.Conv(6, 6, 4, stride=2, padding=1),
        L.Activation("relu"),
        L.ConvTranspose(6, 5, 4, stride=2, padding=1),
        L.BatchNorm(5),
        L.Concat(("x", "narrow")),
        L.Activation("relu"),
        L.ConvTranspose(11, 4, 4, stride=2, padding=1),
        L.Concat(("wide", "x")),
        L.Conv(8, 4, 3, padding=1),
        L.Activation("sigmoid"),
    )
    return GeneratorSpec(Interface(6, (4, 8, 8), value_range=(0.0, 1.0)), layers, name="u-shaped")


def skip_to_rgb() -> GeneratorSpec:
    """Every size draws an image, which is enlarged and added to the next one's; features are gated by their means."""
    layers = (
        L.LabelEmbedding(3, 2),
        L.Linear(8, 128),
        L.Reshape((8, 4, 4)),
        L.PixelNorm(as_="features_4"),
        L.Conv(8, 3, 1, as_="rgb_4"),
        L.Load("features_4"),
        L.ConvTranspose(8, 6, 4, stride=2, padding=1),
        L.Activation("leaky_relu", 0.2, as_="before"),
        L.AdaptivePool("avg", (1, 1)),
        L.Conv(6, 6, 1),
        L.Activation("sigmoid"),
        L.Multiply("before", as_="features_8"),
        L.Load("rgb_4"),
        L.Upsample(2, "bilinear", as_="rgb"),
        L.Load("features_8"),
        L.Conv(6, 3, 1),
        L.Add("rgb"),
        L.Activation("tanh"),
    )
    return GeneratorSpec(Interface(6, (3, 8, 8), n_classes=3), layers, name="skip-to-rgb")


NETWORKS = [residual, u_shaped, skip_to_rgb]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("suffix", [".onnx", ".ts"])
def test_networks_with_skips_are_exported_and_drawn(network: object, suffix: str, tmp_path: Path) -> None:
    spec: GeneratorSpec = network()  # type: ignore[operator]
    source = source_of(spec)
    target = tmp_path / f"g{suffix}"
    report = (export_onnx if suffix == ".onnx" else export_torchscript)(source, target)
    assert report.ok, report.verdict()
    drawn = gan_serve.load(target).generate(range(9))
    assert drawn.shape == (9, *spec.interface.image[1:], spec.interface.image[0])
    z = torch.from_numpy(latents(range(9), spec.interface.z_dim))
    label = torch.arange(9) % 3 if spec.interface.n_classes else None
    with torch.inference_mode():
        image = lively_generator(spec)(z, label)
    black, white = spec.interface.value_range
    expected = ((image - black) / (white - black) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    assert np.abs(drawn.astype(int) - expected).max() <= 1
    assert drawn.std() > 5


class Block(nn.Module):
    """The residual network as an author writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 128)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(6)
        self.conv1, self.conv2 = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.skip = nn.Conv2d(8, 6, 1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Any:
        up = nn.Upsample(scale_factor=2)
        x = self.fc(z).reshape(-1, 8, 4, 4)
        y = self.conv1(up(self.norm1(x).relu()))
        y = self.conv2(self.norm2(y).relu())
        y = self.skip(up(x)) + 0.7 * y
        return self.last(nn.functional.leaky_relu(y, 0.2)).tanh()


def test_a_stranger_s_weights_and_a_spec_with_skips() -> None:
    """The weights go to the layers in the order of the spec, which is not the file's here: by name and shape."""
    torch.manual_seed(3)
    theirs = Block().eval()
    order = ["fc", "norm1", "conv1", "norm2", "conv2", "skip", "last"]
    tensors = {f"{name}.{key}": value for name in order for key, value in getattr(theirs, name).state_dict().items()}
    (draft,) = drafts_with_spec(tensors, residual().to_json())
    module = build(draft.spec)
    module.load_state_dict({f"layers.{i}.{k}": v for i, own in enumerate(draft.weights) for k, v in own.items()}, False)
    z = torch.randn(4, 5)
    with torch.inference_mode():
        torch.testing.assert_close(module.eval()(z), theirs(z))


def test_a_norm_is_not_folded_into_a_value_that_is_used_elsewhere() -> None:
    layers = (L.Linear(4, 4, as_="before"), L.BatchNorm(4), L.Add("before"), L.Reshape((1, 2, 2)))
    module = lively_generator(GeneratorSpec(Interface(4, (1, 2, 2)), layers))
    assert isinstance(module, SpecGenerator)
    z = torch.randn(3, 4)
    with torch.inference_mode():
        expected = module(z)
        assert fold_modules(module) == 0
        torch.testing.assert_close(module(z), expected)
