"""Every form of a transposed convolution gives what ConvTranspose gives, on random shapes, alone and in chains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest

from export.small_graphs import (
    TRANSPOSED,
    Case,
    as_output,
    chain,
    counts,
    f32,
    graph,
    run,
    tensor,
    text_of,
    transposed,
)
from gan_export.passes.forms import FORMS
from gan_export.passes.layer import Transposed, layers
from gan_export.passes.rewrite import always, fitting, rewrite, to_convs

pytestmark = pytest.mark.slow

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
        before = text_of(model)
        changed = rewrite(model, lambda _layer: form)
        assert text_of(model) == before
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
@pytest.mark.parametrize("forms", [("gemm", "winograd", "winograd"), ("keep", "keep", "winograd"),
                                   ("gemm", "subpixel", "phases"), ("keep", "winograd", "keep"),
                                   ("gemm", "phases", "winograd"), ("gemm", "winograd", "phases"),
                                   ("gemm", "phases", "phases"), ("keep", "phases", "keep"),
                                   ("gemm", "winograd", "subpixel")])  # fmt: skip
def test_chains_hand_their_values_on(forms: tuple[str, ...], activation: str) -> None:
    model, x = chain(activation)
    names = iter(forms)
    changed = rewrite(model, lambda _layer: next(names))
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)
    assert counts(changed)[activation] >= 2


def test_two_winograd_layers_interleave_nothing_between_them() -> None:
    model, _ = chain("Relu")
    names = iter(("gemm", "winograd", "winograd"))
    split = [n for n in rewrite(model, lambda _l: next(names)).graph if n.op_type == "Split" and len(n.outputs) == 2]
    assert len(split) == 3  # one split of the first layer's input: rows, then columns of both


def test_phases_are_what_winograd_reads() -> None:
    model, _ = chain("Relu")
    names = iter(("gemm", "phases", "winograd"))
    nodes = list(rewrite(model, lambda _l: next(names)).graph)
    behind = [user for conv in nodes if conv.op_type == "Conv" for user in conv.successors()]
    assert [n.op_type for n in behind] == ["Relu"] * 4  # on each phase, where a runtime can fuse it
    assert [user.op_type for relu in behind for user in relu.successors()] == ["Transpose"] * 4
    assert not any(n.op_type == "Split" and len(n.outputs) == 2 for n in nodes)


def test_nothing_moves_single_numbers() -> None:
    model, _ = chain("Relu")
    names = iter(("gemm", "phases", "phases"))
    assert "DepthToSpace" not in counts(rewrite(model, lambda _l: next(names)))


def test_nine_phases_are_split_anew_for_winograd() -> None:
    """Stride 3 writes thirds of rows, Winograd reads halves."""
    body = """between = ConvTranspose <strides = [3, 3]> (x, w0)
        y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (between, w1)"""
    model = graph("float[n, 4, 4, 2] x => float[] y", body, w0=f32(4, 6, 3, 3), w1=f32(6, 2, 4, 4))
    x = f32(2, 4, 4, 2)
    names = iter(("phases", "winograd"))
    changed = rewrite(model, lambda _l: next(names))
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["winograd", "phases"])
def test_no_form_makes_the_file_larger(form: str) -> None:
    model, _ = transposed(32, 32, (8, 8), (4, 4), 2, (1, 1, 1, 1))
    changed = rewrite(model, lambda _layer: form)
    assert ir.to_proto(changed).ByteSize() - ir.to_proto(model).ByteSize() < 20_000
    large = [name for name in changed.graph.initializers if tensor(changed, name).ndim > 1]
    assert all(name.startswith("w.") or len(tensor(changed, name)) == 36 for name in large)


def test_layers_of_one_weight_are_left_alone() -> None:
    """Each form would write the weight down once a layer."""
    body = """a = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [4, 4]> (x, w)
        y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], kernel_shape = [4, 4]> (a, w)"""
    assert layers(graph("float[n, 4, 4, 4] x => float[] y", body, w=f32(4, 4, 4, 4))) == []


@pytest.mark.parametrize(("form", "kernel", "pad"), [("phases", 3, 0), ("phases", 4, 1), ("winograd", 4, 1)])
def test_a_weight_that_a_demodulation_takes_too_is_kept_once(form: str, kernel: int, pad: int) -> None:
    body = f"""s = ReduceSumSquare <keepdims = 0> (w, axes)
        a = ConvTranspose <strides = [2, 2], pads = [{pad}, {pad}, {pad}, {pad}]> (x, w) y = Mul (a, s)"""
    weight = f32(20, 10, kernel, kernel)
    model, x = graph("float[n, 20, 4, 6] x => float[] y", body, w=weight, axes=np.array([0, 1, 2, 3])), f32(2, 20, 4, 6)
    expected = run(model, x)[0]
    changed = rewrite(model, always(form))
    assert TRANSPOSED not in counts(changed)
    large = [tensor for tensor in changed.graph.initializers.tensors() if tensor.size > weight.size / 2]
    assert len(large) == 1
    np.testing.assert_allclose(run(changed, x)[0], expected, rtol=1e-4, atol=np.abs(expected).max() * 1e-5)


def test_to_convs_leaves_no_transposed_convolution() -> None:
    model, x = chain("LeakyRelu")
    changed = to_convs(model)
    assert counts(changed).keys() == {"Reshape", "Gemm", "LeakyRelu", "Conv", "DepthToSpace", "Pad", "Transpose"}
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)


def test_a_value_that_somebody_else_sees_ends_the_chain() -> None:
    model, x = chain("Relu")
    as_output(model, "r0")
    names = iter(("gemm", "winograd", "winograd"))
    changed = rewrite(model, lambda _layer: next(names))
    for seen, expected in zip(run(changed, x), run(model, x), strict=True):
        np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-4)


UNFIT = {
    "weights that vary": ("float[n, 2, 4, 4] x, float[2, 3, 4, 4] w => float[] y", "strides = [2, 2]"),
    "dilated": ("float[n, 2, 4, 4] x => float[] y", "strides = [2, 2], dilations = [2, 2]"),
    "any height": ("float[n, 2, h, 4] x => float[] y", "strides = [2, 2]"),
    "auto_pad": ("float[n, 2, 4, 4] x => float[] y", 'strides = [2, 2], auto_pad = "SAME_UPPER"'),
    "uneven": ("float[n, 2, 4, 4] x => float[] y", "strides = [2, 1]"),
    "output_shape": ("float[n, 2, 4, 4] x => float[] y", "strides = [2, 2], output_shape = [8, 8]"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_what_no_form_can_say_is_left_alone(unfit: str) -> None:
    def model_of(ports: str, attributes: str) -> ir.Model:
        tensors = {"b": f32(3)} if " w " in ports else {"w": f32(2, 3, 4, 4), "b": f32(3)}
        return graph(ports, f"y = ConvTranspose <{attributes}> (x, w, b)", **tensors)

    assert len(layers(model_of("float[n, 2, 4, 4] x => float[] y", "strides = [2, 2]"))) == 1
    model = model_of(*UNFIT[unfit])
    assert layers(model) == []
    assert rewrite(model, lambda _layer: "subpixel") is model
    assert counts(model) == {TRANSPOSED: 1}


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
