"""Small files that claim much: `BOMBS` maps a name to (the file's bytes, what the reader's refusal must say)."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import torch

from export.reading_payloads import Calls, as_legacy

SIDE = 100_000
GIB_40 = (SIDE, SIDE)
"""10¹⁰ floats."""

NO_TENSORS, CUT, STEPS = "no tensors", "damaged or cut short", "steps"


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def storage(numel: int, more: bytes = b"") -> bytes:
    """The persistent id of a storage of floats."""
    parts = (text("storage"), b"ctorch\nFloatStorage\n", text("0"), text("cpu"), number(numel), more)
    return b"(" + b"".join(parts) + b"tQ"


def tensor(numel: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of {"a.weight": a tensor on a storage of `numel` floats}."""
    sizes = b"".join(b"(" + b"".join(map(number, values)) + b"t" for values in (shape, stride))
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(numel) + number(0) + sizes + b"\x89}tR"
    return b"\x80\x02}" + text("a.weight") + call + b"s."


def archive(payload: bytes, numbers: bytes = bytes(1024), compression: int = zipfile.ZIP_STORED) -> bytes:
    """A torch zip with `numbers` as its only storage."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as opened:
        opened.writestr("a/data.pkl", payload)
        opened.writestr("a/data/0", numbers)
    return buffer.getvalue()


GOOD = tensor(256, (16, 16), (16, 1))


def claiming(size: int) -> bytes:
    """A zip whose list of contents claims `size` bytes for its last entry."""
    good = archive(GOOD)
    at = good.rindex(b"PK\x01\x02")
    return good[: at + 20] + struct.pack("<LL", size, size) + good[at + 28 :]


def overlapping() -> bytes:
    """A zip whose hundred entries are all the same half megabyte."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("a/data.pkl", GOOD)
        opened.writestr("a/data/0", bytes(1 << 19))
        entry = opened.filelist[-1]
        opened.filelist += [entry] * 100
    return buffer.getvalue()


def long_contents() -> bytes:
    """A zip whose list of contents claims 4 GB."""
    return archive(GOOD)[:-10] + struct.pack("<LLH", 0xFFFFFFF0, 0, 0)


def safetensors(size: int) -> bytes:
    entry = {"dtype": "F32", "shape": GIB_40, "data_offsets": [0, size]}
    header = json.dumps({"a.weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(1024)


def array() -> bytes:
    """A numpy array of 765 numbers that claims 10¹⁰."""
    good = pickle.dumps({"a.weight": np.zeros((3, 255), np.float32)}, 2)
    return good.replace(b"K\x03K\xff\x86", b"".join(map(number, GIB_40)) + b"\x86")


def nested(depth: int) -> bytes:
    payload = pickle.dumps(1, 2)
    for _ in range(depth):
        payload = pickle.dumps(Calls(torch.storage._load_from_bytes, as_legacy(payload)), 2)
    return payload


def laughs(levels: int) -> bytes:
    """Lists of ten times the list before: 10⁶⁰ entries when walked as a tree."""
    level = lambda n: b"(" + (b"h" + bytes([n])) * 10 + b"lq" + bytes([n + 1])  # noqa: E731
    return b"\x80\x02]q\x00" + b"".join(map(level, range(levels))) + b"."


def copies() -> bytes:
    """list(x), ninety times, of a list of 50,000."""
    return b"\x80\x02(" + b"K\x01" * 50_000 + b"lq\x00cbuiltins\nlist\nq\x01" + b"h\x01(h\x00tR0" * 90 + b"."


def states() -> bytes:
    """Ninety objects with a state of 50,000 attributes, copied from one."""
    entries = b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(50_000))
    return b"\x80\x02}(" + entries + b"uq\x00cmine\nBox\nq\x01" + b"h\x01)\x81h\x00b0" * 90 + b"."


def calls(function: str, argument: bytes) -> bytes:
    return b"\x80\x02cbuiltins\n" + function.encode() + b"\n(" + argument + b"tR."


BOMBS: dict[str, tuple[bytes, str]] = {
    "40 GiB in a zip": (archive(tensor(256, GIB_40, (SIDE, 1))), "claims shape 100000×100000"),
    "40 GiB of storage": (archive(tensor(SIDE**2, GIB_40, (SIDE, 1))), "claims 40,000,000,000 bytes"),
    "40 GiB by expanding": (archive(tensor(256, GIB_40, (0, 0))), "claims shape 100000×100000"),
    "129⁵ by overlapping": (archive(tensor(256, (129,) * 5, (1, 1, 0, 0, 0))), "claims shape 129×129"),
    "sides beyond 64 bits": (archive(tensor(256, (1 << 63, 1), (1, 1))), "not a few whole numbers"),
    "40 GiB in a legacy file": (as_legacy(b"\x80\x02" + storage(SIDE**2, b"N") + b"."), "claims a storage of"),
    "40 GiB in safetensors": (safetensors(4 * SIDE**2), "damaged .safetensors"),
    "a wrong size in safetensors": (safetensors(1024), "damaged .safetensors"),
    "a header of 90 MB": (struct.pack("<Q", 90_000_000) + b"{" + bytes(100), "no checkpoint of any known format"),
    "40 GiB in an array": (array(), "numpy array claims shape"),
    "an entry larger than the file": (claiming(1 << 31), "claims 2,147,48"),
    "entries on top of each other": (overlapping(), "a zip archive that claims 52,"),
    "a zip bomb": (archive(GOOD, bytes(64 << 20), zipfile.ZIP_DEFLATED), "a compressed zip archive"),
    "a list of contents of 4 GB": (long_contents(), "list of contents alone"),
    "a memo at 2³¹": (b"\x80\x02]r\xff\xff\xff\x7f.", NO_TENSORS),
    "a byte array of 1 TB": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", CUT),
    "bytes of 1 EB": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.", CUT),
    "a frame of 1 TB": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "holds NoneType"),
    "an integer of 2 GB": (b"\x80\x02\x8b\xff\xff\xff\x7f1.", CUT),
    "an integer of 2 MB": (b"\x80\x02\x8b\x00\x00\x20\x00" + b"\x7f" * (2 << 20) + b".", "a number of 16,777,215 bits"),
    "a long text number": (b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.", CUT),
    "bytes(10**11)": (calls("bytes", number(10**11)), "calls bytes on int"),
    "bytearray(10**11)": (calls("bytearray", number(10**11)), "calls bytes on int"),
    "list(range(10**11))": (calls("list", calls("range", number(10**11))[2:-1]), NO_TENSORS),
    "lists in lists": (b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".", NO_TENSORS),
    "tuples in tuples": (b"\x80\x02)" + b"\x85" * 300_000 + b".", NO_TENSORS),
    "tuples in tuples as a key": (b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", NO_TENSORS),
    "pickles in pickles": (nested(8), "deeper than any checkpoint"),
    "a million laughs": (laughs(60), NO_TENSORS),
    "copies of a long list": (copies(), STEPS),
    "states of a long dictionary": (states(), STEPS),
}
