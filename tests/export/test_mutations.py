"""Wrong exports: the proof has to reject every one, by the check that names what is wrong.

A mutant is a file: the right generator's graph and contract, with one thing wrong in either. It is proved against the
right generator, as an export is.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from export.surgery import (
    Array,
    change_input,
    change_value,
    change_weight,
    constant,
    copy_of,
    one,
    weights,
    with_constant,
)
from export.tiny import source_of, spec_of
from gan_export.artefact import contract_of, stamp, to_bytes
from gan_export.onnx_export import to_onnx
from gan_export.proof import Reference, prove
from gan_export.proof.golden import make_golden
from gan_export.source import Source
from gan_serve.contract import Contract
from gan_trainer import layers as L
from gan_trainer.spec import GeneratorSpec


@dataclasses.dataclass
class Right:
    """A right generator: source, graph, contract, and what PyTorch draws."""

    source: Source
    model: onnx.ModelProto
    contract: Contract
    reference: Reference

    @classmethod
    def of(cls, spec: GeneratorSpec) -> Right:
        source = source_of(spec)
        reference = Reference(source)
        model, passes = to_onnx(source)
        return cls(source, model, contract_of(source, golden=make_golden(reference), passes=passes), reference)

    def file(self, path: Path, model: onnx.ModelProto | None = None, contract: Contract | None = None) -> Path:
        path.write_bytes(to_bytes(stamp(model or self.model, contract or self.contract)))
        return path


OVERSHOOTING = GeneratorSpec(
    8,
    (3, 4, 4),
    (L.Linear(8, 32), L.BatchNorm(32), L.Activation("relu"), L.Linear(32, 48), L.Reshape((3, 4, 4))),
    value_range=(-4.0, 4.0),
)
"""No activation at its end: some values lie outside the range and have to be clamped."""


@pytest.fixture(scope="module")
def dcgan() -> Right:
    return Right.of(spec_of(n_classes=3))


@pytest.fixture(scope="module")
def mlp() -> Right:
    return Right.of(spec_of("mlp", channels=1))


@pytest.fixture(scope="module")
def overshooting() -> Right:
    return Right.of(OVERSHOOTING)


def rejected(right: Right, path: Path, expected: str) -> None:
    report = prove(path, right.source, reference=right.reference)
    failed = [check.name for check in report.failed]
    assert expected in failed, f"expected {expected!r} to fail, failed: {failed}\n{report.table()}"
    assert report.failed[0].name in str(report.error())


@pytest.mark.parametrize("name", ["dcgan", "mlp", "overshooting"])
def test_the_right_exports_pass(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    right: Right = request.getfixturevalue(name)
    report = prove(right.file(tmp_path / "g.onnx"), right.source, reference=right.reference)
    assert report.ok, report.table()
    alone = prove(tmp_path / "g.onnx")
    assert alone.ok, alone.table()


# --- Faults of the module: another number somewhere, exported as it is. ---


def edited(edit: Callable[[nn.Module], object]) -> Callable[[nn.Module], nn.Module]:
    """A module edited in place."""

    def apply(module: nn.Module) -> nn.Module:
        with torch.no_grad():
            edit(module)
        return module

    return apply


def every(kind: type[nn.Module], **values: object) -> Callable[[nn.Module], nn.Module]:
    """Sets attributes of every part of a kind."""
    return edited(lambda m: [setattr(p, k, v) for p in m.modules() if isinstance(p, kind) for k, v in values.items()])


class BatchStatistics(nn.Module):
    """A BatchNorm that normalises by the batch, in eval mode too."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, self.norm.weight, self.norm.bias, training=True)


class Wrapped(nn.Module):
    """A generator with something done to its input or output."""

    def __init__(
        self,
        generator: nn.Module,
        before: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda z, label: (z, label),
        after: Callable[[Tensor], Tensor] = lambda image: image,
    ) -> None:
        super().__init__()
        self.generator, self.before, self.after = generator, before, after

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        image: Tensor = self.generator(*self.before(z, label))
        return self.after(image)


def half_overflow(image: Tensor) -> Tensor:
    return (image * 1e5).half().float() / 1e5


def replace_layer(module: nn.Module, index: int, make: Callable[[nn.Module], nn.Module]) -> nn.Module:
    module.layers[index] = make(module.layers[index])  # type: ignore[index,operator]
    return module


