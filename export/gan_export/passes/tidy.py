"""Passes that change no number: dead parts removed, traces of the exporter removed, names made canonical."""

from __future__ import annotations

import onnx

from gan_export.passes.graph import copy_of, has_subgraphs

PRODUCER = "ganport"
GRAPH_NAME = "generator"
BATCH = "batch"


def drop_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` without the nodes and initialisers that no output needs."""
    model = copy_of(model)
    graph = model.graph
    if has_subgraphs(graph):
        return model
    needed = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = list(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model


def strip_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` without doc strings, node metadata, intermediate shapes and the exporter's own metadata.

    torch writes stack traces (with the paths of this machine), class names and the whole FX graph there.
    """
    model = copy_of(model)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    return model


def canonical_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with nodes, inner values and the graph named by position: names carry no counters of the exporter's.

    Initialisers keep the state_dict's names, less the wrapper's prefix; inputs and outputs keep theirs.
    """
    model = copy_of(model)
    graph = model.graph
    model.producer_name, model.producer_version = PRODUCER, ""
    graph.name = GRAPH_NAME
    for value in (*graph.input, *graph.output):
        for batch in value.type.tensor_type.shape.dim[:1]:
            if batch.HasField("dim_param"):
                batch.dim_param = BATCH
    if has_subgraphs(graph):
        return model
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    for index, tensor in enumerate(graph.initializer):
        short = tensor.name.removeprefix("generator.")
        names[tensor.name] = short if "." in short and short not in names.values() else f"constant_{index}"
        tensor.name = names[tensor.name]
    for index, node in enumerate(graph.node):
        node.name = f"{index:03d}_{node.op_type}"
        for position, output in enumerate(node.output):
            if output:
                names.setdefault(output, f"{node.name}_{position}")
        node.input[:] = [names[name] if name else "" for name in node.input]
        node.output[:] = [names[name] if name else "" for name in node.output]
    return model
