"""What else draws the same checkpoint: the ways that people run a PyTorch generator today.

Each is a `Generator` of the runtime, so that the worker times and compares it as it does ours: latents from NumPy in,
uint8 pixels (n, H, W, C) on the host out, the conversion to pixels on the device and inside what is compiled. No torch
here: the classes are imported in the process of their row.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan_bench.questions import Open
    from gan_serve.runtime.generator import Generator


@dataclass(frozen=True)
class Peer:
    """One other way to draw.

    label     for tables and pictures
    package   what must be installed (beside torch, which reads the checkpoint)
    source    the file it is opened from: "g.pt" or "stock.onnx" (see `peers.checkpoint`)
    opener    "module:function"; called with the `Open` that asks for it
    devices   where it runs
    fp16      whether it has an fp16 variant on CUDA
    """

    label: str
    package: str
    source: str
    opener: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    fp16: bool = False

    def precisions(self, device: str) -> tuple[str, ...]:
        return ("fp32", "fp16") if self.fp16 and device == "cuda" else ("fp32",)

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def open(self, asked: Open) -> Generator:
        """The generator, ready for `asked.batches`. Raises `GanportError` for a device that is not there."""
        module, _, name = self.opener.partition(":")
        generator: Generator = getattr(importlib.import_module(module), name)(asked)
        return generator


_ONNX, _TORCH = "gan_bench.peers.onnx_peers", "gan_bench.peers.torch_peers"

PEERS: dict[str, Peer] = {
    "eager": Peer("torch eager", "torch", "g.pt", f"{_TORCH}:eager", fp16=True),
    "channels-last": Peer("torch channels-last", "torch", "g.pt", f"{_TORCH}:channels_last", fp16=True),
    "compile": Peer("torch.compile", "torch", "g.pt", f"{_TORCH}:compiled", fp16=True),
    "torchscript": Peer("TorchScript frozen", "torch", "g.pt", f"{_TORCH}:torchscript", fp16=True),
    "stock": Peer("stock ONNX Runtime", "onnxruntime", "stock.onnx", f"{_ONNX}:StockOnnx"),
    "openvino": Peer("OpenVINO native", "openvino", "stock.onnx", f"{_ONNX}:OpenVino", ("cpu",)),
}


def missing_peers() -> tuple[str, ...]:
    """The names of the peers whose package is not installed."""
    return tuple(name for name, peer in PEERS.items() if not peer.installed)
