"""A matrix product as an ONNX model, written by hand: the runtime environment has no package onnx.

The wire format is protobuf's (protobuf.dev/programming-guides/encoding), the numbers of the fields are onnx.proto's.
"""

from __future__ import annotations

FLOAT, FLOAT16 = 1, 10


def product_model(size: int, element: int = FLOAT) -> bytes:
    """c = a · b for square matrices of `size`; `element` is `FLOAT` or `FLOAT16`."""
    node = _text(1, "a") + _text(1, "b") + _text(2, "c") + _text(4, "MatMul")
    graph = _message(1, node) + _text(2, "product")
    graph += b"".join(_message(11, _value(name, size, element)) for name in ("a", "b"))
    graph += _message(12, _value("c", size, element))
    opset = _number(2, 13)
    return _number(1, 8) + _message(7, graph) + _message(8, opset)


def _value(name: str, size: int, element: int) -> bytes:
    """ValueInfoProto of a float tensor (size, size)."""
    side = _message(1, _number(1, size))
    tensor = _number(1, element) + _message(2, side + side)
    return _text(1, name) + _message(2, _message(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])
