"""Models on a Hugging Face hub: `hf://owner/name`, or the address of a file there.

huggingface_hub downloads them and keeps them in its own cache; HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are its
variables. Addresses of other hosts are refused: their files have no revision and no cache.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from gan_core.errors import GanportError, JobError, MissingPackageError
from gan_core.printable import shorten

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
