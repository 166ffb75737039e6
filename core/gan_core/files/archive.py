"""The zip archives that torch.save and torch.jit.save write, read as they are: entries stored, each with its checksum.

Nothing is unpacked and nothing is copied: a record is a stretch of the file. An archive that is cut short, packed,
encrypted, ambiguous (two entries of one name) or whose entries overlap is refused; a checksum is compared when a record
is checked, once. torch reads none of the checksums, so a flipped bit would otherwise become a weight.
"""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from gan_core.errors import GanportError

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
