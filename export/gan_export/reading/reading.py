"""`read_checkpoint`: a file that somebody's training script left, as one generator's plain state_dict.

container    what file is it, and what objects are in it, without running anything
wrappers     every set of tensors in it          choosing   the generator among them, EMA before raw
materialise  only those tensors, as float32      norms      weight and spectral normalisation folded
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from gan_core.errors import GanportError, MissingPackageError
from gan_export.reading.budget import TENSOR_STEPS, Budget, brief
from gan_export.reading.choosing import Candidate, choose
from gan_export.reading.container import Container, open_container, sniff
from gan_export.reading.inert import Inert
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.materialise import materialise
from gan_export.reading.modules import ModuleInfo
from gan_export.reading.naming import wrapper_prefix
from gan_export.reading.norms import fold
from gan_export.reading.wrappers import at_key, find
from gan_export.source import check_file, file_provenance
from gan_serve.terminal import console
from gan_trainer.networks.checkpoint import GeneratorCheckpoint, is_ours, parse_generator

MAX_TENSORS = 10_000
"""In one network; the largest generators have a thousand."""

T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """One generator, read from a file.

    format      "torch-zip", "torch-legacy", "torch-tar", "torchscript", "safetensors", "pickle", "ganport" or "trusted"
    tensors     its state_dict: CPU, floating tensors float32, counters as they are; wrapper prefixes stripped,
                norms folded, order as in the file
    which       "ema" or "raw"
    chosen      the path of keys that was taken: "g_ema", "GAN.GE"; "" for a bare state_dict
    candidates  the other sets of tensors in the file, and why not those
    modules     whole-module pickles: dotted name → class and hyperparameters, in order; otherwise {}
    notes       what was done, one sentence each
    ours        the checkpoint, when gan-train wrote it
    positional  the tensors came as a list without names, and were named by their order
    prefix      what was stripped from every name; a live module may want it back
    saved       the tensors as saved, norms not folded (shares memory with `tensors`): what a live module loads
    """

    path: Path
    format: str
    tensors: dict[str, Tensor]
    which: str
    chosen: str
    candidates: tuple[Candidate, ...]
    modules: dict[str, ModuleInfo]
    notes: tuple[str, ...]
    ours: GeneratorCheckpoint | None
    positional: bool
    sha256: str
    size_bytes: int
    prefix: str = ""
    saved: dict[str, Tensor] = field(default_factory=dict)


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    raw: bool = False,
    trust_pickle: bool = False,
    for_code: bool = False,
) -> Reading:
    """Reads the generator in the checkpoint at `path`, running no code from it.

    key           the path of keys to the generator, "a.b.c" ("." for the whole file); None: found by names and shapes
    raw           take the raw weights where there is an EMA too
    trust_pickle  load the file for real, running the code in it, after a warning on stderr
    for_code      code says what the network is: the shapes of a file's only network have no veto

    Raises `GanportError` (one line and a hint, naming the file) for whatever is not a generator's checkpoint: another
    kind of file, damaged, hostile, another network, several generators, NaN weights, a key that is not there; and for a
    file that is written to meanwhile.
    """
    path = check_file(path, "checkpoint")
    notes: list[str] = []
    with _unchanged(path):
        if trust_pickle and _told(path, lambda: _format_of(path)) != "safetensors":
            container = _told(path, lambda: _open_trusted(path, notes))
        else:
            container = _told(path, lambda: open_container(path))
        return _told(path, lambda: _read(path, container, key, raw, notes, by_key=key is not None or for_code))


@contextlib.contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Raises `GanportError` at the end when the file has become another meanwhile, whatever was made of it.

    So the digest that is taken of it is of the bytes that were read.
    """

    def state() -> tuple[int, ...] | None:
        try:
            about = path.stat()
        except OSError:  # it is gone, which the reader tells
            return None
        return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns

    before = state()
    changed = GanportError(
        f"{path} was written to while it was read", hint="wait until what writes it has ended, or export a copy"
    )
    try:
        yield
    except GanportError as error:
        if state() in (before, None):
            raise
        raise changed from error
    if state() not in (before, None):
        raise changed


