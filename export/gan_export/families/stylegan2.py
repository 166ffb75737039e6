"""StyleGAN 2 as NVlabs write it in PyTorch: stylegan2-ada-pytorch, and the stylegan2 configuration of stylegan3.

Their files are pickles of whole modules, whose attributes name what shapes do not show: activation, clamp, learning
rate. Of a state_dict alone these are the defaults of the code. The source of the classes is in the pickle, too, and is
compared by its SHA-256 with the versions that the authors published. Nothing of it is run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from torch import Tensor

from gan_core.interface import Interface, Styles
from gan_core.spec import layers as L
from gan_core.spec.layers import Shape
from gan_core.spec.norm_layers import ActivationName
from gan_export.draft import Evidence
from gan_export.families import Family, Folded, NamedLayers, Network, Shapes, called
from gan_export.families.styles import EPS, MEAN_NOTE, STYLES, Own, dense, kernel, mean_w, noisy, part, times

ADA, SG3 = "NVlabs/stylegan2-ada-pytorch training/networks.py", "NVlabs/stylegan3 training/"
SOURCES = {
    "53b4e1ec457171d4e2c1454d48013765ab626141c35cdd383b020950effe11a5": f"{ADA} (375a436)",
    "b6f14e8fa2a95de4d38218fef31380c6a70de770f585107e209ff83075c307ef": f"{SG3}networks_stylegan2.py (8fb5177)",
    "06082fb3e8929e477f58fb8bc78e7ecb9a9209eb01444272d1d153c85a6a89f7": f"{SG3}networks_stylegan3.py (8fb5177)",
}
"""SHA-256 of the source of published versions, as it is pickled: decoded, with \\n at the end of lines."""
ROOT2, HALF = math.sqrt(2), math.sqrt(0.5)

ACTIVATIONS: dict[str, tuple[ActivationName, float | None, float]] = {
    "linear": ("identity", None, 1.0), "relu": ("relu", None, ROOT2), "lrelu": ("leaky_relu", 0.2, ROOT2),
    "tanh": ("tanh", None, 1.0), "sigmoid": ("sigmoid", None, 1.0), "elu": ("elu", 1.0, 1.0),
    "selu": ("selu", None, 1.0), "softplus": ("softplus", None, 1.0), "swish": ("silu", None, ROOT2),
}  # fmt: skip
"""NVlabs' names of activations: ours, the slope, the gain."""


def activation(name: str, gain: float = 1.0, clamp: float | None = None) -> L.Activation:
    """One of them; its own gain and the clamp are multiplied by `gain`."""
    ours, slope, own = ACTIVATIONS[name]
    return L.Activation(
        ours, slope, gain=None if gain * own == 1 else gain * own, clamp=None if clamp is None else clamp * gain
    )


class Numbers(NamedTuple):
    """What a network is built with.

    channels       of the blocks from 4x4 on
    mapping        features before and after each layer of the mapping network
    embed          features of an embedded label, 0 without classes
    taps           of the filters, a side
    activations    of the mapping network and of the synthesis network
    clamp          bound of the layers' values
    lr_multiplier  of the mapping network
    source         SHA-256 of the classes' source; None for a state_dict
    half           how many blocks are set to run in float16
    """

    c_dim: int
    image_channels: int
    channels: tuple[int, ...]
    mapping: tuple[int, ...]
    embed: int = 0
    architecture: str = "skip"
    kernel: int = 3
    taps: int = 4
    noise: bool = True
    w_avg: bool = True
    activations: tuple[str, ...] = ("lrelu", "lrelu")
    clamp: float | None = 256.0
    lr_multiplier: float = 0.01
    source: str | None = None
    half: int = 0


