"""Layers that take something beside the running value: the class label, or values that earlier layers named.

With named values a chain of layers says residual, dense, U-shaped, squeeze-and-excite and skip-to-RGB networks. "z" is
the network's input, "x" the running value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from gan_core.fields import Classes, Features, Number, Padding, Range, Shape, Side
from gan_core.spec import RUNNING, Layer, ValueName, expect, expect_image

Merge = Literal["z_label", "label_z", "multiply", "add", "label"]


@dataclass(frozen=True)
class LabelEmbedding(Layer):
    """torch.nn.Embedding of the label, joined with the latent vector; weight (n_classes, dim).

    merge "z_label" concatenates (z, embedding), "label_z" (embedding, z), "multiply" takes the product, "add" the sum
    (then dim is z_dim), each with a vector; "label" is the embedding alone, in the place of the running value.
    """

    kind: ClassVar[str] = "label_embedding"
    n_classes: Classes
    dim: Features
    merge: Merge = "z_label"

    @property
    def classes(self) -> int:
        return self.n_classes

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        if self.merge == "label":
            return (self.dim,)
        expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        if self.merge in ("multiply", "add"):
            expect(shape == (self.dim,), f"is joined with a vector of {self.dim}, gets {shape}")
            return shape
        return (shape[0] + self.dim,)

    def tensors(self) -> dict[str, Shape]:
        return {"weight": (self.n_classes, self.dim)}

    def words(self) -> str:
        return f"label_embedding {self.n_classes} x {self.dim}, {self.merge}"

    def module(self, nn: Any, shape: Shape) -> Any:
        return nn.Embedding(self.n_classes, self.dim)

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return _join(torch, x, module(beside[0]), self.merge)


@dataclass(frozen=True)
class LabelOneHot(Layer):
    """The label as a one-hot vector, concatenated with the latent; owns no tensors."""

    kind: ClassVar[str] = "label_one_hot"
    n_classes: Classes
    merge: Literal["z_label", "label_z"] = "z_label"

    @property
    def classes(self) -> int:
        return self.n_classes

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(len(shape) == 1, f"joins a latent vector, gets {shape}")
        return (shape[0] + self.n_classes,)

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        classes = torch.arange(self.n_classes, device=beside[0].device)
        return _join(torch, x, (beside[0].unsqueeze(1) == classes).to(x.dtype), self.merge)


def _join(torch: Any, z: Any, embedded: Any, merge: Merge) -> Any:
    if merge == "label":
        return embedded
    if merge == "multiply":
        return z * embedded
    if merge == "add":
        return z + embedded
    return torch.cat((z, embedded) if merge == "z_label" else (embedded, z), dim=1)


@dataclass(frozen=True)
class Load(Layer):
    """The value called `of` takes the place of the running one."""

    kind: ClassVar[str] = "load"
    pointwise: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("of",)
    of: ValueName

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        return used[0]

    @property
    def replaces(self) -> bool:
        return True

    def words(self) -> str:
        return f"load {self.of}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return beside[0]


@dataclass(frozen=True)
class _PlaceByPlace(Layer):
    """The running value with one other. A side of 1 is repeated: (C, 1, 1) meets every place of (C, H, W)."""

    pointwise: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("with_",)
    with_: ValueName

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        (other,) = used
        fits = len(shape) == len(other) and all(a == b or 1 in (a, b) for a, b in zip(shape, other, strict=True))
        expect(fits, f"takes {self.with_} of {shape}, gets {other}")
        return tuple(map(max, shape, other))


@dataclass(frozen=True)
class Add(_PlaceByPlace):
    """x + scale · value."""

    kind: ClassVar[str] = "add"
    scale: Number = 1.0

    def words(self) -> str:
        return f"add {'' if self.scale == 1 else f'{self.scale:g} · '}{self.with_}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return x + (beside[0] if self.scale == 1 else self.scale * beside[0])


@dataclass(frozen=True)
class Multiply(_PlaceByPlace):
    """x · value, as a squeeze-and-excite does with its (C, 1, 1)."""

    kind: ClassVar[str] = "multiply"

    def words(self) -> str:
        return f"multiply with {self.with_}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return x * beside[0]


@dataclass(frozen=True)
class Modulate(Layer):
    """x · gain + offset per channel, from a vector (2 C,) of gains, then offsets: what follows the norm in a
    conditional batch norm and in AdaIN."""

    kind: ClassVar[str] = "modulate"
    named_by: ClassVar[tuple[str, ...]] = ("with_",)
    with_: ValueName

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        expect(used[0] == (2 * shape[0],), f"takes {self.with_} of ({2 * shape[0]},), gets {used[0]}")
        return shape

    def words(self) -> str:
        return f"modulate with {self.with_}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        gain, offset = beside[0].reshape(x.shape[0], 2 * x.shape[1], *(1 for _ in x.shape[2:])).chunk(2, dim=1)
        return x * gain + offset


@dataclass(frozen=True)
class Concat(Layer):
    """Values joined along their channels (or features), in the order of `of`; "x" is the running one."""

    kind: ClassVar[str] = "concat"
    pointwise: ClassVar[bool] = True
    of: Annotated[tuple[ValueName, ...], Range(2, 16)]

    @property
    def uses(self) -> tuple[str, ...]:
        return tuple(name for name in self.of if name != RUNNING)

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        shapes = self._in_order(shape, used)
        same = len({len(each) for each in shapes}) == 1 and len({each[1:] for each in shapes}) == 1
        expect(same, f"joins {' and '.join(map(str, shapes))}, which differ in more than their channels")
        return (sum(each[0] for each in shapes), *shapes[0][1:])

    def words(self) -> str:
        return f"concat {', '.join(self.of)}"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return torch.cat(self._in_order(x, beside), dim=1)

    def _in_order(self, running: Any, used: tuple[Any, ...]) -> list[Any]:
        named = iter(used)
        return [running if name == RUNNING else next(named) for name in self.of]


@dataclass(frozen=True)
class Slice(Layer):
    """Channels (or features) `from` up to, but without, `to` of a value."""

    kind: ClassVar[str] = "slice"
    pointwise: ClassVar[bool] = True
    from_: Padding
    to: Side
    of: ValueName = RUNNING

    @property
    def uses(self) -> tuple[str, ...]:
        return () if self.of == RUNNING else (self.of,)

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        cut = used[0] if used else shape
        expect(self.from_ < self.to <= cut[0], f"takes {self.from_} to {self.to} of {cut[0]} channels")
        return (self.to - self.from_, *cut[1:])

    @property
    def replaces(self) -> bool:
        return self.of != RUNNING

    def words(self) -> str:
        return f"slice {self.from_} to {self.to}" + ("" if self.of == RUNNING else f" of {self.of}")

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        return (beside[0] if beside else x)[:, self.from_ : self.to]


@dataclass(frozen=True)
class _Heads(Layer):
    """Attention of the running value, the query, by so many heads; `key` and `value` are images of the same size.

    A head has its share of the channels, in their order; scales belong to the weights before.
    """

    convolves: ClassVar[bool] = True
    named_by: ClassVar[tuple[str, ...]] = ("key", "value")
    heads: Features
    key: ValueName
    value: ValueName

    def out_shape(self, shape: Shape, *used: Shape) -> Shape:
        key, value = used
        c, h, w = expect_image(shape)
        expect(key == shape, f"takes {self.key} of {shape}, gets {key}")
        expect(value[1:] == (h, w), f"takes {self.value} of {h}x{w}, gets {value}")
        expect(c % self.heads == value[0] % self.heads == 0, f"{self.heads} heads do not divide {c} and {value[0]}")
        return value


@dataclass(frozen=True)
class LinearAttention(_Heads):
    """Attention in two products (Shen et al. 2021, arXiv:1812.01243): a softmax of each query over its channels, and of
    the keys over the places; the sums of values by key are the same for all queries."""

    kind: ClassVar[str] = "linear_attention"

    def products(self, shape: Shape) -> int:
        return 2 * math.prod(shape) * shape[0] // self.heads

    def words(self) -> str:
        return f"linear_attention by {self.heads} heads"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        query, key, value = (each.flatten(2).unflatten(1, (self.heads, -1)) for each in (x, *beside))
        context = value @ key.softmax(dim=3).transpose(2, 3)
        return (context @ query.softmax(dim=2)).flatten(1, 2).unflatten(2, x.shape[2:])


@dataclass(frozen=True)
class LocalAttention(_Heads):
    """Attention to the `kernel` x `kernel` places around each one; those beyond the border have key and value 0."""

    kind: ClassVar[str] = "local_attention"
    kernel: Annotated[int, Range(1, 15)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self.kernel % 2 == 1, f"kernel must be odd, got {self.kernel}")

    def products(self, shape: Shape) -> int:
        return 2 * self.kernel**2 * math.prod(shape)

    def words(self) -> str:
        return f"local_attention {self.kernel}x{self.kernel} by {self.heads} heads"

    def apply(self, torch: Any, module: Any, x: Any, *beside: Any) -> Any:
        (h, w), border = x.shape[2:], self.kernel // 2
        padded = [torch.nn.functional.pad(each, (border,) * 4) for each in beside]
        places = [(i, j) for i in range(self.kernel) for j in range(self.kernel)]
        keys, values = ([each[:, :, i : i + h, j : j + w] for i, j in places] for each in padded)
        scores = torch.stack([(x * key).unflatten(1, (self.heads, -1)).sum(dim=2) for key in keys], dim=2)
        shares = scores.softmax(dim=2)
        parts = [shares[:, :, n : n + 1] * value.unflatten(1, (self.heads, -1)) for n, value in enumerate(values)]
        return sum(parts[1:], parts[0]).flatten(1, 2)
