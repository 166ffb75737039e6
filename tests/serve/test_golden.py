"""The golden set and the limits it is held to."""

from __future__ import annotations

import base64
import dataclasses
import math
import re

import numpy as np
import pytest

from gan_serve.errors import ContractError, GanportError
from gan_serve.golden import check_golden, decode, golden_entry, reduce, scale_for
from gan_serve.latents import latents
from gan_serve.limits import LIMITS, Limits, limits_for, max_lsb, psnr_db
from gan_serve.onnx_generator import OnnxGenerator
from serve import onnx_files


def picture(h: int, w: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3), (1, 64, 1)])
def test_small_images_are_kept_exactly(shape: tuple[int, int, int]) -> None:
    pixels = picture(*shape)
    entry = golden_entry(9, 2, pixels)
    assert (entry.seed, entry.label, entry.scale) == (9, 2, 1)
    np.testing.assert_array_equal(decode(entry), pixels)


@pytest.mark.parametrize(
    ("shape", "scale", "kept"),
    [
        ((65, 64, 3), 2, (32, 32, 3)),
        ((96, 96, 3), 2, (48, 48, 3)),
        ((128, 128, 1), 2, (64, 64, 1)),
        ((100, 300, 3), 5, (20, 60, 3)),
    ],
)
def test_large_images_are_kept_as_means(shape: tuple[int, int, int], scale: int, kept: tuple[int, int, int]) -> None:
    pixels = picture(*shape)
    entry = golden_entry(0, None, pixels)
    assert scale_for(shape[0], shape[1]) == entry.scale == scale
    small = decode(entry)
    assert small.shape == kept
    first = pixels[:scale, :scale].reshape(-1, shape[2]).mean(axis=0)
    np.testing.assert_array_equal(small[0, 0], np.floor(first + 0.5))


def test_a_mean_moves_no_further_than_its_pixels() -> None:
    pixels = picture(128, 128, 3)
    moved = np.where(pixels < 255, pixels + 1, pixels).astype(np.uint8)
    assert max_lsb(reduce(pixels, 2), reduce(moved, 2)) == 1


def test_the_files_own_golden_set(generator: OnnxGenerator, conditional: OnnxGenerator) -> None:
    results = check_golden(generator)
    assert [result.seed for result in results] == [0, 1, 7]
    assert all(result.ok and result.max_lsb == 0 and math.isinf(result.psnr_db) for result in results)
    assert [(result.seed, result.label, result.ok) for result in check_golden(conditional)] == [
        (0, 0, True),
        (1, 1, True),
        (7, 1, True),
    ]


def tampered(change: float) -> OnnxGenerator:
    """Weights that are off by a factor, under the golden set of the right ones."""
    about = onnx_files.with_golden(onnx_files.contract())
    weights = {name: tensor * np.float32(change) for name, tensor in onnx_files.weights(about).items()}
    return OnnxGenerator(onnx_files.model(about, weights).SerializeToString(), "cpu", 1)


def test_changed_weights_show() -> None:
    results = check_golden(tampered(1.05))
    assert not any(result.ok for result in results)
    assert max(result.max_lsb for result in results) > 1
    assert all(result.ok for result in check_golden(tampered(1.0)))


def test_a_lower_precision_is_held_to_its_own_limits() -> None:
    generator = tampered(1.05)
    assert not all(result.ok for result in check_golden(generator))
    generator.contract = dataclasses.replace(generator.contract, precision="int8")
    assert all(result.ok for result in check_golden(generator))
    assert all(30 < result.psnr_db < 50 for result in check_golden(generator))


def test_swapped_classes_show() -> None:
    about = onnx_files.with_golden(onnx_files.contract(n_classes=3))
    weights = onnx_files.weights(about)
    weights["E"] = weights["E"][::-1].copy()
    results = check_golden(OnnxGenerator(onnx_files.model(about, weights).SerializeToString(), "cpu", 1))
    assert [result.ok for result in results] == [False, True, True]  # class 1 keeps its row


def test_nan_fails_even_where_pixels_agree(generator: OnnxGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    image_NCHW, pixels_NHWC = generator.run(latents([0], 4))
    image_NCHW[0, 0, 0, 0] = np.nan
    monkeypatch.setattr(generator, "run", lambda *_: (image_NCHW, pixels_NHWC))
    (result,) = check_golden(generator, generator.contract.golden[:1])
    assert result.max_lsb == 0
    assert not result.ok


def test_a_set_from_elsewhere(generator: OnnxGenerator) -> None:
    wrong = golden_entry(3, None, generator.generate([4])[0])
    (result,) = check_golden(generator, [wrong])
    assert not result.ok


def test_nothing_to_compare_with() -> None:
    about = onnx_files.contract()
    generator = OnnxGenerator(onnx_files.model(about, onnx_files.weights(about)).SerializeToString(), "cpu", 1)
    with pytest.raises(GanportError, match="the file carries no golden set"):
        check_golden(generator)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"png": "!!"}, "the golden image of seed 0 is damaged"),
        ({"png": ""}, "the golden image of seed 0 is damaged"),
        ({"png": base64.b64encode(b"GIF89a").decode()}, "the golden image of seed 0 is damaged"),
        ({"scale": 0}, "the golden image of seed 0 has scale 0"),
        ({"scale": 2}, "the golden image of seed 0 is (6, 5, 3), the generator draws (3, 2, 3)"),
    ],
)
def test_damaged_entries(generator: OnnxGenerator, changes: dict[str, object], message: str) -> None:
    entry = dataclasses.replace(generator.contract.golden[0], **changes)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=re.escape(message)):
        check_golden(generator, [entry])


def test_limits_are_the_designs() -> None:
    assert {
        "fp32": Limits(max_abs=1e-4, max_lsb=1),
        "fp16": Limits(min_psnr_db=40.0),
        "int8": Limits(min_psnr_db=30.0),
    } == LIMITS
    assert str(LIMITS["fp32"]) == "at most 1 LSB"
    assert str(LIMITS["int8"]) == "at least 30 dB"
    with pytest.raises(ContractError, match="precision must be one of fp32, fp16, int8, got 'bf16'"):
        limits_for("bf16")


@pytest.mark.parametrize(
    ("precision", "lsb", "psnr", "allowed"),
    [
        ("fp32", 0, math.inf, True),
        ("fp32", 1, 48.0, True),
        ("fp32", 2, 90.0, False),
        ("fp16", 9, 40.0, True),
        ("fp16", 1, 39.9, False),
        ("int8", 90, 30.0, True),
        ("int8", 0, math.nan, False),
    ],
)
def test_limits_allow(precision: str, lsb: int, psnr: float, allowed: bool) -> None:
    assert limits_for(precision).allows(max_lsb=lsb, psnr_db=psnr) is allowed


def test_differences() -> None:
    a, b = np.array([[0, 255]], np.uint8), np.array([[255, 255]], np.uint8)
    assert max_lsb(a, b) == 255
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(2))
    assert psnr_db(a, a) == math.inf
    assert max_lsb(a[:0], b[:0]) == 0