class NvlabsStyleGan2(Family[Numbers]):
    """Generator with all of its architectures ("skip", "resnet", "orig"), with and without classes."""

    name, source = "stylegan2-ada", "NVlabs/stylegan2-ada-pytorch"

    def numbers(self, shapes: Shapes) -> Iterable[Numbers]:
        convs = shapes.row((f"synthesis.b{4 << n}.conv1.weight" for n in range(9)), 4)
        features = shapes.row((f"mapping.fc{n}.weight" for n in range(64)), 2)
        rgb = f"synthesis.b{2 << len(convs)}.torgb.weight"
        filters = "synthesis.b4.resample_filter"
        if not (convs and features and shapes.rank(rgb, 4) and shapes.rank(filters, 2)):
            return
        embed, c_dim = shapes["mapping.embed.weight"] if shapes.rank("mapping.embed.weight", 2) else (0, 0)
        skip, residual = (shapes.rank(f"synthesis.{key}.weight", 4) for key in ("b4.torgb", "b8.skip"))
        said = {name: info.settings for name, info in shapes.modules.items()}
        first = _same(said, r"mapping\.fc", activation="lrelu", bias_gain=0.01)
        inner = _same(said, r"synthesis\.b\d+\.conv[01]$", activation="lrelu", conv_clamp=256.0)
        rgbs = _same(said, r"synthesis\.b\d+\.torgb$", conv_clamp=256.0)
        if first is None or inner is None or rgbs is None or rgbs != inner[1:]:
            return
        (mapped, rate), (synthesised, clamp) = first, inner
        numeric = isinstance(clamp, int | float | None) and isinstance(rate, int | float)
        if not {mapped, synthesised} <= set(ACTIVATIONS) or not numeric:
            return
        yield Numbers(
            c_dim,
            shapes[rgb][0],
            tuple(shape[0] for shape in convs),
            (*(shape[1] for shape in features), features[-1][0]),
            embed,
            "skip" if skip and len(convs) > 1 else "resnet" if residual else "orig",
            kernel=convs[0][2],
            taps=shapes[filters][0],
            noise=shapes.rank("synthesis.b4.conv1.noise_const", 2),
            w_avg=shapes.rank("mapping.w_avg", 1),
            activations=(mapped, synthesised),
            clamp=None if clamp is None else float(clamp),
            lr_multiplier=float(rate),
            source=shapes.modules[""].source if "" in shapes.modules else None,
            half=sum(settings.get("use_fp16") is True for settings in said.values()),
        )

    def network(self, numbers: Numbers) -> Network:
        return _Builder(numbers).network()

    def sample(self, random: Random) -> Numbers:
        embed = random.choice((0, 3))
        mapping = tuple(random.randint(2, 9) for _ in range(random.randint(2, 4)))
        return Numbers(
            random.randint(2, 4) if embed else 0,
            random.choice((1, 3, 4)),
            tuple(random.randint(1, 6) for _ in range(random.randint(2, 4))),
            (mapping[0] + embed, *mapping[1:]),
            embed,
            random.choice(("skip", "resnet", "orig")),
            random.choice((1, 3, 5)),
            random.choice((2, 4)),
            noise=random.random() < 0.7,
            w_avg=random.random() < 0.7,
        )


def _same(said: Mapping[str, Mapping[str, Any]], pattern: str, **defaults: Any) -> tuple[Any, ...] | None:
    """The settings by the names of `defaults` that all modules have whose name begins as `pattern`: the defaults where
    there are none, None where they differ."""
    found = {
        tuple(settings.get(name, default) for name, default in defaults.items())
        for module, settings in said.items()
        if re.match(pattern, module)
    } or {tuple(defaults.values())}
    return found.pop() if len(found) == 1 else None


