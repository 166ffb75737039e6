"""`--constant NAME=VALUE`: forward parameters that are neither latent nor label, said in text.

0, 0.7, true, null, "text"     as they are
[[0.1, 0.2], [0.3, 0.4]]       a float32 tensor
zeros(N,1,32,32), ones(4)      a float32 tensor of that shape; N is the batch
"""

from __future__ import annotations

import json
import re
from typing import Any

import torch
from torch import Tensor

from gan_core.errors import GanportError

_FILLED = re.compile(r"(zeros|ones)\(([N\d,\s]*)\)")
_FILL = {"zeros": 0.0, "ones": 1.0}
HINT = "such as noise=0, truncation=0.7, return_latents=false or noise=zeros(N,1,32,32)"


class Constant:
    """One constant. `value` is a tensor, or what is passed as it is; `batched`: its first side is the batch's."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self.batched = False
        self.value: Any = None
        filled = _FILLED.fullmatch(text.strip())
        if filled is None:
            self.value = self._plain(text)
            return
        sides = [side.strip() for side in filled[2].split(",") if side.strip()]
        self.batched = sides[:1] == ["N"]
        if "N" in sides[1:]:
            raise GanportError(f"--constant {name}={text}: only the first side can be N, the batch", hint=HINT)
        shape = [1 if side == "N" else int(side) for side in sides]
        if torch.Size(shape).numel() > 1 << 28:
            raise GanportError(f"--constant {name}={text} is larger than 1 GiB", hint=HINT)
        self.value = torch.full(shape, _FILL[filled[1]])

    def _plain(self, text: str) -> Any:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise GanportError(f"--constant {self.name}={text} is not JSON: {error}", hint=HINT) from error
        if isinstance(value, list):
            try:
                return torch.tensor(value, dtype=torch.float32)
            except (TypeError, ValueError, RuntimeError) as error:
                raise GanportError(
                    f"--constant {self.name}={text} is no tensor: a list must hold numbers, in rows of one length",
                    hint=HINT,
                ) from error
        if isinstance(value, dict):
            raise GanportError(
                f"--constant {self.name} is an object, which no forward is given in a graph",
                hint="write a factory that returns a module with a plain forward",
            )
        return value

    def at(self, batch: Any, tensor: Tensor | None) -> Any:
        """What is passed for a batch of `batch`; `tensor` stands in for a tensor value (a buffer of the adapter's)."""
        if tensor is None:
            return self.value
        return tensor.expand(batch, *tensor.shape[1:]) if self.batched else tensor
