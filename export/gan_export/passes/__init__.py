"""Graph passes on `onnx_ir`: each does one thing, in place where it can, and says whether it changed the model.

Here are those that change no number, and `PASSES`, which every optimised export gets.

The names of those that did are stamped into the artefact (`gan.passes`). Each has a test that shows it exact on random
shapes. Tensors are shared between a model and its clones, and with torch's module: no pass writes into one.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from gan_export.passes.folding import FoldConstants, FoldNorms
from gan_export.passes.graph import drop_unused, maker_of, nodes_of, scalar

Passes = Mapping[str, ir.passes.PassBase]
Range = tuple[float, float]

PRODUCER = "ganport"
GRAPH_NAME = "generator"
BATCH = "batch"
RANGES = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0)}
"""What an activation gives, up to rounding."""
MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace", "Identity"})
ROUNDING = 0.25
"""How far rounding may move a value on the scale of pixels; the real amount is a thousandth of that."""


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
    """Calls the first, symbolic size of an input or output "batch"; whether it was called something else. An optional
    input keeps the name of its own."""
    if value.is_initializer() or value.shape is None or not len(value.shape) or isinstance(value.shape[0], int):
        return False
    called = value.shape[0].value
    if called is None or called == BATCH:
        return False
    shape = value.shape.copy()
    shape[0] = BATCH
    value.shape = shape
    return True


class PlainCast(ir.passes.InPlacePass):
    """Drops Floor and Clip before a Cast to uint8 that does without. Exact."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for cast in nodes_of(model, "Cast"):
            clip = maker_of(cast.inputs[0], "Clip")
            if clip is None or cast.attributes.get_int("to") != ir.DataType.UINT8 or not _within_uint8(clip):
                continue
            floor = maker_of(clip.inputs[0], "Floor")
            if floor is not None:
                clip.replace_input_with(0, floor.inputs[0])
                modified |= _removed(floor)
            reached = _range(clip.inputs[0])
            if reached is not None and reached[0] >= ROUNDING and reached[1] <= 256 - ROUNDING:
                cast.replace_input_with(0, clip.inputs[0])
                modified |= _removed(clip)
        return ir.passes.PassResult(model, modified)


def _removed(node: ir.Node) -> bool:
    assert node.graph is not None
    node.graph.remove(node, safe=True)
    return True


def _within_uint8(clip: ir.Node) -> bool:
    bounds = [scalar(value) for value in clip.inputs[1:]]
    if len(bounds) != 2 or bounds[0] is None or bounds[1] is None:
        return False
    return 0 <= bounds[0] <= bounds[1] <= 255


def _range(value: ir.Value | None) -> Range | None:
    """What `value` reaches, where a bounded activation and sums and products with one number make it."""
    factor, offset = 1.0, 0.0  # the value is factor · what this has come back to + offset
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in RANGES:
            low, high = sorted(factor * end + offset for end in RANGES[node.op_type])
            return low, high
        if node.op_type not in MOVES:
            number = scalar(node.inputs[1]) if node.op_type in ("Add", "Sub", "Mul") else None
            if number is None:
                return None
            if node.op_type == "Mul":
                factor *= number
            else:
                offset += factor * (number if node.op_type == "Add" else -number)
        value = node.inputs[0]
    return None


TIDY: Passes = {
    "drop_unused": drop_unused,
    "strip_traces": StripTraces(),
    "canonical_names": CanonicalNames(),
}
"""Change no number: the stock graph, readable and free of the machine it was made on."""

STOCK: Passes = {"fold_constants": FoldConstants(), **TIDY}
"""What the stock graph gets: no weights are left that it computes of others at every run."""

PASSES: Passes = {"fold_constants": FoldConstants(), "fold_norms": FoldNorms(), **TIDY}
"""What every optimised export gets first; what is a matter of the machine is chosen in `gan_export.onnx_export`."""


def run_passes(model: ir.Model, passes: Passes = PASSES) -> tuple[ir.Model, tuple[str, ...]]:
    """`model`, changed by every pass in turn, and the names of those that changed it."""
    applied = []
    for name, run in passes.items():
        result = run(model)
        model = result.model
        if result.modified:
            applied.append(name)
    return model, tuple(applied)
