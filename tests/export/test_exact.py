"""Convolutions in float64 piece by piece: the same sums, within bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gan_export.proof import exact

Arguments = dict[str, Any]


class Sizes(TorchFunctionMode):
    """What the convolutions under it are given: (images, rows in, channels out) of each."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Arguments | None = None
    ) -> Any:
        if func in (F.conv2d, F.conv_transpose2d):
            x, weight = args[:2]
            self.seen.append((len(x), x.shape[2], weight.shape[0 if func is F.conv2d else 1]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("limit", [1, 20_000, 1 << 24])
@pytest.mark.parametrize(
    ("func", "kernel", "arguments"),
    [
        (F.conv2d, (5, 3, 3, 3), {"padding": 1}),
        (F.conv2d, (5, 3, 4, 4), {"stride": 2, "padding": (1, 2)}),
        (F.conv2d, (5, 3, 3, 5), {"stride": (3, 1), "dilation": (2, 1)}),
        (F.conv2d, (5, 3, 11, 13), {}),
        (F.conv2d, (6, 1, 3, 3), {"groups": 3, "padding": 1}),
        (F.conv2d, (5, 3, 3, 3), {"padding": "same"}),
        (F.conv_transpose2d, (3, 5, 4, 4), {"stride": 2, "padding": 1}),
        (F.conv_transpose2d, (3, 5, 3, 5), {"stride": (2, 1), "output_padding": (1, 0), "dilation": (1, 2)}),
        (F.conv_transpose2d, (3, 2, 3, 3), {"groups": 3}),
    ],
)
@pytest.mark.parametrize("biased", [True, False])
def test_pieces_make_the_same_sums(
    func: Callable[..., torch.Tensor], kernel: tuple[int, ...], arguments: Arguments, biased: bool, limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(exact, "STRIP_BYTES", limit)
    x, weight = torch.randn(2, 3, 13, 17).double(), torch.randn(kernel).double()
    made = kernel[0] if func is F.conv2d else kernel[1] * arguments.get("groups", 1)
    bias = torch.randn(made).double() if biased else None
    expected = func(x, weight, bias, **arguments)
    with exact.Strips():
        found = func(x, weight, bias, **arguments)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_no_piece_is_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "STRIP_BYTES", 8 * 9 * 3 * 16 * 4)  # four rows of 16 places
    x = torch.zeros(2, 3, 16, 14).double()
    with Sizes() as sizes, exact.Strips():
        F.conv2d(x, torch.zeros(5, 3, 3, 3).double(), padding=1)
        F.conv_transpose2d(x[:1, :, :4], torch.zeros(3, 64, 3, 3).double())
    assert sizes.seen[:8] == [(1, 6, 5)] * 8
    assert all(8 * 9 * rows * 14 * channels <= exact.STRIP_BYTES for _, rows, channels in sizes.seen[8:])
    assert sum(channels for *_, channels in sizes.seen[8:]) == 64


def test_float32_is_left_alone() -> None:
    with Sizes() as sizes, exact.Strips():
        F.conv2d(torch.zeros(2, 3, 16, 14), torch.zeros(5, 3, 3, 3), padding=1)
    assert sizes.seen == [(2, 16, 5)]
