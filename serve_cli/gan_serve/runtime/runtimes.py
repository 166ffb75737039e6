"""Which runtime loads a model file: its suffix says.

`.onnx` is onnxruntime's. Any other suffix is looked up among the entry points of the group `ganport.runtimes`
(suffix → a callable (path, provider, threads) -> Generator; for .ts it takes trust_script as well), so that a runtime
that needs torch can live in a package that does; they are only scanned when such a file is asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gan_core.errors import GanportError, MissingPackageError
from gan_core.files.model_file import check_model_file, read_head, refuse_what_is_not_onnx
from gan_core.printable import printable
from gan_serve.runtime.generator import Generator

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_log = logging.getLogger(__name__)

GROUP = "ganport.runtimes"
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".pkl", ".tar", ".safetensors", ".bin")


def load(
    path: str | os.PathLike[str],
    provider: str = "auto",
    threads: int | None = None,
    *,
    many: bool = False,
    tf32: bool = False,
    trust_script: bool = False,
) -> Generator:
    """Loads a generator file with the runtime of its suffix.

    many  whether many images are to come, not one (see `OnnxGenerator`)
    tf32  whether an NVIDIA GPU may round the factors of fp32 products to 10 bits (see `OnnxGenerator`)
    trust_script  whether a .ts file is run whatever the program in it does; else it is looked at before it is loaded

    Logs a warning of what the file does not say and was assumed (`contract.assumptions` has it too), and of a provider
    that "auto" had to pass over; as a note (INFO) what a provider could not do, also while it draws.
    Raises `GanportError` for a file that is missing, of a suffix that nothing here runs, or no generator.
    """
    path = check_model_file(path)
    if trust_script and path.suffix.lower() != ".ts":
        raise GanportError(f"`trust_script` is for .ts models, got {path}", hint="leave it out")
    if path.suffix.lower() == ".onnx":
        from gan_serve.runtime.onnx_generator import OnnxGenerator

        generator = OnnxGenerator(path, provider, threads, many=many, tf32=tf32)
        if not generator.ours:
            assumed = "; ".join(generator.contract.assumptions)
            _log.warning("%s", printable(f"{path.name} has no gan.* metadata; assumed: {assumed}"))
        for reason in generator.skipped:
            _log.warning("auto passed over %s", reason)
        for note in generator.notes:
            _log.info("%s", note)
        return generator
    runtime = _other_runtime(path)
    if tf32:
        raise GanportError(f"TF32 is for .onnx models, got {path}", hint="leave `tf32` out")
    return runtime(path, provider, threads, trust_script=True) if trust_script else runtime(path, provider, threads)


def check_runnable(path: str | os.PathLike[str]) -> Path:
    """`path` as a file that a runtime here takes, by its suffix and, for .onnx, its first bytes. Loads nothing.

    Raises `GanportError` for what `load` would refuse at that.
    """
    path = check_model_file(path)
    if path.suffix.lower() == ".onnx":
        refuse_what_is_not_onnx(path, read_head(path))
    else:
        _entry_point(path)
    return path


def _other_runtime(path: Path) -> Callable[..., Generator]:
    entry = _entry_point(path)
    try:
        runtime: Callable[..., Generator] = entry.load()
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            error.name or "a package", "export", f"running {path.suffix.lower()} models"
        ) from error
    return runtime


def _entry_point(path: Path) -> EntryPoint:
    """Who runs a file that is no .onnx. Raises `GanportError` for a suffix that nothing here runs."""
    import importlib.metadata

    suffix = path.suffix.lower().removeprefix(".")
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if suffix not in found:
        known = ", ".join([".onnx", *(f".{name}" for name in sorted(found))])
        if path.suffix.lower() in _CHECKPOINTS:
            raise GanportError(
                f"{path} is a checkpoint by its name, expected {known}",
                hint=f"export it first: gan-export onnx --ckpt {path}",
            )
        raise GanportError(f"{path}: a model's name ends in {known}", hint="rename the file if it is one")
    return found[suffix]
