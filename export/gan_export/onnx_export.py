"""A `Source` as the ONNX model that is asked for: torch's dynamo exporter and its optimiser, then ganport's own passes.

The result keeps the artefact's signature (`gan_core.contract`), has its weights inside and says nothing of the
machine it was made on: the exporter leaves stack traces and module paths in every node's metadata. The same
checkpoint gives the same bytes.

Which form each part of a graph is to have is a matter of rule ("auto"), of measuring here ("tune"), or stays as it came
("none"). Merging upsampling with the convolution behind it saves work on CPUs in float32; there the kernels that it
needs are derived at loading, which runtimes do in no other precision, so that files of lower precision keep the two
apart. How a transposed convolution is written is a matter of the layer and of where the file runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from gan_core.errors import JobError
from gan_core.interface import Interface
from gan_core.process import causes, quiet
from gan_export.answers import DEFAULT_OPSET, OnnxOptions
from gan_export.passes import PASSES, STOCK, TIDY, Passes, PlainCast, StripTraces, run_passes
from gan_export.passes.blocked import KeepBlocks, PlainPRelu, ShuffleRuns
from gan_export.passes.few_channels import FewChannels
from gan_export.passes.layer import MergeUpsampling, layers
from gan_export.passes.rewrite import by_output, for_cpu, for_gpu, rewrite, to_convs, tuned
from gan_export.passes.winograd_conv import WinogradConvs
from gan_export.precision import measure_ranges
from gan_export.precision.float16 import StoreFloat16, to_float16
from gan_export.precision.int8 import to_int8
from gan_export.precision.movers import ActivationFirst
from gan_export.proof.reference import Reference
from gan_export.source import PixelModule, Source, example_inputs, export_module


@dataclass(frozen=True)
class Made:
    """The model, the names of the passes that changed it, and of the layers that stayed in float32."""

    model: ir.Model
    passes: tuple[str, ...]
    kept: tuple[str, ...] = ()


def make_onnx(reference: Reference, options: OnnxOptions) -> Made:
    """The model of `reference.source`, without metadata. `reference` says what lower precisions may lose.

    Raises `JobError` when torch cannot export the module, or no layer can be quantised.
    """
    model, passes = to_onnx(reference.source, options.opset, fold=options.optimize != "none")
    kept: tuple[str, ...] = ()
    model, applied = optimise(model, options.optimize, options.precision)
    passes += tuple(name for name in applied if name not in passes)
    if options.precision == "int8":
        model, kept = to_int8(ActivationFirst()(model).model, reference)
        passes += ("int8",)
    elif options.precision == "fp16":
        model, kept = to_float16(model, measure_ranges(model, reference.cases))
        passes += ("float16",)
    if options.store == "fp16":
        StoreFloat16()(model)
        passes += ("store_float16",)
    StripTraces()(model)  # what was inferred on the way
    return Made(model, passes, kept)


def optimise(model: ir.Model, mode: str, precision: str = "fp32") -> tuple[ir.Model, tuple[str, ...]]:
    """`model` optimised for where files of `precision` run, and the names of what changed it.

    "none" changes nothing. "tune" takes seconds: it times the forms on this machine. `model` itself may be changed on
    the way; the result draws the same images up to float32 rounding.
    """
    if mode == "none":
        return model, ()
    model, applied = run_passes(model, {"merge_upsampling": MergeUpsampling()} if precision == "fp32" else {})
    if precision == "int8":
        changed = to_convs(model)
        applied += ("to_convs",) if changed is not model else ()
    else:
        choice = _choose(model, mode, precision)
        changed = rewrite(model, by_output(choice))
        applied += tuple(dict.fromkeys(f"transposed_{form}" for form in choice.values() if form != "keep"))
    if precision == "fp32":
        changed, shorter = run_passes(changed, FOR_CPU)
        applied += shorter
    return run_passes(changed, TIDY)[0], applied


FOR_CPU: Passes = {
    "plain_prelu": PlainPRelu(),
    "shuffle_runs": ShuffleRuns(),
    "winograd_convs": WinogradConvs(),
    "few_channels": FewChannels(),
    "keep_blocks": KeepBlocks(),
    "plain_cast": PlainCast(),
}
"""What graphs in float32 get behind the forms of their transposed convolutions."""


def _choose(model: ir.Model, mode: str, precision: str) -> dict[str, str]:
    """The form of each layer, by the name of the layer's output."""
    if mode == "tune" and precision == "fp32":
        return tuned(model)
    rule = for_cpu if precision == "fp32" else for_gpu
    return {layer.output: rule(layer) for layer in layers(model)}


