"""The numbers of every step, for the loss curves: full resolution at first, pairwise averages when it grows long."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_trainer.steps import STATS

LIMIT = 1 << 16


class History:
    """`values` is float32 (rows, 5) on the CPU: row i is the mean of `STATS` over steps i·stride … (i + 1)·stride - 1.

    At most `limit` rows are kept: when they fill, neighbours are averaged and `stride` doubles, so that the memory and
    the checkpoint stay small however long the training. Steps short of a whole row wait in `pending`.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.stride = 1
        self.values = torch.empty(0, len(STATS))
        self.pending = torch.empty(0, len(STATS))

    def extend(self, stats: Tensor) -> None:
        """Appends the numbers of some steps, float32 (n, 5), in order."""
        pending = torch.cat((self.pending, stats))
        whole = len(pending) - len(pending) % self.stride
        rows = pending[:whole].reshape(-1, self.stride, len(STATS)).mean(1)
        self.values = torch.cat((self.values, rows))
        self.pending = pending[whole:].clone()
        while len(self.values) >= self.limit:
            even = len(self.values) - len(self.values) % 2
            # An odd last row covers `stride` steps that a doubled row would need twice: they wait again.
            odd = self.values[even:].repeat_interleave(self.stride, 0)
            self.pending = torch.cat((odd, self.pending))
            self.values = self.values[:even].reshape(-1, 2, len(STATS)).mean(1)
            self.stride *= 2

    def state_dict(self) -> dict[str, Any]:
        return {"stride": self.stride, "values": self.values.clone(), "pending": self.pending.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stride = int(state["stride"])
        self.values = state["values"]
        self.pending = state["pending"]
