"""A stranger's ONNX file as one of ours: a copy that keeps the contract, proved to draw what the original draws.

What the file is, `gan_serve.runtime.foreign` and `probe` find out, as for gan-gen. Around its graph come the nodes that
make `z` and `label` what it takes, and `image` and `pixels` of what it gives. Several copies are tried, the fastest
first, and the first that draws what the original draws is kept:

    batch   a graph for one batch alone has the Reshapes freed that name it; where that does not do, it becomes the body
            of a Scan, which draws the images one by one
    passes  as in an export of our own, for graphs of float32; graphs of another type keep their arithmetic
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files import metadata
from gan_core.files.model_file import check_model_file, file_provenance, read_head, refuse_what_is_not_onnx
from gan_core.limits import limits_for
from gan_core.said import OnnxAnswers
from gan_export.answers import MIN_OPSET
from gan_export.artefact import contract_of, stamp, to_bytes
from gan_export.exporting import export_file
from gan_export.onnx_export import optimise
from gan_export.passes import PASSES, TIDY, StripTraces, run_passes
from gan_export.passes.graph import Builder, constant, nodes_of
from gan_export.proof import Report
from gan_export.proof.parity import Differences, check_parity, run_cases
from gan_export.proof.prove import ADOPTED, scaled_limit
from gan_export.proof.reference import Reference, make_golden
from gan_export.source import Source
from gan_serve.runtime import Signature
from gan_serve.runtime.foreign import FLOATS
from gan_serve.runtime.onnx_generator import OnnxGenerator

BATCH = "batch"
OURS = ("z", "label", "image", "pixels")
_TYPES = {
    name: ir.DataType.from_numpy(np.dtype(name)) for name in (*FLOATS.values(), "int64", "int32", "uint8", "bool")
}


def original_of(path: Path, answers: OnnxAnswers = OnnxAnswers()) -> Source:
    """The generator in a stranger's ONNX file, drawn by onnxruntime.

    Raises `GanportError` for a file that has a contract, is no generator, or does not say enough of itself.
    """
    refuse_what_is_not_onnx(check_model_file(path), read_head(path))
    text = metadata.read_onnx_text(path)
    if Contract.from_metadata(text.metadata, where=str(path)) is not None:
        raise GanportError(f"{path} has a contract already", hint=f"to prove it: gan-export verify {path}")
    generator = OnnxGenerator(path, "cpu", whole=True, answers=answers)
    said = {name: value for name, value in dataclasses.asdict(answers).items() if value not in (None, ())}
    return Source(
        Original(generator, path.stat().st_size),
        generator.contract.interface,
        weights="unknown",
        name=path.stem,
        provenance=file_provenance(path) | {"format": "onnx", ADOPTED: said},
        assumptions=generator.contract.assumptions,
        answers=generator.contract.answers,
        drawn_by="the original",
    )


class Original(nn.Module):
    """The file as a module, so that a proof can hold the copy to it."""

    def __init__(self, generator: OnnxGenerator, size_bytes: int) -> None:
        super().__init__()
        self.runtime = generator
        self.register_buffer("weights", torch.empty(size_bytes, dtype=torch.uint8, device="meta"))
        self.eval()

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        if z.dtype != torch.float32:
            raise TypeError("a file computes in the types that it was written in")
        return torch.from_numpy(self.runtime.run(z.numpy(), None if label is None else label.numpy())[0])

    def __deepcopy__(self, _: dict[int, Any]) -> Original:
        return self


def adopt(path: Path, source: Source, target: Path) -> Report:
    """Writes the copy of the file at `path`, whose `source` is `original_of(path)`, to `target`.

    The file is there if and only if `report.ok`. Raises `GanportError` for a target that cannot be written, and for a
    graph of an operator set that is too old to be brought up.
    """
    assert isinstance(source.module, Original)
    signature = source.module.runtime.signature
    precision = metadata.read_onnx_text(path).precision

    def make(reference: Reference) -> Callable[[dict[str, Any]], bytes]:
        golden = make_golden(reference)
        chosen: Callable[[dict[str, Any]], bytes] | None = None
        for model, passes in _copies(path, source, signature):
            base = contract_of(
                source,
                golden=golden,
                passes=passes,
                precision=precision,
                exporter={
                    "format": "onnx",
                    "onnx": importlib.metadata.version("onnx"),
                    "opset": model.opset_imports[""],
                },
            )
            proto = ir.to_proto(model)
            chosen = lambda parity, proto=proto, base=base: to_bytes(  # noqa: E731
                stamp(proto, dataclasses.replace(base, parity=parity))
            )
            if _draws_the_same(chosen({}), reference, base):
                return chosen
        assert chosen is not None
        return chosen  # the proof says what is wrong with the last

    return export_file(source, target, make)


def _draws_the_same(data: bytes, reference: Reference, about: Contract) -> bool:
    """Whether the file draws every case of a proof as the original does."""
    limits = limits_for(about.held_to)
    differences = Differences(reference)
    try:
        failures = run_cases(OnnxGenerator(data, "cpu", whole=True), reference.cases, [differences])
    except GanportError:
        return False
    tolerance = scaled_limit(limits, about.interface.value_range)
    return not failures and all(check.ok for check in check_parity(differences, limits, tolerance))


def _copies(path: Path, source: Source, signature: Signature) -> Iterator[tuple[ir.Model, tuple[str, ...]]]:
    """The copies to try and the names of what changed them, the fastest first."""
    if signature.fixed_batch is None or not signature.single:
        whole = _read(path)
        freed: tuple[str, ...] = ()
        if signature.fixed_batch is not None:
            _free_batch(whole, signature.fixed_batch)
            freed = ("free_batch",)
        _around(whole, source, signature)
        if _plain(whole, signature):
            try:
                model, first = run_passes(whole.clone(), PASSES)
                model, second = optimise(model, "auto")
            except Exception:  # passes know the graphs of one exporter, and this may be anything
                pass
            else:
                yield model, (*freed, *dict.fromkeys((*first, *second)))
        model, applied = run_passes(whole, TIDY)
        yield model, (*freed, *applied)
    if signature.fixed_batch is not None:
        whole = _read(path)
        _one_by_one(whole, source, signature)
        model, applied = run_passes(whole, TIDY)
        yield model, ("one_by_one", *applied)


def _read(path: Path) -> ir.Model:
    """The graph with its weights inside, of an operator set that our passes know; names of ours are free."""
    proto = onnx.load(path)
    opset = next((each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")), 1)
    if opset < MIN_OPSET:
        try:
            proto = onnx.version_converter.convert_version(proto, MIN_OPSET)
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise GanportError(
                f"{path} is of opset {opset}, which onnx does not bring to {MIN_OPSET}: {said}",
                hint=f"gan-gen {path} runs it as it is; a copy needs it exported again with opset {MIN_OPSET}",
            ) from error
    proto.ir_version = max(proto.ir_version, 8)  # which opset 18 needs, and where weights are no inputs
    model = ir.from_proto(proto)
    model.graph.sort()  # converters to float16 put their casts at the end
    StripTraces()(model)  # sizes that hold for the batch that it was written with, too
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    values = [*graph.inputs, *graph.initializers.values()]
    values += [value for node in graph.all_nodes() for value in node.outputs]
    taken = [value for value in dict.fromkeys(values) if value.name in OURS]
    ir.convenience.rename_values(taken, [f"{value.name}_of_the_original" for value in taken])
    return model


def _plain(model: ir.Model, signature: Signature) -> bool:
    """Whether the graph computes in float32 throughout: what is rounded on the way would be rounded elsewhere."""
    tensors = [value.dtype for value in model.graph.initializers.values() if value.dtype is not None]
    types = {dtype for dtype in tensors if dtype.is_floating_point()} | {_TYPES[signature.z_dtype]}
    casts = {node.attributes.get_int("to") for node in nodes_of(model, "Cast")}
    return types <= {ir.DataType.FLOAT} and not casts & {ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}


def _free_batch(model: ir.Model, batch: int) -> None:
    """Makes a Reshape to `batch` images one to as many as come."""
    for node in nodes_of(model, "Reshape"):
        shape = constant(node.inputs[1])
        if shape is not None and shape.ndim == 1 and len(shape) > 1 and shape[0] == batch:
            b = Builder(model, f"{node.outputs[0].name}.freed")
            node.replace_input_with(1, b.ints(0 if -1 in shape[1:] else -1, *map(int, shape[1:])))


def _around(model: ir.Model, source: Source, signature: Signature) -> None:
    """Gives `model` the inputs and outputs of a file of ours, and any batch."""
    interface = source.interface
    b = Builder(model, "adopted")
    inputs = _new_inputs(source)
    _feed(model, b, signature, inputs, interface.n_classes, 1)
    for node in reversed(b.nodes):
        model.graph.insert_before(model.graph[0], node)
    out = Builder(model, "image")
    image = _image(out, _output(model, signature), signature, (-1, *interface.image))
    _finish(model, out, inputs, image, source)


def _one_by_one(model: ir.Model, source: Source, signature: Signature) -> None:
    """As `_around`, the graph in a Scan that feeds it one latent at a time, as often as its batch is large."""
    graph, (c, h, w), size = model.graph, source.interface.image, signature.fixed_batch or 1
    body = Builder(model, "adopted")
    rows = {"z": ir.val("z_row", ir.DataType.FLOAT, [source.interface.z_dim])}
    if source.interface.n_classes:
        rows["label"] = ir.val("label_row", ir.DataType.INT64, [])
    alike = {name: body.reshape(row, 1, -1) if name == "z" else body.reshape(row, 1) for name, row in rows.items()}
    if size > 1:
        alike = {
            name: body.op("Expand", value, body.ints(size, *([source.interface.z_dim] if name == "z" else [])))
            for name, value in alike.items()
        }
    _feed(model, body, signature, alike, source.interface.n_classes, size)
    end = Builder(model, "row")
    image = _image(end, _output(model, signature), signature, (size, c, h, w))
    if size > 1:
        image = end.op("Slice", image, end.ints(0), end.ints(1), end.ints(0))
    image = end.reshape(image, c, h, w)
    nodes = list(graph)
    graph.remove(nodes)
    inner = ir.Graph(list(rows.values()), [image], nodes=[*body.nodes, *nodes, *end.nodes], name="one_image")
    inputs, out = _new_inputs(source), Builder(model, "image")
    attributes = {"body": inner, "num_scan_inputs": len(inputs)}
    _finish(model, out, inputs, out.op("Scan", *inputs.values(), **attributes), source)


def _new_inputs(source: Source) -> dict[str, ir.Value]:
    inputs = {"z": ir.val("z", ir.DataType.FLOAT, [BATCH, source.interface.z_dim])}
    if source.interface.n_classes:
        inputs["label"] = ir.val("label", ir.DataType.INT64, [BATCH])
    return inputs


def _feed(
    model: ir.Model, b: Builder, signature: Signature, inputs: dict[str, ir.Value], n_classes: int, batch: int
) -> None:
    """Puts what is made of `z` (n, z_dim) and `label` (n,) in the place of the graph's own inputs, constants too."""
    given: dict[str, ir.Value] = {signature.z: b.reshape(inputs["z"], -1, *signature.z_shape)}
    if signature.z_dtype != "float32":
        given[signature.z] = b.op("Cast", given[signature.z], to=_TYPES[signature.z_dtype])
    if signature.label is not None:
        label, dtype = inputs["label"], np.dtype(signature.label_dtype)
        if dtype.kind == "f":
            given[signature.label] = b.op("OneHot", label, b.ints(n_classes), b.constant(np.array([0, 1], dtype)))
        else:
            given[signature.label] = b.reshape(label, -1, *signature.label_shape)
            if dtype != np.int64:
                given[signature.label] = b.op("Cast", given[signature.label], to=_TYPES[signature.label_dtype])
    for each in signature.constants:
        shape = [batch if side is None else side for side in each.shape]
        given[each.name] = b.constant(np.full(shape, each.value, each.dtype))
    for value in model.graph.inputs:
        name = (value.name or "").removesuffix("_of_the_original")
        value.replace_all_uses_with(given[value.name if value.name in given else name])
    model.graph.inputs.clear()


