"""Kills gan-gen's jobs at random moments, and compares what is left, and the end, with a job that ran undisturbed.

    python -m lab.job_faults --kills 50 --engine local,parts,ray --json FILE

local  one command
parts  three commands, `--shard 0/3` … `2/3`, of which one is killed
ray    `--engine ray` on a cluster that goes on; by turns the command or one actor is killed

Each kill is SIGKILL, after a random share of what the job takes undisturbed. After a kill every file must be one of the
undisturbed job. Then the same command goes on, and when it ends, the folder must be the same, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from gan_core.errors import GanportError, JobError
from gan_core.fields import Json
from gan_core.files.model_file import file_provenance
from gan_serve.runtime.runtimes import default_model
from gan_serve.terminal import console
from lab import shared
from lab.processes import gan_gen

WAYS = ("local", "parts", "ray")
PARTS, ACTORS = 3, 2
_CLUSTER = f"""
import ray
started = ray.init(num_cpus={ACTORS + 1}, include_dashboard=False, log_to_driver=False)
print(started.address_info["gcs_address"], flush=True)
input()
"""

app = console.new_app("Kill jobs at random moments.")


@app.command()
def main_command(
    kills: Annotated[int, typer.Option(metavar="N", help="Kills in each way.")] = 50,
    engine: Annotated[str, typer.Option(metavar="WAY,WAY,…", help="local, parts, ray.")] = "local,parts,ray",
    model: Annotated[Path | None, typer.Option(metavar="FILE", help="[default: ganport's own]")] = None,
    n: Annotated[int, typer.Option(metavar="N", help="Images in the job.")] = 3000,
    shard_size: Annotated[int, typer.Option(metavar="N", help="Images in a shard.")] = 200,
    seed: Annotated[int, typer.Option(metavar="S", help="Of the moments.")] = 0,
    json: shared.RecordFile = None,
) -> None:
    """Kill jobs at random moments, and compare the result with an undisturbed job.

    \b
    Example:
      python -m lab.job_faults --kills 50 --json job-faults.json
    """
    ways = engine.split(",")
    if not set(ways) <= set(WAYS):
        raise GanportError(f"--engine takes {', '.join(WAYS)}, got {engine}", hint="--engine local,parts")
    shared.check_numbers({"--kills": (kills, 1, 10_000), "--n": (n, 1, 10**7), "--shard-size": (shard_size, 1, n)})
    target = shared.record_target(json)
    if "ray" in ways:
        shared.require("a Ray cluster", ("ray",), "ray")
    made = shared.new_record("job_faults", packages=("onnxruntime", "ray"))
    file = model or default_model()
    with tempfile.TemporaryDirectory(prefix="gan-bench-") as place:
        rows = []
        for way in ways:
            job = KilledJob(way, file, Path(place) / way, n, shard_size, random.Random(seed))
            rows.append(job.run(kills))
            shutil.rmtree(job.place)
    header = ("way", "kills", "jobs", "moments, s", "undisturbed, s", "all, s")
    table = console.table(
        header,
        [
            (row["way"], str(row["kills"]), str(row["jobs"]), f"{min(row['moments_s'])}–{max(row['moments_s'])}",
             str(row["undisturbed_s"]), str(row["took_s"])) for row in rows
        ],
    )  # fmt: skip
    about = {"model": file_provenance(file), "images": n, "shard_size": shard_size, "seed": seed, "ways": rows}
    shared.hand_over(made | about, f"{table}\n\nevery job ended with the bytes of the undisturbed one", json, target)


@dataclass
class KilledJob:
    """One job, its folder, and the folder of the same job undisturbed."""

    way: str
    model: Path
    place: Path
    n: int
    shard_size: int
    rng: random.Random
    moments_s: list[float] = field(default_factory=list)
    cluster: tuple[str, int] = ("", 0)
    """Of Ray: its address, and the number of the process that started it."""

    @property
    def folder(self) -> Path:
        return self.place / "killed"

    def run(self, kills: int) -> Json:
        """Kills so many times; returns a row of the record. Raises `JobError` where bytes differ."""
        with ray_cluster() if self.way == "ray" else contextlib.nullcontext(self.cluster) as self.cluster:
            return self._run(kills)

    def _run(self, kills: int) -> Json:
        began = time.monotonic()
        self._complete(self.place / "first")  # on a fresh cluster the first job takes longer
        second = time.monotonic()
        self._complete(self.place / "whole")
        undisturbed_s = time.monotonic() - second
        whole, jobs = content(self.place / "whole"), 0
        while len(self.moments_s) < kills:
            if self._killed(undisturbed_s):
                self._check(whole)
            else:  # it ended before
                jobs += self._ended(whole)
        jobs += self._ended(whole)
        return {
            "way": self.way, "kills": len(self.moments_s), "jobs": jobs, "undisturbed_s": round(undisturbed_s, 3),
            "moments_s": [round(moment, 3) for moment in self.moments_s], "took_s": round(time.monotonic() - began, 1),
        }  # fmt: skip

    def _ended(self, whole: dict[str, bytes]) -> int:
        self._complete(self.folder)
        if content(self.folder) != whole:
            raise JobError(f"{self.way}: the files differ from an undisturbed job's", hint=f"look into {self.place}")
        shutil.rmtree(self.folder)
        return 1

    def _commands(self, folder: Path) -> list[list[str]]:
        command = [*gan_gen(), "--quiet", "--model", str(self.model), "--n", str(self.n), "--out", str(folder)]
        command += ["--format", "tar", "--shard-size", str(self.shard_size)]
        if self.way == "parts":
            return [[*command, "--shard", f"{part}/{PARTS}"] for part in range(PARTS)]
        if self.way == "ray":
            command += ["--engine", "ray", "--workers", str(ACTORS), "--ray-address", self.cluster[0]]
        return [command]

    def _complete(self, folder: Path) -> None:
        started = [_start(command) for command in self._commands(folder)]
        for process in started:
            _expect_success(process)
        if self.way == "parts":
            _expect_success(_start([*gan_gen(), "--quiet", "--finish", "--out", str(folder)]))

    def _killed(self, undisturbed_s: float) -> bool:
        """Starts the job and kills a process of it; whether that was before the job's end."""
        moment = self.rng.uniform(0.05, 1.0) * undisturbed_s
        started = [_start(command) for command in self._commands(self.folder)]
        victim = self.rng.choice(started)
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.wait(moment)
        if victim.poll() is None:
            self.moments_s.append(moment)
            actors = _actors(self.cluster[1]) if self.way == "ray" and len(self.moments_s) % 2 else []
            if actors:
                _kill(self.rng.choice(actors))
                _expect_success(victim)
                return True
            victim.kill()
            victim.communicate()
            for process in started:
                if process is not victim:
                    _expect_success(process)
            return True
        for process in started:
            _expect_success(process)
        return False

    def _check(self, whole: dict[str, bytes]) -> None:
        for name, data in content(self.folder).items():
            if data != whole.get(name):
                raise JobError(f"{self.way}: {name} differs from an undisturbed job's", hint=f"look into {self.place}")


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, but those that are hidden: the lock, and what a killed process was writing."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if not path.name.startswith(".")}


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _expect_success(process: subprocess.Popen[bytes]) -> None:
    _, err = process.communicate()
    if process.returncode:
        raise JobError(f"gan-gen ended with {process.returncode}: {err.decode()[-500:]}", hint="run it alone")


@contextlib.contextmanager
def ray_cluster() -> Iterator[tuple[str, int]]:
    """A Ray cluster of this machine alone: its address, and the number of the process that started it."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # the commands inherit them
    with subprocess.Popen(
        [sys.executable, "-c", _CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise JobError("Ray does not start", hint="ray start --head says why")
        try:
            yield address, process.pid
        finally:
            process.communicate("\n")


def _actors(cluster: int) -> list[int]:
    """The processes of Ray Data's actors among those that the process `cluster` started, and that they started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
    found = [cluster]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return [pid for pid in found if b"MapWorker" in _command_of(pid)]


def _command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    console.run(app, "python -m lab.job_faults")