BATCH = "batch"
SMALL = 1e-6
"""Scalars below this are kept from onnxscript's optimiser, whose tolerance is 1e-8; the rest is for other versions."""


def to_onnx(source: Source, opset: int = DEFAULT_OPSET, *, fold: bool = True) -> tuple[ir.Model, tuple[str, ...]]:
    """The ONNX model of `source`, without metadata, and the names of the passes that changed it.

    Inputs `z` and, when conditional, `label`, or `input`; outputs `image` and `pixels`; the batch is symbolic. Without
    `fold` it is the exporter's graph, tidied and with the weights that it makes of others computed.
    Raises `JobError` when the exporter cannot follow the module.
    """
    module = export_module(source)
    try:
        model = _dynamo_export(module, source, opset)
        if _fixed_batch(model) and hasattr(module.generator, "symbolic"):
            setattr(module.generator, "symbolic", True)  # noqa: B010 (a plain attribute, which mypy takes for a part)
            model = _dynamo_export(module, source, opset)
    except Exception as error:
        raise _explain(error) from error
    if _fixed_batch(model):
        raise _baked()  # the exporter gives up the dynamic batch without a word
    _check_types(model)
    _make_optional(model, source)
    return run_passes(model, PASSES if fold else STOCK)


def _dynamo_export(module: PixelModule, source: Source, opset: int) -> ir.Model:
    arguments = example_inputs(source)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            dynamic_shapes=dynamic_shapes(arguments, source.interface),
            input_names=source.interface.inputs,
            output_names=source.interface.outputs,
            opset_version=opset,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    optimise_exactly(program)
    _name_sides(program.model, source.interface)
    return program.model


def dynamic_shapes(arguments: tuple[Any, ...], interface: Interface) -> tuple[Any, ...]:
    """The sizes of the arguments that vary, as torch.export wants them: those behind z together, if some are
    optional."""
    batch, taken = torch.export.Dim(BATCH, min=1), interface.input
    first, *others = [{0: batch} for _ in arguments]
    if taken is not None and not taken.fixed:
        least = taken.next_side(1) // taken.multiple_of
        sides = {axis: torch.export.Dim(name, min=least) for axis, name in ((1, "h"), (2, "w"))}
        first |= {axis: side if taken.multiple_of == 1 else taken.multiple_of * side for axis, side in sides.items()}
    return (first, tuple(others)) if interface.options else (first, *others)


def _make_optional(model: ir.Model, source: Source) -> None:
    """Gives the optional inputs their defaults, one row for all images, and a first size of their own. Nodes that look
    at one for the number of images look at z."""
    module: Any = source.module
    for value in model.graph.inputs:
        option = source.interface.options.get(value.name or "")
        if option is not None:
            for use in [use for use in value.uses() if use.node.op_type == "Shape"]:
                use.node.replace_input_with(use.idx, model.graph.inputs[0])
            default = module.noise_maps().detach().numpy() if option.constant else option.row
            value.const_value = ir.tensor(default, name=value.name)
            value.shape = ir.Shape([f"{value.name}_batch", *option.shape])
            model.graph.register_initializer(value)


def _name_sides(model: ir.Model, interface: Interface) -> None:
    """Gives the symbolic sides of images plain names, for what the exporter derives them from."""
    if interface.input is None or interface.input.fixed:
        return
    c, (given, *_), (image, pixels, *_) = interface.channels, model.graph.inputs, model.graph.outputs
    sides = ["height", "width"] if interface.input.scale == 1 else ["out_height", "out_width"]
    given.shape = ir.Shape([BATCH, "height", "width", interface.input.channels])
    image.shape, pixels.shape = ir.Shape([BATCH, c, *sides]), ir.Shape([BATCH, *sides, c])
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value is not image and value is not pixels and _derived(value):
                value.shape = None


