"""The folder of one run, and what keeps it whole.

    g.pt               the generator: spec and weights, the file to export
    last.pt            everything, to resume from
    run.yaml           what was asked for, to be asked for again
    config.json        what the run is: that, with every hyperparameter and the data's fingerprint
    log.jsonl          one line per report
    samples/           step-0000500.png …: the fixed latents
    checkpoints/       g-epoch-0001.pt …: where the recipe keeps every epoch
    losses.png  progress.webp  real_vs_fake.png
    eval-classifier.json …  report.html              what gan-train eval and gan-train report leave

A report writes log.jsonl, then last.pt, then g.pt, the last two by rename. Whatever was killed in between, last.pt is
the truth: resuming cuts the log and drops the samples after its step, which are then made again, the same.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_core.errors import GanportError
from gan_core.files.atomic import explain_os_errors, write_text
from gan_core.printable import json_text

LEFTOVER = re.compile(
    r"\.(g|last|config|run|log|losses|progress|real_vs_fake|step-\d+|g-epoch-\d+)\.ganport-[\w-]+\.\w+"
)
"""What a killed training leaves of the temporary files of `files.atomic`, on whatever machine; the folder is locked."""


class RunDir:
    """The paths of a run, and the few writes that are not whole files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generator = path / "g.pt"
        self.last = path / "last.pt"
        self.config = path / "config.json"
        self.settings = path / "run.yaml"
        self.log = path / "log.jsonl"
        self.samples = path / "samples"
        self.checkpoints = path / "checkpoints"
        self.losses = path / "losses.png"
        self.progress = path / "progress.webp"
        self.real_vs_fake = path / "real_vs_fake.png"
        self.report = path / "report.html"

    @property
    def holds_run(self) -> bool:
        return self.last.exists() or self.generator.exists()

    def start(self, config: dict[str, Any], settings: str | None = None) -> None:
        """Makes the folder and describes the run. Raises `GanportError` when it holds one, or cannot be written."""
        self.check_free()
        self._make()
        self.rewind(0)
        self.describe(config, settings)

    def describe(self, config: dict[str, Any], settings: str | None = None) -> None:
        """Writes config.json, and the text of run.yaml."""
        if settings is not None:
            write_text(self.settings, settings)
        write_text(self.config, json_text(config, indent=2) + "\n")

    def check_free(self) -> None:
        """Raises `GanportError` when the path is a file or holds a run. Nothing is written."""
        if self.path.exists() and not self.path.is_dir():
            raise GanportError(f"{self.path} is a file, expected a folder for the run", hint="name another `out`")
        if self.holds_run:
            raise GanportError(
                f"{self.path} already holds a run", hint="go on with `resume`, or name another `out` for a new run"
            )

    def rewind(self, step: int) -> None:
        """Forgets what was written after `step`, and what a killed process left half-written."""
        self._make()
        with explain_os_errors(self.path):
            for folder in (self.path, self.samples, self.checkpoints):
                for file in folder.iterdir() if folder.is_dir() else ():
                    if LEFTOVER.fullmatch(file.name):
                        file.unlink()
            for sample in self.sample_files():
                if int(sample.stem.removeprefix("step-")) > step:
                    sample.unlink()
        kept = [line for line in self.read_log() if line["step"] <= step]
        if self.log.exists():
            write_text(self.log, "".join(_dump(line) for line in kept))

    def append_log(self, line: dict[str, Any]) -> None:
        """Adds one line to log.jsonl in a single write."""
        with explain_os_errors(self.log), self.log.open("ab", buffering=0) as log:
            log.write(_dump(line).encode())

    def read_log(self) -> list[dict[str, Any]]:
        """The whole lines of log.jsonl; a line that a kill or a full disk cut short ends it."""
        lines: list[dict[str, Any]] = []
        if self.log.is_file():
            for text in self.log.read_text("utf-8", errors="replace").splitlines():
                try:
                    line = json.loads(text)
                except ValueError:
                    break
                if not (isinstance(line, dict) and isinstance(line.get("step"), int)):
                    break
                lines.append(line)
        return lines

    def sample(self, step: int) -> Path:
        return self.samples / f"step-{step:07d}.png"

    def sample_files(self) -> list[Path]:
        """The sample pictures, in the order of their steps."""
        return sorted(file for file in self.samples.glob("step-[0-9]*.png") if file.is_file())

    def evaluation(self, features: str) -> Path:
        return self.path / f"eval-{features}.json"

    def evaluation_files(self) -> list[Path]:
        """What `gan-train eval` kept, one file for each kind of features."""
        return sorted(file for file in self.path.glob("eval-*.json") if file.is_file())

    def epoch_checkpoint(self, epoch: int) -> Path:
        return self.checkpoints / f"g-epoch-{epoch:04d}.pt"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process out of the folder, where the system has flock. The lock dies with its process."""
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        self._make()
        with explain_os_errors(self.path), (self.path / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise GanportError(
                    f"another gan-train is at work in {self.path}", hint="wait for it, or name another `out`"
                ) from error
            yield

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GanportError(
                f"cannot make the folder {self.path}: {error.strerror}", hint="name another `out`"
            ) from error


class FollowedRun(RunDir):
    """The folder as the processes of a job see it that write nothing: another one does."""

    def start(self, config: dict[str, Any], settings: str | None = None) -> None: ...

    def check_free(self) -> None: ...

    def rewind(self, step: int) -> None: ...

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        yield


def default_name(data_name: str, arch: str, size: int) -> str:
    """The name of a run in runs/: "fashion-mnist-dcgan32"."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', data_name).strip('-.') or 'images'}-{arch}{size}"


def next_free(base: Path) -> Path:
    """`base`, or `base`-2, `base`-3 …: the first that does not exist."""
    number = 1
    while _numbered(base, number).exists():
        number += 1
    return _numbered(base, number)


def newest(base: Path) -> Path:
    """Of `base`, `base`-2, …, the last in an unbroken row: what `next_free` gave last. `base` when there is none."""
    number = 1
    while _numbered(base, number + 1).exists():
        number += 1
    return _numbered(base, number)


def _numbered(base: Path, number: int) -> Path:
    return base if number == 1 else base.with_name(f"{base.name}-{number}")


def _dump(line: dict[str, Any]) -> str:
    return json_text(line) + "\n"
