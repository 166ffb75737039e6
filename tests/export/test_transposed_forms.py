"""Every form of a transposed convolution gives what ConvTranspose gives, on random shapes, alone and in chains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import helper

from export.small_graphs import TRANSPOSED, Case, chain, counts, f32, model_of, run, transposed
from gan_export.passes.transposed import FORMS, Transposed, layers, rewrite, to_convs
from gan_export.passes.transposed.rewrite import fitting

rng = np.random.default_rng(7)


def random_case() -> Case:
    """Any transposed convolution that ONNX can say with dilation 1."""
    while True:
        stride, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 1, 2, 3]))
        kernel = int(rng.integers(1, 7)), int(rng.integers(1, 7))
        pads = tuple(int(rng.integers(0, min(kernel[i % 2], 4))) for i in range(4))
        extra = (int(rng.integers(0, stride)), int(rng.integers(0, stride)))
        size = int(rng.integers(1, 8)), int(rng.integers(1, 8))
        grown = [(n - 1) * stride + k for n, k in zip(size, kernel, strict=True)]
        if all(grown[axis] - pads[axis] - pads[axis + 2] + extra[axis] > 0 for axis in (0, 1)):
            channels = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
            return transposed(
                *channels, size, kernel, stride, (pads[0], pads[1], pads[2], pads[3]), extra, groups,
                bool(rng.integers(2)), int(rng.integers(1, 4)),
            )  # fmt: skip


def cases_of(form: str, count: int) -> Iterator[Case]:
    """`count` random cases that `form` fits."""
    found = 0
    while found < count:
        model, x = winograd_case() if form == "winograd" else one_pixel_case() if form == "gemm" else random_case()
        (layer,) = layers(model)
        if FORMS[form].fits(layer):
            found += 1
            yield model, x


def winograd_case() -> Case:
    size = 2 * int(rng.integers(1, 5)), 2 * int(rng.integers(1, 5))
    return transposed(int(rng.integers(1, 9)), int(rng.integers(1, 9)), size, (4, 4), 2, (1, 1, 1, 1))


def one_pixel_case() -> Case:
    while True:
        model, x = random_case()
        if x.shape[2:] == (1, 1):
            return model, x


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_exact_on_random_shapes(form: str) -> None:
    for model, x in cases_of(form, 40):
        before = model.SerializeToString()
        changed = rewrite(model, lambda _layer: form)
        assert model.SerializeToString() == before
        assert (TRANSPOSED in counts(changed)) == (form == "keep")
        (expected,), (seen,) = run(model, x), run(changed, x)
        assert seen.shape == expected.shape
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=2e-5)


def test_every_random_case_is_described_and_some_form_fits_it() -> None:
    for _ in range(100):
        model, x = random_case()
        (layer,) = layers(model)
        assert (layer.out_height, layer.out_width) == run(model, x)[0].shape[2:]
        assert "keep" in fitting(layer)
        assert layer.stride == 1 or "subpixel" in fitting(layer)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu"])
@pytest.mark.parametrize("forms", [("gemm", "winograd", "winograd"), ("keep", "overlap", "winograd"),
                                   ("gemm", "subpixel", "phases"), ("overlap", "winograd", "keep"),
                                   ("gemm", "phases", "winograd"), ("gemm", "winograd", "phases"),
                                   ("gemm", "phases", "phases"), ("keep", "phases", "overlap"),
                                   ("gemm", "overlap", "subpixel")])  # fmt: skip
def test_chains_hand_their_values_on(forms: tuple[str, ...], activation: str) -> None:
    model, x = chain(activation)
    names = iter(forms)
    changed = rewrite(model, lambda _layer: next(names))
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)
    assert counts(changed)[activation] >= 2


def test_two_winograd_layers_interleave_nothing_between_them() -> None:
    model, _ = chain("Relu")
    names = iter(("gemm", "winograd", "winograd"))
    split = [
        n for n in rewrite(model, lambda _l: next(names)).graph.node if n.op_type == "Split" and len(n.output) == 2
    ]
    assert len(split) == 3  # one split of the first layer's input: rows, then columns of both


def test_phases_are_what_winograd_reads() -> None:
    model, _ = chain("Relu")
    names = iter(("gemm", "phases", "winograd"))
    nodes = rewrite(model, lambda _l: next(names)).graph.node
    behind = [next(n for n in nodes if conv.output[0] in n.input) for conv in nodes if conv.op_type == "Conv"]
    assert [n.op_type for n in behind] == ["Relu"] * 4  # on each phase, where a runtime can fuse it
    assert [next(n for n in nodes if relu.output[0] in n.input).op_type for relu in behind] == ["Transpose"] * 4
    assert not any(n.op_type == "Split" and len(n.output) == 2 for n in nodes)


def test_nothing_moves_single_numbers() -> None:
    model, _ = chain("Relu")
    names = iter(("gemm", "phases", "phases"))
    assert "DepthToSpace" not in counts(rewrite(model, lambda _l: next(names)))


def test_nine_phases_are_split_anew_for_winograd() -> None:
    """Stride 3 writes thirds of rows, Winograd reads halves."""
    tensors = {"w0": f32(4, 6, 3, 3), "w1": f32(6, 2, 4, 4)}
    strides = {0: {"strides": [3, 3]}, 1: {"strides": [2, 2], "pads": [1] * 4}}
    values = ("x", "between", "y")
    nodes = [helper.make_node(TRANSPOSED, [values[i], f"w{i}"], [values[i + 1]], **strides[i]) for i in (0, 1)]
    model, x = model_of(nodes, tensors, ("n", 4, 4, 2)), f32(2, 4, 4, 2)
    names = iter(("phases", "winograd"))
    changed = rewrite(model, lambda _l: next(names))
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["winograd", "phases", "overlap"])
def test_no_form_makes_the_file_larger(form: str) -> None:
    model, _ = transposed(32, 32, (8, 8), (4, 4), 2, (1, 1, 1, 1))
    changed = rewrite(model, lambda _layer: form)
    assert changed.ByteSize() - model.ByteSize() < 20_000
    assert all(t.name.startswith("w.") for t in changed.graph.initializer if len(t.dims) > 1 and t.dims[0] != 36)


def test_layers_of_one_weight_are_left_alone() -> None:
    """Each form would write the weight down once a layer."""
    nodes = [
        helper.make_node(TRANSPOSED, [before, "w"], [after], strides=[2, 2], pads=[1] * 4, kernel_shape=[4, 4])
        for before, after in (("x", "a"), ("a", "y"))
    ]
    model = model_of(nodes, {"w": f32(4, 4, 4, 4)}, ("n", 4, 4, 4))
    assert layers(model) == []


def test_to_convs_leaves_no_transposed_convolution() -> None:
    model, x = chain("LeakyRelu")
    changed = to_convs(model)
    assert counts(changed).keys() == {"Reshape", "Gemm", "LeakyRelu", "Conv", "DepthToSpace", "Pad"}  # crops
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)


def test_a_value_that_somebody_else_sees_ends_the_chain() -> None:
    model, x = chain("Relu")
    model.graph.output.append(helper.make_tensor_value_info("r0", onnx.TensorProto.FLOAT, None))
    names = iter(("gemm", "winograd", "winograd"))
    changed = rewrite(model, lambda _layer: next(names))
    for seen, expected in zip(run(changed, x), run(model, x), strict=True):
        np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)


def _without_weights(model: onnx.ModelProto) -> None:
    del model.graph.initializer[:]
    for name, shape in (("w", (2, 3, 4, 4)), ("b", (3,))):
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))


def _dilated(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("dilations", [2, 2]))


def _any_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"


def _auto_pad(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))


def _uneven(model: onnx.ModelProto) -> None:
    strides = next(a for a in model.graph.node[0].attribute if a.name == "strides")
    strides.ints[:] = [2, 1]


@pytest.mark.parametrize("spoil", [_without_weights, _dilated, _any_height, _auto_pad, _uneven])
def test_what_no_form_can_say_is_left_alone(spoil: object) -> None:
    model, _ = transposed(2, 3, (4, 4), (4, 4), 2, (1, 1, 1, 1))
    assert len(layers(model)) == 1
    assert callable(spoil)
    spoil(model)
    assert layers(model) == []
    assert counts(rewrite(model, lambda _layer: "subpixel")) == {TRANSPOSED: 1}


@pytest.mark.parametrize("form", ["winograd", "gemm", "transformer"])
def test_a_form_that_does_not_fit_is_refused(form: str) -> None:
    model, _ = transposed(2, 3, (5, 5), (3, 3), 2)
    with pytest.raises(ValueError, match="does not fit"):
        rewrite(model, lambda _layer: form)


def test_macs_count_the_product_of_every_input_with_every_weight() -> None:
    model, _ = transposed(2, 3, (5, 7), (3, 2), 2, bias=False)
    (layer,) = layers(model)
    assert isinstance(layer, Transposed)
    assert layer.macs == 5 * 7 * 2 * 3 * 3 * 2
