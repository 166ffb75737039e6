"""Every kind of layer exports."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.tiny import source_of
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.artefact import read_onnx
from gan_export.exporting import export_onnx

pytestmark = pytest.mark.slow

EVERY_LAYER: dict[str, tuple[int, tuple[L.Layer, ...]]] = {
    "convs": (
        0,
        (
            L.Linear(8, 4 * 49),
            L.Reshape((4, 7, 7)),
            L.BatchNorm(4, eps=0.8),
            L.Conv(4, 8, 3, padding=1, groups=2, bias=False),
            L.BatchNorm(8, affine=False),
            L.Activation("leaky_relu", slope=0.1),
            L.Upsample(2, "nearest"),
            L.ConvTranspose(8, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
            L.BatchNorm(4),
            L.Activation("silu"),
            L.Conv(4, 3, 3, padding=1, padding_mode="reflect"),
            L.Activation("tanh"),
        ),
    ),
    "norms": (
        3,
        (
            L.LabelOneHot(3, "label_z"),
            L.Linear(11, 16 * 16),
            L.LayerNorm((256,)),
            L.Activation("gelu"),
            L.Reshape((16, 4, 4)),
            L.GroupNorm(4, 16),
            L.Activation("prelu", features=16),
            L.PixelShuffle(2),
            L.InstanceNorm(4, affine=True),
            L.PixelNorm(),
            L.Upsample(2, "bilinear"),
            L.Conv(4, 3, 1),
            L.Activation("sigmoid"),
        ),
    ),
    "product": (
        3,
        (L.LabelEmbedding(3, 8, "multiply"), L.Linear(8, 48), L.Activation("hardtanh"), L.Reshape((3, 4, 4))),
    ),
}


@pytest.mark.parametrize("name", EVERY_LAYER)
def test_every_kind_of_layer_exports(name: str, tmp_path: Path) -> None:
    n_classes, layers = EVERY_LAYER[name]
    side = {"convs": 28, "norms": 16, "product": 4}[name]
    value_range = (0.0, 1.0) if name == "norms" else (-1.0, 1.0)
    spec = GeneratorSpec(
        Interface(8, (3, side, side), latent="uniform", value_range=value_range, n_classes=n_classes), layers
    )
    report = export_onnx(source_of(spec), tmp_path / "g.onnx")
    assert report.ok, report.verdict()
    folded = "BatchNormalization" not in {node.op_type for node in read_onnx(tmp_path / "g.onnx")[0].graph.node}
    assert folded or name == "convs"  # a norm after a reshape has no linear layer before it to fold into
