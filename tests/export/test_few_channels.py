"""Convolutions to few channels as rows and their sums: the same numbers on random shapes, and what is left alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from export.small_graphs import counts, f32, graph, run
from gan_export.passes.few_channels import FewChannels
from gan_export.passes.graph import open_session


def conv(out: int, kernel: tuple[int, int], attributes: str = "", *, channels: int = 16, bias: bool = True) -> ir.Model:
    tensors = {"w": f32(out, channels, *kernel)} | ({"b": f32(out)} if bias else {})
    body = f"a = Conv <{attributes}> (x, {', '.join(tensors)}) y = Relu (a)"
    return graph(f"float[n, {channels}, h, w] x => float[] y", body.replace("Conv <>", "Conv"), **tensors)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("out", "kernel", "attributes"),
    [
        (3, (9, 9), "pads = [4, 4, 4, 4]"),
        (1, (7, 7), ""),
        (2, (5, 3), "pads = [0, 1, 3, 2], kernel_shape = [5, 3]"),
        (4, (6, 5), "pads = [2, 2, 2, 2], strides = [1, 1], dilations = [1, 1], group = 1"),
    ],
)
def test_the_same_numbers(out: int, kernel: tuple[int, int], attributes: str, bias: bool) -> None:
    model, x = conv(out, kernel, attributes, bias=bias), f32(2, 16, 11, 14)
    expected = run(model, x)[0]
    weights = sum(tensor.nbytes for tensor in model.graph.initializers.tensors())
    assert FewChannels()(model).modified
    assert counts(model)["Conv"] == 2
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-4)
    made = open_session(model, threads=1).run(None, {"x": x})[0]  # with the blocked layout of onnxruntime
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
    filled = 15 * 16 * kernel[1] + out * kernel[0] * (out * kernel[0] + 15)
    assert sum(tensor.nbytes for tensor in model.graph.initializers.tensors()) <= weights + 4 * filled
    assert not FewChannels()(model).modified


@pytest.mark.parametrize(
    "model",
    [
        conv(5, (9, 9)),
        conv(3, (2, 9), channels=64),
        conv(3, (9, 1)),
        conv(3, (9, 9), channels=15),
        conv(3, (3, 3), channels=31),
        conv(3, (9, 9), "strides = [2, 1]"),
        conv(3, (9, 9), "dilations = [1, 2]"),
        conv(3, (9, 9), 'auto_pad = "SAME_UPPER"'),
        graph("float[n, 32, h, w] x => float[] y", "y = Conv <group = 2> (x, w)", w=f32(2, 16, 9, 9)),
        graph("float[n, 16, h, w] x, float[3, 16, 9, 9] w => float[] y", "y = Conv (x, w)"),
        graph("float[n, 16, 9, 9] x => float[] y", "s = Size (w) a = Conv (x, w) y = Identity (a)", w=f32(3, 16, 9, 9)),
    ],
)  # fmt: skip
def test_what_is_left_alone(model: ir.Model) -> None:
    before = ir.to_proto(model).graph.node
    assert not FewChannels()(model).modified
    assert [node.op_type for node in before] == [node.op_type for node in model.graph]
