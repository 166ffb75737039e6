"""The other runtimes: each draws the checkpoint's pixels, on its own and as a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bench.running import without_processes
from bench.tiny_models import tiny_model
from gan_bench.measure import measure
from gan_bench.options import parse_peers
from gan_bench.peers import PEERS, missing_peers
from gan_bench.peers.checkpoint import unpack
from gan_bench.questions import Open
from gan_bench.record import Settings
from gan_bench.rows import Selection
from gan_core.errors import GanportError, MissingPackageError
from gan_core.golden import inputs
from gan_core.image_input import ImageInput
from gan_core.installation import pip
from gan_core.interface import Interface, Styles
from gan_core.spec import layers as L
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.exporting import export_onnx
from gan_export.source import from_spec
from gan_serve.runtime.generator import Generator
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator

pytestmark = pytest.mark.slow

SETTINGS = Settings(window_s=0.02, max_rounds=3, quick=True, timeout_s=120, min_calls_per_window=5, roofline=False)
SPEC = network_spec("dcgan", 28, 1, width=2, z_dim=6, n_classes=3)
MLP = network_spec("mlp", 28, 1, width=1, z_dim=6)
UPSCALE = GeneratorSpec(
    Interface(0, (3, 16, 24), value_range=(0.0, 1.0), input=ImageInput(scale=2)),
    (L.Conv(3, 12, 3, padding=1), L.PixelShuffle(2), L.Activation("sigmoid")),
)
STYLED = GeneratorSpec(
    Interface(4, (3, 4, 4), styles=Styles(6, 2), noise=True),
    (
        L.Linear(4, 6),
        L.Styles(6, 2, as_="ws"),
        L.Constant((5, 4, 4)),
        L.ModulatedConv(5, 3, 3, "ws", 1, 6),
        L.Noise(4, 4),
        L.Activation("tanh"),
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """g.pt, g.onnx, and what `unpack` makes of them in unpacked/; other.pt and other.onnx draw something else."""
    path = tmp_path_factory.mktemp("peers")
    torch.manual_seed(0)
    for spec, name in ((MLP, "other"), (SPEC, "g")):
        module = build(spec)
        save_generator(GeneratorCheckpoint(spec, module.state_dict()), path / f"{name}.pt")
    assert export_onnx(from_spec(SPEC, module), path / "g.onnx").ok
    onnx.save(tiny_model(), path / "other.onnx")
    (path / "unpacked").mkdir()
    unpack(path / "g.pt", path / "unpacked", None, stock=True)
    return path


def opened(folder: Path, name: str, device: str = "cpu") -> Generator:
    path = folder / "unpacked" / PEERS[name].source
    return PEERS[name].open(Open(name, path, device, 1, batches=(3,)))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Generator:
    return opened(folder, "eager")


@pytest.mark.parametrize("name", [name for name in PEERS if name not in ("eager", "compile")])
def test_a_peer_draws_what_eager_torch_draws(folder: Path, reference: Generator, name: str) -> None:
    if name in missing_peers():
        pytest.skip(f"{name} is not installed")
    peer = opened(folder, name)
    z = np.random.default_rng(0).standard_normal((3, 6), np.float32)
    label = np.array([2, 0, 1], np.int64)
    image, pixels = peer.run(z, label)
    expected_image, expected = reference.run(z, label)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 28, 28, 1)
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    assert np.abs(image - expected_image).max() < 1e-4
    assert np.array_equal(peer.run_pixels(z, label), pixels)
    assert peer.contract.interface.n_classes == 3
    assert peer.provider == "cpu"


@pytest.mark.parametrize("spec", [UPSCALE, STYLED], ids=["image", "styles"])
def test_peers_of_other_inputs(spec: GeneratorSpec, tmp_path: Path) -> None:
    save_generator(GeneratorCheckpoint(spec, build(spec).state_dict()), tmp_path / "theirs.pt")
    unpack(tmp_path / "theirs.pt", tmp_path, None, stock=True)
    given = inputs(spec.interface, range(3))
    eager, *others = (
        PEERS[name].open(Open(name, tmp_path / PEERS[name].source, "cpu", 1, batches=(3,)))
        for name in ("eager", "torchscript", "stock")
    )
    expected = eager.run_pixels(given)
    assert expected.std() > 0
    for peer in (eager, *others):
        assert np.abs(peer.run_pixels(given).astype(int) - expected).max() <= 1
        assert np.abs(peer.run(given)[1].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["eager", "stock"])
def test_a_device_that_is_not_there(folder: Path, name: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(GanportError, match="no CUDA"):
        opened(folder, name, "cuda")


def test_the_stock_export_is_torchs_own(folder: Path) -> None:
    model = onnx.load(folder / "unpacked" / "stock.onnx")
    assert model.producer_name == "pytorch"
    assert any(node.op_type == "BatchNormalization" for node in model.graph.node) or any(
        node.op_type == "ConvTranspose" for node in model.graph.node
    )
    assert [output.name for output in model.graph.output] == ["image", "pixels"]


@pytest.mark.long
def test_rows_beside_the_file(folder: Path) -> None:
    chosen = Selection(
        (folder / "g.onnx",), ("cpu",), (1,), (2,), ckpt=folder / "g.pt", peers=("eager", "stock"), end_to_end=True
    )
    made = measure(chosen, SETTINGS)
    assert made.reference.name == "PyTorch"
    assert made.generator["checkpoint"]["file"] == "g.pt"
    rows = [result.to_json() for result in made.results]
    assert [(row["runtime"], row["task"]) for row in rows] == [
        ("ganport", "pixels"), ("eager", "pixels"), ("stock", "pixels"), ("ganport", "png"),
    ]  # fmt: skip
    for row in rows:
        assert row["status"] in ("ok", "unstable"), row["reason"]
        assert row["parity"]["pixels_max_lsb"] <= 1
        assert row["images_per_s"] > 0
    assert [row["engine"] for row in rows] == ["onnxruntime", "torch", "onnxruntime", "onnxruntime"]
    assert rows[1]["engine_version"] == torch.__version__.split("-")[0]
    assert rows[1]["threads"] == 1
    assert rows[3]["batch"] == 256


@pytest.mark.long
def test_peers_alone_in_shared_processes(folder: Path) -> None:
    chosen = Selection((), ("cpu",), (1,), (1, 3), ckpt=folder / "g.pt", peers=("torchscript",))
    made = measure(chosen, replace(SETTINGS, share_process=True))
    first, second = made.results
    assert made.models == []
    assert made.generator["name"] == SPEC.name
    assert (first.shared, second.shared) == (False, True)
    assert second.opened is first.opened
    assert {first.status, second.status} <= {"ok", "unstable"}
    assert second.to_json()["shared_process"] is True


@pytest.mark.long
def test_torch_compile(folder: Path) -> None:
    (result,) = measure(
        Selection((), ("cpu",), (1,), (2,), ckpt=folder / "other.pt", peers=("compile",)), SETTINGS
    ).results
    assert result.status in ("ok", "unstable"), result.failure
    assert result.first_run_ms is not None
    assert result.first_run_ms > 100, "the first run compiles"


def test_a_checkpoint_of_another_generator_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)
    chosen = Selection((folder / "g.onnx",), ("cpu",), ckpt=folder / "other.pt", peers=("eager",))
    with pytest.raises(GanportError, match=r"n_classes 0, .*g\.onnx has 3: they are different generators"):
        measure(chosen, SETTINGS)


def test_files_of_other_generators_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)
    with pytest.raises(GanportError, match="they are different generators"):
        measure(Selection((folder / "g.onnx", folder / "other.onnx"), ("cpu",)), SETTINGS)


def test_a_file_that_is_no_checkpoint_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_processes(monkeypatch)
    chosen = Selection((folder / "g.onnx",), ("cpu",), ckpt=folder / "g.onnx", peers=("eager",))
    with pytest.raises(GanportError, match="is an ONNX model already, expected a checkpoint"):
        measure(chosen, SETTINGS)


@pytest.mark.long
def test_other_weights_are_wrong_pixels(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_generator(GeneratorCheckpoint(SPEC, build(SPEC).state_dict()), tmp_path / "g.pt")
    chosen = Selection((folder / "g.onnx",), ("cpu",), (1,), (2,), ckpt=tmp_path / "g.pt", peers=("eager",))
    ours, eager = measure(chosen, SETTINGS).results
    assert ours.status == "wrong"
    assert "pixels differ from PyTorch's" in ours.mistake
    assert eager.status in ("ok", "unstable")


def test_names() -> None:
    assert parse_peers("none") == ()
    assert parse_peers("stock, eager,stock") == ("stock", "eager")
    assert set(parse_peers("all")) == set(PEERS) - set(missing_peers())


@pytest.mark.parametrize("text", ["", "torch", "eager,", "EAGER", "all,eager", "none,eager", "eager;stock"])
def test_bad_names(text: str) -> None:
    with pytest.raises(GanportError, match="--peers takes all, none, or names out of eager"):
        parse_peers(text)


def test_a_peer_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "openvino", replace(PEERS["openvino"], package="not_there_at_all"))
    assert "openvino" in missing_peers()
    assert "openvino" not in parse_peers("all")
    with pytest.raises(MissingPackageError) as caught:
        parse_peers("openvino")
    assert caught.value.hint == pip("install not_there_at_all")


@pytest.mark.skipif("openvino" in missing_peers(), reason="needs the package openvino")
@pytest.mark.parametrize("hint", ["LATENCY", "THROUGHPUT"])
def test_both_of_openvinos_ways_draw_the_same(folder: Path, reference: Generator, hint: str) -> None:
    from gan_bench.peers.onnx_peers import OpenVino

    peer = PEERS["openvino"].open(Open("openvino", folder / "unpacked" / "stock.onnx", "cpu", 2))
    assert isinstance(peer, OpenVino)
    z = np.random.default_rng(0).standard_normal((12, 6), np.float32)
    label = np.arange(12, dtype=np.int64) % 3
    outputs = peer._compile(12, hint)({"z": z, "label": label})
    assert np.abs(outputs["pixels"].astype(int) - reference.run_pixels(z, label)).max() <= 1
