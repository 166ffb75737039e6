"""Passes that change no number: traces of the exporter removed, names made canonical."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

PRODUCER = "ganport"
GRAPH_NAME = "generator"
BATCH = "batch"


class StripTraces(ir.passes.InPlacePass):
    """Removes doc strings, metadata, and the types and shapes of inner values.

    torch writes stack traces (with the paths of this machine), class names and the whole FX graph there.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = common.ClearMetadataAndDocStringPass()(model).modified
        graph = model.graph
        ports = {*graph.inputs, *graph.outputs}
        inner = [value for node in graph.all_nodes() for value in node.outputs if value not in ports]
        inner += [value for value in graph.initializers.values() if value not in ports]
        parts: list[ir.Model | ir.Graph | ir.Value] = [model, graph, *ports, *inner]
        for part in parts:
            modified |= bool(part.doc_string or part.metadata_props)
            part.doc_string = None
            part.metadata_props.clear()
        for value in inner:  # which other passes write there, too: no trace of anything
            value.type = value.shape = None
        return ir.passes.PassResult(model, modified)


class CanonicalNames(ir.passes.InPlacePass):
    """Names nodes, inner values and the graph by position: names carry no counters of the exporter's.

    Initialisers keep the state_dict's names, less the wrapper's prefix; inputs and outputs keep theirs.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        modified = (model.producer_name, model.producer_version, graph.name) != (PRODUCER, None, GRAPH_NAME)
        model.producer_name, model.producer_version, graph.name = PRODUCER, None, GRAPH_NAME
        ports = [*graph.inputs, *graph.outputs]
        for value in ports:
            modified |= _name_batch(value)
        names = {value: value.name or "" for value in ports}
        for index, value in enumerate(v for v in graph.initializers.values() if v not in names):
            short = (value.name or "").removeprefix("generator.")
            names[value] = short if "." in short and short not in names.values() else f"constant_{index}"
        inner = [value for part in graph.subgraphs() for value in (*part.inputs, *part.initializers.values())]
        names.update((value, f"inner_{index}") for index, value in enumerate(inner))
        for index, node in enumerate(graph.all_nodes()):
            title = f"{index:03d}_{node.op_type}"
            modified |= node.name != title
            node.name = title
            for position, value in enumerate(node.outputs):
                if value.name:
                    names.setdefault(value, f"{title}_{position}")
        modified |= any(value.name != name for value, name in names.items())
        ir.convenience.rename_values(list(names), list(names.values()))
        return ir.passes.PassResult(model, modified)


def _name_batch(value: ir.Value) -> bool:
    """Calls the first, symbolic size of an input or output "batch"; whether it was called something else."""
    if value.shape is None or not len(value.shape) or isinstance(value.shape[0], int):
        return False
    called = value.shape[0].value
    if called is None or called == BATCH:
        return False
    shape = value.shape.copy()
    shape[0] = BATCH
    value.shape = shape
    return True
