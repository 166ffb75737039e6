"""gan-gen without --model draws with the generator that comes with ganport."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import gan_serve
from cli.conftest import Gen
from cli.drawing import read, seen
from gan_serve.runtime import runtimes
from gan_serve.runtime.onnx_generator import OnnxGenerator

NOTE = "no --model: fashion-mnist, which comes with ganport\n"
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> OnnxGenerator:
    return OnnxGenerator(runtimes.DEFAULT_MODEL, "cpu", 1)


def test_what_it_says_of_itself(shipped: OnnxGenerator) -> None:
    contract = shipped.contract
    assert runtimes.DEFAULT_MODEL.stat().st_size <= runtimes.MAX_BYTES == 2_000_000
    assert (contract.interface.image, contract.interface.n_classes, contract.interface.class_names) == (
        (1, 32, 32),
        10,
        GARMENTS,
    )
    assert contract.golden
    assert contract.parity
    assert contract.training["data"]["name"] == "fashion-mnist"
    assert not contract.assumptions


def test_25_garments(gen: Gen, shipped: OnnxGenerator, tmp_path: Path) -> None:
    assert gen() == (
        0,
        "fashion-mnist.png\n",
        f"{NOTE}25 images of 32x32, 4 times as large, seeds 0-24, on cpu (auto)\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["fashion-mnist.png"]
    np.testing.assert_array_equal(read("fashion-mnist.png"), seen(shipped.generate(range(25))))


@pytest.mark.parametrize(
    ("name", "label"), [("sneaker", 7), ("Ankle boot", 9), ("ankle-boot", 9), ("t-shirt", 0), ("shirt", 6), ("8", 8)]
)
def test_a_class_by_name(gen: Gen, shipped: OnnxGenerator, name: str, label: int) -> None:
    assert gen("--class", name, "--n", 4, "--out", "o.png")[0] == 0
    np.testing.assert_array_equal(read("o.png"), seen(shipped.generate(range(4), label)))


def test_a_class_that_it_lacks(gen: Gen, tmp_path: Path) -> None:
    code, out, err = gen("--class", "shoe")
    assert (code, out) == (2, "")
    assert err.startswith(f"{NOTE}error: class 'shoe' does not exist\nhint: classes are 0 T-shirt/top, 1 Trouser, ")
    assert list(tmp_path.iterdir()) == []


def test_ten_classes_in_ten_rows(gen: Gen, shipped: OnnxGenerator) -> None:
    assert gen("--by-class")[0] == 0
    labels = [label for label in range(10) for _ in range(10)]
    np.testing.assert_array_equal(read("fashion-mnist.png"), seen(shipped.generate([*range(10)] * 10, labels), 10))


def test_it_shows_what_was_asked_for(shipped: OnnxGenerator) -> None:
    """Plain facts about garments: trousers are tall, sneakers flat, bags wide; no class is one picture."""
    images = shipped.generate([*range(20)] * 10, np.repeat(np.arange(10), 20).tolist())[..., 0].reshape(10, 20, 32, 32)
    lit = images > 60
    rows, columns = lit.any(axis=3).sum(axis=2).mean(axis=1), lit.any(axis=2).sum(axis=2).mean(axis=1)
    trouser, sneaker, boot = 1, 7, 9
    assert rows[trouser] > 1.5 * columns[trouser]
    assert columns[sneaker] > 1.3 * rows[sneaker]
    assert rows[boot] > 1.3 * rows[sneaker]
    assert (images.astype(float).std(axis=1).mean(axis=(1, 2)) > 10).all()


def test_every_way_out(gen: Gen, shipped: OnnxGenerator, tmp_path: Path) -> None:
    assert gen("--n", 3, "--out", "many/")[1] == "many\n"
    assert len(list((tmp_path / "many").iterdir())) == 3
    assert gen("--walk", 2, "--frames", 4)[1] == "fashion-mnist.webp\n"
    np.save("z.npy", np.zeros((2, shipped.contract.interface.z_dim)))
    assert gen("--latents", "z.npy", "--out", "o.npy")[0] == 0
    record = json.loads(gen("--n", 1, "--json")[1])
    assert (record["model"], record["sha256"]) == (str(runtimes.DEFAULT_MODEL), shipped.sha256)


def test_selftest_and_info(gen: Gen, shipped: OnnxGenerator) -> None:
    code, out, err = gen("--selftest")
    assert (code, out.count(" ok\n")) == (0, len(shipped.contract.golden))
    assert err.startswith(f"{NOTE}all {len(shipped.contract.golden)} golden images as expected")
    code, out, err = gen("--info")
    assert (code, err) == (0, NOTE)
    assert "classes     0 T-shirt/top, 1 Trouser," in out
    assert json.loads(gen("--info", "--json")[1])["file"] == str(runtimes.DEFAULT_MODEL)


def test_a_mistake_is_all_that_is_said(gen: Gen) -> None:
    code, out, err = gen("--n", 0)
    assert (code, out) == (2, "")
    assert err.startswith("error: --n must be at least 1, got 0\n")


def test_an_installation_without_it(gen: Gen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "DEFAULT_MODEL", tmp_path / "none.onnx")
    message = "error: this installation lacks the model that comes with ganport\nhint: install ganport again"
    for arguments in ((), ("--info",), ("--selftest",), ("--out", "o/")):
        code, out, err = gen(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith(message)


def test_load_without_a_path(shipped: OnnxGenerator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator = gan_serve.load(provider="cpu", threads=1)
    assert generator.sha256 == shipped.sha256
    np.testing.assert_array_equal(generator.generate([3], 7), shipped.generate([3], 7))
