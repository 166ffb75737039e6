"""What `--optimize` does to a graph: rules, measuring, and upsampling merged with the convolution behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from export.small_graphs import TRANSPOSED, chain, counts, f32, model_of, pixels, run, transposed
from export.surgery import Array
from gan_export.optimise import optimise
from gan_export.passes.merge_upsampling import merge_upsampling
from gan_export.passes.tidy import drop_unused
from gan_export.passes.transposed import layers, rewrite, tune
from gan_export.passes.transposed.rewrite import always, fitting
from gan_export.passes.transposed.rules import for_cpu, for_gpu

rng = np.random.default_rng(3)
PADS = (1, 1, 1, 1)
RESIZE: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}


def resize_and_conv(
    factor: int = 2,
    kernel: int = 3,
    pad: int = 1,
    groups: int = 1,
    bias: bool = True,
    mode: str = "nearest",
    scales: tuple[float, ...] | None = None,
    **attributes: Any,
) -> tuple[onnx.ModelProto, Array]:
    """x (n, 4, 3, 5) → Resize → Conv → y."""
    tensors = {
        "w": f32(6, 4 // groups, kernel, kernel),
        "scales": np.array(scales or (1, 1, factor, factor), np.float32),
    }
    tensors |= {"b": f32(6)} if bias else {}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["up"], **RESIZE | {"mode": mode} | attributes),
        helper.make_node("Conv", ["up", "w", *["b"] * bias], ["y"], pads=[pad] * 4, group=groups),
    ]
    return model_of(nodes, tensors, ("n", 4, 3, 5)), f32(2, 4, 3, 5)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize(("kernel", "pad"), [(1, 0), (3, 0), (3, 1), (3, 2), (5, 2), (4, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_upsampling_and_its_convolution_are_one_transposed_convolution(
    factor: int, kernel: int, pad: int, groups: int
) -> None:
    model, x = resize_and_conv(factor, kernel, pad, groups, bias=bool(rng.integers(2)))
    merged = merge_upsampling(model)
    assert counts(merged) == {TRANSPOSED: 1, "MatMul": 1, "Reshape": 2, "Transpose": 1}
    assert [tensor.name for tensor in drop_unused(merged).graph.initializer if len(tensor.dims) == 4] == ["w"]
    np.testing.assert_allclose(run(merged, x)[0], run(model, x)[0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("form", ["keep", "phases", "winograd"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_form_of_a_merged_layer_derives_its_kernels_from_the_file_s_own(form: str, groups: int) -> None:
    model, x = resize_and_conv(groups=groups)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = x.shape[3] + 1
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = x.shape[3] - 1
    x = f32(2, 4, 6, 4)
    merged = merge_upsampling(model)
    (layer,) = layers(merged)
    assert fitting(layer) == ("keep", "phases", "winograd")[: 3 if groups == 1 else 2]
    if form in fitting(layer):
        changed = drop_unused(rewrite(merged, always(form)))
        large = [tensor.name for tensor in changed.graph.initializer if len(tensor.dims) == 4]
        assert large == ["w"]
        np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-5, atol=2e-5)


def test_layers_of_one_weight_keep_one_weight() -> None:
    model, x = resize_and_conv(bias=False)
    more = [
        helper.make_node("Slice", ["y", "zero", "four", "one"], ["four channels"]),
        helper.make_node("Resize", ["four channels", "", "scales"], ["up again"], **RESIZE),
        helper.make_node("Conv", ["up again", "w"], ["z"], pads=[1] * 4),
    ]
    model.graph.node.extend(more)
    model.graph.output[0].name = "z"
    for name, value in (("zero", 0), ("one", 1), ("four", 4)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    changed, applied = optimise(model, "auto")
    assert applied == ("merge_upsampling",)
    assert [list(tensor.dims) for tensor in changed.graph.initializer].count([6, 4, 3, 3]) == 1
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "given", [{"dilations": [2, 2]}, {"dilations": [1, 2]}, {"strides": [2, 2]}, {"strides": [1, 2]}]
)
def test_any_other_convolution_stays(given: dict[str, list[int]]) -> None:
    model, x = resize_and_conv()
    for name, value in given.items():
        model.graph.node[1].attribute.append(helper.make_attribute(name, value))
    merged = merge_upsampling(model)
    assert merged == model
    assert run(merged, x)[0].shape == run(model, x)[0].shape


def test_a_padding_that_is_computed_stays() -> None:
    model, _ = resize_and_conv()
    model.graph.node[1].ClearField("attribute")
    model.graph.node[1].attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert merge_upsampling(model) == model


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
    model, x = resize_and_conv(coordinate_transformation_mode=transformation, nearest_mode=rounding)
    merged = merge_upsampling(model)
    assert (TRANSPOSED in counts(merged)) == merges
    np.testing.assert_allclose(run(merged, x)[0], run(model, x)[0], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        {"scales": (1, 1, 2, 3)},
        {"scales": (1, 1, 1.5, 1.5)},
        {"scales": (1, 2, 2, 2)},
        {"kernel": 3, "pad": 3},
    ],
)
def test_any_other_upsampling_stays(given: dict[str, Any]) -> None:
    if given.get("scales", (1, 1))[1] == 2:
        model, _ = resize_and_conv(factor=2)
        next(t for t in model.graph.initializer if t.name == "scales").CopyFrom(
            onnx.numpy_helper.from_array(np.array([1, 1, 2, 1], np.float32), "scales")
        )
    else:
        model, _ = resize_and_conv(**given)
    assert merge_upsampling(model) == model


def test_an_upsampling_that_somebody_else_sees_stays() -> None:
    model, _ = resize_and_conv()
    model.graph.output.append(helper.make_tensor_value_info("up", onnx.TensorProto.FLOAT, None))
    assert merge_upsampling(model) == model


@pytest.mark.parametrize(
    ("c_in", "c_out", "size", "kernel", "stride", "cpu", "gpu"),
    [
        (100, 512, 1, 4, 1, "gemm", "gemm"),
        (512, 256, 4, 4, 2, "phases", "keep"),
        (256, 128, 8, 4, 2, "phases", "keep"),
        (256, 128, 12, 4, 2, "winograd", "keep"),
        (128, 128, 16, 4, 2, "winograd", "keep"),
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
    changed, names = optimise(model, mode)
    assert set(names) <= {f"transposed_{form}" for form in ("gemm", "winograd", "phases", "overlap", "subpixel")}
    np.testing.assert_allclose(run(changed, x)[0], run(model, x)[0], rtol=1e-4, atol=1e-4)


def test_none_changes_nothing_and_the_same_graph_gives_the_same_bytes() -> None:
    model, _ = chain("Relu")
    assert optimise(model, "none") == (model, ())
    first, second = (optimise(model, "auto")[0].SerializeToString() for _ in range(2))
    assert first == second


def test_what_was_applied_is_named() -> None:
    model, _ = chain("Relu")
    assert optimise(model, "auto")[1] == ("transposed_gemm",)
    assert optimise(model, "auto", "int8")[1] == ("to_convs",)
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
    changed, names = optimise(model, "auto", precision)
    assert names == ("plain_cast",) * applied
    np.testing.assert_array_equal(run(changed, x)[0], run(model, x)[0])


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
