"""Whether what a file says of itself is true: its contract against the source, its spec against its weights, and
whether it computes in, and keeps its weights in, the type that its contract names."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace

import onnx
from onnx import TensorProto

from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.interface import Interface
from gan_core.spec.generator_spec import GeneratorSpec
from gan_export.proof.report import Check, at_most
from gan_export.source import Source

SECTION = "structure"
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
OVERHEAD_BYTES = 1 << 20
"""What graph, contract and golden set may add to the weights."""


def check_contract(contract: Contract, source: Source | None, graph_sha256: str = "") -> Check:
    """The contract says what the source is, or without one at least what its own spec says.

    graph_sha256  the digest of the file's graph, which the contract has to name where it names one
    """
    wrong = []
    if contract.graph_sha256 not in ("", graph_sha256):
        wrong.append("its graph was changed after the export (sha256)")
    if source is not None:
        wrong += _differences(contract.interface, source.interface, "the checkpoint's is")
        if contract.weights != source.weights:
            wrong.append(f"weights is {contract.weights}, the checkpoint's is {source.weights}")
        if contract.spec != (source.spec.to_json() if source.spec else None):
            wrong.append("spec differs from the checkpoint's")
        if contract.source.get("sha256") != source.provenance.get("sha256"):
            wrong.append("made from another file than this checkpoint (sha256)")
    try:
        spec = _spec(contract)
    except GanportError as error:
        wrong.append(f"its spec does not read: {error}")
    else:
        if spec is not None:
            unnamed = replace(contract.interface, class_names=spec.interface.class_names)
            wrong += _differences(unnamed, spec.interface, "its spec says")
    value = "agrees" if not wrong else "differs"
    return Check(SECTION, "contract", not wrong, value, "agrees", "", "; ".join(wrong[:3]))


def _differences(found: Interface, expected: Interface, says: str) -> list[str]:
    pairs = zip(asdict(found).items(), asdict(expected).values(), strict=True)
    return [f"{name} is {value}, {says} {other}" for (name, value), other in pairs if value != other]


def check_spec_weights(contract: Contract, sizes: Iterable[tuple[str, int]]) -> Check:
    """Every weight matrix and kernel that the spec names is in the file: by its number of elements, or, where a pass
    wrote it in another shape, by tensors named after it.

    Vectors are left out: folding a BatchNorm removes them. `sizes` are names and element counts of the file's tensors.
    """
    tensors = list(sizes)
    try:
        spec = _spec(contract)
    except GanportError:
        spec = None
    if spec is None:
        return Check(SECTION, "spec fits weights", True, "no spec", "", "", "a live module")
    wanted = {name: math.prod(shape) for name, shape in spec.tensors().items() if len(shape) >= 2}
    named = {name: [found for found in tensors if found[0].startswith(f"{name}.")] for name in wanted}
    available = Counter(size for _, size in tensors) - Counter(size for found in named.values() for _, size in found)
    missing = []
    for name, size in wanted.items():
        if not named[name]:
            missing += [name] * (available[size] <= 0)
            available[size] -= 1
    value = f"{len(wanted) - len(missing)} of {len(wanted)}"
    return Check(SECTION, "spec fits weights", not missing, value, "all", "tensors", ", ".join(missing[:3]))


def check_size(size_bytes: int, weight_bytes: int) -> Check:
    """The file is about as large as its weights: nothing was written twice."""
    limit, weights = int(weight_bytes * 1.05) + OVERHEAD_BYTES, f"weights {weight_bytes / 1e6:.3g} MB"
    return at_most(SECTION, "file size", round(size_bytes / 1e6, 3), limit / 1e6, "MB", weights)


def check_precision(contract: Contract, model: onnx.ModelProto | None) -> list[Check]:
    """For a file of lower precision, or with its weights rounded: what computes in which type, and what it weighs.

    `model` is None for a file that is not ONNX; only ONNX files are offered in anything but fp32.
    """
    if model is None or (contract.precision, contract.store) == ("fp32", "fp32"):
        return []
    checks = []
    if contract.precision != "fp32":
        types = layer_types(model)
        count, total = types[contract.precision], sum(types.values())
        kept = ", ".join(contract.kept_fp32)
        detail = f"in float32: {kept}" if kept else ""
        name = f"layers in {contract.precision}"
        checks.append(Check("precision", name, count > 0, count, ">= 1", f"of {total}", detail))
    if contract.store == "fp16":
        full = max((_bytes(t) for t in model.graph.initializer if _is_matrix(t)), default=0)
        found = sum(1 for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16)
        checks.append(Check("precision", "weights in fp16", found > 0 or full == 0, found, ">= 1", "tensors"))
    sizes: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        sizes[TensorProto.DataType.Name(tensor.data_type).lower()] += _bytes(tensor)
    shares = ", ".join(f"{name} {size / 1e6:.3g} MB" for name, size in sizes.most_common() if size >= 1000)
    checks.append(Check("precision", "weights", True, round(sum(sizes.values()) / 1e6, 3), "", "MB", shares))
    return checks


def layer_types(model: onnx.ModelProto) -> Counter[str]:
    """How many layers (Conv, ConvTranspose, Gemm, MatMul) compute in "fp32", "fp16" and "int8"."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            maker = makers.get(node.input[1])
            if maker is not None and maker.op_type == "DequantizeLinear":
                found["int8"] += 1
            elif types.get(node.input[1]) == TensorProto.FLOAT16 or node.input[1].endswith(".fp16"):
                found["fp16"] += 1
            else:
                found["fp32"] += 1
    return found


def _spec(contract: Contract) -> GeneratorSpec | None:
    return None if contract.spec is None else GeneratorSpec.from_json(contract.spec)


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) >= 2 and tensor.data_type == TensorProto.FLOAT


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(tensor.ByteSize())
