"""One value of an ONNX file's metadata, read before any session is opened and without onnx.

An ONNX file is a protobuf message; its metadata_props (field 14) are messages {key: field 1, value: field 2}. The
other fields, the graph's megabytes among them, are stepped over. https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

_METADATA_PROPS = 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def peek(model: str | bytes, key: str) -> Any:
    """The JSON value of `key`; None where there is none, or where the file is not ONNX: the session will say so."""
    try:
        with io.BytesIO(model) if isinstance(model, bytes) else Path(model).open("rb") as stream:
            for field, content in _fields(stream, _METADATA_PROPS):
                if field == _METADATA_PROPS:
                    pair = dict(_fields(io.BytesIO(content)))
                    if pair.get(1) == key.encode():
                        return json.loads(pair.get(2, b""))
    except (OSError, EOFError, ValueError, OverflowError, RecursionError):
        return None
    return None


def _fields(stream: BinaryIO, wanted: int | None = None) -> Any:
    """(field number, bytes) of a message's length-delimited fields; only those of `wanted` are read."""
    while (tag := _varint(stream, end=True)) is not None:
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _varint(stream)
        elif kind in (_FIXED64, _FIXED32):
            stream.seek(8 if kind == _FIXED64 else 4, io.SEEK_CUR)
        elif kind == _BYTES:
            length = _varint(stream) or 0
            if wanted is None or field == wanted:
                yield field, stream.read(length)
            else:
                stream.seek(length, io.SEEK_CUR)
        else:
            raise ValueError(f"wire type {kind}")


def _varint(stream: BinaryIO, end: bool = False) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            if end and shift == 0:
                return None
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("varint")
