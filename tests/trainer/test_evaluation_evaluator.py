"""Evaluations: reference and floor, shards, classes, and every input that does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError, JobError
from gan_core.interface import Interface, with_interface
from gan_serve.runtime.generator import Generator
from gan_trainer.data import ImageDataset
from gan_trainer.evaluation import Evaluation, Evaluator, evaluate
from gan_trainer.evaluation.generators import ModuleGenerator, ShardSet, open_model
from gan_trainer.networks.architectures import network_spec
from gan_trainer.networks.generator import GeneratorCheckpoint, build, save_generator
from serve import strangers
from trainer.conftest import CPU, blobs
from trainer.data_files import logged
from trainer.shapes import bars, shapes

pytestmark = pytest.mark.slow

DATA = shapes(240)


class Painter(Generator):
    """A conditional generator of the same discs and bars; names say which class is which."""

    def __init__(self, names: tuple[str, ...] = ("disc", "bar"), n_classes: int = 2, size: int = 28) -> None:
        self.contract = Contract(Interface(4, (1, size, size), n_classes=n_classes, class_names=names))
        self.provider = "numpy"
        self.sha256 = "0" * 64
        self.asked: list[int] = []

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        assert label is not None
        self.asked += label.tolist()
        seed = int(abs(float(z[0, 0])) * 1e6)
        size = self.contract.interface.height
        both = {"disc": blobs(len(z), size, 1, seed), "bar": bars(len(z), size, 1, seed)}
        names = self.contract.interface.class_names or ("disc", "bar")
        pixels = np.stack([both[names[kind]][i] for i, kind in enumerate(label)])
        return (pixels.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32), pixels


@pytest.fixture(scope="module", autouse=True)
def short_training() -> Iterator[None]:
    """These shapes need no 200 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan_trainer.evaluation.classifier.LEAST_STEPS", 40)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def evaluator(cache: Path) -> Evaluator:
    return Evaluator(DATA, device=CPU, cache_dir=cache)


def test_real_images_score_like_the_floor_and_noise_does_not(evaluator: Evaluator) -> None:
    assert evaluator.info.id == "classifier"
    assert evaluator.info.accuracy == 1
    others = shapes(120, seed=5).pixels_NHWC
    good, floor = evaluator.measure(others), evaluator.floor
    bad = evaluator.measure(np.random.default_rng(0).integers(0, 256, others.shape, np.uint8))
    assert good.frechet is not None
    assert floor.frechet is not None
    assert bad.frechet is not None
    assert good.frechet < 10 * floor.frechet
    assert bad.frechet > 10 * good.frechet
    assert bad.coverage == 0
    assert good.coverage is not None
    assert good.coverage > 0.7
    assert good.class_shares == pytest.approx((0.5, 0.5), abs=0.05)


def test_the_reference_itself_is_at_distance_zero_in_any_order(evaluator: Evaluator) -> None:
    images = DATA.pixels_NHWC[evaluator.reference[::-1]]
    assert evaluator.distance(images) == pytest.approx(0, abs=1e-4)
    assert evaluator.measure(images).recall == 1