def _output(model: ir.Model, signature: Signature) -> ir.Value:
    names = (signature.image, f"{signature.image}_of_the_original")
    value = next(value for value in model.graph.outputs if value.name in names)
    value.shape = None  # that of the batch it was written with
    return value


def _image(b: Builder, value: ir.Value, signature: Signature, shape: tuple[int, ...]) -> ir.Value:
    """What the graph gives, as float32 of `shape`, which is (n or -1, C, H, W)."""
    _, c, h, w = shape
    if value.dtype != ir.DataType.FLOAT:
        value = b.op("Cast", value, to=ir.DataType.FLOAT)
    if signature.single:
        value = b.reshape(value, 1, *((h, w, c) if signature.layout == "NHWC" else (c, h, w)))
    if signature.layout == "NHWC":
        return b.op("Transpose", value, perm=[0, 3, 1, 2])
    return b.reshape(value, *shape) if signature.layout == "flat" else value


def _finish(model: ir.Model, b: Builder, inputs: dict[str, ir.Value], image: ir.Value, source: Source) -> None:
    """Makes `pixels` of `image` as `gan_export.source.PixelModule` does, and both the outputs of `model`."""
    (c, h, w), (black, white) = source.interface.image, source.interface.value_range
    named = b.op("Identity", image)
    shifted = b.op("Sub", named, b.constant(np.array(black, np.float32))) if black else named
    scaled = b.op("Mul", shifted, b.constant(np.array(255.0 / (white - black), np.float32)))
    floored = b.op("Floor", b.op("Add", scaled, b.constant(np.array(0.5, np.float32))))
    bounds = (b.constant(np.array(bound, np.float32)) for bound in (0, 255))
    bytes_NCHW = b.op("Cast", b.op("Clip", floored, *bounds), to=ir.DataType.UINT8)
    pixels = b.op("Transpose", bytes_NCHW, perm=[0, 2, 3, 1])
    for value, name, dtype, sides in (
        (named, "image", ir.DataType.FLOAT, (c, h, w)),
        (pixels, "pixels", ir.DataType.UINT8, (h, w, c)),
    ):
        value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape([BATCH, *sides])
    graph = model.graph
    graph.extend(b.nodes)
    graph.inputs.extend(inputs.values())
    graph.outputs.clear()
    graph.outputs.extend([named, pixels])
