"""What kind of network a set of tensors is, by its shapes first and its names second.

A generator ends in an image, a discriminator begins with one. The verdict comes with the evidence for it, and is
"unknown" wherever the ends are not plain (StyleGAN registers its layers in another order than it runs them).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from gan_export.reading.roles import role_of_name

Role = Literal[
    "generator", "discriminator", "classifier", "encoder", "image-to-image", "super-resolver", "diffusion", "table",
    "points", "signal", "volume", "recurrent", "language", "embeddings", "adapter", "optimizer", "unknown",
]  # fmt: skip

ELSEWHERE = "gan-export inspect FOLDER lists what lies beside it"
_FROM_LATENT = (
    "of networks that take an image, ganport knows those in docs/families.md; others need their code: "
    "`module` FILE.py:CLASS"
)

WHAT: dict[Role, tuple[str, str]] = {
    "discriminator": ("a discriminator", "name the generator's file (often netG, G or generator in its name)"),
    "classifier": ("a classifier", "a classifier generates no images: name a GAN's generator"),
    "encoder": ("an encoder of images", "name the decoder's file, or the whole autoencoder's"),
    "image-to-image": ("an image-to-image network", _FROM_LATENT),
    "super-resolver": ("a super-resolver, a denoiser or another image-to-image network", _FROM_LATENT),
    "diffusion": (
        "a diffusion model",
        "it needs many steps for an image, and the file holds one of them: ganport exports generators of one step",
    ),
    "table": ("a network for rows of a table", ELSEWHERE),
    "points": ("a network for points", ELSEWHERE),
    "signal": ("a network for signals, such as sound or a time series", ELSEWHERE),
    "volume": ("a network for volumes or videos", ELSEWHERE),
    "recurrent": ("a recurrent network, as for text or a time series", ELSEWHERE),
    "language": ("a language model", ELSEWHERE),
    "embeddings": ("a table of embeddings", ELSEWHERE),
    "adapter": ("an adapter (LoRA) of another network", ELSEWHERE),
    "optimizer": ("an optimizer's state", "name the file of the generator's weights, not of its optimizer"),
}
"""What each kind of no use here is called, and what to do instead."""

NO_GENERATORS: tuple[Role, ...] = (
    "image-to-image", "super-resolver", "diffusion", "discriminator", "encoder", "classifier", "optimizer",
)  # fmt: skip
"""The kinds that are passed over among several, the one to tell of first; others are only named when no generator is
understood."""
TAKE_IMAGES: tuple[Role, ...] = ("image-to-image", "super-resolver", "diffusion")
"""Those of them that are passed over whatever their names say."""

IMAGE_CHANNELS = (1, 3)
WIDE = 7
"""Kernels from this on begin networks that take images: of a latent they would see all but one place empty."""
MIN_SIDE = 8
MIN_PIXELS = 257
"""Up to 16x16 inputs are rather a latent than an image."""
MAX_CLASSES = 22_000
MANY, VOCABULARY = 1000, 10_000
"""Rows from which a table of embeddings is one of words, and from which it is, even if it has as many as an image."""
MAX_ROW = 255
"""Numbers of a row of a table; more may be an image of an unusual size."""
_WEIGHTS = ("weight", "weight_orig", "weight_v", "weight_bar", "original", "original1", "kernel", "w")
_OPTIMIZER_PARTS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "max_exp_avg_sq", "grad_avg")
_ATTENTION = re.compile(r"attn|attention|(^|[._])[qkv]_?proj|qkv|c_attn", re.IGNORECASE)
_TIME = re.compile(
    r"(^|[._])(time_?(emb\w*|mlp|proj)|timestep_?emb\w*|t_?embed(der|ding)?|t_?emb|temb(_proj)?)([._]|$)|diffusion_model",
    re.IGNORECASE,
)
_RECURRENT = re.compile(r"weight_[ih]h_l\d")
_ADAPTER = re.compile(r"(^|[._])lora_(up|down|a|b)([._]|$)", re.IGNORECASE)
_WORDS = re.compile(r"emb_params|string_to_param|(^|[._])(wte|tok\w*_emb\w*|word_emb\w*|embed_tokens)([._]|$)", re.I)
_MEAN, _SPREAD = re.compile(r"mu|mean", re.IGNORECASE), re.compile(r"var|sig|std", re.IGNORECASE)


class HasShape(Protocol):
    """A tensor, loaded or not."""

    @property
    def shape(self) -> tuple[int, ...]: ...


class RoleReport(NamedTuple):
    """`reason` completes "it is a … : it …" for people."""

    role: Role
    reason: str


NO_WEIGHTS = RoleReport("unknown", "holds no weight matrix or kernel")


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
        fits = self.conv and self.shape[1] in IMAGE_CHANNELS and self.shape[0] > self.shape[1]
        return self.shape[1] if fits and self.bias in (None, self.shape[0]) else None


def describe_role(tensors: Mapping[str, HasShape]) -> RoleReport:
    """What `tensors` (a state_dict, in its order) are the weights of, and why."""
    last_parts = {name.rpartition(".")[2] for name in tensors}
    if last_parts & set(_OPTIMIZER_PARTS):
        return RoleReport("optimizer", f"holds {sorted(last_parts & set(_OPTIMIZER_PARTS))[0]}, an optimizer's memory")
    layers = _layers(tensors)
    told = _by_names(tensors, layers) or _by_dimensions(layers)
    if told:
        return told
    layers = [layer for layer in layers if layer.conv or layer.linear]
    if not layers:
        return NO_WEIGHTS
    if len(tensors) == len(layers) > 2 and len({layer.shape for layer in layers}) == 1:
        return RoleReport("unknown", f"holds {len(layers)} tensors of one shape, no layers")
    body = [layer for layer in layers if not _embedding(layer)] or layers
    if len(body) > 1 and body[0].linear and body[0].shape[0] == 1:  # the head was registered first
        body = body[1:] if _ends(body[-1]) else [*body[1:], body[0]]
    report = _by_ends(body)
    if report.role == "unknown" and len(layers) == sum(len(tensor.shape) > 1 for tensor in tensors.values()):
        report = _rows(body) or report
    if report.role == "classifier" and any(role_of_name(part) == "discriminator" for part in body[0].name.split(".")):
        return RoleReport("discriminator", f"{report.reason}, and its names say so")
    return report


def _by_ends(body: Sequence[_Layer]) -> RoleReport:
    """By what the first layer takes and the last one makes."""
    first, last = body[0], body[-1]
    begins, ends = _begins(first, last) or _begins_with_maps(body), _ends(last)
    convs = [layer for layer in body if layer.conv]
    widest = max((layer.shape[1] for layer in convs), default=0)
    judges = last.conv and last.shape[0] == 1 and last.shape[1] == widest and convs[0].shape[0] < widest
    pair = _mean_and_spread(body)
    narrows = pair and all(layer.linear and layer.shape[0] <= layer.shape[1] for layer in body)
    if begins and ends and len(body) > 1 and not judges and not narrows:
        between: Role = "super-resolver" if len(body) > 2 and _never_widens(body) else "image-to-image"
        return RoleReport(between, f"begins with {begins} and ends in {ends}")
    single = _single_output(body[-3:])
    if begins and single:
        return RoleReport("discriminator", f"begins with {begins} and ends in 1 number ({single})")
    if begins and pair:
        return RoleReport("encoder", f"begins with {begins} and ends in a mean and a variance of {pair}")
    if begins and last.linear and 2 <= last.shape[0] <= MAX_CLASSES:
        return RoleReport("classifier", f"begins with {begins} and ends in {last.shape[0]:,} numbers ({last.name})")
    if begins and last.conv and len(body) > 1:
        ended = f"begins with {begins} and ends in {last.shape[0]:,} channels ({last.name})"
        if _never_widens(body[:-1]) and last.shape[0] in [first.shape[1] * r * r for r in (2, 3, 4)]:
            return RoleReport("super-resolver", ended)
        if last.shape[1] == widest and (last.shape[2:] == (1, 1) or 2 * last.shape[0] <= widest):
            return RoleReport("classifier", ended)
        if all(a.shape[0] == b.shape[1] <= b.shape[0] for a, b in itertools.pairwise(body)):
            return RoleReport("encoder", ended)
        if last.shape[0] < last.shape[1] < widest:
            return RoleReport("image-to-image", f"{ended}, one for each class of pixels")
    if judges and len(convs) > 1:
        return RoleReport("discriminator", f"widens to {widest} channels and ends in 1 ({last.name})")
    if not ends and last.linear and last.shape[0] == 1 and len(body) > 1:
        takes = f"{first.shape[1]:,} {'inputs' if first.linear else 'channels'}"
        return RoleReport("discriminator", f"takes {takes} and ends in 1 number ({last.name})")
    if ends:
        return RoleReport("generator", f"begins with {first.shape[1 if first.linear else 0]} inputs and ends in {ends}")
    return RoleReport("unknown", f"ends in {'×'.join(map(str, last.shape))} ({last.name}), which is no image")


def _by_names(tensors: Mapping[str, HasShape], layers: Sequence[_Layer]) -> RoleReport | None:
    """Kinds whose names are a sign that no image generator has, where the shapes agree."""

    def seen(pattern: re.Pattern[str]) -> str:
        return next((name for name in tensors if pattern.search(name)), "")

    convolves = any(len(layer.shape) > 2 for layer in layers)
    if name := seen(_ADAPTER):
        return RoleReport("adapter", f"has {name}")
    if (name := seen(_TIME)) and (convolves or seen(_ATTENTION)):
        return RoleReport("diffusion", f"takes a time step ({name})")
    if name := seen(_RECURRENT):
        rest = [layer for layer in layers if not _RECURRENT.search(layer.name)]
        draws = any(layer.conv for layer in rest) or (rest and _ends(rest[-1]))
        return None if draws else RoleReport("recurrent", f"has {name}")
    if convolves or not layers:
        return None
    longest = max(layers, key=lambda layer: layer.shape[0])
    told = f"holds {longest.name}, {longest.shape[0]:,} rows of {longest.shape[1]:,} numbers"
    if longest.shape[0] >= MANY and longest.bias is None and seen(_ATTENTION):
        return RoleReport("language", told)
    image = _flat_image(longest.shape[0]) and longest.shape[0] < VOCABULARY
    alone = len(tensors) == 1 and longest.shape[0] >= MANY > longest.shape[1] and not image
    return RoleReport("embeddings", told) if alone or (len(layers) == len(tensors) and seen(_WORDS)) else None


def _by_dimensions(layers: Sequence[_Layer]) -> RoleReport | None:
    """Networks of convolutions of one or three dimensions that end in no image. StyleGAN2 keeps an image's kernels in
    five, the first 1."""
    if not layers or _ends(layers[-1]):
        return None
    deep = [layer for layer in layers if len(layer.shape) == 5 and layer.shape[0] > 1]
    if deep:
        return RoleReport("volume", f"has convolutions of three dimensions ({deep[0].name})")
    flat = [layer for layer in layers if len(layer.shape) == 3]
    if not flat or len(layers) < 2 or any(len(layer.shape) > 3 for layer in layers):
        return None
    if all(layer.shape[2] == 1 for layer in flat):
        of = f"takes each of its points alone, by convolutions of width 1 ({flat[0].name})"
        return RoleReport("points", of) if flat[0].shape[1] <= 4 else None
    return RoleReport("signal", f"has convolutions of one dimension ({flat[0].name})")


def _layers(tensors: Mapping[str, HasShape]) -> list[_Layer]:
    layers = []
    for name, tensor in tensors.items():
        stem, _, part = name.rpartition(".")
        if len(tensor.shape) not in (2, 3, 4, 5) or (part not in _WEIGHTS and stem):
            continue
        owner = stem.removesuffix(".parametrizations.weight").removesuffix(".module")
        bias = next((tensors[key] for key in (f"{stem}.bias", f"{owner}.bias", "bias") if key in tensors), None)
        if bias is not None and tuple(bias.shape) == tuple(tensor.shape):
            continue  # a LayerNorm of images
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
    if not first.linear or first.shape[1] < MIN_PIXELS or not _flat_image(first.shape[1]):
        return ""
    if first is last and _flat_image(last.shape[0]):
        return ""
    if first.shape[1] == last.shape[0] or first.shape[1] > max(first.shape[0], last.shape[0]):
        return f"{first.shape[1]:,} pixels ({first.name})"
    return ""


def _begins_with_maps(body: Sequence[_Layer]) -> str:
    """An image and maps of a label beside it, taken by a wide kernel."""
    first, beside = body[0], body[0].shape[1] - (body[-1].image_out() or body[0].shape[1])
    wide = first.conv and first.shape[2] >= WIDE and first.shape[0] > first.shape[1] and beside > 0
    goes_on = wide and len(body) > 2 and body[1].conv and body[1].shape[1] == first.shape[0] != body[1].shape[0]
    return f"a convolution of images and {beside} maps ({first.name})" if goes_on else ""


def _ends(last: _Layer) -> str:
    channels = last.image_out()
    if channels:
        return f"{channels}-channel images ({last.name})"
    if last.linear and _flat_image(last.shape[0]) and last.shape[0] > last.shape[1] // 4:
        return f"{last.shape[0]:,} pixels ({last.name})"
    return ""


def _never_widens(body: Sequence[_Layer]) -> bool:
    """Whether the first convolution is the widest, but for those of a pixel shuffle: an image is kept as it is, and
    not made smaller on the way."""
    width = body[0].shape[0]
    shuffled = [(width * r * r, width) for r in (2, 3)]
    rest = body[1:]
    return all(layer.shape[1] == width for layer in rest[:1]) and all(
        layer.conv and (layer.shape[0] <= width or layer.shape[:2] in shuffled) for layer in rest
    )


def _mean_and_spread(body: Sequence[_Layer]) -> str:
    """The numbers that a VAE's encoder makes, and their two layers: those at the end, or anywhere by their names."""
    for a, b in itertools.pairwise(body):
        last = b is body[-1] and a.linear and a.shape[0] != a.shape[1]
        named = bool(_MEAN.search(a.name) and _SPREAD.search(b.name))
        if a.shape == b.shape and a.shape[0] > 1 and (named or last):
            return f"{a.shape[0]:,} ({a.name}, {b.name})"
    return ""


