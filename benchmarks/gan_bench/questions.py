"""What a row's process can be asked, and what it answers; `gan_bench.process` asks, `gan_bench.worker` answers.

A `Question[A]` is answered by an `A`, or by `Refused` or `Failed`. Each is a frozen dataclass, pickled, a line on a
pipe: both ends are ours and of the same installation. Nothing heavy is imported here: what is measured imports it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TextIO, TypeVar, get_args

from gan_bench.parity import Difference
from gan_core.fields import Json
from gan_core.said import OnnxAnswers

Task = Literal["pixels", "png"]
A = TypeVar("A")
_SHOWN = 60


class Question(Generic[A]):
    """Something to do. `answer()` is the kind of its answer."""

    @classmethod
    def answer(cls) -> type[A]:
        [base] = cls.__orig_bases__  # type: ignore[attr-defined]
        [kind] = get_args(base)
        answer: type[A] = kind
        return answer


@dataclass(frozen=True)
class Refused:
    """Wrong input: a `GanportError`."""

    message: str
    hint: str


@dataclass(frozen=True)
class Failed:
    """The input was fine, the work came to grief."""

    message: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint and the generator in it. `image` is (C, H, W), `spec` the generator's as JSON, or None."""

    name: str
    z_dim: int
    n_classes: int
    image: tuple[int, int, int]
    weights: str
    spec: Json | None
    file: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Unpacked:
    """cuda: whether torch has a CUDA device. notes: what had to be assumed, in sentences."""

    cuda: bool
    checkpoint: Checkpoint
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unpack(Question[Unpacked]):
    """Read the checkpoint once, for all peers, and leave in `folder` what they open (`peers.checkpoint.unpack`).

    model  its export, whose spec says what the file leaves open; None without one
    stock  whether the stock export is wanted
    answers  what `model` does not say, where it is another exporter's
    """

    ckpt: Path
    folder: Path
    model: Path | None
    stock: bool
    trust_script: bool = False
    answers: OnnxAnswers | None = None


@dataclass(frozen=True)
class Library:
    """What runs the generator."""

    name: str
    version: str


@dataclass(frozen=True)
class Model:
    """What an opened file says of itself; `image` is (C, H, W), `spec` as JSON, or None.

    ours  whether it carries a contract; else it is another exporter's, and `assumptions` are what it does not say
    """

    sha256: str
    name: str
    precision: str
    weights: str
    z_dim: int
    n_classes: int
    image: tuple[int, int, int]
    value_range: tuple[float, float]
    passes: tuple[str, ...]
    spec: Json | None
    checkpoint_sha256: str | None
    ours: bool = True
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opened:
    """What the runtime says of itself, and how long it took to get ready.

    cpu_nodes  those that fell to the CPU
    peak       of this and other answers: the most bytes that the process has held so far; None where nobody says
    """

    provider: str
    threads: int | None
    import_ms: float
    session_create_ms: float
    cpu_nodes: int | None
    details: Json
    runtime: Library
    model: Model
    peak: int | None = None


@dataclass(frozen=True)
class Open(Question[Opened]):
    """Load a generator: "ganport" or a peer by its name. `threads` None: the runtime chooses.

    precision, batches  of a peer, which may be made for them
    answers             what an .onnx file of another exporter does not say
    """

    runtime: str
    path: Path
    provider: str
    threads: int | None
    precision: str | None = None
    tf32: bool = False
    batches: tuple[int, ...] = ()
    trust_script: bool = False
    answers: OnnxAnswers | None = None


@dataclass(frozen=True)
class DrawReference(Question[None]):
    """Draw the reference seeds, each in a batch of its own, to a .npz file."""

    file: Path


@dataclass(frozen=True)
class Prepared:
    """The time of the process's first run, and the difference over all batches that will be timed."""

    first_run_ms: float
    difference: Difference
    peak: int | None = None


@dataclass(frozen=True)
class Prepare(Question[Prepared]):
    """Make the batches of a task, run once, and compare every image with those of `reference` (.npz)."""

    batch: int
    task: Task
    reference: Path


@dataclass(frozen=True)
class Window:
    """Every call's time, and the difference of the last batch that was timed."""

    elapsed_s: float
    latencies_ns: tuple[int, ...]
    difference: Difference
    peak: int | None = None


@dataclass(frozen=True)
class TakeWindow(Question[Window]):
    """Call back to back for `seconds`, and at least `min_calls` times."""

    batch: int
    seconds: float
    min_calls: int


@dataclass(frozen=True)
class Product:
    """The machine's fastest matrix product: the library, the side of the square; and how much is copied beside it."""

    product_by: str
    product_size: int
    copy_bytes: int


@dataclass(frozen=True)
class ChooseProduct(Question[Product]):
    """Choose the fastest product of `device` at `precision` with `threads`; see `gan_bench.tasks`."""

    device: str
    precision: str
    threads: int
    copy_bytes: int
    use_torch: bool


@dataclass(frozen=True)
class Rates:
    """One window of the machine's product and copy; None where nothing can copy."""

    gflop_per_s: float
    gb_per_s: float | None


@dataclass(frozen=True)
class TakeRates(Question[Rates]):
    """Measure the chosen product and its copy for `seconds`."""

    seconds: float


class MessageError(ValueError):
    """A line that is none of the messages expected: what was found, what was expected."""


def write(message: object) -> str:
    """The message as one line."""
    return base64.b64encode(pickle.dumps(message)).decode() + "\n"


def read(line: str, *kinds: type[Any]) -> Any:
    """The message of one of `kinds` that `line` holds. Raises `MessageError` for anything else."""
    expected = " or ".join(kind.__name__ for kind in kinds)
    try:
        found = pickle.loads(base64.b64decode(line.rstrip("\n"), validate=True))
    except Exception as error:  # of pickle, and of what it makes
        raise MessageError(f"expected {expected}, got something else: {line.strip()[:_SHOWN]!r}") from error
    if not isinstance(found, kinds):
        raise MessageError(f"expected {expected}, got {type(found).__name__}")
    return found


def private_stdout() -> TextIO:
    """The real stdout for messages alone; what libraries print, to descriptor 1 even, goes to stderr from here on."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return messages


def die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies, even by SIGKILL (prctl PR_SET_PDEATHSIG).

    Elsewhere the end of its stdin or stdout does it, after what it is at.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
