"""What an ONNX file says, read without onnx and before any session is opened: nothing of it is run.

An ONNX file is a protobuf message. Its metadata, the names, types and shapes of its inputs and outputs, its operators
and where its weights lie are small; the weights' megabytes are stepped over. Each length is held against the bytes
that are there. https://protobuf.dev/programming-guides/encoding/ and onnx/onnx.proto have the numbers of the fields.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from gan_core.errors import ContractError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MAX_TEXT = 16 << 20
"""The most bytes of one name or metadata value."""
MAX_FIELDS = 1_000_000
"""Of all messages; a graph of 1,000 nodes has some 20,000."""
MAX_DEPTH = 16
"""Graphs in nodes of graphs: branches and loops."""
_METADATA_PROPS = 14
_FLOAT16 = 10
_TYPES = {
    1: "tensor(float)", 2: "tensor(uint8)", 6: "tensor(int32)", 7: "tensor(int64)", 8: "tensor(string)",
    10: "tensor(float16)", 11: "tensor(double)",
}  # fmt: skip
"""TensorProto.DataType → onnxruntime's name of it, of what a generator may take and give."""

Dims = tuple[int | None, ...]
Value = int | tuple[int, int]
"""A number, or where a field's bytes lie: (start, end)."""


@dataclass(frozen=True)
class Port:
    """One input or output: its name, its element type as onnxruntime writes it, its shape (None: dynamic)."""

    name: str
    type: str
    dims: Dims

    @classmethod
    def of(cls, argument: Any) -> Port:
        """From onnxruntime's NodeArg."""
        dims = tuple(side if isinstance(side, int) and side > 0 else None for side in argument.shape or ())
        return cls(argument.name, argument.type, dims)

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('?' if side is None else str(side) for side in self.dims)})"


@dataclass
class OnnxText:
    """What `read_onnx_text` finds.

    metadata   metadata_props, the last of equal keys
    inputs     of the graph, without the initialisers that some files list among them
    operators  the op_type of every node, of the graphs in nodes and of functions too
    float16    whether a weight is saved as float16
    external   the files that weights lie in
    """

    metadata: dict[str, str] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    operators: set[str] = field(default_factory=set)
    float16: bool = False
    external: set[str] = field(default_factory=set)

    @property
    def precision(self) -> str:
        """Where the graph computes, as far as its operators and weights show: "int8", "fp16" or "fp32"."""
        if self.operators & _INTEGER_OPERATORS:
            return "int8"
        return "fp16" if self.float16 else "fp32"


_INTEGER_OPERATORS = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger",
}  # fmt: skip


def read_onnx_text(model: str | os.PathLike[str] | bytes, where: str = "") -> OnnxText:
    """What the file (or its bytes) says. Raises `ContractError` where it is cut short, damaged or absurd."""
    where = where or ("the model" if isinstance(model, bytes) else str(model))
    try:
        with opened(model) as stream:
            return Reader(stream).model()
    except OSError as error:
        raise ContractError(f"{where} cannot be read: {error.strerror}", hint="check its permissions") from error
    except ValueError as error:
        raise ContractError(
            f"{where} is not a whole ONNX model: it was cut short or is damaged ({error})",
            hint="download or export it again",
        ) from error


def peek(model: str | bytes, key: str) -> Any:
    """The JSON value of one metadata `key`; None where there is none, or no ONNX file: the session will say so."""
    try:
        with opened(model) as stream:
            text = Reader(stream).model(graph=False).metadata.get(key)
            return None if text is None else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None


def graph_sha256(model: str | os.PathLike[str] | bytes) -> str:
    """The hex SHA-256 of all that a file says but its metadata: of the other fields' bytes, in the file's order.

    So it can stand in that metadata. Raises `ContractError` as `read_onnx_text`.
    """
    digest = hashlib.sha256()
    try:
        with opened(model) as stream:
            reader = Reader(stream)
            start = 0
            for number, _, end in reader.spans(0, reader.size):
                if number != _METADATA_PROPS:
                    for at in range(start, end, 1 << 20):
                        digest.update(reader.bytes(at, min(end, at + (1 << 20))))
                start = end
    except ValueError as error:
        raise ContractError(
            f"the model is cut short or damaged ({error})", hint="download or export it again"
        ) from error
    return digest.hexdigest()


def check_external(external: set[str], where: str) -> None:
    """Raises `ContractError` where weights are said to lie anywhere but in the model's folder or below it."""
    for location in sorted(external):
        for kind in (PurePosixPath, PureWindowsPath):
            path = kind(location)
            if path.is_absolute() or path.drive or ".." in path.parts or "\0" in location:
                raise ContractError(
                    f"{where} keeps weights outside of its folder, in {location[:200]!r}",
                    hint="no honest file does; get one whole file, as gan-export onnx makes it",
                )


def opened(model: str | os.PathLike[str] | bytes) -> BinaryIO:
    return io.BytesIO(model) if isinstance(model, bytes) else Path(model).open("rb")


