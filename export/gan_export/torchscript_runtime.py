"""TorchScript files as generators: the runtime behind `gan-gen --model g.ts`, and the proof's. Needs torch."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_core.arrays import F32, I64, U8
from gan_core.errors import ContractError, GanportError, JobError
from gan_core.files.archive import contract_of, entries_sha256, read_entries
from gan_core.files.model_file import sha256_of
from gan_export import script_check
from gan_export.torchscript_export import all_nodes, load_bytes, plain_execution, stored_zip
from gan_serve.runtime import Given, check_drawn
from gan_serve.runtime.generator import Generator

log = logging.getLogger(__name__)

PROVIDERS = ("auto", "cpu", "cuda")


def load(
    path: str | os.PathLike[str], provider: str = "auto", threads: int | None = None, *, trust_script: bool = False
) -> Generator:
    """The generator in a TorchScript file; the entry point `ts` of `ganport.runtimes`. See `TorchScriptGenerator`."""
    return TorchScriptGenerator(path, provider, threads, trust_script=trust_script)


class TorchScriptGenerator(Generator):
    """Runs a TorchScript file that keeps the contract.

    provider  "cpu", "cuda", or "auto": cuda where torch has one, else the CPU
    threads   torch's threads, for the whole process (torch has no others); None leaves them
    trust_script  whether the program in the file is run whatever it does. Else it is looked at before anything of it is
                  loaded, and refused where it may do more than compute (`script_check`)
    Raises `GanportError` for a file that is missing or a provider that cannot run here, `ContractError` for a
    file that is no TorchScript, is damaged, or carries no contract.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        provider: str = "auto",
        threads: int | None = None,
        *,
        trust_script: bool = False,
    ) -> None:
        again, self.file = Path(path).absolute(), Path(path).name
        self.reopen = partial(TorchScriptGenerator, again, provider, threads, trust_script=trust_script)
        self.provider = resolve_provider(provider)
        if threads is not None and threads < 1:
            raise GanportError(f"`threads` must be at least 1, got {threads}", hint="leave it out for torch's choice")
        entries = script_check.needed(read_entries(path))
        self.contract = contract_of(entries, path)
        if threads is not None:
            torch.set_num_threads(threads)
        if trust_script:
            log.warning(script_check.MEANING)
        else:
            script_check.check_entries(entries, str(path))
        try:
            # As it was looked at: torch reads an archive of its own kind in other ways than Python.
            archive = stored_zip(entries)
            self.module: Any = load_bytes(archive)
            if not trust_script:
                script_check.check_graph(all_nodes(self.module), str(path))
            if self.provider != "cpu":
                self.module = load_bytes(archive, self.provider)
        except GanportError:
            raise
        except Exception as error:  # torch raises RuntimeError, ValueError and its own classes for damaged archives
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ContractError(
                f"{path} is TorchScript that torch {torch.__version__} cannot load: {reason[:200]}",
                hint="export it again, or use the torch that wrote it",
            ) from error
        self.sha256 = sha256_of(Path(path))
        self._graph_sha256 = entries_sha256(entries)

    def graph_sha256(self) -> str:
        return self._graph_sha256

    def run(self, z: Given, label: I64 | None = None) -> tuple[F32, U8]:
        arguments = [torch.from_numpy(np.array(z, np.float32 if self.contract.interface.input is None else np.uint8))]
        if self.contract.interface.conditional:
            arguments.append(torch.from_numpy(np.array(label, np.int64)))
        try:
            with plain_execution():
                image, pixels = self.module(*(argument.to(self.provider) for argument in arguments))
        except Exception as error:
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise JobError(
                f"{self.provider} failed on a batch of {len(z)}: {last[:300]}",
                hint='try a smaller `batch_size`, or `provider="cpu"`',
            ) from error
        image_NCHW, pixels_NHWC = image.cpu().numpy(), pixels.cpu().numpy()
        check_drawn(self.contract, z.shape, image_NCHW=image_NCHW, pixels_NHWC=pixels_NHWC)
        return image_NCHW, pixels_NHWC


def resolve_provider(provider: str) -> str:
    """The device for what was asked, cpu or cuda.

    Raises `GanportError` for a provider that TorchScript does not have, or a GPU that is not there.
    """
    if provider not in PROVIDERS:
        raise GanportError(
            f"a TorchScript file runs on {', '.join(PROVIDERS)}, got {provider!r}",
            hint="for other providers export ONNX: gan-export FILE",
        )
    available = torch.cuda.is_available()
    if provider == "cuda" and not available:
        raise GanportError(
            "provider cuda cannot run: torch finds no CUDA device here",
            hint='use `provider="cpu"`, or `provider="auto"`',
        )
    if provider == "auto":
        return "cuda" if available else "cpu"
    return provider
