"""What `--optimize` does to a graph: rules, measuring, and upsampling merged with the convolution behind it."""

from __future__ import annotations

from typing import Any

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
    kinds,
    pixels,
    run,
    tensor,
    text_of,
    transposed,
)
from gan_export.onnx_export import optimise
from gan_export.passes import rewrite as tune
from gan_export.passes.graph import drop_unused
from gan_export.passes.layer import MergeUpsampling, layers
from gan_export.passes.rewrite import always, fitting, for_cpu, for_gpu, rewrite

pytestmark = pytest.mark.slow

rng = np.random.default_rng(3)
PADS = (1, 1, 1, 1)


def resize_and_conv(
    factor: int = 2,
    kernel: int = 3,
    pad: int = 1,
    groups: int = 1,
    bias: bool = True,
    size: tuple[int, int] = (3, 5),
    scales: tuple[float, ...] | None = None,
    resize: str = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
    conv: str = "",
) -> Case:
    """x (n, 4, *size) → Resize → Conv → y. `conv`: attributes in place of the usual."""
    tensors = {"w": f32(6, 4 // groups, kernel, kernel)} | ({"b": f32(6)} if bias else {})
    attributes = conv or f"pads = {[pad] * 4}, group = {groups}"
    body = f"up = Resize <{resize}> (x, , scales) y = Conv <{attributes}> ({', '.join(['up', *tensors])})"
    sizes = np.array(scales or (1, 1, factor, factor), np.float32)
    ports = f"float[n, 4, {size[0]}, {size[1]}] x => float[] y"
    return graph(ports, body, scales=sizes, **tensors), f32(2, 4, *size)


def large(model: ir.Model) -> list[str]:
    """The names of the kernels in the file."""
    drop_unused(model)
    return [name for name in model.graph.initializers if tensor(model, name).ndim == 4]


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize(("kernel", "pad"), [(1, 0), (3, 0), (3, 1), (3, 2), (5, 2), (4, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_upsampling_and_its_convolution_are_one_transposed_convolution(
    factor: int, kernel: int, pad: int, groups: int
) -> None:
    model, x = resize_and_conv(factor, kernel, pad, groups, bias=bool(rng.integers(2)))
    (expected,) = run(model, x)
    assert MergeUpsampling()(model).modified
    assert counts(model) == {TRANSPOSED: 1, "MatMul": 1, "Reshape": 2, "Transpose": 1}
    assert large(model) == ["w"]
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("form", ["keep", "phases", "winograd"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_form_of_a_merged_layer_derives_its_kernels_from_the_file_s_own(form: str, groups: int) -> None:
    model, x = resize_and_conv(groups=groups, size=(6, 4))
    (expected,) = run(model, x)
    MergeUpsampling()(model)
    (layer,) = layers(model)
    assert fitting(layer) == ("keep", "phases", "winograd")[: 3 if groups == 1 else 2]
    if form in fitting(layer):
        changed = rewrite(model, always(form))
        assert large(changed) == ["w"]
        np.testing.assert_allclose(run(changed, x)[0], expected, rtol=1e-5, atol=2e-5)


def test_layers_of_one_weight_keep_one_weight() -> None:
    resize = 'Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">'
    model = graph(
        "float[n, 4, 3, 5] x => float[] y",
        f"""up = {resize} (x, , scales) a = Conv <pads = [1, 1, 1, 1]> (up, w)
            four = Slice (a, from, to, axis) more = {resize} (four, , scales)
            y = Conv <pads = [1, 1, 1, 1]> (more, w)""",
        w=f32(6, 4, 3, 3), scales=np.array([1, 1, 2, 2], np.float32), axis=[1], to=[4], **{"from": [0]},
    )  # fmt: skip
    x = f32(2, 4, 3, 5)
    (expected,) = run(model, x)
    changed, applied = optimise(model, "auto")
    assert applied == ("merge_upsampling",)
    assert counts(changed)[TRANSPOSED] == 2
    assert counts(changed)["MatMul"] == len(large(changed)) == 1
    np.testing.assert_allclose(run(changed, x)[0], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("transformation", "rounding", "merges"),
    [
        ("asymmetric", "floor", True),
        ("half_pixel", "round_prefer_floor", True),
        ("half_pixel", "round_prefer_ceil", True),
        ("pytorch_half_pixel", "round_prefer_floor", True),
        ("asymmetric", "ceil", False),
        ("asymmetric", "round_prefer_ceil", False),
        ("align_corners", "round_prefer_floor", False),
    ],
)
def test_only_a_resize_that_repeats_values_is_merged(transformation: str, rounding: str, merges: bool) -> None:
    how = f'coordinate_transformation_mode = "{transformation}", nearest_mode = "{rounding}"'
    model, x = resize_and_conv(resize=how)
    (expected,) = run(model, x)
    assert MergeUpsampling()(model).modified == merges
    assert (TRANSPOSED in counts(model)) == merges
    np.testing.assert_allclose(run(model, x)[0], expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"conv": "dilations = [2, 2]"},
        {"conv": "dilations = [1, 2]"},
        {"conv": "strides = [2, 2]"},
        {"conv": "strides = [1, 2]"},
        {"conv": 'auto_pad = "SAME_UPPER"'},
        {"resize": 'mode = "linear", coordinate_transformation_mode = "half_pixel"'},
        {"scales": (1, 1, 2, 3)},
        {"scales": (1, 1, 1.5, 1.5)},
        {"scales": (1, 2, 2, 2)},
        {"scales": (1, 1, 2, 1)},
        {"kernel": 3, "pad": 3},
    ],
)
def test_any_other_upsampling_or_convolution_stays(given: dict[str, Any]) -> None:
    model, _ = resize_and_conv(**given)
    assert not MergeUpsampling()(model).modified
    assert kinds(model) == ["Resize", "Conv"]


def test_an_upsampling_that_somebody_else_sees_stays() -> None:
    model, _ = resize_and_conv()
    as_output(model, "up")
    assert not MergeUpsampling()(model).modified


@pytest.mark.parametrize(
    ("c_in", "c_out", "size", "kernel", "stride", "cpu", "gpu"),
    [
        (100, 512, 1, 4, 1, "gemm", "gemm"),
        (512, 256, 4, 4, 2, "phases", "keep"),
        (256, 128, 8, 4, 2, "phases", "keep"),
        (512, 256, 16, 4, 2, "winograd", "keep"),
        (1024, 512, 8, 4, 2, "winograd", "keep"),
        (256, 128, 12, 4, 2, "phases", "keep"),
        (512, 256, 8, 4, 2, "phases", "keep"),
        (128, 64, 32, 4, 2, "phases", "keep"),
        (256, 128, 7, 4, 2, "phases", "keep"),
        (128, 64, 16, 4, 2, "phases", "keep"),
        (64, 3, 32, 4, 2, "keep", "keep"),
        (32, 16, 64, 4, 2, "phases", "keep"),
        (32, 32, 4, 4, 2, "keep", "keep"),
        (1024, 512, 4, 4, 2, "phases", "keep"),
        (256, 128, 8, 3, 2, "phases", "keep"),
        (256, 128, 8, 5, 2, "phases", "keep"),
        (256, 128, 8, 2, 2, "keep", "keep"),
    ],
)
def test_the_rule_knows_the_usual_layers(
    c_in: int, c_out: int, size: int, kernel: int, stride: int, cpu: str, gpu: str
) -> None:
    pads = PADS if kernel == 4 and stride == 2 else (0, 0, 0, 0)
    model, _ = transposed(c_in, c_out, (size, size), (kernel, kernel), stride, pads, batch=1)
    (layer,) = layers(model)
    assert (for_cpu(layer), for_gpu(layer)) == (cpu, gpu)


@pytest.mark.parametrize("mode", ["auto", "tune"])
def test_an_optimised_graph_draws_the_same(mode: Any) -> None:
    model, x = chain("Relu")
    (expected,) = run(model, x)
    changed, names = optimise(model, mode)
    assert set(names) <= {f"transposed_{form}" for form in ("gemm", "winograd", "phases", "subpixel")}
    np.testing.assert_allclose(run(changed, x)[0], expected, rtol=1e-4, atol=1e-4)


def test_none_changes_nothing_and_the_same_graph_gives_the_same_bytes() -> None:
    model, _ = chain("Relu")
    before = text_of(model)
    assert optimise(model, "none") == (model, ())
    assert text_of(model) == before
    first, second = (text_of(optimise(model.clone(), "auto")[0]) for _ in range(2))
    assert first == second


def test_what_was_applied_is_named() -> None:
    assert optimise(chain("Relu")[0], "auto")[1] == ("transposed_gemm",)
    assert optimise(chain("Relu")[0], "auto", "int8")[1] == ("to_convs",)
    assert optimise(resize_and_conv()[0], "auto")[1] == ("merge_upsampling",)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_in_lower_precisions_no_kernel_is_derived(precision: str) -> None:
    model, _ = resize_and_conv()
    changed, applied = optimise(model, "auto", precision)
    assert applied == ()
    assert counts(changed) == {"Resize": 1, "Conv": 1}


@pytest.mark.parametrize(("precision", "applied"), [("fp32", True), ("fp16", False)])
def test_the_cast_is_plain_where_the_file_is_for_cpus(precision: str, applied: bool) -> None:
    model, x = pixels("Tanh")
    (expected,) = run(model, x)
    changed, names = optimise(model, "auto", precision)
    assert names == ("plain_cast",) * applied
    np.testing.assert_array_equal(run(changed, x)[0], expected)


def test_tune_times_every_form_that_fits_and_takes_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that says so: each layer gets the form that was made to look fast, and the whole of those wins."""
    model, _ = chain("Relu")
    wanted = {layer.output: fitting(layer)[-1] for layer in layers(model)}
    seen: list[int] = []

    def pretend(runs: list[object]) -> int:
        seen.append(len(runs))
        return 0 if len(seen) > len(wanted) else len(runs) - 1

    monkeypatch.setattr(tune, "_fastest", pretend)
    assert tune.tuned(model) == wanted
    assert seen == [len(fitting(layer)) for layer in layers(model)] + [3]


def test_tune_keeps_the_graph_as_it_was_where_nothing_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = chain("Relu")
    monkeypatch.setattr(tune, "_fastest", lambda runs: len(runs) - 1)
    assert set(tune.tuned(model).values()) == {"keep"}


def test_the_faster_of_two_runs_is_found() -> None:
    calls = [0, 0]

    def slow() -> None:
        calls[0] += 1
        sum(range(20_000))

    def fast() -> None:
        calls[1] += 1

    assert tune._fastest([slow, fast]) == 1
    assert min(calls) > tune.ROUNDS
