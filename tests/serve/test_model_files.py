"""Files and paths that are no models, or not whole: one line and a hint."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import gan_serve
from gan_core.errors import ContractError, GanportError
from gan_serve.runtime.onnx_generator import OnnxGenerator
from gan_serve.runtime.runtimes import check_runnable
from serve import onnx_files
from serve.onnx_files import load, ours

Change = Callable[[onnx.ModelProto], None]


def torch_zip(tmp_path: Path) -> bytes:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return (tmp_path / "z").read_bytes()


MODEL = ours().SerializeToString()


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty, expected an ONNX model", "download"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "is a Git LFS pointer",
            "git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page, expected an ONNX model", "not the page"),
        (b"<HTML><body>", "is a web page", "not the page"),
        (json.dumps({"z_dim": 4}).encode(), "is JSON, expected an ONNX model", ".onnx"),
        (b"[1, 2]", "is JSON", ".onnx"),
        (b"\x80\x02}q\x00.", "is a checkpoint (pickle or safetensors)", "gan-export"),
        (struct.pack("<Q", 60) + b'{"w":{"dtype":"F32"}}', "is a checkpoint (pickle or safetensors)", "gan-export"),
        (b"\x00" * 64, "is not an ONNX model", "gan-export onnx"),
        (b"\x93NUMPY\x01\x00", "is not an ONNX model", "gan-export onnx"),
        (b"\x08", "is not a whole ONNX model: it was cut short or is damaged", "again"),
        (b"\x08\x08garbage, garbage", "is not a whole ONNX model", "again"),
        (MODEL[:100], "is not a whole ONNX model", "again"),
        (MODEL[: len(MODEL) // 2], "is not a whole ONNX model", "again"),
        (MODEL[:-1], "is not a whole ONNX model", "again"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ContractError, match=re.escape(f"{path} {message}")) as caught:
        gan_serve.load(path)
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_zip_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(torch_zip(tmp_path))
    with pytest.raises(ContractError, match="is a zip archive") as caught:
        gan_serve.load(tmp_path / "m.onnx")
    assert "gan-export" in caught.value.hint


@pytest.mark.slow
def test_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    # Over a kilobyte, so that onnx moves it out.
    proto = onnx_files.foreign(["batch", 64], ["batch", 3, 6, 6])
    expected = load(proto).generate(range(2))
    onnx.save(proto, path, save_as_external_data=True, location="m.data")
    assert (tmp_path / "m.data").exists()
    np.testing.assert_array_equal(OnnxGenerator(path, "cpu").generate(range(2)), expected)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ContractError, match="keeps weights in another file, which is missing"):
        OnnxGenerator(path, "cpu")
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(ContractError, match="keeps weights in another file"):
        OnnxGenerator(path, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda proto: setattr(proto, "ir_version", 99),
            "is newer than the installed onnxruntime reads (IR version: 99)",
        ),
        (lambda proto: setattr(proto.opset_import[0], "version", 99), "reads (opset 99)"),
        (lambda proto: setattr(proto.graph.node[0], "op_type", "Foo"), "onnxruntime cannot load m.onnx:"),
        (lambda proto: setattr(proto.graph.node[0], "domain", "my.ops"), "onnxruntime cannot load m.onnx:"),
    ],
)
def test_graphs_that_onnxruntime_refuses(change: Change, message: str) -> None:
    proto = ours()
    change(proto)
    with pytest.raises(GanportError, match=re.escape(message)) as caught:
        load(proto)
    assert "\n" not in str(caught.value)
    assert "[ONNXRuntimeError]" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("missing.onnx", "no model at", "check the path"),
        ("", "is a folder, expected a model file", "g.onnx"),
        ("g.pth", "is a checkpoint by its name, expected .onnx", "gan-export"),
        ("g.safetensors", "is a checkpoint by its name", "gan-export"),
        ("g.tflite", "a model's name ends in .onnx", "rename"),
        ("g", "a model's name ends in .onnx", "rename"),
        ("x" * 300 + ".onnx", "cannot be read: File name too long", "permissions"),
    ],
)
def test_paths_that_are_no_models(tmp_path: Path, name: str, message: str, hint: str) -> None:
    if name.startswith("g"):
        (tmp_path / name).write_bytes(b"x")
    for look in (gan_serve.load, check_runnable):
        with pytest.raises(GanportError, match=re.escape(message)) as caught:
            look(tmp_path / name)
        assert hint in caught.value.hint


def test_a_file_is_runnable_by_its_suffix_and_its_first_bytes(tmp_path: Path) -> None:
    """Which is no more than was looked at: the rest of these is missing."""
    for name, head in (("g.onnx", b"\x08"), ("g.ONNX", b"\x08\x00"), ("g.ts", b"PK"), ("g.TS", b"")):
        (tmp_path / name).write_bytes(head)
        assert check_runnable(tmp_path / name) == tmp_path / name
    (tmp_path / "g.onnx").write_bytes(b"PK\x03\x04")
    with pytest.raises(ContractError, match="is a zip archive"):
        check_runnable(tmp_path / "g.onnx")


def test_a_device_is_no_model() -> None:
    with pytest.raises(GanportError, match="/dev/null is not a regular file"):
        gan_serve.load("/dev/null")


def test_the_suffix_may_be_written_large(tmp_path: Path) -> None:
    path = tmp_path / "G.ONNX"
    path.write_bytes(MODEL)
    assert gan_serve.load(path, "cpu").contract.name == "tiny"
