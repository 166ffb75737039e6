"""Which runtime loads a model file: its suffix says.

`.onnx` is onnxruntime's. Any other suffix is looked up among the entry points of the group `ganport.runtimes`
(suffix → a callable (path, provider, threads) -> Generator; for .ts it takes trust_script as well), so that a runtime
that needs torch can live in a package that does; they are only scanned when such a file is asked for.

`hf://owner/name`, or the address of a file there, is a model on a Hugging Face hub. huggingface_hub downloads it and
keeps it in its own cache; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are its variables. Addresses of other hosts are
refused: their files have no revision and no cache.
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
from gan_core.said import OnnxAnswers, check_unsaid
from gan_serve.runtime.generator import Generator

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
import re
from typing import NamedTuple
from urllib.parse import unquote

from gan_core.errors import JobError
from gan_core.printable import shorten

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
          "hf://owner/name": from the Hugging Face hub (`gan_serve.runtime.runtimes`)
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


DEFAULT_GRAPH_SHA256 = "70796f2c4ccaf32f02952ebb4a8d98b070cfb59b8f6de017167aeb79dbc5f44d"
"""The digest of its graph, which is older than `gan.graph_sha256` and does not say it itself."""


def default_model() -> Path:
    """Its file. Raises `GanportError` for an installation that lacks it."""
    if not DEFAULT_MODEL.is_file():
        raise GanportError(
            "this installation lacks the model that comes with ganport", hint="install ganport again, or name a `model`"
        )
    return DEFAULT_MODEL


FILE = "onnx/model.onnx"
"""Where `gan-export hub` puts the model."""
_ADDRESS = re.compile(r"(hf|https?):/{1,2}(.*)", re.DOTALL)  # a Path keeps one slash of two
_PART = r"[\w.-]+"
_REPOSITORY = re.compile(rf"({_PART}/{_PART})(?:@([^/]+))?(?:/(.+))?")
_PAGE = re.compile(rf"(?:www\.)?(?:huggingface\.co|hf\.co)/({_PART}/{_PART})(?:/(?:resolve|blob)/([^/]+)/(.+))?/?")


class _Remote(NamedTuple):
    repository: str
    revision: str | None
    file: str | None


def located(path: str | os.PathLike[str]) -> Path:
    """The file that `path` names: itself, or what an address of a hub's has been downloaded to.

    "hf://owner/name", "hf://owner/name@revision", "hf://owner/name/folder/file.onnx", or the address of such a file on
    huggingface.co. Without a file it is onnx/model.onnx, or the only .onnx file.

    Raises `GanportError` for an address of another form, `JobError` for what cannot be downloaded, and
    `MissingPackageError` without huggingface_hub.
    """
    found = _ADDRESS.fullmatch(os.fspath(path))
    if found is None:
        return Path(path)
    remote = _parsed(found[1], found[2])
    try:
        import huggingface_hub as hub
    except ModuleNotFoundError as error:
        raise MissingPackageError("huggingface_hub", "hub", "downloading models") from error
    where = f"hf://{remote.repository}"
    try:
        file = remote.file or _only(hub.HfApi().list_repo_files(remote.repository, revision=remote.revision), where)
        return Path(hub.hf_hub_download(remote.repository, file, revision=remote.revision))
    except GanportError:
        raise
    except Exception as error:  # its errors come from three packages
        reason = shorten(" ".join(str(error).split()) or type(error).__name__)
        raise JobError(
            f"{where} cannot be downloaded: {reason}", hint="check the name; HF_TOKEN gives access to private models"
        ) from error


def _parsed(scheme: str, rest: str) -> _Remote:
    if scheme == "hf":
        found = _REPOSITORY.fullmatch(rest.rstrip("/"))
        if found is None:
            raise GanportError(f"hf://{shorten(rest, 60)} names no model", hint="hf://owner/name, or a file in it")
    else:
        found = _PAGE.fullmatch(rest.partition("?")[0])
        if found is None or scheme == "http":
            raise GanportError(
                f"{scheme}://{shorten(rest, 60)} is no address of a model on huggingface.co",
                hint="download the file, and name it",
            )
    file = found[3] and unquote(found[3])
    if file is not None and not file.lower().endswith(".onnx"):
        raise GanportError(f"{shorten(file, 60)} is no .onnx file", hint="name one, or the model alone")
    return _Remote(found[1], found[2], file)


def _only(files: list[str], where: str) -> str:
    """The model among the files of a repository."""
    models = [file for file in files if file.lower().endswith(".onnx")]
    if FILE in models or len(models) == 1:
        return FILE if FILE in models else models[0]
    if not models:
        raise GanportError(f"{where} has no .onnx file", hint="a checkpoint has to be exported first: gan-export FILE")
    listed = shorten(", ".join(sorted(models)))
    raise GanportError(
        f"{where} has {len(models)} .onnx files: {listed}", hint=f"name one: {where}/{sorted(models)[0]}"
    )
