"""The networks whose features an evaluation compares: the classifier of a data set and its cache, and Inception."""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_core.errors import GanportError, MissingPackageError
from gan_trainer.evaluation import Evaluator
from gan_trainer.evaluation.classifier import classifier_for, split, weights_hash
from gan_trainer.evaluation.features import InceptionFeatures, choose
from trainer.conftest import CPU
from trainer.data_files import logged
from trainer.shapes import shapes

pytestmark = pytest.mark.slow

DATA = shapes(240)


def test_inception_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingPackageError) as refused:
        Evaluator(DATA, "inception", device=CPU)
    assert "[inception]" in refused.value.hint
    assert '`features="swd"`' in refused.value.hint


def stub_fidelity(monkeypatch: pytest.MonkeyPatch, fail: Exception | None = None) -> None:
    """torch-fidelity as far as we call it: 2048 random projections in place of Inception."""

    class Extractor(torch.nn.Module):
        def __init__(self, name: str, features_list: list[str]) -> None:
            super().__init__()
            assert (name, features_list) == ("inception-v3-compat", ["2048"])
            if fail is not None:
                raise fail
            self.axes = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            assert images.dtype == torch.uint8
            assert images.shape[1] == 3
            return (images.float().mean((2, 3)) @ self.axes,)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    module.URL_INCEPTION_V3 = "example/weights.pth"  # type: ignore[attr-defined]
    package = types.ModuleType("torch_fidelity")
    package.feature_extractor_inceptionv3 = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_inception_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub_fidelity(monkeypatch)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "weights.pth").write_bytes(b"weights")
    with logged() as notes:
        measure = Evaluator(DATA, "inception", n=40, device="cpu")
    assert (measure.info.id, measure.info.hash) == ("inception", hashlib.sha256(b"weights").hexdigest()[:12])
    assert "far too large" in notes[0]
    features, classes = InceptionFeatures(CPU)(DATA.pixels_NHWC, np.arange(50))
    assert features.shape == (50, 2048)
    assert classes is None


def test_inception_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_fidelity(monkeypatch, OSError("no network"))
    with pytest.raises(GanportError, match="Inception's weights cannot be had: no network") as refused:
        Evaluator(DATA, "inception", device=CPU)
    assert "weights.pth" in refused.value.hint


def test_features_follow_from_the_data() -> None:
    assert choose("auto", DATA) == "classifier"
    assert choose("auto", shapes(60, labelled=False)) == "swd"
    assert choose("swd", DATA) == "swd"
    with pytest.raises(GanportError, match="no features are called 'vgg'"):
        choose("vgg", DATA)


@pytest.fixture
def shorter_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody asks how good it is."""
    monkeypatch.setattr("gan_trainer.evaluation.classifier.LEAST_STEPS", 1)


@pytest.mark.usefixtures("shorter_training")
def test_classifier_is_trained_once_and_kept(tmp_path: Path) -> None:
    data = shapes(60)
    before = torch.get_rng_state()
    with logged() as notes:
        first = classifier_for(data, CPU, cache_dir=tmp_path)
        assert torch.equal(torch.get_rng_state(), before)
        assert [note.split()[0] for note in notes] == ["training", "classifier"]
        second = classifier_for(data, CPU, cache_dir=tmp_path)
        assert len(notes) == 2
        assert weights_hash(second) == weights_hash(first)
        assert second.accuracy == first.accuracy
        (kept,) = (tmp_path / "evaluators").iterdir()
        kept.write_bytes(kept.read_bytes()[:1000])
        third = classifier_for(data, CPU, cache_dir=tmp_path)
        assert "does not read" in notes[2]
    assert weights_hash(third) == weights_hash(first), "the same data, the same classifier"
    other = classifier_for(shapes(60, seed=1), CPU, cache_dir=tmp_path)
    assert weights_hash(other) != weights_hash(first)
    assert len(list((tmp_path / "evaluators").iterdir())) == 2


@pytest.mark.usefixtures("shorter_training")
def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with logged() as notes:
        classifier_for(shapes(40), CPU, cache_dir=tmp_path / "file")
    assert notes[-1].startswith("the classifier is not kept: cannot write")


def test_the_test_images_are_not_trained_on() -> None:
    rows, tests = split(1000)
    assert (len(rows), len(tests)) == (900, 100)
    assert not set(rows) & set(tests)
    assert len(split(200_000)[1]) == 10_000
