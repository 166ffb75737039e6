"""What can be seen of a TorchScript file without running it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gan_core.contract import Contract
from gan_export import jit
from gan_export.proof.report import Check

SECTION = "structure"

_TRAINING_ARGUMENT = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::alpha_dropout": 2, "aten::batch_norm": 5}
"""Operator → position of its `train` argument."""
_NORM_OPS = ("aten::_weight_norm", "aten::linalg_vector_norm", "aten::linalg_norm", "aten::norm")
_REPARAMETRISED = ("weight_g", "weight_v", "weight_orig", "weight_u", "original", "original0", "original1")


def check_torchscript(module: Any, contract: Contract) -> list[Check]:
    """The checks of `gan_export.proof.structure` that apply to a scripted module."""
    nodes = jit.all_nodes(module)
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers())]
    norms = [node.kind() for node in _on_constants(module, nodes) if node.kind().startswith(_NORM_OPS)]
    leftovers = [name for name in names if name.endswith(_REPARAMETRISED)]
    training = [node.kind() for node in nodes if _trains(node)]
    training += ["the module"] * bool(getattr(module, "training", False))  # a frozen module has no mode
    devices = sorted({str(tensor.device) for tensor in jit.constants(module)} - {"cpu"})
    return [
        _inputs(module, contract),
        _outputs(module),
        _none("random ops", (node.kind() for node in nodes if jit.draws_numbers(node.kind()))),
        _none("training mode", training),
        _none("reparametrised weights", leftovers + norms),
        _none("tensors off the CPU", devices),
    ]


def _inputs(module: Any, contract: Contract) -> Check:
    expected = ["z", "label"] if contract.conditional else ["z"]
    found = [value.debugName().split(".")[0] for value in module.graph.inputs()][1:]
    detail = "" if found == expected else f"takes {', '.join(found)}"
    return Check(SECTION, "inputs", found == expected, " ".join(found), " ".join(expected), "", detail)


def _outputs(module: Any) -> Check:
    types = [output.type() for output in module.graph.outputs()]
    pair = len(types) == 1 and types[0].kind() == "TupleType" and len(types[0].elements()) == 2
    found = "two tensors" if pair else " ".join(map(str, types))
    return Check(SECTION, "outputs", pair, found, "two tensors", "", "image, pixels")


def _trains(node: Any) -> bool:
    position = _TRAINING_ARGUMENT.get(node.kind())
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
