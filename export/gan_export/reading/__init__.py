"""Reading any generator checkpoint, without running code from it.

`read_checkpoint`: a file that somebody's training script left, as one generator's plain state_dict.

container  what file is it, and what objects are in it, without running anything
wrappers   every set of tensors in it          choosing   the generator among them, EMA before raw
weights    only those tensors, as float32, weight and spectral normalisation folded
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gan_core.errors import GanportError
from gan_core.files.model_file import sha256_of
from gan_export.reading.autoencoder import Autoencoder, find_decoder
from gan_export.reading.choosing import PassedOver, choose
from gan_export.reading.container import Container, open_container, sniff
from gan_export.reading.inert import TENSOR_STEPS, Budget, Inert, brief
from gan_export.reading.kinds import RoleReport, describe_role
from gan_export.reading.lazy import LazyTensor
from gan_export.reading.modules import ModuleInfo, below, settings_of
from gan_export.reading.roles import wrapper_prefix
from gan_export.reading.weights import fold, materialise
from gan_export.reading.wrappers import Found, at_key, find
from gan_export.source import check_file
from gan_trainer.networks.generator import GeneratorCheckpoint, is_ours, parse_generator

__all__ = ["ModuleInfo", "PassedOver", "Reading", "RoleReport", "SaidBy", "describe_role", "read_checkpoint"]


SaidBy = Literal["file", "spec", "code"]
MAX_TENSORS = 10_000
"""In one network; the largest generators have a thousand."""

BESIDE = ("latent_avg",)
"""Tensors beside a generator's that belong to it: the mean of w, in converted StyleGANs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """One generator, read from a file.

    format       "torch-zip", "torch-legacy", "torch-tar", "torchscript", "safetensors", "pickle", "ganport", "trusted"
    tensors      its state_dict: CPU, floating tensors float32, counters as they are; wrapper prefixes stripped,
                 norms folded, order as in the file
    saved        the tensors as saved, norms not folded (shares memory with `tensors`): what a live module loads
    which        "ema" or "raw"
    notes        what was done, one sentence each
    folded       those of the notes that are on norms of weights
    chosen       the path of keys that was taken: "g_ema", "GAN.GE"; "" for a bare state_dict
    prefix       what was stripped from every name; a live module may want it back
    passed_over  the other sets of tensors in the file, and why not those
    modules      whole-module pickles: dotted name → class and hyperparameters, in order; otherwise {}
    settings     plain values beside the tensors, by dotted path: a configuration, arguments, counters
    positional   the tensors came as a list without names, and were named by their order
    ours         the checkpoint, when gan-train wrote it
    decoder      what the encoder beside it shows, when the tensors are those of a VAE's decoder
    encoder      the encoder's tensors then
    """

    path: Path
    sha256: str
    size_bytes: int
    format: str
    tensors: dict[str, Tensor]
    saved: dict[str, Tensor]
    which: str
    notes: tuple[str, ...]
    chosen: str
    prefix: str = ""
    passed_over: tuple[PassedOver, ...] = ()
    modules: dict[str, ModuleInfo] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    positional: bool = False
    folded: tuple[str, ...] = ()
    ours: GeneratorCheckpoint | None = None
    decoder: Autoencoder | None = None
    encoder: dict[str, Tensor] = field(default_factory=dict)


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    raw: bool = False,
    trust_pickle: bool = False,
    said_by: SaidBy = "file",
    apart: bool = True,
) -> Reading:
    """Reads the generator in the checkpoint at `path`, running no code from it.

    key           the path of keys to the generator, "a.b.c" ("." for the whole file); None: found by names and shapes
    raw           take the raw weights where there is an EMA too
    trust_pickle  load the file for real, running the code in it, after a warning in the log
    said_by       what says which network it is: by a spec or code, the shapes of a file's only network have no veto,
                  and for code an autoencoder stays whole
    apart         False: a state_dict of several networks stays whole

    Raises `GanportError` (one line and a hint, naming the file) for whatever is not a generator's checkpoint: another
    kind of file, damaged, hostile, another network, several generators, NaN weights, a key that is not there; and for a
    file that is written to meanwhile.
    """
    path = check_file(path, "checkpoint")
    with _told(path):
        container = _open_trusted(path) if trust_pickle and _is_pickle(path) else open_container(path)
        notes = ["loaded with `trust_pickle`: the code in the file was run"] * (container.format == "trusted")
        if key is None and is_ours(container.tree):
            return _read_ours(path, container, raw, notes)
        if key is None:
            _check_holds_tensors(container.tree)
        return _read(path, container, key, raw, notes, said_by, apart)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Names the file in what the readers raise ("it …"), and raises when it has become another meanwhile, whatever was
    made of it: so the digest that is taken of it is of the bytes that were read."""
    before, failed = _state(path), None
    try:
        yield
    except GanportError as error:
        failed = GanportError(f"{path}: {error}", hint=error.hint, code=error.code)
        failed.__cause__ = error
    except RecursionError:
        failed = GanportError(f"{path} is nested deeper than any checkpoint", hint="is it a checkpoint at all?")
    except MemoryError:
        failed = GanportError(f"{path} takes more memory to read than there is", hint="is it a checkpoint at all?")
    except OSError as error:  # moved away or cut while it is read
        reason = error.strerror or error
        failed = GanportError(f"{path} cannot be read: {reason}", hint="was it moved? Check the path and the disk")
    if _state(path) not in (before, None):
        raise GanportError(
            f"{path} was written to while it was read", hint="wait until what writes it has ended, or export a copy"
        ) from failed
    if failed is not None:
        raise failed


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written to; None when it is gone, which the reader tells."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _read(
    path: Path, container: Container, key: str | None, raw: bool, notes: list[str], said_by: SaidBy, apart: bool
) -> Reading:
    tree, budget = container.tree, container.budget
    founds = find(tree, budget, apart=apart) if key is None else at_key(tree, key, budget)
    choice = choose(founds, raw=raw, by_key=key is not None or said_by != "file")
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
    modules = below(found.modules, prefix)
    decoder, encoder = None if said_by == "code" else find_decoder(lazy), {}
    if decoder is not None:
        encoder = _encoder({name: lazy[name] for name in decoder.encoder}, decoder.variance, container.size)
        lazy = {name.removeprefix(decoder.prefix): lazy[name] for name in decoder.names}
        modules = below(modules, decoder.prefix) if decoder.prefix else {}
        notes.append(f"a variational autoencoder: {decoder.reason}; its decoder is the generator")
    saved, more = materialise(lazy, container.size, found.key)
    tensors, folded = fold(saved, modules)
    beside = {name: tree[name] for name in BESIDE if isinstance(tree, dict) and isinstance(tree.get(name), LazyTensor)}
    beside |= _mapping_beside(found, founds)
    tensors |= materialise({name: each for name, each in beside.items() if name not in lazy}, container.size, "")[0]
    return Reading(
        path,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        format=container.format,
        tensors=tensors,
        saved=saved,
        which="ema" if choice.ema else "raw",
        notes=(*choice.notes, *notes, *more, *folded),
        folded=tuple(folded),
        chosen=found.key,
        prefix=prefix,
        passed_over=choice.passed_over,
        modules=modules,
        settings=settings_of(tree, budget),
        positional=found.kind == "list",
        decoder=decoder,
        encoder=encoder,
    )


