"""Small files that claim much: `BOMBS` maps a name to (what makes the bytes, what the reader's refusal must say).

Run as a program, it reads every file of a folder, each in a process of its own with limits of time and memory.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from export import bomb_parts as parts
from export.reading_payloads import as_legacy

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "40 GiB in a zip": (
        lambda: parts.archive(parts.tensor(256, parts.GIB_40, (parts.SIDE, 1))),
        "claims shape 100000×100000",
    ),
    "40 GiB of storage": (
        lambda: parts.archive(parts.tensor(parts.SIDE**2, parts.GIB_40, (parts.SIDE, 1))),
        "claims 40,000,000,000 bytes",
    ),
    "40 GiB by expanding": (
        lambda: parts.archive(parts.tensor(256, parts.GIB_40, (0, 0))),
        "claims shape 100000×100000",
    ),
    "129⁵ by overlapping": (
        lambda: parts.archive(parts.tensor(256, (129,) * 5, (1, 1, 0, 0, 0))),
        "claims shape 129×129",
    ),
    "sides beyond 64 bits": (lambda: parts.archive(parts.tensor(256, (1 << 63, 1), (1, 1))), "not a few whole numbers"),
    "40 GiB in a legacy file": (
        lambda: as_legacy(b"\x80\x02" + parts.storage(parts.SIDE**2, b"N") + b"."),
        "claims a storage of",
    ),
    "40 GiB in safetensors": (lambda: parts.safetensors(4 * parts.SIDE**2), "damaged .safetensors"),
    "a wrong size in safetensors": (lambda: parts.safetensors(1024), "damaged .safetensors"),
    "a header of 90 MB": (
        lambda: struct.pack("<Q", 90_000_000) + b"{" + bytes(100),
        "no checkpoint of any known format",
    ),
    "40 GiB in an array": (parts.array, "numpy array claims shape"),
    "an entry larger than the file": (lambda: parts.claiming(1 << 31), "claims 2,147,48"),
    "entries on top of each other": (parts.overlapping, "a zip archive that claims 52,"),
    "a zip bomb": (
        lambda: parts.archive(parts.GOOD, bytes(64 << 20), zipfile.ZIP_DEFLATED),
        "a compressed zip archive",
    ),
    "a list of contents of 4 GB": (parts.long_contents, "list of contents alone"),
    "a memo at 2³¹": (lambda: b"\x80\x02]r\xff\xff\xff\x7f.", parts.NO_TENSORS),
    "a byte array of 1 TB": (lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", parts.CUT),
    "bytes of 1 EB": (lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.", parts.CUT),
    "a frame of 1 TB": (lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "holds NoneType"),
    "an integer of 2 GB": (lambda: b"\x80\x02\x8b\xff\xff\xff\x7f1.", parts.CUT),
    "an integer of 2 MB": (
        lambda: b"\x80\x02\x8b\x00\x00\x20\x00" + b"\x7f" * (2 << 20) + b".",
        "a number of 16,777,215 bits",
    ),
    "a long text number": (lambda: b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.", parts.CUT),
    "bytes(10**11)": (lambda: parts.calls("bytes", parts.number(10**11)), "calls bytes on int"),
    "bytearray(10**11)": (lambda: parts.calls("bytearray", parts.number(10**11)), "calls bytes on int"),
    "list(range(10**11))": (
        lambda: parts.calls("list", parts.calls("range", parts.number(10**11))[2:-1]),
        parts.NO_TENSORS,
    ),
    "lists in lists": (lambda: b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".", parts.NO_TENSORS),
    "tuples in tuples": (lambda: b"\x80\x02)" + b"\x85" * 300_000 + b".", parts.NO_TENSORS),
    "tuples in tuples as a key": (lambda: b"\x80\x02})" + b"\x85" * 300_000 + b"Ns.", parts.NO_TENSORS),
    "pickles in pickles": (lambda: parts.nested(8), "deeper than any checkpoint"),
    "a million laughs": (lambda: parts.laughs(60), parts.NO_TENSORS),
    "copies of a long list": (parts.copies, parts.STEPS),
    "states of a long dictionary": (parts.states, parts.STEPS),
    **{f"endless text as {what}": (partial(parts.told, call), "") for what, call in parts.STRANGE.items()},
    "endless text as a storage's place": (lambda: parts.archive(parts.located()), parts.NO_TENSORS),
    "endless text as a storage's key": (lambda: parts.archive(parts.keyed()), "named by something else"),
    "endless text as a legacy storage's key": (parts.legacy_keys, "named by something else"),
    "endless text as a StyleGAN class": (parts.stylegan, parts.NO_TENSORS),
    **{
        f"endless text as {field} of a checkpoint of ours": (partial(parts.ours, field), said)
        for field, said in (
            ("ganport", "(a list)"),
            ("spec", "damaged ganport checkpoint"),
            ("weights", "lacks its weights"),
            ("which", "neither ema nor raw"),
            ("training", "its training is no JSON object"),
        )
    },
    "endless text as a norm's name": (
        lambda: (
            b"\x80\x02"
            + parts.put(parts.endless(), 100)
            + parts.module(
                {
                    "_forward_pre_hooks": b"}K\x00"
                    + parts.name("mine", "SpectralNorm")
                    + b")\x81}("
                    + parts.text("dim")
                    + b"K\x00"
                    + parts.text("name")
                    + b"h\x64ubs"
                }
            )
            + b"."
        ),
        parts.NO_TENSORS,
    ),
    "endless text among transient buffers": (
        lambda: (
            b"\x80\x02"
            + parts.put(parts.endless(), 100)
            + parts.module({"_non_persistent_buffers_set": b"](h\x64e"})
            + b"."
        ),
        parts.NO_TENSORS,
    ),
    "keywords of 50,000": (parts.keywords, parts.STEPS),
    "copies of a megabyte": (parts.buffers, parts.STEPS),
    "one tuple of arguments for all": (parts.shared_arguments, parts.STEPS),
    "a megabyte as a key": (parts.long_keys, ""),
    "an optimizer's towers": (
        lambda: b"\x80\x02}(" + parts.text("param_groups") + b"]" + parts.text("state") + parts.tower(200, 4) + b"u.",
        parts.STEPS,
    ),
    "towers of dictionaries": (lambda: b"\x80\x02" + parts.tower(200, 50) + b".", parts.NO_TENSORS),
    "modules within modules": (lambda: parts.archive(b"\x80\x02" + parts.modules_within(50) + b"."), parts.STEPS),
    "modules of long names": (lambda: parts.archive(b"\x80\x02" + parts.modules_within(13) + b"."), "10,000"),
    "400,000 tensors": (lambda: parts.archive(parts.many_tensors()), parts.STEPS),
    "names of 150 parts": (
        lambda: parts.archive(parts.state_of([("g." * 140) + f"{n}.weight" for n in range(9000)])),
        "",
    ),
    "too many tensors": (
        lambda: parts.archive(parts.state_of([f"{n}.weight" for n in range(20_000)])),
        "20,000 tensors in one network",
    ),
    "weight norms without end": (
        lambda: parts.archive(
            parts.state_of([f"{n}.{part}" for n in range(4900) for part in ("weight_g", "weight_v")])
        ),
        "",
    ),
    "parts without end": (
        lambda: parts.archive(
            parts.state_of(["netG.0.weight", "netD.0.weight", *(f"vgg{n}.0.weight" for n in range(9000))])
        ),
        "",
    ),
    "3,000 dictionaries": (lambda: parts.archive(parts.averages()), "dictionaries of tensors"),
    "two million opcodes": (lambda: b"\x80\x02" + b"N0" * 2_000_000 + b"N.", parts.STEPS),
    "a million names": (
        lambda: b"\x80\x04\x8c\x04mineq\x010\x8c\x03Boxq\x020" + b"h\x01h\x02\x930" * 500_000 + b"N.",
        parts.STEPS,
    ),
    "a million empty dictionaries": (lambda: b"\x80\x02" + parts.often(b"}", 3_000_000), parts.STEPS),
    "hashes that are one": (parts.floats, parts.NO_TENSORS),
    "a tar of names of names": (parts.tar_of_names, ""),
    "60,000 entries that are one": (parts.many_entries, ""),
    "a function within itself": (parts.from_types, ""),
    "a tensor of a tensor of a tensor": (lambda: parts.archive(parts.chained_devices()), ""),
    "an empty tensor with endless sides": (
        lambda: parts.archive(parts.tensor(256, (0, 1 << 62, 1 << 62), (1, 1, 1))),
        "beyond all memory",
    ),
    "a header of brackets": (lambda: struct.pack("<Q", 200_001) + b'{"a":' + b"[" * 199_996, "damaged .safetensors"),
    "a header that says 2⁶³ sides": (lambda: parts.safetensors(0, (0, 2**63, 99)), "damaged .safetensors"),
}

LONG = {
    "400,000 tensors", "a million empty dictionaries", "a megabyte as a key", "two million opcodes", "a million names",
    "an optimizer's towers", "lists in lists", "tuples in tuples as a key", "weight norms without end",
    "names of 150 parts",
}  # fmt: skip
"""Bombs that end after a second or more, each of a kind with one that ends sooner."""

READABLE = {"names of 150 parts", "weight norms without end", "parts without end"}
"""Bombs that are checkpoints all the same: they may be read, within the limits."""

MAX_SECONDS, MAX_BYTES = 10, 1 << 30


def explode(path: Path) -> None:
    """Reads the file at `path`, as the commands do, in this process, within the limits; prints what it took."""
    import resource

    from gan_core.errors import GanportError
    from gan_export.reading import read_checkpoint

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MAX_BYTES, mapped + MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    told = {"code": 0, "text": "", "hint": ""}
    try:
        read_checkpoint(path)
    except GanportError as error:
        told = {"code": error.exit_code, "text": str(error), "hint": error.hint}
    sys.stdout.write(json.dumps({"file": path.name, **told}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":  # each bomb in a fork of a process that has imported what it needs
    import gan_export.reading  # noqa: F401

    running = 0
    for bomb in sorted(Path(sys.argv[1]).iterdir()):
        if running >= (os.cpu_count() or 1):
            os.wait()
            running -= 1
        if os.fork() == 0:
            explode(bomb)
            os._exit(0)
        running += 1
    for _ in range(running):
        os.wait()