MODULE_FAULTS: dict[str, tuple[str, Callable[[nn.Module], nn.Module], str]] = {
    "BatchNorm eps 0.8 lost": ("mlp", every(nn.BatchNorm1d, eps=1e-5), "image values"),
    "LeakyReLU slope 0.01": ("mlp", every(nn.LeakyReLU, negative_slope=0.01), "image values"),
    "LeakyReLU slope 0.21": ("mlp", every(nn.LeakyReLU, negative_slope=0.21), "image values"),
    "BatchNorm eps 1e-3": ("dcgan", every(nn.BatchNorm2d, eps=1e-3), "image values"),
    "ReLU became LeakyReLU": ("dcgan", lambda m: replace_layer(m, 4, lambda _: nn.LeakyReLU(0.01)), "image values"),
    "running statistics lost": (
        "dcgan",
        edited(lambda m: [p.reset_running_stats() for p in m.modules() if isinstance(p, nn.BatchNorm2d)]),
        "image values",
    ),
    "BatchNorm in train mode": (
        "dcgan",
        lambda m: replace_layer(m, 3, BatchStatistics),  # type: ignore[arg-type]
        "independent of neighbours",
    ),
    "stride 3 instead of 2": ("dcgan", edited(lambda m: setattr(m.layers[8], "stride", (3, 3))), "outputs"),
    "padding moved": (
        "dcgan",
        edited(lambda m: (setattr(m.layers[8], "padding", (0, 0)), setattr(m.layers[5], "padding", (2, 2)))),
        "outputs",
    ),
    "transposed conv flipped": (
        "dcgan",
        edited(lambda m: m.layers[5].weight.copy_(m.layers[5].weight.flip(2, 3))),
        "image values",
    ),
    "half precision overflows": ("dcgan", lambda m: Wrapped(m, after=half_overflow), "NaN or Inf"),
    "noise drawn inside": ("dcgan", lambda m: Wrapped(m, after=lambda x: x + 1e-3 * torch.randn_like(x)), "random ops"),
    "latent replaced by noise": (
        "dcgan",
        lambda m: Wrapped(m, before=lambda z, label: (torch.randn_like(z), label)),
        "repeats to the bit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", MODULE_FAULTS)
def test_fault_in_the_module(fault: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name, plant, expected = MODULE_FAULTS[fault]
    right: Right = request.getfixturevalue(name)
    wrong = plant(source_of(right.source.spec).module).eval()
    model, _ = to_onnx(dataclasses.replace(right.source, module=wrong))
    rejected(right, right.file(tmp_path / "g.onnx", model), expected)


# --- Faults of the graph. ---


def one_percent(weight: Array) -> Array:
    """One channel of a kernel, one per cent larger."""
    weight[:, 0] *= 1.01
    return weight


def noise(before: str, after: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("RandomNormalLike", [before], ["drawn"], scale=1e-3),
        helper.make_node("Add", [before, "drawn"], [after]),
    ]


def one_pixel_nan(before: str, after: str) -> list[onnx.NodeProto]:
    value = np.zeros((1, 3, 28, 28), np.float32)
    value[0, 1, 27, 27] = np.nan
    return with_constant("Add", value)(before, after)


def channels(order: list[int]) -> Callable[[str, str], list[onnx.NodeProto]]:
    def nodes(before: str, after: str) -> list[onnx.NodeProto]:
        return [constant("order", order, np.int64), helper.make_node("Gather", [before, "order"], [after], axis=1)]

    return nodes


def baked(size: int) -> Callable[[str, str], list[onnx.NodeProto]]:
    return lambda before, after: [
        constant("shape", [size, 3, 28, 28], np.int64),
        helper.make_node("Reshape", [before, "shape"], [after]),
    ]


def reversed_batch(before: str, after: str) -> list[onnx.NodeProto]:
    ends = {"starts": [-1], "ends": [np.iinfo(np.int64).min], "axes": [0], "steps": [-1]}
    constants = [constant(name, value, np.int64) for name, value in ends.items()]
    return [*constants, helper.make_node("Slice", [before, *ends], [after])]


def scrambled(before: str, after: str) -> list[onnx.NodeProto]:
    """NHWC bytes read as NCHW and turned again."""
    return [
        constant("shape", [0, 3, 28, 28], np.int64),
        helper.make_node("Reshape", [before, "shape"], ["nchw"]),
        helper.make_node("Transpose", ["nchw"], [after], perm=[0, 2, 3, 1]),
    ]


def fixed_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 25
    return model


def swapped_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    swap = {"image": "pixels", "pixels": "image"}
    for node in model.graph.node:
        node.input[:] = [swap.get(name, name) for name in node.input]
        node.output[:] = [swap.get(name, name) for name in node.output]
    for output in model.graph.output:
        output.name = swap[output.name]
    return model


def without_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Truncates: the half is not added."""
    model = copy_of(model)
    add = next(node for node in model.graph.node if node.op_type == "Add" and node.input[1].startswith("constant"))
    return change_weight(model, add.input[1], np.zeros_like)


def without_clamp(model: onnx.ModelProto) -> onnx.ModelProto:
    """Casts by way of int32, which wraps at 256 as C does."""
    model = copy_of(model)
    for node in model.graph.node:
        if node.op_type == "Clip":
            node.CopyFrom(helper.make_node("Cast", [node.input[0]], [node.output[0]], to=onnx.TensorProto.INT32))
    return model


def channels_first(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    last = model.graph.node[-1]
    last.CopyFrom(helper.make_node("Identity", [last.input[0]], ["pixels"]))
    dims = model.graph.output[1].type.tensor_type.shape.dim
    for index, side in enumerate((3, 28, 28), start=1):
        dims[index].dim_value = side
    return model


def weight_norm_left(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first kernel as magnitude times direction, its norm taken in the graph."""
    model = copy_of(model)
    name = weights(model)[-1]
    node = next(node for node in model.graph.node if name in node.input)
    node.input[1] = "normed"
    reduce = helper.make_node("ReduceL2", [name], ["norm"], keepdims=1)
    again = [
        helper.make_node("Div", [name, "norm"], ["direction"]),
        helper.make_node("Mul", ["direction", "norm"], ["normed"]),
    ]
    for position, made in enumerate([reduce, *again]):
        model.graph.node.insert(position, made)
    return model


def training_dropout(before: str, after: str) -> list[onnx.NodeProto]:
    return [
        constant("ratio", 0.1),
        constant("training", True, np.bool_),
        helper.make_node("Dropout", [before, "ratio", "training"], [after], seed=7),
    ]


def with_stack_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", 'File "/home/someone/project/networks.py", line 12'
    return model


def bloated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every weight twice over, and more: what an exporter that does not share does."""
    model = copy_of(model)
    raw = np.zeros((3 << 20,), np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(raw, "copy"))
    model.graph.node.insert(0, helper.make_node("Shape", ["copy"], ["unused"]))
    return model


def disconnected(model: onnx.ModelProto) -> onnx.ModelProto:
    model = copy_of(model)
    model.graph.node[1].input[0] = "nobody"
    return model


def first_kernel(edit: Callable[[Array], Array]) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    return lambda model: change_weight(model, weights(model, 4)[0], edit)


def at(value: str, nodes: Callable[..., object]) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """Plants nodes at an input or output."""
    change = change_input if value in ("z", "label") else change_value
    return lambda model: change(model, value, nodes)  # type: ignore[arg-type]


GRAPH_FAULTS: dict[str, tuple[str, Callable[[onnx.ModelProto], onnx.ModelProto], str]] = {
    "one channel off by 1 %": ("dcgan", first_kernel(one_percent), "image values"),
    "one weight off by 1 %": ("mlp", lambda m: change_weight(m, weights(m)[1], one_percent), "image values"),
    "weights rounded to half": (
        "dcgan",
        first_kernel(lambda w: w.astype(np.float16).astype(np.float32)),
        "image values",
    ),
    "kernel flipped": ("dcgan", first_kernel(lambda w: w[:, :, ::-1, ::-1]), "image values"),
    "kernel's channels reversed": ("dcgan", first_kernel(lambda w: w[:, ::-1]), "image values"),
    "kernel is zero": ("mlp", lambda m: change_weight(m, weights(m)[-1], np.zeros_like), "seeds differ"),
    "NaN weight": ("mlp", lambda m: change_weight(m, weights(m)[0], lambda w: w * np.float32("nan")), "NaN or Inf"),
    "NaN in one pixel": ("dcgan", at("image", one_pixel_nan), "NaN or Inf"),
    "RGB became BGR": ("dcgan", at("image", channels([2, 1, 0])), "image values"),
    "one channel swapped": ("dcgan", at("image", channels([0, 2, 1])), "image values"),
    "one channel copied": ("dcgan", at("image", channels([0, 0, 2])), "image values"),
    "rows and columns swapped": ("dcgan", at("image", one("Transpose", perm=[0, 1, 3, 2])), "image values"),
    "tanh twice": ("dcgan", at("image", one("Tanh")), "image values"),
    "image in [0, 1]": ("dcgan", at("image", with_constant("Mul", 0.5)), "image values"),
    "image shifted by 0.001": ("dcgan", at("image", with_constant("Add", 1e-3)), "image values"),
    "image scaled tenfold": ("dcgan", at("image", with_constant("Mul", 10.0)), "outside the value range"),
    "image of one colour": ("dcgan", at("image", with_constant("Mul", 0.0)), "flat images"),
    "constant noise": (
        "dcgan",
        at("image", with_constant("Add", np.random.default_rng(0).normal(0, 1e-3, (1, 3, 28, 28)))),
        "image values",
    ),
    "drawn noise": ("dcgan", at("image", noise), "random ops"),
    "dropout that trains": ("dcgan", at("image", training_dropout), "training mode"),
    "z scaled": ("dcgan", at("z", with_constant("Mul", 0.99)), "image values"),
    "z clipped": ("dcgan", at("z", with_constant("Min", 2.0)), "image values"),
    "z ignored": ("dcgan", at("z", with_constant("Mul", 0.0)), "seeds differ"),
    "label ignored": ("dcgan", at("label", with_constant("Mul", 0, np.int64)), "labels matter"),
    "last class lost": ("dcgan", at("label", with_constant("Min", 1, np.int64)), "labels matter"),
    "labels reversed": (
        "dcgan",
        at("label", lambda a, b: [constant("two", 2, np.int64), helper.make_node("Sub", ["two", a], [b])]),
        "image values",
    ),
    "batch baked by Reshape at 1": ("dcgan", at("image", baked(1)), "symbolic batch"),
    "batch baked by Reshape at 25": ("dcgan", at("image", baked(25)), "symbolic batch"),
    "batch fixed in the signature": ("dcgan", fixed_batch, "symbolic batch"),
    "batch reversed": ("dcgan", at("image", reversed_batch), "image values"),
    "outputs swapped": ("dcgan", swapped_outputs, "outputs"),
    "pixels not rounded": ("dcgan", without_rounding, "pixels are image, rounded"),
    "pixels not clamped, so they wrap": ("overshooting", without_clamp, "pixels are image, rounded"),
    "pixels in NCHW": ("dcgan", channels_first, "outputs"),
    "pixels scrambled": ("dcgan", at("pixels", scrambled), "pixels are image, rounded"),
    "pixels of type float": ("dcgan", at("pixels", one("Cast", to=onnx.TensorProto.FLOAT)), "ONNX checker"),
    "pixels inverted": (
        "dcgan",
        at("pixels", lambda a, b: [constant("white", 255, np.uint8), helper.make_node("Sub", ["white", a], [b])]),
        "pixel values",
    ),
    "weight_norm left in": ("dcgan", weight_norm_left, "reparametrised weights"),
    "stack traces left in": ("dcgan", with_stack_traces, "traces of the machine"),
    "weights written twice": ("dcgan", bloated, "file size"),
    "a node reads nothing": ("dcgan", disconnected, "ONNX checker"),
}  # fmt: skip


@pytest.mark.parametrize("fault", GRAPH_FAULTS)
def test_fault_in_the_graph(fault: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name, plant, expected = GRAPH_FAULTS[fault]
    right: Right = request.getfixturevalue(name)
    rejected(right, right.file(tmp_path / "g.onnx", plant(right.model)), expected)


# --- Faults of what the file says of itself. ---


def respecified(contract: Contract, layer: int, **values: object) -> Contract:
    spec = json.loads(json.dumps(contract.spec))
    spec["layers"][layer] |= values
    return dataclasses.replace(contract, spec=spec)


CONTRACT_FAULTS: dict[str, tuple[Callable[[Contract], Contract], str]] = {
    "value range [0, 1]": (lambda c: dataclasses.replace(c, value_range=(0.0, 1.0)), "contract"),
    "latent law": (lambda c: dataclasses.replace(c, latent="uniform"), "contract"),
    "z_dim": (lambda c: dataclasses.replace(c, z_dim=9), "inputs"),
    "no classes": (lambda c: dataclasses.replace(c, n_classes=0), "inputs"),
    "one class more": (lambda c: dataclasses.replace(c, n_classes=4), "contract"),
    "image size": (lambda c: dataclasses.replace(c, image=(3, 32, 32)), "outputs"),
    "raw weights called EMA": (lambda c: dataclasses.replace(c, weights="ema"), "contract"),
    "another checkpoint": (lambda c: dataclasses.replace(c, source={"file": "h.pt", "sha256": "0"}), "contract"),
    "spec with another eps": (lambda c: respecified(c, 3, eps=0.8), "contract"),
    "spec that fits no weight": (lambda c: respecified(c, 8, kernel=6, padding=2), "spec fits weights"),
    "spec that does not chain": (lambda c: respecified(c, 8, kernel=99), "contract"),
    "no golden set": (lambda c: dataclasses.replace(c, golden=()), "golden set"),
    "golden set in another order": (
        lambda c: dataclasses.replace(
            c, golden=tuple(dataclasses.replace(g, seed=3 - g.seed, label=(3 - g.seed) % 3) for g in c.golden)
        ),
        "golden images",
    ),
    "golden images damaged": (
        lambda c: dataclasses.replace(c, golden=tuple(dataclasses.replace(g, png="AAAA") for g in c.golden)),
        "golden images",
    ),
}


@pytest.mark.parametrize("fault", CONTRACT_FAULTS)
def test_fault_in_the_contract(fault: str, dcgan: Right, tmp_path: Path) -> None:
    plant, expected = CONTRACT_FAULTS[fault]
    rejected(dcgan, dcgan.file(tmp_path / "g.onnx", contract=plant(dcgan.contract)), expected)


def test_image_denotation_that_lies(dcgan: Right, tmp_path: Path) -> None:
    model = stamp(dcgan.model, dcgan.contract)
    next(entry for entry in model.metadata_props if entry.key == "Image.BitmapPixelFormat").value = "Bgr8"
    (tmp_path / "g.onnx").write_bytes(to_bytes(model))
    rejected(dcgan, tmp_path / "g.onnx", "image denotation")


def test_weights_in_another_file(dcgan: Right, tmp_path: Path) -> None:
    model = stamp(dcgan.model, dcgan.contract)
    onnx.save(model, tmp_path / "g.onnx", save_as_external_data=True, location="g.data", size_threshold=64)
    rejected(dcgan, tmp_path / "g.onnx", "external data")


def test_another_generator_of_the_same_shape(dcgan: Right, tmp_path: Path) -> None:
    other = dataclasses.replace(source_of(dcgan.source.spec, seed=1), provenance=dcgan.source.provenance)
    model, _ = to_onnx(other)
    rejected(dcgan, dcgan.file(tmp_path / "g.onnx", model), "image values")


def test_the_suite_is_as_large_as_promised() -> None:
    assert len(MODULE_FAULTS) + len(GRAPH_FAULTS) + len(CONTRACT_FAULTS) >= 25


UNSEEN_ALONE = {
    "weights rounded to half",
    "image shifted by 0.001",
    "constant noise",
    "weights written twice",
}
"""Too small for the golden set's pixels, or not to be told from weights. A file betrays all else by itself."""


@pytest.mark.parametrize("fault", [fault for fault in GRAPH_FAULTS if GRAPH_FAULTS[fault][0] == "dcgan"])
def test_most_faults_show_without_the_checkpoint(fault: str, dcgan: Right, tmp_path: Path) -> None:
    report = prove(dcgan.file(tmp_path / "g.onnx", GRAPH_FAULTS[fault][1](dcgan.model)))
    assert report.ok == (fault in UNSEEN_ALONE), report.table()
