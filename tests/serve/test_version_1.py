"""Files of the first contract version still draw what they drew.

`version_1/` holds one small generator, 28x28 grey in three classes, as the exporter wrote it then in every precision
and both formats, its checkpoint, and the pixels of seeds 0 to 5 of each file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gan_serve
from gan_core.interface import Interface
from gan_core.limits import LIMITS, max_lsb, psnr_db
from gan_serve.runtime.golden import check_golden

FOLDER = Path(__file__).with_name("version_1")
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in (".onnx", ".ts"))
INTERFACE = Interface(8, (1, 28, 28), n_classes=3, class_names=("a", "b", "ç"))


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_version_1_draws_the_same_pixels(name: str) -> None:
    if name.endswith(".ts"):
        pytest.importorskip("torch")
    generator = gan_serve.load(FOLDER / name, "cpu", 1)
    assert generator.contract.interface == INTERFACE
    limits = LIMITS[generator.held_to]
    expected = np.load(FOLDER / "pixels.npz")[name]
    drawn = generator.generate(range(6))
    assert all(
        limits.allows(max_lsb=max_lsb(a, b), psnr_db=psnr_db(a, b)) for a, b in zip(drawn, expected, strict=True)
    )
    assert all(result.ok for result in check_golden(generator))
    assert generator.contract.graph_sha256 == generator.graph_sha256()


def test_every_precision_is_there() -> None:
    contracts = [gan_serve.load(FOLDER / name, "cpu", 1).contract for name in FILES if name.endswith(".onnx")]
    assert {(c.precision, c.store) for c in contracts} == {
        ("fp32", "fp32"),
        ("fp32", "fp16"),
        ("fp16", "fp32"),
        ("int8", "fp32"),
    }


def test_a_checkpoint_of_then_makes_the_same_generator() -> None:
    torch = pytest.importorskip("torch")
    from gan_core.images import to_pixels
    from gan_trainer.networks.generator import load_generator

    checkpoint = load_generator(FOLDER / "g.pt")
    assert checkpoint.spec.interface == INTERFACE
    z = torch.from_numpy(INTERFACE.latents(range(6)))
    with torch.inference_mode():
        image = checkpoint.module()(z, torch.arange(6) % 3).numpy()
    assert max_lsb(to_pixels(image), np.load(FOLDER / "pixels.npz")["fp32.onnx"]) <= 1
