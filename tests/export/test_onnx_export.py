"""The ONNX file itself: signature, bytes, metadata, and what must not be in it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from export.precision_nets import settled_source
from export.tiny import lively, save_checkpoint, source_of, spec_of
from gan_core.errors import ContractError, GanportError, JobError
from gan_core.interface import Interface
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.answers import MAX_OPSET, MIN_OPSET, Answers, OnnxOptions
from gan_export.artefact import read_onnx
from gan_export.exporting import export_onnx, export_torchscript
from gan_export.identify import identify
from gan_export.identify import source_of as identified_source
from gan_export.onnx_export import to_onnx
from gan_export.source import Source
from gan_serve.runtime.onnx_generator import OnnxGenerator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional DCGAN's ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "g.onnx"
    report = export_onnx(source_of(spec_of(n_classes=3, class_names=("a", "b", "ç"))), path)
    assert report.ok, report.verdict()
    return path


def test_signature_is_the_contract_s(exported: Path) -> None:
    model, _ = read_onnx(exported)
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert found == {
        "z": ["batch", 8],
        "label": ["batch"],
        "image": ["batch", 3, 28, 28],
        "pixels": ["batch", 28, 28, 3],
    }


def test_contract_reads_back(exported: Path) -> None:
    _, contract = read_onnx(exported)
    assert contract.interface.class_names == ("a", "b", "ç")
    assert contract.interface.n_classes == 3
    assert contract.source["file"] == "g.pt"
    assert contract.exporter["opset"] == 18
    assert {"ganport", "torch", "onnx"} <= set(contract.exporter)
    assert contract.parity["image_max_abs"] <= 1e-4
    assert contract.parity["images"] > 39
    assert len(contract.golden) == 4
    assert GeneratorSpec.from_json(contract.spec) == spec_of(n_classes=3, class_names=("a", "b", "ç"))


def test_standard_image_keys_are_set(exported: Path) -> None:
    model, _ = read_onnx(exported)
    keys = {entry.key: entry.value for entry in model.metadata_props if entry.key.startswith("Image.")}
    assert keys == {
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "Normalized_1_1",
    }
    assert [output.type.denotation for output in model.graph.output] == ["IMAGE", ""]


def test_says_nothing_of_the_machine(exported: Path) -> None:
    data = exported.read_bytes()
    for trace in (b"site-packages", str(Path.cwd()).encode(), str(Path.home()).encode() + b"/", b"pkg.torch", b".py"):
        assert trace not in data


def test_no_batch_norm_is_left(exported: Path) -> None:
    model, contract = read_onnx(exported)
    assert not [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    assert "canonical_names" in contract.passes


def test_is_about_as_large_as_its_weights(tmp_path: Path) -> None:
    source = source_of(spec_of(size=64))
    weights = sum(tensor.nbytes for tensor in source.module.state_dict().values())
    assert export_onnx(source, tmp_path / "g.onnx").ok
    assert (tmp_path / "g.onnx").stat().st_size < weights + 80_000


WIDE = GeneratorSpec(
    Interface(8, (3, 8, 8)),
    (
        *(L.Linear(8, 4096), L.Reshape((256, 4, 4)), L.Upsample(2), L.Conv(256, 256, 3, 1, 1), L.BatchNorm(256)),
        *(L.Activation("relu"), L.Conv(256, 3, 3, 1, 1), L.Activation("tanh")),
    ),
)
"""Nine tenths of its 2.5 MB are one convolution behind an upsampling."""


@pytest.mark.parametrize(
    ("options", "share"),
    [({}, 1.0), ({"store": "fp16"}, 0.5), ({"precision": "fp16"}, 0.5), ({"precision": "int8"}, 0.4)],
    ids=str,
)
def test_upsampling_and_its_convolution_weigh_what_the_convolution_weighs(
    options: dict[str, Any], share: float, tmp_path: Path
) -> None:
    source = settled_source(WIDE)
    weights = sum(tensor.nbytes for tensor in source.module.state_dict().values())
    report = export_onnx(source, tmp_path / "g.onnx", OnnxOptions(**options))
    assert report.ok, report.verdict()
    assert (tmp_path / "g.onnx").stat().st_size < share * weights + 80_000


def test_onnx_s_own_tools_read_it(exported: Path) -> None:
    onnx.checker.check_model(str(exported), full_check=True)
    assert onnx.load(exported).ir_version <= 10  # what onnxruntime 1.20 reads


@pytest.mark.usefixtures("traced_anew")
def test_nothing_is_printed_or_warned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_onnx(source_of(), tmp_path / "g.onnx")
    assert capfd.readouterr() == ("", "")


def export_both(folder: str, name: str) -> None:
    """The checkpoint in `folder` as NAME.onnx and NAME.ts."""
    source = identified_source(identify(Path(folder) / "g.pt", Answers()))
    assert export_onnx(source, Path(folder) / f"{name}.onnx").ok
    assert export_torchscript(source, Path(folder) / f"{name}.ts").ok


@pytest.mark.long
def test_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    """In processes whose hashes differ. (Where TorchScript was made before, it numbers its classes on.)"""
    save_checkpoint(tmp_path / "g.pt")
    script = "import sys; from export.test_onnx_export import export_both; export_both(*sys.argv[1:])"
    for name, seed in (("a", "0"), ("b", "1")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run([sys.executable, "-c", script, str(tmp_path), name], check=True, env=environment)
    for suffix in (".onnx", ".ts"):
        first, second = ((tmp_path / name).with_suffix(suffix).read_bytes() for name in "ab")
        assert first == second, suffix


@pytest.mark.parametrize("opset", [MIN_OPSET, 21, MAX_OPSET])
def test_opsets(opset: int, tmp_path: Path) -> None:
    report = export_onnx(source_of(), tmp_path / "g.onnx", OnnxOptions(opset=opset))
    assert report.ok, report.verdict()
    model, contract = read_onnx(tmp_path / "g.onnx")
    assert [entry.version for entry in model.opset_import] == [opset] == [contract.exporter["opset"]]


@pytest.mark.parametrize("opset", [-1, 0, MIN_OPSET - 1, MAX_OPSET + 1, 10**9])
def test_opset_out_of_range(opset: int, tmp_path: Path) -> None:
    with pytest.raises(GanportError, match=f"`opset` must be 18 to 23, got {opset}"):
        export_onnx(source_of(), tmp_path / "g.onnx", OnnxOptions(opset=opset))
    assert list(tmp_path.iterdir()) == []


def live(module: nn.Module, **options: object) -> Source:
    return dataclasses.replace(Source(lively(module), Interface(8, (1, 4, 4))), **options)  # type: ignore[arg-type]


class Normed(nn.Module):
    """Linear layers under every kind of reparametrisation."""

    def __init__(self) -> None:
        super().__init__()
        import warnings

        self.a = lively(nn.Linear(8, 8))
        self.b = lively(nn.Linear(8, 16))
        self.c = lively(nn.Linear(16, 16))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nn.utils.weight_norm(self.a)
        nn.utils.parametrizations.weight_norm(self.b)
        nn.utils.spectral_norm(self.c)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.c(torch.relu(self.b(self.a(z))))).reshape(-1, 1, 4, 4)


def test_reparametrised_weights_are_resolved_and_the_source_is_left_alone(tmp_path: Path) -> None:
    source = dataclasses.replace(Source(Normed().eval(), Interface(8, (1, 4, 4))))
    before = set(source.module.state_dict())
    report = export_onnx(source, tmp_path / "g.onnx")
    assert report.ok, report.verdict()
    model, _ = read_onnx(tmp_path / "g.onnx")
    assert {node.op_type for node in model.graph.node} <= {
        "Gemm", "Relu", "Tanh", "Reshape", "Add", "Sub", "Mul", "Floor", "Clip", "Cast", "Transpose",
    }  # fmt: skip
    assert set(source.module.state_dict()) == before


class BakedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 16)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.linear(z)).view(3, 1, 4, 4)


class Branching(BakedBatch):
    def forward(self, z: Tensor) -> Any:
        x = self.linear(z)
        return (x if float(x.sum()) > 0 else -x).tanh().view(-1, 1, 4, 4)


def test_module_that_only_takes_one_batch_size(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="fails on a batch of 1 ordinary") as error:
        export_onnx(live(BakedBatch()), tmp_path / "g.onnx")
    assert error.value.hint == "a generator must take any number of latents, or of images"
    assert list(tmp_path.iterdir()) == []


class TakesThree(BakedBatch):
    def forward(self, z: Tensor) -> Tensor:
        if z.shape[0] != 3:
            raise ValueError("three, please")
        return torch.tanh(self.linear(z)).view(-1, 1, 4, 4)


@pytest.mark.parametrize("module", [BakedBatch, TakesThree])
def test_exporter_that_gives_up_the_dynamic_batch(module: type[nn.Module]) -> None:
    with pytest.raises(JobError, match="bakes in its batch size"):
        to_onnx(live(module()))


def test_module_that_branches_on_values() -> None:
    with pytest.raises(JobError, match="branches on values"):
        to_onnx(live(Branching()))


def test_old_file_stays_when_the_export_fails(tmp_path: Path) -> None:
    target = tmp_path / "g.onnx"
    target.write_text("older")
    with pytest.raises(JobError):
        export_onnx(live(BakedBatch()), target)
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]
    assert target.read_text() == "older"


def test_runtime_draws_what_torch_draws(exported: Path) -> None:
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(5))
    label = torch.tensor([0, 2, 1, 2])
    with torch.no_grad():
        expected = source_of(spec_of(n_classes=3)).module(z, label)
    image, pixels = OnnxGenerator(exported, "cpu").run(z.numpy(), label.numpy())
    torch.testing.assert_close(torch.from_numpy(image), expected, atol=1e-5, rtol=0)
    assert pixels.shape == (4, 28, 28, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"{}", "is JSON"),
        (b"\x08\x0a\x12", "not a whole ONNX model"),
        (b"\x08\x0a", "carries no contract"),
        pytest.param(random.Random(0).randbytes(99), "not (an|a whole) ONNX model", id="random bytes"),
    ],
)
def test_reading_what_is_no_artefact(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ContractError, match=message):
        read_onnx(tmp_path / "m.onnx")


def test_reading_a_foreign_or_damaged_contract(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "gan.interface":
            entry.value = json.dumps({"z": {"law": "normal"}})
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(ContractError, match=r"z must be an object of dim, law"):
        read_onnx(tmp_path / "damaged.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ContractError, match="carries no contract"):
        read_onnx(tmp_path / "foreign.onnx")
