"""An exponential moving average of a generator: smoother images than any single step's weights give.

    θ̄ ← β_t θ̄ + (1 - β_t) θ,    β_t = min(β, (1 + t) / (10 + t))

The ramp β_t keeps the random first weights out of the average: after t updates it reaches back over about t / 9 steps
at most (as in TensorFlow's ExponentialMovingAverage). t counts the updates of G. BatchNorm's running statistics are
averaged the same way, so that they fit the averaged weights (copies would describe the last weights' activations);
counters are copied. Source of the practice: Yazıcı et al. 2019, arXiv:1806.04498.
"""

from __future__ import annotations

import copy

import torch

from gan_trainer.networks.build import SpecGenerator


class Ema:
    """The average of a generator's weights and buffers. `module` draws with them, in eval mode."""

    def __init__(self, generator: SpecGenerator, beta: float) -> None:
        self.module = copy.deepcopy(generator).eval().requires_grad_(False)
        self.beta = beta

    def decay(self, updates: int) -> float:
        """β_t after `updates` updates."""
        return min(self.beta, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, generator: SpecGenerator, updates: int) -> None:
        """Takes the weights after step number `updates` (0 for the first) into the average."""
        average, current = self.module.state_dict(), generator.state_dict()
        floats = [name for name, tensor in average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [average[name] for name in floats], [current[name] for name in floats], 1.0 - self.decay(updates)
        )
        for name in average.keys() - floats:
            average[name].copy_(current[name])
