"""Units, the gaps between their numbers, and the orders in which they may have run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_export.understanding.chaining import orders
from gan_export.understanding.rules import Rule, rules
from gan_export.understanding.units import Gap, gap_between, natural_key, units_of


@pytest.mark.parametrize(
    ("before", "after", "gap"),
    [
        ("main.0", "main.1", Gap(0, 0)),
        ("main.1", "main.3", Gap(1, 1)),
        ("main.3", "main.6", Gap(2, 2)),
        ("0", "2", Gap(1, 1)),
        ("block.0.1", "block.1.0", Gap(0, None)),
        ("block.0.1", "block.1.2", Gap(2, None)),
        ("block.0", "block.1.2", Gap(2, 2)),
        ("block.0", "block.2.conv", Gap(1, None)),
        ("l1.0", "conv_blocks.0", Gap(0, None)),
        ("l1.0", "conv_blocks.2", Gap(2, None)),
        ("deconv1", "deconv1_bn", Gap(0, None)),
        ("main.3", "main.1", Gap(0, None)),
        ("main", "main.1", Gap(0, None)),
    ],
)
def test_gaps(before: str, after: str, gap: Gap) -> None:
    assert gap_between(before, after) == gap


def test_room_in_a_gap() -> None:
    assert Gap(2, 2).room(1) == Gap(1, 1)
    assert Gap(0, 1).room(3) == Gap(0, 0)
    assert Gap(1, None).room(1) == Gap(0, None)


def test_kinds_by_names_and_shapes() -> None:
    module = nn.ModuleDict(
        {
            "fc": nn.Linear(4, 8), "bare": nn.Linear(4, 8, bias=False), "label_emb": nn.Embedding(10, 4),
            "up": nn.ConvTranspose2d(8, 4, 4), "bn": nn.BatchNorm2d(4), "plain_bn": nn.BatchNorm2d(4, affine=False),
            "inorm": nn.InstanceNorm2d(4, affine=True), "prelu": nn.PReLU(4), "ln": nn.LayerNorm([4, 8, 8]),
            "voxels": nn.Conv3d(4, 4, 3), "oblong": nn.Conv2d(4, 4, (3, 5)),
        }
    )  # fmt: skip
    kinds = {unit.name: unit.kind for unit in units_of(module.state_dict())}
    assert kinds == {
        "fc": "linear", "bare": "linear", "label_emb": "embedding", "up": "conv", "bn": "batch_norm",
        "plain_bn": "batch_norm", "inorm": "norm", "prelu": "slope", "ln": "layer_norm", "voxels": "unknown",
        "oblong": "unknown",
    }  # fmt: skip


def test_step_counters_and_odd_scalars() -> None:
    counter = {"bn.num_batches_tracked": torch.tensor(3), "scale": torch.tensor(1.0), "a.weight": torch.tensor(1.0)}
    assert [(unit.name, unit.kind) for unit in units_of(counter)] == [("", "unknown"), ("a", "unknown")]


def test_names_sort_by_number() -> None:
    names = ["main.10", "main.9", "main.1", "deconv2", "deconv10", "deconv1"]
    assert sorted(names, key=natural_key) == ["deconv1", "deconv2", "deconv10", "main.1", "main.9", "main.10"]


def test_orders_begin_with_the_file_and_do_not_repeat() -> None:
    tensors = {f"{name}.weight": torch.zeros(4, 4) for name in ("b.2", "b.10", "a.0")}
    found = [tuple(unit.name for unit in order) for together in orders(units_of(tensors)) for order in together]
    assert found[0] == ("b.2", "b.10", "a.0")
    assert ("a.0", "b.2", "b.10") in found
    assert len(found) == len(set(found))


@pytest.mark.parametrize("size", [1, 3, 7, 16])
def test_rules_grow_as_torch_does(size: int) -> None:
    for kernel in range(1, 17):
        for kind, cls in (("conv", nn.Conv2d), ("conv_transpose", nn.ConvTranspose2d)):
            for rule in rules(kind, kernel, size, last=True):  # type: ignore[arg-type]
                assert isinstance(rule, Rule)
                extra = (rule.output_padding,) if kind == "conv_transpose" else ()
                grown = rule.grow(size, kernel)
                if grown < 1:
                    continue
                module = cls(1, 1, kernel, rule.stride, rule.padding, *extra)
                assert module(torch.zeros(1, 1, size, size)).shape[-1] == grown
