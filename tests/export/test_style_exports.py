"""A file with styles, and what is drawn with it: psi, noise, given styles, walks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.style_networks import save_weights
from gan_core.arrays import U8
from gan_core.errors import GanportError
from gan_core.images import to_pixels
from gan_core.latents import default_labels, noise_maps
from gan_core.limits import psnr_db
from gan_export import identify
from gan_export.answers import Answers, OnnxOptions
from gan_export.exporting import export_onnx, export_torchscript
from gan_export.proof.parity import check_styles
from gan_export.proof.reference import Reference
from gan_export.publish.web import with_all_inputs
from gan_export.source import Source
from gan_serve.gen.request import Request
from gan_serve.gen.run import run_request
from gan_serve.runtime import runtimes
from gan_serve.runtime.generator import Generator
from gan_serve.runtime.styles import options_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = save_weights(tmp_path_factory.mktemp("styles") / "g.pth")
    return identify.source_of(identify.identify(path, Answers()))


@pytest.fixture(scope="module")
def exported(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "g.onnx"
    report = export_onnx(source, path)
    assert report.ok, report.verdict()
    return path


@pytest.fixture(scope="module")
def generator(exported: Path) -> Generator:
    return runtimes.load(exported, "cpu")


def test_the_proof_compares_other_values_of_the_optional_inputs(exported: Path, source: Source) -> None:
    from gan_export.proof.cases import cases

    kinds = [case.kind for case in cases(source.interface)]
    assert kinds[-4:] == ["psi", "styles", "noise", "seeded"]
    inputs = {value.name for value in onnx.load(exported).graph.input}
    assert inputs == {"z", "label", "psi", "w", "from_w", "noise", "noise_maps"}


def test_styles_and_psi(generator: Generator) -> None:
    plain, half = generator.generate(4), generator.generate(4, psi=0.5)
    w = generator.to_w(4)
    assert w.shape == (4, 6, 6)
    assert (generator.generate(w=w) == plain).all()
    assert (generator.generate(w=generator.to_w(4, psi=0.5)) == half).all()
    assert (half != plain).any()
    assert (generator.generate(w=w[:, 0]) == plain).all()  # one style for all layers
    middle = generator.generate(4, [1, 1, 1, 1], psi=0.0)
    assert (middle == middle[:1]).all()


def test_noise(generator: Generator) -> None:
    assert (generator.generate(3, noise=1.0) == generator.generate(3)).all()
    assert (generator.generate(3, noise=0.0) != generator.generate(3)).any()


def test_noise_of_each_seed(generator: Generator, source: Source) -> None:
    interface = source.interface
    assert interface.noise_maps is not None
    seeded = generator.generate(5, noise="seed")
    assert (seeded != generator.generate(5)).any(axis=(1, 2, 3)).all()
    assert (seeded[3:] == generator.generate([3, 4], noise="seed", batch_size=1)).all()
    given = [torch.from_numpy(interface.latents([4])), torch.from_numpy(default_labels(np.array([4]), 2))]
    maps = torch.from_numpy(noise_maps(np.array([4]), interface.noise_maps.size, interface.noise_maps.law))
    with torch.no_grad():
        image = source.module(*given, noise_maps=maps, psi=torch.tensor([0.5])).numpy()
    expected = to_pixels(image, interface.value_range)[0].astype(int)
    assert np.abs(generator.generate([4], psi=0.5, noise="seed")[0] - expected).max() <= 1
    view = generator.with_options(noise="seed")
    assert (view.generate(5) == seeded).all()
    assert (pickle.loads(pickle.dumps(view)).generate(5) == seeded).all()
    assert (view.to_w(3) == generator.to_w(3)).all()


@pytest.mark.parametrize(
    "options", [OnnxOptions(precision="fp16"), OnnxOptions(precision="int8"), OnnxOptions(store="fp16")], ids=str
)
def test_w_is_the_same_at_every_precision(
    generator: Generator, source: Source, options: OnnxOptions, tmp_path: Path
) -> None:
    report = export_onnx(source, tmp_path / "g.onnx", options)
    assert report.ok, report.verdict()
    assert report.check("styles").limit == "<= 0.0001"
    lower, w = runtimes.load(tmp_path / "g.onnx", "cpu"), generator.to_w(8)
    np.testing.assert_allclose(lower.to_w(8), w, rtol=0, atol=1e-6)
    least_db = 30.0 if options.precision == "int8" else 40.0
    for settings in ({"seeds": 8, "psi": 0.5}, {"w": w}, {"seeds": 8, "noise": "seed"}):
        made, expected = lower.generate(**settings), generator.generate(**settings)
        assert min(map(psnr_db, made, expected)) > least_db


def test_other_styles_fail_the_proof(generator: Generator, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Reference(source)
    assert [check.ok for check in check_styles(generator, reference)] == [True]
    exact = generator.styles_of
    for factor in (1.001, np.nan):
        monkeypatch.setattr(generator, "styles_of", lambda z, label, by=factor: by * exact(z, label))
        assert [check.ok for check in check_styles(generator, reference)] == [False]


def test_the_copy_for_a_page_takes_noise_of_seeds(generator: Generator, exported: Path, source: Source) -> None:
    """Its inputs have no defaults, and `own_noise` says which images have other noise than the constant one."""
    import onnxruntime

    interface, maps = source.interface, source.interface.noise_maps
    assert maps is not None
    session = onnxruntime.InferenceSession(with_all_inputs(exported, interface))
    n, shape = 3, interface.options["w"].shape
    feeds = {
        "z": interface.latents(range(n)),
        "label": default_labels(np.arange(n), 2),
        "noise": np.ones(n, np.float32),
    }
    feeds |= {"psi": np.full(n, 0.5, np.float32), "w": np.zeros((n, *shape), np.float32), "from_w": np.zeros(n, bool)}
    feeds |= {
        "noise_maps": noise_maps(np.arange(n), maps.size, maps.law),
        "own_noise": np.array([[True], [False], [True]]),
    }
    (pixels,) = session.run(["pixels"], feeds)
    seeded, constant = generator.generate(n, psi=0.5, noise="seed"), generator.generate(n, psi=0.5)
    expected = np.stack([seeded[0], constant[1], seeded[2]]).astype(int)
    assert np.abs(pixels - expected).max() <= 1
    assert np.abs(seeded.astype(int) - constant).max() > 1


def test_a_view_is_pickled_with_its_options(generator: Generator) -> None:
    view = generator.with_options(psi=0.5, noise=0.0)
    expected = generator.generate(2, psi=0.5, noise=0.0)
    assert (view.generate(2) == expected).all()
    assert (pickle.loads(pickle.dumps(view)).generate(2) == expected).all()
    assert generator.with_options() is generator


def test_a_walk_goes_straight_from_w_to_w(generator: Generator) -> None:
    w = generator.to_w(2, [0, 1])
    frames = generator.walk(2, 4, [0, 1])
    between = np.stack([w[0], (w[0] + w[1]) / 2, w[1], (w[0] + w[1]) / 2])
    difference = frames.astype(int) - generator.generate(w=between)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 2, "truncation": 0.5}, "normalises; its truncation is psi"),
        ({"seeds": 2, "psi": float("nan")}, "`psi` must be -10 … 10"),
        ({"seeds": 2, "noise": 1e9}, "`noise` must be -10 … 10"),
        ({"seeds": 2, "noise": "random"}, "`noise` must be a number or 'seed'"),
        ({"w": np.zeros((2, 6)), "noise": "seed"}, "given styles have no seeds"),
        ({}, "`seeds` must be a number of images"),
        ({"seeds": 2, "w": np.zeros((2, 6))}, "expected seeds, or w"),
        ({"w": np.zeros((2, 5))}, r"expected numbers \(n, 6\) or \(n, 6, 6\)"),
        ({"w": np.zeros((0, 6))}, "expected numbers"),
        ({"w": np.zeros((2, 3, 6))}, "expected numbers"),
        ({"w": np.full((2, 6), np.nan)}, "NaN or infinity"),
        ({"w": np.array([["a"] * 6])}, "expected numbers"),
    ],
)
def test_what_makes_no_sense_is_refused(generator: Generator, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GanportError, match=message) as caught:
        generator.generate(**settings)
    assert caught.value.hint


@pytest.mark.parametrize("settings", [{"seeds": 2, "psi": 0.7}, {"seeds": 2, "noise": 0.0}, {"w": np.zeros((2, 6))}])
def test_a_generator_without_styles_has_no_use_for_them(settings: dict[str, Any]) -> None:
    plain = runtimes.load(runtimes.default_model(), "cpu")
    with pytest.raises(GanportError) as caught:
        plain.generate(**settings)
    assert caught.value.hint
    with pytest.raises(GanportError, match="no styles"):
        plain.to_w(2)


def test_the_noise_of_an_older_file_is_constant(generator: Generator) -> None:
    older = replace(generator.contract.interface, noise_maps=None)
    assert options_of(older, noise=0.0).keys() == {"noise"}
    with pytest.raises(GanportError, match="is constant, the same for all seeds") as caught:
        options_of(older, noise="seed")
    assert "export its checkpoint again" in caught.value.hint
    with pytest.raises(GanportError, match="a walk goes between seeds"):
        generator.with_options(noise="seed").walk(2)


def drawn(exported: Path, out: Path, **options: Any) -> U8:
    run_request(Request(model=exported, out=str(out), **options), "cpu", 1)
    array: U8 = np.load(out)
    return array


def test_gan_gen_truncates_mixes_and_takes_styles(
    generator: Generator, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, w = tmp_path / "out.npy", generator.to_w(4, 1)
    seeded = drawn(exported, out, seeds="2-4", by_class=True, noise="seed")
    assert (seeded[:3] == generator.generate([2, 3, 4], 0, noise="seed")).all()
    assert (seeded[3:] == generator.generate([2, 3, 4], 1, noise="seed")).all()
    half = drawn(exported, out, n=4, psi=0.5, noise="none")
    assert (half == generator.generate(4, psi=0.5, noise=0)).all()
    mixed = np.concatenate((w[[0, 0, 1, 1], :2], w[[2, 3, 2, 3], 2:]), axis=1)
    assert (drawn(exported, out, mix="0-1:2-3@2", classes=("1",)) == generator.generate(w=mixed)).all()
    np.save(tmp_path / "w.npy", mixed)
    assert (drawn(exported, out, latents=tmp_path / "w.npy") == generator.generate(w=mixed)).all()
    np.save(tmp_path / "z.npy", generator.contract.interface.latents(range(2)))
    plain = drawn(exported, out, latents=tmp_path / "z.npy", classes=("1",))
    assert (plain == generator.generate(2, 1)).all()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": 0.5}, "its truncation is psi"),
        ({"mix": "0:1@6"}, "the layer of a mix must be 1 … 5, got 6"),
        ({"mix": "0:1@0"}, "the layer of a mix must be 1 … 5, got 0"),
        ({"mix": "0:1"}, "must be SEEDS:SEEDS@LAYER"),
        ({"mix": "0@1"}, "must be SEEDS:SEEDS@LAYER"),
        ({"mix": "0-999:0-999@1"}, "mixes are too many"),
        ({"mix": "0:1@2", "n": 3}, "exclude each other"),
        ({"mix": "0:1@2", "by_class": True}, "exclude each other"),
        ({"mix": "0:1@2", "classes": ("0,1",)}, "a mix is of one class"),
        ({"noise": "loud"}, "--noise must be const, none or seed"),
        ({"noise": "seed", "mix": "0:1@2"}, "given latents, mixes and walks have no seed"),
        ({"noise": "seed", "walk": 2}, "given latents, mixes and walks have no seed"),
    ],
)
def test_gan_gen_refuses(exported: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(GanportError, match=message) as caught:
        drawn(exported, tmp_path / "out.npy", **options)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_given_styles_are_not_truncated(exported: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.zeros((1, 6, 6)))
    with pytest.raises(GanportError, match="`psi` has no meaning"):
        drawn(exported, tmp_path / "out.npy", latents=tmp_path / "w.npy", psi=0.5)


def test_torchscript_has_no_optional_inputs(source: Source, tmp_path: Path) -> None:
    with pytest.raises(GanportError, match="has no optional inputs"):
        export_torchscript(source, tmp_path / "g.ts")
    assert not list(tmp_path.iterdir())
