"""Convolutions of kernel 4, stride 2, padding 1 and their transposes with 9/16 of the products, on a CPU.

Rows and columns are split by parity: four phases, each convolved with a kernel of 2x2. Winograd's F(2x2, 2x2) computes
2x2 outputs of such a convolution from 3x3 inputs with 9 products in the place of 16 (Lavin and Gray 2016,
arXiv:1509.09308). With inputs d, taps g and outputs y, along one axis:

    m0 = (d0 - d1) g0    m1 = d1 (g0 + g1)    m2 = (d2 - d1) g1        y0 = m0 + m1    y1 = m1 + m2

All factors are 1 and -1, so rounding is that of a convolution. Over all channels, phases and tiles these are nine
matrix products, which run near the processor's limit, and so are the gradients. A CPU's library takes up to four times
as long for the gradient of a wide kernel.

The wide image is x (N, C, 4T, 4S), the small one y (N, O, 2T, 2S), the kernel (O, C, 4, 4), as for Conv2d from x to y
and ConvTranspose2d from y to x. Tensors are channels-last. The matrices have the rows (image, tile) and the columns
(phase, channel) on the wide side, (channel) on the small one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, conv_transpose2d

N = TypeVar("N", bound=nn.Module)

CHUNK_BYTES = 16 << 20
"""So many images are transformed at a time that their matrices stay in a cache."""


def wide_matrices(x: Tensor) -> Tensor:
    """x (n, C, 4T, 4S) → (9, n·T·S, 4·C), the d's of m."""
    n, c, height, width = x.shape
    t, s = height // 4, width // 4
    u0, u1, u2, u3 = x.permute(0, 2, 3, 1).reshape(n, t, 4, width, c).unbind(2)
    rows = ((_after(u3, u1, 1), u1, u3 - u1), (u0 - u2, u2, _before(u0, u2, 1)))
    made = x.new_empty(3, 3, n, t, s, 2, 2, c)
    for p, phase in enumerate(rows):
        for f, row in enumerate(phase):
            v0, v1, v2, v3 = row.view(n, t, s, 4, c).unbind(3)
            m0, m1, m2 = made[f, :, :, :, :, p, 0]
            _after(v3, v1, 2, m0)
            m1.copy_(v1)
            torch.sub(v3, v1, out=m2)
            m0, m1, m2 = made[f, :, :, :, :, p, 1]
            torch.sub(v0, v2, out=m0)
            m1.copy_(v2)
            _before(v0, v2, 2, m2)
    return made.view(9, n * t * s, 4 * c)


