"""Weights saved as float16 in a graph that computes in float32: half the file.

Behind each weight stands a Cast to float32, which runtimes compute once, when they load the file: the images are drawn
as fast as before, from weights that are rounded to 11 bits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gan_export.passes.graph import copy_of

FLOAT16_MAX = 65504.0
LEAST_ELEMENTS = 64
"""A smaller tensor would save less than its Cast takes."""
STORED = ".stored"


def store_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its float32 matrices and kernels saved as float16.

    Vectors (biases, norms, scales) stay: they weigh nothing. So do tensors with a value that float16 cannot hold.
    """
    model = copy_of(model)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        value = numpy_helper.to_array(tensor)
        if value.size < LEAST_ELEMENTS or not np.abs(value).max() < FLOAT16_MAX:  # NaN is for the proof to find
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}{STORED}"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node)]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
