"""Pickles, archives and storages that claim more than they hold, byte by byte."""

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


def safetensors(size: int, shape: tuple[int, ...] = GIB_40) -> bytes:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
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


def put(payload: bytes, index: int = 1) -> bytes:
    """The value that `payload` makes, remembered and taken from the stack again."""
    return payload + b"q" + bytes([index]) + b"0"


def often(payload: bytes, count: int) -> bytes:
    """A list of what `payload` makes, `count` times."""
    return b"](" + payload * count + b"e."


def endless() -> bytes:
    """A list in whose text every level stands ten times, sixty levels deep; and it holds itself."""
    return laughs(60)[2:-1] + b"h\x3ca"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def module(parts: dict[str, bytes], cls: str = "Box") -> bytes:
    """An nn.Module's record; `parts` are the pickles of its attributes."""
    held = {"_parameters": b"}", "_buffers": b"}", "_modules": b"}"} | parts
    return name("mine", cls) + b")\x81}(" + b"".join(text(key) + value for key, value in held.items()) + b"ub"


def tower(width: int, levels: int) -> bytes:
    """Dictionaries in whose tree every level stands `width` times."""
    level = lambda n: b"}(" + b"".join(text(f"{i}") + b"h" + bytes([n]) for i in range(width)) + b"uq" + bytes([n + 1])  # noqa: E731
    return b"}q\x00" + b"".join(map(level, range(levels)))


def modules_within(levels: int) -> bytes:
    """Modules that hold the one before twice, under long names."""
    made = module({"_parameters": b"}" + text("weight") + TENSOR + b"s"}) + b"q\x00"
    for n in range(levels):
        below = b"}(" + text("a" * 250) + b"h" + bytes([n]) + text("b" * 250) + b"h" + bytes([n]) + b"u"
        made += module({"_modules": below}) + b"q" + bytes([n + 1])
    return made


TENSOR = tensor(256, (16, 16), (16, 1))[3 + len(text("a.weight")) : -2]
"""What makes a tensor of 16×16."""
STRANGE = {
    "a device": name("torch", "device"),
    "a layout": name("torch.serialization", "_get_layout"),
    "a numpy dtype": name("numpy", "dtype"),
    "an encoding": name("_codecs", "encode") + b"(" + text("x"),
    "an attribute": name("builtins", "getattr") + b"(" + name("mine", "Box"),
    "an XLA tensor's device": (
        name("torch._utils", "_rebuild_device_tensor_from_numpy") + b"(" + TENSOR + name("torch", "float32")
    ),
}
"""Calls of which an argument is shown, stored or compared as text."""


def told(call: bytes) -> bytes:
    return archive(b"\x80\x02" + put(endless()) + (call if b"(" in call else call + b"(") + b"h\x01tR.")


def located() -> bytes:
    good = storage(256)
    return b"\x80\x02" + put(endless()) + good.replace(text("cpu"), b"h\x01") + b"."


def keyed() -> bytes:
    return b"\x80\x02" + put(endless()) + storage(256).replace(text("0"), b"h\x01") + b"."


def stylegan() -> bytes:
    meta = b"}" + text("class_name") + b"h\x01s"
    return (
        b"\x80\x02" + put(endless()) + name("torch_utils.persistence", "_reconstruct_persistent_obj") + meta + b"\x85R."
    )


def ours(field: str) -> bytes:
    """A checkpoint of gan-train's with one field without an end."""
    fields = {"ganport": b"K\x01", "spec": text("{}"), "weights": b"}", "which": text("ema"), "training": text("{}")}
    entries = b"".join(text(key) + (b"h\x01" if key == field else value) for key, value in fields.items())
    return b"\x80\x02" + put(endless()) + b"}(" + entries + b"u."


def legacy_keys() -> bytes:
    good = as_legacy(b"\x80\x02}.")
    return good[: good.rindex(b"\x80\x02")] + b"\x80\x02" + put(endless()) + b"](h\x01e."


