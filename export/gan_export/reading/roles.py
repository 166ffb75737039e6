"""What a set of tensors is by its name: a generator, its EMA, a discriminator, an optimizer. Shapes: see `kinds`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable
from typing import Literal


def words(text: str) -> frozenset[str]:
    """The words of `text`, which blanks and line ends separate."""
    return frozenset(text.split())


NameRole = Literal["generator", "discriminator", "optimizer", "foreign", ""]

_GENERATOR = words("g ge gs gen gens generator generators netg gnet modelg gmodel avgg emag gema generatorema")
_DISCRIMINATOR = words("d ds dis disc discs discriminator discriminators netd dnet modeld dmodel critic critics")
_OPTIMIZER = words(
    "opt opts optim optims optimizer optimizers optimiser optg optd optimg optimd optimizerg optimizerd scheduler "
    "schedulers lr scaler sched"
)
_FOREIGN = words(
    "vgg lpips inception fid perceptual loss losses criterion metric metrics clip arcface facenet augment encoder "
    "enc e classifier cls"
)
_EMA = words("ema avg averaged average shadow swa polyak smooth smoothed ge avgg emag gema generatorema gs")
_EMA_RUNNING = frozenset({"running", "accum", "accumulate", "accumulated", "copy"})

_FILLERS = words("net network model module state dict weights params online")

PUT_IN = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
WRAPPERS = frozenset({"module", *PUT_IN})
"""Segments that DataParallel, DDP, torch.compile and FSDP put in front of every name."""


def tokens(segment: str) -> list[str]:
    """The words of one key, lower case: "netG_ema" → net, g, ema; "avgG" → avg, g; "GAN" → gan."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", segment)]


def role_of_name(segment: str) -> NameRole:
    """What one key says of the tensors under it; an optimizer's and a discriminator's name outweigh a generator's."""
    words = set(tokens(segment))
    for role, known in (("optimizer", _OPTIMIZER), ("discriminator", _DISCRIMINATOR), ("generator", _GENERATOR)):
        if words & known:
            return role  # type: ignore[return-value]
    return "foreign" if words & _FOREIGN else ""


def role_words(role: Literal["generator", "discriminator"]) -> frozenset[str]:
    """The words of a name that say `role`."""
    return _GENERATOR if role == "generator" else _DISCRIMINATOR


def role_of_path(segments: Iterable[str]) -> NameRole:
    """The role that the innermost telling key gives; an optimizer anywhere on the way decides."""
    found: NameRole = ""
    for segment in segments:
        role = role_of_name(segment)
        if role == "optimizer":
            return role
        found = role or found
    return found


def is_ema(segments: Iterable[str]) -> bool:
    """Whether a key on the way says that these are averaged weights."""
    for segment in segments:
        words = set(tokens(segment))
        if words & _EMA or (words & _EMA_RUNNING and words & _GENERATOR):
            return True
    return False


def is_buffer(name: str, names: Container[str] = ()) -> bool:
    """Whether a state_dict's `name` is a buffer, judged by its last part: running statistics, u and v of norms."""
    last = name.rpartition(".")[2]
    if last in ("running_mean", "running_var", "num_batches_tracked", "_u", "_v", "sn_u", "sn_sigma", "u0", "sv0"):
        return True
    stem = name.removesuffix("_u").removesuffix("_v")
    return stem != name and f"{stem}_orig" in names


def common_prefix(names: Iterable[str]) -> str:
    """The longest dotted prefix of all names, with its last dot: {"a.b.0.w", "a.b.1.w"} → "a.b."; "" for none."""
    shared: list[str] | None = None
    for name in names:
        parents = name.split(".")[:-1]
        if shared is None:
            shared = parents
        else:
            shared = [
                a for a, b in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(shared, parents, strict=False))
            ]
    return "".join(f"{part}." for part in shared or ())


def wrapper_prefix(names: Iterable[str]) -> str:
    """The part of the common prefix that a wrapper put there, which the generator's own state_dict would not have.

    That is up to the last `module.`, `_orig_mod.` and the like, or a key that names the network and has names below
    it: "module.main." → "module.", "generator.model." → "generator."; but the "gen." of "gen.0.weight" is the
    generator's own name for its layers, as `main` is, and stays.
    """
    listed = list(names)
    segments = [name.split(".") for name in listed]
    parts = common_prefix(listed).split(".")[:-1]
    end = 0
    for index, part in enumerate(parts):
        if part in WRAPPERS or (_names_a_network(part) and not _numbered(segments, index + 1)):
            end = index + 1
    return "".join(f"{part}." for part in parts[:end])


def _numbered(names: list[list[str]], at: int) -> bool:
    return any(segments[at].isdigit() for segments in names)


def _names_a_network(segment: str) -> bool:
    """Whether every word of `segment` says "the generator", and none says which part of it ("generator_deconv")."""
    words = set(tokens(segment))
    telling = words & (_GENERATOR | _EMA)
    return bool(telling) and words <= telling | _FILLERS
