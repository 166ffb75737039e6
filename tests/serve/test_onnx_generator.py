"""What OnnxGenerator makes of files: ours, a stranger's, and graphs that are no generators."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gan_serve
from gan_core.errors import ContractError, GanportError, JobError
from gan_core.latents import latents
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.probe import Probed
from gan_serve.runtime.signature import Signature
from serve import onnx_files
from serve.onnx_files import load, ours

Change = Callable[[onnx.ModelProto], None]


def without_metadata(proto: onnx.ModelProto) -> onnx.ModelProto:
    del proto.metadata_props[:]
    return proto


# ── ours ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ours_from_a_path_and_from_bytes(model_path: Path) -> None:
    from_path, from_bytes = OnnxGenerator(model_path, "cpu"), OnnxGenerator(model_path.read_bytes(), "cpu")
    assert from_path.sha256 == from_bytes.sha256
    assert from_path.contract == from_bytes.contract
    assert from_path.ours
    assert from_path.contract.name == "tiny"
    assert from_path.threads >= 1
    np.testing.assert_array_equal(from_path.generate(range(3)), from_bytes.generate(range(3)))


def set_key(key: str, value: str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        next(pair for pair in proto.metadata_props if pair.key == key).value = value

    return change


def interface(
    z_dim: int = 4,
    law: str = "normal",
    image: tuple[int, ...] = (3, 6, 5),
    value_range: tuple[int, int] = (-1, 1),
    n_classes: int = 0,
) -> Change:
    """`onnx_files.ours` with another interface."""
    sides = dict(zip(("channels", "height", "width"), image, strict=True))
    label = {"classes": n_classes, "names": []} if n_classes else None
    said = {"z": {"dim": z_dim, "law": law}, "label": label, "image": sides | {"range": value_range}}
    return set_key("gan.interface", json.dumps(said))


def drop_key(key: str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        kept = [pair for pair in proto.metadata_props if pair.key != key]
        del proto.metadata_props[:]
        proto.metadata_props.extend(kept)

    return change


def rename_output(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.output[:] = ["picture" if name == "image" else name for name in node.output]
        node.input[:] = ["picture" if name == "image" else name for name in node.input]
    proto.graph.output[0].name = "picture"


def bake_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def free_latent(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "D"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_key("gan.contract", "3"), "m.onnx has contract version 3, this ganport reads 1 and 2"),
        (set_key("gan.contract", '"x"'), "m.onnx has contract version 'x', this ganport reads 1 and 2"),
        (set_key("gan.interface", "{"), "m.onnx: its metadata gan.interface is not JSON"),
        (set_key("gan.interface", "[3, 6, 5]"), "interface must be an object, got [3, 6, 5]"),
        (interface(image=(2, 6, 5)), "images must have 1, 3 or 4 channels, got 2"),
        (interface(law="cauchy"), "latent must be one of normal, uniform, got 'cauchy'"),
        (interface(value_range=(1, -1)), "value_range must be (black, white)"),
        (set_key("gan.golden", '[{"seed": 1}]'), "golden must be 0 to 1,000 of: an object of seed, label, scale, png"),
        (set_key("gan.golden", "7"), "golden must be 0 to 1,000 of: an object of seed, label, scale, png, got 7"),
        (drop_key("gan.interface"), "m.onnx: its gan.* metadata is incomplete, it has no gan.interface"),
        (interface(z_dim=10**9), "z_dim must be a whole number from 1 to 16,777,216, got 1000000000"),
        (interface(n_classes=10**9), "n_classes must be a whole number from 0 to 1,048,576, got 1000000000"),
        (free_latent, "its graph tensor(float) z (?, ?)"),
        (
            interface(z_dim=5),
            "m.onnx: its metadata says that it takes tensor(float) z (?, 5), its graph tensor(float) z (?, 4)",
        ),
        (interface(image=(3, 5, 6)), "its metadata says that it gives tensor(float) image (?, 3, 5, 6)"),
        (interface(n_classes=2), "its metadata says that it takes label (?), its graph does not"),
        (rename_output, "its metadata says that it gives image (?, 3, 6, 5), its graph does not"),
        (bake_batch, "m.onnx: the batch of z is fixed at 1"),
    ],
)
def test_metadata_that_does_not_fit(change: Change, message: str) -> None:
    proto = ours()
    change(proto)
    with pytest.raises(ContractError, match=re.escape(message)):
        load(proto)


def test_an_input_that_the_metadata_does_not_name() -> None:
    proto = ours()
    proto.graph.input.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 1]))
    with pytest.raises(ContractError, match="its graph takes noise, its metadata does not"):
        load(proto)


def test_a_run_that_fails_says_the_batch(generator: OnnxGenerator) -> None:
    with pytest.raises(JobError, match="cpu failed on a batch of 2"):
        generator.run(np.zeros((2, 3), np.float32))


# ── a stranger's ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [["batch", 7], ["batch", 7, 1, 1], [None, 7]])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_a_file_without_metadata(shape: list[object], element: int) -> None:
    generator = load(onnx_files.foreign(shape, ["batch", 3, 6, 4], element=element))
    assert not generator.ours
    assert generator.contract.interface.z_dim == 7
    assert generator.contract.interface.image == (3, 6, 4)
    assert generator.contract.assumptions == (
        "noise is a latent whose components are N(0, 1)",
        "black is -1 and white is 1",
    )
    pixels_NHWC = generator.generate(range(5))
    assert pixels_NHWC.shape == (5, 6, 4, 3)
    np.testing.assert_array_equal(generator.generate(range(5), batch_size=2), pixels_NHWC)
    image_NCHW, _ = generator.run(latents(range(5), 7))
    assert image_NCHW.dtype == np.float32
    weights = np.random.default_rng(1).standard_normal((7, 72)).astype(np.float32)
    expected = np.tanh(latents(range(5), 7) @ weights).reshape(5, 3, 6, 4)
    np.testing.assert_allclose(image_NCHW, expected, atol=0.01 if element == TensorProto.FLOAT16 else 1e-5)


def test_our_graph_without_its_metadata_draws_the_same(generator: OnnxGenerator) -> None:
    stripped = load(without_metadata(ours()))
    np.testing.assert_array_equal(stripped.generate(range(8)), generator.generate(range(8)))


@pytest.mark.parametrize("n", [1, 3, 4, 5, 9])
def test_a_fixed_batch_is_honoured(n: int) -> None:
    fixed = load(onnx_files.foreign([4, 7], [4, 1, 6, 6]))
    free = load(onnx_files.foreign(["batch", 7], ["batch", 1, 6, 6]))
    assert "the batch is fixed at 4: images are drawn 4 at a time" in fixed.contract.assumptions
    np.testing.assert_array_equal(fixed.generate(range(n)), free.generate(range(n)))


def test_sizes_that_only_the_first_image_shows() -> None:
    generator = load(onnx_files.foreign(["batch", 7], ["batch", 3, "h", "w"]))
    assert generator.contract.interface.image == (3, 6, 6)


@pytest.mark.parametrize(
    ("activation", "scale", "value_range", "note"),
    [
        ("Sigmoid", 1.0, (0.0, 1.0), "black is 0 and white is 1, as no value is below 0"),
        ("Tanh", 1.0, (-1.0, 1.0), "black is -1 and white is 1"),
        ("Identity", 3.0, (-1.0, 1.0), "what is beyond -1 … 1 is clamped"),
    ],
)
def test_the_value_range_is_that_of_the_first_values_and_said(
    activation: str, scale: float, value_range: tuple[float, float], note: str
) -> None:
    proto = onnx_files.foreign(["batch", 7], ["batch", 1, 6, 6], activation=activation, scale=scale)
    generator = load(proto)
    assert generator.contract.interface.value_range == value_range
    assert note in generator.contract.assumptions[-1]
    image_NCHW, pixels_NHWC = generator.run(latents(range(5), 7))
    black, white = value_range
    share = np.clip((image_NCHW - black) / (white - black), 0, 1)
    assert np.abs(pixels_NHWC.transpose(0, 3, 1, 2) - 255 * share).max() <= 0.51


@pytest.mark.parametrize(
    ("low", "high", "value_range"),
    [
        (0.0, 0.99, (0.0, 1.0)), (0.0, 0.01, (0.0, 1.0)), (-0.001, 1.02, (0.0, 1.0)), (0.0, 254.0, (0.0, 255.0)),
        (-0.02, 0.9, (-1.0, 1.0)), (0.0, 3.0, (-1.0, 1.0)), (-1.0, 0.0, (-1.0, 1.0)), (0.0, 0.0, (-1.0, 1.0)),
        (0.0, 1000.0, (-1.0, 1.0)), (-100.0, 100.0, (-1.0, 1.0)),
    ],
)  # fmt: skip
def test_ranges_by_the_extremes(low: float, high: float, value_range: tuple[float, float]) -> None:
    contract = Probed((4, 1, 6, 6), low, high).contract(Signature("z", (7,), "image", np.float32), [], "the model")
    assert contract.interface.value_range == value_range


def test_assumptions_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(onnx_files.foreign(["batch", 7], ["batch", 1, 6, 6]).SerializeToString())
    gan_serve.load(path, provider="cpu")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gan_serve.runtime.runtimes", logging.WARNING)
    assert record.getMessage().startswith("foreign.onnx has no gan.* metadata; assumed: noise is")


def two_inputs() -> onnx.ModelProto:
    about = onnx_files.contract(n_classes=3)
    return without_metadata(onnx_files.model(about, onnx_files.weights(about)))


def integer_input() -> onnx.ModelProto:
    proto = without_metadata(ours())
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    proto.graph.input[0].name = "tokens"
    proto.graph.node.insert(0, helper.make_node("Cast", ["tokens"], ["z"], to=TensorProto.FLOAT))
    return proto


def nan_weights() -> onnx.ModelProto:
    proto = onnx_files.foreign(["batch", 7], ["batch", 1, 6, 6])
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((7, 36), np.nan, np.float32), "W"))
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (
            onnx_files.foreign(["batch", 3, 8, 8], ["batch", 10]),
            "m.onnx looks like a classifier or discriminator, not a generator: noise (?, 3, 8, 8) to out (?, 10)",
        ),
        (
            onnx_files.foreign(["batch", 3, 8, 8], ["batch", 3, 8, 8]),
            "m.onnx looks like an image-to-image network, not a generator",
        ),
        (onnx_files.foreign(["batch", 7], ["batch", 10]), "m.onnx gives no images (batch, C, H, W): out (?, 10)"),
        (onnx_files.foreign(["batch", 7], ["batch", 6, 6, 3]), "channels last; expected (batch, channels, H, W)"),
        (onnx_files.foreign(["batch", 7], ["batch", 4, 6, 6]), "expected images of 1 or 3 channels"),
        (onnx_files.foreign(["batch", "d"], ["batch", 3, 6, 6]), "m.onnx does not say how long its latent is"),
        (onnx_files.foreign(["batch", 7, 1], ["batch", 3, 6, 6]), "expected a latent (batch, D) or (batch, D, 1, 1)"),
        (two_inputs(), "m.onnx takes z (?, 4) and label (?); without gan.* metadata, only one latent can be fed"),
        (integer_input(), "m.onnx is not a generator: it takes tensor(int64) tokens (?, 4)"),
        (nan_weights(), "m.onnx draws NaN or infinity"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_files_that_are_no_generators(proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)) as caught:
        load(proto)
    assert caught.value.hint


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_wrong_threads(model_path: Path, threads: int) -> None:
    with pytest.raises(GanportError, match=f"`threads` must be 1 … 1024, got {threads}"):
        OnnxGenerator(model_path, threads=threads)
