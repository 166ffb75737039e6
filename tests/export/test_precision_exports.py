"""Files below fp32, from a source to a proved file: their limits, contract, selftest, and what is in the graph."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from export.precision_nets import settle, settled
from gan_core.errors import GanportError, JobError
from gan_core.interface import Interface
from gan_core.limits import Limits, decibels, limits_for
from gan_export.answers import Answers, OnnxOptions
from gan_export.artefact import read_onnx, stamp, to_bytes
from gan_export.exporting import export_onnx
from gan_export.identify import identify, source_of
from gan_export.precision import int8
from gan_export.proof.prove import layer_types, prove
from gan_export.source import Source
from gan_serve.gen.about import info_text
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator
from real_files import real_file

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("drafted_once")]

SOURCES = {
    "dcgan": lambda: settled("dcgan", 28),
    "classes": lambda: settled("dcgan", 28, n_classes=3),
    "mlp": lambda: settled("mlp", 28, 1, width=64),
}
OPTIONS = {
    "fp16": OnnxOptions(precision="fp16"),
    "fp16 stock": OnnxOptions(precision="fp16", optimize="none"),
    "int8": OnnxOptions(precision="int8"),
    "w16": OnnxOptions(store="fp16"),
    "int8 w16": OnnxOptions(precision="int8", store="fp16"),
}


@pytest.mark.parametrize(
    ("source", "name"),
    [("dcgan", name) for name in OPTIONS]
    + [("classes", "fp16"), ("classes", "int8 w16"), ("mlp", "fp16"), ("mlp", "int8")],
)
def test_every_precision_keeps_its_limit(name: str, source: str, tmp_path: Path) -> None:
    options, path = OPTIONS[name], tmp_path / "g.onnx"
    made = SOURCES[source]()
    report = export_onnx(made, path, options)
    assert report.ok, report.verdict()
    generator = OnnxGenerator(path, "cpu")
    contract = generator.contract
    assert (contract.precision, contract.store) == (options.precision, options.store)
    held_to = "fp16" if "fp16" in (options.precision, options.store) and options.precision != "int8" else "int8"
    assert contract.held_to == held_to
    assert report.check("worst PSNR").limit == f">= {limits_for(held_to).min_psnr_db:g}"
    assert float(report.check("PSNR of all").value) >= contract.parity["worst_psnr_db"] - 0.01
    assert all(result.ok for result in check_golden(generator))
    assert options.precision in info_text(generator, path)
    types = layer_types(onnx.load(path))
    assert types["fp32"] == len(contract.kept_fp32) or options.precision == "fp32"
    assert options.precision == "fp32" or types[options.precision] > 0
    full = sum(tensor.nbytes for tensor in made.module.state_dict().values())
    assert path.stat().st_size < (0.95 if options.precision == "int8" else 0.62) * full + 30_000
    assert prove(path, made).ok


def test_opset_goes_with_precision(tmp_path: Path) -> None:
    for precision in ("fp16", "int8"):
        report = export_onnx(settled(), tmp_path / "g.onnx", OnnxOptions(23, precision=precision))
        assert report.ok, report.verdict()


def test_the_same_checkpoint_gives_the_same_int8_bytes(tmp_path: Path) -> None:
    for name in "ab":
        assert export_onnx(settled(), tmp_path / name, OnnxOptions(precision="int8")).ok
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_none_is_the_exporter_s_own_graph(tmp_path: Path) -> None:
    assert export_onnx(settled(), tmp_path / "g.onnx", OnnxOptions(optimize="none")).ok
    _, contract = read_onnx(tmp_path / "g.onnx")
    assert set(contract.passes) <= {"drop_unused", "strip_traces", "canonical_names"}


def asked_for(psnr_db: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "limits_for", lambda _: Limits(min_psnr_db=psnr_db))


def test_a_network_that_int8_cannot_draw_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for(70.0, monkeypatch)
    with pytest.raises(
        JobError, match=r"int8: not even one layer in integers keeps at least 70 dB \(the best: \d\d\.\d"
    ):
        export_onnx(settled(), tmp_path / "g.onnx", OnnxOptions(precision="int8"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_layers_go_back_to_float_until_the_images_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = settled("mlp", 28, 1, width=64)
    kept = []
    for limit in (20.0, 34.5):
        asked_for(limit, monkeypatch)
        report = export_onnx(source, tmp_path / "g.onnx", OnnxOptions(precision="int8"))
        assert report.ok, report.verdict()
        kept.append(set(read_onnx(tmp_path / "g.onnx")[1].kept_fp32))
        assert float(report.check("worst PSNR").value) >= limit
    assert kept[0] < kept[1]


class Noisy(int8._Trial):
    """Every layer adds its own noise to the images; `batches` counts what was generated."""

    def __init__(self, noise: dict[str, float]) -> None:
        self.noise, self.batches, self.best_db = noise, 0, 0.0

    def psnr_db(self, layers: Collection[str], reach: float) -> float:
        self.batches += 10
        return decibels(sum(self.noise[name] for name in layers) + reach)

    def few(self, layers: Collection[str], reach: float) -> tuple[float, float]:
        self.batches += 2
        found = decibels(sum(self.noise[name] for name in layers) + reach)
        return found, found


@pytest.mark.parametrize("bad", [["70"], [str(k) for k in range(408) if k != 25]])
def test_many_layers_go_back_to_float_in_groups(bad: list[str]) -> None:
    """A network of 408 layers, of which one fails the limit of 30 dB alone, or all but one."""
    names = [str(k) for k in range(408)]
    trial = Noisy({name: 90.0 if name in bad else 0.01 for name in names})
    found = int8._search(trial, [[name] for name in names])
    assert found is not None
    chosen, reach = found
    assert reach == 0.0
    assert not set(chosen) & set(bad)
    assert len(chosen) == (408 - 17 if len(bad) == 1 else 1)
    assert trial.batches < 250


def test_costly_networks_are_calibrated_on_fewer_latents_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    source = settled(n_classes=300)
    every = int8.calibration(source)[0]
    monkeypatch.setattr(int8, "PRODUCTS", 10 * source.products)
    (few,) = int8.calibration(source)
    assert (len(every.z), len(few.z)) == (300, 10)
    assert every.label is not None
    assert few.label is not None
    assert every.label.tolist() == list(range(300))
    assert few.label.tolist()[::9] == [0, 299]


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 16)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.linear(z)).reshape(-1, 1, 4, 4)


def test_a_network_of_one_layer_has_nothing_to_quantise(tmp_path: Path) -> None:
    source = Source(OneLayer().eval(), Interface(8, (1, 4, 4)))
    with pytest.raises(JobError, match="no convolution or product behind the first layer"):
        export_onnx(source, tmp_path / "g.onnx", OnnxOptions(precision="int8"))


class Live(nn.Module):
    """Norms, a norm written out, a branch that joins again and an operator that nobody lists."""

    def __init__(self, huge: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8 * 16)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.last = nn.Conv2d(8, 1, 3, padding=1)
        self.huge = huge

    def forward(self, z: Tensor) -> Tensor:
        z = z * torch.rsqrt((z * z).mean(1, keepdim=True) + 1e-5)
        x = self.first(z).reshape(-1, 8, 4, 4)
        x = x + torch.sin(self.norm(self.conv(x)))
        x = (x * self.huge) / self.huge
        return torch.tanh(self.last(x))


def live(huge: float = 1.0) -> Source:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Live(huge)
        settle(module, (torch.randn(16, 8),))
    return Source(module.eval(), Interface(8, (1, 4, 4)))


@pytest.mark.parametrize("name", OPTIONS)
def test_live_modules(name: str, tmp_path: Path) -> None:
    report = export_onnx(live(), tmp_path / "g.onnx", OPTIONS[name])
    assert report.ok, report.verdict()


def test_values_that_float16_cannot_hold_stay_in_float32(tmp_path: Path) -> None:
    report = export_onnx(live(1e6), tmp_path / "g.onnx", OnnxOptions(precision="fp16"))
    assert report.ok, report.verdict()
    model, _ = read_onnx(tmp_path / "g.onnx")
    assert layer_types(model)["fp16"] == 3


def test_a_contract_that_claims_what_the_graph_is_not(tmp_path: Path) -> None:
    assert export_onnx(settled(), tmp_path / "g.onnx").ok
    model, contract = read_onnx(tmp_path / "g.onnx")
    for claim, name in (({"precision": "int8"}, "layers in int8"), ({"store": "fp16"}, "weights in fp16")):
        claimed = dataclasses.replace(contract, **claim)  # type: ignore[arg-type]
        (tmp_path / "lie.onnx").write_bytes(to_bytes(stamp(model, claimed)))
        assert [check.name for check in prove(tmp_path / "lie.onnx").failed] == [name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "`precision` must be one of fp32, fp16, int8, got 'half'"),
        ({"precision": "INT8"}, "got 'INT8'"),
        ({"store": "int4"}, "`store` must be one of fp32, fp16, got 'int4'"),
        ({"optimize": "all"}, "`optimize` must be one of auto, tune, none, got 'all'"),
        ({"precision": "int8", "optimize": "none"}, '`optimize="none"` has no place beside `precision="int8"`'),
        ({"precision": "fp16", "opset": 9}, "`opset` must be 18 to 23, got 9"),
    ],
)
def test_options_that_are_not_offered(options: dict[str, str], message: str) -> None:
    with pytest.raises(GanportError, match=message):
        OnnxOptions(**options)  # type: ignore[arg-type]


@functools.cache
def stranger(file: str) -> Source:
    return source_of(identify(real_file(file), Answers()))


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("mixed_faces32.pt", marks=pytest.mark.long),  # their forensics take half a minute each
        pytest.param("conditional_mnist.pth", marks=pytest.mark.long),
        "mlp_mnist.ckpt",
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_strangers(file: str, precision: str, tmp_path: Path) -> None:
    report = export_onnx(stranger(file), tmp_path / "g.onnx", OnnxOptions(precision=precision))
    assert report.ok, report.verdict()


@pytest.mark.long
def test_dcgan_64_at_the_tutorial_s_width(tmp_path: Path) -> None:
    source = settled("dcgan", 64, width=64, z_dim=100)
    for precision, kept in (("fp16", 0), ("int8", 2)):
        report = export_onnx(source, tmp_path / "g.onnx", OnnxOptions(precision=precision))
        assert report.ok, report.verdict()
        assert len(read_onnx(tmp_path / "g.onnx")[1].kept_fp32) == kept
