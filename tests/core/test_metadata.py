"""What is read of an ONNX file without onnx: the same as onnx reads, from any file that is whole, and nothing else."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gan_core.errors import ContractError
from gan_core.files import metadata
from gan_core.files.metadata import check_external, graph_sha256, read_onnx_text
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.runtimes import DEFAULT_MODEL
from serve import onnx_files


def test_it_reads_what_onnx_reads() -> None:
    text, proto = read_onnx_text(DEFAULT_MODEL), onnx.load(DEFAULT_MODEL)
    assert text.metadata == {pair.key: pair.value for pair in proto.metadata_props}
    assert text.operators == {node.op_type for node in proto.graph.node}
    assert [str(port) for port in text.inputs] == ["z (?, 64)", "label (?)"]
    assert [str(port) for port in text.outputs] == ["image (?, 1, 32, 32)", "pixels (?, 32, 32, 1)"]
    assert [port.type for port in text.outputs] == ["tensor(float)", "tensor(uint8)"]
    assert text.precision == "fp16"
    assert not text.external


def test_graphs_in_nodes_and_functions_are_read() -> None:
    proto = onnx_files.ours()
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(3, np.float16)))
    inner = helper.make_graph([helper.make_node("QuantizeLinear", ["a", "b"], ["c"]), constant], "g", [], [])
    proto.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner))
    proto.functions.append(helper.make_function("d", "F", [], [], [helper.make_node("Loop", [], [])], []))
    proto.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, [4, 90]))  # an initialiser
    text = read_onnx_text(proto.SerializeToString())
    assert {"If", "QuantizeLinear", "Loop", "Tanh"} <= text.operators
    assert text.float16
    assert text.precision == "int8"
    assert [port.name for port in text.inputs] == ["z"]


def test_the_digest_is_of_all_but_the_metadata() -> None:
    proto = onnx_files.ours()
    found = graph_sha256(proto.SerializeToString())
    bare = onnx_files.ours()
    del bare.metadata_props[:]
    assert found == hashlib.sha256(bare.SerializeToString()).hexdigest() == graph_sha256(bare.SerializeToString())
    assert found == graph_sha256(bare.SerializeToString() + proto.SerializeToString()[len(bare.SerializeToString()) :])
    bare.graph.initializer[0].raw_data = bytes(len(bare.graph.initializer[0].raw_data))
    assert graph_sha256(bare.SerializeToString()) != found


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_read(seed: int) -> None:
    """Never another error, and never more than is there: a length of gigabytes is held against the file's."""
    draw, data = random.Random(seed), onnx_files.ours().SerializeToString()
    for _ in range(300):
        at = draw.randrange(len(data))
        broken = bytearray(data[: draw.choice((at, len(data)))])
        for _ in range(draw.choice((1, 1, 8))):
            if broken:
                broken[draw.randrange(len(broken))] = draw.choice((0x00, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        for read in (read_onnx_text, graph_sha256):
            try:
                read(bytes(broken))
            except ContractError as error:
                assert error.hint  # noqa: PT017
        metadata.peek(bytes(broken), "gan.spec")


@pytest.mark.parametrize(
    "data",
    [
        b"\x72" + b"\xff" * 9 + b"\x7f",  # metadata of 2^63 bytes
        b"\x72" + b"\xff" * 8 + b"\x7f",
        b"\x08" + b"\xff" * 12,  # a number without an end
        b"\x0b\x0c",  # a group
        b"\x00\x00",  # field 0
        b"\x3a\x02\x5a\x05",  # a graph whose input reaches beyond it
        b"\x38\x01",  # a number where the graph should be
    ],
    ids=range(7),
)
def test_bombs_of_a_few_bytes(data: bytes) -> None:
    with pytest.raises(ContractError, match="is not a whole ONNX model"):
        read_onnx_text(data)


def test_fields_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of 8,192 nodes, empty ones: the limit itself, smaller than it is."""
    data = b"\x3a\x80\x80\x01" + b"\x0a\x00" * (1 << 13)
    assert not read_onnx_text(data).operators
    monkeypatch.setattr(metadata, "MAX_FIELDS", 8000)
    with pytest.raises(ContractError, match="over 8,000 fields"):
        read_onnx_text(data)


def test_graphs_within_graphs_end() -> None:
    graph = b""
    for _ in range(5000):
        attribute = b"\x32" + _length(graph) + graph
        node = b"\x2a" + _length(attribute) + attribute
        graph = b"\x0a" + _length(node) + node
    with pytest.raises(ContractError, match="graphs nested deeper than 16"):
        read_onnx_text(b"\x3a" + _length(graph) + graph)


def _length(data: bytes) -> bytes:
    value, made = len(data), b""
    while value >= 0x80:
        made, value = made + bytes([value & 0x7F | 0x80]), value >> 7
    return made + bytes([value])


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../../etc/passwd", "a/../../b", "C:\\x", "\\\\host\\x", "..\\x", "a\0b", "C:x"]
)
def test_weights_outside_of_the_models_folder(location: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="keeps weights outside of its folder"):
        check_external({location}, "m.onnx")
    proto = onnx_files.ours()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ContractError, match="keeps weights outside of its folder"):
        OnnxGenerator(tmp_path / "m.onnx", "cpu")


def test_weights_beside_the_model_are_its_own() -> None:
    check_external({"m.data", "weights/m.data", "..m"}, "m.onnx")
