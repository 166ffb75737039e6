"""Model files that ask for hours or for 100 GB: each ends under 10 s of CPU and 1 GB, in one line, with exit code 2."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.script_files import CONTRACT
from serve import onnx_files, test_probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="what a process took is read as Linux has it"),
]

COMMAND = "from gan_serve.gen.cli import main; main()"


def with_key(key: str, text: str) -> bytes:
    proto = onnx_files.ours()
    for pair in proto.metadata_props:
        if pair.key == key:
            pair.value = text
    data: bytes = proto.SerializeToString()
    return data


def archive(**entries: bytes) -> bytes:
    """A TorchScript archive with a contract; the given entries are packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        plain = {"code/__torch__.py": b"class A(Module):\n  pass\n", "data.pkl": b"\x80\x02N.", "version": b"3\n"}
        plain |= {f"extra/{key}": text.encode() for key, text in CONTRACT.to_metadata().items()}
        for name, data in (plain | entries).items():
            info = zipfile.ZipInfo(f"m/{name}")
            info.compress_type = zipfile.ZIP_DEFLATED if name in entries else zipfile.ZIP_STORED
            made.writestr(info, data, compresslevel=1)  # the default takes seconds to pack 400 MB
    return buffer.getvalue()


def latents(rows: int) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_2_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (rows, 4)})
    return buffer.getvalue()


INTERFACE = {
    "z": {"dim": 4, "law": "normal"},
    "label": None,
    "image": {"channels": 3, "height": 6, "width": 5, "range": [-1, 1]},
}


def with_interface(**changes: object) -> bytes:
    return with_key("gan.interface", json.dumps(INTERFACE | changes))


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "endless loop": ("m.onnx", test_probe.endless, "took over 8 s or 768 MiB"),
    "100 GB when opened": ("m.onnx", lambda: test_probe.large(True), "took over 8 s or 768 MiB"),
    "100 GB when drawn": ("m.onnx", lambda: test_probe.large(False), "took over 8 s or 768 MiB"),
    "z_dim": (
        "m.onnx",
        lambda: with_interface(z={"dim": 10**9, "law": "normal"}),
        "got 1000000000",
    ),
    "classes": ("m.onnx", lambda: with_interface(label={"classes": 10**9, "names": []}), "got 1000000000"),
    "nesting": ("m.onnx", lambda: with_key("gan.training", '{"a":' * 200_000 + "1" + "}" * 200_000), "nested deeper"),
    "digits": ("m.onnx", lambda: with_key("gan.training", '{"a": ' + "9" * 10_000_000 + "}"), "not JSON"),
    "long text": ("m.onnx", lambda: with_key("gan.name", '"' + "x" * (15 << 20) + '"'), "text of at most 1,000"),
    "fields": ("m.onnx", lambda: b"\x08\x08\x3a\x80\x80\x80\x08" + b"\x0a\x00" * (1 << 23), "over 1,000,000 fields"),
    "a length": ("m.onnx", lambda: b"\x08\x08\x72" + b"\xff" * 9 + b"\x01", "is not a whole ONNX model"),
    "packed tensor": ("m.ts", lambda: archive(**{"data/0": bytes(400 << 20)}), "compressed"),
    "packed code": ("m.ts", lambda: archive(**{"code/a.py": b"\n" * (400 << 20)}), "its code takes over 1 MB"),
    "packed contract": ("m.ts", lambda: archive(**{"extra/gan.name": b"[" * (400 << 20)}), "compressed"),
    "nested code": ("m.ts", lambda: archive(**{"code/a.py": b"y = " + b"(" * 100_000}), "cannot be read"),
    "long code": ("m.ts", lambda: archive(**{"code/a.py": b"x=1;" * (1 << 17)}), "does more than a generator needs"),
}


# A child's peak of memory begins with what its parent held, so a bare interpreter stands between it and the tests.
MEASURE = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def run(folder: Path, *arguments: str) -> tuple[int, str, float, int]:
    """Exit code, stderr, seconds of CPU with all its processes, and the most KiB of memory."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURE, sys.executable, "-c", COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    code, seconds, kib = json.loads(done.stdout)
    return code, done.stderr, seconds, kib


SHORT = ("100 GB when opened", "packed code")
"""One of each kind (and the endless loop in tests/serve/test_probe.py); the others run with the long tests."""


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.long) for name in BOMBS]
)
def test_a_bomb_ends(name: str, tmp_path: Path) -> None:
    file, make, said = BOMBS[name]
    (tmp_path / file).write_bytes(make())
    commands = [("--n", "1"), ("--info",)] if "packed" not in name else [("--info",), ("--selftest",)]
    text_is_fine = said.startswith(("its code", "cannot be read", "does more"))
    for command in commands:
        code, err, seconds, kib = run(tmp_path, "--model", file, *command)
        assert seconds < 12, command
        assert kib < 1 << 20, command
        if command == ("--info",) and text_is_fine:  # what is hostile is not reached
            assert code == 0, err
            continue
        assert code == 2, err
        assert said in err
        assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "data",
    [
        latents(2**63),
        latents(2**62),
        latents(10**12),
        latents(10**12)[:-20],
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"(" * 9000,
        b"\x93NUMPY\x01\x00\x20\x00{'descr': '|O', 'fortran_order': 1",
    ],
    ids=range(7),
)
def test_latents_that_claim_too_much(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "z.npy").write_bytes(data)
    onnx_files.save(tmp_path / "g.onnx")
    code, err, seconds, kib = run(tmp_path, "--model", "g.onnx", "--latents", "z.npy", "--out", "o.png")
    assert code == 2, err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert seconds < 10
    assert kib < 1 << 20
    assert not (tmp_path / "o.png").exists()
