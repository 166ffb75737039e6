"""The zip archives that torch.save and torch.jit.save write, read as they are: entries stored, each with its checksum.

Nothing is unpacked, copied or run: a record is a stretch of the file. An archive that is cut short, packed, encrypted,
ambiguous (two entries of one name) or whose entries overlap is refused; a checksum is compared when a record is
checked, once. torch reads none of the checksums, so a flipped bit would otherwise become a weight. Of TorchScript,
which packs its code, the code has to be small, and the contract is read from its extra files; no torch here.
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
from gan_core.files.model_file import check_model_file

HINT = "download or copy the file again and compare its size and checksum"
FORGED = "the file is damaged or made to exhaust memory; get it again from its author"
MAX_DIRECTORY = 8 << 20
"""Bytes of an archive's list of contents: 80,000 entries. A training state with 1,000 tensors has 100 kB."""
_LOCAL_HEADER = 30
_ENCRYPTED = 1


class Record:
    """One entry: its bytes, not copied, and the CRC-32 that the archive lists for it."""

    __slots__ = ("_crc", "data", "name")

    def __init__(self, name: str, data: memoryview, crc: int = 0) -> None:
        self.name = name
        self.data = data
        self._crc = crc

    def checked(self) -> memoryview:
        """The bytes, after their checksum was compared. 0 is what a writer lists that computes none: accepted.

        Raises `GanportError` ("it …") when they are not the bytes that were written.
        """
        if self._crc and zlib.crc32(self.data) != self._crc:
            raise GanportError(f"it is damaged, the checksum of {self.name[:80]!r} does not fit", hint=HINT)
        self._crc = 0
        return self.data


def read_records(handle: BinaryIO, data: memoryview) -> dict[str, Record]:
    """Name → record of the archive that is open as `handle` and mapped as `data`; code of TorchScript left empty.

    Raises `GanportError` ("it …") when cut short, packed, encrypted, overlapping, or with two entries of one name.
    """
    entries, directory = _entries(handle, data)
    # TorchScript's code is packed, and never looked at.
    stored = [entry for entry in entries if "/code/" not in entry.filename]
    _check_stored(stored, len(data))
    records = {entry.filename: Record(entry.filename, data[:0]) for entry in entries}
    if len(records) < len(entries):
        raise GanportError("it is a zip archive with two entries of one name", hint=HINT)
    spans = []
    for entry in stored:
        first = _first_byte(entry, data)
        spans.append((entry.header_offset, first + entry.file_size))
        records[entry.filename] = Record(entry.filename, data[first : first + entry.file_size], entry.CRC)
    end = 0
    for start, stop in (*sorted(spans), (directory, directory)):
        if start < end:
            raise GanportError("it is a zip archive whose entries lie on top of each other", hint=FORGED)
        end = stop
    return records


def damage_of(path: str | os.PathLike[str]) -> str:
    """What is wrong with an archive that torch.save wrote, in a few words ("it …"); "" when it is as it was written.

    Reads the whole file. Raises `OSError` when it cannot be opened.
    """
    with Path(path).open("rb") as handle:
        data = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            for record in read_records(handle, data).values():
                record.checked()
        except GanportError as error:
            return str(error)
    return ""


def _entries(handle: BinaryIO, data: memoryview) -> tuple[list[zipfile.ZipInfo], int]:
    """The archive's list of contents and where it begins."""
    try:
        _check_directory(data)
        with zipfile.ZipFile(handle) as archive:
            return archive.infolist(), int(archive.start_dir)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        raise GanportError(
            f"it is a zip archive cut short or damaged ({len(data):,} bytes, without the list of contents at its end)",
            hint=HINT,
        ) from error


def _check_stored(entries: Iterable[zipfile.ZipInfo], size: int) -> None:
    claimed = sum(entry.file_size for entry in entries)
    if any(entry.flag_bits & _ENCRYPTED for entry in entries):
        raise GanportError(
            "it is an encrypted zip archive", hint="if a checkpoint lies inside, unpack it (unzip FILE) and name that"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise GanportError(
            f"it is a compressed zip archive ({claimed:,} bytes in {size:,}), torch leaves its own uncompressed",
            hint="if a checkpoint lies inside, unpack it (unzip FILE) and name that",
        )
    if claimed > size:
        raise GanportError(f"it is a zip archive that claims {claimed:,} bytes in a file of {size:,}", hint=FORGED)


def _first_byte(entry: zipfile.ZipInfo, data: memoryview) -> int:
    """Where an entry's bytes begin, after its own header, which must name it too."""
    start = entry.header_offset
    if not 0 <= start <= len(data) - _LOCAL_HEADER or bytes(data[start : start + 4]) != b"PK\x03\x04":
        raise GanportError("it is a damaged zip archive", hint=HINT)
    length = int.from_bytes(data[start + 26 : start + 28], "little")
    extra = int.from_bytes(data[start + 28 : start + 30], "little")
    first = start + _LOCAL_HEADER + length + extra
    if first + entry.file_size > len(data):
        raise GanportError("it is a zip archive cut short", hint=HINT)
    name = bytes(data[start + _LOCAL_HEADER : start + _LOCAL_HEADER + length])
    if name not in (entry.orig_filename.encode(), entry.orig_filename.encode("cp437", "replace")):
        raise GanportError("it is a damaged zip archive: an entry has another name than in its list", hint=HINT)
    return first


def _check_directory(data: memoryview) -> None:
    """Raises `GanportError` when the list of contents is so long that reading it would take the memory."""
    tail = data[-(1 << 16) - 128 :].tobytes()
    end = tail.rfind(b"PK\x05\x06")
    if 0 <= end <= len(tail) - 22:
        (size,) = struct.unpack("<L", tail[end + 12 : end + 16])
        large = tail.rfind(b"PK\x06\x06", 0, end)
        if large >= 0 and large + 48 <= len(tail):  # zip64
            size = max(size % 0xFFFFFFFF, struct.unpack("<Q", tail[large + 40 : large + 48])[0])
        if size > MAX_DIRECTORY:
            raise GanportError(
                f"it is a zip archive whose list of contents alone takes {size:,} bytes", hint="it is no checkpoint"
            )


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
            f"{path} is TorchScript without a contract (no gan.* extra files), so nothing says how to run it",
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
