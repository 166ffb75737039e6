"""How a training computes: what makes it fast and leaves its mathematics alone.

upsampling     nearest x2 and the 3x3 convolution after it as one transposed convolution (`folded`)
channels-last  convolutions on (N, H, W, C) in memory: oneDNN and cuDNN have their fastest kernels for it
winograd       kernels of 4 with stride 2 by fewer products, in float32 on a CPU (`gan_trainer.winograd`)
fused Adam     one pass over all weights
amp            convolutions in bfloat16 under autocast; weights, Adam, BatchNorm's statistics and losses stay float32
compile        torch.compile of both networks
CUDA graph     a step's hundreds of kernels in one launch (`GraphedStep`)

`auto` keeps float32 for the tutorials' presets, which are meant to be exact; elsewhere it takes bfloat16 where the GPU
has it in hardware, or where the CPU has and D is measured to be faster (`settle`). It compiles nothing: the networks
are convolutions that run in the same libraries either way, and a CUDA graph already removes the cost of launching them.
"""

from __future__ import annotations

import copy
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import Adam

from gan_core.errors import GanportError
from gan_core.spec.layers import Conv, Upsample
from gan_trainer.networks.generator import SpecGenerator
from gan_trainer.winograd import transposed_convolution, with_winograd

log = logging.getLogger(__name__)

Amp = Literal["auto", "off", "bf16"]
Compile = Literal["auto", "off", "on"]


@dataclass(frozen=True)
class Speed:
    """The choices, `auto` resolved. The default is the plain way: float32, eager, as a network is built.

    bf16  None: whichever is faster on this CPU, which `settle` measures; float32 until then
    """

    channels_last: bool = False
    bf16: bool | None = False
    compiled: bool = False
    cuda_graphs: bool = False
    winograd: bool = False

    def describe(self) -> str:
        """For people: "float32, channels-last"."""
        parts = {
            "bfloat16" if self.bf16 else "float32": True,
            "channels-last": self.channels_last,
            "compiled": self.compiled,
            "CUDA graph": self.cuda_graphs,
        }
        return ", ".join(part for part, chosen in parts.items() if chosen)

    def decided(self, bf16: bool) -> Speed:
        """With this for `bf16`."""
        return replace(self, bf16=bf16, winograd=self.winograd and not bf16)


PLAIN = Speed()


def choose(
    device: torch.device,
    *,
    exact: bool,
    amp: str = "auto",
    compiled: str = "auto",
    cuda_graphs: bool = True,
    ngpu: int = 1,
) -> Speed:
    """What `amp` and `compiled` mean on `device`. `exact`: the recipe is a tutorial's, and `auto` keeps it exact.

    Raises `GanportError` for an unknown choice, and for one that cannot work here: bf16 on a GPU without it, compiling
    without a compiler or for DataParallel.
    """
    if amp not in get_args(Amp):
        raise GanportError(
            f"`amp` must be one of {', '.join(get_args(Amp))}, got {amp!r}", hint="leave it out for auto"
        )
    if compiled not in get_args(Compile):
        raise GanportError(
            f"`compile` must be one of {', '.join(get_args(Compile))}, got {compiled!r}", hint="leave it out for auto"
        )
    cuda = device.type == "cuda"
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if amp == "bf16" and cuda and not fast_bf16(device):
        raise GanportError(
            '`amp="bf16"`: this GPU computes no bfloat16 in hardware', hint="leave `amp` out; bfloat16 came with Ampere"
        )
    if compiled == "on":
        if ngpu > 1:
            raise GanportError(
                '`compile="on"` does not go with `ngpu`, which is DataParallel', hint="leave one of them out"
            )
        check_compiler(device)
    bf16: bool | None = amp == "bf16"
    if amp == "auto" and not exact and fast_bf16(device):
        bf16 = True if cuda else None
    return Speed(
        channels_last=True,
        bf16=bf16,
        compiled=compiled == "on",
        cuda_graphs=cuda and cuda_graphs and ngpu == 1 and not distributed,
        winograd=device.type == "cpu" and not bf16 and compiled != "on",
    )


