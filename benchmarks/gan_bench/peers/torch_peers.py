"""The checkpoint in PyTorch: eager, channels-last, compiled, and frozen TorchScript.

All compute z → image → pixels as `gan_export.source.PixelModule` does, on their device, in inference mode; the copy of
the pixels to the host ends the call, and waits for the device. fp16 is `module.half()`, without autocast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from gan_bench.questions import Open
from gan_core.arrays import F32, I64, U8
from gan_core.contract import Contract
from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_core.golden import inputs
from gan_core.process import quiet
from gan_export.source import PixelModule, without_parametrizations
from gan_serve.runtime.generator import Generator
from gan_trainer.networks.generator import load_generator

Transform = Callable[["TorchPeer", torch.nn.Module, tuple[torch.Tensor, ...]], Any]


def plain_contract(source: Any, precision: str = "fp32") -> Contract:
    """What a worker needs to feed a generator: its input, classes and image. From a `Source` or a spec."""
    plain = dataclasses.replace(source.interface, class_names=(), styles=None, noise=False, noise_maps=None)
    return Contract(plain, precision=precision, name=source.name)


class TorchPeer(Generator):
    """A generator that torch runs, ready for `batches`; `transform` makes of the module, given example arguments, what
    is called."""

    def __init__(self, asked: Open, *, transform: Transform, guard: Callable[[], Any] = torch.inference_mode) -> None:
        assert asked.threads is not None
        device, precision = asked.provider, asked.precision or "fp32"
        if device == "cuda" and not torch.cuda.is_available():
            raise GanportError("torch finds no CUDA device here", hint='use `provider="cpu"`, or `peers="none"`')
        torch.set_num_threads(asked.threads)
        torch.backends.cuda.matmul.allow_tf32 = asked.tf32
        torch.backends.cudnn.allow_tf32 = asked.tf32
        checkpoint = load_generator(asked.path)
        self.contract = plain_contract(checkpoint.spec, precision)
        self.provider, self.threads, self.sha256 = device, torch.get_num_threads(), sha256_of(asked.path)
        self.batches = asked.batches
        self._dtype = torch.float16 if precision == "fp16" else torch.float32
        plain = PixelModule(without_parametrizations(checkpoint.module()), self.contract.interface)
        module = plain.to(device, self._dtype).eval().requires_grad_(False)
        self._guard = guard
        interface = self.contract.interface
        examples = self._arguments(
            inputs(interface, range(2)), np.zeros(2, np.int64) if interface.conditional else None
        )
        with quiet():
            self._call = transform(self, module, examples)

    def run(self, z: F32 | U8, label: I64 | None = None) -> tuple[F32, U8]:
        with self._guard():
            image, pixels = self._call(*self._arguments(z, label))
            return image.float().cpu().numpy(), pixels.cpu().numpy()

    def run_pixels(self, z: F32 | U8, label: I64 | None = None) -> U8:
        with self._guard():
            pixels: U8 = self._call(*self._arguments(z, label))[1].cpu().numpy()
        return pixels

    def _arguments(self, z: F32 | U8, label: I64 | None) -> tuple[torch.Tensor, ...]:
        given = torch.from_numpy(np.ascontiguousarray(z))
        given = given.to(self.provider, self._dtype if given.is_floating_point() else given.dtype)
        return (given,) if label is None else (given, torch.from_numpy(label).to(self.provider))


def _compiled(peer: TorchPeer, module: torch.nn.Module, _: tuple[torch.Tensor, ...]) -> Any:
    import torch._inductor.config as inductor

    inductor.freezing = True
    torch._dynamo.config.recompile_limit = max(8, len(peer.batches) + 1)
    return torch.compile(module, dynamic=False, mode="reduce-overhead" if peer.provider == "cuda" else "default")


def _traced(_: TorchPeer, module: torch.nn.Module, examples: tuple[torch.Tensor, ...]) -> Any:
    with torch.no_grad():
        traced = torch.jit.trace(module, examples, check_trace=False)
        return torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))


eager = partial(TorchPeer, transform=lambda _, module, __: module)
"""The module as it is."""
channels_last = partial(TorchPeer, transform=lambda _, module, __: module.to(memory_format=torch.channels_last))
"""The module with its convolutions' weights in NHWC; the images follow."""
compiled = partial(TorchPeer, transform=_compiled, guard=torch.no_grad)
"""torch.compile for fixed shapes with frozen weights; on CUDA with CUDA graphs ("reduce-overhead").

Freezing does not work in inference mode."""
torchscript = partial(TorchPeer, transform=_traced)
"""The module traced, frozen and optimised for inference."""
