"""`--module`: code that makes a number of its batch, labels with layers of their own, norms of the author's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from export import live_batches as networks
from gan_core.errors import GanportError, JobError
from gan_export.answers import Answers, LiveAnswers, OnnxOptions
from gan_export.exporting import export_onnx
from gan_export.live.signature import latent_widths
from gan_export.live.source import live_source
from gan_export.live.tracing import SymbolicInt, symbolic_len
from gan_export.onnx_export import to_onnx
from gan_export.source import Source
from gan_export.torchscript_export import plain_execution, to_torchscript

pytestmark = pytest.mark.slow

FILE = Path(networks.__file__)


def source(name: str, folder: Path) -> Source:
    torch.manual_seed(0)
    torch.save(getattr(networks, name)().state_dict(), folder / "g.pth")
    return live_source(folder / "g.pth", Answers(live=LiveAnswers(f"{FILE}:{name}")))


def module_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = getattr(networks, name)().eval()
    return module


@pytest.mark.parametrize("name", ["Length", "Whole", "Product", "Sizes", "Guard"])
def test_a_batch_that_was_made_a_number_stays_a_batch(name: str, tmp_path: Path) -> None:
    made = source(name, tmp_path)
    graph, _ = to_onnx(made)
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    traced, _ = to_torchscript(made)
    for batch in (1, 3, 4):
        z = torch.randn(batch, 7)
        with torch.no_grad(), plain_execution():
            expected = module_of(name)(z)
            scripted = traced(z)[0]
        drawn = session.run(["image"], {"z": z.numpy()})[0]
        assert drawn.shape == (batch, 1, 8, 8)
        np.testing.assert_allclose(drawn, expected, atol=1e-5)
        np.testing.assert_allclose(scripted, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["Rows", "Others"])
def test_a_batch_that_is_baked_in_is_refused(name: str, tmp_path: Path) -> None:
    made = source(name, tmp_path)
    with pytest.raises(JobError, match="bakes in its batch size"):
        to_onnx(made)
    assert "len" not in vars(networks)
    assert "int" not in vars(networks)
    assert np.prod.__module__ == "numpy"


def test_python_s_own_names_are_what_they_were() -> None:
    assert symbolic_len([1, 2]) == 2
    assert symbolic_len(torch.zeros(3, 4)) == 3
    assert (SymbolicInt("12"), SymbolicInt(3.9), SymbolicInt("a", 16), SymbolicInt()) == (12, 3, 10, 0)
    assert isinstance(5, SymbolicInt)
    assert not isinstance("5", SymbolicInt)
    assert issubclass(bool, SymbolicInt)
    assert type(SymbolicInt(torch.tensor(4))) is int  # a value, not a size: nothing is being traced


def test_half_precision_inside_becomes_float32_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    made = source("Half", tmp_path)
    assert "computes partly in float16 and bfloat16: the file computes all in float32" in caplog.text
    half, z = cast(Any, module_of("Half")), torch.randn(4, made.interface.z_dim)
    with torch.no_grad():
        expected = half.drawn(half.first(z).view(-1, 4, 4, 4))
        torch.testing.assert_close(made.module(z), expected)
        assert not torch.equal(half(z), expected)  # the code itself is less exact, and does it still
    used = {value.dtype for node in to_onnx(made)[0].graph.all_nodes() for value in node.outputs}
    assert not used & {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


@pytest.mark.parametrize(("name", "z_dim", "classes"), [("OwnLayer", 6, 3), ("OwnKernel", 6, 4)])
def test_a_label_s_own_layer_is_not_the_latent_s(name: str, z_dim: int, classes: int, tmp_path: Path) -> None:
    made = source(name, tmp_path)
    assert (made.interface.z_dim, made.interface.n_classes) == (z_dim, classes)
    assert any(f"{classes} classes: as many numbers as the label's own layer takes" in one for one in made.assumptions)
    z, label = torch.randn(4, z_dim), torch.arange(4) % classes
    one_hot = torch.eye(classes)[label]
    with torch.no_grad():
        expected = (
            module_of(name)(z, one_hot)
            if name == "OwnLayer"
            else module_of(name)(one_hot[..., None, None], z[..., None, None])
        )
        torch.testing.assert_close(made.module(z, label), expected)


def test_a_condition_that_may_be_any_vector_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="nothing says of how many classes"):
        source("AnyVector", tmp_path)


@pytest.mark.parametrize("optimize", ["auto", "none"])
def test_a_norm_of_the_author_s_own_is_folded_into_its_weight(optimize: str, tmp_path: Path) -> None:
    report = export_onnx(source("OwnNorm", tmp_path), tmp_path / "g.onnx", OnnxOptions(optimize=optimize))
    assert report.ok, report.verdict()


class Auto(nn.Module):
    """An encoder and a decoder, of which a forward takes what it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())


@pytest.mark.parametrize("below", [(), ("model",)])
def test_an_encoder_in_the_file_does_not_veto_the_code(below: tuple[str, ...], tmp_path: Path) -> None:
    module = Auto()
    content: object = module.state_dict()
    for key in below:
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "vae.pth")
    answers = Answers(live=LiveAnswers("export.live_networks:Flat", args={"sizes": [8, 16, 784]}))
    with pytest.raises(GanportError, match="do not fit"):
        live_source(tmp_path / "vae.pth", answers)
    (tmp_path / "code.py").write_text(
        "from torch import nn\n"
        "def decoder():\n    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())\n"
    )
    made = live_source(tmp_path / "vae.pth", Answers(live=LiveAnswers(f"{tmp_path / 'code.py'}:decoder")))
    assert made.interface.z_dim == 8
    z = torch.randn(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(made.module(z).flatten(1), module.decoder(z))


def test_of_two_parts_that_fit_none_is_taken(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "from torch import nn\n"
        "def decoder():\n    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 784), nn.Tanh())\n"
    )
    both = nn.ModuleDict({name: Auto().decoder for name in ("ours", "theirs")})
    torch.save(both.state_dict(), tmp_path / "two.pth")
    with pytest.raises(GanportError, match="do not fit"):
        live_source(tmp_path / "two.pth", Answers(live=LiveAnswers(f"{tmp_path / 'code.py'}:decoder")))


def test_the_width_of_a_label_s_own_layer_comes_last() -> None:
    body = nn.Sequential(nn.Linear(10, 6), nn.Linear(12, 16), nn.Linear(16, 10), nn.Linear(10, 784))
    assert latent_widths(body, 10)[-1] == 10
    assert latent_widths(body, 0)[0] == 10
