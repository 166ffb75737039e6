"""What generators with styles are made of (StyleGAN 2, Karras et al. 2020, arXiv:1912.04958): a learned start, noise,
styles for each layer, convolutions that a style modulates, and filters.

A style is an affine function of one row of the styles, and scales the input channels of a convolution. Demodulated,
each output channel is divided by the norm of its scaled kernel. Neither needs a kernel for each image: the input is
scaled, one convolution runs for the whole batch, and the output is scaled by rsqrt(s² · ΣW² + eps), which is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from gan_core.fields import Border, Eps, Features, Padding, Range, Shape, Side, Sides
from gan_core.interface import MAX_NOISE
from gan_core.spec import Layer, ValueName, expect, expect_image

Borders4 = tuple[Border, Border, Border, Border]
Factor = Annotated[int, Range(1, 16)]
Positive = Annotated[float, Range(1e-6, 1e6)]

NOISE = "noise"
"""The optional input that scales all noise of a network: 1, or 0 for images without noise."""
NOISE_MAPS = "noise_maps"
"""The optional input that has the noise of all layers, one map after the other."""
STYLE_INPUTS = ("psi", "w", "from_w")
"""The optional inputs of a network with styles, see `Styles`."""


@dataclass(frozen=True)
class Constant(Layer):
    """A learned value in the place of the running one, the same for each sample; value (*shape)."""

    kind: ClassVar[str] = "constant"
    shape: Sides

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        return self.shape

    def tensors(self) -> dict[str, Shape]:
        return {"value": self.shape}

    def words(self) -> str:
        return f"constant {'x'.join(map(str, self.shape))}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return module["value"].unsqueeze(0).expand(x.shape[0], *self.shape)


@dataclass(frozen=True)
class Noise(Layer):
    """x + noise · strength · map; strength () or (channels,), map (H, W). `noise` is an input of the network, 1 where
    it is left out; with `at` so is `noise_maps`, whose numbers from there on take the place of map, for each sample."""

    kind: ClassVar[str] = "noise"
    height: Side
    width: Side
    channels: Features = 1
    at: Annotated[int, Range(0, MAX_NOISE)] | None = None

    @property
    def uses(self) -> tuple[str, ...]:
        return (NOISE,) if self.at is None else (NOISE, NOISE_MAPS)

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(self.channels in (1, c), f"adds noise to {self.channels} channels, gets {c}")
        expect((h, w) == (self.height, self.width), f"adds noise of {self.height}x{self.width}, gets {h}x{w}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"strength": () if self.channels == 1 else (self.channels,), "map": (self.height, self.width)}

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        strength, amount = module["strength"].reshape(-1, 1, 1), beside[0].reshape(-1, 1, 1, 1)
        if self.at is None or beside[1] is None:
            return x + (strength * module["map"]) * amount
        own = beside[1][:, self.at : self.at + self.height * self.width]
        return x + (strength * amount) * own.reshape(-1, 1, self.height, self.width)


@dataclass(frozen=True)
class Bias(Layer):
    """x + a number for each channel (or feature); bias (features,)."""

    kind: ClassVar[str] = "bias"
    features: Features

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[0] == self.features, f"takes {self.features} features, gets {shape[0]}")
        return shape

    def tensors(self) -> dict[str, Shape]:
        return {"bias": (self.features,)}

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return x + module["bias"].reshape(-1, *[1] * (x.ndim - 2))


@dataclass(frozen=True)
class Styles(Layer):
    """The latent w of each sample as one style for each of `num_ws` layers; w_avg (w_dim,) is the mean of w.

    With the inputs `psi` (1 where it is left out), `w` (num_ws, w_dim) and `from_w`: w_avg + psi · (w - w_avg) for each
    layer, or, where `from_w` is true, the input `w` as it is given.
    """

    kind: ClassVar[str] = "styles"
    w_dim: Features
    num_ws: Annotated[int, Range(1, 1000)]

    @property
    def uses(self) -> tuple[str, ...]:
        return STYLE_INPUTS

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape == (self.w_dim,), f"takes a vector of {self.w_dim}, gets {shape}")
        expect(
            not used or used[1] == (self.num_ws, self.w_dim), f"makes {self.num_ws} styles, the interface has {used[1]}"
        )
        return (self.num_ws, self.w_dim)

    def tensors(self) -> dict[str, Shape]:
        return {"w_avg": (self.w_dim,)}

    def words(self) -> str:
        return f"styles {self.num_ws} x {self.w_dim}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        psi, w, from_w = beside
        truncated = x + (psi.unsqueeze(1) - 1) * (x - module["w_avg"])
        return torch.where(from_w.reshape(-1, 1, 1), w, truncated.unsqueeze(1))


@dataclass(frozen=True)
class ModulatedConv(Layer):
    """A convolution whose input channels a style scales; `padding` None keeps the size. Where it upsamples it has none.

    The style is row `row` of the value called `style`, (num_ws, w_dim), through an affine map: affine_weight
    (in, w_dim), affine_bias (in,). weight is (out, in, kernel, kernel). With `up` above 1 it is (in, out, kernel,
    kernel), and `up` the stride of a transposed convolution. `demodulate` divides each output channel by the norm of
    its scaled kernel, with `eps` under the root.
    """

    kind: ClassVar[str] = "modulated_conv"
    convolves: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("style",)
    in_channels: Features
    out_channels: Features
    kernel: Side
    style: ValueName
    row: Padding
    w_dim: Features
    up: Factor = 1
    demodulate: bool = True
    eps: Eps = 1e-8
    padding: Padding | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        odd = self.up > 1 or self.kernel % 2 == 1 or self.padding is not None
        expect(odd, f"kernel must be odd, got {self.kernel}")
        expect(self.up == 1 or self.padding is None, "has no padding where it upsamples")

    @property
    def border(self) -> int:
        """Zeros around the image, where it does not upsample."""
        return self.kernel // 2 if self.padding is None else self.padding

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(c == self.in_channels, f"takes {self.in_channels} channels, gets {c}")
        if used:
            expect(len(used[0]) == 2 and used[0][1] == self.w_dim, f"takes styles of {self.w_dim}, gets {used[0]}")
            expect(self.row < used[0][0], f"takes row {self.row} of {used[0][0]} styles")
        if self.up > 1:
            return (self.out_channels, *((side - 1) * self.up + self.kernel for side in (h, w)))
        made = tuple(side + 2 * self.border - self.kernel + 1 for side in (h, w))
        expect(min(made) >= 1, f"kernel {self.kernel} does not fit into {h}x{w}")
        return (self.out_channels, *made)

    def tensors(self) -> dict[str, Shape]:
        channels = (self.out_channels, self.in_channels) if self.up == 1 else (self.in_channels, self.out_channels)
        return {
            "weight": (*channels, self.kernel, self.kernel),
            "affine_weight": (self.in_channels, self.w_dim),
            "affine_bias": (self.in_channels,),
        }

    def products(self, shape: Shape) -> int:
        area = math.prod(shape[1:] if self.up > 1 else self.out_shape(shape)[1:])
        return self.in_channels * (self.out_channels * (self.kernel**2 * area + self.demodulate) + self.w_dim)

    def words(self) -> str:
        up = f" up {self.up}" if self.up > 1 else ""
        plain = "" if self.demodulate else ", not demodulated"
        return f"modulated_conv {self.in_channels} → {self.out_channels}, k{self.kernel}{up}, style {self.row}{plain}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        functional, weight = torch.nn.functional, module["weight"]
        style = functional.linear(beside[0][:, self.row], module["affine_weight"], module["affine_bias"])
        x = x * style.reshape(-1, self.in_channels, 1, 1)
        if self.up == 1:
            x = functional.conv2d(x, weight, padding=self.border)
        else:
            x = functional.conv_transpose2d(x, weight, stride=self.up)
        if not self.demodulate:
            return x
        squares = weight.square().sum(dim=(2, 3))
        norm = style.square() @ (squares if self.up > 1 else squares.t()) + self.eps
        return x * norm.rsqrt().reshape(-1, self.out_channels, 1, 1)


@dataclass(frozen=True)
class Fir(Layer):
    """A filter over each channel: zeros put between pixels (`up`), padding, convolution, every `down`-th pixel kept.

    filter (taps, taps) holds its gain, too; it is convolved, not correlated. A `separable` one is (taps,), and goes
    over the rows, then over the columns. `borders` are left, right, top and bottom, in pixels after upsampling;
    negative ones are cut off.
    """

    kind: ClassVar[str] = "fir"
    convolves: ClassVar[bool] = True
    taps: Side
    up: Factor = 1
    down: Factor = 1
    borders: Borders4 = (0, 0, 0, 0)
    separable: bool = False

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, *sides = expect_image(shape)
        left, right, top, bottom = self.borders
        padded = [sides[0] * self.up + top + bottom, sides[1] * self.up + left + right]
        expect(min(padded) >= self.taps, f"{self.taps} taps do not fit into {padded[0]}x{padded[1]}")
        return (c, *((side - self.taps) // self.down + 1 for side in padded))

    def tensors(self) -> dict[str, Shape]:
        return {"filter": (self.taps,) if self.separable else (self.taps, self.taps)}

    def products(self, shape: Shape) -> int:
        return math.prod(self.out_shape(shape)) * self.taps * (1 + self.down if self.separable else self.taps)

    def words(self) -> str:
        steps = "".join(f" {name} {by}" for name, by in (("up", self.up), ("down", self.down)) if by > 1)
        return f"fir {self.taps}x{self.taps}{steps}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        kernel, (left, right, top, bottom) = module["filter"], self.borders
        if not self.separable:
            return self._over(torch, x, kernel, self.borders, (True, True))
        x = self._over(torch, x, kernel.reshape(1, -1), (left, right, 0, 0), (False, True))
        return self._over(torch, x, kernel.reshape(-1, 1), (0, 0, top, bottom), (True, False))

    def _over(self, torch: Any, x: Any, kernel: Any, borders: Borders4, along: tuple[bool, bool]) -> Any:
        """`kernel` over each channel; up and down where it goes `along`: (rows up and down, columns)."""
        functional, channels = torch.nn.functional, x.shape[1]
        weight = kernel.expand(channels, 1, *kernel.shape)
        up, down = (tuple(by if moves else 1 for moves in along) for by in (self.up, self.down))
        if self.up > 1:  # the transposed convolution of the whole filter, of which the borders want more or less
            ends = tuple(
                end for moves in along[::-1] for end in ((1 - self.taps, self.up - self.taps) if moves else (0, 0))
            )
            left, right, top, bottom = map(sum, zip(ends, borders, strict=True))
            cut = max(-max(top, bottom), 0), max(-max(left, right), 0)  # by the convolution itself
            x = functional.conv_transpose2d(x, weight, stride=up, padding=cut, groups=channels)
            x = _bordered(functional, x, (left + cut[1], right + cut[1], top + cut[0], bottom + cut[0]))
            return x if self.down == 1 else x[:, :, :: down[0], :: down[1]]
        inside = max(min(borders), 0)
        x = _bordered(functional, x, tuple(border - inside for border in borders))
        return functional.conv2d(x, weight.flip((2, 3)), padding=inside, stride=down, groups=channels)


@dataclass(frozen=True)
class FourierInput(Layer):
    """Sines over the plane in the place of the running value, turned and moved by a style (StyleGAN 3, Karras et al.
    2021, arXiv:2106.12423).

    Row `row` of the value called `style`, (num_ws, w_dim), gives through affine_weight (4, w_dim) and affine_bias (4,)
    a rotation and a shift, before `transform` (3, 3). freqs (channels, 2), in cycles for the image without its margin,
    and phases (channels,) are those of the sines, weight (channels, channels) mixes them. The image has `size` pixels a
    side, `sampling_rate` of them without its margin; sines beyond `bandwidth` are damped.
    """

    kind: ClassVar[str] = "fourier_input"
    convolves: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("style",)
    channels: Features
    size: Side
    sampling_rate: Positive
    bandwidth: Positive
    style: ValueName
    row: Padding
    w_dim: Features

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(self.bandwidth < self.sampling_rate / 2, f"bandwidth {self.bandwidth:g} must be below half the rate")
        if used:
            expect(len(used[0]) == 2 and used[0][1] == self.w_dim, f"takes styles of {self.w_dim}, gets {used[0]}")
            expect(self.row < used[0][0], f"takes row {self.row} of {used[0][0]} styles")
        return (self.channels, self.size, self.size)

    def tensors(self) -> dict[str, Shape]:
        return {
            "weight": (self.channels, self.channels),
            "affine_weight": (4, self.w_dim),
            "affine_bias": (4,),
            "transform": (3, 3),
            "freqs": (self.channels, 2),
            "phases": (self.channels,),
        }

    def products(self, shape: Shape) -> int:
        return self.channels * (self.channels + 2) * self.size**2

    def words(self) -> str:
        return f"fourier_input {self.channels}x{self.size}x{self.size}, style {self.row}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        t = torch.nn.functional.linear(beside[0][:, self.row], module["affine_weight"], module["affine_bias"])
        t = t / t[:, :2].square().sum(dim=1, keepdim=True).sqrt()
        cos, sin, right, down = t.unsqueeze(2).unbind(dim=1)
        turned = torch.stack(
            (
                torch.cat((cos, -sin, sin * down - cos * right), dim=1),
                torch.cat((sin, cos, -sin * right - cos * down), dim=1),
            ),
            dim=1,
        )
        turned = turned @ module["transform"]  # (N, 2, 3)
        phases = module["phases"] + (module["freqs"] @ turned[:, :, 2:]).squeeze(2)
        freqs = module["freqs"] @ turned[:, :, :2]  # (N, C, 2)
        beyond = freqs.square().sum(dim=2).sqrt() - self.bandwidth
        amplitudes = (1 - beyond / (self.sampling_rate / 2 - self.bandwidth)).clamp(0, 1)
        places = (torch.arange(self.size, device=t.device, dtype=t.dtype) + 0.5 - self.size / 2) / self.sampling_rate
        across, along = (each.reshape(*each.shape, 1, 1) for each in freqs.unbind(dim=2))
        cycles = across * places + along * places.unsqueeze(1) + phases.reshape(*phases.shape, 1, 1)
        waves = torch.sin(cycles * (2 * math.pi)) * amplitudes.reshape(*amplitudes.shape, 1, 1)
        return torch.nn.functional.conv2d(waves, module["weight"].reshape(self.channels, self.channels, 1, 1))


def _bordered(functional: Any, x: Any, borders: tuple[int, ...]) -> Any:
    return functional.pad(x, borders) if any(borders) else x
