"""Convolutions grouped by the batch, written out: the same numbers as torch's own."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_core.process import quiet
from gan_export.live.kernels import UngroupBatch, conv_each, transposed_each

CASES = list(itertools.product((1, 3), (1, 3, 4), (1, 2), (0, 1, 2), (1, 2)))


@pytest.mark.parametrize(("n", "kernel", "stride", "padding", "dilation"), CASES)
def test_same_as_torch(n: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    torch.manual_seed(0)
    x, bias = torch.randn(1, n * 4, 9, 8), torch.randn(n * 5)
    given: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": n}
    weight = torch.randn(n * 5, 4, kernel, kernel)
    expected = F.conv2d(x, weight, bias, **given)
    found = conv_each({"input": x, "weight": weight, "bias": bias, **given})
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-4)
    weight = torch.randn(n * 4, 5, kernel, kernel)
    for more in range(stride):
        expected = F.conv_transpose2d(x, weight, bias, output_padding=more, **given)
        found = transposed_each({"input": x, "weight": weight, "bias": bias, "output_padding": more, **given})
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-4)


def test_padding_by_name() -> None:
    x, weight = torch.randn(1, 6, 7, 7), torch.randn(4, 3, 3, 3)
    for padding in ("same", "valid"):
        given: dict[str, Any] = {"stride": 1, "padding": padding, "dilation": 2, "groups": 2}
        expected = F.conv2d(x, weight, None, **given)
        assert torch.allclose(conv_each({"input": x, "weight": weight, "bias": None, **given}), expected, atol=1e-5)


def test_other_convolutions_are_left_alone() -> None:
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(4, 2, 3, 3)
    with UngroupBatch():
        assert torch.equal(F.conv2d(x, weight, groups=2), torch.conv2d(x, weight, None, groups=2))


class Scaled(nn.Module):
    """A convolution with one kernel times factors of each image, as `how` writes it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.kernel = how, nn.Parameter(torch.randn(5, 4, 3, 3))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return getattr(self, self.how)(x, style)  # type: ignore[no-any-return]

    def plain(self, x: Tensor, style: Tensor) -> Tensor:
        n, inside, height, width = x.shape
        kernels = 0.3 * self.kernel.unsqueeze(0) * style.view(n, 1, inside, 1, 1)
        kernels = kernels * torch.rsqrt(kernels.pow(2).sum([2, 3, 4]) + 1e-8).view(n, 5, 1, 1, 1)
        x = F.conv2d(x.reshape(1, -1, height, width), kernels.view(n * 5, inside, 3, 3), padding=1, groups=n)
        return x.view(n, 5, height, width)

    def kept(self, x: Tensor, style: Tensor) -> Tensor:
        n, _, *sides = x.shape
        kernels = self.kernel[None] * (style[:, None, :, None, None] + 1)
        kernels = kernels * ((kernels**2).sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        kernels = kernels.reshape(-1, *kernels.shape[2:])
        return F.conv2d(x.reshape(1, -1, *sides), kernels, padding=1, stride=2, groups=n).reshape(n, 5, 4, 4)

    def upward(self, x: Tensor, style: Tensor) -> Tensor:
        n, inside = x.shape[:2]
        kernels = self.kernel.unsqueeze(0) * style.reshape(n, 1, -1, 1, 1)
        kernels = kernels * (kernels.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt().reshape(n, -1, 1, 1, 1)
        kernels = kernels.reshape(-1, inside, 3, 3).to(x.dtype).reshape(n, 5, inside, 3, 3)
        kernels = kernels.transpose(1, 2).reshape(n * inside, 5, 3, 3).flip([2, 3])
        x = F.conv_transpose2d(x.reshape(1, -1, 8, 8), kernels, stride=2, padding=1, groups=n)
        blur = torch.tensor([[1.0, 2.0], [2.0, 4.0]])[None, None].repeat([x.shape[1], 1, 1, 1])
        x = F.conv2d(x, blur, groups=x.shape[1])
        return x.reshape(n, 5, *x.shape[2:])

    def biased(self, x: Tensor, style: Tensor) -> Tensor:
        n = x.shape[0]
        kernels = (self.kernel / 2)[None] * style[:, None, :, None, None] * style.mean(1).view(n, 1, 1, 1, 1)
        bias = style.mean(1, keepdim=True).expand(n, 5).reshape(-1)
        return F.conv2d(x.reshape(1, -1, 8, 8), kernels.flatten(0, 1), bias, groups=n).reshape(n, 5, 6, 6)

    def apart(self, x: Tensor, style: Tensor) -> Tensor:
        kernels = self.kernel.unsqueeze(0) * style[:, None, :, None, None]
        scale = (kernels.square().sum((2, 3, 4)) + 1e-8).rsqrt()
        return F.conv2d(x * style[:, :, None, None], self.kernel) * scale[:, :, None, None]

    def mixed(self, x: Tensor, style: Tensor) -> Tensor:
        kernels = self.kernel + style[:, None, :, None, None]
        return F.conv2d(x.reshape(1, -1, 8, 8), kernels.flatten(0, 1), groups=x.shape[0]).reshape(-1, 5, 6, 6)

    def changed(self, x: Tensor, style: Tensor) -> Tensor:
        kernels = self.kernel[None] * style[:, None, :, None, None]
        kernels.add_(1)
        return F.conv2d(x.reshape(1, -1, 8, 8), kernels.flatten(0, 1), groups=x.shape[0]).reshape(-1, 5, 6, 6)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plain", "kept", "upward", "biased", "apart"])
def test_factors_scale_the_input_and_the_output(how: str) -> None:
    torch.manual_seed(0)
    module = Scaled(how)
    batch = torch.export.Dim("batch", min=1)

    class Rewritten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Any:
            with UngroupBatch():
                return self.module(x, x[:, :, 0, 0])

    with torch.no_grad():
        given = (torch.randn(3, 4, 8, 8),)
        program = torch.export.export(Rewritten(), given, dynamic_shapes=({0: batch},), strict=False)
    # A kernel for each image is made of five sides: none is left that anything reads.
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten._assert_tensor_metadata.default):
        program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    made = [node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert not [value.shape for value in made if value.dim() == 5 and value.shape[0] != 1 and value.shape[3] == 3]
    for n in (1, 2, 5):
        x = torch.randn(n, 4, 8, 8)
        assert torch.allclose(program.module()(x), module(x, x[:, :, 0, 0]), atol=1e-5)


@pytest.mark.parametrize("how", ["mixed", "changed"])
def test_other_kernels_stay_sums_of_products(how: str) -> None:
    torch.manual_seed(0)
    module, given = Scaled(how), (torch.randn(3, 4, 8, 8), torch.randn(3, 4))
    with torch.no_grad(), quiet(), UngroupBatch():
        traced = torch.jit.trace(module, given, check_trace=False)
    given = torch.randn(2, 4, 8, 8), torch.randn(2, 4)
    assert torch.allclose(traced(*given), module(*given), atol=1e-5)
    assert "matmul" in str(traced.inlined_graph)
