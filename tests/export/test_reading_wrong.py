"""Files that are no checkpoint, of another network, or damaged: each gets its own line and hint, exit code 2."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export.reading_nets import discriminator, generator, optimizer_state
from export.reading_payloads import saved
from gan_core.errors import GanportError
from gan_export.reading import read_checkpoint

LEGACY = {"_use_new_zipfile_serialization": False}


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def refused(path: Path, **options: Any) -> GanportError:
    """The error for the file: one line and a hint, exit code 2, nothing printed by the file itself."""
    with pytest.raises(GanportError) as caught:
        read_checkpoint(path, **options)
    error = caught.value
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert str(path) in str(error)
    assert len(str(error)) < 500 + len(str(path))
    assert error.hint
    return error


# -------------------------------------------------------------------------------------------------- wrong and damaged

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a214614ab2935" * 4 + b"\nsize 12345\n"
NET = generator()
CONV = nn.Conv2d
AUTOENCODER = nn.Sequential(CONV(3, 8, 4), CONV(8, 16, 4), nn.ConvTranspose2d(16, 8, 4), nn.ConvTranspose2d(8, 3, 4))
CLASSIFIER = nn.Sequential(CONV(3, 8, 4), CONV(8, 16, 4), nn.Linear(64, 10))


def safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


WRONG: dict[str, tuple[bytes, str, str]] = {
    "Git LFS pointer": (POINTER, "is a Git LFS pointer", "git lfs pull"),
    "HTML": (b"<!DOCTYPE html>\n<html><head><title>x</title>", "is an HTML page", "download it again"),
    "HTML, no doctype": (b"\n  <html lang='en'>", "is an HTML page", "download it again"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "is an XML answer", "download it again"),
    "JSON": (b'{"z_dim": 100}', "is JSON text", "`spec`"),
    "empty": (b"", "is empty (0 bytes)", "get the file again"),
    "random bytes": (np.random.default_rng(0).bytes(4096), "no checkpoint of any known format", "torch.save"),
    "text": (b"hello, world\n", "no checkpoint of any known format", "torch.save"),
    "one byte": (b"\x80", "no checkpoint of any known format", "torch.save"),
    "gzip": (b"\x1f\x8b\x08\x00" + b"x" * 100, "compressed with gzip", "gunzip"),
    "png": (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "a PNG image", "name the checkpoint"),
    "npy": (b"\x93NUMPY\x01\x00" + b"x" * 100, "NumPy array", "PyTorch"),
    "keras": (b"\x89HDF\r\n\x1a\n" + b"x" * 100, "HDF5", "gan-export adopt"),
    "torch.export": (zipped({"g/archive_format": b"pt2", "g/models/model.json": b"2"}), "torch.export", "state_dict"),
    "quantised": (
        saved(
            {"0.scale": torch.ones(()), "0._packed_params": {"_packed_params": (torch.ones(784, 8), torch.ones(784))}}
        ),
        "it holds quantised weights",
        "`precision` int8",
    ),
    "keras 3": (zipped({"config.json": b"{}", "model.weights.h5": b"2"}), "a Keras model", "gan-export adopt"),
    "saved model": (b"\x08\x01\x12\xa0\x01\x0a" + b"x" * 100, "a TensorFlow SavedModel", "gan-export adopt"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x05" + b"x" * 100, "an ONNX model already", "gan-gen"),
    "truncated zip": (saved(NET)[:-300], "cut short or damaged", "checksum"),
    "half a zip": (saved(NET)[:2000], "cut short or damaged", "checksum"),
    "truncated legacy, in the pickle": (saved(NET, **LEGACY)[:600], "claims a storage of", "checksum"),
    "truncated legacy, in the numbers": (saved(NET, **LEGACY)[:-300], "cut short", "checksum"),
    "legacy without numbers": (saved(NET, **LEGACY)[:250], "damaged or cut short", "checksum"),
    "truncated pickle": (pickle.dumps(NET)[:-20], "damaged or cut short", "checksum"),
    "truncated safetensors": (
        safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        "damaged .safetensors",
        "checksum",
    ),
    "safetensors of noise": (safetensors(b'{"a": {]' + b" " * 20), "damaged .safetensors", "checksum"),
    "empty zip": (zipped({}), "empty zip archive", "get the file again"),
    "npz": (zipped({"a.npy": b"1", "b.npy": b"2"}), "NumPy .npz", "PyTorch"),
    "zip of a checkpoint": (zipped({"run/G.pth": saved(NET)}), "not one that torch.save wrote", "unpack it"),
    "compressed zip": (
        zipped({"a/data.pkl": b"x" * 1000}, zipfile.ZIP_DEFLATED),
        "a compressed zip archive",
        "unpack it",
    ),
    "list of floats": (saved([0.5, 1.5, 2.5]), "a list of 3 numbers", "state_dict"),
    "pickled list of floats": (pickle.dumps([0.5, 1.5, 2.5]), "a list of 3 numbers", "state_dict"),
    "text inside": (saved("netG"), "holds str 'netG'", "state_dict"),
    "None": (saved(None), "holds NoneType", "state_dict"),
    "one tensor": (saved(torch.ones(64, 100)), "one tensor of shape (64, 100)", "state_dict"),
    "no tensors": (saved({"epoch": 3, "loss": [1.0]}), "holds no tensors", "state_dict"),
    "an empty state_dict": (saved({}), "holds no tensors", "state_dict"),
    "discriminator": (saved(discriminator()), "looks like a discriminator", "netG"),
    "discriminator in a wrapper": (
        saved({"netD": discriminator(), "epoch": 1}),
        "looks like a discriminator (at 'netD')",
        '`key="netD"`',
    ),
    "classifier": (saved(CLASSIFIER.state_dict()), "looks like a classifier", "generates no images"),
    "pickled classifier": (saved(CLASSIFIER), "looks like a classifier", "generates no images"),
    "image-to-image": (saved(AUTOENCODER.state_dict()), "looks like an image-to-image network", "docs/families.md"),
    "pix2pix": (
        saved({"netG": AUTOENCODER.state_dict(), "netD": discriminator()}),
        "looks like an image-to-image network",
        "docs/families.md",
    ),
    "autoencoder with a decoder": (
        saved({"vae": {f"{'encoder' if k < '2' else 'decoder'}.{k}": v for k, v in AUTOENCODER.state_dict().items()}}),
        "looks like an image-to-image network",
        '`key="vae.decoder"`',
    ),
    "optimizer": (saved(optimizer_state()), "holds an optimizer's state", "not of its optimizer"),
    "optimizer in a wrapper": (
        saved({"optimizer": optimizer_state()}),
        "holds an optimizer's state",
        "not of its optimizer",
    ),
    "NaN": (saved(NET | {"main.0.weight": NET["main.0.weight"] * float("nan")}), "NaN", "an earlier checkpoint"),
    "big-endian": (zipped({"g/data.pkl": pickle.dumps({}), "g/byteorder": b"big"}), "big-endian", "little-endian"),
    "a damaged checkpoint of ours": (saved({"ganport": 1, "spec": "{}"}), "damaged ganport checkpoint", "again"),
    "another tar": (b"", "a tar archive (with notes.txt)", "unpack it"),
}


def _tar() -> bytes:
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("notes.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    return buffer.getvalue()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_generator_is_told_apart(tmp_path: Path, name: str) -> None:
    data, said, hint = WRONG[name]
    path = tmp_path / "generator.pth"
    path.write_bytes(_tar() if name == "another tar" else data)
    error = refused(path)
    assert said in str(error)
    assert hint in error.hint


def test_every_line_is_its_own() -> None:
    assert len({said for _, said, _ in WRONG.values()}) >= 30


@pytest.mark.parametrize(
    ("make", "said"), [("missing", "no checkpoint at"), ("folder", "is a folder"), ("fifo", "regular file")]
)
def test_paths_that_are_no_files(tmp_path: Path, make: str, said: str) -> None:
    path = tmp_path / "g.pth"
    if make == "folder":
        path.mkdir()
    elif make == "fifo":
        os.mkfifo(path)
    with pytest.raises(GanportError, match=said):
        read_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("data", [saved(NET), saved(NET, **LEGACY), pickle.dumps(NET)], ids=["zip", "legacy", "pickle"])
def test_no_damage_anywhere_escapes_as_a_traceback(tmp_path: Path, data: bytes) -> None:
    """Bytes flipped and cut at two hundred places: a generator, or an error of ours."""
    dice = np.random.default_rng(1)
    path = tmp_path / "g.pth"
    outcomes = {"read": 0, "refused": 0}
    for turn in range(200):
        damaged = bytearray(data)
        for place in dice.integers(0, min(len(data), 3000) if turn % 2 else len(data), 3):
            damaged[place] = dice.integers(256)
        path.write_bytes(damaged if turn % 3 else damaged[: dice.integers(1, len(data))])
        try:
            read_checkpoint(path)
            outcomes["read"] += 1
        except GanportError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 30