def _read(path: Path, container: Container, key: str | None, raw: bool, notes: list[str], *, by_key: bool) -> Reading:
    tree = container.tree
    if key is None and is_ours(tree):
        return _read_ours(path, container, raw, notes)
    if key is None:
        _check_holds_tensors(tree)
    budget = container.budget
    choice = choose(find(tree, budget) if key is None else at_key(tree, key, budget), raw=raw, by_key=by_key)
    found = choice.found
    lazy = {name: tensor for name, tensor in found.tensors.items() if name != "n_averaged"}
    if len(lazy) > MAX_TENSORS:
        raise GanportError(
            f"it holds {len(lazy):,} tensors in one network, expected at most {MAX_TENSORS:,}",
            hint="save the generator's state_dict alone, and name it",
        )
    budget.spend(TENSOR_STEPS * len(lazy))
    prefix = wrapper_prefix(lazy)
    if _beside(found.modules, prefix):
        prefix = ""
    if prefix:
        notes.append(f"prefix {prefix!r} stripped from {len(lazy)} names")
        lazy = {name.removeprefix(prefix): tensor for name, tensor in lazy.items()}
    modules = _without_prefix(found.modules, prefix)
    saved, more = materialise(lazy, container.size, found.key)
    folded = fold(saved, modules)
    provenance = file_provenance(path)
    return Reading(
        path=path,
        format=container.format,
        tensors=folded.tensors,
        which="ema" if choice.ema else "raw",
        chosen=found.key,
        candidates=choice.candidates,
        modules=modules,
        notes=(*choice.notes, *notes, *more, *folded.notes),
        ours=None,
        positional=choice.positional,
        sha256=provenance["sha256"],
        size_bytes=provenance["size_bytes"],
        prefix=prefix,
        saved=saved,
    )


def _read_ours(path: Path, container: Container, raw: bool, notes: list[str]) -> Reading:
    content: dict[str, Any] = dict(container.tree)
    weights = content.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(tensor, LazyTensor) for tensor in weights.values()):
        raise GanportError(
            "it is a damaged ganport checkpoint: it lacks its weights", hint="train or download it again"
        )
    tensors, more = materialise({str(name): tensor for name, tensor in weights.items()}, container.size, "weights")
    ours = parse_generator(content | {"weights": tensors}, "it")
    if raw and ours.which != "raw":
        raise GanportError("it holds averaged (EMA) weights only", hint="leave out --raw")
    provenance = file_provenance(path)
    return Reading(
        path=path,
        format="ganport",
        tensors=tensors,
        which=ours.which,
        chosen="weights",
        candidates=(),
        modules={},
        notes=(*notes, *more),
        ours=ours,
        positional=False,
        sha256=provenance["sha256"],
        size_bytes=provenance["size_bytes"],
        saved=tensors,
    )


def _open_trusted(path: Path, notes: list[str]) -> Container:
    from gan_export.reading.trusted import MEANING, load_trusted

    console.warn(MEANING)
    notes.append("loaded with --trust-pickle: the code in the file was run")
    size = path.stat().st_size
    return Container("trusted", load_trusted(path), size, Budget.of_file(size))


def _format_of(path: Path) -> str:
    with path.open("rb") as handle:
        return sniff(handle)


def _without_prefix(modules: dict[str, ModuleInfo], prefix: str) -> dict[str, ModuleInfo]:
    stem = prefix.rstrip(".")
    return {
        name.removeprefix(stem).lstrip(".") if stem else name: info
        for name, info in modules.items()
        if not stem or name == stem or name.startswith(prefix)
    }


def _beside(modules: dict[str, ModuleInfo], prefix: str) -> bool:
    """Whether modules stand beside the one that `prefix` names: what they compute belongs to the network."""
    parts = prefix.split(".")[:-1]
    within = [".".join(parts[:n]) for n in range(len(parts) + 1)]
    return bool(prefix) and any(name not in within and not name.startswith(prefix) for name in modules)


def _check_holds_tensors(tree: Any) -> None:
    """Raises `GanportError` for a file whose content can be described better than "no tensors"."""
    hint = "expected a state_dict, a module, or a dictionary with one in it"
    if isinstance(tree, list) and tree and all(isinstance(value, (int, float)) for value in tree):
        raise GanportError(f"it holds a list of {len(tree):,} numbers, no tensors", hint=hint)
    if isinstance(tree, LazyTensor):
        raise GanportError(f"it holds one tensor of shape {tree.shape}, not a network's weights", hint=hint)
    if not isinstance(tree, (dict, list, tuple, Inert)):
        raise GanportError(f"it holds {type(tree).__name__} {brief(tree)!r}, no tensors", hint=hint)


def _told(path: Path, work: Callable[[], T]) -> T:
    """Runs `work`; the readers say "it …", here "it" gets its name."""
    try:
        return work()
    except MissingPackageError:
        raise
    except GanportError as error:
        message = str(error)
        subject, rest = (path, message[3:]) if message.startswith("it ") else (f"{path}:", message)
        raise GanportError(
            f"{subject} {rest}", hint=error.hint or "the file is damaged or forged: get it again"
        ) from error
    except RecursionError as error:
        raise GanportError(f"{path} is nested deeper than any checkpoint", hint="is it a checkpoint at all?") from error
    except MemoryError as error:
        raise GanportError(
            f"{path} takes more memory to read than there is", hint="is it a checkpoint at all?"
        ) from error
    except OSError as error:  # moved away or cut while it is read
        raise GanportError(
            f"{path} cannot be read: {error.strerror or error}", hint="was it moved? Check the path and the disk"
        ) from error
