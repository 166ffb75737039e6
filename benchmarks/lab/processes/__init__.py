"""Whole processes measured beside each other: taken in turn, wall time and peak memory, the same images at the end.

What `lab.cold_start`, `lab.end_to_end` and `lab.scaling` share: gan-gen, whatever it is compared with (the scripts of
this folder), their record and their tables.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gan_bench.options import check_checkpoint
from gan_bench.windows import spread
from gan_bench.worker import maxrss_bytes
from gan_core.errors import JobError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance
from gan_serve.runtime.runtimes import check_runnable
from gan_serve.terminal import console
from lab import shared

MAX_LSB = 1
COMPARED = 25
"""Of a folder about so many images are compared."""
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


def check_request(
    model: Path, ckpt: Path, json: str | None, numbers: Mapping[str, tuple[int, int, int]]
) -> Path | None:
    """The file of --json, or None. Raises `GanportError` for what cannot be measured, or written afterwards."""
    shared.check_numbers(numbers)
    check_runnable(model)
    check_checkpoint(ckpt)
    target = shared.record_target(json, {"--model": model, "--ckpt": ckpt})
    shared.require("the torch script that gan-gen is compared with")
    return target


def new_record(tool: str, model: Path, ckpt: Path) -> Json:
    """What the record of gan-gen beside torch begins with."""
    made = shared.new_record(tool, packages=PACKAGES)
    return made | {"model": file_provenance(model), "checkpoint": file_provenance(ckpt)}


def share(ours: Json, theirs: Json, key: str, digits: int = 4) -> float | None:
    """A number of one command as a part of another's; None where the system hides one of them."""
    return None if None in (ours[key], theirs[key]) else round(ours[key] / theirs[key], digits)


def table(title: str, rows: Iterable[tuple[str, Json]], *, rates: bool = False, more: Sequence[str] = ()) -> str:
    """A line for each command: wall time, its range, images/s (where asked for), peak memory. `more`: a last line."""
    header = (title, "wall s", "low–high", *(("images/s",) if rates else ()), "peak MiB")
    lines = []
    for name, numbers in rows:
        peak = numbers["peak_rss_bytes"]
        rate = (f"{numbers['images_per_s']:.0f}" if "images_per_s" in numbers else "",) if rates else ()
        lines.append(
            (
                name,
                f"{numbers['wall_s']:.2f}",
                f"{numbers['wall_s_low']:.2f}–{numbers['wall_s_high']:.2f}",
                *rate,
                "–" if peak is None else f"{peak / 2**20:.0f}",
            )
        )
    numbered = all(line[0].isdigit() for line in lines)
    return console.table(header, [*lines, more] if more else lines, right=range(0 if numbered else 1, len(header)))


def gan_gen() -> list[str]:
    """How the gan-gen of this environment is started."""
    return _command("gan-gen", "gan_serve.gen.cli")


def gan_train() -> list[str]:
    """How the gan-train of this environment is started."""
    return _command("gan-train", "gan_trainer.cli")


def _command(name: str, module: str) -> list[str]:
    installed = shutil.which(name, path=sysconfig.get_path("scripts"))
    return [installed] if installed else [sys.executable, "-P", "-c", f"from {module} import main; main()"]


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


class Sides(NamedTuple):
    """What is compared, for people, and a hint for where both draw different images."""

    ours: str
    theirs: str
    hint: str


SIDES = Sides("gan-gen", "the torch script", "is --model the export of this --ckpt?")


def picture_difference(ours: Path, theirs: Path, sides: Sides = SIDES) -> int:
    """The largest difference of two pictures in LSB. Raises `JobError` when they are not the same picture."""
    import numpy as np
    from PIL import Image

    from gan_core.limits import max_lsb

    with Image.open(ours) as a, Image.open(theirs) as b:
        pixels = [np.asarray(image.convert("RGB")) for image in (a, b)]
    if pixels[0].shape != pixels[1].shape:
        raise JobError(
            f"{sides.ours} made a picture of {_size(pixels[0])}, {sides.theirs} one of {_size(pixels[1])}",
            hint="the two do not generate the same: export the model again and prove it with gan-export verify",
        )
    difference = max_lsb(*pixels)
    if difference > MAX_LSB:
        raise JobError(
            f"{sides.ours} and {sides.theirs} generated different images: up to {difference} LSB, "
            f"at most {MAX_LSB} expected",
            hint=sides.hint,
        )
    return difference


def folder_difference(ours: Path, theirs: Path, n: int, sides: Sides = SIDES) -> int:
    """The largest difference in LSB of some files, first to last. Raises `JobError` for other images or files."""
    names = [sorted(file.name for file in folder.iterdir()) for folder in (ours, theirs)]
    if names[0] != names[1] or len(names[0]) != n:
        raise JobError(
            f"expected the same {n} files, {sides.ours} wrote {len(names[0])}, {sides.theirs} {len(names[1])}",
            hint="run both by hand and compare what they write",
        )
    step = max(1, n // COMPARED)
    picked = [*names[0][::step], names[0][-1]]
    return max(picture_difference(ours / name, theirs / name, sides) for name in picked)


def _size(pixels: Any) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
