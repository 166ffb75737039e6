"""A TorchScript file seen as the zip archive it is: what kind of file, and the contract in it. No torch here."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from gan_serve.contract import PREFIX, Contract
from gan_serve.errors import ContractError
from gan_serve.model_file import check_model_file

EXTRA = "extra"
"""torch.jit keeps `_extra_files` in this folder of the archive."""


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a zip archive, as TorchScript files and checkpoints are and ONNX files are not."""
    return zipfile.is_zipfile(path)


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """The contract of a TorchScript file.

    Raises `GanportError` when the file is missing, `ContractError` when it is no TorchScript file, carries no
    contract, or carries one that cannot be read.
    """
    path = check_model_file(path)
    if not is_archive(path):
        raise ContractError(
            f"{path} is not a TorchScript file", hint="gan-export torchscript writes one from a checkpoint"
        )
    metadata = _metadata(path)
    contract = Contract.from_metadata(metadata, where=str(path))
    if contract is None:
        raise ContractError(
            f"{path} is TorchScript without a contract (no gan.* extra files), so nothing says how to draw with it",
            hint="export it with gan-export torchscript --ckpt FILE",
        )
    return contract


def _metadata(path: Path) -> dict[str, str]:
    """The `gan.*` extra files of a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not any("/code/" in name for name in names):
                raise ContractError(
                    f"{path} is a PyTorch checkpoint, expected TorchScript",
                    hint=f"export it first: gan-export torchscript --ckpt {path}",
                )
            marker = f"/{EXTRA}/{PREFIX}"
            found = {name.split(f"/{EXTRA}/", 1)[1]: archive.read(name) for name in names if marker in name}
        return {key: data.decode("utf-8") for key, data in found.items()}
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError) as error:
        raise ContractError(f"{path} is a damaged archive: {error}", hint="download or export it again") from error