def fast_bf16(device: torch.device) -> bool:
    """Whether a device computes bfloat16 in hardware: GPUs of compute capability 8.0 and above, CPUs with AVX512-BF16
    or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older ones do not say
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


BF16_GAIN = 1.2
"""A CPU's bfloat16 is taken from this gain on: nearer to 1, noise would decide what a training computes."""


def settle(
    speed: Speed, discriminator: nn.Module, batch: tuple[int, ...], *, classes: bool, winograd: bool = False
) -> Speed:
    """`speed`, decided: passes of a copy of D on a `batch` (N, C, H, W) are timed in float32, with Winograd's products
    where D is trained by them, and in bfloat16."""
    if speed.bf16 is not None:
        return speed
    copied = copy.deepcopy(discriminator)
    lay_out(copied, None, speed)
    images = torch.full(batch, 0.5).contiguous(memory_format=torch.channels_last).requires_grad_()
    label = torch.zeros(batch[0], dtype=torch.int64) if classes else None
    device = images.device
    plain, halved = (replace(speed, bf16=bf16, compiled=False) for bf16 in (False, True))
    ways = [
        as_called(with_winograd(copied) if winograd else copied, plain, device), as_called(copied, halved, device),
    ]  # fmt: skip
    seconds = [[_pass_seconds(way, images, label) for way in ways] for _ in range(4)][1:]
    float32, bfloat16 = (min(column) for column in zip(*seconds, strict=True))
    log.debug(f"a pass of D in bfloat16 is {float32 / bfloat16:.2f} times as fast as in float32")
    return speed.decided(float32 / bfloat16 >= BF16_GAIN)


def _pass_seconds(network: nn.Module, images: Tensor, label: Tensor | None) -> float:
    began = time.perf_counter()
    network(images, label).sum().backward()
    return time.perf_counter() - began


def check_compiler(device: torch.device) -> None:
    """Compiles a small function. Raises `GanportError` where that fails, as without a C++ compiler or Triton."""
    try:
        trial: Callable[[Tensor], Tensor] = torch.compile(_trial, dynamic=False)
        trial(torch.ones(8, device=device))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise GanportError(
            f'`compile="on"`: torch.compile does not work here: {lines[0]}',
            hint="leave `compile` out to train without",
        ) from error


def _trial(x: Tensor) -> Tensor:
    return x * 2 + 1


def lay_out(network: nn.Module, optimizer: Adam | None, speed: Speed) -> None:
    """Brings weights, and what Adam remembers of them, into the memory layout of `speed`, and Adam into its fused form.

    The values stay. Restored states come in whatever layout and form their file has, so this follows the restoring:
    fused Adam walks weights and moments side by side in memory.
    """
    network.to(memory_format=torch.channels_last if speed.channels_last else torch.contiguous_format)
    if optimizer is None:
        return
    for group in optimizer.param_groups:
        on_cuda = bool(group["params"][0].is_cuda)
        group.update(fused=True, foreach=None, capturable=on_cuda)
        for weight in group["params"]:
            remembered = optimizer.state.get(weight, {})
            for name, value in remembered.items():
                if name == "step":
                    remembered[name] = torch.as_tensor(value, dtype=torch.float32, device=weight.device)
                elif value.stride() != weight.stride():
                    remembered[name] = torch.empty_like(weight).copy_(value)


