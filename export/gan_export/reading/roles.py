"""What a set of tensors is, by shapes alone: a generator ends in an image, a discriminator begins with one.

Only shapes, names of norms and the order of the layers are used; the verdict comes with the evidence for it, and is
"unknown" wherever the ends are not plain (StyleGAN registers its layers in another order than it runs them).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

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