class Reader:
    """Messages of the protobuf wire format in a stream. Every method raises `ValueError` for what is none."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.size = stream.seek(0, io.SEEK_END)
        self._fields = 0

    def fields(self, start: int, end: int) -> Iterator[tuple[int, Value]]:
        """(number, value) of each field of the message that lies there."""
        return ((number, value) for number, value, _ in self.spans(start, end))

    def spans(self, start: int, end: int) -> Iterator[tuple[int, Value, int]]:
        """As `fields`, with where each field ends."""
        at = start
        while at < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise ValueError(f"over {MAX_FIELDS:,} fields")
            tag, at = self._varint(at, end)
            kind = tag & 7
            value: Value | None = None
            if kind == _VARINT:
                value, at = self._varint(at, end)
            elif kind == _BYTES:
                length, at = self._varint(at, end)
                value, at = (at, at + length), at + length
            elif kind in (_FIXED64, _FIXED32):
                value, at = 0, at + (8 if kind == _FIXED64 else 4)
            if value is None or tag >> 3 == 0 or at > end:
                raise ValueError(f"a field of {'unknown kind' if value is None else 'more bytes than there are'}")
            yield tag >> 3, value, at

    def bytes(self, start: int, end: int) -> bytes:
        self._stream.seek(start)
        return self._stream.read(end - start)

    def text(self, value: Value) -> str:
        start, end = span_of(value)
        if end - start > MAX_TEXT:
            raise ValueError(f"a text of {end - start:,} bytes")
        return self.bytes(start, end).decode()

    def model(self, graph: bool = True) -> OnnxText:
        """What the whole file says; without `graph` only its metadata."""
        found = OnnxText()
        for number, value in self.fields(0, self.size):
            if number == _METADATA_PROPS:
                key, text = self._pair(value)
                found.metadata[key] = text
            elif number == 7 and graph:
                self._graph(found, value, depth=0)
            elif number == 25 and graph:  # a function, whose nodes are field 7
                for inner, node in self.fields(*span_of(value)):
                    if inner == 7:
                        self._node(found, node, depth=1)
        return found

    def _graph(self, found: OnnxText, graph: Value, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"graphs nested deeper than {MAX_DEPTH}")
        initializers, inputs = set(), []
        for number, value in self.fields(*span_of(graph)):
            if number == 1:
                self._node(found, value, depth)
            elif number == 5:
                initializers.add(self._tensor(found, value))
            elif number == 15:
                initializers |= self._sparse(found, value)
            elif number == 11 and depth == 0:
                inputs.append(self._value_info(value))
            elif number == 12 and depth == 0:
                found.outputs.append(self._value_info(value))
        found.inputs += [each for each in inputs if each.name not in initializers]

    def _node(self, found: OnnxText, node: Value, depth: int) -> None:
        for number, value in self.fields(*span_of(node)):
            if number == 4:
                found.operators.add(self.text(value))
            elif number == 5:
                for inner, attribute in self.fields(*span_of(value)):
                    if inner in (5, 10):
                        self._tensor(found, attribute)
                    elif inner in (22, 23):
                        self._sparse(found, attribute)
                    elif inner in (6, 11):
                        self._graph(found, attribute, depth + 1)

    def _tensor(self, found: OnnxText, tensor: Value) -> str:
        """Its name."""
        name, location = "", ""
        for number, value in self.fields(*span_of(tensor)):
            if number == 8:
                name = self.text(value)
            elif number == 2:
                found.float16 |= value == _FLOAT16
            elif number == 13:
                key, text = self._pair(value)
                location = text if key == "location" else location
        if location:
            found.external.add(location)
        return name

    def _sparse(self, found: OnnxText, sparse: Value) -> set[str]:
        """The names of its values and indices."""
        parts = [value for number, value in self.fields(*span_of(sparse)) if number in (1, 2)]
        return {self._tensor(found, part) for part in parts}

    def _value_info(self, info: Value) -> Port:
        name, kind, shape = "", 0, []
        for number, value in self.fields(*span_of(info)):
            if number == 1:
                name = self.text(value)
            elif number == 2:
                for tensor_type in (v for n, v in self.fields(*span_of(value)) if n == 1):
                    for inner, part in self.fields(*span_of(tensor_type)):
                        if inner == 1 and isinstance(part, int):
                            kind = part
                        elif inner == 2:
                            shape = [self._dimension(v) for n, v in self.fields(*span_of(part)) if n == 1]
        return Port(name, _TYPES.get(kind, f"element type {kind}"), tuple(shape))

    def _dimension(self, dimension: Value) -> int | None:
        sizes = [value for number, value in self.fields(*span_of(dimension)) if number == 1 and isinstance(value, int)]
        return sizes[-1] if sizes and 0 < sizes[-1] < 1 << 63 else None

    def _pair(self, pair: Value) -> tuple[str, str]:
        texts = {1: "", 2: ""}
        for number, value in self.fields(*span_of(pair)):
            if number in texts:
                texts[number] = self.text(value)
        return texts[1], texts[2]

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        self._stream.seek(at)
        value = 0
        for index, byte in enumerate(self._stream.read(min(10, end - at))):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value & (1 << 64) - 1, at + index + 1
        raise ValueError("a number without an end")


def span_of(value: Value) -> tuple[int, int]:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value
