"""Layers without weights that change the shape of an image: sizes, borders, channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from gan_core.fields import Border, Features, Number, Padding, Range, Shape, Side, Sides
from gan_core.spec import Layer, Reach, expect, expect_image

UpsampleMode = Literal["nearest", "nearest-exact", "bilinear", "bicubic"]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
Factor = Annotated[int, Range(1, 1024)]
HeightWidth = tuple[Side, Side]


@dataclass(frozen=True)
class Upsample(Layer):
    """torch.nn.Upsample by a whole factor, or to `size` (H, W) when given; then `factor` has no meaning.

    `align_corners` matters for bilinear and bicubic only.
    """

    kind: ClassVar[str] = "upsample"
    convolves: ClassVar[bool] = True
    factor: Factor = 2
    mode: UpsampleMode = "nearest"
    align_corners: bool = False
    size: HeightWidth | None = None

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        return (c, *self.size) if self.size else (c, h * self.factor, w * self.factor)

    def reach(self) -> Reach | None:
        if self.size is not None or (self.align_corners and self.mode in ("bilinear", "bicubic")):
            return None  # each pixel's place then depends on the size of the image
        far = {"nearest": 1, "nearest-exact": 1, "bilinear": 2, "bicubic": 3}[self.mode]
        return Reach(-far, far, Fraction(1, self.factor))

    def words(self) -> str:
        return f"upsample {'to its size' if self.size else f'x{self.factor}'} {self.mode}"

    def module(self, nn: Any, shape: Shape) -> Any:
        corners = self.align_corners if self.mode in ("bilinear", "bicubic") else None
        return nn.Upsample(self.size, None if self.size else float(self.factor), self.mode, corners)


@dataclass(frozen=True)
class PixelShuffle(Layer):
    """torch.nn.PixelShuffle: (C f², H, W) → (C, H f, W f)."""

    kind: ClassVar[str] = "pixel_shuffle"
    convolves: ClassVar[bool] = True
    factor: Factor = 2

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(c % self.factor**2 == 0, f"needs a multiple of {self.factor**2} channels, gets {c}")
        return (c // self.factor**2, h * self.factor, w * self.factor)

    def reach(self) -> Reach:
        return Reach(-1, 0, Fraction(1, self.factor))

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.PixelShuffle(self.factor)


@dataclass(frozen=True)
class PixelUnshuffle(Layer):
    """torch.nn.PixelUnshuffle: (C, H f, W f) → (C f², H, W)."""

    kind: ClassVar[str] = "pixel_unshuffle"
    factor: Factor = 2

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        expect(h % self.factor == w % self.factor == 0, f"needs sides that {self.factor} divides, gets {h}x{w}")
        return (c * self.factor**2, h // self.factor, w // self.factor)

    def reach(self) -> Reach:
        return Reach(0, self.factor - 1, self.factor)

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.PixelUnshuffle(self.factor)


@dataclass(frozen=True)
class ChannelShuffle(Layer):
    """torch.nn.ChannelShuffle: (groups, C / groups) → (C / groups, groups)."""

    kind: ClassVar[str] = "channel_shuffle"
    pointwise: ClassVar[bool] = True
    groups: Features

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, _, _ = expect_image(shape)
        expect(c % self.groups == 0, f"{self.groups} groups do not divide {c} channels")
        return shape

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        """In operations that ONNX has."""
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


@dataclass(frozen=True)
class Glu(Layer):
    """torch.nn.GLU over dimension 1: the first half of the features times the sigmoid of the second."""

    kind: ClassVar[str] = "glu"
    pointwise: ClassVar[bool] = True

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(shape[0] % 2 == 0, f"halves its features, gets {shape[0]}")
        return (shape[0] // 2, *shape[1:])

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.GLU(dim=1)


@dataclass(frozen=True)
class Pool(Layer):
    """torch.nn.AvgPool2d or MaxPool2d; kernel, stride and padding as (height, width).

    `dilation` belongs to "max", `count_padding` (torch: count_include_pad) to "avg".
    """

    kind: ClassVar[str] = "pool"
    mode: Literal["avg", "max"]
    kernel: HeightWidth
    stride: HeightWidth
    padding: tuple[Padding, Padding] = (0, 0)
    dilation: HeightWidth = (1, 1)
    ceil: bool = False
    count_padding: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        within = all(2 * padding <= kernel for padding, kernel in zip(self.padding, self.kernel, strict=True))
        expect(within, f"padding {self.padding} is over half of kernel {self.kernel}")

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        out = tuple(self._side(side, axis) for axis, side in enumerate((h, w)))
        expect(min(out) >= 1, f"kernel {self.kernel} does not fit into {h}x{w}")
        return (c, *out)

    def _side(self, side: int, axis: int) -> int:
        """As torch counts: with `ceil`, a last window may hang over the end, but must begin before it."""
        stride, padding = self.stride[axis], self.padding[axis]
        rest = side + 2 * padding - self.dilation[axis] * (self.kernel[axis] - 1) - 1
        steps = -(-rest // stride) if self.ceil else rest // stride
        if self.ceil and steps * stride >= side + padding:
            steps -= 1
        return steps + 1

    def reach(self) -> Reach | None:
        if self.stride[0] != self.stride[1]:
            return None
        last = max(d * (k - 1) - p for d, k, p in zip(self.dilation, self.kernel, self.padding, strict=True))
        return Reach(-max(self.padding), last, self.stride[0])

    def words(self) -> str:
        return "pool {}, k{}x{} s{}x{}".format(self.mode, *self.kernel, *self.stride)

    def module(self, nn: Any, shape: Shape) -> Any:
        if self.mode == "max":
            return nn.MaxPool2d(self.kernel, self.stride, self.padding, self.dilation, ceil_mode=self.ceil)
        return nn.AvgPool2d(self.kernel, self.stride, self.padding, self.ceil, self.count_padding)


@dataclass(frozen=True)
class AdaptivePool(Layer):
    """torch.nn.AdaptiveAvgPool2d or AdaptiveMaxPool2d to `size` (H, W), which divides the image's sides."""

    kind: ClassVar[str] = "adaptive_pool"
    mode: Literal["avg", "max"]
    size: HeightWidth

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        even = h % self.size[0] == w % self.size[1] == 0
        expect(even, f"pools to {self.size[0]}x{self.size[1]}, which does not divide {h}x{w}")
        return (c, *self.size)

    def words(self) -> str:
        return f"adaptive_pool {self.mode}"

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.AdaptiveMaxPool2d(self.size) if self.mode == "max" else nn.AdaptiveAvgPool2d(self.size)


