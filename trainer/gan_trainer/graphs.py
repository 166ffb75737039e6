"""A training step as one CUDA graph: the GPU gets its hundreds of kernels in one launch.

A graph repeats what was recorded: the same kernels on the same addresses. So a step goes into one only if everything
that changes from step to step comes in through its inputs (images, latents, labels), and everything that it changes is
changed in place (weights, Adam's moments, BatchNorm's statistics). The average of the weights, whose decay is a number
of the step, stays outside, and so do batches of another size: those are stepped as usual, on the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from gan_serve.terminal import console

Step = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(real_NCHW, z, label) → the step's numbers. One step of the training."""

WARM_UP = 3
"""Steps before recording: Adam makes its moments in the first, cuDNN tries its kernels."""


class Recorder(Protocol):
    """What records a step and replays it; `CudaRecorder`, or a stand-in where there is no CUDA."""

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Runs a step as recording will, and returns its result."""

    def record(self, run: Callable[[], Tensor]) -> Tensor:
        """Records `run` without computing it. Returns the tensor that every replay fills."""

    def replay(self) -> None: ...


class CudaRecorder:
    """`torch.cuda.CUDAGraph`; warm-up on a side stream, as recording demands."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.graph = torch.cuda.CUDAGraph()

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            result = run()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return result

    def record(self, run: Callable[[], Tensor]) -> Tensor:
        with torch.cuda.graph(self.graph):
            return run()

    def replay(self) -> None:
        self.graph.replay()


class GraphedStep:
    """`step`, recorded once it is warm and replayed from then on. What cannot be recorded goes on as it was, said once.

    The graph is of the first batch's shape; others are stepped as usual.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self.step = step
        self.recorder: Recorder | None = recorder
        self.warm = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._stats: Tensor | None = None

    def __call__(self, real_NCHW: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
        given = (real_NCHW, z) if label is None else (real_NCHW, z, label)
        if self.recorder is None or (self._inputs and real_NCHW.shape != self._inputs[0].shape):
            return self.step(real_NCHW, z, label)
        if not self._inputs:
            self._inputs = tuple(torch.empty_like(tensor) for tensor in given)
        for static, tensor in zip(self._inputs, given, strict=True):
            static.copy_(tensor, non_blocking=True)
        if self.warm < WARM_UP:
            self.warm += 1
            return self.recorder.warm_up(self._run)
        if self._stats is None:
            try:
                self._stats = self.recorder.record(self._run)
            except RuntimeError as error:
                self.recorder = None
                console.note(f"no CUDA graph, going on without: {str(error).splitlines()[0]}")
                return self.step(real_NCHW, z, label)
        self.recorder.replay()
        return self._stats.clone()

    def _run(self) -> Tensor:
        real_NCHW, z, *label = self._inputs
        return self.step(real_NCHW, z, label[0] if label else None)
