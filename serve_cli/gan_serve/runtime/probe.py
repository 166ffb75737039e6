"""What a stranger's graph draws, found out in a process of its own that may take neither long nor much memory.

A file without `gan.*` metadata has to be drawn once before its images' size is known. Opening it runs what is constant
in its graph, drawing runs the rest: a graph of a few hundred bytes can ask for 100 GB, or never end. Limits on memory
and processor time are Linux's and macOS's; elsewhere only the clock is watched.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError, JobError
from gan_core.fields import from_json
from gan_core.files import model_file
from gan_core.files.metadata import Port
from gan_core.files.model_file import count_classes
from gan_core.interface import Interface
from gan_core.latents import default_labels, latents
from gan_core.said import UNSAID, OnnxAnswers
from gan_serve.runtime import Signature, providers
from gan_serve.runtime.foreign import HINT, Understood, layout_of, no_images, understand

MAX_GROWTH_BYTES = 768 << 20
"""Beside the file itself, of which a session keeps up to three copies."""
MAX_CPU_S = 8
MAX_WAIT_S = 60
BATCH, MOST = 4, 32
"""Images of the first batch, and of all."""
TRIAL_PIXELS = MOST * 64 * 64
"""Height x width of all images beyond the first batch."""
SLACK = 0.05
"""The share of their reach that values may lie beyond black and white."""
BYTES = 16.0
"""Values above this, and none below 0, are the numbers of bytes."""

_START = "import json, sys; asked = json.loads(sys.stdin.readline()); sys.path[:] = asked['path']; "
_START += "from gan_serve.runtime.probe import answer; answer(asked)"


@dataclass(frozen=True)
class Probed:
    """What a stranger's generator is: how it is fed and read, and its interface; what of it was assumed.

    notes  what its graph shows and costs speed
    """

    signature: Signature
    interface: Interface
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def contract(self, answers: OnnxAnswers) -> Contract:
        """What a file that says it of itself would have; `answers` are those that it was found with."""
        return Contract(self.interface, weights="unknown", assumptions=self.assumptions, answers=answers.sentences)


def probe(model: str | bytes, answers: OnnxAnswers, where: str) -> Probed:
    """Draws a few seeds of a model (a path, or a file's bytes) that says nothing of itself but for `answers`.

    Raises `ContractError` for a file that is no generator or that has to be told more (code `UNSAID`), and where
    drawing takes over `MAX_CPU_S` seconds or more memory than the file can need; `GanportError` as
    `sessions.open_session`.
    """
    providers.import_onnxruntime()  # says what is missing, before a process is started for it
    content = base64.b64encode(model).decode() if isinstance(model, bytes) else None
    asked: dict[str, Any] = {"path": sys.path, "content": content, "file": None if content else str(model)}
    asked |= {"where": where, "answers": asdict(answers), "seconds": MAX_CPU_S}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START],
            input=json.dumps(asked) + "\n",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=MAX_WAIT_S,
            check=False,
        )
        answered = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    except subprocess.TimeoutExpired:
        answered = {}
    except (OSError, ValueError, IndexError) as error:
        raise JobError(
            f"{where} has no metadata, and no process could be started to try it: {error}",
            hint="export it with gan-export, whose files need no trial",
        ) from error
    if "interface" in answered:
        return from_json(Probed, answered)
    if "refused" in answered:
        raise ContractError(*answered["refused"])
    if "load" in answered:
        raise model_file.explain_load_error(where, RuntimeError(answered["load"]))
    raise ContractError(
        f"{where} has no metadata, and drawing its first image took over {MAX_CPU_S} s or "
        f"{MAX_GROWTH_BYTES >> 20} MiB of memory, so it was stopped",
        hint="a graph that a generator does not need? gan-export onnx makes a file from its checkpoint",
    )


def answer(asked: dict[str, Any]) -> None:
    """The other process: limits itself, draws, and prints one line of JSON."""
    try:
        found = _try(asked)
    except GanportError as error:
        found = {"refused": [str(error), error.hint, error.code]}
    except MemoryError:
        found = {}
    print(json.dumps(found), flush=True)


def _try(asked: dict[str, Any]) -> dict[str, Any]:
    onnxruntime = providers.import_onnxruntime()
    where, answers = asked["where"], from_json(OnnxAnswers, asked["answers"])
    model = asked["file"] or base64.b64decode(asked["content"])
    size = len(model) if isinstance(model, bytes) else Path(model).stat().st_size
    _limit(MAX_GROWTH_BYTES + 3 * size, asked["seconds"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[providers.PROVIDERS["cpu"]])
        inputs = [Port.of(argument) for argument in session.get_inputs()]
        outputs = [Port.of(argument) for argument in session.get_outputs()]
    except Exception as error:
        return {} if _no_memory(error) else {"load": " ".join(str(error).split())[:2000]}
    found = understand(inputs, outputs, answers, where)
    n_classes, counted = _classes(found, model, answers, where)
    try:
        trial = _Trial(session, found.signature, n_classes, answers, where).drawn()
    except _MemoryGoneError:
        return {}
    value_range, seen = trial.value_range()
    said = (*found.assumptions, counted, trial.order, seen)
    interface = Interface(
        math.prod(trial.signature.z_shape), trial.image, answers.latent or "normal", value_range, n_classes
    )
    batch = trial.signature.fixed_batch
    notes = (f"the graph takes {batch} at a time: so many images are generated in a run",) if batch else ()
    return asdict(Probed(trial.signature, interface, tuple(filter(None, said)), notes))


def _classes(found: Understood, model: str | bytes, answers: OnnxAnswers, where: str) -> tuple[int, str]:
    """(the number of classes, what was assumed of it); 0 for a generator without."""
    label = found.signature.label
    if label is None:
        if answers.n_classes:
            raise ContractError(f"{where} takes no class", hint="leave `n_classes` out")
        return 0, ""
    counted = found.n_classes or count_classes(model, label)
    if answers.n_classes and found.n_classes in (None, answers.n_classes):
        return answers.n_classes, ""
    if answers.n_classes:
        raise ContractError(f"{where}: {label} has {counted} numbers, one a class", hint="leave `n_classes` out")
    if not counted:
        raise ContractError(
            f"{where} does not show how many classes its input {label} has",
            hint="`n_classes=10` for ten",
            code=UNSAID,
        )
    return counted, "" if found.n_classes else f"{label} is a class, 0 … {counted - 1}, as the graph looks it up"


class _MemoryGoneError(Exception):
    """The graph asked for more than it may have."""


class _Trial:
    """A few images of a generator, and what they show: sizes, layout, values, and the batches that run."""

    def __init__(self, session: Any, signature: Signature, n_classes: int, answers: OnnxAnswers, where: str) -> None:
        self.signature, self.image = signature, answers.image or (0, 0, 0)
        self.order = ""
        self._session, self._answers, self._where = session, answers, where
        self._n_classes = n_classes
        self._images, self._low, self._high, self._kind = 0, math.inf, -math.inf, ""

    def drawn(self) -> _Trial:
        """Draws. Raises `ContractError` where there is no image to draw, `_MemoryGoneError`."""
        batch = self.signature.fixed_batch or BATCH
        try:
            first = self._run(0, batch)
        except ContractError as error:
            if batch == 1 or self.signature.fixed_batch:
                raise
            self.signature, batch = replace(self.signature, fixed_batch=1), 1
            try:
                first = self._run(0, batch)
            except ContractError:
                raise error from None
        self._see_shape(first)
        self._see(first)
        wanted = max(batch, min(MOST, TRIAL_PIXELS // (self.image[1] * self.image[2])))
        for start in range(batch, wanted - batch + 1, batch):
            self._see(self._run(start, batch))
        return self

    def _run(self, start: int, batch: int) -> npt.NDArray[Any]:
        """The output of seeds `start`, …: a row an image. Raises `ContractError` where that does not run."""
        signature, seeds = self.signature, np.arange(start, start + batch)
        z = latents(seeds, math.prod(signature.z_shape), self._answers.latent or "normal")
        label = default_labels(seeds, self._n_classes) if self._n_classes else None
        feeds = signature.feeds(z, label, self._n_classes) | signature.fixed()
        try:
            (given,) = self._session.run([signature.image], feeds)
        except Exception as error:
            if _no_memory(error):
                raise _MemoryGoneError from error
            said = " ".join(str(error).split())[:300]
            raise ContractError(
                f"{self._where} does not run: {said}", hint="export it again, or upgrade onnxruntime"
            ) from error
        given = given[None] if signature.single else given
        if given.ndim < 2 or len(given) != batch:
            raise ContractError(
                f"{self._where} gives {signature.image} {given.shape} for {batch} latents, expected a row an image",
                hint=HINT,
            )
        return np.asarray(given)

    def _see_shape(self, given: npt.NDArray[Any]) -> None:
        port = Port(self.signature.image, "tensor(uint8)" if given.dtype == np.uint8 else "tensor(float)", given.shape)
        layout = layout_of(given.shape, self._answers.image)
        if layout is None or not given.size:
            raise no_images([port], self._answers, self._where)
        self.signature = replace(self.signature, layout=layout)
        if layout != "flat":
            c, h, w = given.shape[1:] if layout == "NCHW" else (given.shape[3], *given.shape[1:3])
            self.image = (int(c), int(h), int(w))
        elif self.image[0] > 1:
            self.order = f"the numbers of {port.name} are one channel after the other"
        self._kind = str(given.dtype)

    def _see(self, given: npt.NDArray[Any]) -> None:
        low, high = float(given.min()), float(given.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ContractError(
                f"{self._where} generates NaN or infinity", hint="its weights are damaged; export it again"
            )
        self._images += len(given)
        self._low, self._high = min(self._low, low), max(self._high, high)

    def value_range(self) -> tuple[tuple[float, float], str]:
        """((black, white), what was assumed or ""). Raises `ContractError` where neither values nor user say it."""
        if self._answers.value_range is not None:
            return self._answers.value_range, ""
        if self._kind == "uint8":
            return (0.0, 255.0), ""
        seen = f"the values of {self._images} images reach {self._low:.2f} … {self._high:.2f}"
        found = range_of(self._low, self._high)
        if found is None:
            raise ContractError(
                f"{self._where} does not say which values are black and white: {seen}",
                hint=f'`value_range="{self._low:.3g},{self._high:.3g}"` shows them all; what lies beyond is clamped',
                code=UNSAID,
            )
        return found, f"black is {found[0]:g} and white is {found[1]:g}: {seen}"


def range_of(low: float, high: float) -> tuple[float, float] | None:
    """(black, white) of the ranges that people use, where values from `low` to `high` speak for one; else None.

    Rounding, interpolation and outputs without a last activation overshoot a little. What goes below 0 by more than
    that is no share of light: tanh and its like go there on every image, of whatever data.
    """
    positive = low >= -SLACK * abs(high)
    if positive and high <= 1 + SLACK:
        return (0.0, 1.0)
    if max(-low, high) <= 1 + SLACK:
        return (-1.0, 1.0)
    return (0.0, 255.0) if positive and BYTES < high <= 255 * (1 + SLACK) else None


def _no_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(each in said for each in ("alloc", "memory", "integer overflow"))


def _limit(growth: int, seconds: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        mapped = Path("/proc/self/statm")
        now = int(mapped.read_text().split()[0]) * resource.getpagesize() if mapped.exists() else 1 << 30
        resource.setrlimit(resource.RLIMIT_AS, (now + growth, now + growth))
