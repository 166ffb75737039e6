"""What a set of tensors is: a generator, its EMA, a discriminator, an optimizer; by its name, and by its shapes.

A generator ends in an image, a discriminator begins with one. Of shapes the verdict comes with the evidence for it, and
is "unknown" wherever the ends are not plain (StyleGAN registers its layers in another order than it runs them).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Container, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol


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

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
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


Role = Literal["generator", "discriminator", "classifier", "image-to-image", "optimizer", "unknown"]

IMAGE_CHANNELS = (1, 3)
MIN_SIDE = 8
MIN_PIXELS = 256
"""Fewer than 16x16 inputs are rather a latent than an image."""
MAX_CLASSES = 22_000
_WEIGHTS = ("weight", "weight_orig", "weight_v", "weight_bar", "original", "original1", "kernel", "w")
_OPTIMIZER_PARTS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "max_exp_avg_sq", "grad_avg")


class HasShape(Protocol):
    """A tensor, loaded or not."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class RoleReport(NamedTuple):
    """`reason` completes "it is a … : …" for people."""

    role: Role
    reason: str


class _Layer(NamedTuple):
    name: str
    shape: tuple[int, ...]
    bias: int | None

    @property
    def conv(self) -> bool:
        return len(self.shape) == 4

    @property
    def linear(self) -> bool:
        return len(self.shape) == 2

    def image_out(self) -> int | None:
        """Channels, if this layer can end in an image: as a convolution, or transposed; a bias decides which."""
        if self.conv:
            for channels in (self.shape[0], self.shape[1]):
                if channels in IMAGE_CHANNELS and self.bias in (None, channels):
                    return channels
        return None

    def image_in(self) -> int | None:
        """Channels, if this convolution can begin with an image."""
        fits = self.conv and self.shape[1] in IMAGE_CHANNELS and self.shape[0] > 4
        return self.shape[1] if fits and self.bias in (None, self.shape[0]) else None


def describe_role(tensors: Mapping[str, HasShape]) -> RoleReport:
    """What `tensors` (a state_dict, in its order) are the weights of, and why."""
    last_parts = {name.rpartition(".")[2] for name in tensors}
    if last_parts & set(_OPTIMIZER_PARTS):
        return RoleReport("optimizer", f"holds {sorted(last_parts & set(_OPTIMIZER_PARTS))[0]}, an optimizer's memory")
    layers = _layers(tensors)
    if not layers:
        return RoleReport("unknown", "holds no weight matrix or kernel")
    body = [layer for layer in layers if not _embedding(layer)] or layers
    first, last = body[0], body[-1]
    begins, ends = _begins(first, last), _ends(last)
    convs = [layer for layer in body if layer.conv]
    widest = max((layer.shape[1] for layer in convs), default=0)
    judges = last.conv and last.shape[0] == 1 and last.shape[1] == widest and convs[0].shape[0] < widest
    if begins and ends and not judges:
        return RoleReport("image-to-image", f"begins with {begins} and ends in {ends}")
    single = _single_output(body[-3:])
    if begins and single:
        return RoleReport("discriminator", f"begins with {begins} and ends in 1 number ({single})")
    if begins and last.linear and 2 <= last.shape[0] <= MAX_CLASSES:
        return RoleReport("classifier", f"begins with {begins} and ends in {last.shape[0]:,} numbers ({last.name})")
    if begins and last.conv and last.shape[1] == widest and last.shape[2:] == (1, 1):
        return RoleReport("classifier", f"begins with {begins} and ends in {last.shape[0]:,} channels ({last.name})")
    if judges and len(convs) > 1:
        return RoleReport("discriminator", f"its convolutions widen to {widest} channels and end in 1 ({last.name})")
    if not ends and last.linear and last.shape[0] == 1 and len(body) > 1:
        return RoleReport("discriminator", f"ends in 1 number ({last.name})")
    if ends:
        return RoleReport("generator", f"begins with {_input(first)} and ends in {ends}")
    return RoleReport("unknown", f"ends in {'×'.join(map(str, last.shape))} ({last.name}), which is no image")


def _layers(tensors: Mapping[str, HasShape]) -> list[_Layer]:
    layers = []
    for name, tensor in tensors.items():
        stem, _, part = name.rpartition(".")
        if len(tensor.shape) not in (2, 4) or (part not in _WEIGHTS and stem):
            continue
        owner = stem.removesuffix(".parametrizations.weight").removesuffix(".module")
        bias = next((tensors[key] for key in (f"{stem}.bias", f"{owner}.bias", "bias") if key in tensors), None)
        size = bias.shape[0] if bias is not None and len(bias.shape) == 1 else None
        layers.append(_Layer(name, tuple(tensor.shape), size))
    return layers


def _embedding(layer: _Layer) -> bool:
    """A label's table: named so, or square and small at the front."""
    return layer.linear and layer.bias is None and any(word in layer.name.lower() for word in ("emb", "label", "class"))


def _begins(first: _Layer, last: _Layer) -> str:
    channels = first.image_in()
    if channels:
        return f"a convolution of {channels}-channel images ({first.name})"
    if not first.linear or first is last or first.shape[1] < MIN_PIXELS or not _flat_image(first.shape[1]):
        return ""
    if first.shape[1] == last.shape[0] or first.shape[1] > max(first.shape[0], last.shape[0]):
        return f"{first.shape[1]:,} pixels ({first.name})"
    return ""


def _ends(last: _Layer) -> str:
    channels = last.image_out()
    if channels:
        return f"{channels}-channel images ({last.name})"
    if last.linear and _flat_image(last.shape[0]) and last.shape[0] > last.shape[1] // 4:
        return f"{last.shape[0]:,} pixels ({last.name})"
    return ""


def _single_output(tail: list[_Layer]) -> str:
    for layer in reversed(tail):
        if layer.shape[0] == 1 and (layer.linear or layer.conv):
            return layer.name
    return ""


def _flat_image(size: int) -> bool:
    """Whether `size` is a square image of 1 or 3 channels, 8 pixels a side or more."""
    for channels in IMAGE_CHANNELS:
        side = math.isqrt(size // channels) if size % channels == 0 else 0
        if side >= MIN_SIDE and side % 4 == 0 and side * side * channels == size:
            return True
    return False


def _input(first: _Layer) -> str:
    return f"{first.shape[1] if first.linear else first.shape[0]} inputs"
