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
from gan_serve.runtime.onnx_answers import OnnxAnswers, check_unsaid
from gan_serve.runtime.remote import located

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_log = logging.getLogger(__name__)

GROUP = "ganport.runtimes"
DEFAULT_MODEL = Path(__file__).parents[1] / "models" / "fashion-mnist.onnx"
"""The generator that comes with ganport: Fashion-MNIST at 32x32, ten classes. docs/models.md is its card."""
MAX_BYTES = 2_000_000
"""The most that it may add to an installation."""
_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".pkl", ".tar", ".safetensors", ".bin")


def load(
    path: str | os.PathLike[str] | None = None,
    provider: str = "auto",
    threads: int | None = None,
    *,
    many: bool = False,
    tf32: bool = False,
    trust_script: bool = False,
    answers: OnnxAnswers = OnnxAnswers(),
) -> Generator:
    """Loads a generator file to run on `provider` ("auto": the best installed) with `threads` (None: every core).

    >>> generator = load(provider="cpu")
    >>> generator
    <OnnxGenerator fashion-mnist.onnx: 32x32 grey, 10 classes (T-shirt/top, Trouser, Pullover, Dress, …), on cpu>
    >>> with load() as generator:
    ...     pixels_NHWC = generator.generate([7, 8], labels="ankle boot")

    path  None: the generator that comes with ganport, Fashion-MNIST garments at 32x32 in ten classes (docs/models.md).
          "hf://owner/name": from the Hugging Face hub (`gan_serve.runtime.remote`)
    many  whether many images are to come, not one: what draws a single one soonest is then opened only when needed
    tf32  whether an NVIDIA GPU may round the factors of fp32 products to 10 bits: faster, and outside parity
    trust_script  whether a .ts file, which is a program, is run whatever it does. Else it is looked at before it is
          loaded, and refused where it may do more than compute (SECURITY.md).
    answers  what the file does not say of itself, an .onnx of another exporter than ours (docs/foreign-onnx.md)

    Logs a warning (`logging`, below "gan_serve"; a notebook shows it) of what a file without metadata does not say and
    was assumed (`contract.assumptions` has it too), and of a provider that "auto" had to pass over. What could not be
    had or was turned off, also while it draws, and costs only speed, is logged at level INFO.
    Raises `GanportError` for a file that is missing, of a suffix that nothing here runs, or no generator, and for a
    provider that does not run.
    """
    path = check_model_file(default_model() if path is None else located(path))
    if trust_script and path.suffix.lower() != ".ts":
        raise GanportError(f"`trust_script` is for .ts models, got {path}", hint="leave it out")
    if path.suffix.lower() == ".onnx":
        from gan_serve.runtime.onnx_generator import OnnxGenerator

        generator = OnnxGenerator(path, provider, threads, many=many, tf32=tf32, answers=answers)
        assumed = "; ".join(generator.contract.assumptions)
        if not generator.ours and assumed:
            _log.warning("%s", printable(f"{path.name} has no gan.* metadata; assumed: {assumed}"))
        for reason in generator.skipped:
            _log.warning("auto passed over %s", reason)
        for note in generator.notes:
            _log.info("%s", note)
        return generator
    check_unsaid(answers, str(path))
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
                hint=f"export it first: gan-export {path}",
            )
        raise GanportError(f"{path}: a model's name ends in {known}", hint="rename the file if it is one")
    return found[suffix]


def default_model() -> Path:
    """Its file. Raises `GanportError` for an installation that lacks it."""
    if not DEFAULT_MODEL.is_file():
        raise GanportError(
            "this installation lacks the model that comes with ganport", hint="install ganport again, or name a `model`"
        )
    return DEFAULT_MODEL
