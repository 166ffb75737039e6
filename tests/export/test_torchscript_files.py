"""TorchScript files: written, read back, run, and refused."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gan_serve
from export.tiny import save_checkpoint, source_of, spec_of
from gan_core.errors import ContractError, GanportError, JobError
from gan_core.files.archive import read_contract
from gan_core.interface import Interface
from gan_core.latents import latents
from gan_export.exporting import export_onnx, export_torchscript
from gan_export.proof.prove import prove
from gan_export.source import Source
from gan_export.torchscript_export import all_nodes
from gan_export.torchscript_runtime import TorchScriptGenerator, load
from gan_serve.runtime.onnx_generator import OnnxGenerator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ts") / "g.ts"
    report = export_torchscript(source_of(spec_of(n_classes=3)), path)
    assert report.ok, report.verdict()
    return path


def repacked(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of an archive with each entry changed, or dropped."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(zipfile.ZipInfo(name), data)
    return target


def test_draws_what_the_onnx_file_draws(exported: Path, tmp_path: Path) -> None:
    assert export_onnx(source_of(spec_of(n_classes=3)), tmp_path / "g.onnx").ok
    z, label = latents(range(6), 8), np.arange(6) % 3
    scripted = TorchScriptGenerator(exported).run(z, label)
    onnx = OnnxGenerator(tmp_path / "g.onnx", "cpu").run(z, label)
    np.testing.assert_allclose(scripted[0], onnx[0], atol=1e-5)
    assert np.abs(scripted[1].astype(int) - onnx[1]).max() <= 1


def test_runs_through_the_library_by_its_suffix(exported: Path) -> None:
    generator = gan_serve.load(exported, provider="cpu")
    assert isinstance(generator, TorchScriptGenerator)
    pixels = generator.generate(range(5))
    assert pixels.shape == (5, 28, 28, 3)
    assert (pixels == generator.generate(range(5), batch_size=2)).all()
    assert generator.provider == "cpu"
    assert len(generator.sha256) == 64


def test_norms_are_folded_and_weights_frozen(exported: Path) -> None:
    module = TorchScriptGenerator(exported).module
    kinds = {node.kind() for node in all_nodes(module)}
    assert "aten::batch_norm" not in kinds
    assert not list(module.parameters())
    assert TorchScriptGenerator(exported).contract.passes == ("fold_norms", "freeze")


def test_says_nothing_of_the_machine_or_the_process(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert not name.endswith(".debug_pkl")
            for trace in (b"site-packages", str(Path.cwd()).encode(), b"torch_mangle"):
                assert trace not in data
                assert trace not in name.encode()


def test_tensors_stay_aligned(exported: Path) -> None:
    """torch maps tensors from the file and wants them at multiples of 64 bytes."""
    data = exported.read_bytes()
    with zipfile.ZipFile(exported) as archive:
        for info in archive.infolist():
            if "/constants/" in info.filename:
                lengths = data[info.header_offset + 26 : info.header_offset + 30]
                name, extra = (int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
                assert (info.header_offset + 30 + name + extra) % 64 == 0


def test_two_exports_in_one_process_are_the_same_file(exported: Path, tmp_path: Path) -> None:
    assert export_torchscript(source_of(spec_of(n_classes=3)), tmp_path / "other.ts").ok
    assert (tmp_path / "other.ts").read_bytes() == exported.read_bytes()


def test_torch_itself_reads_it_without_ganport(exported: Path) -> None:
    extra = {"gan.interface": ""}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(exported, _extra_files=extra)
    image, pixels = module(torch.zeros(2, 8), torch.tensor([0, 1]))
    assert image.shape == (2, 3, 28, 28)
    assert pixels.dtype == torch.uint8
    assert b'"dim": 8' in bytes(extra["gan.interface"])  # type: ignore[arg-type]  # torch puts bytes there


def test_nothing_is_printed_or_warned(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_torchscript(source_of(), tmp_path / "g.ts")
    assert capfd.readouterr() == ("", "")


def test_proof_alone_holds(exported: Path) -> None:
    report = prove(exported)
    assert report.ok, report.verdict()
    assert report.against == ""


def test_threads_are_set(exported: Path) -> None:
    before = torch.get_num_threads()
    try:
        load(exported, "cpu", 1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def not_there(_: Path, folder: Path) -> Path:
    return folder / "none.ts"


def a_folder(_: Path, folder: Path) -> Path:
    return folder


def empty(_: Path, folder: Path) -> Path:
    (folder / "m.ts").write_bytes(b"")
    return folder / "m.ts"


def noise(_: Path, folder: Path) -> Path:
    (folder / "m.ts").write_bytes(os.urandom(500))
    return folder / "m.ts"


def truncated(exported: Path, folder: Path) -> Path:
    (folder / "m.ts").write_bytes(exported.read_bytes()[:-2000])
    return folder / "m.ts"


def checkpoint(_: Path, folder: Path) -> Path:
    return save_checkpoint(folder / "m.ts")


def without_contract(exported: Path, folder: Path) -> Path:
    return repacked(exported, folder / "m.ts", lambda name, data: None if "/extra/" in name else data)


def newer_contract(exported: Path, folder: Path) -> Path:
    return repacked(exported, folder / "m.ts", lambda name, data: b"99" if name.endswith("gan.contract") else data)


def incomplete_contract(exported: Path, folder: Path) -> Path:
    return repacked(exported, folder / "m.ts", lambda name, data: None if name.endswith("gan.interface") else data)


def binary_contract(exported: Path, folder: Path) -> Path:
    return repacked(exported, folder / "m.ts", lambda name, data: b"\xff" if name.endswith("gan.interface") else data)


def without_constants(exported: Path, folder: Path) -> Path:
    return repacked(exported, folder / "m.ts", lambda name, data: None if name.endswith("constants.pkl") else data)


def broken_code(exported: Path, folder: Path) -> Path:
    return repacked(exported, folder / "m.ts", lambda name, data: b"def (" if name.endswith(".py") else data)


WRONG_FILES: list[tuple[Callable[[Path, Path], Path], str]] = [
    (not_there, "no model at"),
    (a_folder, "is a folder"),
    (empty, "not a TorchScript file"),
    (noise, "not a TorchScript file"),
    (truncated, "not a TorchScript file"),
    (checkpoint, "is a PyTorch checkpoint, expected TorchScript"),
    (without_contract, "TorchScript without a contract"),
    (newer_contract, "contract version 99"),
    (incomplete_contract, "incomplete"),
    (binary_contract, "damaged"),
    (without_constants, "that torch .* cannot load"),
    (broken_code, "whose code cannot be read"),
]


@pytest.mark.parametrize(("make", "message"), WRONG_FILES, ids=lambda value: getattr(value, "__name__", ""))
def test_files_that_are_refused(
    make: Callable[[Path, Path], Path], message: str, exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(GanportError, match=message) as error:
        load(make(exported, tmp_path))
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("provider", "threads", "message"),
    [
        ("tensorrt", None, "runs on auto, cpu, cuda, got 'tensorrt'"),
        ("", None, "got ''"),
        ("CPU", None, "got 'CPU'"),
        ("cpu", 0, "`threads` must be at least 1, got 0"),
        ("cpu", -4, "got -4"),
    ],
)
def test_options_that_are_refused(exported: Path, provider: str, threads: int | None, message: str) -> None:
    with pytest.raises(GanportError, match=message):
        load(exported, provider, threads)


def test_cuda_that_is_not_there_is_an_error(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GanportError, match="no CUDA device"):
        load(exported, "cuda")
    assert load(exported, "auto").provider == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_what_the_cpu_draws(exported: Path) -> None:
    on_cpu, on_gpu = (load(exported, provider).generate(range(8)) for provider in ("cpu", "auto"))
    assert np.abs(on_cpu.astype(int) - on_gpu).max() <= 2


def test_a_batch_that_cannot_run_is_a_job_error(exported: Path) -> None:
    with pytest.raises(JobError, match="cpu failed on a batch of 2"):
        load(exported, "cpu").run(np.zeros((2, 9), np.float32), np.zeros(2, np.int64))


class NotTraceable(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        if torch._C._get_tracing_state() is not None:
            raise ValueError("no tracing,\nplease")
        return z.reshape(-1, 1, 2, 4)


def test_module_that_cannot_be_traced(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"(?m)cannot trace this generator: ValueError: no tracing,$"):
        export_torchscript(Source(NotTraceable().eval(), Interface(8, (1, 2, 4))), tmp_path / "g.ts")
    assert list(tmp_path.iterdir()) == []


class Dropping(nn.Module):
    """A scripted module with faults that only its graph shows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(8, 1))
        self.weight_v = nn.Parameter(torch.randn(8, 8))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch._weight_norm(self.weight_v, self.weight_g, 0)
        x = torch.dropout(z @ weight, 0.1, True) + torch.rand_like(z)
        image = torch.tanh(x).reshape(-1, 1, 2, 4)
        return image, ((image + 1) * 127.5 + 0.5).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def test_faults_that_the_graph_shows(tmp_path: Path) -> None:
    """An archive that was never frozen, with our contract put into it."""
    import warnings

    from gan_export.artefact import contract_of
    from gan_export.torchscript_export import to_archive

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(Dropping(), torch.zeros(3, 8), check_trace=False)
    contract = contract_of(Source(nn.Identity(), Interface(8, (1, 2, 4))), golden=())
    (tmp_path / "g.ts").write_bytes(to_archive(scripted, contract))
    failed = {check.name for check in prove(tmp_path / "g.ts").failed}
    assert {"training mode", "random ops", "reparametrised weights", "repeats to the bit", "golden set"} <= failed


def test_contract_is_read_without_torch(exported: Path) -> None:
    contract = read_contract(exported)
    assert contract.interface.n_classes == 3
    assert contract.exporter["format"] == "torchscript"
    with pytest.raises(ContractError, match="not a TorchScript file"):
        read_contract(Path(__file__))


def test_archive_of_another_kind(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("notes.txt", "hello")
    (tmp_path / "m.ts").write_bytes(buffer.getvalue())
    with pytest.raises(ContractError, match="expected TorchScript"):
        read_contract(tmp_path / "m.ts")
