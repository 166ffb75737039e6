"""How long until the picture is there, from nothing: gan-gen beside a bare torch script that draws the same.

    python -m gan_bench.cold_start --model g.onnx --ckpt g.pt --json FILE

Each run is a fresh process, timed from its start to its end; the two commands take turns, so that a machine that
drifts drifts for both. Before them each runs once unmeasured: cold means a cold process, not a cold disk. Both pictures
must be the same within 1 LSB, else there is nothing to compare.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from gan_bench.environment import busy_note, describe
from gan_bench.memory import maxrss_bytes
from gan_bench.records import SCHEMA, dumps
from gan_bench.stats import Spread, spread
from gan_serve import console
from gan_serve.atomic import write_text
from gan_serve.errors import GanportError, JobError, MissingPackageError
from gan_serve.model_file import check_model_file, sha256_of
from gan_serve.outputs import check_outputs

Json = dict[str, Any]

TORCH_SCRIPT = Path(__file__).with_name("draw_with_torch.py")
MAX_LSB = 1
PACKAGES = ("onnxruntime", "torch", "torchvision", "pillow")

app = console.new_app("Time gan-gen and a bare torch script from process start to picture.")


@dataclass
class Command:
    """One way to the picture, and what its runs took. `peaks` are None where the system hides them."""

    name: str
    arguments: list[str]
    picture: Path
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


@app.command()
def main_command(
    model: Annotated[Path, typer.Option(metavar="FILE", help="The exported generator.")],
    ckpt: Annotated[Path, typer.Option(metavar="FILE", help="The checkpoint it was exported from (gan-train's g.pt).")],
    n: Annotated[int, typer.Option("--n", metavar="N", help="Images in the picture.")] = 25,
    runs: Annotated[int, typer.Option(metavar="N", help="Measured runs of each, taken in turn.")] = 7,
    json: Annotated[str | None, typer.Option(metavar="FILE", help="Write the record here; - for stdout.")] = None,
) -> None:
    """Time gan-gen and a bare torch script from process start to picture.

    \b
    Example:
      python -m gan_bench.cold_start --model g.onnx --ckpt g.pt --runs 7 --json cold-start.json
    """
    for name, value, most in (("--n", n, 10_000), ("--runs", runs, 1000)):
        if not 1 <= value <= most:
            raise GanportError(f"{name} takes 1 to {most}, got {value}")
    check_model_file(model)
    if not ckpt.is_file():
        what = "is a folder, expected a checkpoint file" if ckpt.is_dir() else "does not exist"
        raise GanportError(f"{ckpt} {what}", hint="gan-train writes one, g.pt; --model is its export")
    target = None if json in (None, "-") else Path(str(json))
    check_outputs({"--model": model, "--ckpt": ckpt}, {"--json": target})
    _require_torch()
    environment = describe(shlex.join(["python", "-m", "gan_bench.cold_start", *sys.argv[1:]]))
    environment["versions"] |= {name: _version(name) for name in PACKAGES}
    if busy := busy_note(environment):
        console.warn(busy)
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as folder:
        gan_gen, torch_script = commands(model, ckpt, n, Path(folder))
        take_turns([gan_gen, torch_script], runs)
        difference = picture_difference(gan_gen.picture, torch_script.picture)
    made = {
        "schema": SCHEMA,
        "tool": "gan_bench.cold_start",
        "environment": environment,
        "model": {"file": model.name, "sha256": sha256_of(model), "size_bytes": model.stat().st_size},
        "checkpoint": {"file": ckpt.name, "sha256": sha256_of(ckpt), "size_bytes": ckpt.stat().st_size},
        "images": n,
        "runs": runs,
        "pixels_max_lsb": difference,
        **compare(gan_gen, torch_script),
    }
    if json == "-":
        print(dumps(made), end="")
    else:
        print(render(made))
    if target is not None:
        write_text(target, dumps(made))


def commands(model: Path, ckpt: Path, n: int, folder: Path) -> tuple[Command, Command]:
    """(gan-gen, the torch script), each drawing seeds 0 … n - 1 to a picture of its own in `folder`."""
    ours, theirs = folder / "gan-gen.png", folder / "torch.png"
    installed = shutil.which("gan-gen", path=sysconfig.get_path("scripts"))
    start = [installed] if installed else [sys.executable, "-P", "-c", "from gan_serve.cli import main; main()"]
    script = [sys.executable, "-P", str(TORCH_SCRIPT), str(ckpt), str(theirs), str(n)]
    return (
        Command("gan-gen", [*start, "--model", str(model), "--n", str(n), "--out", str(ours)], ours),
        Command("torch script", script, theirs),
    )


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

    The memory is None when it is no more than this process's own, which the kernel counts into every child's. Raises
    `JobError` when the command fails.
    """
    import resource

    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command.arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            said = next((line for line in lines if line.startswith("error: ")), lines[-1])
            raise JobError(
                f"{command.name} ended with exit code {process.returncode}: {said}",
                hint=f"run it alone: {shlex.join(command.arguments)}",
            )
    own = maxrss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    peak = maxrss_bytes(usage.ru_maxrss)
    return wall_s, peak if peak > own else None


