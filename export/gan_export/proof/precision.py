"""Whether a file computes in, and keeps its weights in, what its contract says: not in name only."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import TensorProto

from gan_core.contract import Contract
from gan_export.proof.report import Check

SECTION = "precision"
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


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
        checks.append(Check(SECTION, name, count > 0, count, ">= 1", f"of {total}", detail))
    if contract.store == "fp16":
        full = max((_bytes(t) for t in model.graph.initializer if _is_matrix(t)), default=0)
        found = sum(1 for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16)
        checks.append(Check(SECTION, "weights in fp16", found > 0 or full == 0, found, ">= 1", "tensors"))
    sizes: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        sizes[TensorProto.DataType.Name(tensor.data_type).lower()] += _bytes(tensor)
    shares = ", ".join(f"{name} {size / 1e6:.3g} MB" for name, size in sizes.most_common() if size >= 1000)
    checks.append(Check(SECTION, "weights", True, round(sum(sizes.values()) / 1e6, 3), "", "MB", shares))
    return checks


def layer_types(model: onnx.ModelProto) -> Counter[str]:
    """How many layers (Conv, ConvTranspose, Gemm, MatMul) compute in "fp32", "fp16" and "int8"."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    found: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type in LAYERS:
            maker = makers.get(node.input[1])
            if maker is not None and maker.op_type == "DequantizeLinear":
                found["int8"] += 1
            elif types.get(node.input[1]) == TensorProto.FLOAT16 or node.input[1].endswith(".fp16"):
                found["fp16"] += 1
            else:
                found["fp32"] += 1
    return found


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    return len(tensor.dims) >= 2 and tensor.data_type == TensorProto.FLOAT


def _bytes(tensor: onnx.TensorProto) -> int:
    return int(tensor.ByteSize())
