"""How many classes an ONNX file's label has, read from its graph without onnx: nothing of it is run."""

from __future__ import annotations

import os
from collections.abc import Iterator

from gan_core.files.metadata import Reader, Value, opened, span_of

_SAME = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_WHOLE = {6: 4, 7: 8}
"""TensorProto.DataType → bytes, of int32 and int64."""


def count_classes(model: str | os.PathLike[str] | bytes, label: str) -> int | None:
    """How many classes the integer input `label` has: the rows of the table that it chooses from (Gather), or the
    numbers that it is made of as one-hot (OneHot, Equal). None where the graph does not show it so, or is none.
    """
    try:
        with opened(model) as stream:
            return _Graph(stream).count_classes(label)
    except (OSError, ValueError, LookupError, StopIteration):
        return None


class _Graph(Reader):
    def count_classes(self, label: str) -> int | None:
        graph = next(value for number, value in self.fields(0, self.size) if number == 7)
        parts = [(number, value) for number, value in self.fields(*span_of(graph)) if number in (1, 5)]
        known = {tensor[0]: tensor[1:] for tensor in (self._constant(value) for number, value in parts if number == 5)}
        same = {label}  # and the values that are it in another shape or type
        for node in (value for number, value in parts if number == 1):
            fields = [(number, value) for number, value in self.fields(*span_of(node)) if number in (1, 2, 4, 5)]
            takes, gives = ([self.text(value) for number, value in fields if number == n] for n in (1, 2))
            operator = next((self.text(value) for number, value in fields if number == 4), "")
            if operator == "Constant":
                inner = [part for n, value in fields if n == 5 for part in self.fields(*span_of(value))]
                known.update((gives[0], self._constant(value)[1:]) for n, value in inner if n == 5)
            elif operator in _SAME and takes[0] in same:
                same.add(gives[0])
            elif operator == "Gather" and takes[1] in same and takes[0] in known:
                return next(iter(known[takes[0]][0]), None)
            elif operator == "OneHot" and takes[0] in same and takes[1] in known:
                return known[takes[1]][1]
            elif operator == "Equal" and same & set(takes):
                shapes = [known[other][0] for other in takes if other in known]
                return next((shape[-1] for shape in shapes if shape), None)
        return None

    def _constant(self, tensor: Value) -> tuple[str, list[int], int | None]:
        """(its name, its shape, the first of its numbers where it holds whole ones)."""
        name, kind, raw = "", 0, b""
        sides: list[int] = []
        numbers: list[int] = []
        for number, value in self.fields(*span_of(tensor)):
            if number in (1, 5, 7):
                (sides if number == 1 else numbers).extend([value] if isinstance(value, int) else self._packed(value))
            elif number == 2 and isinstance(value, int):
                kind = value
            elif number == 8:
                name = self.text(value)
            elif number == 9:
                start, end = span_of(value)
                raw = self.bytes(start, min(end, start + 8))
        if raw and kind in _WHOLE:
            numbers = [int.from_bytes(raw[: _WHOLE[kind]], "little")]
        return name, sides, numbers[0] if numbers else None

    def _packed(self, span: tuple[int, int]) -> Iterator[int]:
        at, end = span
        while at < end:
            value, at = self._varint(at, end)
            yield value