@dataclass(frozen=True)
class Pad(Layer):
    """torch.nn.ZeroPad2d, ConstantPad2d, ReflectionPad2d, ReplicationPad2d, CircularPad2d.

    borders  (left, right, top, bottom); with "zeros" negative ones cut off
    value    what is filled in, with "zeros"
    """

    kind: ClassVar[str] = "pad"
    borders: tuple[Border, Border, Border, Border]
    mode: PaddingMode = "zeros"
    value: Number = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode != "zeros":
            expect(min(self.borders) >= 0, f"borders must be 0 or more with {self.mode}, got {self.borders}")
            expect(self.value == 0, f"value has no meaning with {self.mode}, got {self.value:g}")

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        c, h, w = expect_image(shape)
        left, right, top, bottom = self.borders
        out = (h + top + bottom, w + left + right)
        expect(min(out) >= 1, f"leaves nothing of {h}x{w}")
        if self.mode in ("reflect", "circular"):
            most = 1 if self.mode == "reflect" else 0
            fits = max(top, bottom) <= h - most and max(left, right) <= w - most
            expect(fits, f"borders {self.borders} are wider than {h}x{w} with {self.mode}")
        return (c, *out)

    def reach(self) -> Reach | None:
        left, _, top, _ = self.borders
        return None if self.mode == "circular" else Reach(-max(left, top), -min(left, top))

    def words(self) -> str:
        return f"pad {self.mode} {' '.join(map(str, self.borders))}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        pad = torch.nn.functional.pad
        return pad(x, self.borders, value=self.value) if self.mode == "zeros" else pad(x, self.borders, self.mode)


@dataclass(frozen=True)
class Reshape(Layer):
    """A new per-sample shape with as many elements: (100,) → (100, 1, 1), (6272,) → (128, 7, 7)."""

    kind: ClassVar[str] = "reshape"
    shape: Sides

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(math.prod(shape) == math.prod(self.shape), f"makes {self.shape} of {shape}")
        return self.shape

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return x.reshape(x.shape[0], *self.shape)
