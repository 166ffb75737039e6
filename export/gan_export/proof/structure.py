"""What can be seen of a file without running it: its signature, and the nodes that make an export wrong."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from gan_core.contract import Contract
from gan_core.printable import is_utf8
from gan_export import torchscript_export as jit
from gan_export.artefact import image_metadata, model_metadata
from gan_export.proof import Check

SECTION = "structure"

RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
NORM_OPS = frozenset({"ReduceL2", "ReduceSumSquare", "LpNormalization"})
REPARAMETRISED = ("weight_g", "weight_v", "weight_orig", "weight_u", ".original", ".original0", ".original1")
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
TRAINING_ARGUMENT = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::alpha_dropout": 2, "aten::batch_norm": 5}
"""TorchScript's operators → position of their `train` argument."""
SCRIPT_NORM_OPS = ("aten::_weight_norm", "aten::linalg_vector_norm", "aten::linalg_norm", "aten::norm")

Shape = tuple[int | str, ...]


def check_onnx(path: str | os.PathLike[str], model: onnx.ModelProto, contract: Contract) -> list[Check]:
    """All checks that need only the graph. `path` is the file that `model` was read from (without external data)."""
    nodes = list(all_nodes(model))
    return [
        _checker(path, model),
        _signature("inputs", model.graph.input, expected_inputs(contract)),
        _signature("outputs", model.graph.output, expected_outputs(contract)),
        _symbolic_batch(model),
        _defaults(model, contract),
        _none("random ops", (_label(node) for node in nodes if node.op_type in RANDOM_OPS)),
        _none("training mode", (_label(node) for node in nodes if _in_training_mode(node, model))),
        _none("reparametrised weights", _reparametrised(model)),
        _none("external data", (t.name for t in model.graph.initializer if t.data_location == t.EXTERNAL)),
        _none("custom operators", (_label(node) for node in nodes if node.domain not in STANDARD_DOMAINS)),
        _none("traces of the machine", _traces(model, nodes)),
        _denotation(model, contract),
    ]


def expected_inputs(contract: Contract) -> dict[str, tuple[str, Shape]]:
    """Name → (element type, shape with a text for a symbolic dimension) of the inputs."""
    taken = contract.interface.input
    inputs: dict[str, tuple[str, Shape]] = {"z": ("float", ("batch", contract.interface.z_dim))}
    if taken is not None:
        _, height, width = contract.interface.input_shape
        sides: Shape = (height, width) if taken.fixed else ("height", "width")
        inputs = {"input": ("uint8", ("batch", *sides, taken.channels))}
    inputs |= {"label": ("int64", ("batch",))} if contract.interface.conditional else {}
    kinds = {np.dtype(np.bool_): "bool", np.dtype(np.float32): "float"}
    for name, option in contract.interface.options.items():
        inputs[name] = (kinds[option.row.dtype], (f"{name}_batch", *option.shape))
    return inputs


def expected_outputs(contract: Contract) -> dict[str, tuple[str, Shape]]:
    """As `expected_inputs`, of the outputs."""
    c, h, w = contract.interface.image
    taken = contract.interface.input
    shape: Shape = (h, w)
    if taken is not None and not taken.fixed:
        shape = ("height", "width") if taken.scale == 1 else ("out_height", "out_width")
    outputs: dict[str, tuple[str, Shape]] = {
        "image": ("float", ("batch", c, *shape)),
        "pixels": ("uint8", ("batch", *shape, c)),
    }
    if contract.interface.styles is not None:
        outputs["styles"] = ("float", ("batch", *contract.interface.options["w"].shape))
    return outputs


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the graph, of the graphs inside nodes, and of the model's functions."""
    pending: list[Iterable[onnx.NodeProto]] = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                if attribute.type == attribute.GRAPH:
                    pending.append(attribute.g.node)
                pending.extend(graph.node for graph in attribute.graphs)


