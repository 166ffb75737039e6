"""ONNX files that say nothing of themselves: what is found, assumed and said, what is asked, and what is refused."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import gan_serve
from gan_core.errors import ContractError, GanportError
from gan_core.latents import default_labels, latents
from gan_core.said import UNSAID, OnnxAnswers, parse_answers
from gan_serve.runtime import probe
from gan_serve.runtime.onnx_generator import OnnxGenerator
from real_files import real_file
from serve import onnx_files
from serve.onnx_files import ours
from serve.strangers import CLASSES, FORMS, Z_DIM, expected, stranger, try_here, with_input, with_output

NORMAL = "noise is a latent whose components are N(0, 1)"


@pytest.fixture(autouse=True)
def _tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    try_here(monkeypatch)


def load(proto: onnx.ModelProto, threads: int = 1, **answers: Any) -> OnnxGenerator:
    return OnnxGenerator(proto.SerializeToString(), "cpu", threads, where="m.onnx", answers=OnnxAnswers(**answers))


def without_metadata(proto: onnx.ModelProto) -> onnx.ModelProto:
    del proto.metadata_props[:]
    return proto


@pytest.mark.parametrize(("form", "answers"), FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("threads", [1, 2])
def test_every_form_draws_what_the_graph_computes(form: dict[str, Any], answers: dict[str, Any], threads: int) -> None:
    generator = load(stranger(**form), threads, **answers)
    known = {name: form[name] for name in ("image", "activation") if name in form}
    interface = generator.contract.interface
    assert not generator.ours
    assert (interface.z_dim, interface.image) == (Z_DIM, known.get("image", (3, 8, 9)))
    assert interface.value_range == ((0.0, 1.0) if "activation" in form else (-1.0, 1.0))
    assert interface.n_classes == (CLASSES if "label" in form else 0)
    z = latents(range(7), Z_DIM, answers.get("latent", "normal"))
    label = default_labels(np.arange(7), CLASSES) if "label" in form else None
    image_NCHW, pixels_NHWC = generator.run(z, label)
    tolerance = 2e-3 if form.get("out_type") == "float16" else 1e-5
    np.testing.assert_allclose(image_NCHW, expected(z, label, **known), atol=tolerance)
    assert image_NCHW.dtype == np.float32
    np.testing.assert_array_equal(generator.generate(range(7)), pixels_NHWC)
    np.testing.assert_array_equal(generator.generate(range(7), batch_size=2), pixels_NHWC)


def test_bytes_are_drawn_as_they_are() -> None:
    generator = load(stranger(activation="Sigmoid", scale=255.0, out_type="uint8", layout="NHWC"))
    assert generator.contract.interface.value_range == (0.0, 255.0)
    assert generator.contract.assumptions == (NORMAL,)
    z = latents(range(3), Z_DIM)
    bytes_NCHW = expected(z, activation="Sigmoid", scale=255.0).astype(np.uint8)
    image_NCHW, pixels_NHWC = generator.run(z)
    assert np.abs(image_NCHW - bytes_NCHW).max() <= 1
    np.testing.assert_array_equal(pixels_NHWC, image_NCHW.astype(np.uint8).transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("form", "assumed"),
    [
        ({}, ()),
        ({"label": "int64"}, ("y is a class, 0 … 2, as the graph looks it up",)),
        ({"label": "float", "label_shape": ("N", CLASSES)}, ("y is a class, one-hot",)),
    ],
)
def test_what_is_assumed_is_said(form: dict[str, Any], assumed: tuple[str, ...]) -> None:
    *found, last = load(stranger(**form)).contract.assumptions
    assert last.startswith("black is -1 and white is 1: the values of 32 images reach -1.00 … 1.00")
    assert tuple(found) == (NORMAL, *assumed)


@pytest.mark.parametrize(("form", "batch"), [({"z": (4, Z_DIM)}, 4), ({"baked": 1}, 1)])
def test_a_batch_that_is_fixed_is_a_note(form: dict[str, Any], batch: int) -> None:
    generator = load(stranger(**form))
    assert generator.signature.fixed_batch == batch
    assert generator.notes == [f"the graph takes {batch} at a time: so many images are generated in a run"]


def test_what_is_said_is_not_assumed() -> None:
    answers: dict[str, Any] = {"latent": "normal", "value_range": (-2.0, 2.0), "n_classes": CLASSES}
    contract = load(stranger(label="int64"), **answers).contract
    assert contract.assumptions == ()
    assert contract.answers == ("values in [-2, 2]", "latent distribution normal", "classes 3")
    assert contract.interface.value_range == (-2.0, 2.0)


def test_our_graph_without_its_metadata_draws_the_same(generator: OnnxGenerator) -> None:
    stripped = load(without_metadata(ours()))
    np.testing.assert_array_equal(stripped.generate(range(8)), generator.generate(range(8)))


@pytest.mark.parametrize(
    ("low", "high", "value_range"),
    [
        (0.0, 0.99, (0.0, 1.0)), (0.0, 0.01, (0.0, 1.0)), (-0.001, 1.02, (0.0, 1.0)), (0.49, 0.51, (0.0, 1.0)),
        (-0.02, 0.9, (0.0, 1.0)), (-0.1, 0.9, (-1.0, 1.0)), (-0.04, 0.04, (-1.0, 1.0)), (-1.0, 0.0, (-1.0, 1.0)),
        (-1.04, 1.04, (-1.0, 1.0)), (0.0, 254.0, (0.0, 255.0)), (-2.0, 260.0, (0.0, 255.0)), (0.0, 3.0, None),
        (0.0, 1000.0, None), (-100.0, 100.0, None), (-0.42, 2.8, None),
    ],
)  # fmt: skip
def test_ranges_by_the_extremes(low: float, high: float, value_range: tuple[float, float] | None) -> None:
    assert probe.range_of(low, high) == value_range


def test_assumptions_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(stranger().SerializeToString())
    gan_serve.load(path, provider="cpu")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gan_serve.runtime.runtimes", logging.WARNING)
    assert record.getMessage().startswith("foreign.onnx has no gan.* metadata; assumed: noise is")


# ── several inputs and outputs ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(), (1,), ("N", 1)])
@pytest.mark.parametrize("threads", [1, 2])
def test_another_input_is_a_number_that_is_said(shape: tuple[Any, ...], threads: int) -> None:
    proto = with_input(stranger(label="int64"), "psi", shape=shape)
    with pytest.raises(ContractError, match=r"m.onnx takes noise .* and y .* and psi .* does not say which") as caught:
        load(proto)
    assert caught.value.code == UNSAID
    assert caught.value.hint.startswith('`inputs="noise=z,y=label"`, `constant="psi=1"`:')
    generator = load(proto, threads, constants=(("psi", 0.5),))
    z, label = latents(range(5), Z_DIM), default_labels(np.arange(5), CLASSES)
    found = generator.run(z, label)[0]
    if shape == ():  # the others are multiplied along an axis of the image
        np.testing.assert_allclose(found, expected(z, label, scale=0.5), atol=1e-5)
    assert generator.contract.answers == ("psi is 0.5",)


def test_of_several_outputs_the_largest_image_is_drawn_or_the_one_that_is_said() -> None:
    proto = with_output(stranger(), "features", "zw", ("N", 216))
    pool = helper.make_node("AveragePool", ["placed"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2])
    proto.graph.node.append(pool)
    proto = with_output(proto, "small", "pooled", ("N", 3, 4, 4))
    z = latents(range(3), Z_DIM)
    np.testing.assert_allclose(load(proto).run(z)[0], expected(z), atol=1e-5)
    assert load(proto).signature.image == "out"
    assert load(proto, output_key="small").signature.image == "small"
    flat = load(proto, output_key="features", image=(3, 8, 9), value_range=(-9.0, 9.0))
    np.testing.assert_allclose(flat.run(z)[0], expected(z, activation="Identity"), atol=1e-4)


# ── what is asked: each hint, followed, draws ────────────────────────────────────────────────────────────────────────


def said(hint: str) -> OnnxAnswers:
    """The answers of the first words in backticks of a hint, and of those that a comma adds."""
    words = re.match(r"(?:`[^`]+`(?:, )?)+", hint)
    assert words, hint
    found: dict[str, Any] = {}
    for name, text, number in re.findall(r'`(\w+)=(?:"([^"]*)"|(\d+))`', words[0]):
        if name == "constant":
            found.setdefault(name, []).append(text)
        else:
            found[name] = int(number) if number else text
    names = ("value_range", "image", "latent", "z_dim", "n_classes", "inputs", "constant", "output_key")
    return parse_answers(**{name: found.get(name) for name in names})


ASKED: dict[str, tuple[onnx.ModelProto, str]] = {
    "range": (stranger(activation="Identity"), "does not say which values are black and white: the values of 32"),
    "positive range": (stranger(activation="Sigmoid", scale=3.0), "does not say which values are black and white"),
    "flat": (stranger(layout="flat", image=(1, 28, 28)), "m.onnx gives out (?, 784): numbers without the size of an"),
    "flat RGB": (stranger(layout="flat", image=(3, 16, 16)), "numbers without the size of an image"),
    "grey": (stranger(layout="HW", image=(1, 8, 9)), "numbers without the size of an image"),
    "grey, not known before": (
        stranger(layout="HW", image=(1, 8, 9), out_shape=("N", "h", "w")),
        "numbers without the size of an image",
    ),
    "classes": (
        stranger(label="int64", one_hot_by="Compare"),
        "m.onnx does not show how many classes its input y has",
    ),
    "length": (stranger(z=("N", "D")), "m.onnx does not say how long its latent is: noise (?, ?)"),
    "two floats": (
        stranger(label="float", label_shape=("N", CLASSES), label_name="b"),
        "m.onnx takes noise (?, 5) and b (?, 3), and does not say which is what",
    ),
    "three": (
        with_input(with_input(stranger(label="int64"), "psi"), "step", "int64"),
        "and does not say which is what",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("proto", "message"), ASKED.values(), ids=list(ASKED))
def test_a_hint_leads_to_images(proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)) as caught:
        load(proto)
    assert caught.value.code == UNSAID
    hint = caught.value.hint.replace("z_dim=100", f"z_dim={Z_DIM}")
    generator = OnnxGenerator(proto.SerializeToString(), "cpu", 1, answers=said(hint))
    assert len(generator.generate(range(3))) == 3


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def integer_input() -> onnx.ModelProto:
    proto = without_metadata(ours())
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    proto.graph.input[0].name = "tokens"
    proto.graph.node.insert(0, helper.make_node("Cast", ["tokens"], ["z"], to=TensorProto.FLOAT))
    return proto


def broken_weights(value: float) -> onnx.ModelProto:
    proto = stranger(activation="Identity")
    (index,) = [i for i, tensor in enumerate(proto.graph.initializer) if tensor.name == "W"]
    proto.graph.initializer[index].CopyFrom(numpy_helper.from_array(np.full((5, 216), value, np.float32), "W"))
    return proto


def other_output(node: onnx.NodeProto, output: onnx.ValueInfoProto) -> onnx.ModelProto:
    proto = stranger()
    proto.graph.node.append(node)
    proto.graph.output[0].CopyFrom(output)
    return proto


def of_strings() -> onnx.ModelProto:
    made = numpy_helper.from_array(np.full((1, 3, 8, 9), "x", object), "words")
    node = helper.make_node("Constant", [], ["text"], value=made)
    return other_output(node, helper.make_tensor_value_info("text", TensorProto.STRING, ["N", 3, 8, 9]))


def of_a_sequence() -> onnx.ModelProto:
    node = helper.make_node("SequenceConstruct", ["out"], ["all"])
    return other_output(node, helper.make_tensor_sequence_value_info("all", TensorProto.FLOAT, None))


def without_pixels() -> onnx.ModelProto:
    proto = stranger(out_shape=("N", "c", "h", "w"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "none"))
    proto.graph.node.append(helper.make_node("Slice", ["out", "none", "none", "none_axis"], ["cut"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "none_axis"))
    proto.graph.output[0].name = "cut"
    return proto


REFUSED: dict[str, tuple[onnx.ModelProto, dict[str, Any], str]] = {
    "classifier": (
        onnx_files.foreign(["batch", 3, 8, 8], ["batch", 10]), {},
        "m.onnx looks like a classifier or discriminator, not a generator: noise (?, 3, 8, 8) to out (?, 10)",
    ),
    "image to image": (
        onnx_files.foreign(["batch", 3, 8, 8], ["batch", 3, 8, 8]), {},
        "m.onnx looks like an image-to-image network, not a generator",
    ),
    "few numbers": (onnx_files.foreign(["batch", 7], ["batch", 10]), {}, "m.onnx gives no images (batch, C, H, W)"),
    "2 channels": (stranger(image=(2, 8, 9)), {}, "gives no images (batch, C, H, W) of 1, 3, 4 channels: out (?, 2, 8"),
    "a sequence of latents": (stranger(z=("N", Z_DIM, 7)), {}, "expected a latent (batch, D) or (batch, D, 1, 1)"),
    "no batch": (stranger(z=(Z_DIM,)), {}, "expected a latent (batch, D) or (batch, D, 1, 1)"),
    "tokens": (integer_input(), {}, "m.onnx is not a generator: it takes tensor(int64) tokens (?, 4)"),
    "NaN": (broken_weights(np.nan), {}, "m.onnx generates NaN or infinity"),
    "infinity": (broken_weights(np.inf), {}, "m.onnx generates NaN or infinity"),
    "NaN in a range that was said": (broken_weights(np.nan), {"value_range": (0.0, 1.0)}, "generates NaN or infinity"),
    "strings": (of_strings(), {}, "m.onnx gives no images"),
    "a sequence of tensors": (of_a_sequence(), {}, "m.onnx gives no images"),
    "no pixels": (without_pixels(), {}, "m.onnx gives no images"),
    "another size": (stranger(), {"image": (3, 9, 9)}, "m.onnx gives out (?, 3, 8, 9): no images of 3x9x9"),
    "another flat size": (stranger(layout="flat"), {"image": (1, 9, 9)}, "gives out (?, 216): no images of 1x9x9"),
    "another length": (stranger(), {"z_dim": 6}, "m.onnx takes noise (?, 5), which is no latent of 6 numbers"),
    "no class": (stranger(), {"n_classes": 3}, "m.onnx takes no class"),
    "another number of classes": (
        stranger(label="float", label_shape=("N", CLASSES)), {"n_classes": 4}, "m.onnx: y has 3 numbers, one a class",
    ),
    "more classes than rows": (stranger(label="int64"), {"n_classes": 9}, "m.onnx does not run:"),
    "an input that is not there": (stranger(), {"constants": (("psi", 1.0),)}, "m.onnx takes no 'psi'"),
    "a constant as large as a latent": (
        stranger(label="int64"), {"constants": (("noise", 1.0),)}, "m.onnx is not a generator: it takes tensor(int64)",
    ),
    "a class that is none": (
        stranger(label="int64"), {"inputs": (("z", "y"), ("label", "noise"))}, "y (?) of tensor(int64) is no latent",
    ),
    "an output that is not there": (stranger(), {"output_key": "picture"}, "m.onnx gives no 'picture'"),
}  # fmt: skip


@pytest.mark.parametrize(("proto", "answers", "message"), REFUSED.values(), ids=list(REFUSED))
def test_files_that_are_no_generators(proto: onnx.ModelProto, answers: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)) as caught:
        load(proto, **answers)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "name"), [(OnnxAnswers((0.0, 1.0)), "value_range"), (OnnxAnswers(constants=(("psi", 1.0),)), "constant")]
)
def test_a_file_of_ours_has_no_place_for_answers(model_path: Path, said: OnnxAnswers, name: str) -> None:
    with pytest.raises(GanportError, match=f"says what it is, so `{name}` has no place") as caught:
        OnnxGenerator(model_path, "cpu", answers=said)
    assert caught.value.hint == "leave it out"


@pytest.mark.parametrize("text", ["psi", "=1", "psi=x"])
def test_constants_are_numbers(text: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("value_range", "image", "latent", "z_dim", "n_classes", "inputs", "output_key")
    )
    with pytest.raises(GanportError, match="`constant` must be NAME=NUMBER"):
        parse_answers(**nothing, constant=[text])


# ── real ones ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "n_classes"), [("stranger_vae", 0), ("stranger_cvae", 10)])
def test_real_files_draw_black_backgrounds(name: str, n_classes: int) -> None:
    generator = gan_serve.load(real_file(f"second/{name}.onnx"), provider="cpu", threads=1)
    interface = generator.contract.interface
    assert (interface.z_dim, interface.image, interface.n_classes) == (16, (1, 28, 28), n_classes)
    assert interface.value_range == (0.0, 1.0)
    pixels_NHWC = generator.generate(range(20))
    assert np.median(pixels_NHWC) < 10  # digits on black, not on grey
    assert pixels_NHWC.max() > 200
