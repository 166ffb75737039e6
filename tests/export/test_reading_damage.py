"""Files that changed after they were written: no changed bit becomes a weight, whatever the archive says of itself."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from export.reading_nets import generator, same
from export.reading_payloads import saved
from gan_core.errors import GanportError
from gan_export.reading import read_checkpoint

NET = generator()


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(GanportError) as caught:
        read_checkpoint(path)
    assert caught.value.hint
    return str(caught.value)


def entries(data: bytes) -> list[zipfile.ZipInfo]:
    return zipfile.ZipFile(io.BytesIO(data)).infolist()


def first_byte(data: bytes, entry: zipfile.ZipInfo) -> int:
    length, extra = struct.unpack("<HH", data[entry.header_offset + 26 : entry.header_offset + 30])
    return int(entry.header_offset + 30 + length + extra)


def flipped(data: bytes, name: str, at: int = 1) -> bytes:
    """One bit of the entry `name` changed; zipfile.testzip() names it."""
    entry = next(entry for entry in entries(data) if entry.filename == name)
    place = first_byte(data, entry) + at
    changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    assert zipfile.ZipFile(io.BytesIO(changed)).testzip() == name
    return changed


def rezipped(change: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The network's archive with entries changed or added, written anew: all checksums right."""
    data = saved(NET)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for entry in entries(data):
            archive.writestr(entry.filename, change.get(entry.filename, zipfile.ZipFile(io.BytesIO(data)).read(entry)))
    return buffer.getvalue()


@pytest.mark.parametrize("name", [entry.filename for entry in entries(saved(NET)) if "/data" in entry.filename])
def test_a_flipped_bit_is_told(tmp_path: Path, name: str) -> None:
    assert f"is damaged, the checksum of {name!r} does not fit" in refused(tmp_path / "g.pt", flipped(saved(NET), name))


def test_a_flipped_bit_in_what_is_not_read_is_no_matter(tmp_path: Path) -> None:
    content = {"g": NET, "optimizer": {"state": {0: {"exp_avg": torch.ones(5, 5)}}, "param_groups": []}}
    last = max(int(entry.filename[13:]) for entry in entries(saved(content)) if entry.filename[:13] == "archive/data/")
    (tmp_path / "g.pt").write_bytes(flipped(saved(content), f"archive/data/{last}"))
    assert same(read_checkpoint(tmp_path / "g.pt").tensors, NET)


def test_writers_without_checksums_are_read(tmp_path: Path) -> None:
    data = bytearray(saved(NET))
    for entry in entries(bytes(data)):  # in the list; in front of the bytes torch writes 0 anyway
        at = data.index(b"PK\x01\x02")
        while entry.filename.encode() != data[at + 46 : at + 46 + len(entry.filename)]:
            at = data.index(b"PK\x01\x02", at + 1)
        data[at + 16 : at + 20] = bytes(4)
    (tmp_path / "g.pt").write_bytes(data)
    assert same(read_checkpoint(tmp_path / "g.pt").tensors, NET)


def test_every_checksum_right_and_read(tmp_path: Path) -> None:
    (tmp_path / "g.pt").write_bytes(rezipped({}))
    assert same(read_checkpoint(tmp_path / "g.pt").tensors, NET)


class Pipe(io.BytesIO):
    """A file that cannot be sought, so that sizes and checksums come after the bytes."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("file", [io.BytesIO, Pipe])
def test_zip64_and_descriptors_are_read(tmp_path: Path, large: bool, file: type[io.BytesIO]) -> None:
    source, buffer = zipfile.ZipFile(io.BytesIO(saved(NET))), file()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in source.infolist():
            with archive.open(entry.filename, "w", force_zip64=large) as member:
                member.write(source.read(entry))
    (tmp_path / "g.pt").write_bytes(buffer.getvalue())
    assert same(read_checkpoint(tmp_path / "g.pt").tensors, NET)


def _twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("a/datb.pkl", b"N.")
    return buffer.getvalue().replace(b"a/datb", b"a/data")


def _on_top() -> bytes:
    """The list names the second storage where the first one lies (and its own header says the first one's name)."""
    data = saved(NET)
    one, two = (entry for entry in entries(data) if entry.filename in ("archive/data/1", "archive/data/2"))
    return data.replace(struct.pack("<L", two.header_offset) + b"archive/data/2", b"____archive/data/2").replace(
        b"____archive/data/2", struct.pack("<L", one.header_offset) + b"archive/data/2"
    )


def _within() -> bytes:
    """An entry inside another one's bytes."""
    inner = b"PK\x03\x04" + bytes(22) + struct.pack("<HH", 3, 0) + b"a/b" + b"N."
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", b"N." + inner)
        archive.writestr("a/b", b"N.")
        archive.filelist[1].header_offset = buffer.getvalue().index(b"N.PK") + 2
    return buffer.getvalue()


def _encrypted() -> bytes:
    data = bytearray(rezipped({}))
    for at in (6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1
    return bytes(data)


def _renamed() -> bytes:
    return saved(NET).replace(b"archive/data/3", b"archive/data/9", 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_twice, "two entries of one name"),
        (_within, "on top of each other"),
        (_on_top, "another name than in its list"),
        (_renamed, "another name than in its list"),
        (_encrypted, "an encrypted zip archive"),
        (lambda: rezipped({}, zipfile.ZIP_DEFLATED), "a compressed zip archive"),
        (lambda: rezipped({"archive/data/0": b""}), "the archive holds 0 for it"),
        (lambda: saved(NET)[:-30], "cut short or damaged"),
        (lambda: saved(NET)[100:], "no checkpoint of any known format"),
    ],
)
def test_archives_that_contradict_themselves(tmp_path: Path, make: object, said: str) -> None:
    assert callable(make)
    assert said in refused(tmp_path / "g.pt", make())
