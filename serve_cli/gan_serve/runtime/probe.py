"""What a stranger's graph draws, found out in a process of its own that may take neither long nor much memory.

A file without `gan.*` metadata has to be drawn once before its images' size is known. Opening it runs what is constant
in its graph, drawing runs the rest: a graph of a few hundred bytes can ask for 100 GB, or never end. Limits on memory
and processor time are Linux's and macOS's; elsewhere only the clock is watched.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_core.contract import Contract
from gan_core.errors import ContractError, GanportError, JobError
from gan_core.files import model_file
from gan_core.files.metadata import Port
from gan_core.interface import Interface
from gan_core.latents import latents
from gan_serve.runtime import providers
from gan_serve.runtime.signature import Signature, understand

MAX_GROWTH_BYTES = 768 << 20
"""Beside the file itself, of which a session keeps up to three copies."""
MAX_CPU_S = 8
MAX_WAIT_S = 60
SEEDS = range(4)
SLACK = 0.05
"""By which share of white values may lie beyond it; below black, a tenth of that."""
BYTES = 16.0
"""Values above this, and none below 0, are the numbers of bytes."""
NO_NUMBER = 1e38
"""What `Probed` has for NaN and infinity."""

_START = "import json, sys; asked = json.loads(sys.stdin.readline()); sys.path[:] = asked['path']; "
_START += "from gan_serve.runtime.probe import answer; answer(asked)"


@dataclass(frozen=True)
class Probed:
    """The shape of the first images, (n, C, H, W) if it is a generator; the least and the largest of their values."""

    shape: tuple[int, ...]
    low: float
    high: float

    def contract(self, signature: Signature, assumptions: list[str], where: str) -> Contract:
        """The contract of the file, all that nothing shows assumed. Raises `ContractError` where it draws no images."""
        if len(self.shape) != 4 or self.shape[1] not in (1, 3):
            raise ContractError(
                f"{where} gives arrays of shape {self.shape}, expected (batch, 1 or 3, H, W)",
                hint="gan-export onnx makes a file that says what it is",
            )
        if max(abs(self.low), abs(self.high)) >= NO_NUMBER:
            raise ContractError(f"{where} draws NaN or infinity", hint="its weights are damaged; export it again")
        (black, white), note = self._range()
        _, c, h, w = self.shape
        return Contract(
            Interface(signature.z_shape[0], (c, h, w), value_range=(black, white)),
            weights="unknown",
            assumptions=(*assumptions, note),
        )

    def _range(self) -> tuple[tuple[float, float], str]:
        """((black, white), the assumption in words): of what people use, the range that the first values speak for."""
        reach = f"the first images' values reach {self.low:.2f} … {self.high:.2f}"
        white = 255.0 if self.high > BYTES else 1.0
        if self.low >= -SLACK / 10 * white and 0 < self.high <= (1 + SLACK) * white:
            return (0.0, white), f"black is 0 and white is {white:g}, as no value is below 0: {reach}"
        if self.low < -1 - SLACK or self.high > 1 + SLACK:
            return (-1.0, 1.0), f"black is -1 and white is 1, and what is beyond -1 … 1 is clamped: {reach}"
        return (-1.0, 1.0), "black is -1 and white is 1"


def probe(model: str | bytes, where: str) -> Probed:
    """Draws a few seeds of a model (a path, or a file's bytes) that says nothing of itself.

    Raises `ContractError` for a file that is no generator of one latent, and where drawing takes over `MAX_CPU_S`
    seconds or more memory than the file can need; `GanportError` as `sessions.open_session`.
    """
    providers.import_onnxruntime()  # says what is missing, before a process is started for it
    content = base64.b64encode(model).decode() if isinstance(model, bytes) else None
    asked = {"path": sys.path, "file": None if content else str(model), "content": content, "where": where}
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
    if "shape" in answered:
        return Probed(tuple(answered["shape"]), answered["low"], answered["high"])
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
        found = _draw(asked)
    except GanportError as error:
        found = {"refused": [str(error), error.hint]}
    except MemoryError:
        found = {}
    print(json.dumps(found), flush=True)


def _draw(asked: dict[str, Any]) -> dict[str, Any]:
    onnxruntime = providers.import_onnxruntime()
    model = asked["file"] or base64.b64decode(asked["content"])
    size = len(model) if isinstance(model, bytes) else Path(model).stat().st_size
    _limit(MAX_GROWTH_BYTES + 3 * size)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[providers.PROVIDERS["cpu"]])
        inputs = [Port.of(argument) for argument in session.get_inputs()]
        outputs = [Port.of(argument) for argument in session.get_outputs()]
    except Exception as error:
        return {} if _no_memory(error) else {"load": " ".join(str(error).split())[:2000]}
    signature, _ = understand(inputs, outputs, asked["where"])
    batch = signature.fixed_batch or len(SEEDS)
    rows = latents(range(batch), signature.z_shape[0])
    fed = np.ascontiguousarray(rows, signature.z_dtype).reshape(batch, *signature.z_shape)
    try:
        (image,) = session.run([signature.image], {signature.z: fed})
    except Exception as error:
        if _no_memory(error):
            return {}
        said = " ".join(str(error).split())[:300]
        return {"refused": [f"{asked['where']} does not run: {said}", "export it again, or upgrade onnxruntime"]}
    values = np.asarray(image, np.float32)
    return {"shape": values.shape, "low": _number(values.min(initial=0)), "high": _number(values.max(initial=0))}


def _number(value: Any) -> float:
    """As JSON; what is no number becomes one that no image reaches."""
    return float(value) if abs(value) < NO_NUMBER else NO_NUMBER


def _no_memory(error: Exception) -> bool:
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(each in said for each in ("alloc", "memory", "integer overflow"))


def _limit(growth: int) -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
        mapped = Path("/proc/self/statm")
        now = int(mapped.read_text().split()[0]) * resource.getpagesize() if mapped.exists() else 1 << 30
        resource.setrlimit(resource.RLIMIT_AS, (now + growth, now + growth))