def picture_difference(ours: Path, theirs: Path) -> int:
    """The largest difference of two pictures in LSB. Raises `JobError` when they are not the same picture."""
    import numpy as np
    from PIL import Image

    from gan_serve.limits import max_lsb

    with Image.open(ours) as a, Image.open(theirs) as b:
        pixels = [np.asarray(image.convert("RGB")) for image in (a, b)]
    if pixels[0].shape != pixels[1].shape:
        raise JobError(f"gan-gen drew a picture of {_size(pixels[0])}, the torch script one of {_size(pixels[1])}")
    difference = max_lsb(*pixels)
    if difference > MAX_LSB:
        raise JobError(
            f"gan-gen and the torch script drew different images: up to {difference} LSB, at most {MAX_LSB} expected",
            hint="is --model the export of this --ckpt?",
        )
    return difference


def compare(gan_gen: Command, torch_script: Command) -> Json:
    """Both commands' numbers, and gan-gen's share of the torch script's (medians)."""
    ours, theirs = gan_gen.to_json(), torch_script.to_json()
    peaks = ours["peak_rss_bytes"], theirs["peak_rss_bytes"]
    return {
        "gan_gen": ours,
        "torch_script": theirs,
        "wall_share": round(ours["wall_s"] / theirs["wall_s"], 4),
        "peak_rss_share": None if None in peaks else round(peaks[0] / peaks[1], 4),
    }


def render(made: Json) -> str:
    """The comparison as a table."""
    rows = []
    for name, key in (("gan-gen", "gan_gen"), ("torch script", "torch_script")):
        numbers = made[key]
        wall = Spread(numbers["wall_s"], numbers["wall_s_low"], numbers["wall_s_high"])
        peak = numbers["peak_rss_bytes"]
        rows.append(
            (name, f"{wall.median:.2f}", f"{wall.low:.2f}–{wall.high:.2f}", f"{peak / 2**20:.0f}" if peak else "–")
        )
    memory = made["peak_rss_share"]
    rows.append(("share", f"{made['wall_share']:.3f}", "", "–" if memory is None else f"{memory:.3f}"))
    return console.table((f"{made['images']} images", "wall s", "low–high", "peak MiB"), rows, right=(1, 2, 3))


def _require_torch() -> None:
    for package in ("torch", "torchvision"):
        if _version(package) is None:
            raise MissingPackageError(package, "train", "the torch script that gan-gen is compared with")
    if not hasattr(os, "wait4"):
        raise GanportError("the memory of a finished process is not to be had on this system (os.wait4)")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _size(pixels: Any) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def main() -> NoReturn:
    """The entry point of `python -m gan_bench.cold_start`."""
    console.run(app, "python -m gan_bench.cold_start")


if __name__ == "__main__":
    main()
