"""`--ckpt`: the file that was named, told apart from the files that are often named instead of it."""

from __future__ import annotations

import mmap
from pathlib import Path

from gan_core.contract import PREFIX
from gan_core.errors import GanportError
from gan_core.files.archive import EXTRA, is_archive, read_records

_HEAD_BYTES = 64
_TRAINING_STATE = b"ganport_run"


def check_checkpoint(path: Path) -> Path:
    """`path`, when it may be a checkpoint.

    Raises `GanportError` when the file is missing, or is a model that was exported already, a training state
    (last.pt) or text. What else is no checkpoint, the reader says (`gan_export.reading`).
    """
    from gan_export.source import check_file  # torch, which --help must not need

    path = check_file(path, "checkpoint")
    with path.open("rb") as handle:
        head = handle.read(_HEAD_BYTES)
    if not head:
        raise GanportError(f"{path} is empty, expected a checkpoint", hint="copy or download it again")
    if head.lstrip()[:1] in (b"{", b"["):
        raise GanportError(f"{path} is JSON, expected a checkpoint", hint="name the weights, such as runs/NAME/g.pt")
    if head[:1] == b"\x08":
        raise GanportError(
            f"{path} is an ONNX model already, expected a checkpoint",
            hint=f"to prove it: gan-export verify --model {path}",
        )
    if is_archive(path):
        _refuse_archives(path)
    return path


def _refuse_archives(path: Path) -> None:
    """Zip archives that are no generator checkpoint: TorchScript of ours, and gan-train's last.pt."""
    try:
        with path.open("rb") as handle:
            records = read_records(handle, memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)))
    except (GanportError, OSError, ValueError):
        return  # damaged: the reader says so, in its own words
    exported = any(f"/{EXTRA}/{PREFIX}" in name for name in records)
    pickles = [record for name, record in records.items() if name.endswith("data.pkl")]
    training = bool(pickles) and _TRAINING_STATE in bytes(pickles[0].data[: 1 << 16])
    if exported:
        raise GanportError(
            f"{path} is an exported TorchScript model already, expected a checkpoint",
            hint=f"to prove it: gan-export verify --model {path}",
        )
    if training:
        generator = path.with_name("g.pt")
        raise GanportError(
            f"{path} is a training state, made to resume from, expected a generator",
            hint=f"gan-train keeps the generator beside it: --ckpt {generator}",
        )
