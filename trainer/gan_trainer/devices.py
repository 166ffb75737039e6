"""Which device trains, and what a result says of where it was made."""

from __future__ import annotations

import platform

import numpy as np
import torch
from torch import Tensor, nn

import gan_core
from gan_core.errors import GanportError


def resolve(name: str, ngpu: int = 1, process: int | None = None) -> torch.device:
    """The device called `name`: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:1".

    `process` numbers the processes of a distributed job on this host: each takes the CUDA device of its number.
    Raises `GanportError` when it is not there, or when `ngpu` devices are asked for and there are fewer.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if present else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cpu" and index) or (":" in name and not index.isdecimal()):
        raise GanportError(f"unknown device {name!r}", hint="devices: auto, cpu, cuda, cuda:0, cuda:1, …")
    if kind == "cuda" and present == 0:
        raise GanportError(
            "no CUDA device was found by torch",
            hint='use `device="cpu"`, or install a torch built for your GPU\'s driver',
        )
    if kind == "cuda" and int(index or 0) >= present:
        raise GanportError(f"no device {name}, there {_count(present)}", hint=f"the last is cuda:{present - 1}")
    if process is not None:
        if ngpu > 1:
            raise GanportError(
                f"`ngpu={ngpu}` shares a batch inside one process, torchrun among several: they exclude each other",
                hint=f"leave `ngpu` out: torchrun --nproc-per-node {ngpu} …",
            )
        if kind == "cpu":
            return torch.device("cpu")
        if index:
            raise GanportError(
                f'`device="{name}"` names one device, torchrun gives each process its own', hint='say `device="cuda"`'
            )
        if process >= present:
            raise GanportError(
                f"process {process} of this host has no device of its own, there {_count(present)}",
                hint=f'say torchrun --nproc-per-node {present}, or `device="cpu"`',
            )
        return torch.device("cuda", process)
    if ngpu > 1:
        if kind == "cpu":
            raise GanportError(f"`ngpu={ngpu}` needs CUDA devices, training runs on the CPU", hint="leave `ngpu` out")
        if index:
            raise GanportError(
                f"`ngpu={ngpu}` takes the first {ngpu} devices, `device` names {name}", hint='say `device="cuda"`'
            )
        if ngpu > present:
            raise GanportError(
                f"`ngpu={ngpu}` asks for more devices than the {present} there are", hint=f"say `ngpu={present}`"
            )
    return torch.device(name)


def describe(device: torch.device) -> str:
    """The device for people and provenance: "cpu", or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> dict[str, str]:
    """Of what decides the numbers of a training or an evaluation."""
    return {
        "ganport": gan_core.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def parallel(network: nn.Module, ngpu: int) -> nn.Module:
    """`network` itself, or on `ngpu` > 1 devices in DataParallel, as PyTorch's DCGAN tutorial does it.

    Each replica normalises its own share of a batch, and only the first one's running statistics are kept.
    """
    return nn.DataParallel(network, list(range(ngpu))) if ngpu > 1 else network


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor's copy on `device`; to a GPU by way of pinned memory, so that nothing waits for the copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def memory_for_images(device: torch.device) -> int:
    """How many bytes of images may lie on `device`: a third of what a GPU has free, 2 GiB elsewhere."""
    return torch.cuda.mem_get_info(device)[0] // 3 if device.type == "cuda" else 2 << 30


def _count(n: int) -> str:
    return "is 1 CUDA device" if n == 1 else f"are {n} CUDA devices"
