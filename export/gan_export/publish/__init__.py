"""An exported file as other people's servers, hubs and browsers take it: a folder with the file and what they read.

No torch: the file is opened as gan-gen opens it, and copied as it is.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from gan_core.errors import GanportError
from gan_core.files.atomic import atomic_path
from gan_core.printable import printable
from gan_serve.runtime.onnx_generator import OnnxGenerator


def open_exported(path: str | os.PathLike[str]) -> OnnxGenerator:
    """The exported ONNX file at `path`, opened on the CPU.

    Raises `GanportError` for a file of another kind, and for one without a contract.
    """
    path = Path(path)
    generator = OnnxGenerator(path, "cpu", 1)
    if not generator.ours:
        raise GanportError(f"{path} has no gan.* metadata", hint=f"make it ganport's first: gan-export adopt {path}")
    return generator


def name_of(path: Path) -> str:
    """A file's name as servers take it: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip(".-") or "generator"


def check_line(option: str, value: str | None) -> None:
    """Raises `GanportError` unless `value` is one line of text, or None."""
    if value is not None and (not value.strip() or value != printable(value) or len(value) > 200):
        raise GanportError(f"`{option}` must be one line of text, got {value[:40]!r}", hint="or leave it out")


def copy(model: Path, target: Path) -> None:
    """Copies a model file, whole or not at all; folders are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(model, temporary)


def check_folder(folder: Path, model: Path) -> None:
    """Raises `GanportError` where `folder` is a file, or the model itself would be overwritten in it."""
    if folder.exists() and not folder.is_dir():
        raise GanportError(f"{folder} is a file, expected a folder", hint="`out` names a new folder")
    if folder.resolve() in model.resolve().parents:
        raise GanportError(f"{model} is inside {folder}", hint="`out` names another folder")
