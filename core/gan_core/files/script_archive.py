"""A TorchScript file seen as the zip archive it is: what kind of file, and the contract in it. No torch here.

Nothing is loaded or run. Entries must be stored, as torch stores all but code, and code has to be small.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from gan_core.contract import PREFIX, Contract
from gan_core.errors import ContractError, GanportError
from gan_core.files.archive import Record, read_records
from gan_core.files.model_file import check_model_file

EXTRA = "extra"
"""torch.jit keeps `_extra_files` in this folder of the archive."""
MAX_CODE = 1 << 20
"""The most bytes of all code; the largest generators, scripted, have some 100,000."""
MAX_CONTRACT = 32 << 20
_MARKER = f"/{EXTRA}/{PREFIX}"
_CODE = "/code/"


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a zip archive, as TorchScript files and checkpoints are and ONNX files are not."""
    return zipfile.is_zipfile(path)


def read_contract(path: str | os.PathLike[str]) -> Contract:
    """The contract of a TorchScript file, of which only the list of contents and the contract's own text are read.

    Raises `GanportError` when the file is missing, `ContractError` when it is no TorchScript file, carries no
    contract, or carries one that cannot be read.
    """
    return contract_of(_read(path, of_contract=True), path)


def read_entries(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """All entries of a TorchScript file, each checked against its CRC: what is looked at is what is loaded.

    Raises as `read_contract`.
    """
    return _read(path, of_contract=False)


def contract_of(entries: Mapping[str, bytes], path: str | os.PathLike[str]) -> Contract:
    """The contract in these entries. Raises `ContractError` where there is none, or one that cannot be read."""
    try:
        metadata = {name.split(f"/{EXTRA}/", 1)[1]: data.decode() for name, data in entries.items() if _MARKER in name}
    except UnicodeDecodeError as error:
        raise _damaged(path, "its contract is no UTF-8") from error
    contract = Contract.from_metadata(metadata, where=str(path))
    if contract is None:
        raise ContractError(
            f"{path} is TorchScript without a contract (no gan.* extra files), so nothing says how to draw with it",
            hint="export it with gan-export torchscript --ckpt FILE",
        )
    return contract


def entries_sha256(entries: Mapping[str, bytes]) -> str:
    """The hex SHA-256 of all entries but the contract's, by name, each as "NAME LENGTH\\n" and its bytes."""
    digest = hashlib.sha256()
    for name in sorted(entries):
        if _MARKER not in name:
            inside = name.partition("/")[2]  # torch names the folder after the file
            digest.update(f"{inside} {len(entries[name])}\n".encode())
            digest.update(entries[name])
    return digest.hexdigest()


def _read(path: str | os.PathLike[str], *, of_contract: bool) -> dict[str, bytes]:
    path = check_model_file(path)
    if not is_archive(path):
        raise ContractError(
            f"{path} is not a TorchScript file", hint="gan-export torchscript writes one from a checkpoint"
        )
    try:
        with path.open("rb") as handle:
            records = read_records(handle, memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)))
            _check(records, path)
            code = [name for name in records if _CODE in name]
            wanted = [name for name in records if _MARKER in name or not (of_contract or name in code)]
            entries = {name: bytes(records[name].checked()) for name in wanted}
            return entries if of_contract else entries | _code(handle, code)
    except ContractError:
        raise
    except GanportError as error:
        raise ContractError(f"{path}: {error}", hint=error.hint) from error
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError,
        OverflowError,
    ) as error:  # fmt: skip
        raise _damaged(path, " ".join(str(error).split())[:200]) from error


def _code(handle: BinaryIO, names: Iterable[str]) -> dict[str, bytes]:
    """The code's text, which torch packs. What it keeps beside it for tracebacks is left out."""
    code, left = {}, MAX_CODE
    with zipfile.ZipFile(handle) as archive:
        for name in names:
            if not name.endswith(".debug_pkl"):
                with archive.open(name) as packed:
                    code[name] = packed.read(left + 1)
                left -= len(code[name])
                if left < 0:
                    raise ValueError(f"its code takes over {MAX_CODE >> 20} MB")
    return code


def _check(records: Mapping[str, Record], path: Path) -> None:
    """Raises `ContractError` for an archive that torch would not have written, or that it would read otherwise."""
    if not any(_CODE in name for name in records):
        raise ContractError(
            f"{path} is a PyTorch checkpoint, expected TorchScript",
            hint=f"export it first: gan-export torchscript --ckpt {path}",
        )
    if len({name.casefold() for name in records}) < len(records):
        raise _damaged(path, "it has two entries of one name")
    if len({name.partition("/")[0] for name in records}) > 1 or not all(name.isascii() for name in records):
        raise _damaged(path, "its entries are not in one folder with a plain name")
    contract = sum(len(record.data) for name, record in records.items() if _MARKER in name)
    if contract > MAX_CONTRACT:
        raise _damaged(path, f"its contract takes {contract:,} bytes, expected at most {MAX_CONTRACT:,}")


def _damaged(path: str | os.PathLike[str], how: str) -> ContractError:
    return ContractError(f"{path} is a damaged archive: {how}", hint="download or export it again")