def _checker(path: str | os.PathLike[str], model: onnx.ModelProto) -> Check:
    """onnx's own checker, with strict shape inference."""
    versions = ", ".join(f"opset {o.version}" for o in model.opset_import if o.domain in ("", "ai.onnx"))
    try:
        onnx.checker.check_model(os.fspath(path) if is_utf8(path) else model, full_check=True)
    except Exception as error:  # the checker and shape inference raise several classes of their own
        first = " ".join(str(error).split())
        return Check(SECTION, "ONNX checker", False, "refuses", "accepts", "", first[:160])
    return Check(SECTION, "ONNX checker", True, "accepts", "accepts", "", f"{versions}, IR {model.ir_version}")


def _signature(name: str, values: Iterable[onnx.ValueInfoProto], expected: dict[str, tuple[str, Shape]]) -> Check:
    found = {value.name: _type_of(value) for value in values}
    wrong = []
    for key in [*expected, *(key for key in found if key not in expected)]:
        if key not in found:
            wrong.append(f"{key} is missing")
        elif key not in expected:
            wrong.append(f"{key} should not be there")
        elif not _same_type(found[key], expected[key]):
            wrong.append(f"{key} is {_type_text(found[key])}, expected {_type_text(expected[key])}")
    if not wrong and list(found) != list(expected):
        wrong.append(f"in the order {', '.join(found)}")
    return Check(SECTION, name, not wrong, " ".join(found), " ".join(expected), "", "; ".join(wrong))


def _defaults(model: onnx.ModelProto, contract: Contract) -> Check:
    """The optional inputs are initialisers with the contract's values; the file's own ones are seen in its images."""
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    wrong = []
    for name, option in contract.interface.options.items():
        tensor = held.get(name)
        expected = option.row
        if tensor is not None and option.constant and tuple(tensor.dims) == expected.shape:
            expected = numpy_helper.to_array(tensor)
        if tensor is None or not np.array_equal(numpy_helper.to_array(tensor), expected):
            wrong.append(f"{name} is {'required' if tensor is None else 'another value'}, expected {option.default}")
    value = ", ".join(contract.interface.options) or "none"
    return Check(SECTION, "optional inputs", not wrong, value, "their defaults", "", "; ".join(wrong))


def _same_type(found: tuple[str, Shape], expected: tuple[str, Shape]) -> bool:
    """The batch may be symbolic or not here: `symbolic batch` is a check of its own."""
    return found[0] == expected[0] and found[1][1:] == expected[1][1:] and len(found[1]) == len(expected[1])


def _symbolic_batch(model: onnx.ModelProto) -> Check:
    """The batch is no number, neither in the signature nor in what the nodes make of it."""
    baked = []
    for value in (*model.graph.input, *model.graph.output, *_inferred_outputs(model)):
        shape = _type_of(value)[1]
        if shape and isinstance(shape[0], int):
            baked.append(f"{value.name} has {shape[0]}")
    value = "fixed" if baked else "symbolic"
    return Check(SECTION, "symbolic batch", not baked, value, "symbolic", "", "; ".join(dict.fromkeys(baked)))


def _inferred_outputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The outputs with the shapes that follow from the nodes, whatever the signature says of them."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        return list(onnx.shape_inference.infer_shapes(bare, data_prop=True).graph.output)
    except Exception:  # an invalid graph, which is the checker's to report
        return []


def _type_of(value: onnx.ValueInfoProto) -> tuple[str, Shape]:
    tensor = value.type.tensor_type
    element = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = tuple(d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in tensor.shape.dim)
    return element, shape


def _type_text(described: tuple[str, Shape]) -> str:
    return f"{described[0]} ({', '.join(map(str, described[1]))})"


