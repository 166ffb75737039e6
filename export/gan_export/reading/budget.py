"""What reading one file may cost, so that a small file cannot ask for much work or memory.

Everything that the file decides is paid for from one budget, in steps: an opcode, a value copied or looked at, 64
characters of a name. A step takes a microsecond or two and keeps some hundred bytes at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gan_core.errors import GanportError
from gan_export.reading.inert import GlobalName

MAX_OPERATIONS = 1_500_000
MAX_NESTING = 4
"""Pickles within pickles: a pickled module holds its storages as pickled bytes (2); more is an attack."""
NAME_STEPS = 8
CALL_STEPS = 8
TENSOR_STEPS = 24
"""What looking up a name, making an object and loading a tensor cost more than an opcode."""


@dataclass(slots=True)
class Budget:
    """What one file may cost, over all the pickles in it and all that is looked for in them."""

    operations: int = MAX_OPERATIONS
    nesting: int = MAX_NESTING

    @classmethod
    def of_file(cls, size_bytes: int) -> Budget:
        """That of a file of `size_bytes`: a large one may hold long lists of losses, and bytes to copy."""
        return cls(MAX_OPERATIONS + size_bytes // 8)

    def spend(self, steps: int = 1) -> None:
        """Raises `GanportError` when more is asked for than any checkpoint needs."""
        self.operations -= steps
        if self.operations < 0:
            raise GanportError(
                f"it takes over {MAX_OPERATIONS:,} steps to read, far more than a checkpoint does",
                hint="save the generator's state_dict alone, as .safetensors or with torch.save",
            )

    def spend_copy(self, values: Any) -> None:
        """Pays to copy `values`: a step an entry, one for 64 characters. A memo makes copies cheap to ask for."""
        for value in values if isinstance(values, tuple) else (values,):
            if isinstance(value, (list, tuple, dict)):
                self.spend(len(value))
            elif isinstance(value, (str, bytes, bytearray)):
                self.spend(len(value) // 64)


def brief(value: Any, limit: int = 40) -> str:
    """`value` as a short text: a plain one's own, of anything else its type (its own may be endless)."""
    plain = value is None or isinstance(value, (str, int, float, GlobalName))
    return str(value)[:limit] if plain else type(value).__name__
