"""The golden set and the limits it is held to."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import math
import re
import struct
import zlib

import numpy as np
import onnx
import pytest
from PIL import Image

from gan_core.errors import ContractError, GanportError
from gan_core.golden import decode, golden_entry, reduce, scale_for
from gan_core.images import encode_png
from gan_core.latents import latents
from gan_core.limits import LIMITS, Limits, limits_for, max_lsb, psnr_db
from gan_serve.runtime.golden import check_golden
from gan_serve.runtime.onnx_generator import OnnxGenerator
from serve import onnx_files


def picture(h: int, w: int, c: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, c), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3), (1, 64, 1)])
def test_small_images_are_kept_exactly(shape: tuple[int, int, int]) -> None:
    pixels = picture(*shape)
    entry = golden_entry(9, 2, pixels)
    assert (entry.seed, entry.label, entry.scale) == (9, 2, 1)
    np.testing.assert_array_equal(decode(entry, shape), pixels)


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
    small = decode(entry, kept)
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


def tampered(change: float, precision: str = "fp32", quantised: bool = False) -> OnnxGenerator:
    """Weights that are off by a factor, under the golden set of the right ones."""
    about = dataclasses.replace(onnx_files.with_golden(onnx_files.contract()), precision=precision)
    weights = {name: tensor * np.float32(change) for name, tensor in onnx_files.weights(about).items()}
    proto = onnx_files.model(about, weights)
    if quantised:
        proto.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["half_range", "most"], ["rounded"]))
    return OnnxGenerator(proto.SerializeToString(), "cpu", 1)


def test_changed_weights_show() -> None:
    results = check_golden(tampered(1.05))
    assert not any(result.ok for result in results)
    assert max(result.max_lsb for result in results) > 1
    assert all(result.ok for result in check_golden(tampered(1.0)))


def test_a_lower_precision_is_held_to_its_own_limits() -> None:
    generator = tampered(1.05, "int8", quantised=True)
    assert generator.held_to == "int8"
    assert all(result.ok for result in check_golden(generator))
    assert all(30 < result.psnr_db < 50 for result in check_golden(generator))


@pytest.mark.parametrize(
    ("precision", "quantised"), [("fp32", False), ("int8", False), ("fp16", False), ("fp32", True)]
)
def test_a_wider_limit_is_the_graphs_to_give(precision: str, quantised: bool) -> None:
    """Metadata that says int8 over a float32 graph, or the other way round: the narrower limit holds."""
    generator = tampered(1.05, precision, quantised)
    assert generator.held_to == "fp32"
    assert not any(result.ok for result in check_golden(generator))


def test_a_golden_image_of_a_class_that_is_not_there(conditional: OnnxGenerator) -> None:
    entry = dataclasses.replace(conditional.contract.golden[0], label=3)
    with pytest.raises(ContractError, match="the golden image of seed 0 is of class 3, classes are 0 … 2"):
        check_golden(conditional, [entry])


def test_a_golden_image_that_is_a_bomb(generator: OnnxGenerator) -> None:
    """A PNG of 3 kB that unpacks to 3.6 GB: its header alone is read."""
    png = bytearray(encode_png(picture(6, 5, 3)))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    entry = dataclasses.replace(generator.contract.golden[0], png=base64.b64encode(png).decode())
    with pytest.raises(ContractError, match="the golden image of seed 0 is"):
        check_golden(generator, [entry])


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "I;16", "L"])
def test_a_golden_image_of_another_kind(generator: OnnxGenerator, mode: str) -> None:
    data = io.BytesIO()
    Image.new(mode, (5, 6)).save(data, "PNG")
    entry = dataclasses.replace(generator.contract.golden[0], png=base64.b64encode(data.getvalue()).decode())
    with pytest.raises(ContractError, match=r"mode .*, expected \(6, 5, 3\)"):
        check_golden(generator, [entry])


def test_every_bit_of_a_golden_image(generator: OnnxGenerator) -> None:
    entry = generator.contract.golden[0]
    png = base64.b64decode(entry.png)
    for bit in range(0, 8 * len(png), 3):
        broken = bytearray(png)
        broken[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ContractError):
            decode(dataclasses.replace(entry, png=base64.b64encode(broken).decode()), (6, 5, 3))


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
        ({"scale": 0}, "scale must be a whole number from 1 to 16,384, got 0"),
        ({"scale": 2}, "the golden image of seed 0 is (6, 5) in Pillow's mode RGB, expected (3, 2, 3)"),
    ],
)
def test_damaged_entries(generator: OnnxGenerator, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
        check_golden(generator, [dataclasses.replace(generator.contract.golden[0], **changes)])  # type: ignore[arg-type]


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
