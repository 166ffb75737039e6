"""What reading one file may cost, so that a small file cannot ask for much work or memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gan_serve.errors import GanportError

MAX_OPERATIONS = 4_000_000
MAX_NESTING = 4
"""Pickles within pickles: a pickled module holds its storages as pickled bytes (2); more is an attack."""


@dataclass(slots=True)
class Budget:
    """What one file may cost, over all the pickles in it."""

    operations: int = MAX_OPERATIONS
    nesting: int = MAX_NESTING

    def spend(self, steps: int = 1) -> None:
        self.operations -= steps
        if self.operations < 0:
            raise GanportError(
                f"the pickle in it takes over {MAX_OPERATIONS:,} steps, far more than a checkpoint's",
                hint="save the generator's state_dict alone, as .safetensors or with torch.save",
            )


def copy_cost(values: Any) -> int:
    """Steps that copying `values` costs: one an entry, one for 64 characters. A memo makes copies cheap to ask for."""
    total = 0
    for value in values if isinstance(values, tuple) else (values,):
        if isinstance(value, (list, tuple, dict)):
            total += len(value)
        elif isinstance(value, str):
            total += len(value) // 64
    return total
