"""Files that are no checkpoint at all, told apart by their first bytes: each with its own sentence and hint."""

from __future__ import annotations

import re

from gan_core.errors import GanportError

_SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    # first bytes, where, what it is, what to do
    (b"version https://git-lfs", 0, "a Git LFS pointer, not the file itself", "in its repository: git lfs pull"),
    (b"PK\x05\x06", 0, "an empty zip archive", "the download or the copy failed: get the file again"),
    (b"\x1f\x8b", 0, "compressed with gzip", "unpack it first: gunzip FILE, or tar -xzf FILE"),
    (b"BZh", 0, "compressed with bzip2", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ", 0, "compressed with xz", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", 0, "compressed with zstd", "unpack it first: zstd -d FILE"),
    (b"7z\xbc\xaf", 0, "a 7-Zip archive", "unpack it first: 7z x FILE"),
    (b"Rar!", 0, "a RAR archive", "unpack it first"),
    (b"\x89HDF", 0, "an HDF5 file, as Keras writes them", "only PyTorch checkpoints are read"),
    (b"\x93NUMPY", 0, "one NumPy array (.npy)", "only PyTorch checkpoints and .safetensors are read"),
    (b"GGUF", 0, "a GGUF language model", "only PyTorch checkpoints and .safetensors are read"),
    (b"TFL3", 4, "a TensorFlow Lite model", "only PyTorch checkpoints are read"),
    (b"\x89PNG", 0, "a PNG image", "name the checkpoint, not a picture of its samples"),
    (b"\xff\xd8\xff", 0, "a JPEG image", "name the checkpoint, not a picture of its samples"),
    (b"GIF8", 0, "a GIF image", "name the checkpoint, not a picture of its samples"),
    (b"%PDF", 0, "a PDF document", "name the checkpoint"),
    (b"\x7fELF", 0, "a program", "name the checkpoint"),
    (b"SQLite format 3", 0, "an SQLite database", "name the checkpoint"),
)  # fmt: skip

_DOWNLOAD = "download it again with the link to the file itself (on GitHub: the Raw or Download button)"


def check_foreign(head: bytes, size: int) -> None:
    """Raises `GanportError` when a file of `size` bytes that begins with `head` (up to 512 bytes) is something else."""
    if size == 0:
        raise GanportError("it is empty (0 bytes)", hint="the download or the copy failed: get the file again")
    for signature, offset, what, hint in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            raise GanportError(f"it is {what}", hint=hint)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if re.match(rb"<!doctype html|<html|<head|<!-- .{0,80}<html", text, re.DOTALL):
        raise GanportError("it is an HTML page, saved instead of the file that it links to", hint=_DOWNLOAD)
    if text.startswith((b"<?xml", b"<error")):
        raise GanportError("it is an XML answer of a web server, saved instead of the file", hint=_DOWNLOAD)
    if text.startswith((b'{"', b"{\n", b"{\r", b"[{")) or text == b"{}":
        raise GanportError("it is JSON text, not weights", hint="name the checkpoint; a spec goes to --spec")
    if (head[:1] == b"\x08" and b"pytorch" in head[:64]) or b"\x12\x07pytorch" in head[:64]:
        raise GanportError("it is an ONNX model already, not a checkpoint", hint="draw with it: gan-gen --model FILE")