def wide_image(m: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of `wide_matrices`: (9, n·T·S, 4·C) → x of `shape`."""
    n, c, height, width = shape
    t, s = height // 4, width // 4
    m = m.view(3, 3, n, t, s, 2, 2, c)
    rows = m.new_empty(2, 3, n, t, s, 4, c)
    for p in (0, 1):
        _overlap(m[:, :, :, :, :, p].transpose(0, 1), rows[p].unbind(4), 3)
    x = m.new_empty(n, t, 4, width, c)
    _overlap(rows.view(2, 3, n, t, width, c).permute(1, 2, 3, 4, 0, 5), x.unbind(2), 1)
    return x.view(n, height, width, c).permute(0, 3, 1, 2)


def _after(a: Tensor, b: Tensor, dim: int, out: Tensor | None = None) -> Tensor:
    """a of the tile before, minus b."""
    out = torch.empty_like(b) if out is None else out
    n = b.shape[dim] - 1
    torch.neg(b.narrow(dim, 0, 1), out=out.narrow(dim, 0, 1))
    torch.sub(a.narrow(dim, 0, n), b.narrow(dim, 1, n), out=out.narrow(dim, 1, n))
    return out


def _before(a: Tensor, b: Tensor, dim: int, out: Tensor | None = None) -> Tensor:
    """a of the tile behind, minus b."""
    out = torch.empty_like(b) if out is None else out
    n = b.shape[dim] - 1
    torch.neg(b.narrow(dim, n, 1), out=out.narrow(dim, n, 1))
    torch.sub(a.narrow(dim, 1, n), b.narrow(dim, 0, n), out=out.narrow(dim, 0, n))
    return out


def _overlap(m: Tensor, u: tuple[Tensor, ...], dim: int) -> None:
    """Matrices (3, …, phase, C) to the four positions u of every tile, along dimension `dim` of each."""
    (a0, a1), (b0, b1), (d0, d1) = (each.unbind(-2) for each in m)
    n = a0.shape[dim] - 1
    u0, u1, u2, u3 = u
    u0.narrow(dim, 0, 1).copy_(a1.narrow(dim, 0, 1))
    torch.add(a1.narrow(dim, 1, n), d1.narrow(dim, 0, n), out=u0.narrow(dim, 1, n))
    torch.sub(b0, a0, out=u1).sub_(d0)
    torch.sub(b1, a1, out=u2).sub_(d1)
    torch.add(d0.narrow(dim, 0, n), a0.narrow(dim, 1, n), out=u3.narrow(dim, 0, n))
    u3.narrow(dim, n, 1).copy_(d0.narrow(dim, n, 1))


def small_image(m: Tensor, shape: torch.Size) -> Tensor:
    """(9, n·T·S, O) → y of `shape` (n, O, 2T, 2S)."""
    n, o, height, width = shape
    m = m.view(3, 3, n, height // 2, width // 2, o)
    y = m.new_empty(n, height // 2, 2, width // 2, 2, o)
    for i, row in enumerate((m[0] + m[1], m[1] + m[2])):
        torch.add(row[0], row[1], out=y[:, :, i, :, 0])
        torch.add(row[1], row[2], out=y[:, :, i, :, 1])
    return y.view(n, height, width, o).permute(0, 3, 1, 2)


def small_matrices(y: Tensor) -> Tensor:
    """The transpose of `small_image`: y (n, O, 2T, 2S) → (9, n·T·S, O)."""
    n, o, height, width = y.shape
    t, s = height // 2, width // 2
    top, bottom = y.permute(0, 2, 3, 1).reshape(n, t, 2, width, o).unbind(2)
    made = y.new_empty(3, 3, n, t, s, o)
    for f, row in enumerate((top, top + bottom, bottom)):
        left, right = row.reshape(n, t, s, 2, o).unbind(3)
        made[f, 0] = left
        torch.add(left, right, out=made[f, 1])
        made[f, 2] = right
    return made.view(9, n * t * s, o)


def kernel_matrices(weight: Tensor) -> Tensor:
    """The kernel (O, C, 4, 4) → (9, O, 4·C), the g's of m."""
    o, c = weight.shape[:2]
    taps = weight.permute(0, 2, 3, 1).reshape(o, 2, 2, 2, 2, c)  # (O, row's tap, phase, column's tap, phase, C)
    made = weight.new_empty(3, 3, o, 2, 2, c)
    for f, row in enumerate((taps[:, 0], taps[:, 0] + taps[:, 1], taps[:, 1])):
        made[f, 0] = row[:, :, 0]
        torch.add(row[:, :, 0], row[:, :, 1], out=made[f, 1])
        made[f, 2] = row[:, :, 1]
    return made.view(9, o, 4 * c)


def kernel_image(m: Tensor) -> Tensor:
    """The transpose of `kernel_matrices`: (9, O, 4·C) → (O, C, 4, 4)."""
    o, c = m.shape[1], m.shape[2] // 4
    m = m.view(3, 3, o, 2, 2, c)
    made = m.new_empty(o, 2, 2, 2, 2, c)
    for i, row in enumerate((m[0] + m[1], m[1] + m[2])):
        torch.add(row[0], row[1], out=made[:, i, :, 0])
        torch.add(row[1], row[2], out=made[:, i, :, 1])
    return made.view(o, 4, 4, c).permute(0, 3, 1, 2)


def _chunks(images: Tensor, channels: int, area: int) -> Iterator[slice]:
    """Of so many images that the matrices of their wide side, `channels` on `area` pixels, have `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // (9 * channels * area))
    return (slice(start, start + step) for start in range(0, len(images), step))


def down(x: Tensor, weight: Tensor) -> Tensor:
    """conv2d(x, weight, stride=2, padding=1)."""
    n, c, height, width = x.shape
    g = kernel_matrices(weight).transpose(1, 2)
    y = torch.empty(n, len(weight), height // 2, width // 2, memory_format=torch.channels_last)
    for part in _chunks(x, c, height * width):
        some = y[part]
        some.copy_(small_image(torch.bmm(wide_matrices(x[part]), g), some.shape))
    return y


def up(y: Tensor, weight: Tensor) -> Tensor:
    """conv_transpose2d(y, weight, stride=2, padding=1)."""
    n, _, height, width = y.shape
    c = weight.shape[1]
    g = kernel_matrices(weight)
    x = torch.empty(n, c, 2 * height, 2 * width, memory_format=torch.channels_last)
    for part in _chunks(y, c, 4 * height * width):
        some = x[part]
        some.copy_(wide_image(torch.bmm(small_matrices(y[part]), g), some.shape))
    return x


def kernel_gradient(x: Tensor, y: Tensor) -> Tensor:
    """The gradient of `down(x, weight)` with respect to the kernel, where `y` is that of its result."""
    made: Tensor | None = None
    for part in _chunks(x, x.shape[1], x.shape[2] * x.shape[3]):
        wide, small = wide_matrices(x[part]), small_matrices(y[part]).transpose(1, 2)
        made = torch.bmm(small, wide) if made is None else torch.baddbmm(made, small, wide, out=made)
    assert made is not None
    return kernel_image(made)


LEAST_FOR_GRADIENT, LEAST_FOR_UP, LEAST_FOR_DOWN = 64, 128, 256
"""Channels of the wide image from which each is faster than the library's convolution: docs/log.md has the numbers."""


def _down(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if weight.shape[1] < LEAST_FOR_DOWN:
        return conv2d(x, weight, bias, 2, 1)
    y = down(x, weight)
    return y if bias is None else y.add_(bias[:, None, None])


def _up(y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if weight.shape[1] < LEAST_FOR_UP:
        return conv_transpose2d(y, weight, bias, 2, 1)
    x = up(y, weight)
    return x if bias is None else x.add_(bias[:, None, None])


class _Convolution(torch.autograd.Function):
    """(x, weight, bias) → y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _down(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _up(dy, weight, None) if for_x else None,
            kernel_gradient(x, dy) if for_weight else None,
            dy.sum((0, 2, 3)) if for_bias else None,
        )


class _Transposed(torch.autograd.Function):
    """(y, weight, bias) → x."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(y, weight)
        return _up(y, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        y, weight = ctx.saved_tensors
        for_y, for_weight, for_bias = ctx.needs_input_grad
        return (
            _down(dx, weight, None) if for_y else None,
            kernel_gradient(dx, y) if for_weight else None,
            dx.sum((0, 2, 3)) if for_bias else None,
        )


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv2d of kernel 4, stride 2 and padding 1; its gradients have no gradients."""
    _, c, height, width = x.shape
    if c < LEAST_FOR_GRADIENT or height % 4 or width % 4:
        return conv2d(x, weight, bias, 2, 1)
    y: Tensor = _Convolution.apply(x, weight, bias)
    return y


def transposed_convolution(y: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """conv_transpose2d of kernel 4, stride 2 and padding 1; its gradients have no gradients."""
    if weight.shape[1] < LEAST_FOR_GRADIENT or y.shape[2] % 2 or y.shape[3] % 2:
        return conv_transpose2d(y, weight, bias, 2, 1)
    x: Tensor = _Transposed.apply(y, weight, bias)
    return x


class Winograd(nn.Module):
    """`conv`, computed by the functions above. It shares the weights."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.conv = conv

    @staticmethod
    def takes(module: nn.Module) -> bool:
        return (
            isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
            and (module.kernel_size, module.stride, module.padding) == ((4, 4), (2, 2), (1, 1))
            and (module.dilation, module.groups, module.output_padding) == ((1, 1), 1, (0, 0))
            and module.padding_mode == "zeros"
        )

    def forward(self, images: Tensor) -> Tensor:
        compute = transposed_convolution if self.conv.transposed else convolution
        return compute(images, self.conv.weight, self.conv.bias)


def with_winograd(network: N) -> N:
    """`network` with its convolutions computed so, as float32 on a CPU. It shares the weights."""
    if not any(map(Winograd.takes, network.modules())):
        return network
    called = copy.copy(network)
    called._modules = {
        name: module and (Winograd(module) if Winograd.takes(module) else with_winograd(module))  # type: ignore[arg-type]
        for name, module in network._modules.items()
    }
    return called
