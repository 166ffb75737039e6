"""The five faults that an export must never survive, planted in the generator, in both formats.

Either the module itself is faulty, and the export a faithful copy; or the module is right and the copy is not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.tiny import source_of, spec_of
from gan_core.errors import JobError
from gan_export import onnx_export, torchscript_export
from gan_export.exporting import export_onnx, export_torchscript
from gan_export.proof import Report
from gan_export.source import PixelModule, Source, export_module

pytestmark = pytest.mark.slow

Export = Callable[[Source, Path], Report]
FORMATS: dict[str, Export] = {".onnx": export_onnx, ".ts": export_torchscript}


@pytest.fixture(params=FORMATS)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def conditional() -> Source:
    return source_of(spec_of(n_classes=3))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def in_train_mode(module: nn.Module) -> nn.Module:
    """One BatchNorm left in train mode."""
    norms(module)[1].train()
    return module


def without_statistics(module: nn.Module) -> nn.Module:
    """A BatchNorm that keeps no statistics, so that eval mode changes nothing."""
    norm = norms(module)[1]
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    return module


class Noisy(nn.Module):
    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.generator(z, label)
        return image + 0.01 * torch.randn_like(image)


class OverTheBatch(Noisy):
    """Normalises its images by the batch's mean."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.generator(z, label)
        return image - 0.1 * image.mean(dim=0, keepdim=True)


FAULTY_SOURCES: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "BatchNorm left in train mode": (in_train_mode, "reference eval mode"),
    "BatchNorm without statistics": (without_statistics, "reference neighbours"),
    "mean over the batch": (OverTheBatch, "reference neighbours"),
    "noise drawn inside": (Noisy, "reference repeats"),
}


@pytest.mark.parametrize("fault", FAULTY_SOURCES)
def test_module_that_is_no_reference(fault: str, suffix: str, tmp_path: Path) -> None:
    plant, expected = FAULTY_SOURCES[fault]
    source = conditional()
    module = plant(source.module)
    if isinstance(module, Noisy):
        module.eval()
    report = FORMATS[suffix](dataclasses.replace(source, module=module), tmp_path / f"g{suffix}")
    assert expected in {check.name for check in report.failed}, report.verdict()
    assert list(tmp_path.iterdir()) == []


def swapped_channels(module: nn.Module) -> nn.Module:
    """Two channels of one kernel, exchanged."""
    weight = module.layers[5].weight  # type: ignore[index,union-attr]
    with torch.no_grad():
        weight.copy_(weight[:, [1, 0, *range(2, weight.shape[1])]])
    return module


def one_percent(module: nn.Module) -> nn.Module:
    """One channel of one layer, 1 % off."""
    with torch.no_grad():
        module.layers[5].weight[:, 2] *= 1.01  # type: ignore[index,union-attr]
    return module


def batch_statistics(module: Any) -> Any:
    class BatchStatistics(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.batch_norm(x, None, None, training=True)

    module.layers[3] = BatchStatistics()
    return module


class Baked(Noisy):
    """Draws whatever it is given as if it were the batch it was traced with."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.generator(z, label)
        return image.reshape(3, 3, 28, 28)


COPIES: dict[str, tuple[Callable[[nn.Module], nn.Module], set[str]]] = {
    "train-mode BatchNorm": (batch_statistics, {"independent of neighbours", "image values"}),
    "swapped channel": (swapped_channels, {"image values", "pixel values", "golden images"}),
    "noise drawn inside": (Noisy, {"random ops", "repeats to the bit", "image values"}),
    "1 % weight error": (one_percent, {"image values"}),
}


def plant_in_the_copy(monkeypatch: pytest.MonkeyPatch, plant: Callable[[nn.Module], nn.Module]) -> None:
    def faulty(source: Source) -> PixelModule:
        module = export_module(source)
        module.generator = plant(module.generator)
        return module.eval()

    for exporter in (onnx_export, torchscript_export):
        monkeypatch.setattr(exporter, "export_module", faulty)


@pytest.mark.parametrize("fault", COPIES)
def test_export_that_is_no_copy(fault: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, expected = COPIES[fault]
    plant_in_the_copy(monkeypatch, plant)
    report = FORMATS[suffix](conditional(), tmp_path / f"g{suffix}")
    assert expected <= {check.name for check in report.failed}, report.verdict()
    assert list(tmp_path.iterdir()) == []


def test_baked_batch(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_in_the_copy(monkeypatch, Baked)
    if suffix == ".onnx":
        with pytest.raises(JobError, match="bakes in its batch size"):
            export_onnx(conditional(), tmp_path / "g.onnx")
    else:
        report = export_torchscript(conditional(), tmp_path / "g.ts")
        assert "batch sizes" in {check.name for check in report.failed}, report.verdict()
        assert report.check("batch sizes").value == "fails at 1 2 8 25"
    assert list(tmp_path.iterdir()) == []


def test_failed_proof_says_by_how_much_and_on_which_seed(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_in_the_copy(monkeypatch, swapped_channels)
    (tmp_path / f"g{suffix}").write_text("the older file")
    report = FORMATS[suffix](conditional(), tmp_path / f"g{suffix}")
    check = report.check("image values")
    assert isinstance(check.value, float)
    assert check.value > 0.01
    assert "seed" in check.detail or "latent" in check.detail
    message = str(report.error())
    assert "image values" in message
    assert "expected <= 0.0001" in message
    assert (tmp_path / f"g{suffix}").read_text() == "the older file"