def _encoder(lazy: dict[str, LazyTensor], variance: str, file_bytes: int) -> dict[str, Tensor]:
    """The tensors of an encoder, normalised weights replaced by what they stand for, the layer `variance` joined to the
    one that makes the mean; none where they are damaged."""
    with contextlib.suppress(GanportError):
        held = fold(materialise(lazy, file_bytes, "")[0])[0]
        behind = {name: held.pop(name) for name in list(held) if variance and name.rpartition(".")[0] == variance}
        mean = next(reversed(held)).rpartition(".")[0] if held else ""
        for name, tensor in behind.items():
            joined = f"{mean}.{name.rpartition('.')[2]}"
            held[joined] = torch.cat((held[joined], tensor)) if joined in held else tensor
        return held
    return {}


def _read_ours(path: Path, container: Container, raw: bool, notes: list[str]) -> Reading:
    weights = container.tree.get("weights")
    if not isinstance(weights, dict) or not all(isinstance(tensor, LazyTensor) for tensor in weights.values()):
        raise GanportError(
            "it is a damaged ganport checkpoint: it lacks its weights", hint="train or download it again"
        )
    tensors, more = materialise({str(name): tensor for name, tensor in weights.items()}, container.size, "weights")
    ours = parse_generator({**container.tree, "weights": tensors}, "it")
    if raw and ours.which != "raw":
        raise GanportError("it holds averaged (EMA) weights only", hint="leave out `raw`")
    return Reading(
        path,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        format="ganport",
        tensors=tensors,
        saved=tensors,
        which=ours.which,
        notes=(*notes, *more),
        chosen="weights",
        ours=ours,
    )


def _mapping_beside(found: Found, founds: Sequence[Found]) -> dict[str, LazyTensor]:
    """The mapping network that lucidrains' StyleGAN 2 keeps beside its generator: SE with GE, S with G; as "S.…"."""
    name = {"GE": "SE", "G": "S"}.get(found.path[-1]) if found.path else None
    if name is None or "initial_conv.weight" not in found.tensors:
        return {}
    held = next((each.tensors for each in founds if each.path == (*found.path[:-1], name)), {})
    return {f"S.{key}": tensor for key, tensor in held.items() if key.startswith("net.")}


def _open_trusted(path: Path) -> Container:
    from gan_export.reading.trusted import MEANING, load_trusted

    _log.warning(MEANING)
    size = path.stat().st_size
    return Container("trusted", load_trusted(path), size, Budget.of_file(size))


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as handle:
        return sniff(handle) != "safetensors"


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
