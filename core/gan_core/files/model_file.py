"""A model file before anything runs it: is it there, and is it what its name says?

The first bytes tell the usual mistakes apart (a Git LFS pointer, a web page saved under a model's name, a checkpoint
that was never exported), so that the message names the mistake and not a protobuf error. How many classes a foreign
generator has is read from its graph.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gan_core.errors import ContractError, GanportError
from gan_core.fields import Json
from gan_core.files.atomic import descriptor_of
from gan_core.files.metadata import Reader, Value, opened, span_of
from gan_core.installation import pip

HEAD_BYTES = 512
MAX_PIPED_BYTES = 1 << 28
_EXPORT_HINT = "export it first: gan-export {}"
_SAME = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
_WHOLE = {6: 4, 7: 8}
"""TensorProto.DataType → bytes, of int32 and int64."""


def check_model_file(path: str | os.PathLike[str]) -> Path:
    """`path` as a regular, readable file. Raises `GanportError` when it is missing, a folder or unreadable."""
    return check_file(
        path, "model", in_folder=lambda folder: f"name the file in it: {folder}/g.onnx",
        missing="check the path; gan-export onnx makes such a file",
    )  # fmt: skip


def check_file(
    path: str | os.PathLike[str], what: str, in_folder: Callable[[Path], str], missing: str = "check the path"
) -> Path:
    """`path` as a readable file; `what` says of what.

    Raises `GanportError` when it is a folder (hint: `in_folder(path)`), missing (hint: `missing`), no regular file or
    unreadable.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise GanportError(f"{path} is a folder, expected a {what} file", hint=in_folder(path))
        if not path.exists():
            raise GanportError(f"no {what} at {path}", hint=hint_of_missing(path, missing))
        if not path.is_file():  # before anything opens it: a pipe would wait for ever
            raise GanportError(
                f"{path} is not a regular file, expected a {what} file", hint="save the file to a disk first"
            )
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GanportError(f"{path} cannot be read: {reason}", hint="check its permissions") from error
    return path


def hint_of_missing(path: Path, otherwise: str) -> str:
    """A hint for a path where nothing is: the file beside it that is spelled nearly so, or `otherwise`."""
    import difflib

    with contextlib.suppress(OSError, ValueError):
        names = [each.name for each in path.parent.iterdir() if each.name != path.name]  # a link to nothing
        if near := difflib.get_close_matches(path.name, names, n=1, cutoff=0.85):
            return f"did you mean {path.with_name(near[0])}?"
    return otherwise


def read_pipe(path: Path) -> bytes | None:
    """All that comes through `path` where it names a pipe that this process was given: /dev/stdin, `<(command)`.

    None for anything else: a named pipe on the disk may never have a writer, and `check_file` refuses it.
    Raises `GanportError` when more than `MAX_PIPED_BYTES` come.
    """
    try:
        descriptor = descriptor_of(path)
        if descriptor is None or not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(os.dup(descriptor), "rb") as pipe:
            data = pipe.read(MAX_PIPED_BYTES + 1)
    except (OSError, ValueError):
        return None
    if len(data) > MAX_PIPED_BYTES:
        raise GanportError(
            f"{path} sends more than {MAX_PIPED_BYTES >> 20} MiB, which have to fit into memory",
            hint="save it to a file first, which is read as it is needed",
        )
    return data


def read_head(path: Path) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as handle:
        return handle.read(HEAD_BYTES)


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def file_provenance(path: Path) -> Json:
    """{"file": name, "sha256": hex digest, "size_bytes": n} of a file."""
    return {"file": path.name, "sha256": sha256_of(path), "size_bytes": path.stat().st_size}


def refuse_what_is_not_onnx(path: Path | str, head: bytes) -> None:
    """Raises `ContractError` when a file's first bytes show that it is something else than an ONNX model."""
    if head.startswith(b"\x08"):  # field 1 of ModelProto, ir_version, which every exporter writes first
        return
    start = head.lstrip().lower()
    if not head:
        raise ContractError(f"{path} is empty, expected an ONNX model", hint="download or export it again")
    if head.startswith(b"version https://git-lfs"):
        raise ContractError(f"{path} is a Git LFS pointer, not the model itself", hint="run: git lfs pull")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ContractError(
            f"{path} is a web page, expected an ONNX model", hint="download the file itself, not the page that shows it"
        )
    if start.startswith((b"{", b"[")):
        raise ContractError(f"{path} is JSON, expected an ONNX model", hint="name the .onnx file")
    if head.startswith(b"PK\x03\x04"):
        raise ContractError(
            f"{path} is a zip archive (a PyTorch checkpoint?), expected an ONNX model", hint=_EXPORT_HINT.format(path)
        )
    if head.startswith(b"\x80") or head[8:9] == b"{":
        raise ContractError(
            f"{path} is a checkpoint (pickle or safetensors), expected an ONNX model", hint=_EXPORT_HINT.format(path)
        )
    raise ContractError(f"{path} is not an ONNX model", hint="gan-export onnx makes one from a checkpoint")


