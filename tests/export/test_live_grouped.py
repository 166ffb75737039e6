"""Convolutions grouped by the batch, written out: the same numbers as torch's own."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gan_export.live.tracing import UngroupBatch, conv_each, transposed_each

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