def _rows(body: Sequence[_Layer]) -> RoleReport | None:
    """Linear layers from a few numbers to a few others, which are no image."""
    taken = {layer.shape[1] for layer in body}
    made = [layer for layer in body if layer.shape[0] not in taken or layer is body[-1]]
    alone = len(body) == 1 and body[0].bias is None
    if alone or not all(layer.linear for layer in body) or any(_flat_image(layer.shape[0]) for layer in made):
        return None
    last = max(made, key=lambda layer: layer.shape[0])
    if last.shape[0] > MAX_ROW:
        return None
    told = f"takes {body[0].shape[1]:,} and ends in {last.shape[0]:,} ({last.name}), too few for an image"
    return RoleReport("points" if last.shape[0] in (2, 3) else "table", told)


def _single_output(tail: Sequence[_Layer]) -> str:
    """The layer of `tail` that makes one number; a convolution of one channel before linear layers makes an image."""
    for layer in reversed(tail):
        if layer.shape[0] == 1 and (layer.linear or (layer.conv and not tail[-1].linear)):
            return layer.name
    return ""


def _flat_image(size: int) -> bool:
    """Whether `size` is a square image of 1 or 3 channels, 8 pixels a side or more."""
    for channels in IMAGE_CHANNELS:
        side = math.isqrt(size // channels) if size % channels == 0 else 0
        if side >= MIN_SIDE and side % 4 == 0 and side * side * channels == size:
            return True
    return False