def shard_set(folder: Path, pixels_NHWC: U8, size: int) -> ShardSet:
    """A finished job of .npy shards with these images."""
    n, h, w, c = pixels_NHWC.shape
    files = [f"shard-{shard:06d}.npy" for shard in range(-(-n // size))]
    for shard, file in enumerate(files):
        np.save(folder / file, pixels_NHWC[shard * size : (shard + 1) * size])
    manifest = {
        "n": n, "format": "npy", "image": {"channels": c, "height": h, "width": w}, "model_sha256": "0" * 64,
        "provider": "cpu", "shards": [{"file": file} for file in files],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return ShardSet(folder)


def test_shards_score_like_their_images(evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.evaluation.evaluator.SHARDS_AT_ONCE", 50)
    monkeypatch.setattr("gan_trainer.evaluation.statistics.MOST_COMPARED", 100)
    images = shapes(130, seed=5).pixels_NHWC
    shards = shard_set(tmp_path, images, 37)
    found, expected = evaluator.evaluate(shards), evaluator.measure(images)
    assert (found.n, found.model["kind"]) == (130, "shards")
    for name in ("frechet", "kernel", "precision", "recall", "density", "coverage"):
        assert getattr(found.metrics, name) == pytest.approx(getattr(expected, name), rel=1e-4), name
    assert found.metrics.class_shares == expected.class_shares
    assert evaluator.distance(shards) == pytest.approx(evaluator.distance(images), rel=1e-4)
    for patches in (1000, 100):  # of all images, of some
        monkeypatch.setattr("gan_trainer.evaluation.sliced.PATCHES", patches)
        by_patches = Evaluator(DATA, "swd", device=CPU)
        assert by_patches.measure(shards) == by_patches.measure(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "shard-000001.npy").unlink(), "shard-000001.npy is damaged or missing"),
        (lambda folder: (folder / "shard-000000.npy").write_bytes(b"x"), "shard-000000.npy is damaged or missing"),
        (lambda folder: np.save(folder / "shard-000001.npy", np.zeros((40, 9, 9, 1), np.uint8)), "shard-000001.npy"),
        (lambda folder: np.save(folder / "shard-000001.npy", np.zeros((39, 28, 28, 1), np.uint8)), "manifest.json is"),
    ],
)
def test_damaged_shards(evaluator: Evaluator, tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    shards = shard_set(tmp_path, shapes(80, seed=5).pixels_NHWC, 40)
    change(tmp_path)
    with pytest.raises(GanportError, match=message) as raised:
        evaluator.evaluate(shards)
    assert "gan-gen --verify" in raised.value.hint


@pytest.mark.parametrize("manifest", ["[]", "{", '{"n": 3}', '{"n": "x", "format": "tar", "shards": []}'])
def test_damaged_manifests(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(GanportError, match=r"manifest\.json is damaged"):
        ShardSet(tmp_path)


def test_shards_of_another_size(evaluator: Evaluator, tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="the images are 32x32 with 1 channels, the data 28x28"):
        evaluator.evaluate(shard_set(tmp_path, np.zeros((40, 32, 32, 1), np.uint8), 40))


def test_a_lost_class_is_seen(evaluator: Evaluator) -> None:
    found = evaluator.measure(blobs(120, 28, 1, seed=9))
    assert found.recall is not None
    assert found.recall < 0.6
    assert found.class_shares[1] < 0.05


def test_a_conditional_model_is_asked_for_the_datas_classes_by_name(evaluator: Evaluator) -> None:
    painter = Painter(names=("bar", "disc"))  # its own numbering is the other way round
    found = evaluator.evaluate(painter, seed=3)
    assert found.metrics.label_accuracy == pytest.approx(1, abs=0.05)
    assert found.floor.label_accuracy == pytest.approx(1, abs=0.05)
    assert found.seed == 3
    assert np.mean(painter.asked) == pytest.approx(0.5, abs=0.1)


def test_swapped_classes_cost_label_accuracy_only(evaluator: Evaluator) -> None:
    painter = Painter(names=())
    painter.contract = with_interface(painter.contract, class_names=("bar", "disc"))
    labels = evaluator.labels_for(with_interface(painter.contract, class_names=()))
    assert labels is not None
    images = evaluator.draw(painter, 0, labels)
    found = evaluator.measure(images, labels)
    assert found.label_accuracy == pytest.approx(0, abs=0.05)
    assert found.class_accuracies == pytest.approx((0, 0), abs=0.1)
    assert found.coverage is not None
    assert found.coverage > 0.7
    with logged() as notes:
        evaluator.labels_for(with_interface(painter.contract, class_names=("a", "b")))
    assert notes == ["the model's classes have other names than the data's: taken in their order"]


def test_json_reads_back(evaluator: Evaluator) -> None:
    found = evaluator.evaluate(Painter())
    assert Evaluation.from_json(json.loads(found.dumps())) == found
    damaged: tuple[Any, ...] = ({}, [], None, {"ganport_eval": 2}, {"ganport_eval": 1})
    for wrong in damaged:
        with pytest.raises(GanportError):
            Evaluation.from_json(wrong)


def test_modules_checkpoints_and_files_are_sources(evaluator: Evaluator, tmp_path: Path) -> None:
    spec = network_spec("dcgan", 28, 1, width=2, z_dim=4)
    module = build(spec).train()
    found = evaluator.evaluate(module)
    assert module.training, "its mode is put back"
    again = evaluator.evaluate(GeneratorCheckpoint(spec, module.state_dict(), training={"steps": 7}))
    assert again.metrics == found.metrics
    assert again.model["steps"] == 7
    assert evaluator.distance(module) == found.metrics.frechet
    save_generator(GeneratorCheckpoint(spec, module.state_dict(), "raw", {"steps": 7}), tmp_path / "g.pt")
    opened = evaluator.evaluate(str(tmp_path / "g.pt"))
    assert opened.metrics == found.metrics
    assert (opened.model["file"], opened.model["steps"]) == ("g.pt", 7)
    assert evaluator.distance(tmp_path / "g.pt") == found.metrics.frechet
    with pytest.raises(GanportError, match="no file at"):
        evaluator.evaluate(tmp_path / "none.pt")


def test_nan_is_an_error() -> None:
    module = build(network_spec("dcgan", 28, 1, width=2, z_dim=4))
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    with pytest.raises(JobError, match="NaN"):
        ModuleGenerator(module).run(np.zeros((1, 4), np.float32))


def test_without_labels_it_is_swd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.evaluation.sliced.PATCHES", 1024)
    data = shapes(120, labelled=False)
    found = evaluate(shapes(60, seed=3).pixels_NHWC, data, device="cpu")
    assert found.features.id == "swd"
    assert found.metrics.frechet is None
    assert found.metrics.distance == found.metrics.sliced_mean
    worse = evaluate(np.zeros((60, 28, 28, 1), np.uint8), data, device="cpu")
    assert worse.metrics.distance > 3 * found.metrics.distance


@pytest.mark.parametrize(("n", "n_floor"), [(None, 60), (40, 40), (100, 60), (300, 60)])
def test_how_many_images(n: int | None, n_floor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_trainer.evaluation.sliced.PATCHES", 512)
    measure = Evaluator(shapes(120, labelled=False), n=n, device="cpu")
    found = measure.evaluate(np.zeros((50, 28, 28, 1), np.uint8))
    assert (found.n, found.n_real, found.n_floor) == (50, min(n or 60, 120), n_floor)


def test_the_floor_shares_no_image_with_its_reference() -> None:
    measure = Evaluator(shapes(121, labelled=False), device="cpu")
    first, second = measure._halves
    assert not set(first) & set(second)
    assert np.array_equal(first, measure.reference)


def test_labels_are_those_held_out_and_go_round(evaluator: Evaluator, cache: Path) -> None:
    labels = evaluator.labels_for(Painter().contract)
    assert labels is not None
    assert DATA.labels is not None
    assert np.array_equal(np.sort(labels), np.sort(DATA.labels[evaluator._halves[1]]))
    many = Evaluator(DATA, n=500, device=CPU, cache_dir=cache)
    labels = many.labels_for(Painter().contract)
    assert labels is not None
    assert len(labels) == 500


def _with(data: ImageDataset = DATA, **options: Any) -> None:
    Evaluator(data, **{"device": "cpu", **options})


WRONG = [
    (lambda _: _with(shapes(40)), "at least 64 real images, the data hold 40"),
    (lambda _: _with(n=31), "at least 32 images, got 31"),
    (lambda _: _with(batch_size=0), "batch size must be at least 1"),
    (lambda _: _with(features="fid"), "no features are called 'fid'"),
    (lambda _: _with(device="tpu"), "unknown device 'tpu'"),
    (lambda _: _with(shapes(80, labelled=False), features="classifier"), "shapes has no labels"),
    (lambda e: e.evaluate(np.zeros((50, 32, 32, 1), np.uint8)), "the images are 32x32 with 1 channels, the data 28x28"),
    (lambda e: e.evaluate(np.zeros((50, 28, 28, 3), np.uint8)), "with 3 channels"),
    (lambda e: e.evaluate(np.zeros((50, 28, 28, 1), np.float32)), "must be uint8"),
    (lambda e: e.evaluate(np.zeros((28, 28, 1), np.uint8)), "must be uint8"),
    (lambda e: e.evaluate(np.zeros((31, 28, 28, 1), np.uint8)), "at least 32 images, got 31"),
    (lambda e: e.distance(np.zeros((50, 32, 32, 1), np.uint8)), "the images are 32x32"),
    (lambda e: e.evaluate(Painter(size=32)), "the images are 32x32"),
    (lambda e: e.evaluate(Painter(names=(), n_classes=3)), "the model has 3 classes, shapes has 2"),
    (lambda _: Evaluator(shapes(80, labelled=False), device="cpu").evaluate(Painter()), "shapes has no labels"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_wrong_input(call: Any, message: str, evaluator: Evaluator) -> None:
    with pytest.raises(GanportError) as refused:
        call(evaluator)
    assert message in str(refused.value)
    assert refused.value.hint or "batch size" in message


def test_a_strangers_onnx_that_does_not_say_enough_is_to_be_adopted(tmp_path: Path) -> None:
    (tmp_path / "s.onnx").write_bytes(strangers.stranger(activation="Identity").SerializeToString())
    with pytest.raises(GanportError, match="does not say which values are black and white") as caught:
        open_model(tmp_path / "s.onnx", device=CPU)
    assert caught.value.hint.startswith(f"gan-export adopt {tmp_path / 's.onnx'} makes a copy")


def test_a_provider_for_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "g.pt").write_bytes(b"")
    with pytest.raises(GanportError, match="`provider` is for exported files"):
        open_model(tmp_path / "g.pt", device=CPU, provider="cuda")
