"""gan_export.inspect and gan_export.export: what a program gets, and what it is told that cannot be."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gan_export
import gan_serve
from export.tiny import save_checkpoint, spec_of
from gan_core.errors import GanportError, ProofError
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export import onnx_export
from gan_export.draft import Evidence
from gan_export.identify import NotUnderstoodError
from gan_export.source import PixelModule, Source, export_module

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "g.pt", spec_of(channels=1))


@pytest.fixture
def open_ckpt(tmp_path: Path) -> Path:
    """A network without BatchNorms, whose activation nothing tells."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())
    torch.save(net.state_dict(), tmp_path / "open.pth")
    return tmp_path / "open.pth"


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, gan_export, gan_export.front as front; front.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="'gan_export' has no attribute 'exports'"):
        _ = gan_export.exports


def test_our_checkpoint(ckpt: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = gan_export.inspect(ckpt)
    assert (found.path, found.family, found.weights) == (ckpt, "ganport", "ema")
    assert (found.evidence, found.settled) == ((), True)
    assert isinstance(found.spec, GeneratorSpec)
    assert found.interface.image == (1, 28, 28)
    assert json.dumps(found.to_json())
    assert len(found.candidates()) == 1
    made = gan_export.export(str(ckpt))
    assert made.path == ckpt.with_suffix(".onnx")
    assert (made.report.ok, made.assumptions, made.interface) == (True, (), found.interface)
    assert made.spec == found.spec
    assert made.inspection is not None
    assert made.inspection.settled
    assert gan_serve.load(made.path).generate(2).shape == (2, 28, 28, 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("out", "settings"),
    [("g.ts", {}), ("g.fp16.onnx", {"precision": "fp16"}), ("o.onnx", {"store": "fp16", "optimize": "none"})],
)
def test_formats(ckpt: Path, tmp_path: Path, out: str, settings: dict[str, Any]) -> None:
    made = gan_export.export(ckpt, tmp_path / out, **settings)
    contract = gan_serve.load(made.path).contract
    assert (contract.precision, contract.store) == (settings.get("precision", "fp32"), settings.get("store", "fp32"))
    if "precision" in settings:
        assert gan_export.export(ckpt, **settings).path == tmp_path / "g.fp16.onnx"


def test_what_is_open_is_raised_with_what_to_look_at(
    open_ckpt: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = gan_export.inspect(open_ckpt)
    assert not found.settled
    assert found.open
    assert all(choice in found.evidence for choice in found.open)
    assert not any(choice.evidence is Evidence.PROVED for choice in found.open)
    with pytest.raises(
        gan_export.UndecidedError, match=r"open\.pth does not settle what it generates: .*activation"
    ) as raised:
        gan_export.export(open_ckpt)
    assert "`accept=True`" in raised.value.hint
    assert raised.value.inspection.open == found.open
    assert max(raised.value.inspection.sheet().size) > 100
    assert [path.name for path in tmp_path.iterdir()] == ["open.pth"]
    made = gan_export.export(open_ckpt, accept=True)
    assert made.assumptions
    assert capfd.readouterr() == ("", "")


def test_answers_settle_it(open_ckpt: Path, tmp_path: Path) -> None:
    said: gan_export.Said = {
        "image": (1, 28, 28), "latent": "normal", "activation": "relu", "output_activation": "tanh",
        "value_range": (-1, 1),
    }  # fmt: skip
    found = gan_export.inspect(open_ckpt, **said)
    assert found.interface.image == (1, 28, 28)
    assert found.settled
    made = gan_export.export(open_ckpt, tmp_path / "o.onnx", **said)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())
    generator = gan_serve.load(made.path, "cpu")
    z = generator.contract.interface.latents(range(3))
    expected = net(torch.from_numpy(z)).detach().numpy().reshape(3, 1, 28, 28)
    np.testing.assert_allclose(generator.run(z)[0], expected, atol=1e-5)


def test_a_generator_that_comes_as_code(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, nz):\n        super().__init__()\n"
        "        self.a = nn.Linear(nz, 64)\n\n    def forward(self, z):\n"
        "        return self.a(z).tanh().view(-1, 1, 8, 8)\n"
    )
    torch.save({"a.weight": torch.randn(64, 5), "a.bias": torch.randn(64)}, tmp_path / "w.pth")
    made = gan_export.export(tmp_path / "w.pth", module=f"{tmp_path}/net.py:Net", args={"nz": 5}, latent="normal")
    assert (made.spec, made.inspection, made.interface.z_dim) == (None, None, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "no.pt"}, "no checkpoint at no.pt"),
        ({"path": None}, "expected `out`, or a checkpoint to name the file after"),
        ({"out": "g.pb"}, "`out` ends in .onnx or .ts, got g.pb"),
        ({"out": "g"}, "`out` ends in .onnx or .ts, got g"),
        ({"out": "no/where/"}, "`out` ends in .onnx or .ts"),
        ({"out": "g.ts", "precision": "int8"}, "`precision`, `store`, `optimize` and `opset` are for .onnx"),
        ({"precision": "fp8"}, "`precision` must be one of fp32, fp16, int8, got 'fp8'"),
        ({"opset": 3}, "`opset` must be 18 to 23, got 3"),
        ({"args": {"nz": 3}}, "`args` has no place without `module`"),
        ({"module": "net.py:Net", "accept": True}, "`accept` has no place beside `module`"),
        ({"image": "large"}, "`image` must be CxHxW, got 'large'"),
        ({"image": (3, 64)}, "`image` must be CxHxW, got '3x64'"),
        ({"latent": "cauchy"}, "`latent` must be one of normal, uniform, uniform01, got 'cauchy'"),
        ({"value_range": (1, 0)}, "`value_range` must be LO,HI with LO < HI, got '1,0'"),
        ({"output_activation": "relu"}, "`output_activation` must be one of tanh, sigmoid, hardtanh, identity"),
        ({"activation": "wavelet"}, "`activation` knows no 'wavelet'"),
        ({"stats_latents": 9}, "`stats_latents` has no place without `recompute_stats`"),
        ({"image": (1, 28, 28)}, "says all of this itself, `image` has no place"),
    ],
)
def test_wrong_input(ckpt: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str) -> None:
    monkeypatch.chdir(ckpt.parent)
    with pytest.raises(GanportError, match=re.escape(message)) as raised:
        gan_export.export(**({"path": ckpt} | arguments))
    assert raised.value.hint
    assert [path.name for path in ckpt.parent.iterdir()] == ["g.pt"]


def test_what_is_no_answer(ckpt: Path) -> None:
    with pytest.raises(TypeError, match="colour"):
        gan_export.inspect(ckpt, colour="red")  # type: ignore[call-arg]


def test_a_file_without_a_generator(tmp_path: Path) -> None:
    torch.save({"table": torch.zeros(3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(NotUnderstoodError) as raised:
        gan_export.inspect(tmp_path / "x.pth")
    assert list(raised.value.reading.tensors) == ["table"]


def test_a_proof_that_fails_leaves_nothing(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(source: Source) -> PixelModule:
        module = export_module(source)
        with torch.no_grad():
            module.generator.layers[4].weight[:, 0] *= 1.01  # type: ignore[index,union-attr]
        return module

    monkeypatch.setattr(onnx_export, "export_module", faulty)
    with pytest.raises(ProofError, match=r"g\.onnx is not proved: parity") as raised:
        gan_export.export(ckpt)
    assert "nothing was written" in raised.value.hint
    assert [path.name for path in ckpt.parent.iterdir()] == ["g.pt"]
