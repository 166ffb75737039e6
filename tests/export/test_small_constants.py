"""Numbers such as 1e-8 that an optimiser might take for nothing, and a generator's latents of zero do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from export.small_graphs import tensor, text_of
from export.tiny import lively
from gan_core.interface import Interface
from gan_export.answers import OnnxOptions
from gan_export.artefact import read_onnx
from gan_export.exporting import export_onnx
from gan_export.onnx_export import to_onnx
from gan_export.source import Source
from gan_serve.runtime.onnx_generator import OnnxGenerator

pytestmark = pytest.mark.slow

NORMS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, _: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-8),
    lambda x, _: x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-12),
    lambda x, _: x / (2e-9 + x.square().sum(1, keepdim=True)).sqrt(),
    lambda x, _: x / (x.norm(dim=1, keepdim=True) + 3e-9),
    lambda x, _: x / (x.abs().sum(1, keepdim=True) - -4e-9),
    lambda x, eps: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + eps),
    lambda x, _: (x.double() / (x.double().norm(dim=1, keepdim=True) + 6e-9)).float(),
    lambda x, _: x / x.norm(dim=1, keepdim=True).clamp(min=7e-9),
    lambda x, _: F.normalize(x, eps=8e-9),
    lambda x, _: F.rms_norm(x, (x.shape[1],), eps=9e-9),
]
EPSILONS = {1e-8, 1e-12, 2e-9, 3e-9, 4e-9, 5e-9, 6e-9, 7e-9, 8e-9, 9e-9}
"""Those in NORMS."""


class Normed(nn.Module):
    """Normalises the latent by NORMS in turn: any that lost its epsilon makes NaN of a zero."""

    eps: Tensor

    def __init__(self, norms: slice) -> None:
        super().__init__()
        self.norms = NORMS[norms]
        self.register_buffer("eps", torch.tensor(5e-9))
        self.first, self.last = nn.Linear(6, 12, bias=False), nn.Linear(12, 16)

    def forward(self, z: Tensor) -> Tensor:
        for norm in self.norms:
            z = norm(z, self.eps)
        return torch.tanh(self.last(F.relu(self.first(z)))).view(-1, 1, 4, 4)


def source(norms: slice = slice(1)) -> Source:
    return Source(lively(Normed(norms)), Interface(6, (1, 4, 4)))


def small_numbers(model: ir.Model) -> list[float]:
    """The single numbers between 0 and 1e-6 among the graph's tensors, rounded to what float32 tells apart."""
    values = [float(tensor.numpy().item()) for tensor in model.graph.initializers.tensors() if tensor.size == 1]
    return [float(f"{abs(value):.5g}") for value in values if 0 < abs(value) < 1e-6]


@pytest.mark.parametrize("opset", [18, 23])  # 23 has an operator for rms_norm, its epsilon an attribute
def test_zero_latents_are_proved(opset: int, tmp_path: Path) -> None:
    report = export_onnx(source(slice(None)), tmp_path / "g.onnx", OnnxOptions(opset=opset))
    assert report.ok, report.verdict()
    model, contract = ir.load(tmp_path / "g.onnx"), read_onnx(tmp_path / "g.onnx")[1]
    attributes = [node.attributes["epsilon"].as_float() for node in model.graph if "epsilon" in node.attributes]
    assert {*small_numbers(model), *(float(f"{value:.5g}") for value in attributes)} == EPSILONS
    assert [value.name for value in model.graph.inputs] == ["z"]
    assert not any(node.op_type == "Constant" for node in model.graph)
    generator = OnnxGenerator(tmp_path / "g.onnx", provider="cpu")
    assert np.isfinite(generator.run(np.zeros((3, contract.interface.z_dim), np.float32))[0]).all()


@pytest.mark.parametrize("options", [OnnxOptions(precision="fp16"), OnnxOptions(precision="int8")])
def test_lower_precisions_keep_them(options: OnnxOptions, tmp_path: Path) -> None:
    report = export_onnx(source(), tmp_path / "g.onnx", options)
    assert report.ok, report.verdict()
    assert small_numbers(ir.load(tmp_path / "g.onnx")) == [1e-8]


class Several(nn.Module):
    """A small number twice and another once, a zero, and a small buffer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unused", torch.tensor(1e-9))
        self.last = nn.Linear(6, 16)

    def forward(self, z: Tensor) -> Tensor:
        z = z / (z.abs() + 1e-8) + 0.0
        return torch.tanh(self.last(z / (z.abs() + 1e-8) * (z.abs() + 1e-7))).view(-1, 1, 4, 4)


def test_each_number_once_and_no_zero() -> None:
    several = Source(lively(Several()), Interface(6, (1, 4, 4)))
    made = [to_onnx(several, fold=fold)[0] for fold in (True, False, False)]
    for model in made:
        assert sorted(small_numbers(model)) == [1e-8, 1e-7]
        zeros = [value for value in model.graph.initializers.values() if not tensor(model, str(value.name)).any()]
        assert not any(use.node.op_type == "Add" for value in zeros for use in value.uses())
    assert text_of(made[1]) == text_of(made[2])
