"""Whole processes measured beside each other: taken in turn, wall time and peak memory, the same images at the end.

What `lab.cold_start` and `lab.end_to_end` share: gan-gen, whatever it is compared with, and their record.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_bench.shared.environment import busy_note, describe
from gan_bench.shared.inputs import check_checkpoint
from gan_bench.shared.memory import maxrss_bytes
from gan_bench.shared.stats import spread
from gan_core.errors import GanportError, JobError
from gan_core.files.model_file import sha256_of
from gan_core.files.outputs import check_outputs
from gan_serve.runtime.runtimes import check_runnable
from gan_serve.terminal import console
from lab.packages import require_torch, version_of

Json = dict[str, Any]

SCHEMA = 1
"""Of the records of whole processes; gan-bench's own counts for itself."""
MAX_LSB = 1
PACKAGES = ("onnxruntime", "torch", "torchvision", "pillow")


@dataclass
class Command:
    """One way to the images, and what its runs took. `peaks` are None where the system hides them.

    out   the picture or the folder that it leaves, if any; a folder is removed before each run
    """

    name: str
    arguments: list[str]
    out: Path
    walls_s: list[float] = field(default_factory=list)
    peaks_bytes: list[int | None] = field(default_factory=list)

    def to_json(self) -> Json:
        wall = spread(self.walls_s)
        peaks = [peak for peak in self.peaks_bytes if peak is not None]
        return {
            "wall_s": round(wall.median, 4),
            "wall_s_low": round(wall.low, 4),
            "wall_s_high": round(wall.high, 4),
            "wall_s_runs": [round(value, 4) for value in self.walls_s],
            "peak_rss_bytes": int(spread(peaks).median) if peaks else None,
        }


def check_request(model: Path, ckpt: Path, record: str | None, numbers: Mapping[str, tuple[int, int]]) -> Path | None:
    """The file of `record` (--json), or None. `numbers` are options with their value and the most it may be, from 1.

    Raises `GanportError` for what cannot be measured, or written afterwards.
    """
    for name, (value, most) in numbers.items():
        if not 1 <= value <= most:
            raise GanportError(f"{name} takes 1 to {most}, got {value}", hint="leave it out for the usual number")
    check_runnable(model)
    check_checkpoint(ckpt)
    target = None if record in (None, "-") else Path(str(record))
    check_outputs({"--model": model, "--ckpt": ckpt}, {"--json": target})
    require_torch("the torch script that gan-gen is compared with")
    return target


def new_record(tool: str, model: Path, ckpt: Path) -> Json:
    """What every record of whole processes begins with; takes half a second to look at the machine."""
    environment = describe(shlex.join(["python", "-m", tool, *sys.argv[1:]]))
    environment["versions"] |= {name: version_of(name) for name in PACKAGES}
    if busy := busy_note(environment):
        console.warn(busy)
    files = {"model": model, "checkpoint": ckpt}
    about = {
        key: {"file": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}
        for key, path in files.items()
    }
    return {"schema": SCHEMA, "tool": tool, "environment": environment, **about}


def gan_gen() -> list[str]:
    """How the gan-gen of this environment is started."""
    installed = shutil.which("gan-gen", path=sysconfig.get_path("scripts"))
    return [installed] if installed else [sys.executable, "-P", "-c", "from gan_serve.gen.cli import main; main()"]


def script(name: str) -> list[str]:
    """How a script of this folder is started, by its path: as a user's, in a fresh interpreter."""
    return [sys.executable, "-P", str(Path(__file__).with_name(name))]


def take_turns(given: Sequence[Command], runs: int) -> None:
    """Runs each command once unmeasured, then `runs` times measured, who goes first alternating."""
    with console.progress(len(given) * (runs + 1), "measuring") as bar:
        for number in range(runs + 1):
            for command in given if number % 2 else reversed(given):
                wall_s, peak = run_once(command)
                bar.update(1)
                if number:
                    command.walls_s.append(wall_s)
                    command.peaks_bytes.append(peak)


def run_once(command: Command) -> tuple[float, int | None]:
    """Wall time in seconds and peak resident memory in bytes of one fresh process.

    The memory is None where the system does not tell (Windows). Raises `JobError` when the command fails.
    """
    if command.out.is_dir():
        shutil.rmtree(command.out)
    starter = [sys.executable, "-I", "-S", str(Path(__file__).with_name("start_one.py"))]
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            [*starter, *command.arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output
        ) as process:
            try:
                told, _ = process.communicate()
            except BaseException:
                process.terminate()
                raise
        took: Json = json.loads(told or b"{}")
        if exit_code := took.get("exit_code", process.returncode):
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            said = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise JobError(
                f"{command.name} ended with exit code {exit_code}: {said}",
                hint=f"run it alone: {shlex.join(command.arguments)}",
            )
    peak = took["ru_maxrss"]
    return took["wall_s"], None if peak is None else maxrss_bytes(peak)


def picture_difference(ours: Path, theirs: Path) -> int:
    """The largest difference of two pictures in LSB. Raises `JobError` when they are not the same picture."""
    import numpy as np
    from PIL import Image

    from gan_core.limits import max_lsb

    with Image.open(ours) as a, Image.open(theirs) as b:
        pixels = [np.asarray(image.convert("RGB")) for image in (a, b)]
    if pixels[0].shape != pixels[1].shape:
        raise JobError(
            f"gan-gen drew a picture of {_size(pixels[0])}, the torch script one of {_size(pixels[1])}",
            hint="the two do not draw the same: export the model again and prove it with gan-export verify",
        )
    difference = max_lsb(*pixels)
    if difference > MAX_LSB:
        raise JobError(
            f"gan-gen and the torch script drew different images: up to {difference} LSB, at most {MAX_LSB} expected",
            hint="is --model the export of this --ckpt?",
        )
    return difference


def _size(pixels: Any) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