def explain_load_error(path: Path | str, error: Exception) -> GanportError:
    """What onnxruntime's refusal to load an ONNX file means, for people."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(str(error).split())).rstrip(" .")
    lower = text.lower()
    if "external" in lower or ("getfilelength" in lower) or ("data" in lower and "no such file" in lower):
        return ContractError(
            f"{path} keeps weights in another file, which is missing or not the right one",
            hint="put its .data file beside it, or export one whole file with gan-export onnx",
        )
    if "protobuf parsing failed" in lower or "no graph was found" in lower:
        return ContractError(
            f"{path} is not a whole ONNX model: it was cut short or is damaged", hint="download or export it again"
        )
    if newer := re.search(r"model ir version: \d+|opset \d+ is under development", lower):
        found = newer.group().removesuffix(" is under development").removeprefix("model ").replace("ir v", "IR v")
        return GanportError(
            f"{path} is newer than the installed onnxruntime reads ({found})",
            hint=f"{pip('install --upgrade onnxruntime')}, or export it again with an older opset",
        )
    return GanportError(f"onnxruntime cannot load {path}: {text}", hint="export it again, or upgrade onnxruntime")


def count_classes(model: str | os.PathLike[str] | bytes, label: str) -> int | None:
    """How many classes the integer input `label` has: the rows of the table that it chooses from (Gather), or the
    numbers that it is made of as one-hot (OneHot, Equal). None where the graph does not show it so, or is none.
    """
    try:
        with opened(model) as stream:
            return _Graph(stream).count_classes(label)
    except (OSError, ValueError, LookupError, StopIteration):
        return None


class _Graph(Reader):
    def count_classes(self, label: str) -> int | None:
        graph = next(value for number, value in self.fields(0, self.size) if number == 7)
        parts = [(number, value) for number, value in self.fields(*span_of(graph)) if number in (1, 5)]
        known = {tensor[0]: tensor[1:] for tensor in (self._constant(value) for number, value in parts if number == 5)}
        same = {label}  # and the values that are it in another shape or type
        for node in (value for number, value in parts if number == 1):
            fields = [(number, value) for number, value in self.fields(*span_of(node)) if number in (1, 2, 4, 5)]
            takes, gives = ([self.text(value) for number, value in fields if number == n] for n in (1, 2))
            operator = next((self.text(value) for number, value in fields if number == 4), "")
            if operator == "Constant":
                inner = [part for n, value in fields if n == 5 for part in self.fields(*span_of(value))]
                known.update((gives[0], self._constant(value)[1:]) for n, value in inner if n == 5)
            elif operator in _SAME and takes[0] in same:
                same.add(gives[0])
            elif operator == "Gather" and takes[1] in same and takes[0] in known:
                return next(iter(known[takes[0]][0]), None)
            elif operator == "OneHot" and takes[0] in same and takes[1] in known:
                return known[takes[1]][1]
            elif operator == "Equal" and same & set(takes):
                shapes = [known[other][0] for other in takes if other in known]
                return next((shape[-1] for shape in shapes if shape), None)
        return None

    def _constant(self, tensor: Value) -> tuple[str, list[int], int | None]:
        """(its name, its shape, the first of its numbers where it holds whole ones)."""
        name, kind, raw = "", 0, b""
        sides: list[int] = []
        numbers: list[int] = []
        for number, value in self.fields(*span_of(tensor)):
            if number in (1, 5, 7):
                (sides if number == 1 else numbers).extend([value] if isinstance(value, int) else self._packed(value))
            elif number == 2 and isinstance(value, int):
                kind = value
            elif number == 8:
                name = self.text(value)
            elif number == 9:
                start, end = span_of(value)
                raw = self.bytes(start, min(end, start + 8))
        if raw and kind in _WHOLE:
            numbers = [int.from_bytes(raw[: _WHOLE[kind]], "little")]
        return name, sides, numbers[0] if numbers else None

    def _packed(self, span: tuple[int, int]) -> Iterator[int]:
        at, end = span
        while at < end:
            value, at = self._varint(at, end)
            yield value
