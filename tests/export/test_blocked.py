"""Operators as convolutions, and pixel shuffles as moves of rows: the same numbers, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from export.small_graphs import Array, as_output, counts, f32, graph, kinds, run
from gan_core.arrays import F32
from gan_export.passes.blocked import KeepBlocks, PlainPRelu, ShuffleRuns
from gan_export.passes.graph import open_session

PADS = "pads = [1, 1, 1, 1]"
PORTS = "float[n, 16, h, w] x => float[] y"


def between(body: str, ports: str = PORTS, channels: int = 16, **tensors: Array) -> ir.Model:
    """`body`, which makes b of a, between two convolutions, whose values are about as large as what they take."""
    whole = f"a = Conv <{PADS}> (x, w0) {body} y = Conv <{PADS}> (b, w1)"
    return graph(ports, whole, w0=f32(channels, 16, 3, 3) / 12, w1=f32(16, channels, 3, 3) / 12, **tensors)


def slopes(low: float, high: float, *shape: int) -> F32:
    return np.linspace(low, high, 16, dtype=np.float32).reshape(shape or (16, 1, 1))


def same(model: ir.Model, x: Array, expected: Array) -> None:
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-4, atol=1e-4)
    made: Array = open_session(model, threads=1).run(None, {"x": x})[0]  # with the blocked layout of onnxruntime
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("body", "factors"),
    [
        ("b = PRelu (a, s)", slopes(0.0, 0.5)),
        ("b = PRelu (a, s)", slopes(-0.5, 1.0, 1, 16, 1, 1)),
        ("b = PRelu (a, s)", slopes(-0.5, 3.0)),
        ("b = PRelu (a, s)", np.full((1, 1, 1), 2, np.float32)),
        ("c = Add (a, a) b = Mul (c, s)", np.float32(0.2)),
        ("c = Add (a, a) b = Mul (s, c)", slopes(-2, 2, 1, 16, 1, 1)),
    ],
)
def test_operators_as_convolutions(body: str, factors: Array) -> None:
    model = between(body, s=np.asarray(factors))
    x = f32(2, 16, 5, 4)
    expected = run(model, x)[0]
    assert KeepBlocks()(model).modified
    assert not {"PRelu", "Mul"} & set(kinds(model))
    same(model, x, expected)
    assert not KeepBlocks()(model).modified


def test_onnxruntime_stays_in_its_layout(tmp_path: Path) -> None:
    model = between("p = PRelu (a, s) c = Add (p, a) b = Mul (c, f)", s=slopes(0, 0.5), f=f32(1))
    seen = []
    for changed in (False, True):
        assert KeepBlocks()(model).modified if changed else True
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "as_run.onnx"), 4
        onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])
        seen.append([node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node])
    assert seen[0].count("ReorderInput") > seen[1].count("ReorderInput") == 1


@pytest.mark.parametrize(
    "model",
    [
        between("b = PRelu (a, s)", s=f32(16, 1, 4)),  # a slope for each column
        between("b = Mul (a, s)", s=f32(1)),  # onnxruntime makes it part of the convolution
        between("b = Elu (a)"),
        between("b = PRelu (a, a)"),
        between("b = PRelu (a, s)", channels=24, s=f32(24, 1, 1)),
        graph(PORTS, "y = PRelu (x, s)", s=slopes(0, 0.5)),
        graph(PORTS, f"a = Conv <{PADS}> (x, w) y = PRelu (a, s)", w=f32(16, 16, 3, 3), s=slopes(0, 0.5)),
    ],
)
def test_what_is_left_alone(model: ir.Model) -> None:
    before = kinds(model)
    assert not KeepBlocks()(model).modified
    assert kinds(model) == before


def test_one_slope_is_a_leaky_relu() -> None:
    model, x = graph(PORTS, "y = PRelu (x, s)", s=np.full((16, 1, 1), 0.3, np.float32)), f32(2, 16, 3, 3)
    expected = run(model, x)[0]
    assert PlainPRelu()(model).modified
    assert kinds(model) == ["LeakyRelu"]
    np.testing.assert_array_equal(run(model, x)[0], expected)
    assert not PlainPRelu()(graph(PORTS, "y = PRelu (x, s)", s=slopes(0, 1))).modified


def shuffled(body: str, out: int = 64, sides: str = "h, w", *, bias: bool = True, **tensors: Array) -> ir.Model:
    tensors |= {"w": f32(out, 16, 3, 3)} | ({"b": f32(out)} if bias else {})
    taken = "x, w, b" if bias else "x, w"
    return graph(f"float[n, 16, {sides}] x => float[] y", f"a = Conv <{PADS}> ({taken}) {body}", **tensors)


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (shuffled('y = DepthToSpace <blocksize = 2, mode = "CRD"> (a)'), []),
        (shuffled("y = DepthToSpace <blocksize = 2> (a)", sides="5, 4", bias=False), []),
        (shuffled('r = Relu (a) y = DepthToSpace <blocksize = 2, mode = "DCR"> (r)'), ["Relu"]),
        (
            shuffled('d = DepthToSpace <blocksize = 3, mode = "CRD"> (a) y = LeakyRelu <alpha = 0.1> (d)', 144, "5, 4"),
            ["LeakyRelu"],
        ),
        (shuffled('d = DepthToSpace <blocksize = 2, mode = "CRD"> (a) e = Relu (d) y = Neg (e)'), ["Relu"]),
    ],
)
def test_pixel_shuffles(model: ir.Model, kept: list[str]) -> None:
    x = f32(2, 16, 5, 4)
    expected = run(model, x)[0]
    assert ShuffleRuns()(model).modified
    assert "DepthToSpace" not in kinds(model)
    assert kinds(model)[: 1 + len(kept)] == ["Conv", *kept]
    same(model, x, expected)
    assert counts(model)["Transpose"] == 3


@pytest.mark.parametrize(
    "model",
    [
        shuffled("y = DepthToSpace <blocksize = 2> (a)", 60),
        shuffled("s = Softmax (a) y = DepthToSpace <blocksize = 2> (s)"),
        shuffled("c = Mul (w, w) y0 = DepthToSpace <blocksize = 2> (a) y = Mul (y0, s)", s=f32(1)),
        graph(
            "float[n, 32, 4, 4] x => float[] y",
            f"a = Conv <group = 2, {PADS}> (x, w) y = DepthToSpace <blocksize = 2> (a)",
            w=f32(64, 16, 3, 3),
        ),
    ],
)
def test_shuffles_left_alone(model: ir.Model) -> None:
    before = kinds(model)
    assert not ShuffleRuns()(model).modified
    assert kinds(model) == before


def test_a_value_that_somebody_else_takes_is_not_shuffled() -> None:
    model = shuffled("y = DepthToSpace <blocksize = 2> (a)")
    as_output(model, "a")
    assert not ShuffleRuns()(model).modified
