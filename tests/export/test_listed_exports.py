"""Whole modules on disk, exported: each layer that a file lists is drawn as its author's network draws it."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from gan_core.latents import latents
from gan_export.answers import Answers
from gan_export.exporting import export_torchscript
from gan_export.identify import identify, source_of
from gan_export.onnx_export import to_onnx

pytestmark = pytest.mark.slow

ELEMENTWISE = (
    nn.ReLU6(), nn.Hardswish(), nn.Softplus(2.0, 3.0), nn.GELU("tanh"), nn.Hardsigmoid(), nn.Softsign(), nn.RReLU(),
    nn.Threshold(-0.2, -0.2), nn.Tanhshrink(), nn.Softshrink(0.01), nn.LogSigmoid(), nn.Softmax(1), nn.LogSoftmax(1),
    nn.CELU(0.3), nn.Hardtanh(-4, 2),
)  # fmt: skip
SHAPES = (
    nn.Upsample((12, 10), mode="bicubic"), nn.AvgPool2d(3, 2, 1), nn.ChannelShuffle(2),
    nn.ReflectionPad2d((1, 1, 0, 1)),
    nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.MaxPool2d(2, 1, ceil_mode=True), nn.CircularPad2d(1),
    nn.ConstantPad2d(-1, 0.5), nn.Upsample(8, mode="nearest-exact"), nn.AdaptiveAvgPool2d(4), nn.LocalResponseNorm(3),
    nn.GroupNorm(2, 8, affine=False), nn.InstanceNorm2d(8), nn.RMSNorm((4,)), nn.ReplicationPad2d(2),
    nn.Upsample((6, 9), mode="bilinear"), nn.GLU(1),
)  # fmt: skip


def names_of(modules: tuple[nn.Module, ...]) -> str:
    return " ".join(type(module).__name__ for module in modules)


def chain_of(modules: tuple[nn.Module, ...], side: int) -> nn.Sequential:
    """6 latents → 8×4×4 → `modules`, behind a BatchNorm each that keep the channels apart → 3×side×side."""
    torch.manual_seed(3)
    parts: list[nn.Module] = [nn.ConvTranspose2d(6, 8, 4), nn.BatchNorm2d(8)]
    for module in modules:
        parts += [nn.BatchNorm2d(8), module] if module in ELEMENTWISE else [module]
    with torch.no_grad():
        numbers = nn.Sequential(*parts, nn.Flatten()).eval()(torch.zeros(1, 6, 1, 1)).shape[1]
        end = (nn.Flatten(), nn.Linear(numbers, 3 * side**2), nn.Unflatten(1, (3, side, side)), nn.Tanh())
        network = nn.Sequential(*parts, *end).train()
        for _ in range(50):  # the BatchNorms learn what reaches them, so that no rounding error grows
            network(torch.randn(64, 6, 1, 1))
    return network.eval()


@pytest.mark.parametrize(
    "modules",
    [
        *(ELEMENTWISE[at : at + 5] for at in (0, 5, 10)),
        (SHAPES[12], *SHAPES[:6]),  # a norm comes first: it hides the scale of what stands before it
        (SHAPES[13], *SHAPES[6:12]),
        SHAPES[14:],
    ],
    ids=names_of,
)
def test_every_layer_survives_onnx(modules: tuple[nn.Module, ...], tmp_path: Path) -> None:
    """From the pickle on disk to a graph that draws what the author's own network draws. Five to seven layers at a
    time, since torch.onnx takes long: a layer that is off by a thousandth shows behind those that follow it."""
    network = chain_of(modules, 4)
    torch.save(network, tmp_path / "G.pth")
    model, _ = to_onnx(source_of(identify(tmp_path / "G.pth", Answers(), lambda _: None)))
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    z = latents(range(3), 6)
    with torch.no_grad():
        expected = network(torch.from_numpy(z).reshape(3, 6, 1, 1))
    assert expected.std() > 0.05
    assert float((torch.from_numpy(session.run(["image"], {"z": z})[0]) - expected).abs().max()) <= 1e-4


def test_a_chain_of_all_layers_is_proved_as_torchscript(tmp_path: Path) -> None:
    network = chain_of((*ELEMENTWISE, *SHAPES), 4)
    torch.save(network, tmp_path / "G.pth")
    source = source_of(identify(tmp_path / "G.pth", Answers(), lambda _: None))
    report = export_torchscript(source, tmp_path / "g.ts")
    assert report.ok, report.verdict()
