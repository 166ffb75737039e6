"""Every image in every class: a plan whose grid has one row a class, one column a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gan_core.errors import GanportError
from gan_core.seeds import Seeds
from gan_serve.gen.plan import Plan
from gan_serve.runtime.generator import F32, I64


class ByClassPlan(Plan):
    """`base`'s images in the first of `classes`, then all of them in the next, and so on.

    base     whose latents are taken; its own classes are not
    classes  in the order of the rows; empty: all that the generator has
    Raises `GanportError` for a generator without classes.
    """

    def __init__(self, base: Plan, classes: Sequence[int] = ()) -> None:
        contract = base.contract
        if not contract.conditional:
            raise GanportError("this generator has no classes", hint="leave --by-class out")
        chosen = classes or range(contract.n_classes)
        super().__init__(contract, base.n * len(chosen), chosen)
        self._base = base
        self.cols = base.n
        self.seeds = None if base.seeds is None else Seeds(base.seeds.parts * len(chosen))

    def latents(self, start: int, stop: int) -> F32:
        width, rows = self._base.n, [self._base.latents(0, 0)]
        while start < stop:
            row, column = divmod(start, width)
            end = min(stop, (row + 1) * width)
            rows.append(self._base.latents(column, column + end - start))
            start = end
        return np.concatenate(rows)

    def default_labels(self, start: int, stop: int) -> I64:
        labels: I64 = self.classes[np.arange(start, stop) // self._base.n]
        return labels

    def labels(self, start: int, stop: int) -> I64:
        return self.default_labels(start, stop)

    def stem(self, index: int) -> str:
        row, column = divmod(index, self._base.n)
        return f"{self._base.stem(column)}-class{self.classes[row]}"

    def text(self, index: int) -> dict[str, str]:
        return self._base.text(index % self._base.n) | self.class_text(index)

    def describe(self) -> dict[str, str]:
        return self._base.describe() | super().describe() | {"gan.rows": "classes"}