def _in_training_mode(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    if node.op_type == "BatchNormalization":
        return any(a.name == "training_mode" and a.i for a in node.attribute)
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        for tensor in model.graph.initializer:
            if tensor.name == node.input[2]:
                return bool(numpy_helper.to_array(tensor))
        return True
    return False


def _reparametrised(model: onnx.ModelProto) -> Iterator[str]:
    """Leftovers of weight_norm and spectral_norm: their tensors, or norms taken of constants at run time."""
    for tensor in model.graph.initializer:
        if tensor.name.endswith(REPARAMETRISED):
            yield tensor.name
    varying = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if varying.intersection(node.input):
            varying.update(node.output)
        elif node.op_type in NORM_OPS:
            yield _label(node)


def _traces(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> Iterator[str]:
    """Parts that carry doc strings or an exporter's metadata, which hold stack traces with local paths."""
    for node in nodes:
        if node.doc_string or node.metadata_props:
            yield _label(node)
    for part, name in ((model.graph, "the graph"), (model, "the model")):
        if part.doc_string:
            yield name
    if model.graph.metadata_props:
        yield "the graph's metadata"


def _denotation(model: onnx.ModelProto, contract: Contract) -> Check:
    """The standard ONNX image denotation keys say what the contract says."""
    metadata, expected = model_metadata(model), image_metadata(contract)
    wrong = [f"{key} is {metadata.get(key)!r}" for key, value in expected.items() if metadata.get(key) != value]
    images = [v.name for v in model.graph.output if v.type.denotation == "IMAGE"]
    if images != ["image"]:
        wrong.append(f"{', '.join(images) or 'no output'} denoted IMAGE")
    value = "differs" if wrong else " ".join(expected.values())
    return Check(SECTION, "image denotation", not wrong, value, "as the contract", "", "; ".join(wrong))


def check_torchscript(module: Any, contract: Contract) -> list[Check]:
    """The checks of `check_onnx` that apply to a scripted module."""
    nodes = jit.all_nodes(module)
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    norms = [node.kind() for node in _on_constants(module, nodes) if node.kind().startswith(SCRIPT_NORM_OPS)]
    leftovers = [name for name in names if name.endswith(REPARAMETRISED)]
    training = [node.kind() for node in nodes if _trains(node)]
    training += ["the module"] * bool(getattr(module, "training", False))  # a frozen module has no mode
    devices = sorted({str(tensor.device) for tensor in jit.constants(module)} - {"cpu"})
    return [
        _script_inputs(module, contract),
        _script_outputs(module),
        _none("random ops", (node.kind() for node in nodes if jit.draws_numbers(node.kind()))),
        _none("training mode", training),
        _none("reparametrised weights", leftovers + norms),
        _none("tensors off the CPU", devices),
    ]


def _script_inputs(module: Any, contract: Contract) -> Check:
    expected = ["z", "label"] if contract.interface.conditional else ["z"]  # an image, too, is the module's z
    found = [value.debugName().split(".")[0] for value in module.graph.inputs()][1:]
    detail = "" if found == expected else f"takes {', '.join(found)}"
    return Check(SECTION, "inputs", found == expected, " ".join(found), " ".join(expected), "", detail)


def _script_outputs(module: Any) -> Check:
    types = [output.type() for output in module.graph.outputs()]
    pair = len(types) == 1 and types[0].kind() == "TupleType" and len(types[0].elements()) == 2
    found = "two tensors" if pair else " ".join(map(str, types))
    return Check(SECTION, "outputs", pair, found, "two tensors", "", "image, pixels")


def _trains(node: Any) -> bool:
    position = TRAINING_ARGUMENT.get(node.kind())
    return position is not None and bool(list(node.inputs())[position].toIValue())


def _on_constants(module: Any, nodes: list[Any]) -> list[Any]:
    """The nodes that see neither a latent nor a label."""
    varying = {value.debugName() for value in list(module.inlined_graph.inputs())[1:]}
    constant = []
    for node in nodes:
        if any(value.debugName() in varying for value in node.inputs()):
            varying.update(value.debugName() for value in node.outputs())
        else:
            constant.append(node)
    return constant


def _none(name: str, found: Iterable[str]) -> Check:
    names = list(found)
    return Check(SECTION, name, not names, len(names) or "none", "none", "", ", ".join(names[:3]))


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name}".strip()
