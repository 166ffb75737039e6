"""TorchScript files as generators: the runtime behind `gan-gen --model g.ts`, and the proof's. Needs torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_export import jit
from gan_export.torchscript_archive import read_contract
from gan_serve.errors import ContractError, GanportError, JobError
from gan_serve.generator import F32, I64, U8, Generator, check_drawn
from gan_serve.model_file import sha256_of

PROVIDERS = ("auto", "cpu", "cuda")


def load(path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None) -> Generator:
    """The generator in a TorchScript file; the entry point `ts` of `ganport.runtimes`. See `TorchScriptGenerator`."""
    return TorchScriptGenerator(path, provider, threads)


class TorchScriptGenerator(Generator):
    """Runs a TorchScript file that keeps the contract.

    provider  "cpu", "cuda", or "auto": cuda where torch has one, else the CPU
    threads   torch's threads, for the whole process (torch has no others); None leaves them
    Raises `GanportError` for a file that is missing or a provider that cannot run here, `ContractError` for a
    file that is no TorchScript, is damaged, or carries no contract.
    """

    def __init__(self, path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None) -> None:
        self.provider = resolve_provider(provider)
        if threads is not None and threads < 1:
            raise GanportError(f"threads must be at least 1, got {threads}", hint="leave it out for torch's choice")
        self.contract = read_contract(path)
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            self.module: Any = jit.load_file(os.fspath(path), self.provider)
        except Exception as error:  # torch raises RuntimeError, ValueError and its own classes for damaged archives
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ContractError(
                f"{path} is TorchScript that torch {torch.__version__} cannot load: {reason[:200]}",
                hint="export it again, or use the torch that wrote it",
            ) from error
        self.sha256 = sha256_of(Path(path))

    def run(self, z: F32, label: I64 | None = None) -> tuple[F32, U8]:
        arguments = [torch.from_numpy(np.array(z, np.float32))]
        if self.contract.conditional:
            arguments.append(torch.from_numpy(np.array(label, np.int64)))
        try:
            with jit.plain_execution():
                image, pixels = self.module(*(argument.to(self.provider) for argument in arguments))
        except Exception as error:
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise JobError(
                f"{self.provider} failed on a batch of {len(z)}: {last[:300]}",
                hint="try a smaller --batch-size, or --provider cpu",
            ) from error
        image_NCHW, pixels_NHWC = image.cpu().numpy(), pixels.cpu().numpy()
        check_drawn(self.contract, len(z), image_NCHW=image_NCHW, pixels_NHWC=pixels_NHWC)
        return image_NCHW, pixels_NHWC


def resolve_provider(provider: str) -> str:
    """The device for what was asked, cpu or cuda.

    Raises `GanportError` for a provider that TorchScript does not have, or a GPU that is not there.
    """
    if provider not in PROVIDERS:
        raise GanportError(
            f"a TorchScript file runs on {', '.join(PROVIDERS)}, got {provider!r}",
            hint="for other providers export ONNX: gan-export onnx --ckpt FILE",
        )
    available = torch.cuda.is_available()
    if provider == "cuda" and not available:
        raise GanportError(
            "provider cuda cannot run: torch finds no CUDA device here", hint="use --provider cpu, or --provider auto"
        )
    if provider == "auto":
        return "cuda" if available else "cpu"
    return provider
