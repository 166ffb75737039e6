"""A file without metadata is tried in a process of its own: what wants hours or 100 GB is stopped, in one line."""

from __future__ import annotations

import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gan_core.errors import ContractError
from gan_core.said import OnnxAnswers
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.probe import probe
from serve import onnx_files

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are Linux's")


def with_nodes(*nodes: onnx.NodeProto, **constants: np.ndarray) -> bytes:
    """A stranger's generator whose output also goes through `nodes`, from `active` to `bombed`."""
    proto = onnx_files.foreign(["batch", 7], ["batch", 3, 6, 6])
    last = proto.graph.node[-1]
    last.input[0] = "bombed"
    made = [*proto.graph.node[:-1], *nodes, last]
    del proto.graph.node[:]
    proto.graph.node.extend(made)
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    data: bytes = proto.SerializeToString()
    return data


def endless() -> bytes:
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go_on"]), helper.make_node("Tanh", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["", "yes", "active"], ["bombed"], body=body)
    return with_nodes(loop, yes=np.array(True))


def large(folded: bool) -> bytes:
    """100 GB, from a constant that opening the file would compute, or from the latent."""
    if folded:
        many = np.array([160_000, 160_000], np.int64)
        made = [helper.make_node("ConstantOfShape", ["many"], ["sides"])]
    else:
        many = np.array([25_000_000_000 // 7], np.int64)
        made = [helper.make_node("ReduceMax", ["active"], ["one"], keepdims=0),
                helper.make_node("Expand", ["one", "many"], ["sides"])]  # fmt: skip
    made += [
        helper.make_node("ReduceMean", ["sides"], ["mean"], keepdims=0),
        helper.make_node("Add", ["active", "mean"], ["bombed"]),
    ]
    return with_nodes(*made, many=many)


@pytest.mark.parametrize(
    "data",
    [pytest.param(endless(), marks=pytest.mark.slow), large(True), large(False)],  # until its seconds are over: 2 of 8
    ids=["endless", "folded", "drawn"],
)
def test_a_bomb_is_stopped(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan_serve.runtime.probe.MAX_CPU_S", 2)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
    with pytest.raises(ContractError, match="drawing its first image took over 2 s or 768 MiB of memory") as caught:
        OnnxGenerator(data, "cpu", where="m.onnx")
    assert caught.value.hint
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = time.process_time() - started + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert took < 5


def test_an_honest_file_is_not() -> None:
    found = probe(with_nodes(helper.make_node("Identity", ["active"], ["bombed"])), OnnxAnswers(), "m.onnx")
    assert (found.interface.image, found.interface.value_range) == ((3, 6, 6), (-1.0, 1.0))
