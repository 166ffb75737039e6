"""Whether a zip archive, which is what torch.save writes, still holds the bytes that were written.

torch.load does not look at the checksums: with a few flipped bits it loads other weights without a word.
"""

from __future__ import annotations

import os
import zipfile
import zlib

_PIECE = 1 << 20


def crc_holds(data: bytes | memoryview, stored: int) -> bool:
    """Whether `data` has the CRC-32 that its zip entry tells. 0 says nothing: some writers leave it out."""
    return stored == 0 or zlib.crc32(data) == stored


def damage_of(path: str | os.PathLike[str]) -> str:
    """What is wrong with an archive that torch.save wrote, in a few words; "" when every entry is as it was written.

    Reads the whole file, a piece at a time. Raises `OSError` when it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                return "its entries are compressed or encrypted, torch.save leaves them as they are"
            for entry in entries:
                if not _is_whole(archive, entry):
                    return f"it is damaged, the checksum of {entry.filename!r} does not fit"
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, ValueError):
        return "it was cut short or is damaged: it has no list of contents at its end"
    return ""


def _is_whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    if entry.CRC == 0:
        return True
    try:
        with archive.open(entry) as member:
            while member.read(_PIECE):
                pass
    except (zipfile.BadZipFile, EOFError):
        return False
    return True
