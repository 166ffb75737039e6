"""What the files and the checkpoint say of themselves: what is measured together must be the same generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_bench.measuring.process import WorkerError, WorkerProcess
from gan_bench.records.rows import Request
from gan_core.errors import GanportError, JobError

Json = dict[str, Any]

ALIKE = ("image", "z_dim", "n_classes", "value_range")


def describe_models(paths: Sequence[Path], timeout_s: float, command: Sequence[str]) -> list[Json]:
    """What each file says of itself, opened on the CPU provider in a process of its own.

    It also brings the packages and the files into the disk cache: the first row starts no colder than the others.
    Raises `GanportError` for a file that is no generator, `JobError` for one that does not open.
    """
    described = []
    for path in dict.fromkeys(paths):
        with WorkerProcess(command) as worker:
            try:
                opened = worker.ask("open", timeout_s, runtime="ganport", path=str(path), provider="cpu", threads=None)
            except WorkerError as error:
                raise JobError(
                    f"{path} does not run on the CPU provider: {error}",
                    hint="gan-gen --model FILE --provider cpu shows whether the file itself is at fault",
                ) from None
        about = {"file": path.name, "size_bytes": path.stat().st_size} | opened["model"]
        described.append(about | {"runtime": opened["runtime"]})
    return described


def about_generator(models: list[Json], checkpoint: Json | None, request: Request) -> Json:
    """What all rows draw: name, latent and image, the spec (or None), and the checkpoint (or None).

    Raises `GanportError` when two of the files, or a file and the checkpoint, are not of the same generator.
    """
    named = [(str(path), about) for path, about in zip(request.models, models, strict=True)]
    if checkpoint is not None:
        named.append((str(request.ckpt), checkpoint))
    first_name, first = named[0]
    for name, about in named[1:]:
        for key in ALIKE:
            if key in about and key in first and about[key] != first[key]:
                raise GanportError(
                    f"{name} has {key} {about[key]}, {first_name} has {first[key]}: they are different generators",
                    hint="one benchmark compares ways to draw the same images; run gan-bench for each",
                )
    spec = next((about["spec"] for _, about in named if about["spec"] is not None), None)
    return {key: first[key] for key in ("name", "z_dim", "n_classes", "image")} | {
        "spec": spec,
        "checkpoint": None if checkpoint is None else checkpoint["checkpoint"],
        "checkpoint_sha256": checkpoint["checkpoint"]["sha256"] if checkpoint else first["checkpoint_sha256"],
    }