def _derived(value: ir.Value) -> bool:
    """Whether its shape holds an expression of the sides' old names."""
    return value.shape is not None and any(isinstance(side, ir.SymbolicDim) for side in value.shape[1:])


def _fixed_batch(model: ir.Model) -> bool:
    return any(value.shape is not None and isinstance(value.shape[0], int) for value in model.graph.inputs)


def _check_types(model: ir.Model) -> None:
    """Raises `JobError` for a graph that computes in bfloat16, for which onnxruntime has no kernels on CPUs."""
    casts = {node.attributes.get_int("to") for node in model.graph.all_nodes() if node.op_type == "Cast"}
    if ir.DataType.BFLOAT16 in casts | {value.dtype for value in model.graph.initializers.values()}:
        raise JobError(
            "the generator computes in bfloat16 in its forward, which no runtime has on CPUs; expected float32",
            hint="take .bfloat16(), torch.bfloat16 and autocast out of the forward, or choose float32 with `args`",
        )


def _explain(error: Exception) -> JobError:
    """One line for the failures that have a known cause; the exporter's own messages run to pages."""
    text = "\n".join(str(cause) for cause in causes(error))
    if "data-dependent" in text or "GuardOnDataDependent" in text:
        return JobError(
            "the generator's forward branches on values, which a graph cannot",
            hint="write the branch with torch.where, or fix the choice before the export",
        )
    first = causes(error)[-1]
    lines = str(first).strip().splitlines() or ["no message"]
    return JobError(
        f"torch.onnx cannot export this generator: {type(first).__name__}: {lines[0][:200]}",
        hint="run again with `debug` for the exporter's own report",
    )


def _baked() -> JobError:
    return JobError(
        "the generator bakes in its batch size: its forward makes the batch a number that it was traced with",
        hint="reshape with -1 or z.shape[0] for the batch, write a loop over the images for all of them at once, "
        "and let nothing else depend on it; then export again",
    )


def optimise_exactly(program: Any) -> None:
    """Runs `program.optimize()` in place (a `torch.onnx.ONNXProgram`); scalars in 0 < |x| < SMALL stay as they are.

    onnxscript's rule `x + 0 → x` compares the constant with an absolute tolerance of 1e-8 (`Constant` in onnxscript/
    rewriter/_pattern_ir.py), and so takes `x + 1e-8` for x: latents of zero, which a PixelNorm divides by their root
    mean square, then give NaN. While the optimiser runs, such scalars are inputs: no rule knows an input's value.
    """
    graph = program.model.graph
    inputs = len(graph.inputs)
    tensors = [*_hide_initialisers(graph), *_hide_constants(graph)]
    program.optimize()
    graph = program.model.graph
    hidden = list(graph.inputs[inputs:])
    del graph.inputs[inputs:]
    for value, tensor in zip(hidden, tensors, strict=True):
        value.const_value = tensor
        if value.uses():
            graph.register_initializer(value)


def _hide_initialisers(graph: ir.Graph) -> Iterator[ir.TensorProtocol]:
    """Makes every small initialiser an input. Yields their tensors, in the order of the inputs."""
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and _small(tensor) and not value.is_graph_input():
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
            yield tensor


def _hide_constants(graph: ir.Graph) -> Iterator[ir.TensorProtocol]:
    """Replaces every small Constant, in inner graphs too, by an input: one for all of one type and value."""
    known: dict[tuple[ir.DataType, int, bytes], ir.Value] = {}
    for node in graph.all_nodes():
        value = node.outputs[0]
        if node.op_type != "Constant" or node.domain or value.is_graph_output():
            continue
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is None or not _small(tensor):
            continue
        key = (tensor.dtype, len(tensor.shape), tensor.tobytes())
        new = key not in known
        if new:
            known[key] = ir.val(f"small_constant_{len(known)}", dtype=tensor.dtype, shape=tensor.shape.numpy())
            graph.inputs.append(known[key])
        value.replace_all_uses_with(known[key])
        if new:
            yield tensor


def _small(tensor: ir.TensorProtocol) -> bool:
    return tensor.size == 1 and tensor.dtype.is_floating_point() and bool(0 < abs(float(tensor.numpy().item())) < SMALL)
