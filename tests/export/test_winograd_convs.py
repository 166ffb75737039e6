"""3x3 convolutions as Winograd products: the same numbers on random shapes, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from export.small_graphs import Array, counts, f32, graph, run
from gan_export.passes.graph import open_session
from gan_export.passes.winograd_conv import WinogradConvs

ANY = WinogradConvs(channels=1, macs=1)
PADS = "pads = [1, 1, 1, 1]"


def conv(channels: int, out: int, sides: str, attributes: str = PADS, *, bias: bool = True) -> ir.Model:
    tensors = {"w": f32(out, channels, 3, 3)} | ({"b": f32(out)} if bias else {})
    body = f"a = Conv <{attributes}> (x, {', '.join(tensors)}) y = Relu (a)"
    return graph(f"float[n, {channels}, {sides}] x => float[] y", body, **tensors)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "out", "height", "width"), [(1, 1, 2, 2), (3, 5, 4, 10), (7, 2, 16, 16), (4, 4, 14, 20)]
)
def test_the_same_numbers(channels: int, out: int, height: int, width: int, bias: bool) -> None:
    model, x = conv(channels, out, f"{height}, {width}", bias=bias), f32(3, channels, height, width)
    expected = run(model, x)[0]
    assert ANY(model).modified
    assert counts(model)["Relu"] == 1
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=2e-5)
    made: Array = open_session(model, threads=1).run(None, {"x": x})[0]  # with the blocked layout of onnxruntime
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("attributes", [PADS, "pads = [0, 0, 0, 0]", "kernel_shape = [3, 3]"])
@pytest.mark.parametrize("sides", ["h, w", "8, w", "8, 6"])
def test_without_padding_and_of_any_size(attributes: str, sides: str) -> None:
    model = conv(3, 5, sides, attributes)
    sizes = {"h, w": [(3, 4), (5, 7), (8, 8), (18, 21), (9, 3)], "8, w": [(8, 5), (8, 16)], "8, 6": [(8, 6)]}[sides]
    given = [f32(2, 3, *size) for size in sizes]
    expected = [run(model, x)[0] for x in given]
    assert ANY(model).modified
    session = open_session(model, threads=1)  # with the blocked layout of onnxruntime
    for x, images in zip(given, expected, strict=True):
        np.testing.assert_allclose(run(model, x)[0], images, rtol=1e-4, atol=2e-5)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], images, rtol=1e-4, atol=2e-5)


def test_the_file_keeps_the_kernel_alone() -> None:
    model = conv(40, 30, "4, 4")
    before = sum(tensor.nbytes for tensor in model.graph.initializers.tensors())
    assert ANY(model).modified
    assert sum(tensor.nbytes for tensor in model.graph.initializers.tensors()) < before + 4096


@pytest.mark.parametrize(
    "model",
    [
        conv(3, 3, "5, 4"),
        conv(3, 3, "4, 3", "pads = [0, 0, 0, 0]"),
        conv(3, 3, "h, w", "pads = [1, 1, 1, 0]"),
        conv(3, 3, "h, w", "pads = [2, 2, 2, 2]"),
        conv(3, 3, "h, w", 'auto_pad = "SAME_UPPER"'),
        conv(3, 3, "4, 4", f"{PADS}, strides = [2, 2]"),
        conv(3, 3, "6, 6", "pads = [1, 1, 1, 1], dilations = [2, 2]"),
        graph("float[n, 4, 4, 4] x => float[] y", f"y = Conv <group = 2, {PADS}> (x, w)", w=f32(4, 2, 3, 3)),
        graph("float[n, 2, 4, 4] x => float[] y", "y = Conv <pads = [2, 2, 2, 2]> (x, w)", w=f32(2, 2, 5, 5)),
        graph("float[n, 2, 4, 4] x, float[2, 2, 3, 3] w => float[] y", f"y = Conv <{PADS}> (x, w)"),
    ],
)
def test_what_is_left_alone(model: ir.Model) -> None:
    before = ir.to_proto(model).graph.node
    assert not ANY(model).modified
    assert [node.op_type for node in before] == [node.op_type for node in model.graph]


def test_small_layers_are_left_alone() -> None:
    assert not WinogradConvs()(conv(191, 192, "32, 32")).modified
    assert not WinogradConvs()(conv(192, 192, "4, 4")).modified
    assert WinogradConvs()(conv(192, 192, "32, 32")).modified


def test_a_weight_that_the_demodulation_takes_too() -> None:
    body = f"s = ReduceSumSquare <keepdims = 0> (w, axes) a = Conv <{PADS}> (x, w) y = Mul (a, s)"
    model = graph("float[n, 3, 4, 4] x => float[] y", body, w=f32(3, 3, 3, 3), axes=np.array([0, 1, 2, 3]))
    x = f32(2, 3, 4, 4)
    expected = run(model, x)[0]
    assert ANY(model).modified
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-4)
