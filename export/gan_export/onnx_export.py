"""A `Source` as an ONNX graph: torch's dynamo exporter and its optimiser, then ganport's own passes.

The result keeps the artefact's signature (`gan_core.contract`), has its weights inside and says nothing of the
machine it was made on: the exporter leaves stack traces and module paths in every node's metadata. The same
checkpoint gives the same bytes.
"""

from __future__ import annotations

import onnx
import torch
from onnx import TensorProto

from gan_core.errors import JobError
from gan_core.process import causes
from gan_export.opsets import DEFAULT_OPSET, check_opset
from gan_export.passes import PASSES, STOCK, run_passes
from gan_export.quiet import quiet
from gan_export.small_constants import optimise_exactly
from gan_export.source import Source
from gan_export.wrapper import PixelModule, example_inputs, export_module

BATCH = "batch"


def to_onnx(
    source: Source, opset: int = DEFAULT_OPSET, *, fold: bool = True
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The ONNX model of `source`, without metadata, and the names of the passes that changed it.

    Inputs `z` and, when conditional, `label`; outputs `image` and `pixels`; the batch is symbolic. Without `fold` it is
    the exporter's graph, tidied and with the weights that it makes of others computed.
    Raises `GanportError` for an opset out of range, `JobError` when the exporter cannot follow the module.
    """
    check_opset(opset)
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
    return run_passes(model, PASSES if fold else STOCK)


def _dynamo_export(module: PixelModule, source: Source, opset: int) -> onnx.ModelProto:
    arguments = example_inputs(source)
    batch = torch.export.Dim(BATCH, min=1)
    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in arguments),
            input_names=["z", "label"][: len(arguments)],
            output_names=["image", "pixels"],
            opset_version=opset,
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    optimise_exactly(program)
    return program.model_proto


def _fixed_batch(model: onnx.ModelProto) -> bool:
    return any(value.type.tensor_type.shape.dim[0].HasField("dim_value") for value in model.graph.input)


def _check_types(model: onnx.ModelProto) -> None:
    """Raises `JobError` for a graph that computes in bfloat16, for which onnxruntime has no kernels on CPUs."""
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    to = {attribute.i for node in casts for attribute in node.attribute if attribute.name == "to"}
    if TensorProto.BFLOAT16 in to | {tensor.data_type for tensor in model.graph.initializer}:
        raise JobError(
            "the generator computes in bfloat16 in its forward, which no runtime has on CPUs; expected float32",
            hint="take .bfloat16(), torch.bfloat16 and autocast out of the forward, or choose float32 with --args",
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
        hint="run again with --debug for the exporter's own report",
    )


def _baked() -> JobError:
    return JobError(
        "the generator bakes in its batch size: its forward makes the batch a number that it was traced with",
        hint="reshape with -1 or z.shape[0] for the batch, write a loop over the images for all of them at once, "
        "and let nothing else depend on it; then export again",
    )
