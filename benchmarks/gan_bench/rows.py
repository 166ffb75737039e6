"""What is measured: a row is something that draws, where it runs, its number of threads, and the images a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar

from gan_bench.peers import PEERS
from gan_bench.questions import Task
from gan_core.errors import GanportError
from gan_core.said import OnnxAnswers

T = TypeVar("T")

OURS = "ganport"
MAX_ROWS = 128
"""All rows' processes live at once (their windows are interleaved), so their number is bounded."""
PNG_IMAGES = 256
"""Images in a folder of an end-to-end row."""
TF32_PROVIDERS = ("cuda", "tensorrt")


@dataclass(frozen=True)
class Row:
    """One line of the benchmark.

    provider   as asked for ("auto" included); of a peer the device, "cpu" or "cuda"
    threads    None: the runtime chooses
    batch      images per call
    runtime    "ganport", or one of `peers.PEERS`
    model      the generator file of a ganport row
    precision  of a peer; None for a ganport row, whose file says it
    tf32       whether matrix products on CUDA may round to 10 bits
    task       "pixels": latents in, pixels out; "png": seeds in, a folder of PNG files out
    """

    provider: str
    threads: int | None
    batch: int
    runtime: str = OURS
    model: Path | None = None
    precision: str | None = None
    tf32: bool = False
    task: Task = "pixels"

    @property
    def ours(self) -> bool:
        return self.runtime == OURS

    def __str__(self) -> str:
        what = self.runtime if self.model is None else f"{self.runtime} {self.model.name}"
        parts = [what, self.precision or "", self.provider, "TF32" if self.tf32 else ""]
        task = f"{self.batch} PNG files" if self.task == "png" else f"batch {self.batch}"
        return f"{' '.join(filter(None, parts))}, threads {threads_label(self.threads)}, {task}"


@dataclass(frozen=True)
class Selection:
    """Everything that rows are made of. `peers` need `ckpt`; `models` may be empty when there is one.

    trust_script  whether .ts files may run whatever the program in them does
    answers       what .onnx files of other exporters do not say; None: nothing is said of them
    """

    models: tuple[Path, ...]
    providers: tuple[str, ...] = ("auto",)
    threads: tuple[int | None, ...] = (None,)
    batches: tuple[int, ...] = (1,)
    ckpt: Path | None = None
    peers: tuple[str, ...] = ()
    tf32: tuple[bool, ...] = (False,)
    end_to_end: bool = False
    trust_script: bool = False
    answers: OnnxAnswers | None = None

    def rows(self, torch_device: str = "cpu", precisions: Sequence[str] = ()) -> tuple[Row, ...]:
        """Every combination, once each, batches varying fastest: ganport's, then the peers', then end to end.

        torch_device  where peers run when the provider is "auto"
        precisions    of `models`, where they are known: TF32 is about fp32 alone
        Raises `GanportError` for more than `MAX_ROWS`.
        """
        lower = [path for path, name in zip(self.models, precisions, strict=False) if name != "fp32"]
        ours = [
            Row(provider, count, batch, model=model, tf32=tf32)
            for model, provider, count in product(_once(self.models), _once(self.providers), _once(self.threads))
            for tf32 in ((False,) if model in lower else self._tf32_of(provider))
            for batch in _once(self.batches)
        ]
        rows = [*ours, *self._peer_rows(torch_device), *(self._png_rows() if self.end_to_end else ())]
        if len(rows) > MAX_ROWS:
            raise GanportError(
                f"{len(rows)} rows asked for, each in a process of its own; the most is {MAX_ROWS}",
                hint="run gan-bench twice, with fewer batches or threads each",
            )
        return tuple(rows)

    def _peer_rows(self, torch_device: str) -> Iterable[Row]:
        devices = [torch_device if name == "auto" else _device(name) for name in self.providers]
        for peer, device, count in product(_once(self.peers), _once(devices), _once(self.threads)):
            if device not in PEERS[peer].devices:
                continue
            for precision in PEERS[peer].precisions(device):
                for tf32 in self._tf32_of(device) if precision == "fp32" else (False,):
                    for batch in _once(self.batches):
                        yield Row(device, count, batch, runtime=peer, precision=precision, tf32=tf32)

    def _png_rows(self) -> Iterable[Row]:
        for model, provider, count in product(_once(self.models), _once(self.providers), _once(self.threads)):
            yield Row(provider, count, PNG_IMAGES, model=model, task="png")

    def _tf32_of(self, provider: str) -> tuple[bool, ...]:
        return tuple(_once(self.tf32)) if provider in TF32_PROVIDERS else (False,)


def threads_label(threads: int | None) -> str:
    """How a number of threads is written in tables: the number, or "auto"."""
    return "auto" if threads is None else str(threads)


def _device(provider: str) -> str:
    """Where a peer runs to be compared with this provider of ours."""
    return "cuda" if provider in TF32_PROVIDERS else "cpu"


def _once(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