def entries(count: int) -> bytes:
    return b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(count)) + b"u"


def keywords() -> bytes:
    call = name("mine", "Box") + b")h\x01\x92"
    return b"\x80\x04" + put(entries(50_000)) + often(call, 20_000)


def buffers() -> bytes:
    call = put(name("builtins", "bytes"), 2) + b"](" + b"h\x02h\x01\x85R" * 100_000 + b"e."
    return b"\x80\x05" + put(b"\x96" + struct.pack("<Q", 1 << 20) + bytes(1 << 20)) + call


def shared_arguments() -> bytes:
    """Objects made with one tuple of 50,000 values, each of which is looked through."""
    arguments = b"(" + b"]" * 50_000 + b"t"
    return b"\x80\x02" + put(arguments) + put(name("mine", "Box"), 2) + often(b"h\x02h\x01\x81", 100_000)


def long_keys() -> bytes:
    """One megabyte of bytes as the key of every entry."""
    return b"\x80\x03" + put(b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20)) + b"}(" + b"h\x01N" * 900_000 + b"u."


def many_tensors() -> bytes:
    rebuild, arguments = TENSOR[: TENSOR.index(b"(")], TENSOR[TENSOR.index(b"(") : -1]
    head = b"\x80\x02" + put(rebuild) + put(arguments, 2)
    return head + b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"h\x01h\x02R" for n in range(400_000)) + b"u."


def state_of(names: list[str]) -> bytes:
    return b"\x80\x02" + put(TENSOR) + b"}(" + b"".join(text(key) + b"h\x01" for key in names) + b"u."


def averages() -> bytes:
    """Dictionaries of many shapes, half of them averages, which are compared with each other."""
    one = b"}(" + b"".join(text(f"{n}.weight") + b"h\x01" for n in range(50)) + b"u"
    parts = b"".join(text(f"{'ema' if n % 2 else 'model'}{n}") + one for n in range(3000))
    return b"\x80\x02" + put(TENSOR) + b"}(" + parts + b"u."


def tar_of_names() -> bytes:
    """A tar whose long names announce long names, six thousand times."""
    header = bytearray(512)
    header[:13], header[124:136], header[156:157], header[257:265] = (
        b"././@LongLink", b"00000000001\0", b"L", b"ustar  \0",
    )  # fmt: skip
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return (bytes(header) + b"x" + bytes(511)) * 6000 + bytes(1024)


def many_entries() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("a/data.pkl", GOOD)
        entry = opened.filelist[0]
        opened.filelist += [entry] * 60_000
    return buffer.getvalue()


def from_types() -> bytes:
    """A rebuilding function that is asked to call itself, thirty thousand deep."""
    head = b"\x80\x02" + put(name("torch._tensor", "_rebuild_from_type_v2"))
    return head + b"h\x01" + b"(h\x01N" * 30_000 + b")" + b"Nt" * 30_000 + b"R."


def floats() -> bytes:
    """Numbers whose hashes are one: 2⁶¹ⁿ."""
    numbers = b"".join(b"G" + struct.pack(">d", 2.0 ** (61 * n)) + b"N" for n in range(-17, 17))
    return b"\x80\x02}(" + numbers * 6000 + b"u."


def chained_devices() -> bytes:
    """A tensor of a tensor of a tensor …, which loads by way of all of them."""
    rebuild = name("torch._utils", "_rebuild_device_tensor_from_numpy")
    first = put(rebuild) + put(name("torch", "float32"), 2) + TENSOR
    head = b"\x80\x02}" + text("0.weight") + b"h\x01" * 20_000
    return head.replace(b"\x80\x02", b"\x80\x02" + put(rebuild), 1) + first + b"h\x02N\x87R" * 20_000 + b"s."


def no_module(attribute: bytes, part: str) -> bytes:
    return b"\x80\x02" + module({part: attribute}) + b"."