class FoldedUpsampling(nn.Module):
    """`conv` of `torch.nn.Upsample(scale_factor=2)` of x, as one transposed convolution of kernel 4: 2.25 times fewer
    products. x (N, C, H, W) → (N, out, 2H, 2W). Each tap of the larger kernel is a sum of `conv`'s.
    """

    SUMS = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    """Row i: which of the three taps, along one axis, make tap i of the four."""

    def __init__(self, conv: nn.Conv2d, winograd: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.winograd = winograd
        self.sums: Tensor  # made here: a CUDA graph records no copy from the host
        self.register_buffer("sums", conv.weight.new_tensor(self.SUMS), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.einsum("oikl,ak,bl->ioab", self.conv.weight, self.sums, self.sums)
        if self.winograd:
            return transposed_convolution(x, kernel, self.conv.bias)
        return nn.functional.conv_transpose2d(x, kernel, self.conv.bias, stride=2, padding=1)


def folded(network: SpecGenerator, *, winograd: bool = False) -> SpecGenerator:
    """`network` with every pair of nearest x2 and a 3x3 convolution in one. It shares the weights."""
    called = copy.copy(network)
    called._modules = {**network._modules, "layers": nn.ModuleList(network.layers)}
    pairs = itertools.pairwise(zip(network.spec.layers, network.layers, strict=True))
    for index, ((before, _), (layer, module)) in enumerate(pairs):
        if before != Upsample(2) or not isinstance(layer, Conv) or not isinstance(module, nn.Conv2d):
            continue
        if layer == Conv(layer.in_channels, layer.out_channels, 3, padding=1, bias=layer.bias, as_=layer.as_):
            called.layers[index], called.layers[index + 1] = nn.Identity(), FoldedUpsampling(module, winograd)
    return with_winograd(called) if winograd else called


def as_called(network: nn.Module, speed: Speed, device: torch.device) -> nn.Module:
    """`network` as the loop calls it: compiled and under autocast where `speed` says so. It shares the weights."""
    called = network
    if speed.compiled:
        called = cast(nn.Module, torch.compile(network, dynamic=False))
    return Autocast(called, device) if speed.bf16 else called


class Autocast(nn.Module):
    """A network computed in bfloat16 where autocast deems it safe. Its weights, and what it returns, are float32."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.device_type = device.type
        for module in network.modules():
            if isinstance(module, ParametrizationList):  # spectral norm's power iteration
                module.forward = _in_float32(module.forward, device.type)  # type: ignore[method-assign]

    def forward(self, *inputs: Any) -> Tensor:
        # Without the cache of cast weights: each is cast once a call, and a CUDA graph must not meet a stale one.
        with torch.autocast(self.device_type, torch.bfloat16, cache_enabled=False):
            output: Tensor = self.network(*inputs)
        return output.float()


def _in_float32(forward: Callable[..., Tensor], device_type: str) -> Callable[..., Tensor]:
    def call(*inputs: Tensor) -> Tensor:
        with torch.autocast(device_type, enabled=False):
            return forward(*inputs)

    return call


Step = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(real_NCHW, z, label) → the step's numbers. One step of the training."""

WARM_UP = 3
"""Steps before recording: Adam makes its moments in the first, cuDNN tries its kernels."""


class CudaRecorder:
    """Records a step as a `torch.cuda.CUDAGraph` and replays it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.graph = torch.cuda.CUDAGraph()

    def warm_up(self, run: Callable[[], Tensor]) -> Tensor:
        """Runs a step as recording will, on a side stream, and returns its result."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            result = run()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        return result

    def record(self, run: Callable[[], Tensor]) -> Tensor:
        """Records `run` without computing it. Returns the tensor that every replay fills."""
        with torch.cuda.graph(self.graph):
            return run()

    def replay(self) -> None:
        self.graph.replay()


class GraphedStep:
    """`step`, recorded once it is warm and replayed from then on. What cannot be recorded goes on as it was, said once.

    A graph repeats what was recorded: the same kernels on the same addresses. So all that changes from step to step
    comes in through its inputs (images, latents, labels), and what it changes it changes in place (weights, Adam's
    moments, BatchNorm's statistics). The average of the weights, whose decay is a number of the step, stays outside,
    and so do batches of another size than the first: those are stepped as usual, on the same weights.
    """

    def __init__(self, step: Step, recorder: CudaRecorder) -> None:
        self.step = step
        self.recorder: CudaRecorder | None = recorder
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
                log.info(f"no CUDA graph, going on without: {str(error).splitlines()[0]}")
                return self.step(real_NCHW, z, label)
        self.recorder.replay()
        return self._stats.clone()

    def _run(self) -> Tensor:
        real_NCHW, z, *label = self._inputs
        return self.step(real_NCHW, z, label[0] if label else None)