def mapping_network(c_dim: int, embed: int, features: Sequence[int], name: str, rate: float) -> NamedLayers:
    """NVlabs' MappingNetwork, with `embed` features of `c_dim` classes: z to w. `features` are those before and after
    each layer."""
    layers: NamedLayers = [("", L.PixelNorm(EPS))]
    if c_dim:
        takes = {"mapping.embed.weight": (embed, c_dim), "mapping.embed.bias": (embed,)}

        def table(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
            rows = held["mapping.embed.weight"].T / math.sqrt(c_dim) + held["mapping.embed.bias"]
            return {"weight": rows * (rows.square().mean(dim=1, keepdim=True) + EPS).rsqrt()}

        layers.append((Folded(takes, table), L.LabelEmbedding(c_dim, embed, "z_label")))
    for index, (before, after) in enumerate(pairwise(features)):
        layers += [dense(f"mapping.fc{index}", before, after, rate), ("", activation(name))]
    return layers


def origin(source: str | None, half: int, defaults: str) -> tuple[Evidence, tuple[str, ...]]:
    """How sure it is that the classes of a pickle are NVlabs' own, and what to say of that. `defaults` are what a
    state_dict (`source` None) takes from the code."""
    if source is None:
        return Evidence.STRONG, (f"a state_dict alone: {defaults} are the defaults of NVlabs' code",)
    known = SOURCES.get(source)
    told = f"the source of its classes is that of {known}" if known else (
        "the source of its classes is none that is known: they are taken to compute what NVlabs' do"
    )  # fmt: skip
    note = f"{half} of its blocks are set to run in float16; here they run in float32, as with force_fp32"
    return Evidence.PROVED if known else Evidence.STRONG, (told, *([note] if half else []))


class _Builder:
    """The layers of one network, block by block."""

    def __init__(self, numbers: Numbers) -> None:
        self.n, self.w_dim = numbers, numbers.mapping[-1]
        self.num_ws = 2 * len(numbers.channels)
        self.beside: dict[str, Shape] = {}
        self.row = 0

    def network(self) -> Network:
        n, w_dim = self.n, self.w_dim
        side, clamp = 2 << len(n.channels), "none" if n.clamp is None else f"{n.clamp:g}"
        said = (
            f"activation {n.activations[1]}, clamp {clamp} and the mapping network's learning rate {n.lr_multiplier:g}"
        )
        evidence, notes = origin(n.source, n.half, said)
        image = (n.image_channels, side, side)
        interface = Interface(
            n.mapping[0] - n.embed, image, n_classes=n.c_dim, styles=Styles(w_dim, self.num_ws), noise=n.noise
        )
        mapping = mapping_network(n.c_dim, n.embed, n.mapping, n.activations[0], n.lr_multiplier)
        styles = L.Styles(w_dim, self.num_ws, as_=STYLES)
        layers = [*mapping, part(styles, w_avg=Own("mapping.w_avg", (w_dim,)))]
        if not n.w_avg:
            layers[-1], notes = (mean_w(mapping, interface), styles), (*notes, MEAN_NOTE)
        start = (n.channels[0], 4, 4)
        layers.append(part(L.Constant(start), value=Own("synthesis.b4.const", start)))
        for index in range(len(n.channels)):
            layers += self.block(index)
        return noisy(layers, interface, evidence=evidence, notes=notes, beside=self.beside, knows_classes=True)

    def block(self, index: int) -> NamedLayers:
        n, side, out = self.n, 4 << index, self.n.channels[index]
        name, before = f"synthesis.b{side}", n.channels[index - 1] if index else 0
        last, skip, residual = index == len(n.channels) - 1, n.architecture == "skip", n.architecture == "resnet"
        self.beside[f"{name}.resample_filter"] = (n.taps, n.taps)
        layers: NamedLayers = []
        if index and residual:
            weight = Own(f"{name}.skip.weight", (out, before, 1, 1), times(1 / math.sqrt(before)))
            layers.append(part(L.Conv(before, out, 1, bias=False), weight=weight))
            layers += called([self.upsampled(f"{name}.skip", HALF)], f"skip{side}")
            layers.append(("", L.Load(f"x{side // 2}")))
        if index:
            layers += self.conv(f"{name}.conv0", before, out, side, up=True)
        layers += self.conv(f"{name}.conv1", out, out, side, gain=HALF if index and residual else 1.0)
        if index and residual:
            layers.append(("", L.Add(f"skip{side}")))
        if not last and n.architecture != "orig":
            layers = called(layers, f"x{side}")
        if last or skip:
            layers += self.rgb(f"{name}.torgb", out)
            if skip and index:
                layers.append(("", L.Add(f"rgb{side // 2}")))
        if skip and not last:
            layers += called([self.upsampled(f"synthesis.b{side * 2}")], f"rgb{side}")
            layers.append(("", L.Load(f"x{side}")))
        return layers

    def conv(self, name: str, before: int, out: int, side: int, *, up: bool = False, gain: float = 1.0) -> NamedLayers:
        n, k = self.n, self.n.kernel
        transposed = up and k > 1
        made = L.ModulatedConv(before, out, k, STYLES, self.row, self.w_dim, up=2 if transposed else 1)
        self.row += 1
        layers: NamedLayers = [self.modulated(name, made)]
        if transposed:
            borders = (k // 2 + (n.taps + 1) // 2 - (k - 1), k // 2 + (n.taps - 2) // 2 - (k - 2)) * 2
            layers.append(self.filtered(name, L.Fir(n.taps, borders=borders)))
        elif up:
            layers.append(self.upsampled(name))
        else:
            self.beside[f"{name}.resample_filter"] = (n.taps, n.taps)
        if n.noise:
            strength, noise = Own(f"{name}.noise_strength", ()), Own(f"{name}.noise_const", (side, side))
            layers.append(part(L.Noise(side, side), strength=strength, map=noise))
        return [
            *layers,
            part(L.Bias(out), bias=Own(f"{name}.bias", (out,))),
            ("", activation(n.activations[1], gain, n.clamp)),
        ]

    def rgb(self, name: str, before: int) -> NamedLayers:
        n = self.n
        made = L.ModulatedConv(before, n.image_channels, 1, STYLES, self.row, self.w_dim, demodulate=False)
        bias = Own(f"{name}.bias", (n.image_channels,))
        layers: NamedLayers = [
            self.modulated(name, made, 1 / math.sqrt(before)),
            part(L.Bias(n.image_channels), bias=bias),
        ]
        return layers if n.clamp is None else [*layers, ("", L.Activation("identity", clamp=n.clamp))]

    def modulated(self, name: str, made: L.ModulatedConv, gain: float = 1.0) -> tuple[Folded, L.Layer]:
        """`gain` is of the styles."""
        weight = Own(f"{name}.weight", (made.out_channels, made.in_channels, made.kernel, made.kernel), kernel(made))
        size = (made.in_channels, self.w_dim)
        affine = Own(f"{name}.affine.weight", size, times(gain / math.sqrt(self.w_dim)))
        bias = Own(f"{name}.affine.bias", size[:1], times(gain))
        return part(made, weight=weight, affine_weight=affine, affine_bias=bias)

    def upsampled(self, name: str, gain: float = 1.0) -> tuple[Folded, L.Layer]:
        taps = self.n.taps
        return self.filtered(name, L.Fir(taps, up=2, borders=((taps + 1) // 2, (taps - 2) // 2) * 2), gain)

    def filtered(self, name: str, made: L.Fir, gain: float = 1.0) -> tuple[Folded, L.Layer]:
        key = f"{name}.resample_filter"
        self.beside.pop(key, None)
        return part(made, filter=Own(key, (self.n.taps, self.n.taps), times(4 * gain)))
