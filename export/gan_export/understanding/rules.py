"""The strides and paddings that people write, by kernel, and how unusual each is.

A rule's `cost` ranks candidates: 0 is what nearly every generator of that kernel does, below `RARE` is usual,
from there on it is seldom seen but has been (k4 s1 p0 in the middle: deeplearning.ai's DCGAN; k1 p2 at the end:
a 28x28 variant of pytorch/examples' DCGAN; k5 s3 p1: the 96x96 anime tutorials).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gan_export.understanding.chaining import ConvKind

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]

RARE = 2.0
UNLISTED = 5.0
"""What a rule costs that nobody is known to have written."""


@dataclass(frozen=True)
class Rule:
    """Stride, padding and output padding of a convolution of `kind`, and what upsampling comes before it."""

    kind: ConvKind
    stride: int
    padding: int
    output_padding: int = 0
    cost: float = 0.0
    dilation: int = 1
    upsample: int = 1
    padding_mode: PaddingMode = "zeros"

    def grow(self, size: int, kernel: int) -> int:
        """The output size for an input size; below 1 when there is none."""
        size *= self.upsample
        reach = self.dilation * (kernel - 1) + 1
        if self.kind == "conv":
            return (size + 2 * self.padding - reach) // self.stride + 1
        return (size - 1) * self.stride - 2 * self.padding + reach + self.output_padding

    def __str__(self) -> str:
        text = f"s{self.stride} p{self.padding}"
        if self.output_padding:
            text += f" op{self.output_padding}"
        return f"up{self.upsample} {text}" if self.upsample > 1 else text


# kernel: (stride, padding, output padding, cost)
_TRANSPOSED: dict[int, tuple[tuple[int, int, int, float], ...]] = {
    1: ((1, 0, 0, 0.0),),
    2: ((2, 0, 0, 0.0), (1, 0, 0, 3.0)),
    3: ((2, 1, 1, 0.0), (1, 1, 0, 1.0), (2, 0, 0, 1.5), (2, 1, 0, 1.5), (1, 0, 0, 2.5)),
    4: ((2, 1, 0, 0.0), (1, 0, 0, 2.0), (2, 0, 0, 2.0), (1, 1, 0, 3.0), (1, 2, 0, 3.0), (2, 2, 0, 3.0), (4, 0, 0, 3.0)),
    5: ((2, 2, 1, 0.0), (3, 1, 0, 1.0), (1, 2, 0, 1.0), (2, 2, 0, 1.5), (2, 1, 0, 2.0), (1, 0, 0, 2.0), (2, 0, 0, 2.5)),
    6: ((2, 2, 0, 0.0), (4, 1, 0, 2.0), (2, 1, 0, 3.0), (2, 0, 0, 3.0)),
    7: ((2, 3, 1, 0.5), (1, 3, 0, 0.5), (2, 2, 0, 2.5), (1, 0, 0, 2.5), (2, 0, 0, 3.0)),
    8: ((4, 2, 0, 0.0), (2, 3, 0, 0.5), (1, 0, 0, 3.0), (8, 0, 0, 3.0)),
}  # fmt: skip
_PLAIN: dict[int, tuple[tuple[int, int, int, float], ...]] = {
    1: ((1, 0, 0, 0.0),),
    2: ((1, 0, 0, 2.5), (1, 1, 0, 2.5)),
    3: ((1, 1, 0, 0.0), (1, 0, 0, 2.5)),
    4: ((1, 1, 0, 2.0), (1, 2, 0, 2.0), (1, 0, 0, 2.5)),
    5: ((1, 2, 0, 0.0), (1, 0, 0, 2.5), (1, 1, 0, 3.0)),
    7: ((1, 3, 0, 0.0), (1, 0, 0, 2.5)),
}


def rules(kind: ConvKind, kernel: int, size: int, *, last: bool) -> list[Rule]:
    """The rules for a kernel on an input of `size`; on 1x1 a transposed convolution's stride has no effect."""
    if kind == "conv":
        table = _PLAIN.get(kernel, ((1, kernel // 2, 0, 0.5), (1, 0, 0, 2.5)))
    elif size == 1:
        table = ((1, 0, 0, 0.0), (1, 1, 0, 3.0))
    else:
        even = ((2, (kernel - 2) // 2, 0, 0.5), (1, 0, 0, 2.5))
        odd = ((2, kernel // 2, 1, 0.5), (1, kernel // 2, 0, 1.0), (1, 0, 0, 2.5))
        table = _TRANSPOSED.get(kernel, odd if kernel % 2 else even)
    found = [Rule(kind, stride, padding, extra, cost) for stride, padding, extra, cost in table]
    if kernel == 1 and last and size > 4:
        found.append(Rule(kind, 1, 2, 0, 2.5))
    return found


def every_rule(kind: ConvKind, kernel: int, size: int, *, last: bool) -> list[Rule]:
    """`rules`, and every other: strides up to the kernel, paddings below it, output paddings below the stride."""
    listed = rules(kind, kernel, size, last=last)
    known = {(rule.stride, rule.padding, rule.output_padding) for rule in listed}
    found = []
    for stride in range(1, kernel + 1):
        for padding in range(kernel):
            for extra in range(stride if kind == "conv_transpose" else 1):
                if size == 1 and kind == "conv_transpose" and stride != extra + 1:
                    continue  # only an output padding shows there, which the stride must exceed
                if (stride, padding, extra) not in known:
                    found.append(Rule(kind, stride, padding, extra, UNLISTED + 0.5 * extra))
    return listed + found
